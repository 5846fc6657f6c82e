#include "tests/bq/internal.h"

#include <ctype.h>

/* From a request to its handler, and from an answer to its transport. */

/* --- exchanges ------------------------------------------------------------------------------------------------------------------------------- */

static void reply_free(struct mreply *r)
{
    free(r->header);
    free(r->body);
    *r = (struct mreply){0};
}

static void detach(struct exchange *x)
{
    if (x->detached)
        return;
    x->detached = true;
    TAILQ_REMOVE(&x->model->exchanges, x, link);
    x->model->requests_now -= x->open;
    if (x->release)
        x->release(x);
    waiter_free(x->waiter);
    pass_free(x->pass);
    free(x->query);
    timer_free(x->timer);
}

static void free_memory(struct exchange *x)
{
    reply_free(&x->reply);
    reply_free(&x->instead);
    free(x);
}

/* The callback may end everything: its transport, the model. */
void exchange_deliver(void *exchange)
{
    struct exchange *x = exchange;
    x->delivering = true;
    x->answer(x, &x->reply);
    detach(x);
    free_memory(x);
}

void exchange_abandon(struct exchange *x)
{
    detach(x);
    if (!x->delivering)
        free_memory(x);
}

struct exchange *exchange_new(struct bqmodel *m, void (*answer)(struct exchange *, struct mreply *), size_t size, int64_t delay_us)
{
    struct exchange *x = xcalloc(1, size);
    x->model = m;
    x->answer = answer;
    x->delay_us = delay_us;
    x->timer = timer_new(m->loop, exchange_deliver, x);
    TAILQ_INSERT_TAIL(&m->exchanges, x, link);
    return x;
}

static void reply(struct exchange *x, struct mreply r)
{
    x->model->requests_now -= x->open;
    x->open = false;
    x->reply = r;
    if (x->instead.status != 0) {
        reply_free(&x->reply);
        x->reply = x->instead;
        x->instead = (struct mreply){0};
    }
    if (x->cut != CUT_NOT) { /* what has no body is lost as a whole */
        size_t len = x->reply.body ? strlen(x->reply.body) : 0;
        x->kept = x->kept ? i64_min(x->kept, (int64_t)len) : (int64_t)len / 2;
        x->lose |= len == 0;
        if (x->cut == CUT_BODY && len > 0)
            x->reply.body[x->kept] = '\0';
    }
    if (x->lose)
        reply_free(&x->reply);
    timer_set(x->timer, x->delay_us);
}

void reply_raw(struct exchange *x, int status, char *header, char *body)
{
    reply(x, (struct mreply){.status = status, .header = header, .body = body});
}

void reply_doc(struct exchange *x, int status, doc *d)
{
    check_answer(x, status, d);
    reply_raw(x, status, NULL, doc_text(d));
    doc_free(d);
}

char *error_body(int status, const char *reason, const char *message)
{
    doc *one = doc_set_str(doc_set_str(doc_set_str(doc_object(), "message", message), "domain", "global"), "reason", reason);
    doc *error = doc_set_int(doc_object(), "code", status);
    doc_set(doc_set_str(error, "message", message), "errors", doc_add(doc_array(), one));
    AUTO(doc_free_auto) doc *d = doc_set(doc_object(), "error", error);
    return doc_text(d);
}

void reply_error(struct exchange *x, int status, const char *reason, const char *fmt, ...)
{
    struct error text = ERROR_INIT;
    va_list ap;
    va_start(ap, fmt);
    error_vset(&text, ERR_TASK, 0, fmt, ap);
    va_end(ap);
    reply_raw(x, status, NULL, error_body(status, reason, text.text));
}

/* --- queries ("a=b&c=d") --------------------------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void decode(const char *in, size_t len, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < size; i++) {
        bool escape = in[i] == '%' && i + 2 < len && hex(in[i + 1]) >= 0 && hex(in[i + 2]) >= 0;
        out[n++] = escape ? (char)(hex(in[i + 1]) * 16 + hex(in[i + 2])) : in[i];
        i += escape ? 2 : 0;
    }
    out[n] = '\0';
}

bool query_value(const struct mrequest *r, const char *name, char *out, size_t size)
{
    size_t len = strlen(name);
    out[0] = '\0';
    for (const char *p = r->query; *p;) {
        size_t n = strcspn(p, "&");
        if (n > len && strncmp(p, name, len) == 0 && p[len] == '=') {
            decode(p + len + 1, n - len - 1, out, size);
            return true;
        }
        p += n + (p[n] == '&');
    }
    return false;
}

int64_t query_int(const struct mrequest *r, const char *name, int64_t fallback)
{
    char text[64];
    return query_value(r, name, text, sizeof(text)) && isdigit((unsigned char)text[0]) ? strtoll(text, NULL, 10) : fallback;
}

/* --- routes ---------------------------------------------------------------------------------------------------------------------------------- */

static const char *behind(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 ? path + n : NULL;
}

static void split(struct route *to, const char *path)
{
    to->copy = xstrdup(path);
    for (char *rest = to->copy, *piece; to->count < SEGMENTS_MAX && (piece = strsep(&rest, "/")) != NULL;)
        to->seg[to->count++] = piece;
}

static void dispatch(struct exchange *x, const struct mrequest *r)
{
    const char *path = behind(r->path, "/bigquery/v2/projects/"), *upload = behind(r->path, "/upload/bigquery/v2/projects/");
    struct route to = {.r = r};
    if (path == NULL && upload == NULL) {
        reply_raw(x, 404, xstrdup("Content-Type: text/html"), xstrdup("<html><title>404</title>Not Found</html>"));
        return;
    }
    split(&to, path ? path : upload);
    const char *kind = to.count > 1 ? to.seg[1] : "";
    if (upload && to.count == 2 && strcmp(kind, "jobs") == 0)
        rest_upload(x, &to);
    else if (path && x->model->front && strcmp(kind, "jobs") != 0 && strcmp(kind, "queries") != 0)
        front_pass(x, r);
    else if (path && strcmp(kind, "datasets") == 0)
        rest_tables(x, &to);
    else if (path && (strcmp(kind, "jobs") == 0 || strcmp(kind, "queries") == 0))
        rest_jobs(x, &to);
    else
        reply_error(x, 404, "notFound", "bqmodel: nothing is at %s", r->path);
    free(to.copy);
}

/* True: the request ends here. */
static bool apply_fault(struct exchange *x, const struct mrequest *r, const char *job_id)
{
    AUTO(free_ptr) char *subject = xasprintf("%s %s%s%s", r->method, r->path, *r->query ? "?" : "", r->query);
    const struct bqmodel_fault *f = fault_take(x->model, FAULT_REQUEST, subject, job_id);
    f = f || tokens_path(x->model, r) ? f : chaos_request(x->model, r);
    if (f == NULL)
        return false;
    if (f->kind == BQMODEL_DROP_BEFORE) {
        reply_raw(x, 0, NULL, NULL);
        return true;
    }
    if (f->kind == BQMODEL_DELAY)
        x->delay_us += f->ms * US_PER_MS;
    x->hasty = f->kind == BQMODEL_HASTY;
    x->lose = f->kind == BQMODEL_LOSE_REPLY;
    x->cut = f->kind == BQMODEL_CUT_REPLY ? CUT_CONNECTION : f->kind == BQMODEL_CUT_BODY ? CUT_BODY : CUT_NOT;
    x->kept = f->bytes;
    if (f->kind == BQMODEL_STATUS) {
        x->instead.status = f->status;
        x->instead.header = f->body ? xstrdup("Content-Type: text/html") : f->retry_after_s ? xasprintf("Retry-After: %d", f->retry_after_s) : NULL;
        x->instead.body = f->body ? xstrdup(f->body) : error_body(f->status, f->reason, f->message);
        if (!f->executed)
            reply_raw(x, f->status, NULL, NULL);
        return !f->executed;
    }
    return false;
}

void model_handle(struct exchange *x, const struct mrequest *r)
{
    struct bqmodel *m = x->model;
    if (m->server && control_handle(x, r))
        return;
    m->requests_now++;
    x->open = true;
    bool for_token = tokens_path(m, r);
    if (!for_token)
        check_request(x, r);
    m->counters.requests++;
    m->counters.requests_at_once = i64_max(m->counters.requests_at_once, m->requests_now);
    char job_id[1100] = "";
    if (!TAILQ_EMPTY(&m->faults))
        request_job_id(m, r, job_id, sizeof(job_id));
    if (apply_fault(x, r, job_id))
        return;
    if (for_token)
        tokens_answer(x, r);
    else if (tokens_check(x, r) && limit_requests(x))
        dispatch(x, r);
}
