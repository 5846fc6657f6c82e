#include "tests/unit/support_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"

#define NAMES_MAX 8
#define FILES_MAX 16

static struct {
    char dir[64], name[NAMES_MAX][64], value[NAMES_MAX][300], *path[FILES_MAX];
    size_t names, files;
    struct buf log;
} place;

static void on_line(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    buf_xadd(&place.log, line, len);
    buf_xputs(&place.log, "\n");
}

static int64_t no_time(void *arg)
{
    (void)arg;
    return 0;
}

void place_begin(void)
{
    place.names = place.files = 0;
    place.log = BUF_INIT(1 << 20);
    buf_xputs(&place.log, "");
    snprintf(place.dir, sizeof(place.dir), "/tmp/bqfleet-auth-XXXXXX");
    assert_non_null(mkdtemp(place.dir));
    place_set("CLOUDSDK_CONFIG", place.dir);
    log_setup(LOG_DEBUG, LOG_PLAIN, no_time, NULL);
    log_sink(on_line, NULL);
}

void place_end(void)
{
    log_sink(NULL, NULL);
    log_setup(LOG_INFO, LOG_AUTO, no_time, NULL);
    for (size_t i = 0; i < place.files; i++) {
        unlink(place.path[i]);
        free(place.path[i]);
    }
    assert_int_equal(rmdir(place.dir), 0);
    buf_free(&place.log);
}

const char *place_env(const char *name)
{
    for (size_t i = place.names; i-- > 0;)
        if (strcmp(place.name[i], name) == 0)
            return place.value[i];
    return NULL;
}

void place_set(const char *name, const char *value)
{
    assert_true(place.names < NAMES_MAX);
    snprintf(place.name[place.names], sizeof(place.name[0]), "%s", name);
    snprintf(place.value[place.names++], sizeof(place.value[0]), "%s", value);
}

const char *place_file(const char *name, const char *text)
{
    assert_true(place.files < FILES_MAX);
    char *path = place.path[place.files++] = xasprintf("%s/%s", place.dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

const char *place_log(void)
{
    return place.log.data;
}

void told_cb(void *arg, const char *header, const struct error *err)
{
    struct told *t = arg;
    t->calls++;
    t->err = err ? *err : ERROR_INIT;
    snprintf(t->header, sizeof(t->header), "%s", header ? header : "");
}

bool told_came(void *arg)
{
    return ((struct told *)arg)->calls > 0;
}

struct auth *open_adc(struct script *s, struct error *err)
{
    return auth_choose(&(struct auth_choice){.how = "adc", .url = "https://bq", .env = place_env, .loop = s->loop, .http = &s->http, .rnd = &s->rnd}, err);
}

struct auth *open_doc(struct script *s, const char *json)
{
    struct error err = ERROR_INIT;
    place_set("GOOGLE_APPLICATION_CREDENTIALS", place_file("credentials.json", json));
    struct auth *a = open_adc(s, &err);
    if (a == NULL)
        fail_msg("%s", err.text);
    return a;
}

struct told ask_header(struct script *s, struct auth *a)
{
    struct told t = {0};
    auth_header(a, told_cb, &t);
    assert_true(loop_until(s->loop, told_came, &t, 3600 * US_PER_S));
    assert_int_equal(t.calls, 1);
    return t;
}

jwt_key *make_key(char **pem)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    assert_non_null(key);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    *pem = xstrndup(text, (size_t)len);
    BIO_free(bio);
    return key;
}

char *public_pem(jwt_key *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    char *pem = xstrndup(text, (size_t)len);
    BIO_free(bio);
    return pem;
}
