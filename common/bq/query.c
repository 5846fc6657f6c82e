#include "common/bq/internal.h"

/* A query for its rows: its job first, then getQueryResults page by page. One page is held; the next is asked for when it is used up. */

#define PAGE_ROWS 10000

struct bq_query {
    struct bq *bq;
    struct bq_query_events events;
    void *arg;
    struct bq_job *job;
    struct bq_call *call;
    struct timer *timer;      /* goes on after a pause, outside of the caller's stack */
    char *job_id, *location, *token;
    int page_rows;
    doc *page;                /* NULL: none held */
    size_t next;              /* row of the page */
    int64_t total;
    bool schema_told, in_row, stopped;
};

static void ask(struct bq_query *);

static void query_free(struct bq_query *q)
{
    bq_job_stop(q->job, false);
    bq_call_cancel(q->call);
    timer_free(q->timer);
    doc_free(q->page);
    free(q->job_id);
    free(q->location);
    free(q->token);
    free(q);
}

void bq_query_stop(struct bq_query *q)
{
    if (q == NULL)
        return;
    if (q->in_row) /* freed when row() or schema() has returned */
        q->stopped = true;
    else
        query_free(q);
}

static void end(struct bq_query *q, const struct error *err)
{
    void (*tell)(void *, const struct error *, int64_t) = q->events.end;
    void *arg = q->arg;
    int64_t total = q->total;
    struct error copy = err ? *err : ERROR_INIT;
    query_free(q);
    tell(arg, err ? &copy : NULL, total);
}

/* Hands out the rows of the page, until it is used up, or row() says stop. */
static void hand_out(void *arg)
{
    struct bq_query *q = arg;
    timer_stop(q->timer);
    if (q->page == NULL) /* resumed without having paused */
        return;
    const doc *rows = doc_get(q->page, "rows");
    bool go_on = true;
    q->in_row = true;
    while (go_on && !q->stopped && q->next < doc_len(rows))
        go_on = q->events.row(q->arg, doc_at(rows, q->next++));
    q->in_row = false;
    if (q->stopped) {
        query_free(q);
        return;
    }
    if (!go_on) /* also after the last row: the end waits too */
        return;
    doc_free(q->page);
    q->page = NULL;
    if (q->token)
        ask(q);
    else
        end(q, NULL);
}

void bq_query_resume(struct bq_query *q)
{
    if (q->page && !timer_is_set(q->timer))
        timer_set(q->timer, 0);
}

static void got_page(void *arg, const struct bq_answer *a)
{
    struct bq_query *q = arg;
    q->call = NULL;
    if (a->err) {
        struct error err = *a->err;
        error_prefix(&err, "rows of %s", q->job_id);
        end(q, &err);
        return;
    }
    const doc *fields = doc_get(a->doc, "schema.fields");
    if (!q->schema_told && q->events.schema && doc_type(fields) != DOC_ARRAY) {
        struct error err = ERROR_INIT;
        error_set(&err, ERR_RETRY, 0, "rows of %s: the answer has no schema", q->job_id);
        end(q, &err);
        return;
    }
    const char *token = doc_str(a->doc, "pageToken", "");
    free(q->token);
    q->token = *token ? xstrdup(token) : NULL;
    q->total = doc_int(a->doc, "totalRows", q->total);
    if (!q->schema_told) {
        q->schema_told = q->in_row = true;
        if (q->events.schema)
            q->events.schema(q->arg, fields);
        q->in_row = false;
        if (q->stopped) {
            query_free(q);
            return;
        }
    }
    q->page = doc_ref((doc *)(uintptr_t)a->doc);
    q->next = 0;
    hand_out(q);
}

static void ask(struct bq_query *q)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX * 4);
    buf_xputs(&path, "/projects/");
    http_escape(&path, q->bq->project);
    buf_xputs(&path, "/queries/");
    http_escape(&path, q->job_id);
    bq_location_query(q->location, &query);
    buf_xprintf(&query, "maxResults=%d&formatOptions.useInt64Timestamp=true&", q->page_rows);
    if (q->token) {
        buf_xputs(&query, "pageToken=");
        http_escape(&query, q->token);
        buf_xputs(&query, "&");
    }
    q->call = bq_send(q->bq, &(struct bq_request){.method = "GET", .path = path.data, .query = query.data}, got_page, q);
    buf_free(&path);
    buf_free(&query);
}

static void job_done(void *arg, const struct bq_job_result *r)
{
    struct bq_query *q = arg;
    q->job = NULL;
    if (r->err) {
        end(q, r->err);
        return;
    }
    q->job_id = xstrdup(r->job_id);
    const char *location = doc_str(r->job, "jobReference.location", "");
    if (*location) {
        free(q->location);
        q->location = xstrdup(location);
    }
    ask(q);
}

struct bq_query *bq_query_start(struct bq *bq, const struct bq_job_spec *spec, int page_rows, const struct bq_query_events *events, void *arg)
{
    struct bq_query *q = xcalloc(1, sizeof(*q));
    q->bq = bq;
    q->events = *events;
    q->arg = arg;
    q->page_rows = page_rows > 0 ? page_rows : PAGE_ROWS;
    q->location = spec->location ? xstrdup(spec->location) : NULL;
    q->timer = timer_new(bq->loop, hand_out, q);
    q->job = bq_job_start(bq, spec, job_done, q);
    return q;
}

const char *bq_query_state(const struct bq_query *q)
{
    return q->job ? bq_job_state(q->job) : "reading rows";
}
