#include "tests/bq/internal.h"

#include <strings.h>
#include <time.h>

#include "common/base/limits.h"

/* The model as a transport in process. A request arrives after half of the latency, its answer takes the other half. */

#define FIRST_BYTE_MS 60000 /* http.h's defaults */
#define WHOLE_MS 300000

struct http_call {
    struct exchange x; /* first */
    TAILQ_ENTRY(http_call) link;
    struct inproc *owner;
    char *method, *url;
    char **headers;
    size_t header_count;
    struct http_slice *body;
    size_t body_count;
    size_t (*read)(void *arg, char *out, size_t max);
    void *read_arg;
    http_cb *cb;
    void *arg;
    struct timer *arrive, *timeout;
    size_t max_body;
    bool arrived, late;
};

struct inproc {
    struct http http; /* first */
    struct bqmodel *model;
    TAILQ_HEAD(, http_call) calls;
};

static void release(struct exchange *x)
{
    struct http_call *c = (struct http_call *)(void *)x;
    TAILQ_REMOVE(&c->owner->calls, c, link);
    timer_free(c->arrive);
    timer_free(c->timeout);
    for (size_t i = 0; i < c->header_count; i++)
        free(c->headers[i]);
    free(c->headers);
    free(c->body);
    free(c->method);
    free(c->url);
}

/* The failure of a call without an answer. */
static void no_answer(struct http_call *c, enum error_kind kind, const char *what)
{
    struct buf empty = BUF_INIT(1);
    struct error err = ERROR_INIT;
    error_set(&err, kind, 0, "%s %s: %s", c->method, c->url, what);
    struct http_response r = {.body = &empty, .err = &err, .maybe_executed = c->arrived};
    c->cb(c->arg, &r);
}

static void answer(struct exchange *x, struct mreply *reply)
{
    struct http_call *c = (struct http_call *)(void *)x;
    struct buf body = BUF_INIT(c->max_body);
    struct error none = ERROR_INIT;
    if (c->late || reply->status == 0 || x->cut == CUT_CONNECTION) {
        no_answer(c, ERR_RETRY, c->late ? "no answer in time" : reply->status ? "the connection ended within the answer" : "the connection was reset");
        return;
    }
    if (reply->body && buf_puts(&body, reply->body)) {
        no_answer(c, ERR_FATAL, "the answer is too large");
        return;
    }
    char date[40];
    time_t now = (time_t)(loop_wall_us(x->model->loop) / US_PER_S);
    struct tm tm;
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    struct http_header headers[3] = {{"Content-Type", "application/json; charset=UTF-8"}, {"Date", date}, {"", ""}};
    AUTO(free_ptr) char *name = reply->header ? xstrdup(reply->header) : NULL;
    if (name) {
        char *colon = strchr(name, ':');
        *colon = '\0';
        headers[strcasecmp(name, "Content-Type") != 0 ? 2 : 0] = (struct http_header){name, colon + 2};
    }
    if (x->model->o.dateless)
        headers[1].name = (char *)(uintptr_t)"X-Date";
    struct http_response r = {.status = reply->status, .body = &body, .headers = headers, .header_count = headers[2].name[0] ? 3 : 2, .err = &none};
    c->cb(c->arg, &r);
    buf_free(&body);
}

static const char *header(const struct mrequest *r, const char *name)
{
    const struct http_call *c = r->header_arg;
    size_t n = strlen(name);
    for (size_t i = 0; i < c->header_count; i++)
        if (strncasecmp(c->headers[i], name, n) == 0 && c->headers[i][n] == ':')
            return c->headers[i] + n + 1 + (c->headers[i][n + 1] == ' ');
    return NULL;
}

static void unescape(char *path)
{
    char *to = path;
    unsigned byte;
    for (; *path; path++) {
        if (*path == '%' && sscanf(path + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            path += 2;
        } else {
            *to++ = *path;
        }
    }
    *to = '\0';
}

static void arrive(void *arg)
{
    struct http_call *c = arg;
    struct buf body = BUF_INIT(SIZE_MAX / 2);
    c->arrived = true;
    for (size_t i = 0; i < c->body_count; i++)
        buf_xadd(&body, c->body[i].data, c->body[i].len);
    for (size_t n = 1; c->body == NULL && c->read && n > 0; body.len += n) {
        char *room = buf_reserve(&body, 65536);
        n = c->read(c->read_arg, room, 65536);
    }
    const char *host = strstr(c->url, "://"), *slash = host ? strchr(host + 3, '/') : NULL;
    AUTO(free_ptr) char *origin = slash ? xstrndup(c->url, (size_t)(slash - c->url)) : xstrdup(c->url);
    const char *path = slash ? slash : "/";
    size_t path_len = strcspn(path, "?");
    AUTO(free_ptr) char *decoded = xstrndup(path, path_len);
    unescape(decoded);
    struct mrequest r = {.method = c->method, .path = decoded, .query = path[path_len] ? path + path_len + 1 : "", .origin = origin, .header = header,
                         .header_arg = c, .body = body.data ? body.data : "", .len = body.len};
    model_handle(&c->x, &r);
    buf_free(&body);
}

static void timed_out(void *arg)
{
    struct http_call *c = arg;
    c->late = true;
    exchange_deliver(&c->x);
}

static struct http_call *inproc_send(struct http *h, const struct http_request *r, http_cb *cb, void *arg)
{
    struct inproc *p = (struct inproc *)(void *)h;
    struct bqmodel *m = p->model;
    int64_t latency_us = model_spread_us(m, m->o.latency_ms);
    struct http_call *c = (struct http_call *)(void *)exchange_new(m, answer, sizeof(*c), latency_us - latency_us / 2);
    c->x.release = release;
    c->owner = p;
    c->method = xstrdup(r->method);
    c->url = xstrdup(r->url);
    for (size_t i = 0; r->headers && r->headers[i]; i++) {
        c->headers = xreallocarray(c->headers, i + 1, sizeof(*c->headers));
        c->headers[c->header_count++] = xstrdup(r->headers[i]);
    }
    c->body = r->body ? xmemdup(r->body, sizeof(*r->body) * size_max(r->body_count, 1)) : NULL;
    c->body_count = r->body ? r->body_count : 0;
    c->read = r->read;
    c->read_arg = r->read_arg;
    c->cb = cb;
    c->arg = arg;
    c->max_body = r->max_body ? r->max_body : LIMIT_HTTP_BODY;
    TAILQ_INSERT_TAIL(&p->calls, c, link);
    c->arrive = timer_new(m->loop, arrive, c);
    timer_set(c->arrive, latency_us / 2);
    c->timeout = timer_new(m->loop, timed_out, c);
    int64_t first = r->first_byte_ms ? r->first_byte_ms : FIRST_BYTE_MS, whole = r->whole_ms ? r->whole_ms : WHOLE_MS;
    timer_set(c->timeout, i64_min(first, whole) * US_PER_MS);
    return c;
}

static void inproc_cancel(struct http *h, struct http_call *c)
{
    (void)h;
    exchange_abandon(&c->x);
}

static void drop_all(struct http *h)
{
    struct inproc *p = (struct inproc *)(void *)h;
    while (!TAILQ_EMPTY(&p->calls))
        exchange_abandon(&TAILQ_FIRST(&p->calls)->x);
}

void inproc_free(struct inproc *p)
{
    if (p)
        drop_all(&p->http);
    free(p);
}

struct http *bqmodel_http(struct bqmodel *m)
{
    static const struct http_ops ops = {inproc_send, inproc_cancel, drop_all};
    if (m->inproc == NULL) {
        m->inproc = xcalloc(1, sizeof(*m->inproc));
        m->inproc->http.ops = &ops;
        m->inproc->model = m;
        TAILQ_INIT(&m->inproc->calls);
    }
    return &m->inproc->http;
}
