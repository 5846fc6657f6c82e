#include "common/bq/auth_source.h"

#include <openssl/evp.h>
#include <time.h>

/* One request to a token endpoint and what its answer means. What the service says in words is shown, but never the secrets that the
 * request carried, which an answer may repeat. */

#define EXCHANGE_CONNECT_MS 10000
#define EXCHANGE_WHOLE_MS 30000
#define SHORTEST_SECRET 6 /* characters of a word from which on it may give a secret away */

void secret_free(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

void form_add(struct buf *form, const char *name, const char *value)
{
    buf_xprintf(form, "%s%s=", form->len ? "&" : "", name);
    http_escape(form, value);
}

char *basic_header(const char *user, const char *password)
{
    AUTO(secret_free_auto) char *plain = xasprintf("%s:%s", user, password);
    size_t len = strlen(plain);
    AUTO(secret_free_auto) char *out = xmalloc(4 * ((len + 2) / 3) + 1);
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)plain, (int)len);
    return xasprintf("Authorization: Basic %s", out);
}

void hide_secrets(char *text, const char *const *secrets)
{
    static const char between[] = " \t\"'`:;,()<>[]{}=&\\";
    for (char *word = text + strspn(text, between), *next; *word; word = next) {
        size_t len = strcspn(word, between);
        char end = word[len];
        word[len] = '\0';
        bool hide = false;
        for (size_t i = 0; secrets && secrets[i] && len >= SHORTEST_SECRET; i++)
            hide |= *secrets[i] && (strstr(secrets[i], word) || strstr(word, secrets[i]));
        if (hide)
            memset(word, '*', len);
        word[len] = end;
        next = word + len + strspn(word + len, between);
    }
}

/* Line breaks and what a terminal would obey become spaces. */
static void make_plain(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
}

/* {"error":"invalid_grant","error_description":"..."} by OAuth, {"error":{"status":"...","message":"..."}} by IAM. */
static void read_words(const struct http_response *r, const char *const *secrets, char *code, size_t code_size, char *words, size_t words_size)
{
    AUTO(doc_free_auto) doc *d = r->body && r->body->len ? doc_parse(r->body->data, r->body->len, "answer", NULL) : NULL;
    snprintf(code, code_size, "%s", doc_str(d, "error", doc_str(d, "error.status", "")));
    snprintf(words, words_size, "%s", doc_str(d, "error_description", doc_str(d, "error.message", "")));
    make_plain(code);
    make_plain(words);
    hide_secrets(code, secrets);
    hide_secrets(words, secrets);
}

static void refuse(const struct exchange *e, const struct http_response *r, struct error *err)
{
    char code[64], words[300];
    read_words(r, e->secrets, code, sizeof(code), words, sizeof(words));
    bool passing = r->status >= 500 || r->status == 429 || r->status == 408 || strcmp(code, "internal_failure") == 0 ||
                   strcmp(code, "server_error") == 0 || strcmp(code, "temporarily_unavailable") == 0;
    const char *advice = passing ? NULL : e->advice;
    error_set(err, passing ? ERR_RETRY : ERR_FATAL, r->status, "%s: status %d%s%s%s%s%s%s", e->what, r->status, *code ? " " : "", code,
              *words ? ": " : "", words, advice ? "; " : "", advice ? advice : "");
    const char *after = http_header(r, "Retry-After");
    if (passing && after && *after >= '0' && *after <= '9')
        err->retry_after_ms = i64_min(strtol(after, NULL, 10), 86400) * 1000; /* seconds */
}

/* The exchange is at rest before its owner hears of it, who may start another or free it. */
static void answered(void *arg, struct http_response *r)
{
    struct exchange *e = arg;
    e->call = NULL;
    e->status = r->status;
    struct error err = ERROR_INIT;
    if (r->status == 0) {
        err = *r->err;
        error_prefix(&err, "%s", e->what);
    } else if (r->status < 200 || r->status > 299) {
        refuse(e, r, &err);
    }
    exchange_cb *cb = e->cb;
    void *cb_arg = e->arg;
    exchange_stop(e);
    bool good = err.kind == ERR_NONE;
    cb(cb_arg, good ? r : NULL, good ? NULL : &err);
}

void exchange_send(struct exchange *e, const struct auth_world *w, const struct exchange_request *r, exchange_cb *cb, void *arg)
{
    assert(e->call == NULL);
    *e = (struct exchange){.world = w, .secrets = r->secrets, .what = r->what, .advice = r->advice, .cb = cb, .arg = arg};
    if (r->body) {
        e->body = *r->body;
        *r->body = BUF_INIT(r->body->max);
        e->slice = (struct http_slice){e->body.data, e->body.len};
    }
    struct http_request q = {
        .method = r->method, .url = r->url, .headers = r->headers, .body = r->body ? &e->slice : NULL, .body_count = r->body ? 1 : 0,
        .connect_ms = r->connect_ms ? r->connect_ms : EXCHANGE_CONNECT_MS, .whole_ms = r->whole_ms ? r->whole_ms : EXCHANGE_WHOLE_MS,
        .max_body = LIMIT_TOKEN_ANSWER, .urgent = true, .direct = r->direct,
    };
    e->call = http_send(w->http, &q, answered, e);
}

void exchange_stop(struct exchange *e)
{
    if (e->call)
        http_cancel(e->world->http, e->call);
    e->call = NULL;
    if (e->body.data)
        explicit_bzero(e->body.data, e->body.len);
    buf_free(&e->body);
}

/* "2024-01-02T03:04:05Z", perhaps with a fraction: milliseconds since 1970, or -1. */
static int64_t read_time(const char *text)
{
    struct tm t = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    if (rest == NULL || text[strlen(text) - 1] != 'Z')
        return -1;
    return (int64_t)timegm(&t) * 1000;
}

char *exchange_token(const struct http_response *r, const char *what, int64_t wall_ms, int64_t *lives_ms, struct error *err)
{
    AUTO(doc_free_auto) doc *d = r->body && r->body->len ? doc_parse(r->body->data, r->body->len, "answer", NULL) : NULL;
    if (r->body && r->body->data)
        explicit_bzero(r->body->data, r->body->len);
    const char *token = doc_str(d, "access_token", doc_str(d, "accessToken", ""));
    bool plain = *token != '\0';
    for (const char *p = token; *p; p++)
        plain &= *p > ' ' && *p < 0x7f;
    if (!plain) { /* a page of something in between, or cut short; the text is not shown: it may hold half a token */
        error_set(err, ERR_RETRY, r->status, "%s: status %d, but no access token in the answer", what, r->status);
        return NULL;
    }
    int64_t life_s = doc_int(d, "expires_in", TOKEN_LIFE_S);
    int64_t ends_ms = read_time(doc_str(d, "expireTime", "-"));
    if (ends_ms >= 0) /* by the service's clock, which ours may be far from: at most what was asked for, and not nothing */
        life_s = i64_min(TOKEN_LIFE_S, i64_max((ends_ms - wall_ms) / 1000, 60));
    *lives_ms = i64_min(i64_max(life_s, 0), 86400) * 1000;
    return xstrdup(token);
}
