#include "common/bq/internal.h"

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

struct bq_call *bq_job_get(struct bq *bq, const char *job_id, const char *location, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX);
    bq_job_path(bq->project, job_id, "", &path);
    bq_location_query(location, &query);
    struct bq_request r = {.method = "GET", .path = path.data, .query = query.data, .absent_ok = true};
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
