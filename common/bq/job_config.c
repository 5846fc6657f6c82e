#include "common/bq/internal.h"

#include "common/bq/sql.h"

/* Configurations of jobs, and single requests about jobs. */

doc *bq_load_config(const struct bq_ref *table)
{
    doc *to = doc_set_str(doc_object(), "projectId", table->project);
    doc_set_str(doc_set_str(to, "datasetId", table->dataset), "tableId", table->table);
    doc *load = doc_set(doc_object(), "destinationTable", to);
    doc_set_str(load, "sourceFormat", "NEWLINE_DELIMITED_JSON");
    doc_set_str(load, "writeDisposition", "WRITE_APPEND");
    doc_set_str(load, "createDisposition", "CREATE_NEVER"); /* a shard that is gone must not come back empty */
    doc_set_int(load, "maxBadRecords", 0);
    return doc_set(doc_object(), "load", load);
}

doc *bq_query_config(const char *sql, doc *params, int64_t max_bytes_billed)
{
    doc *query = doc_set_str(doc_object(), "query", sql);
    doc_set_bool(query, "useLegacySql", false);
    if (doc_len(params) > 0) {
        doc_set_str(query, "parameterMode", "NAMED");
        doc_set(query, "queryParameters", params);
    } else {
        doc_free(params);
    }
    if (max_bytes_billed > 0)
        doc_set_int_text(query, "maximumBytesBilled", max_bytes_billed);
    return doc_set(doc_object(), "query", query);
}

bool bq_is_job(const doc *d)
{
    return doc_str(d, "status.state", "")[0] != '\0';
}

struct bq_call *bq_job_get(struct bq *bq, const char *job_id, const char *location, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX);
    bq_job_path(bq->project, job_id, "", &path);
    bq_location_query(location, &query);
    struct bq_request r = {.method = "GET", .path = path.data, .query = query.data, .absent_ok = true, .sound = bq_is_job};
    struct bq_call *call = bq_send(bq, &r, cb, arg);
    buf_free(&path);
    buf_free(&query);
    return call;
}

static void nobody_waits(void *arg, const struct bq_answer *a)
{
    (void)arg;
    (void)a;
}

void bq_job_cancel(struct bq *bq, const char *job_id, const char *location)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX);
    bq_job_path(bq->project, job_id, "/cancel", &path);
    bq_location_query(location, &query);
    bq_send(bq->root ? bq->root : bq, &(struct bq_request){.method = "POST", .path = path.data, .query = query.data, .urgent = true}, nobody_waits, NULL);
    buf_free(&path);
    buf_free(&query);
}

struct bq_call *bq_job_post(struct bq *bq, const doc *resource, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    buf_xputs(&path, "/projects/");
    http_escape(&path, bq->project);
    buf_xputs(&path, "/jobs");
    struct bq_call *call = bq_send(bq, &(struct bq_request){.method = "POST", .path = path.data, .body = resource, .sound = bq_is_job}, cb, arg);
    buf_free(&path);
    return call;
}

static bool is_results(const doc *d)
{
    return doc_type(doc_get(d, "jobComplete")) == DOC_BOOL;
}

#define RESULTS_TIMEOUT_MS 120000
struct bq_call *bq_job_results(struct bq *bq, const char *job_id, const char *location, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX);
    buf_xputs(&path, "/projects/");
    http_escape(&path, bq->project);
    buf_xputs(&path, "/queries/");
    http_escape(&path, job_id);
    bq_location_query(location, &query);
    buf_xprintf(&query, "maxResults=0&timeoutMs=%d", BQ_RESULTS_WAIT_MS);
    struct bq_request r = {.method = "GET", .path = path.data, .query = query.data, .once = true, .first_byte_ms = RESULTS_TIMEOUT_MS, .sound = is_results};
    struct bq_call *call = bq_send(bq, &r, cb, arg);
    buf_free(&path);
    buf_free(&query);
    return call;
}

#define WHY_MAX 400 /* bytes of a failure's text that its giveup job repeats */
doc *bq_give_up_config(const struct error *err, const char *digest)
{
    struct buf sql = BUF_INIT(4096);
    char why[WHY_MAX + 1];
    snprintf(why, sizeof(why), "%.*s", WHY_MAX, err->text);
    size_t n = strlen(why);
    for (bool cut = n == WHY_MAX; cut && n > 0 && (why[n - 1] & 0x80); n--) /* no half characters at the end */
        why[n - 1] = '\0';
    sql_give_up(&sql, why);
    doc *configuration = bq_query_config(sql.data, NULL, 0);
    doc *labels = doc_set_str(doc_object(), "bqfleet_kind", "giveup");
    doc_set_str(labels, "bqfleet_error", error_kind_name(err->kind));
    doc_set_str(labels, "bqfleet_digest", digest);
    doc_set(configuration, "labels", labels);
    buf_free(&sql);
    return configuration;
}
