#include "common/bq/bq.h"

#include <strings.h>

#include "common/bq/permits.h"

/*
 * What BigQuery's errors mean for us. The first row that fits decides; an empty field fits everything. Texts come first: the DML limits and
 * conflicts arrive under reasons (invalidQuery, resourcesExceeded) that otherwise mean a mistake in the statement.
 * Sources: BigQuery's pages on error messages, quotas, DML and troubleshooting; the status, reason and text as its clients record them.
 */
enum origin { ANY, REQUEST, JOB };
struct row {
    int status;          /* HTTP; 0: any. Errors of jobs have none */
    const char *reason;  /* NULL: any */
    const char *text;    /* a piece of the message; NULL: any */
    enum origin origin;
    enum error_kind kind;
    const char *name;    /* our reason; NULL: BigQuery's own */
    const char *advice;  /* added to the text; NULL: none */
};

#define QUOTA_WAIT_MS 600000 /* BigQuery's advice for quotaExceeded: wait at least 10 minutes */

static const struct row rows[] = {
    /* Limits and conflicts of DML. Nothing was written. */
    {0, NULL, "Could not serialize access to table", ANY, ERR_RETRY, "concurrentUpdate", NULL},
    {0, NULL, "due to concurrent update", ANY, ERR_RETRY, "concurrentUpdate", NULL},
    {0, NULL, "Too many DML statements outstanding against table", ANY, ERR_RETRY, "dmlQueueFull", NULL},
    {0, NULL, "DML statement has been queued for too long", ANY, ERR_RETRY, "dmlQueuedTooLong", NULL},
    {0, NULL, "total number of DML jobs writing to a table", ANY, ERR_RETRY, "dmlQueueFull", NULL},
    {0, NULL, "too many table dml insert operations", ANY, ERR_RETRY, "rateLimitExceeded", NULL},
    {0, NULL, "streaming buffer, which is not supported", ANY, ERR_QUOTA, "streamingBuffer",
     "the target was streamed into; its newest rows cannot be changed for 30 to 90 minutes"},
    {0, NULL, "bqfleet: the permit is lost", JOB, ERR_RETRY, PERMIT_LOST, NULL},
    {0, NULL, "bqfleet: load ", JOB, ERR_FATAL, "staging", NULL},
    {0, NULL, "bqfleet: the side table ", JOB, ERR_FATAL, "staging", NULL},

    /* Worth another try. Those that begin with "job" concern a job that has failed: it needs another id. */
    {0, "backendError", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "rateLimitExceeded", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "userRateLimitExceeded", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "internalError", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "badGateway", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "jobBackendError", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "jobInternalError", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "jobRateLimitExceeded", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, "tableUnavailable", NULL, ANY, ERR_RETRY, NULL, NULL},
    {0, NULL, "Exceeded rate limits:", ANY, ERR_RETRY, "rateLimitExceeded", NULL},
    {0, NULL, "Job exceeded rate limits:", ANY, ERR_RETRY, "jobRateLimitExceeded", NULL},

    /* Limits that time mends. */
    {0, "quotaExceeded", NULL, ANY, ERR_QUOTA, NULL, NULL},
    {0, "dailyLimitExceeded", NULL, ANY, ERR_QUOTA, "quotaExceeded", NULL},

    /* Rows a load would not take. What is wrong with the table itself comes under the same reason, and is not theirs. */
    {0, "invalid", "Provided Schema does not match", JOB, ERR_FATAL, "schema", "the staging table is not as it was created"},
    {0, "invalid", "Invalid schema update", JOB, ERR_FATAL, "schema", NULL},
    {0, "invalid", "exceeded the limit", JOB, ERR_FATAL, NULL, NULL},
    {0, "invalid", NULL, JOB, ERR_TASK, "rows", NULL},

    /* No try will help. */
    {0, "resourcesExceeded", NULL, ANY, ERR_FATAL, NULL, "the statement is too large for BigQuery"},
    {0, "responseTooLarge", NULL, ANY, ERR_FATAL, NULL, NULL},
    {0, "bytesBilledLimitExceeded", NULL, ANY, ERR_FATAL, NULL, "raise write.max_bytes_billed if that is what it may cost"},
    {0, "stopped", NULL, ANY, ERR_FATAL, NULL, "somebody cancelled the job, or its time ran out"},
    {0, "timeout", NULL, JOB, ERR_FATAL, NULL, NULL},
    {0, "billingNotEnabled", NULL, ANY, ERR_FATAL, NULL, "enable billing for the project that runs the jobs"},
    {0, "accessDenied", NULL, ANY, ERR_FATAL, NULL,
     "the credentials need roles/bigquery.jobUser on the project and roles/bigquery.dataEditor on the datasets"},
    {0, "notFound", NULL, ANY, ERR_FATAL, NULL, NULL},
    {0, "duplicate", NULL, ANY, ERR_FATAL, NULL, NULL},
    {0, "conditionNotMet", NULL, ANY, ERR_FATAL, NULL, NULL},
    {401, NULL, NULL, REQUEST, ERR_FATAL, "unauthorized", "the credentials were not accepted"},
    {403, NULL, NULL, REQUEST, ERR_FATAL, "accessDenied",
     "the credentials need roles/bigquery.jobUser on the project and roles/bigquery.dataEditor on the datasets"},
    {404, NULL, NULL, REQUEST, ERR_FATAL, "notFound", NULL},
    {409, NULL, NULL, REQUEST, ERR_FATAL, "duplicate", NULL},
    {412, NULL, NULL, REQUEST, ERR_FATAL, "conditionNotMet", NULL},
    {413, NULL, NULL, REQUEST, ERR_FATAL, "tooLarge", NULL},

    /* Answers without BigQuery's own words: proxies, balancers. */
    {408, NULL, NULL, REQUEST, ERR_RETRY, NULL, NULL},
    {429, NULL, NULL, REQUEST, ERR_RETRY, "rateLimitExceeded", NULL},
    {500, NULL, NULL, REQUEST, ERR_RETRY, "internalError", NULL},
    {502, NULL, NULL, REQUEST, ERR_RETRY, "badGateway", NULL},
    {503, NULL, NULL, REQUEST, ERR_RETRY, "backendError", NULL},
    {504, NULL, NULL, REQUEST, ERR_RETRY, "backendError", NULL},
};

static bool fits(const struct row *r, int status, const char *reason, const char *message, bool from_job)
{
    return (r->status == 0 || r->status == status) && (r->reason == NULL || strcasecmp(r->reason, reason) == 0) &&
           (r->text == NULL || strstr(message, r->text) != NULL) && (r->origin == ANY || (r->origin == JOB) == from_job);
}

void bq_classify(int status, const char *reason, const char *message, bool from_job, struct error *err)
{
    static const struct row otherwise = {.kind = ERR_FATAL}, busy = {.kind = ERR_RETRY};
    const struct row *found = &otherwise;
    reason = reason ? reason : "";
    message = message ? message : "";
    for (size_t i = 0; i < ARRAY_LEN(rows) && found == &otherwise; i++)
        if (fits(&rows[i], status, reason, message, from_job))
            found = &rows[i];
    if (found == &otherwise && status >= 500)
        found = &busy;
    const char *name = found->name ? found->name : reason;
    if (message[0] == '\0')
        error_set(err, found->kind, status, "BigQuery answered %d %s without a message", status, name);
    else
        error_set(err, found->kind, status, "BigQuery: %s%s%s", message, found->advice ? "; " : "", found->advice ? found->advice : "");
    if (err == NULL)
        return;
    for (char *p = err->text; *p; p++) /* one line */
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    error_reason(err, name);
    err->retry_after_ms = found->kind == ERR_QUOTA ? QUOTA_WAIT_MS : 0;
}
