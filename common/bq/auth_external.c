#include "common/base/file.h"
#include "common/bq/auth_source.h"

/* Workload identity federation: a token of another identity provider, from a file or a URL, is exchanged at Google's security token service
 * (RFC 8693). The file is read anew for each exchange: whoever writes it replaces the token before it ends. */

#define HEADERS_MAX 20 /* of a request to the URL */

struct external_source {
    struct source source;
    struct auth_world world;
    char *audience, *subject_type, *url, *scope, *basic, *options; /* basic, options: may be NULL */
    char *path, *from;       /* where the subject token is: one of them */
    char *headers[HEADERS_MAX + 1];
    char *field;             /* of a JSON object; NULL: the whole text */
    char *subject;           /* of the request under way */
    const char *secrets[3];
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

static void fail(struct external_source *x, const struct error *err)
{
    x->cb(x->arg, NULL, 0, err);
}

static void external_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct external_source *x = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = r ? exchange_token(r, x->source.what, loop_wall_ms(x->world.loop), &lives_ms, &err) : NULL;
    secret_free(x->subject);
    x->subject = NULL;
    x->cb(x->arg, token, lives_ms, token ? NULL : r ? &err : failure);
}

static void exchange_subject(struct external_source *x)
{
    const char *headers[] = {"Content-Type: application/x-www-form-urlencoded", x->basic, NULL};
    struct buf form = BUF_INIT(LIMIT_TOKEN_REQUEST);
    form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    form_add(&form, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
    form_add(&form, "audience", x->audience);
    form_add(&form, "scope", x->scope);
    form_add(&form, "subject_token_type", x->subject_type);
    form_add(&form, "subject_token", x->subject);
    if (x->options)
        form_add(&form, "options", x->options);
    x->secrets[0] = x->subject;
    x->secrets[1] = x->basic;
    struct exchange_request r = {
        .method = "POST", .url = x->url, .headers = headers, .body = &form, .secrets = x->secrets, .what = x->source.what,
        .advice = "see that the pool and provider in the field audience exist and accept the subject token, and that it has not ended",
    };
    exchange_send(&x->exchange, &x->world, &r, external_answer, x);
}

/* Takes the subject token out of what a file or an answer holds. Text is taken without the line break that ends many files. */
static int take_subject(struct external_source *x, const char *text, size_t len, struct error *err)
{
    const char *where = x->path ? x->path : x->from;
    if (x->field) {
        AUTO(doc_free_auto) doc *d = doc_parse(text, len, "subject token", NULL); /* its error would quote the text */
        const char *token = doc_str(doc_field(d, x->field), NULL, "");
        if (*token == '\0')
            return error_set(err, ERR_FATAL, 0, "%s: %s holds no JSON object with a text in its field %s "
                             "(credential_source.format.subject_token_field_name)", x->source.what, where, x->field);
        x->subject = xstrdup(token);
        return 0;
    }
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    if (len == 0 || memchr(text, '\0', len))
        return error_set(err, ERR_FATAL, 0, "%s: %s holds no subject token", x->source.what, where);
    x->subject = xstrndup(text, len);
    return 0;
}

static void subject_came(void *arg, const struct http_response *r, const struct error *failure)
{
    struct external_source *x = arg;
    struct error err = ERROR_INIT;
    if (r == NULL)
        fail(x, failure);
    else if (take_subject(x, r->body && r->body->len ? r->body->data : "", r->body ? r->body->len : 0, &err) != 0)
        fail(x, &err);
    else
        exchange_subject(x);
}

static void read_subject(struct external_source *x)
{
    struct error err = ERROR_INIT;
    size_t len = 0;
    AUTO(secret_free_auto) char *text = file_read(x->path, LIMIT_CREDENTIALS, &len, &err);
    if (text == NULL || take_subject(x, text, len, &err) != 0) {
        err.kind = ERR_FATAL;
        if (text == NULL)
            error_prefix(&err, "%s: the field credential_source.file", x->source.what);
        fail(x, &err);
        return;
    }
    exchange_subject(x);
}

static void external_fetch(struct source *s, source_cb *cb, void *arg)
{
    struct external_source *x = (struct external_source *)s;
    x->cb = cb;
    x->arg = arg;
    secret_free(x->subject);
    x->subject = NULL;
    if (x->path) {
        read_subject(x);
        return;
    }
    struct exchange_request r = {
        .method = "GET", .url = x->from, .headers = (const char *const *)x->headers, .what = x->source.what,
        .advice = "that was the answer of the address in the field credential_source.url",
    };
    exchange_send(&x->exchange, &x->world, &r, subject_came, x);
}

static void external_stop(struct source *s)
{
    struct external_source *x = (struct external_source *)s;
    exchange_stop(&x->exchange);
    secret_free(x->subject);
    x->subject = NULL;
}

static void external_free(struct source *s)
{
    struct external_source *x = (struct external_source *)s;
    external_stop(s);
    secret_free(x->basic);
    for (size_t i = 0; x->headers[i]; i++)
        secret_free(x->headers[i]);
    char *all[] = {x->audience, x->subject_type, x->url, x->scope, x->options, x->path, x->from, x->field, x->source.what};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
    free(x);
}

static const struct source_ops external_ops = {.fetch = external_fetch, .stop = external_stop, .free = external_free};

/* --- its file ---------------------------------------------------------------------------------------------------------------------------- */

static int read_headers(struct external_source *x, const doc *headers, const char *file, struct error *err)
{
    size_t n = 0;
    for (void *it = doc_first(headers); it; it = doc_next(headers, it)) {
        const char *value = doc_str(doc_value(it), NULL, NULL);
        if (n == HEADERS_MAX || value == NULL || strpbrk(value, "\r\n") || strpbrk(doc_key(it), "\r\n: "))
            return error_set(err, ERR_FATAL, 0, "%s: the field credential_source.headers must hold at most %d texts of one line", file, HEADERS_MAX);
        x->headers[n++] = xasprintf("%s: %s", doc_key(it), value);
    }
    return 0;
}

static int read_source(struct external_source *x, const doc *d, const char *file, struct error *err)
{
    const char *path = doc_str(d, "credential_source.file", NULL), *from = doc_str(d, "credential_source.url", NULL);
    if (doc_get(d, "credential_source.environment_id") || (path == NULL) == (from == NULL))
        return error_set(err, ERR_FATAL, 0, "%s: the field credential_source must have either file or url; other sources (AWS, executables, certificates) are not "
                         "supported: write their token to a file, or use another kind of credentials", file);
    if (from && ((strncmp(from, "http://", 7) != 0 && strncmp(from, "https://", 8) != 0) || strpbrk(from, " \r\n")))
        return error_set(err, ERR_FATAL, 0, "%s: the field credential_source.url is no http or https address", file);
    x->path = path ? xstrdup(path) : NULL;
    x->from = from ? xstrdup(from) : NULL;
    const char *form = doc_str(d, "credential_source.format.type", "text");
    const char *field = doc_str(d, "credential_source.format.subject_token_field_name", NULL);
    if (strcmp(form, "text") != 0 && (strcmp(form, "json") != 0 || field == NULL))
        return error_set(err, ERR_FATAL, 0, "%s: the field credential_source.format must be of type text, or json with a subject_token_field_name", file);
    x->field = strcmp(form, "json") == 0 ? xstrdup(field) : NULL;
    return read_headers(x, doc_get(d, "credential_source.headers"), file, err);
}

/* A workforce pool's project is billed when no client of its own is given. */
static char *read_options(const doc *d)
{
    const char *project = doc_str(d, "workforce_pool_user_project", NULL);
    if (project == NULL || doc_str(d, "client_id", NULL))
        return NULL;
    AUTO(doc_free_auto) doc *options = doc_set_str(doc_object(), "userProject", project);
    return doc_text(options);
}

struct source *source_external(const struct auth_world *w, const doc *d, const char *file, const char *scope, struct error *err)
{
    const char *audience = field_need(d, "audience", file, err);
    const char *type = audience ? field_need(d, "subject_token_type", file, err) : NULL;
    const char *url = doc_str(d, "token_url", "https://sts.googleapis.com/v1/token");
    const char *impersonation = doc_str(d, "service_account_impersonation_url", NULL), *client = doc_str(d, "client_id", NULL);
    if (type == NULL || url_check(url, "token_url", file, err) != 0)
        return NULL;
    struct external_source *x = xcalloc(1, sizeof(*x));
    AUTO(source_free_auto) struct source *owned = &x->source;
    x->source.ops = &external_ops;
    x->source.what = xasprintf("external account (%s)", file);
    x->world = *w;
    x->audience = xstrdup(audience);
    x->subject_type = xstrdup(type);
    x->url = xstrdup(url);
    x->scope = xstrdup(impersonation ? SCOPE_CLOUD : scope);
    x->basic = client ? basic_header(client, doc_str(d, "client_secret", "")) : NULL;
    x->options = read_options(d);
    if (read_source(x, d, file, err) != 0)
        return NULL;
    owned = NULL;
    if (impersonation == NULL)
        return &x->source;
    int64_t life_s = doc_int(d, "service_account_impersonation.token_lifetime_seconds", TOKEN_LIFE_S);
    return source_impersonated(w, &x->source, impersonation, NULL, life_s, file, scope, err);
}
