#include "tests/bq/internal.h"

/* A job as jobs.get gives it. */

int http_status_of(const char *reason)
{
    static const struct { const char *reason; int status; } known[] = {
        {"notFound", 404}, {"duplicate", 409}, {"accessDenied", 403}, {"quotaExceeded", 403}, {"rateLimitExceeded", 403},
        {"backendError", 503}, {"internalError", 500},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(known[i].reason, reason) == 0)
            return known[i].status;
    return 400;
}

static doc *status_doc(const struct mjob *j)
{
    static const char *const states[] = {"PENDING", "RUNNING", "DONE"};
    doc *status = doc_set_str(doc_object(), "state", states[j->state]);
    if (j->state != JOB_DONE || j->outcome.kind == ERR_NONE)
        return status;
    doc *result = doc_set_str(doc_set_str(doc_object(), "reason", j->outcome.reason), "message", j->outcome.text);
    if (strcmp(j->outcome.reason, "invalidQuery") == 0)
        doc_set_str(result, "location", "query");
    if (j->is_load && strcmp(j->outcome.reason, "rateLimitExceeded") == 0)
        doc_set_str(result, "location", "table.write");
    doc_set(status, "errorResult", result);
    return doc_set(status, "errors", j->details ? doc_copy(j->details) : doc_add(doc_array(), doc_copy(result)));
}

static doc *query_doc(const struct mjob *j)
{
    const struct effects *e = &j->effects;
    doc *query = doc_object();
    doc_set_str(query, "statementType", j->stmt ? stmt_type(j->stmt) : NULL);
    doc_set_str(query, "totalBytesProcessed", "0");
    doc_set_int_text(query, "totalBytesBilled", j->bytes_billed);
    doc_set_bool(query, "cacheHit", false);
    if (!job_writes(j) || j->outcome.kind != ERR_NONE)
        return query;
    doc_set_int_text(query, "numDmlAffectedRows", e->inserted + e->updated + e->deleted);
    doc *stats = doc_set_int_text(doc_object(), "insertedRowCount", e->inserted);
    doc_set_int_text(stats, "updatedRowCount", e->updated);
    return doc_set(query, "dmlStats", doc_set_int_text(stats, "deletedRowCount", e->deleted));
}

static doc *load_doc(const struct mjob *j)
{
    doc *load = doc_set_str(doc_object(), "inputFiles", "1");
    doc_set_int_text(load, "inputFileBytes", j->input_bytes);
    doc_set_int_text(load, "outputRows", j->output_rows + j->miscounted);
    doc_set_int_text(load, "outputBytes", j->outcome.kind == ERR_NONE ? j->input_bytes : 0);
    return doc_set_str(load, "badRecords", j->outcome.kind == ERR_NONE ? "0" : "1");
}

doc *mjob_resource(const struct mjob *j)
{
    char id[1400];
    doc *d = doc_set_str(doc_object(), "kind", "bigquery#job");
    snprintf(id, sizeof(id), "%s:%s.%s", j->project, j->model->location, j->id);
    doc_set_str(d, "id", id);
    doc *reference = doc_set_str(doc_object(), "projectId", j->project);
    doc_set(d, "jobReference", doc_set_str(doc_set_str(reference, "jobId", j->id), "location", j->model->location));
    doc *configuration = doc_copy(j->configuration);
    doc_set(d, "configuration", doc_set_str(configuration, "jobType", j->is_load ? "LOAD" : "QUERY"));
    doc *statistics = doc_set_int_text(doc_object(), "creationTime", j->created_ms);
    if (j->state != JOB_PENDING && j->started_ms > 0)
        doc_set_int_text(statistics, "startTime", j->started_ms);
    if (j->state == JOB_DONE) {
        doc_set_int_text(statistics, "endTime", j->ended_ms);
        doc_set(statistics, j->is_load ? "load" : "query", j->is_load ? load_doc(j) : query_doc(j));
        if (!j->is_load)
            doc_set_str(statistics, "totalBytesProcessed", "0");
    }
    doc_set(d, "statistics", statistics);
    return doc_set(d, "status", status_doc(j));
}

doc *mjob_without_figures(doc *resource)
{
    AUTO(doc_free_auto) doc *whole = resource;
    doc *d = doc_object();
    for (void *it = doc_first(whole); it; it = doc_next(whole, it))
        if (strcmp(doc_key(it), "statistics") != 0)
            doc_set(d, doc_key(it), doc_copy(doc_value(it)));
    return doc_set(d, "statistics", doc_set_int_text(doc_object(), "creationTime", doc_int(whole, "statistics.creationTime", 0)));
}
