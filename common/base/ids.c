#include "common/base/ids.h"

#include <openssl/evp.h>

#include "common/base/limits.h"

#define ID_TIME_CHARS 10

void id_new(char out[ID_LEN + 1], int64_t wall_ms, struct rnd *rnd)
{
    /* No i, l, o, u: nobody misreads an id, and its order as text is its order in time. */
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint64_t time = (uint64_t)i64_max(wall_ms, 0);
    for (size_t i = ID_TIME_CHARS; i-- > 0;) {
        out[i] = digits[time & 31];
        time >>= 5;
    }
    unsigned char random[ID_LEN - ID_TIME_CHARS];
    rnd->fill(rnd, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        out[ID_TIME_CHARS + i] = digits[random[i] & 31];
    out[ID_LEN] = '\0';
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

int id_check_name(const char *what, const char *name, struct error *err)
{
    size_t len = strlen(name);
    bool good = len > 0 && len <= LIMIT_NAME && is_alnum(name[0]);
    for (size_t i = 0; good && i < len; i++)
        good = is_alnum(name[i]) || (name[i] != '\0' && strchr("_.-", name[i]) != NULL);
    if (good)
        return 0;
    return error_set(err, ERR_USAGE, 0,
                     "%s \"%.200s\": a name is 1 to %d letters, digits, '_', '.' or '-', and begins with a letter or digit", what, name,
                     LIMIT_NAME);
}

int id_check_run(const char *run_id, struct error *err)
{
    size_t len = strlen(run_id);
    bool good = len >= 1 && len <= 63;
    for (size_t i = 0; good && i < len; i++)
        good = is_lower_or_digit(run_id[i]) || run_id[i] == '_' || run_id[i] == '-';
    if (good)
        return 0;
    return error_set(err, ERR_USAGE, 0, "run id \"%.200s\": a run id is 1 to 63 of a-z, 0-9, '_' and '-'", run_id);
}

uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
    const unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

void sha256(const void *p, size_t n, unsigned char out[SHA256_BYTES])
{
    static EVP_MD *md; /* looked up once: that takes longer than the digest of a short text */
    if (md == NULL)
        md = EVP_MD_fetch(NULL, "SHA256", NULL);
    unsigned int len = 0;
    if (md == NULL || EVP_Digest(p, n, out, &len, md, NULL) != 1 || len != SHA256_BYTES) {
        fprintf(stderr, "bqfleet: OpenSSL makes no SHA-256: out of memory, or built without\n");
        abort();
    }
}

void sha256_hex(const void *p, size_t n, char out[2 * SHA256_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[SHA256_BYTES];
    sha256(p, n, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_BYTES] = '\0';
}
