#include "common/bq/auth_source.h"

/* A service account's key: we sign who we are, the token endpoint answers with a token. */

struct key_source {
    struct source source;
    struct auth_world world;
    jwt_key *key;
    char *key_id, *email, *url, *scope, *what, *assertion;
    const char *secrets[2];
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

static void key_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct key_source *k = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = r ? exchange_token(r, k->what, loop_wall_ms(k->world.loop), &lives_ms, &err) : NULL;
    secret_free(k->assertion);
    k->assertion = NULL;
    k->cb(k->arg, token, lives_ms, token ? NULL : r ? &err : failure);
}

static void key_fetch(struct source *s, source_cb *cb, void *arg)
{
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    struct key_source *k = (struct key_source *)s;
    k->cb = cb;
    k->arg = arg;
    k->assertion = jwt_sign(k->key, k->key_id, k->email, k->scope, k->url, loop_wall_us(k->world.loop) / US_PER_S);
    if (k->assertion == NULL) {
        struct error err = ERROR_INIT;
        error_set(&err, ERR_FATAL, 0, "%s: the private key does not sign; make a new key for the account", k->what);
        cb(arg, NULL, 0, &err);
        return;
    }
    k->secrets[0] = k->assertion;
    struct buf form = BUF_INIT(LIMIT_TOKEN_REQUEST);
    form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    form_add(&form, "assertion", k->assertion);
    struct exchange_request r = {
        .method = "POST", .url = k->url, .headers = headers, .body = &form, .secrets = k->secrets, .what = k->what,
        .advice = "the account or this key may be deleted or disabled, or this machine's clock wrong by minutes",
    };
    exchange_send(&k->exchange, &k->world, &r, key_answer, k);
}

static void key_stop(struct source *s)
{
    struct key_source *k = (struct key_source *)s;
    exchange_stop(&k->exchange);
    secret_free(k->assertion);
    k->assertion = NULL;
}

static void key_free(struct source *s)
{
    struct key_source *k = (struct key_source *)s;
    key_stop(s);
    jwt_key_free(k->key);
    free(k->key_id);
    free(k->email);
    free(k->url);
    free(k->scope);
    free(k->what);
    free(k);
}

static const struct source_ops key_ops = {.fetch = key_fetch, .stop = key_stop, .free = key_free};

struct source *source_key(const struct auth_world *w, const doc *d, const char *file, const char *scope, struct error *err)
{
    const char *email = field_need(d, "client_email", file, err);
    const char *pem = email ? field_need(d, "private_key", file, err) : NULL;
    const char *url = doc_str(d, "token_uri", "https://oauth2.googleapis.com/token");
    if (pem == NULL || url_check(url, "token_uri", file, err) != 0)
        return NULL;
    jwt_key *key = jwt_key_read(pem);
    if (key == NULL) {
        error_set(err, ERR_FATAL, 0, "%s: the field private_key holds no RSA key in PEM form; download the account's key again, as JSON", file);
        return NULL;
    }
    struct key_source *k = xcalloc(1, sizeof(*k));
    k->source.ops = &key_ops;
    k->world = *w;
    k->key = key;
    const char *key_id = doc_str(d, "private_key_id", NULL);
    k->key_id = key_id ? xstrdup(key_id) : NULL;
    k->email = xstrdup(email);
    k->url = xstrdup(url);
    k->scope = xstrdup(scope);
    k->what = k->source.what = xasprintf("service account %s (%s)", email, file);
    return &k->source;
}
