#include "tests/bq/internal.h"
#include "tests/bq/jwt.h"

#include <openssl/evp.h>
#include <strings.h>
#include <time.h>

#include "common/base/ids.h"

/*
 * Where credentials become tokens, as Google's servers do it, and whether a request carries one that is good: the token endpoint of OAuth (assertions
 * that a service account has signed, refresh tokens), that of workload identity federation, IAM's generateAccessToken, and a metadata server. Errors
 * are in Google's words.
 */

#define JWT_GRANT "urn:ietf:params:oauth:grant-type:jwt-bearer"
#define EXCHANGE_GRANT "urn:ietf:params:oauth:grant-type:token-exchange"
#define SKEW_S 300

struct token { struct token *next; char text[48]; int64_t ends_us; bool federated; };
struct tokens {
    struct bqmodel_credentials c; /* its texts are owned */
    EVP_PKEY *key;
    struct token *given;
};

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

void tokens_free(struct bqmodel *m)
{
    struct tokens *t = m->tokens;
    if (t == NULL)
        return;
    bqmodel_revoke_tokens(m);
    const char *const texts[] = {t->c.email, t->c.public_key, t->c.client_secret, t->c.refresh_token, t->c.subject_token, t->c.impersonated, t->c.project};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free((char *)(uintptr_t)texts[i]);
    EVP_PKEY_free(t->key);
    free(t);
    m->tokens = NULL;
}

void bqmodel_demand_tokens(struct bqmodel *m, const struct bqmodel_credentials *c)
{
    tokens_free(m);
    struct tokens *t = m->tokens = xcalloc(1, sizeof(*t));
    t->c = (struct bqmodel_credentials){.email = copy(c->email), .public_key = copy(c->public_key), .client_secret = copy(c->client_secret),
                                        .refresh_token = copy(c->refresh_token), .subject_token = copy(c->subject_token),
                                        .impersonated = copy(c->impersonated), .project = copy(c->project), .life_s = c->life_s ? c->life_s : 3600};
    t->key = c->public_key ? jwt_public_key(c->public_key) : NULL;
}

int bqmodel_credentials_doc(struct bqmodel *m, const doc *d, struct error *err)
{
    const char *pem = doc_str(d, "public_key", NULL);
    bqmodel_demand_tokens(m, &(struct bqmodel_credentials){
        .email = doc_str(d, "email", NULL), .public_key = pem, .client_secret = doc_str(d, "client_secret", NULL),
        .refresh_token = doc_str(d, "refresh_token", NULL), .subject_token = doc_str(d, "subject_token", NULL),
        .impersonated = doc_str(d, "impersonated", NULL), .project = doc_str(d, "project", NULL), .life_s = doc_int(d, "life_s", 0)});
    return pem && m->tokens->key == NULL ? error_set(err, ERR_USAGE, 0, "public_key is no public key in PEM form") : 0;
}

void bqmodel_revoke_tokens(struct bqmodel *m)
{
    for (struct token *t; m->tokens && (t = m->tokens->given) != NULL;) {
        m->tokens->given = t->next;
        free(t);
    }
}

static const struct token *give(struct bqmodel *m, bool federated)
{
    struct token *t = xcalloc(1, sizeof(*t));
    m->counters.tokens++;
    snprintf(t->text, sizeof(t->text), "ya29.model-token-%08" PRIx64 "-%" PRId64, (m->next_id++ + 1) * UINT64_C(2654435761) % UINT64_C(4294967296), m->counters.tokens);
    t->ends_us = loop_now_us(m->loop) + m->tokens->c.life_s * US_PER_S;
    t->federated = federated;
    t->next = m->tokens->given;
    m->tokens->given = t;
    return t;
}

/* The token that a request carries, if it is good. */
static const struct token *carried(struct bqmodel *m, const struct mrequest *r)
{
    const char *header = r->header(r, "Authorization");
    if (header == NULL || strncmp(header, "Bearer ", 7) != 0)
        return NULL;
    for (const struct token *t = m->tokens->given; t; t = t->next)
        if (strcmp(t->text, header + 7) == 0)
            return loop_now_us(m->loop) < t->ends_us ? t : NULL;
    return NULL;
}

bool tokens_check(struct exchange *x, const struct mrequest *r)
{
    struct bqmodel *m = x->model;
    const struct token *t = m->tokens ? carried(m, r) : NULL;
    if (m->tokens == NULL || (t && !t->federated))
        return true;
    m->counters.turned_away++;
    if (r->header(r, "Authorization"))
        reply_error(x, 401, "authError", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
                    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.");
    else
        reply_error(x, 401, "required", "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
                    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.");
    return false;
}

/* --- answers --------------------------------------------------------------------------------------------------------------------------------- */

static void refuse(struct exchange *x, int status, const char *code, const char *words)
{
    AUTO(doc_free_auto) doc *d = doc_set_str(doc_set_str(doc_object(), "error", code), "error_description", words);
    x->model->counters.grants_refused++;
    reply_raw(x, status, NULL, doc_text(d));
}

static void answer_token(struct exchange *x, const struct token *t, const char *header)
{
    doc *d = doc_set_str(doc_set_int(doc_set_str(doc_object(), "access_token", t->text), "expires_in", x->model->tokens->c.life_s), "token_type", "Bearer");
    reply_raw(x, 200, header ? xstrdup(header) : NULL, doc_text(d));
    doc_free(d);
}

/* A field of a form; the caller frees it; "" when it is absent. */
static char *form_value(const struct mrequest *r, const char *name)
{
    AUTO(free_ptr) char *body = xstrndup(r->body, r->len);
    char *out = xcalloc(1, r->len + 1);
    query_value(&(struct mrequest){.query = body}, name, out, r->len + 1);
    return out;
}

static bool same(const char *wanted, const char *given)
{
    return wanted && strcmp(wanted, given) == 0;
}

/* --- the token endpoint ------------------------------------------------------------------------------------------------------------------------ */

static void by_assertion(struct exchange *x, const struct mrequest *r)
{
    struct bqmodel *m = x->model;
    const struct tokens *t = m->tokens;
    const char *host = strstr(r->origin, "://"); /* TLS ends before us */
    AUTO(free_ptr) char *jwt = form_value(r, "assertion"), *here = xasprintf("%s%s", host ? host : r->origin, r->path);
    doc *head = NULL, *parts = NULL;
    int signature = t->key ? jwt_verify(t->key, jwt, &head, &parts) : -1;
    AUTO(doc_free_auto) doc *claims = parts;
    doc_free(head);
    int64_t now_s = loop_wall_us(m->loop) / US_PER_S, from_s = doc_int(claims, "iat", 0), until_s = doc_int(claims, "exp", 0);
    AUTO(free_ptr) char *audience = xasprintf("Invalid JWT: Failed audience check. The right audience is https%s", here);
    if (signature != 0)
        refuse(x, 400, "invalid_grant", "Invalid JWT Signature.");
    else if (!same(t->c.email, doc_str(claims, "iss", "")))
        refuse(x, 400, "invalid_grant", "Invalid grant: account not found");
    else if (strcmp(doc_str(claims, "aud", "") + strcspn(doc_str(claims, "aud", ""), ":"), here) != 0)
        refuse(x, 400, "invalid_grant", audience);
    else if (from_s > now_s + SKEW_S || until_s < now_s - SKEW_S || until_s <= from_s || until_s - from_s > 3600)
        refuse(x, 400, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
               "values in the JWT claim.");
    else if (strstr(doc_str(claims, "scope", ""), "https://www.googleapis.com/auth/") == NULL)
        refuse(x, 400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.");
    else
        answer_token(x, give(m, false), NULL);
}

static void oauth(struct exchange *x, const struct mrequest *r)
{
    const struct tokens *t = x->model->tokens;
    AUTO(free_ptr) char *grant = form_value(r, "grant_type"), *refresh = form_value(r, "refresh_token"), *secret = form_value(r, "client_secret");
    if (strcmp(grant, JWT_GRANT) == 0)
        by_assertion(x, r);
    else if (strcmp(grant, "refresh_token") != 0)
        refuse(x, 400, "unsupported_grant_type", "Invalid grant_type: ");
    else if (!same(t->c.client_secret, secret))
        refuse(x, 401, "invalid_client", "The provided client secret is invalid.");
    else if (!same(t->c.refresh_token, refresh))
        refuse(x, 400, "invalid_grant", "Token has been expired or revoked.");
    else
        answer_token(x, give(x->model, false), NULL);
}

static void federation(struct exchange *x, const struct mrequest *r)
{
    const struct tokens *t = x->model->tokens;
    AUTO(free_ptr) char *grant = form_value(r, "grant_type"), *subject = form_value(r, "subject_token");
    if (strcmp(grant, EXCHANGE_GRANT) != 0)
        refuse(x, 400, "invalid_request", "Invalid value for \"grant_type\"");
    else if (!same(t->c.subject_token, subject))
        refuse(x, 400, "invalid_grant", "The subject token could not be verified.");
    else
        answer_token(x, give(x->model, t->c.impersonated != NULL), NULL);
}

static void impersonation(struct exchange *x, const struct mrequest *r)
{
    struct bqmodel *m = x->model;
    AUTO(free_ptr) char *path = xasprintf("/v1/projects/-/serviceAccounts/%s:generateAccessToken", m->tokens->c.impersonated ? m->tokens->c.impersonated : "");
    if (carried(m, r) == NULL || strcmp(path, r->path) != 0) {
        m->counters.grants_refused++;
        reply_raw(x, 403, NULL, xstrdup("{\"error\":{\"code\":403,\"message\":\"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not "
                                        "exist).\",\"status\":\"PERMISSION_DENIED\"}}"));
        return;
    }
    time_t ends = (time_t)(loop_wall_us(m->loop) / US_PER_S + m->tokens->c.life_s);
    char text[40];
    struct tm tm;
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&ends, &tm));
    AUTO(doc_free_auto) doc *d = doc_set_str(doc_set_str(doc_object(), "accessToken", give(m, false)->text), "expireTime", text);
    reply_raw(x, 200, NULL, doc_text(d));
}

static void metadata(struct exchange *x, const struct mrequest *r)
{
    const char *flavor = r->header(r, "Metadata-Flavor"), *what = strstr(r->path, "/v1/");
    if (flavor == NULL || strcasecmp(flavor, "Google") != 0)
        reply_raw(x, 403, xstrdup("Content-Type: text/html"), xstrdup("<html><title>Error 403 (Forbidden)</title>Missing Metadata-Flavor:Google header.</html>"));
    else if (strcmp(what, "/v1/project/project-id") == 0)
        reply_raw(x, 200, xstrdup("Metadata-Flavor: Google"), xstrdup(x->model->tokens->c.project ? x->model->tokens->c.project : "local"));
    else if (strcmp(what, "/v1/instance/service-accounts/default/token") == 0)
        answer_token(x, give(x->model, false), "Metadata-Flavor: Google");
    else
        reply_raw(x, 404, xstrdup("Metadata-Flavor: Google"), xstrdup("Not Found"));
}

static const struct { const char *path; void (*answer)(struct exchange *, const struct mrequest *); } paths[] = {
    {"/token", oauth}, {"/v1/token", federation}, {"/v1/projects/-/serviceAccounts/", impersonation}, {"/computeMetadata/v1/", metadata},
};

static size_t path_of(const struct bqmodel *m, const struct mrequest *r)
{
    size_t i = m->tokens ? 0 : ARRAY_LEN(paths);
    for (; i < ARRAY_LEN(paths); i++) {
        size_t n = strlen(paths[i].path);
        if (strncmp(r->path, paths[i].path, n) == 0 && (paths[i].path[n - 1] == '/' || r->path[n] == '\0'))
            break;
    }
    return i;
}

bool tokens_path(const struct bqmodel *m, const struct mrequest *r)
{
    return path_of(m, r) < ARRAY_LEN(paths);
}

void tokens_answer(struct exchange *x, const struct mrequest *r)
{
    paths[path_of(x->model, r)].answer(x, r);
}
