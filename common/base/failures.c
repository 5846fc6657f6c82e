#include "common/base/failures.h"

#include <strings.h>

#define BIGQUERY (FROM_REQUEST | FROM_JOB)
#define TEN_MINUTES_MS INT64_C(600000) /* BigQuery's advice for quotaExceeded */
#define WINDOW_MS INT64_C(2000)        /* limits on a table are counted over 10 s: each of them makes some room */
#define ROLES "the credentials need roles/bigquery.jobUser on the project and roles/bigquery.dataEditor on the datasets"

/*
 * The first row that fits decides. Texts come first: BigQuery's DML limits and conflicts arrive under reasons (invalidQuery, resourcesExceeded) that otherwise
 * mean a mistake in the statement. The last rows fit whatever the others did not.
 * Sources: BigQuery's pages on error messages, quotas, DML and troubleshooting; status, reason and text as its clients record them.
 */
const struct failure_row failure_rows[] = {
    /* Limits and conflicts of DML. Nothing was written. */
    {BIGQUERY, 0, NULL, "Could not serialize access to table", ERR_RETRY, "concurrentUpdate", 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "due to concurrent update", ERR_RETRY, "concurrentUpdate", 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "Too many DML statements outstanding against table", ERR_RETRY, "dmlQueueFull", 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "DML statement has been queued for too long", ERR_RETRY, "dmlQueuedTooLong", 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "total number of DML jobs writing to a table", ERR_RETRY, "dmlQueueFull", 0, WINDOW_MS, false, NULL},
    {BIGQUERY, 0, NULL, "too many table dml insert operations", ERR_RETRY, "rateLimitExceeded", 0, WINDOW_MS, false, NULL},
    {BIGQUERY, 0, NULL, "streaming buffer, which is not supported", ERR_QUOTA, "streamingBuffer", WORK_DML_TABLE, TEN_MINUTES_MS, false,
     "the target was streamed into; its newest rows cannot be changed for 30 to 90 minutes"},
    {BIGQUERY, 0, NULL, "must match at most one source row for each target row", ERR_FATAL, "duplicateKeys", 0, 0, false,
     "write.keys do not tell the target's rows apart"},
    {BIGQUERY, 0, NULL, "Too many partitions produced by query", ERR_FATAL, "tooManyPartitions", 0, 0, false,
     "one statement changes 4,000 partitions at most: use coarser partitions, or split the batch"},
    {FROM_JOB, 0, NULL, "bqfleet: the permit is lost", ERR_RETRY, "permitLost", 0, 0, false, NULL},
    {FROM_JOB, 0, NULL, "bqfleet: load ", ERR_FATAL, "staging", 0, 0, false, "a staging table expired or was changed by somebody: redrive the run"},
    {FROM_JOB, 0, NULL, "bqfleet: the side table ", ERR_FATAL, "staging", 0, 0, false, "a staging table expired or was changed by somebody: redrive the run"},

    /* Limits on updates of a table, 5 in 10 s. */
    {BIGQUERY, 0, NULL, "too many table update operations", ERR_RETRY, "rateLimitExceeded", 0, WINDOW_MS, false, NULL},
    {BIGQUERY, 0, NULL, "exceeded quota for table update operations", ERR_RETRY, "jobRateLimitExceeded", 0, WINDOW_MS, false, NULL},

    /* Limits that time mends. */
    {BIGQUERY, 0, NULL, "imports or query appends per table", ERR_QUOTA, "quotaExceeded", WORK_LOADS_TABLE, TEN_MINUTES_MS, false,
     "BigQuery takes 1,500 loads a day into one table"},
    {BIGQUERY, 0, NULL, "imports per project", ERR_QUOTA, "quotaExceeded", WORK_LOADS_PROJECT, TEN_MINUTES_MS, false,
     "BigQuery takes 100,000 loads a day in one project: let fewer workers load, or raise --linger"},
    {BIGQUERY, 0, NULL, "partition modifications", ERR_QUOTA, "quotaExceeded", WORK_OF_JOB, TEN_MINUTES_MS, false,
     "BigQuery changes 30,000 partitions of a table a day: use coarser partitions"},
    {BIGQUERY, 0, NULL, "max number of jobs that can be queued", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, INT64_C(60000), false, NULL},
    {BIGQUERY, 0, NULL, "query bytes scanned", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, TEN_MINUTES_MS, false, "the project's quota for queries is used up"},
    {BIGQUERY, 0, NULL, "custom quota", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, TEN_MINUTES_MS, false, "somebody of the project has set this quota"},
    {FROM_REQUEST, 0, "quotaExceeded", "API requests", ERR_QUOTA, NULL, WORK_REQUESTS, TEN_MINUTES_MS, false, NULL},
    {BIGQUERY, 0, "quotaExceeded", NULL, ERR_QUOTA, NULL, WORK_OF_JOB, TEN_MINUTES_MS, false, NULL},
    {BIGQUERY, 0, "dailyLimitExceeded", NULL, ERR_QUOTA, "quotaExceeded", WORK_REQUESTS, TEN_MINUTES_MS, false, NULL},

    /* Worth another try. Those that begin with "job" concern a job that has failed: it needs another id. */
    {FROM_REQUEST, 0, "rateLimitExceeded", NULL, ERR_RETRY, NULL, 0, 0, true, NULL},
    {FROM_REQUEST, 0, "userRateLimitExceeded", NULL, ERR_RETRY, NULL, 0, 0, true, NULL},
    {BIGQUERY, 0, "rateLimitExceeded", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "userRateLimitExceeded", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "backendError", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "internalError", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "badGateway", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "jobBackendError", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "jobInternalError", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "jobRateLimitExceeded", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "tableUnavailable", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "Job exceeded rate limits:", ERR_RETRY, "jobRateLimitExceeded", 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, "Exceeded rate limits:", ERR_RETRY, "rateLimitExceeded", 0, 0, false, NULL},

    /* Rows a load would not take. What is wrong with the table itself comes under the same reason, and is not theirs. */
    {FROM_JOB, 0, "invalid", "Provided Schema does not match", ERR_FATAL, "schema", 0, 0, false, "the staging table is not as it was created"},
    {FROM_JOB, 0, "invalid", "Invalid schema update", ERR_FATAL, "schema", 0, 0, false, NULL},
    {FROM_JOB, 0, "invalid", "exceeded the limit", ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_JOB, 0, "invalid", NULL, ERR_TASK, "rows", 0, 0, false, NULL},

    /* No try will help. */
    {BIGQUERY, 0, "resourcesExceeded", NULL, ERR_FATAL, NULL, 0, 0, false, "the statement is too large for BigQuery"},
    {BIGQUERY, 0, "responseTooLarge", NULL, ERR_FATAL, NULL, 0, 0, false, "the query's result is too large to be returned"},
    {BIGQUERY, 0, "bytesBilledLimitExceeded", NULL, ERR_FATAL, NULL, 0, 0, false, "raise write.max_bytes_billed if that is what it may cost"},
    {BIGQUERY, 0, "billingTierLimitExceeded", NULL, ERR_FATAL, NULL, 0, 0, false, "the statement computes too much for the bytes it reads"},
    {BIGQUERY, 0, "stopped", NULL, ERR_FATAL, NULL, 0, 0, false, "somebody cancelled the job, or its time ran out"},
    {FROM_JOB, 0, "timeout", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "billingNotEnabled", NULL, ERR_FATAL, NULL, 0, 0, false, "enable billing for the project that runs the jobs"},
    {BIGQUERY, 0, NULL, "Billing has not been enabled", ERR_FATAL, "billingNotEnabled", 0, 0, false, "enable billing for the project that runs the jobs"},
    {BIGQUERY, 0, "accessNotConfigured", NULL, ERR_FATAL, NULL, 0, 0, false, "enable the BigQuery API in the project that runs the jobs"},
    {BIGQUERY, 0, "blocked", NULL, ERR_FATAL, NULL, 0, 0, false, "BigQuery has blocked the operation; its support knows why"},
    {BIGQUERY, 0, "accessDenied", NULL, ERR_FATAL, NULL, 0, 0, false, ROLES},
    {BIGQUERY, 0, "notFound", "was not found in location", ERR_FATAL, NULL, 0, 0, false,
     "check the name, and that --location or write.location is where the dataset is"},
    {BIGQUERY, 0, "notFound", "Not found: Dataset", ERR_FATAL, NULL, 0, 0, false, "create the dataset, or check its project and name"},
    {BIGQUERY, 0, "notFound", "Not found: Table", ERR_FATAL, NULL, 0, 0, false, "create the table, or check its project, dataset and name"},
    {BIGQUERY, 0, "notFound", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "duplicate", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "resourceInUse", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "conditionNotMet", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "notImplemented", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, "invalidQuery", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, 0, "invalid", "location", ERR_FATAL, NULL, 0, 0, false, "--location or write.location is no location of BigQuery, e.g. US or europe-west1"},
    {FROM_REQUEST, 401, NULL, NULL, ERR_FATAL, "unauthorized", 0, 0, false, "the credentials were not accepted"},
    {FROM_REQUEST, 403, NULL, NULL, ERR_FATAL, "accessDenied", 0, 0, false, ROLES},
    {FROM_REQUEST, 404, NULL, NULL, ERR_FATAL, "notFound", 0, 0, false, NULL},
    {FROM_REQUEST, 407, NULL, NULL, ERR_FATAL, "proxyAuthentication", 0, 0, false, "the proxy wants credentials: put them into the proxy's URL"},
    {FROM_REQUEST, 409, NULL, NULL, ERR_FATAL, "duplicate", 0, 0, false, NULL},
    {FROM_REQUEST, 412, NULL, NULL, ERR_FATAL, "conditionNotMet", 0, 0, false, NULL},
    {FROM_REQUEST, 413, NULL, NULL, ERR_FATAL, "tooLarge", 0, 0, false, NULL},

    /* Answers without BigQuery's own words: proxies, balancers. And no answer at all. */
    {FROM_REQUEST, 408, NULL, NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, 429, NULL, NULL, ERR_RETRY, "rateLimitExceeded", 0, 0, true, NULL},
    {FROM_REQUEST, 500, NULL, NULL, ERR_RETRY, "internalError", 0, 0, false, NULL},
    {FROM_REQUEST, 501, NULL, NULL, ERR_FATAL, "notImplemented", 0, 0, false, NULL},
    {FROM_REQUEST, 502, NULL, NULL, ERR_RETRY, "badGateway", 0, 0, false, NULL},
    {FROM_REQUEST, 503, NULL, NULL, ERR_RETRY, "backendError", 0, 0, false, NULL},
    {FROM_REQUEST, 504, NULL, NULL, ERR_RETRY, "backendError", 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_5XX, NULL, NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "certificate", NULL, ERR_FATAL, NULL, 0, 0, false, "--ca-file names certificates to trust"},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "url", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "tooLarge", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "body", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "timeout", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "connection", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "name", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {FROM_REQUEST, FAILURE_NO_ANSWER, "noHttp", NULL, ERR_RETRY, NULL, 0, 0, false, NULL},

    /* Rows, and items that they are of. */
    {FROM_ROW, 0, "row", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_ROW, 0, "size", "outgrow", ERR_TASK, NULL, 0, 0, false, "raise --buffer"},
    {FROM_ROW, 0, "size", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_ROW, 0, "load", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_ROW, 0, "decode", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_ROW, 0, "version", NULL, ERR_TASK, NULL, 0, 0, false, "it comes from a newer bqfleet: bring the fleet up to date"},

    /* Handlers: the kind that they name, an exit status, or what befell them. */
    {FROM_HANDLER, 0, "retry", NULL, ERR_RETRY, "handler", 0, 0, false, NULL},
    {FROM_HANDLER, 0, "task", NULL, ERR_TASK, "handler", 0, 0, false, NULL},
    {FROM_HANDLER, 0, "fatal", NULL, ERR_FATAL, "handler", 0, 0, false, NULL},
    {FROM_HANDLER, 75, "exit", NULL, ERR_RETRY, "handler", 0, 0, false, NULL}, /* EX_TEMPFAIL of sysexits.h */
    {FROM_HANDLER, 0, "exit", NULL, ERR_TASK, "handler", 0, 0, false, NULL},
    {FROM_HANDLER, 0, "malformed", NULL, ERR_TASK, "handler", 0, 0, false, NULL},
    {FROM_HANDLER, 0, "crash", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_HANDLER, 0, "timeout", NULL, ERR_TASK, NULL, 0, 0, false, "job.timeout says how long an item may take"},
    {FROM_HANDLER, 0, "size", NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_HANDLER, 0, "start", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},

    /* Kafka, by the names of librdkafka's codes. */
    {FROM_KAFKA, 0, "MSG_SIZE_TOO_LARGE", NULL, ERR_TASK, "too large", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "RECORD_LIST_TOO_LARGE", NULL, ERR_TASK, "too large", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "OFFSET_METADATA_TOO_LARGE", NULL, ERR_TASK, "too large", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "UNKNOWN_TOPIC_OR_PART", NULL, ERR_FATAL, "unknown topic", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "_UNKNOWN_TOPIC", NULL, ERR_FATAL, "unknown topic", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "_UNKNOWN_PARTITION", NULL, ERR_FATAL, "unknown partition", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "TOPIC_EXCEPTION", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "TOPIC_AUTHORIZATION_FAILED", NULL, ERR_FATAL, NULL, 0, 0, false, "the user needs READ, WRITE and DESCRIBE on the topics of --prefix"},
    {FROM_KAFKA, 0, "GROUP_AUTHORIZATION_FAILED", NULL, ERR_FATAL, NULL, 0, 0, false, "the user needs READ on the consumer groups of --prefix"},
    {FROM_KAFKA, 0, "CLUSTER_AUTHORIZATION_FAILED", NULL, ERR_FATAL, NULL, 0, 0, false, "the user needs IDEMPOTENT_WRITE, and CREATE where topics are created"},
    {FROM_KAFKA, 0, "SASL_AUTHENTICATION_FAILED", NULL, ERR_FATAL, NULL, 0, 0, false, "check sasl.username and sasl.password"},
    {FROM_KAFKA, 0, "UNSUPPORTED_SASL_MECHANISM", NULL, ERR_FATAL, NULL, 0, 0, false, "check sasl.mechanism"},
    {FROM_KAFKA, 0, "_AUTHENTICATION", NULL, ERR_FATAL, NULL, 0, 0, false, "check security.protocol and the sasl properties"},
    {FROM_KAFKA, 0, "_SSL", NULL, ERR_FATAL, NULL, 0, 0, false, "check security.protocol and the ssl properties"},
    {FROM_KAFKA, 0, "FENCED_INSTANCE_ID", NULL, ERR_FATAL, "fenced", 0, 0, false, "another process has joined under the same --name"},
    {FROM_KAFKA, 0, "INVALID_GROUP_ID", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "INVALID_PARTITIONS", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "INVALID_REPLICATION_FACTOR", NULL, ERR_FATAL, NULL, 0, 0, false, "there are fewer brokers than --replication"},
    {FROM_KAFKA, 0, "INVALID_CONFIG", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "INVALID_SESSION_TIMEOUT", NULL, ERR_FATAL, NULL, 0, 0, false, "the broker bounds --session: group.min.session.timeout.ms and max"},
    {FROM_KAFKA, 0, "POLICY_VIOLATION", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "TOPIC_ALREADY_EXISTS", NULL, ERR_FATAL, "exists", 0, 0, false, NULL},
    {FROM_KAFKA, 0, "UNSUPPORTED_VERSION", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "out of range", NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, "_QUEUE_FULL", NULL, ERR_RETRY, "full", 0, 0, false, NULL},

    /* Everything else. */
    {FROM_REQUEST, FAILURE_NO_ANSWER, NULL, NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
    {BIGQUERY, 0, NULL, NULL, ERR_FATAL, NULL, 0, 0, false, NULL},
    {FROM_ROW | FROM_HANDLER, 0, NULL, NULL, ERR_TASK, NULL, 0, 0, false, NULL},
    {FROM_KAFKA, 0, NULL, NULL, ERR_RETRY, NULL, 0, 0, false, NULL},
};
const size_t failure_count = ARRAY_LEN(failure_rows);

static bool status_fits(int wanted, int status)
{
    return wanted == 0 || wanted == status || (wanted == FAILURE_NO_ANSWER && status == 0) || (wanted == FAILURE_5XX && status >= 500 && status <= 599);
}

const struct failure_row *failure_find(enum failure_origin from, int status, const char *reason, const char *message)
{
    const struct failure_row *r = failure_rows;
    reason = reason ? reason : "";
    message = message ? message : "";
    while (!((r->from & from) && status_fits(r->status, status) && (r->reason == NULL || strcasecmp(r->reason, reason) == 0) &&
             (r->text == NULL || strcasestr(message, r->text) != NULL)))
        r++; /* the last rows fit every origin */
    return r;
}

int failure_set(struct error *err, enum failure_origin from, int status, const char *reason, const char *fmt, ...)
{
    struct error plain;
    va_list ap;
    va_start(ap, fmt);
    error_vset(&plain, ERR_FATAL, status, fmt, ap);
    va_end(ap);
    const struct failure_row *r = failure_find(from, status, reason, plain.text);
    error_set(err, r->kind, status, "%s%s%s", plain.text, r->advice ? "; " : "", r->advice ? r->advice : "");
    error_reason(err, r->name ? r->name : reason);
    if (err != NULL)
        err->retry_after_ms = r->wait_ms;
    return -1;
}

const char *work_class_name(enum work_class c)
{
    static const char *const names[WORK_CLASSES] = {
        [WORK_NONE] = "", [WORK_OF_JOB] = "work like that job's", [WORK_LOADS_TABLE] = "loads into a table", [WORK_LOADS_PROJECT] = "loads of the project",
        [WORK_DML_TABLE] = "statements that write into a table", [WORK_QUERIES] = "queries of the project", [WORK_REQUESTS] = "all requests",
    };
    return names[c];
}
