#include "tests/bq/internal.h"

#include <strings.h>

/*
 * The model as a front for an emulator, which then is the judge of SQL. What the emulator cannot show stays here: ids of jobs that are used once, their
 * states and times, sessions of uploads, admission and limits of statements, loads and requests, faults and chaos. A job's work is handed on when its
 * time here is over, under its own id, and its outcome taken over; all that concerns tables, and the rows of a SELECT, are passed on as they come.
 * Which statements conflict is the emulator's business.
 */

#define POLL_MS 20
#define BOUNDARY "bqmodel-front-boundary-4c1a9e"

struct front { struct http *http; char *url; };

/* A request that is passed on. */
struct pass {
    struct bqmodel *model;
    struct exchange *x;
    struct http_call *call;
    char *body;
    struct http_slice slice;
};

/* A job's. */
struct handed {
    struct mjob *job;
    struct http_call *call;
    bool inserted;
    struct buf body;
    struct http_slice slice;
};

void bqmodel_front(struct bqmodel *m, const char *url)
{
    m->front = xcalloc(1, sizeof(*m->front));
    m->front->http = http_curl(m->loop, &(struct http_options){.max_requests = 300});
    m->front->url = xasprintf("%s%.*s", strstr(url, "://") ? "" : "http://", (int)(strlen(url) - (url[strlen(url) - 1] == '/')), url);
}

void front_free(struct bqmodel *m)
{
    if (m->front == NULL)
        return;
    http_free(m->front->http);
    free(m->front->url);
    free(m->front);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------------------------- */

void pass_free(struct pass *p)
{
    if (p == NULL)
        return;
    if (p->call)
        http_cancel(p->model->front->http, p->call);
    free(p->body);
    free(p);
}

static void passed(void *arg, struct http_response *r)
{
    struct pass *p = arg;
    struct exchange *x = p->x;
    const char *type = http_header(r, "Content-Type");
    p->call = NULL;
    x->pass = NULL;
    if (r->status == 0)
        fprintf(stderr, "bqmodel: the emulator: %s\n", r->err->text);
    reply_raw(x, r->status, r->status && type ? xasprintf("Content-Type: %s", type) : NULL,
              r->body && r->body->len > 0 ? xstrndup(r->body->data, r->body->len) : NULL);
    pass_free(p);
}

static void send_on(struct exchange *x, const char *method, const char *path, const char *query, const char *type, const char *body, size_t len)
{
    struct bqmodel *m = x->model;
    struct buf url = BUF_INIT(1 << 20);
    AUTO(free_ptr) char *kind = type ? xasprintf("Content-Type: %s", type) : NULL;
    const char *headers[] = {kind, NULL};
    struct pass *p = x->pass = xcalloc(1, sizeof(*p));
    *p = (struct pass){.model = m, .x = x, .body = len ? xmemdup(body, len) : NULL};
    p->slice = (struct http_slice){p->body, len};
    buf_xputs(&url, m->front->url);
    AUTO(free_ptr) char *copy = xstrdup(path + 1);
    for (char *rest = copy, *piece; (piece = strsep(&rest, "/")) != NULL;) {
        buf_xputs(&url, "/");
        http_escape(&url, piece);
    }
    if (*query)
        buf_xprintf(&url, "?%s", query);
    p->call = http_send(m->front->http, &(struct http_request){.method = method, .url = url.data, .headers = headers, .body = len ? &p->slice : NULL,
                                                               .body_count = len > 0}, passed, p);
    buf_free(&url);
}

void front_pass(struct exchange *x, const struct mrequest *r)
{
    send_on(x, r->method, r->path, r->query, r->header(r, "Content-Type"), r->body, r->len);
}

void front_results(struct exchange *x, const struct mjob *j)
{
    AUTO(free_ptr) char *path = xasprintf("/bigquery/v2/projects/%s/queries/%s", j->project, j->id);
    send_on(x, "GET", path, x->query ? x->query : "", NULL, NULL, 0);
}

/* --- jobs -------------------------------------------------------------------------------------------------------------------------------------- */

void handed_free(struct handed *h)
{
    if (h == NULL)
        return;
    if (h->call)
        http_cancel(h->job->model->front->http, h->call);
    buf_free(&h->body);
    free(h);
}

void front_read(struct mjob *j, const char *sql)
{
    static const char *const words[] = {"INSERT INTO ", "INSERT ", "UPDATE ", "DELETE FROM ", "DELETE ", "MERGE INTO ", "MERGE "};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);
        if (strncasecmp(sql, words[i], n) != 0)
            continue;
        const char *name = sql + n + (sql[n] == '`');
        AUTO(free_ptr) char *text = xstrndup(name, strcspn(name, "` \t\r\n("));
        if (bq_ref_parse(text, j->project, &j->target, NULL) == 0)
            j->foreign = i < 2 ? FOREIGN_INSERTS : FOREIGN_MUTATES;
        return;
    }
}

static void fail(struct mjob *j, const char *reason, const char *message)
{
    error_set(&j->outcome, ERR_TASK, 0, "%s", message);
    error_reason(&j->outcome, reason);
    model_job_finish(j);
}

static void take_over(struct mjob *j, const doc *d)
{
    const doc *error = doc_get(d, "status.errorResult");
    int64_t all = doc_int(d, "statistics.query.numDmlAffectedRows", 0);
    struct effects *e = &j->effects;
    if (doc_type(error) == DOC_OBJECT) {
        fail(j, doc_str(error, "reason", "invalidQuery"), doc_str(error, "message", "(the emulator says nothing)"));
        return;
    }
    j->output_rows = doc_int(d, "statistics.load.outputRows", 0);
    e->inserted = doc_int(d, "statistics.query.dmlStats.insertedRowCount", 0);
    e->deleted = doc_int(d, "statistics.query.dmlStats.deletedRowCount", 0);
    e->updated = doc_int(d, "statistics.query.dmlStats.updatedRowCount", all - e->inserted - e->deleted);
    model_job_finish(j);
}

/* What the emulator has closed, or has not understood for once, is asked for again under the job's id. */
static void job_answer(void *arg, struct http_response *r)
{
    struct handed *h = arg;
    struct mjob *j = h->job;
    h->call = NULL;
    AUTO(doc_free_auto) doc *d = r->status && r->body->len ? doc_parse(r->body->data, r->body->len, "the emulator's answer", NULL) : NULL;
    bool good = r->status >= 200 && r->status < 300 && d;
    if (good && strcmp(doc_str(d, "status.state", ""), "DONE") == 0)
        take_over(j, d);
    else if (good || r->status == 0 || r->status == 409)
        timer_set(j->timer, POLL_MS * US_PER_MS);
    else if (r->status == 404 && doc_get(d, "error.errors") == NULL)
        fail(j, "backendError", "the emulator knows nothing of this job");
    else
        fail(j, doc_str(d, "error.errors.0.reason", r->status == 404 ? "notFound" : "invalid"), doc_str(d, "error.message", "(the emulator says nothing)"));
}

static doc *job_body(const struct mjob *j)
{
    doc *reference = doc_set_str(doc_set_str(doc_object(), "projectId", j->project), "jobId", j->id);
    return doc_set(doc_set(doc_object(), "jobReference", reference), "configuration", doc_copy(j->configuration));
}

static void insert(struct handed *h)
{
    struct mjob *j = h->job;
    struct bqmodel *m = j->model;
    static const char *const plain[] = {"Content-Type: application/json", NULL}, *const multipart[] = {"Content-Type: multipart/related; boundary=" BOUNDARY, NULL};
    AUTO(doc_free_auto) doc *d = job_body(j);
    AUTO(free_ptr) char *text = doc_text(d);
    AUTO(free_ptr) char *url = xasprintf("%s%s/bigquery/v2/projects/%s/jobs%s", m->front->url, j->is_load ? "/upload" : "", j->project,
                                         j->is_load ? "?uploadType=multipart" : "");
    h->inserted = true;
    h->body = BUF_INIT(SIZE_MAX / 2);
    if (j->is_load) {
        buf_xprintf(&h->body, "--" BOUNDARY "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--" BOUNDARY "\r\nContent-Type: */*\r\n\r\n", text);
        buf_xadd(&h->body, j->media ? j->media : "", j->media_len);
        buf_xputs(&h->body, "\r\n--" BOUNDARY "--\r\n");
    } else {
        buf_xputs(&h->body, text);
    }
    h->slice = (struct http_slice){h->body.data, h->body.len};
    h->call = http_send(m->front->http, &(struct http_request){.method = "POST", .url = url, .headers = j->is_load ? multipart : plain, .body = &h->slice,
                                                               .body_count = 1}, job_answer, h);
}

void front_job(struct mjob *j)
{
    struct handed *h = j->handed;
    struct bqmodel *m = j->model;
    if (h == NULL) {
        h = j->handed = xcalloc(1, sizeof(*h));
        h->job = j;
    }
    if (!h->inserted) {
        insert(h);
        return;
    }
    AUTO(free_ptr) char *url = xasprintf("%s/bigquery/v2/projects/%s/jobs/%s", m->front->url, j->project, j->id);
    h->call = http_send(m->front->http, &(struct http_request){.method = "GET", .url = url}, job_answer, h);
}
