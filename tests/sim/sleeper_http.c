#include "tests/sim/sleeper_internal.h"

#include "common/base/limits.h"

/* Requests: their way out takes a moment, and who is stopped or killed in it may have sent them or not. */

struct http_call {
    LIST_ENTRY(http_call) link;
    struct sleeper *s;
    struct http_request request; /* its texts are ours */
    char *bytes;
    struct http_slice slice;
    char **headers; size_t header_count;
    struct timer *leaves, *late;
    bool executed;
    bool sent;                   /* the kernel has it: it leaves whatever becomes of the process */
    bool gone;                   /* it has left */
    bool forgotten;              /* nobody waits for its answer */
    int refused;                 /* 401 or 403: it is told so; 0: it is not */
    bool answered;               /* too late: its owner was killed, and has yet to forget it */
    http_cb *cb;
    void *arg;
    /* the answer */
    int status;
    struct buf body;
    struct http_header answer[8]; size_t answer_count;
    struct error err;
    bool maybe_executed;
};

static void free_call(struct http_call *c)
{
    LIST_REMOVE(c, link);
    timer_free(c->leaves);
    timer_free(c->late);
    free((char *)(uintptr_t)c->request.method);
    free((char *)(uintptr_t)c->request.url);
    for (size_t i = 0; i < c->header_count; i++)
        free(c->headers[i]);
    free(c->headers);
    free(c->bytes);
    buf_free(&c->body);
    for (size_t i = 0; i < c->answer_count; i++) {
        free((char *)(uintptr_t)c->answer[i].name);
        free((char *)(uintptr_t)c->answer[i].value);
    }
    free(c);
}

static void tell(void *arg)
{
    struct http_call *c = arg;
    if (!c->forgotten && c->s->dead) {
        c->answered = true;
        return;
    }
    if (!c->forgotten) {
        struct http_response r = {.status = c->status, .body = &c->body, .headers = c->answer, .header_count = c->answer_count, .err = &c->err,
                                  .maybe_executed = c->maybe_executed};
        c->cb(c->arg, &r);
    }
    free_call(c);
}

static void on_answer(void *arg, struct http_response *r)
{
    struct http_call *c = arg;
    c->s->outstanding--;
    c->status = r->status;
    c->body = BUF_INIT(LIMIT_HTTP_BODY);
    if (r->body && r->body->len > 0)
        buf_xadd(&c->body, r->body->data, r->body->len);
    for (size_t i = 0; i < r->header_count && i < ARRAY_LEN(c->answer); i++)
        c->answer[c->answer_count++] = (struct http_header){xstrdup(r->headers[i].name), xstrdup(r->headers[i].value)};
    c->err = r->err ? *r->err : ERROR_INIT;
    c->maybe_executed = r->maybe_executed;
    sleeper_happen(c->s, 0, tell, c);
}

/* The other side does not hear it, or its answer is not heard. */
static void on_silence(void *arg)
{
    struct http_call *c = arg;
    struct error err;
    struct buf none = BUF_INIT(1);
    error_set(&err, ERR_RETRY, 0, "%s %s: no answer in time", c->request.method, c->request.url);
    on_answer(c, &(struct http_response){.body = &none, .err = &err, .maybe_executed = c->executed});
}

static void silence(struct http_call *c, bool executed)
{
    c->executed = executed;
    c->late = c->late ? c->late : timer_new(c->s->base, on_silence, c);
    timer_set(c->late, (int64_t)rnd_below(c->s->rnd, 30 * US_PER_S));
}

static void on_outer_answer(void *arg, struct http_response *r)
{
    struct http_call *c = arg;
    if ((c->s->cut & CUT_HTTP_IN) != 0)
        silence(c, true);
    else
        on_answer(c, r);
}

static bool has_any(const struct http_call *c, const char *const *of, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(c->request.url, of[i]) != NULL || (c->slice.len > 0 && memmem(c->slice.data, c->slice.len, of[i], strlen(of[i])) != NULL))
            return true;
    return false;
}

/* Its credentials are not good, or not good for that. Statements name the table of permits, too. */
static bool is_refused(const struct http_call *c)
{
    static const char *const writes[] = {"bqfleet_cut", "bqfleet_direct", "bqfleet_permit"}, *const permits[] = {"bqfleet_permit_", "/bqfleet_permits_", "\"bqfleet_permits_"};
    if ((c->s->cut & (CUT_UNKNOWN | CUT_DENIED)) == 0 || (c->s->cut & (CUT_WRITES | CUT_PERMITS | CUT_TABLES)) == 0)
        return (c->s->cut & (CUT_UNKNOWN | CUT_DENIED)) != 0;
    if ((c->s->cut & CUT_TABLES) != 0)
        return strcmp(c->request.method, "POST") == 0 && strstr(c->request.url, "/tables?") != NULL;
    return (c->s->cut & CUT_WRITES) != 0 ? has_any(c, writes, ARRAY_LEN(writes)) : has_any(c, permits, ARRAY_LEN(permits));
}

static void on_refusal(void *arg)
{
    static const char format[] = "{\"error\":{\"code\":%d,\"message\":\"%s\",\"errors\":[{\"message\":\"%s\",\"domain\":\"global\",\"reason\":\"%s\"}]}}";
    struct http_call *c = arg;
    struct error none = ERROR_INIT;
    struct buf body = BUF_INIT(1024);
    struct http_header type = {(char *)(uintptr_t)"Content-Type", (char *)(uintptr_t)"application/json; charset=UTF-8"};
    const char *text = c->refused == 401 ? "Invalid Credentials" : "Access Denied: the simulation says so";
    buf_xprintf(&body, format, c->refused, text, text, c->refused == 401 ? "authError" : "accessDenied");
    on_answer(c, &(struct http_response){.status = c->refused, .body = &body, .headers = &type, .header_count = 1, .err = &none});
    buf_free(&body);
}

static void leave(void *arg)
{
    struct http_call *c = arg;
    if (c->gone || (c->s->stopped && !c->sent))
        return; /* when it goes on */
    c->gone = true;
    c->s->outstanding++;
    if ((c->s->cut & CUT_HTTP_OUT) != 0) {
        silence(c, false);
        return;
    }
    if (is_refused(c)) {
        c->refused = (c->s->cut & CUT_UNKNOWN) != 0 ? 401 : 403;
        c->late = timer_new(c->s->base, on_refusal, c);
        timer_set(c->late, (int64_t)rnd_below(c->s->rnd, 100 * US_PER_MS));
        return;
    }
    if (c->s->observer.requested)
        c->s->observer.requested(c->s->observer_arg, &c->request);
    http_send(c->s->outer_http, &c->request, on_outer_answer, c);
}

static struct http_call *http_of_sleeper_send(struct http *h, const struct http_request *r, http_cb *cb, void *arg)
{
    struct sleeper *s = (struct sleeper *)(void *)((char *)h - offsetof(struct sleeper, http));
    struct http_call *c = xcalloc(1, sizeof(*c));
    struct buf all = BUF_INIT(SIZE_MAX / 2);
    assert(r->read == NULL);
    *c = (struct http_call){.s = s, .request = *r, .cb = cb, .arg = arg};
    c->request.method = xstrdup(r->method);
    c->request.url = xstrdup(r->url);
    for (size_t i = 0; r->headers && r->headers[i]; i++) {
        c->headers = xreallocarray(c->headers, c->header_count + 2, sizeof(*c->headers));
        c->headers[c->header_count++] = xstrdup(r->headers[i]);
        c->headers[c->header_count] = NULL;
    }
    c->request.headers = (const char *const *)c->headers;
    for (size_t i = 0; i < r->body_count; i++)
        buf_xadd(&all, r->body[i].data, r->body[i].len);
    c->slice = (struct http_slice){all.data, all.len};
    c->bytes = all.data;
    c->request.body = r->body ? &c->slice : NULL;
    c->request.body_count = r->body ? 1 : 0;
    c->sent = sleeper_chance(s, 0.5);
    c->leaves = timer_new(s->base, leave, c);
    timer_set(c->leaves, sleeper_delay_us(s));
    LIST_INSERT_HEAD(&s->calls, c, link);
    return c;
}

/* A closed connection does not call back what was sent. */
static void forget(struct http_call *c)
{
    c->forgotten = true;
    if (c->answered || (!c->gone && !c->sent))
        free_call(c);
    else if (!c->gone)
        leave(c);
}

static void http_of_sleeper_cancel(struct http *h, struct http_call *c)
{
    (void)h;
    forget(c);
}

void sleeper_http_init(struct sleeper *s)
{
    static const struct http_ops ops = {http_of_sleeper_send, http_of_sleeper_cancel, NULL};
    s->http.ops = &ops;
    LIST_INIT(&s->calls);
}

void sleeper_http_leave(struct sleeper *s)
{
    struct http_call *c;
    LIST_FOREACH(c, &s->calls, link)
        if (!c->gone && !timer_is_set(c->leaves))
            timer_set(c->leaves, sleeper_delay_us(s));
}

/* Their owners have not asked for it, and will cancel them: until then they stay. */
void sleeper_http_kill(struct sleeper *s)
{
    struct http_call *c;
    LIST_FOREACH(c, &s->calls, link)
        if (!c->gone && c->sent)
            leave(c);
        else if (!c->gone)
            timer_stop(c->leaves);
}
