#include "tests/bq/sql_dedupe.h"

#include <strings.h>

/* jobs.insert, get, list, cancel; queries (getQueryResults). */

#define WAIT_DEFAULT_MS 10000
#define WAIT_MAX_MS 200000

void reply_job(struct exchange *x, const struct mjob *j)
{
    reply_doc(x, 200, mjob_resource(j));
}

/* The same by jobs.get. */
static void reply_read(struct exchange *x, struct mjob *j)
{
    bool bare = j->bare && j->state == JOB_DONE;
    j->bare = j->bare && !bare;
    doc *resource = mjob_resource(j);
    reply_doc(x, 200, bare ? mjob_without_figures(resource) : resource);
}

static void reply_place(struct exchange *x, const char *sql, const char *at)
{
    int line = 1, column = 1;
    for (const char *p = sql; p < at; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    reply_error(x, 400, "invalidQuery", "Syntax error: the model does not know this statement at [%d:%d]", line, column);
}

static void dry_run(struct exchange *x, const doc *body)
{
    const char *sql = doc_str(body, "configuration.query.query", ""), *at = sql;
    struct stmt *s = stmt_parse(sql, &at);
    struct error err = ERROR_INIT;
    x->model->counters.dry_runs++;
    if (s == NULL) {
        reply_place(x, sql, at);
        return;
    }
    if (stmt_group_analyze(x->model, s, &err) != 0) {
        reply_error(x, http_status_of(err.reason), err.reason, "%s", err.text);
        stmt_free(s);
        return;
    }
    doc *query = doc_set_str(doc_set_str(doc_object(), "statementType", stmt_type(s)), "totalBytesProcessed", "0");
    if (s->group)
        doc_set(query, "schema", stmt_group_fields(s->group));
    doc *statistics = doc_set_str(doc_set(doc_object(), "query", query), "totalBytesProcessed", "0");
    doc *answer = doc_set(doc_set_str(doc_object(), "kind", "bigquery#job"), "statistics", statistics);
    doc_set(answer, "configuration", doc_set_bool(doc_object(), "dryRun", true));
    stmt_free(s);
    reply_doc(x, 200, doc_set(answer, "status", doc_set_str(doc_object(), "state", "DONE")));
}

static void insert(struct exchange *x, const struct route *to)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *body = doc_parse(to->r->body, to->r->len, "request", &err);
    if (body == NULL) {
        reply_error(x, 400, "parseError", "Parse Error: %s", err.text);
        return;
    }
    if (doc_bool(body, "configuration.dryRun", false)) {
        x->model->front ? front_pass(x, to->r) : dry_run(x, body);
        return;
    }
    const struct mjob *j = model_job_insert(x->model, to->seg[0], body, NULL, 0, &err);
    if (j)
        reply_job(x, j);
    else
        reply_error(x, err.code, err.reason, "%s", err.text);
}

/* With the location where it is needed. NULL: answered. */
static struct mjob *find(struct exchange *x, const struct route *to)
{
    struct bqmodel *m = x->model;
    char location[64];
    query_value(to->r, "location", location, sizeof(location));
    struct mjob *j = model_job(m, to->seg[0], to->seg[2]);
    if (j && m->needs_location && strcasecmp(location, m->location) != 0)
        j = NULL;
    if (j && loop_now_ms(m->loop) < j->unseen_ms)
        j = NULL;
    if (j == NULL)
        reply_error(x, 404, "notFound", "Not found: Job %s:%s", to->seg[0], to->seg[2]);
    return j;
}

static void list(struct exchange *x, const struct route *to)
{
    doc *jobs = doc_array();
    int64_t max = query_int(to->r, "maxResults", 1000);
    const struct mjob *j;
    TAILQ_FOREACH_REVERSE(j, &x->model->jobs, mjobs, link)
    {
        if ((int64_t)doc_len(jobs) == max)
            break;
        if (strcmp(j->project, to->seg[0]) == 0)
            doc_add(jobs, mjob_resource(j));
    }
    reply_doc(x, 200, doc_set(doc_set_str(doc_object(), "kind", "bigquery#jobList"), "jobs", jobs));
}

/* --- getQueryResults -------------------------------------------------------------------------------------------------------------------------- */

/* One page of a SELECT's rows; the token is where the next one begins. */
static void put_rows(const struct exchange *x, const struct mjob *j, doc *d)
{
    int64_t rows = (int64_t)doc_len(j->effects.result), max = i64_min(x->page_rows, x->model->o.page_rows), end = i64_min(x->page_from + max, rows);
    doc *page = doc_array();
    for (int64_t i = x->page_from; i < end; i++)
        doc_add(page, doc_copy(doc_at(j->effects.result, (size_t)i)));
    doc_set(d, "schema", j->stmt->dedupe ? dedupe_stmt_fields() : j->stmt->range ? range_fields() : stmt_group_fields(j->stmt->group));
    doc_set_int_text(d, "totalRows", rows);
    doc_set(d, "rows", page);
    if (max > 0 && end < rows)
        doc_set_int_text(d, "pageToken", end);
}

static void answer_results(struct exchange *x, const struct mjob *j)
{
    if (j->state == JOB_DONE && j->outcome.kind != ERR_NONE) { /* a failed job comes as a failed request */
        reply_error(x, http_status_of(j->outcome.reason), j->outcome.reason, "%s", j->outcome.text);
        return;
    }
    if (j->state == JOB_DONE && x->model->front && !job_writes(j)) {
        front_results(x, j);
        return;
    }
    const struct effects *e = &j->effects;
    doc *d = doc_set_bool(doc_set_str(doc_object(), "kind", "bigquery#getQueryResultsResponse"), "jobComplete", j->state == JOB_DONE);
    doc *reference = doc_set_str(doc_set_str(doc_object(), "projectId", j->project), "jobId", j->id);
    doc_set(d, "jobReference", doc_set_str(reference, "location", j->model->location));
    if (j->state == JOB_DONE && j->stmt && j->stmt->kind == STMT_SELECT) {
        put_rows(x, j, d);
    } else if (j->state == JOB_DONE) {
        doc_set_str(d, "totalRows", "0");
        doc_set_int_text(d, "numDmlAffectedRows", e->inserted + e->updated + e->deleted);
        doc_set_bool(d, "cacheHit", false);
    }
    reply_doc(x, 200, d);
}

void waiter_free(struct waiter *w)
{
    if (w == NULL)
        return;
    TAILQ_REMOVE(&w->job->waiters, w, link);
    w->x->waiter = NULL;
    timer_free(w->timer);
    free(w);
}

static void out_of_patience(void *arg)
{
    const struct waiter *w = arg;
    const struct mjob *j = w->job;
    struct exchange *x = w->x;
    waiter_free(x->waiter);
    answer_results(x, j);
}

void waiters_wake(struct mjob *j)
{
    struct waiter *w;
    while ((w = TAILQ_FIRST(&j->waiters)) != NULL)
        out_of_patience(w);
}

static void results(struct exchange *x, const struct route *to, struct mjob *j)
{
    int64_t wait_ms = i64_min(query_int(to->r, "timeoutMs", WAIT_DEFAULT_MS), WAIT_MAX_MS);
    x->page_rows = query_int(to->r, "maxResults", x->model->o.page_rows);
    x->page_from = query_int(to->r, "pageToken", 0);
    x->query = x->model->front ? xstrdup(to->r->query) : NULL;
    if (j->is_load) {
        reply_error(x, 400, "invalid", "Job %s:%s is not a query job.", j->project, j->id);
    } else if (j->state == JOB_DONE || wait_ms == 0 || x->hasty) {
        answer_results(x, j);
    } else {
        struct waiter *w = xcalloc(1, sizeof(*w));
        *w = (struct waiter){.job = j, .x = x};
        x->waiter = w;
        w->timer = timer_new(x->model->loop, out_of_patience, w);
        timer_set(w->timer, wait_ms * US_PER_MS);
        TAILQ_INSERT_TAIL(&j->waiters, w, link);
    }
}

void rest_jobs(struct exchange *x, const struct route *to)
{
    bool post = strcmp(to->r->method, "POST") == 0, get = strcmp(to->r->method, "GET") == 0, jobs = strcmp(to->seg[1], "jobs") == 0;
    struct mjob *j = NULL;
    if (jobs && to->count == 2 && post) {
        insert(x, to);
    } else if (jobs && to->count == 2 && get) {
        list(x, to);
    } else if (to->count == 3 && get) {
        if ((j = find(x, to)) != NULL && jobs)
            reply_read(x, j);
        else if (j)
            results(x, to, j);
    } else if (jobs && to->count == 4 && post && strcmp(to->seg[3], "cancel") == 0) {
        if ((j = find(x, to)) != NULL) {
            model_job_cancel(j);
            reply_doc(x, 200, doc_set(doc_set_str(doc_object(), "kind", "bigquery#jobCancelResponse"), "job", mjob_resource(j)));
        }
    } else {
        reply_error(x, 404, "notFound", "bqmodel: %s is not known for %s", to->r->method, to->r->path);
    }
}
