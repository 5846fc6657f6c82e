#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "common/bq/auth_source.h"
#include "tests/fuzz/answers.h"

/* A file of credentials, up to a NUL, then what the servers answer that it leads to; an empty file is none, and leads to the metadata server. "@KEY@" in it
 * is a private key. No text that comes out shows the refresh token, if it is this one and stands in the file once, whatever answers say of it. */

#define SECRET "Secr3tOfRefreshing99"
struct told { struct answers a; bool over, secret; };
static const char *path;

static const char *only_file(const char *name)
{
    return strcmp(name, "GOOGLE_APPLICATION_CREDENTIALS") == 0 ? path : NULL;
}

/* As the JSON string of a file: line breaks as \n. Made once. */
static const char *private_key(void)
{
    static char text[4096];
    if (text[0] != '\0')
        return text;
    EVP_PKEY *key = EVP_RSA_gen(1024);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    CHECK(key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    long len = BIO_get_mem_data(bio, &pem);
    size_t at = 0;
    for (long i = 0; i < len; i++) {
        if (pem[i] == '\n')
            text[at++] = '\\';
        text[at++] = pem[i] == '\n' ? 'n' : pem[i];
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return text;
}

static void came(void *arg, const char *header, const struct error *err)
{
    struct told *t = arg;
    CHECK(!t->over && (header == NULL) == (err != NULL));
    CHECK(header == NULL || strncmp(header, "Authorization: Bearer ", 22) == 0);
    CHECK(header == NULL || strpbrk(header, "\r\n") == NULL);
    CHECK(err == NULL || strcmp(err->reason, "credentials") == 0);
    CHECK(err == NULL || !t->secret || strstr(err->text, SECRET) == NULL);
    t->over = true;
}

/* With its key in place of "@KEY@". */
static void write_file(const char *text, size_t len)
{
    const char *at = memmem(text, len, "@KEY@", 5);
    struct buf out = BUF_INIT(4 << 20);
    size_t before = at ? (size_t)(at - text) : len;
    buf_xadd(&out, text, before);
    if (at) {
        buf_xputs(&out, private_key());
        buf_xadd(&out, at + 5, len - before - 5);
    }
    path = fuzz_file(out.data, out.len);
    buf_free(&out);
}

FUZZ(bq_auth)
{
    struct input in = input_of(data, size);
    struct told t = {.over = false};
    struct error err = ERROR_INIT;
    size_t len;
    AUTO(free_ptr) char *text = input_text(&in, '\0', &len);
    if (strstr(text, "\"file\"")) /* it would be read */
        return;
    const char *secret = strstr(text, SECRET);
    t.secret = secret && strstr(text, "\"refresh_token\":\"" SECRET "\"") && !strstr(secret + 1, SECRET);
    path = NULL;
    if (len > 0)
        write_file(text, len);
    answers_begin(&t.a, in);
    struct auth_choice choice = {.how = "adc", .url = "https://bigquery.googleapis.com", .env = only_file, .loop = t.a.loop, .http = &t.a.http, .rnd = &t.a.rnd};
    struct auth *auth = auth_choose(&choice, &err);
    if (auth != NULL) {
        auth_header(auth, came, &t);
        answers_run(&t.a, &t.over);
        CHECK(!t.secret || strstr(auth_describe(auth), SECRET) == NULL);
        auth_free(auth);
        CHECK(t.over);
    } else {
        CHECK(err.kind == ERR_FATAL && (!t.secret || strstr(err.text, SECRET) == NULL));
    }
    answers_end(&t.a);
}
