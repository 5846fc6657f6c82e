#include "common/bq/bq.h"

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/bq/internal.h"

/*
 * One request with its repeats: the gate that all pass, credentials, send, then by the answer: done; refreshed credentials (a 401, once until there is another answer); a wait and again
 * (ERR_RETRY); or the error. A call ends before its callback is made, so that the callback may end anything else. It waits at the gate within its ten minutes.
 */

static const struct retry_policy policy = {.base_ms = 1000, .cap_ms = 32000, .budget_ms = 600000};

#define HEADERS_MAX 12
struct bq_call {
    LIST_ENTRY(bq_call) link;
    struct gate_pass pass;
    struct bq *bq;
    char *method, *url;
    char *text;                      /* the JSON body, or NULL */
    struct http_slice text_slice;
    const struct http_slice *body;   /* text's, or the caller's */
    size_t body_count;
    char *headers[HEADERS_MAX + 1];  /* the caller's, and the body's type */
    int64_t first_byte_ms, began_ms;
    uint64_t stamp;                  /* of the credentials it went out with */
    bq_cb *cb;
    void *arg;
    const struct bq_hooks *hooks;    /* NULL: arg is not ours */
    struct timer *timer;
    struct http_call *http;
    struct error unsent;             /* why it was not sent: delivered by the timer */
    int failures;
    bool once, urgent, absent_ok;
    bool (*sound)(const doc *);
    bool refreshed;                  /* for a 401; another one at once will not be mended by that */
    bool asking;                     /* auth will call back, which cannot be cancelled */
    bool dead;                       /* cancelled while asking */
    bool maybe_executed;             /* by any of the tries */
};

static void attempt(struct bq_call *);

static void memory_free(struct bq_call *c)
{
    free(c->method);
    free(c->url);
    free(c->text);
    for (size_t i = 0; c->headers[i]; i++)
        free(c->headers[i]);
    free(c);
}

void bq_call_cancel(struct bq_call *c)
{
    if (c == NULL)
        return;
    LIST_REMOVE(c, link);
    gate_forget(c->bq->gate, &c->pass);
    timer_free(c->timer);
    c->timer = NULL;
    if (c->http)
        http_cancel(c->bq->http, c->http);
    c->dead = true;
    if (c->hooks)
        c->hooks->release(c->arg);
    c->hooks = NULL;
    if (!c->asking) /* else when the credentials come */
        memory_free(c);
}

static void end(struct bq_call *c, struct bq_answer *a)
{
    bq_cb *cb = c->cb;
    void *arg = c->arg;
    const struct bq_hooks *hooks = c->hooks;
    a->maybe_executed = c->maybe_executed;
    c->hooks = NULL;
    bq_call_cancel(c);
    cb(arg, a);
    if (hooks)
        hooks->release(arg);
}

/* Waits and tries again, or ends with the error. */
static void failed(struct bq_call *c, struct bq_answer *a)
{
    int64_t elapsed_ms = loop_now_ms(c->bq->loop) - c->began_ms;
    int64_t delay_ms = -1;
    if (!c->once && a->err->kind == ERR_RETRY)
        delay_ms = retry_delay(&policy, ++c->failures, elapsed_ms, a->err, rnd_real(c->bq->rnd));
    if (delay_ms < 0) {
        end(c, a);
        return;
    }
    if (gate_is_down(c->bq->gate) && a->err->retry_after_ms == 0) /* it is the gate that lets nobody hurry */
        delay_ms = 0;
    log_debug("%s %s: %s; again in %" PRId64 " ms", c->method, c->url, a->err->text, delay_ms);
    metric_add(c->bq->metrics, METRIC_HTTP_RETRIES, 1);
    timer_set(c->timer, delay_ms * US_PER_MS);
}

/* The service's words for an error: the first entry of error.errors, and the message. */
static const struct failure_row *read_error(const struct http_response *r, const doc *body, struct error *err)
{
    const doc *list = doc_get(body, "error.errors");
    const char *reason = doc_len(list) > 0 ? doc_str(doc_at(list, 0), "reason", "") : "";
    const char *message = doc_str(body, "error.message", "");
    if (*message == '\0' && doc_len(list) > 0)
        message = doc_str(doc_at(list, 0), "message", "");
    char plain[256] = "";
    assert(r->body != NULL);
    if (*message == '\0' && r->body->len > 0) { /* a proxy's page */
        snprintf(plain, sizeof(plain), "status %d: %.200s", r->status, r->body->data);
        message = plain;
    }
    const struct failure_row *row = bq_classify(r->status, reason, message, false, err);
    const char *after = http_header(r, "Retry-After");
    if (after && *after >= '0' && *after <= '9' && err->kind == ERR_RETRY)
        err->retry_after_ms = i64_min(strtol(after, NULL, 10), 86400) * 1000; /* seconds; the form with a date is not used by Google */
    return row;
}

static enum gate_answer told(const struct http_response *r, const struct failure_row *row)
{
    if (r->status == 0)
        return r->err->kind == ERR_RETRY ? GATE_SILENT : GATE_NOT_SENT;
    if (row != NULL && row->crowded)
        return GATE_CROWDED;
    return r->status >= 500 && row != NULL && row->kind == ERR_RETRY ? GATE_SILENT : GATE_WELL;
}

/* The answer's body. What cannot be BigQuery's, as a proxy's page, is an error, whatever its status says. */
static doc *read_body(const struct bq_call *c, const struct http_response *r, bool good, struct error *err)
{
    doc *body = NULL;
    if (r->body && r->body->len > 0 && r->status != 308)
        body = doc_parse(r->body->data, r->body->len, "BigQuery's answer", err);
    if (good && r->status != 308 && err->kind == ERR_NONE && c->sound && !c->sound(body))
        error_set(err, ERR_RETRY, r->status, "status %d, and not what BigQuery answers: %.200s", r->status, r->body && r->body->len > 0 ? r->body->data : "nothing");
    return body;
}

/* A 404 that BigQuery has not said: of who knows what. A session's needs no words. */
static bool is_strange(const struct bq_call *c, int status, const doc *body)
{
    return status == 404 && (c->sound || c->absent_ok) && !c->once && doc_type(doc_get(body, "error")) != DOC_OBJECT;
}

static void answered(void *arg, struct http_response *r)
{
    struct bq_call *c = arg;
    c->http = NULL;
    struct error err = ERROR_INIT;
    struct bq_answer a = {.status = r->status, .err = &err, .http = r};
    c->maybe_executed |= r->maybe_executed || r->status >= 500;
    c->refreshed = c->refreshed && r->status == 401; /* else it took the credentials, or was away: by the next 401 they may have ended again */
    if (r->status == 0) {
        metric_add(c->bq->metrics, METRIC_HTTP_FAILURES, 1);
        gate_leave(c->bq->gate, &c->pass, told(r, NULL), r->err->text);
        a.err = r->err;
        failed(c, &a);
        return;
    }
    bool good = (r->status >= 200 && r->status < 300) || r->status == 308;
    AUTO(doc_free_auto) doc *body = read_body(c, r, good, &err);
    a.doc = body;
    if (!good)
        a.failure = read_error(r, body, &err);
    gate_leave(c->bq->gate, &c->pass, told(r, a.failure), err.text);
    if (a.failure != NULL && a.failure->parks == WORK_REQUESTS)
        quotas_park(c->bq->quotas, &(struct quota_claim){.project = c->bq->project}, a.failure, err.text);
    else
        quotas_requests_passed(c->bq->quotas);
    if (r->status == 401 && !c->refreshed) {
        c->refreshed = true;
        auth_refused(c->bq->auth, c->stamp);
        timer_set(c->timer, 0);
    } else if (is_strange(c, r->status, body)) {
        err.kind = ERR_RETRY;
        failed(c, &a);
    } else if (r->status == 404 && c->absent_ok) {
        a.doc = NULL;
        a.err = NULL;
        end(c, &a);
    } else if (!good) {
        failed(c, &a);
    } else if (err.kind != ERR_NONE) { /* cut short, or not BigQuery's */
        err.kind = ERR_RETRY;
        c->maybe_executed = true;
        failed(c, &a);
    } else {
        a.err = NULL;
        if (c->hooks && c->hooks->more && c->hooks->more(c, c->arg, &a)) {
            c->failures = 0;
            c->refreshed = false;
            c->began_ms = loop_now_ms(c->bq->loop);
            attempt(c);
        } else {
            end(c, &a);
        }
    }
}

static void send_with(void *arg, const char *authorization, const struct error *err)
{
    struct bq_call *c = arg;
    c->asking = false;
    if (c->dead) {
        memory_free(c);
        return;
    }
    if (err && err->kind != ERR_NONE) { /* perhaps still inside bq_send, which must not call back */
        c->unsent = *err;
        timer_set(c->timer, 0);
        return;
    }
    const char *headers[HEADERS_MAX + 2];
    size_t n = 0;
    for (; c->headers[n]; n++)
        headers[n] = c->headers[n];
    if (authorization)
        headers[n++] = authorization;
    headers[n] = NULL;
    c->stamp = auth_stamp(authorization);
    struct http_request r = {
        .method = c->method, .url = c->url, .headers = headers, .body = c->body, .body_count = c->body_count,
        .first_byte_ms = c->first_byte_ms, .urgent = c->urgent,
    };
    metric_add(c->bq->metrics, METRIC_HTTP_REQUESTS, 1);
    c->http = http_send(c->bq->http, &r, answered, c);
}

static void go(void *arg)
{
    struct bq_call *c = arg;
    timer_stop(c->timer);
    int64_t parked_ms = quotas_requests_wait_ms(c->bq->quotas);
    if (parked_ms > 0) {
        error_set(&c->unsent, ERR_QUOTA, 0, "BigQuery: %s", quotas_text(c->bq->quotas, NULL));
        error_reason(&c->unsent, "quotaExceeded");
        c->unsent.retry_after_ms = parked_ms;
        timer_set(c->timer, 0);
        return;
    }
    c->asking = true;
    auth_header(c->bq->auth, send_with, c);
}

static void attempt(struct bq_call *c)
{
    if (gate_enter(c->bq->gate, &c->pass)) {
        go(c);
        return;
    }
    int64_t left_ms = policy.budget_ms - (loop_now_ms(c->bq->loop) - c->began_ms);
    timer_set(c->timer, i64_max(left_ms, 0) * US_PER_MS);
}

/* It was not let through in all its time. */
static void waited(struct bq_call *c)
{
    struct error err = ERROR_INIT;
    error_set(&err, ERR_RETRY, 0, "BigQuery does not answer: %.900s", gate_trouble(c->bq->gate));
    error_reason(&err, "timeout");
    end(c, &(struct bq_answer){.err = &err});
}

static void on_timer(void *arg)
{
    struct bq_call *c = arg;
    if (c->pass.place == GATE_WAITING) {
        waited(c);
        return;
    }
    if (c->unsent.kind == ERR_NONE) {
        attempt(c);
        return;
    }
    struct error err = c->unsent;
    c->unsent.kind = ERR_NONE;
    gate_leave(c->bq->gate, &c->pass, GATE_NOT_SENT, NULL);
    failed(c, &(struct bq_answer){.err = &err});
}

static char *whole_url(const struct bq *bq, const struct bq_request *r)
{
    if (r->url) /* a session's address may be relative */
        return r->url[0] == '/' ? xasprintf("%s%s", bq->base_url, r->url) : xstrdup(r->url);
    const char *query = r->query ? r->query : "";
    size_t n = strlen(query);
    bool open = n == 0 || query[n - 1] == '&';
    return xasprintf("%s%s/bigquery/v2%s?%s%sprettyPrint=false", bq->base_url, r->upload ? "/upload" : "", r->path, query, open ? "" : "&");
}

void bq_call_redirect(struct bq_call *c, const char *path, const char *query)
{
    free(c->url);
    c->url = whole_url(c->bq, &(struct bq_request){.path = path, .query = query});
}

struct bq_call *bq_send(struct bq *bq, const struct bq_request *r, bq_cb *cb, void *arg)
{
    return bq_send_owned(bq, r, cb, arg, NULL);
}

struct bq_call *bq_send_owned(struct bq *bq, const struct bq_request *r, bq_cb *cb, void *arg, const struct bq_hooks *hooks)
{
    struct bq_call *c = xcalloc(1, sizeof(*c));
    c->bq = bq;
    c->method = xstrdup(r->method);
    c->url = whole_url(bq, r);
    c->first_byte_ms = r->first_byte_ms;
    c->once = r->once;
    c->urgent = r->urgent;
    c->absent_ok = r->absent_ok;
    c->sound = r->sound;
    c->pass = (struct gate_pass){.go = go, .arg = c, .urgent = r->urgent, .failed = r->again};
    c->hooks = hooks;
    c->cb = cb;
    c->arg = arg;
    c->began_ms = loop_now_ms(bq->loop);
    size_t n = 0;
    for (; r->headers && r->headers[n]; n++) {
        assert(n + 1 < HEADERS_MAX);
        c->headers[n] = xstrdup(r->headers[n]);
    }
    if (r->body) {
        c->text = doc_text(r->body);
        c->headers[n++] = xstrdup("Content-Type: application/json; charset=UTF-8");
        c->text_slice = (struct http_slice){c->text, strlen(c->text)};
        c->body = &c->text_slice;
        c->body_count = 1;
    } else if (r->media) {
        c->body = r->media;
        c->body_count = r->media_count;
    }
    c->timer = timer_new(bq->loop, on_timer, c);
    LIST_INSERT_HEAD(&bq->calls, c, link);
    attempt(c);
    return c;
}
