#include "common/bq/auth_source.h"

/* The token of another account, by the IAM credentials service: with the token of a source that may impersonate it. */

#define LIFE_LEAST_S 60
#define LIFE_MOST_S 43200 /* twelve hours, where the organisation allows more than one */

struct impersonated_source {
    struct source source, *inner;
    struct auth_world world;
    char *url, *body, *what, *authorization; /* authorization: of the request under way */
    int64_t life_s;
    const char *secrets[2];
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

static void impersonated_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct impersonated_source *i = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = r ? exchange_token(r, i->what, loop_wall_ms(i->world.loop), &lives_ms, &err) : NULL;
    secret_free(i->authorization);
    i->authorization = NULL;
    i->cb(i->arg, token, i64_min(lives_ms, i->life_s * 1000), token ? NULL : r ? &err : failure);
}

static void inner_came(void *arg, const char *token, int64_t lives_ms, const struct error *err)
{
    struct impersonated_source *i = arg;
    (void)lives_ms; /* the token is used at once, and for nothing else */
    if (token == NULL) {
        i->cb(i->arg, NULL, 0, err);
        return;
    }
    secret_free(i->authorization);
    i->authorization = xasprintf("Authorization: Bearer %s", token);
    i->secrets[0] = i->authorization + strlen("Authorization: Bearer ");
    const char *headers[] = {"Content-Type: application/json; charset=UTF-8", i->authorization, NULL};
    struct buf body = BUF_INIT(LIMIT_TOKEN_REQUEST);
    buf_xputs(&body, i->body);
    struct exchange_request r = {
        .method = "POST", .url = i->url, .headers = headers, .body = &body, .secrets = i->secrets, .what = i->what,
        .advice = "the source needs the role roles/iam.serviceAccountTokenCreator on that account",
    };
    exchange_send(&i->exchange, &i->world, &r, impersonated_answer, i);
}

static void impersonated_fetch(struct source *s, source_cb *cb, void *arg)
{
    struct impersonated_source *i = (struct impersonated_source *)s;
    i->cb = cb;
    i->arg = arg;
    i->inner->ops->fetch(i->inner, inner_came, i);
}

static void impersonated_stop(struct source *s)
{
    struct impersonated_source *i = (struct impersonated_source *)s;
    i->inner->ops->stop(i->inner);
    exchange_stop(&i->exchange);
}

static void impersonated_free(struct source *s)
{
    struct impersonated_source *i = (struct impersonated_source *)s;
    impersonated_stop(s);
    source_free(i->inner);
    secret_free(i->authorization);
    free(i->url);
    free(i->body);
    free(i->what);
    free(i);
}

static const struct source_ops impersonated_ops = {.fetch = impersonated_fetch, .stop = impersonated_stop, .free = impersonated_free};

/* ".../serviceAccounts/EMAIL:generateAccessToken"; the whole URL where it looks otherwise. */
static char *email_of(const char *url)
{
    const char *from = strstr(url, "/serviceAccounts/");
    from = from ? from + strlen("/serviceAccounts/") : url;
    const char *end = strstr(from, ":generateAccessToken");
    return xstrndup(from, end ? (size_t)(end - from) : strlen(from));
}

static char *request_body(const char *scope, const doc *delegates, int64_t life_s)
{
    AUTO(doc_free_auto) doc *body = doc_object();
    if (doc_len(delegates) > 0)
        doc_set(body, "delegates", doc_copy(delegates));
    doc_set(body, "scope", doc_add(doc_array(), doc_string(scope)));
    AUTO(free_ptr) char *life = xasprintf("%" PRId64 "s", life_s);
    doc_set_str(body, "lifetime", life);
    return doc_text(body);
}

struct source *source_impersonated(const struct auth_world *w, struct source *inner, const char *url, const doc *delegates, int64_t life_s,
                                   const char *file, const char *scope, struct error *err)
{
    if (url_check(url, "service_account_impersonation_url", file, err) != 0) {
        source_free(inner);
        return NULL;
    }
    struct impersonated_source *i = xcalloc(1, sizeof(*i));
    AUTO(free_ptr) char *email = email_of(url);
    i->source.ops = &impersonated_ops;
    i->what = i->source.what = xasprintf("service account %s, impersonated by %s", email, inner->what);
    i->inner = inner;
    i->world = *w;
    i->life_s = i64_min(i64_max(life_s, LIFE_LEAST_S), LIFE_MOST_S);
    i->url = xstrdup(url);
    i->body = request_body(scope, delegates, i->life_s);
    return &i->source;
}
