#include "common/bq/auth_source.h"

/* A person's credentials, as `gcloud auth application-default login` leaves them: a refresh token. Those of a workforce
 * (external_account_authorized_user) differ in where the client's own secret stands. */

struct user_source {
    struct source source;
    struct auth_world world;
    char *client_id, *client_secret, *refresh_token, *url, *basic; /* basic: the client's header, or NULL: in the form */
    const char *secrets[4];
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

static void user_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct user_source *u = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = r ? exchange_token(r, u->source.what, loop_wall_ms(u->world.loop), &lives_ms, &err) : NULL;
    u->cb(u->arg, token, lives_ms, token ? NULL : r ? &err : failure);
}

static void user_fetch(struct source *s, source_cb *cb, void *arg)
{
    struct user_source *u = (struct user_source *)s;
    const char *headers[] = {"Content-Type: application/x-www-form-urlencoded", u->basic, NULL};
    u->cb = cb;
    u->arg = arg;
    struct buf form = BUF_INIT(LIMIT_TOKEN_REQUEST);
    form_add(&form, "grant_type", "refresh_token");
    form_add(&form, "refresh_token", u->refresh_token);
    if (u->basic == NULL) {
        form_add(&form, "client_id", u->client_id);
        form_add(&form, "client_secret", u->client_secret);
    }
    struct exchange_request r = {
        .method = "POST", .url = u->url, .headers = headers, .body = &form, .secrets = u->secrets, .what = u->source.what,
        .advice = "the login may have ended; log in again: gcloud auth application-default login",
    };
    exchange_send(&u->exchange, &u->world, &r, user_answer, u);
}

static void user_stop(struct source *s)
{
    exchange_stop(&((struct user_source *)s)->exchange);
}

static void user_free(struct source *s)
{
    struct user_source *u = (struct user_source *)s;
    user_stop(s);
    secret_free(u->client_secret);
    secret_free(u->refresh_token);
    secret_free(u->basic);
    free(u->client_id);
    free(u->url);
    free(u->source.what);
    free(u);
}

static const struct source_ops user_ops = {.fetch = user_fetch, .stop = user_stop, .free = user_free};

struct source *source_user(const struct auth_world *w, const doc *d, const char *file, bool external, struct error *err)
{
    const char *id = field_need(d, "client_id", file, err);
    const char *secret = id ? field_need(d, "client_secret", file, err) : NULL;
    const char *refresh = secret ? field_need(d, "refresh_token", file, err) : NULL;
    const char *field = external ? "token_url" : "token_uri";
    const char *url = doc_str(d, field, external ? "https://sts.googleapis.com/v1/oauthtoken" : "https://oauth2.googleapis.com/token");
    if (refresh == NULL || url_check(url, field, file, err) != 0)
        return NULL;
    struct user_source *u = xcalloc(1, sizeof(*u));
    u->source.ops = &user_ops;
    u->source.what = xasprintf("user credentials (%s)", file);
    u->world = *w;
    u->client_id = xstrdup(id);
    u->client_secret = xstrdup(secret);
    u->refresh_token = xstrdup(refresh);
    u->url = xstrdup(url);
    u->basic = external ? basic_header(id, secret) : NULL;
    u->secrets[0] = u->client_secret;
    u->secrets[1] = u->refresh_token;
    u->secrets[2] = u->basic;
    return &u->source;
}
