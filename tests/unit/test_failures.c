#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/bq/bq.h"
#include "common/bq/permits.h"
#include "common/bus/bus_kafka.h"
#include "worker/dispatch.h"

/* The table of failures: each row by what arrives, word for word as BigQuery's pages and its clients have it. */

struct arrives {
    enum failure_origin from;
    int status;
    const char *reason, *message;
    enum error_kind kind;
    const char *name;      /* our reason */
    enum work_class parks;
    int64_t wait_ms;
    const char *advice;    /* a piece of it; NULL: none */
};

#define QUOTA_MS 600000
#define TABLE_MS 2000
#define REQ FROM_REQUEST
#define JOB FROM_JOB
static const struct arrives cases[] = {
    /* DML */
    {REQ, 400, "invalidQuery", "Could not serialize access to table p:d.t due to concurrent update", ERR_RETRY, "concurrentUpdate", 0, 0, NULL},
    {JOB, 0, "invalidQuery", "Could not serialize access to table p:d.t due to concurrent update", ERR_RETRY, "concurrentUpdate", 0, 0, NULL},
    {JOB, 0, "invalidQuery", "Query error: Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 6 at [24:9]", ERR_RETRY, "concurrentUpdate", 0, 0, NULL},
    {REQ, 400, "resourcesExceeded", "Resources exceeded during query execution: Too many DML statements outstanding against table p:d.t, limit is 20.", ERR_RETRY, "dmlQueueFull", 0, 0, NULL},
    {JOB, 0, "resourcesExceeded", "Resources exceeded during query execution: Too many DML statements outstanding against table p:d.t, limit is 100.", ERR_RETRY, "dmlQueueFull", 0, 0, NULL},
    {JOB, 0, "", "DML statement has been queued for too long", ERR_RETRY, "dmlQueuedTooLong", 0, 0, NULL},
    {REQ, 403, "quotaExceeded", "Quota exceeded: Your table exceeded quota for total number of DML jobs writing to a table, pending + running.", ERR_RETRY, "dmlQueueFull", 0, TABLE_MS, NULL},
    {JOB, 0, "rateLimitExceeded", "Exceeded rate limits: too many table dml insert operations for this table", ERR_RETRY, "rateLimitExceeded", 0, TABLE_MS, NULL},
    {JOB, 0, "badRequest", "UPDATE or DELETE statement over table p.d.t would affect rows in the streaming buffer, which is not supported", ERR_QUOTA, "streamingBuffer", WORK_DML_TABLE, QUOTA_MS, "30 to 90 minutes"},
    {JOB, 0, "invalidQuery", "UPDATE/MERGE must match at most one source row for each target row", ERR_FATAL, "duplicateKeys", 0, 0, "write.keys"},
    {JOB, 0, "invalidQuery", "Too many partitions produced by query, allowed 4000, query modifies at least 4001 partitions", ERR_FATAL, "tooManyPartitions", 0, 0, "coarser"},
    {JOB, 0, "invalidQuery", "bqfleet: the permit is lost", ERR_RETRY, PERMIT_LOST, 0, 0, NULL},
    {JOB, 0, "invalidQuery", "bqfleet: load r1-a-0 has 3 staged rows instead of 4", ERR_FATAL, "staging", 0, 0, "redrive"},
    {JOB, 0, "invalidQuery", "bqfleet: the side table is not whole", ERR_FATAL, "staging", 0, 0, "redrive"},
    /* updates of a table: the form of a load, and that of a query */
    {JOB, 0, "rateLimitExceeded", "Exceeded rate limits: too many table update operations for this table. For more information, see https://cloud.google.com/bigquery/troubleshooting-errors", ERR_RETRY, "rateLimitExceeded", 0, TABLE_MS, NULL},
    {REQ, 400, "jobRateLimitExceeded", "Job exceeded rate limits: Your table exceeded quota for table update operations. For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas", ERR_RETRY, "jobRateLimitExceeded", 0, TABLE_MS, NULL},
    /* quotas */
    {REQ, 403, "quotaExceeded", "Quota exceeded: Your table exceeded quota for imports or query appends per table. For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas", ERR_QUOTA, "quotaExceeded", WORK_LOADS_TABLE, QUOTA_MS, "1,500"},
    {JOB, 0, "quotaExceeded", "Quota exceeded: Your project exceeded quota for imports per project", ERR_QUOTA, "quotaExceeded", WORK_LOADS_PROJECT, QUOTA_MS, "100,000"},
    {JOB, 0, "quotaExceeded", "Quota exceeded: Your table exceeded quota for Number of partition modifications to a column partitioned table", ERR_QUOTA, "quotaExceeded", WORK_OF_JOB, QUOTA_MS, "30,000"},
    {REQ, 403, "quotaExceeded", "Quota exceeded: Your project_and_region exceeded quota for max number of jobs that can be queued per project.", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, 60000, NULL},
    {JOB, 0, "quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned.", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, QUOTA_MS, "queries"},
    {REQ, 403, "quotaExceeded", "Custom quota exceeded: Your usage exceeded the custom quota for QueryUsagePerDay", ERR_QUOTA, "quotaExceeded", WORK_QUERIES, QUOTA_MS, "set this quota"},
    {REQ, 403, "quotaExceeded", "Quota exceeded for quota metric 'API requests' and limit 'API requests per day'", ERR_QUOTA, "quotaExceeded", WORK_REQUESTS, QUOTA_MS, NULL},
    {REQ, 403, "quotaExceeded", "Quota exceeded: something new", ERR_QUOTA, "quotaExceeded", WORK_OF_JOB, QUOTA_MS, NULL},
    {REQ, 403, "dailyLimitExceeded", "Daily Limit Exceeded", ERR_QUOTA, "quotaExceeded", WORK_REQUESTS, QUOTA_MS, NULL},
    /* for a moment */
    {REQ, 403, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method for this user_method", ERR_RETRY, "rateLimitExceeded", 0, 0, NULL},
    {REQ, 403, "userRateLimitExceeded", "User Rate Limit Exceeded", ERR_RETRY, "userRateLimitExceeded", 0, 0, NULL},
    {JOB, 0, "rateLimitExceeded", "Exceeded rate limits: too many concurrent queries for this project_and_region", ERR_RETRY, "rateLimitExceeded", 0, 0, NULL},
    {JOB, 0, "userRateLimitExceeded", "User Rate Limit Exceeded", ERR_RETRY, "userRateLimitExceeded", 0, 0, NULL},
    {REQ, 503, "backendError", "Error encountered during execution. Retrying may solve the problem.", ERR_RETRY, "backendError", 0, 0, NULL},
    {JOB, 0, "backendError", "Error encountered during execution. Retrying may solve the problem.", ERR_RETRY, "backendError", 0, 0, NULL},
    {REQ, 500, "internalError", "An internal error occurred and the request could not be completed.", ERR_RETRY, "internalError", 0, 0, NULL},
    {REQ, 502, "badGateway", "Bad Gateway", ERR_RETRY, "badGateway", 0, 0, NULL},
    {REQ, 400, "jobBackendError", "The job encountered an error during execution. Retrying may solve the problem.", ERR_RETRY, "jobBackendError", 0, 0, NULL},
    {REQ, 400, "jobInternalError", "The job encountered an internal error during execution and was unable to complete successfully.", ERR_RETRY, "jobInternalError", 0, 0, NULL},
    {JOB, 0, "jobRateLimitExceeded", "Job exceeded rate limits: something new", ERR_RETRY, "jobRateLimitExceeded", 0, 0, NULL},
    {REQ, 400, "tableUnavailable", "Certain BigQuery tables are backed by data managed by other Google product teams", ERR_RETRY, "tableUnavailable", 0, 0, NULL},
    {JOB, 0, "", "Exceeded rate limits: something new", ERR_RETRY, "rateLimitExceeded", 0, 0, NULL},
    {JOB, 0, "", "Job exceeded rate limits: something new", ERR_RETRY, "jobRateLimitExceeded", 0, 0, NULL},
    /* loads */
    {JOB, 0, "invalid", "Provided Schema does not match Table p:d.t. Cannot add fields (field: x)", ERR_FATAL, "schema", 0, 0, "not as it was created"},
    {JOB, 0, "invalid", "Invalid schema update. Field x has changed type", ERR_FATAL, "schema", 0, 0, NULL},
    {JOB, 0, "invalid", "Error while reading data, input CSV file exceeded the limit of 4294967296 bytes", ERR_FATAL, "invalid", 0, 0, NULL},
    {JOB, 0, "invalid", "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: 1; errors: 1.", ERR_TASK, "rows", 0, 0, NULL},
    /* no try will help */
    {JOB, 0, "resourcesExceeded", "Resources exceeded during query execution: The query could not be executed in the allotted memory.", ERR_FATAL, "resourcesExceeded", 0, 0, "too large"},
    {REQ, 403, "responseTooLarge", "Response too large to return", ERR_FATAL, "responseTooLarge", 0, 0, "too large"},
    {REQ, 400, "bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1000000. 10485760 or higher required.", ERR_FATAL, "bytesBilledLimitExceeded", 0, 0, "max_bytes_billed"},
    {JOB, 0, "billingTierLimitExceeded", "Query exceeded resource limits.", ERR_FATAL, "billingTierLimitExceeded", 0, 0, "too much"},
    {JOB, 0, "stopped", "Job execution was cancelled: User requested cancellation", ERR_FATAL, "stopped", 0, 0, "cancelled"},
    {JOB, 0, "timeout", "Operation timed out after 6.0 hours. Consider reducing the amount of work performed by your operation", ERR_FATAL, "timeout", 0, 0, NULL},
    {REQ, 403, "billingNotEnabled", "Billing has not been enabled for this project. Enable billing at https://console.cloud.google.com/billing.", ERR_FATAL, "billingNotEnabled", 0, 0, "enable billing"},
    {JOB, 0, "accessDenied", "Access Denied: BigQuery BigQuery: Billing has not been enabled for this project. DML queries are not allowed in the free tier.", ERR_FATAL, "billingNotEnabled", 0, 0, "enable billing"},
    {REQ, 403, "accessNotConfigured", "BigQuery API has not been used in project 123 before or it is disabled.", ERR_FATAL, "accessNotConfigured", 0, 0, "enable the BigQuery API"},
    {REQ, 403, "blocked", "BigQuery has temporarily denylisted the operation", ERR_FATAL, "blocked", 0, 0, "support"},
    {REQ, 403, "accessDenied", "Access Denied: Table p:d.t: Permission bigquery.tables.updateData denied on table p:d.t (or it may not exist).", ERR_FATAL, "accessDenied", 0, 0, "roles/"},
    {JOB, 0, "notFound", "Not found: Dataset p:d was not found in location US", ERR_FATAL, "notFound", 0, 0, "--location"},
    {REQ, 404, "notFound", "Not found: Dataset p:d", ERR_FATAL, "notFound", 0, 0, "create the dataset"},
    {REQ, 404, "notFound", "Not found: Table p:d.t", ERR_FATAL, "notFound", 0, 0, "create the table"},
    {REQ, 404, "notFound", "Not found: Job p:US.x", ERR_FATAL, "notFound", 0, 0, NULL},
    {REQ, 409, "duplicate", "Already Exists: Job p:US.x", ERR_FATAL, "duplicate", 0, 0, NULL},
    {REQ, 400, "resourceInUse", "Dataset p:d is still in use", ERR_FATAL, "resourceInUse", 0, 0, NULL},
    {REQ, 412, "conditionNotMet", "Precondition Failed", ERR_FATAL, "conditionNotMet", 0, 0, NULL},
    {REQ, 501, "notImplemented", "This feature is not implemented.", ERR_FATAL, "notImplemented", 0, 0, NULL},
    {JOB, 0, "invalidQuery", "Syntax error: Unexpected identifier \"SELCT\" at [1:1]", ERR_FATAL, "invalidQuery", 0, 0, NULL},
    {REQ, 400, "invalid", "Invalid value for: location: mars", ERR_FATAL, "invalid", 0, 0, "no location of BigQuery"},
    {REQ, 401, "", "", ERR_FATAL, "unauthorized", 0, 0, "credentials"},
    {REQ, 403, "", "", ERR_FATAL, "accessDenied", 0, 0, "roles/"},
    {REQ, 404, "", "", ERR_FATAL, "notFound", 0, 0, NULL},
    {REQ, 407, "", "<html>Proxy Authentication Required</html>", ERR_FATAL, "proxyAuthentication", 0, 0, "proxy"},
    {REQ, 409, "", "", ERR_FATAL, "duplicate", 0, 0, NULL},
    {REQ, 412, "", "", ERR_FATAL, "conditionNotMet", 0, 0, NULL},
    {REQ, 413, "", "<html>Request Entity Too Large</html>", ERR_FATAL, "tooLarge", 0, 0, NULL},
    /* without BigQuery's words, or without any */
    {REQ, 408, "", "", ERR_RETRY, "", 0, 0, NULL},
    {REQ, 429, "", "<html>Too Many Requests</html>", ERR_RETRY, "rateLimitExceeded", 0, 0, NULL},
    {REQ, 500, "", "", ERR_RETRY, "internalError", 0, 0, NULL},
    {REQ, 501, "", "", ERR_FATAL, "notImplemented", 0, 0, NULL},
    {REQ, 502, "", "<html><title>502 Bad Gateway</title></html>", ERR_RETRY, "badGateway", 0, 0, NULL},
    {REQ, 503, "", "", ERR_RETRY, "backendError", 0, 0, NULL},
    {REQ, 504, "", "", ERR_RETRY, "backendError", 0, 0, NULL},
    {REQ, 599, "", "", ERR_RETRY, "", 0, 0, NULL},
    {REQ, 0, "certificate", "bq:443: its certificate is not accepted: self-signed", ERR_FATAL, "certificate", 0, 0, "--ca-file"},
    {REQ, 0, "url", "not a URL: \"x\"", ERR_FATAL, "url", 0, 0, NULL},
    {REQ, 0, "tooLarge", "bq:443: the answer is too large", ERR_FATAL, "tooLarge", 0, 0, NULL},
    {REQ, 0, "body", "bq:443: the request's body ended", ERR_FATAL, "body", 0, 0, NULL},
    {REQ, 0, "timeout", "bq:443: no answer within 60s", ERR_RETRY, "timeout", 0, 0, NULL},
    {REQ, 0, "connection", "bq:443: could not connect: Connection refused", ERR_RETRY, "connection", 0, 0, NULL},
    {REQ, 0, "name", "bq:443: the name cannot be resolved", ERR_RETRY, "name", 0, 0, NULL},
    {REQ, 0, "noHttp", "bq:443: does not answer in HTTP", ERR_RETRY, "noHttp", 0, 0, NULL},
    /* rows */
    {FROM_ROW, 0, "row", "row 3: v: \"x\" is no INT64", ERR_TASK, "row", 0, 0, NULL},
    {FROM_ROW, 0, "size", "the item's rows outgrow the buffer of 64MiB", ERR_TASK, "size", 0, 0, "--buffer"},
    {FROM_ROW, 0, "size", "a row of more than 32 MiB", ERR_TASK, "size", 0, 0, NULL},
    {FROM_ROW, 0, "load", "Error while reading data", ERR_TASK, "load", 0, 0, NULL},
    {FROM_ROW, 0, "decode", "cut short", ERR_TASK, "decode", 0, 0, NULL},
    {FROM_ROW, 0, "version", "version 9", ERR_TASK, "version", 0, 0, "newer bqfleet"},
    /* handlers */
    {FROM_HANDLER, 0, "retry", "the API is busy", ERR_RETRY, "handler", 0, 0, NULL},
    {FROM_HANDLER, 0, "task", "no such player", ERR_TASK, "handler", 0, 0, NULL},
    {FROM_HANDLER, 0, "fatal", "the licence is over", ERR_FATAL, "handler", 0, 0, NULL},
    {FROM_HANDLER, 75, "exit", "exit status 75", ERR_RETRY, "handler", 0, 0, NULL},
    {FROM_HANDLER, 1, "exit", "exit status 1", ERR_TASK, "handler", 0, 0, NULL},
    {FROM_HANDLER, 0, "malformed", "line 1: } expected", ERR_TASK, "handler", 0, 0, NULL},
    {FROM_HANDLER, 0, "crash", "killed by signal 11 (Segmentation fault)", ERR_TASK, "crash", 0, 0, NULL},
    {FROM_HANDLER, 0, "timeout", "no answer within 30s; the handler was killed", ERR_TASK, "timeout", 0, 0, "job.timeout"},
    {FROM_HANDLER, 0, "size", "a line of more than 64MiB from the handler", ERR_TASK, "size", 0, 0, NULL},
    {FROM_HANDLER, 0, "start", "No such file or directory", ERR_FATAL, "start", 0, 0, NULL},
    /* without a row of their own */
    {REQ, 0, "", "", ERR_RETRY, "", 0, 0, NULL},
    {REQ, 400, "", "", ERR_FATAL, "", 0, 0, NULL},
    {JOB, 0, "brandNewReason", "whatever", ERR_FATAL, "brandNewReason", 0, 0, NULL},
    {FROM_ROW, 0, "brandNew", "", ERR_TASK, "brandNew", 0, 0, NULL},
    {FROM_HANDLER, 0, "brandNew", "", ERR_TASK, "brandNew", 0, 0, NULL},
};

/* Kafka's are librdkafka's own codes, so that a name misspelt in the table is found. */
static const struct { rd_kafka_resp_err_t code; enum error_kind kind; const char *name; } codes[] = {
    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, ERR_TASK, "too large"},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, ERR_TASK, "too large"},
    {RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE, ERR_TASK, "too large"},
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, ERR_FATAL, "unknown topic"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, ERR_FATAL, "unknown topic"},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, ERR_FATAL, "unknown partition"},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, ERR_FATAL, "TOPIC_EXCEPTION"},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, ERR_FATAL, "TOPIC_AUTHORIZATION_FAILED"},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, ERR_FATAL, "GROUP_AUTHORIZATION_FAILED"},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, ERR_FATAL, "CLUSTER_AUTHORIZATION_FAILED"},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, ERR_FATAL, "SASL_AUTHENTICATION_FAILED"},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, ERR_FATAL, "UNSUPPORTED_SASL_MECHANISM"},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, ERR_FATAL, "_AUTHENTICATION"},
    {RD_KAFKA_RESP_ERR__SSL, ERR_FATAL, "_SSL"},
    {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, ERR_FATAL, "fenced"},
    {RD_KAFKA_RESP_ERR_INVALID_GROUP_ID, ERR_FATAL, "INVALID_GROUP_ID"},
    {RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, ERR_FATAL, "INVALID_PARTITIONS"},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, ERR_FATAL, "INVALID_REPLICATION_FACTOR"},
    {RD_KAFKA_RESP_ERR_INVALID_CONFIG, ERR_FATAL, "INVALID_CONFIG"},
    {RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT, ERR_FATAL, "INVALID_SESSION_TIMEOUT"},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, ERR_FATAL, "POLICY_VIOLATION"},
    {RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, ERR_FATAL, "exists"},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, ERR_FATAL, "UNSUPPORTED_VERSION"},
    {RD_KAFKA_RESP_ERR__QUEUE_FULL, ERR_RETRY, "full"},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, ERR_RETRY, "_ALL_BROKERS_DOWN"},
    {RD_KAFKA_RESP_ERR__TRANSPORT, ERR_RETRY, "_TRANSPORT"},
    {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, ERR_RETRY, "_MSG_TIMED_OUT"},
    {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, ERR_RETRY, "NOT_LEADER_FOR_PARTITION"},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, ERR_RETRY, "NOT_ENOUGH_REPLICAS"},
};

static bool *hit; /* which rows some case has met */

static const struct failure_row *met(const struct failure_row *r)
{
    hit[r - failure_rows] = true;
    return r;
}

static void what_arrives_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct arrives *c = &cases[i];
        const struct failure_row *r = met(failure_find(c->from, c->status, c->reason, c->message));
        const char *name = r->name ? r->name : c->reason;
        if (r->kind != c->kind || strcmp(name, c->name) != 0 || r->parks != c->parks || r->wait_ms != c->wait_ms ||
            (c->advice ? r->advice == NULL || strstr(r->advice, c->advice) == NULL : r->advice != NULL))
            fail_msg("%d %s \"%s\" is %s (%s), parks %d, waits %" PRId64 ", \"%s\"", c->status, c->reason, c->message, error_kind_name(r->kind), name,
                     (int)r->parks, r->wait_ms, r->advice ? r->advice : "");
    }
}

static void bigquerys_errors_carry_what_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct arrives *c = &cases[i];
        struct error err = ERROR_INIT;
        if ((c->from != REQ && c->from != JOB))
            continue;
        assert_ptr_equal(bq_classify(c->status, c->reason, c->message, c->from == JOB, &err), failure_find(c->from, c->status, c->reason, c->message));
        assert_int_equal(err.kind, c->kind);
        assert_int_equal(err.code, c->status);
        assert_int_equal(err.retry_after_ms, c->wait_ms);
        assert_string_equal(err.reason, c->name);
        assert_non_null(strstr(err.text, c->message));
        if (c->advice != NULL)
            assert_non_null(strstr(err.text, c->advice));
    }
}

static void librdkafkas_codes_are_known_by_their_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct error err = ERROR_INIT;
        kafka_error(&err, codes[i].code, "topic %s", "t");
        if (err.kind != codes[i].kind || strcmp(err.reason, codes[i].name) != 0)
            fail_msg("%s is %s (%s)", rd_kafka_err2name(codes[i].code), error_kind_name(err.kind), err.reason);
        assert_int_equal(err.code, codes[i].code);
        assert_non_null(strstr(err.text, rd_kafka_err2str(codes[i].code)));
        met(failure_find(FROM_KAFKA, 0, rd_kafka_err2name(codes[i].code), ""));
    }
    met(failure_find(FROM_KAFKA, 0, "out of range", "")); /* our own word: librdkafka is told to reset nothing */
}

/* So a row that another one hides, or that nothing tests, is found. */
static void every_row_is_met_by_something(void **state)
{
    (void)state;
    for (size_t i = 0; i < failure_count; i++)
        if (!hit[i])
            fail_msg("row %zu (reason %s, text %s, status %d) is met by nothing that is tested", i, failure_rows[i].reason, failure_rows[i].text,
                     failure_rows[i].status);
}

static void only_requests_that_are_too_many_make_them_fewer(void **state)
{
    (void)state;
    assert_true(failure_find(REQ, 429, "", "")->crowded);
    assert_true(failure_find(REQ, 403, "rateLimitExceeded", "Exceeded rate limits: too many concurrent requests")->crowded);
    assert_false(failure_find(REQ, 403, "rateLimitExceeded", "Exceeded rate limits: too many table update operations for this table")->crowded);
    assert_false(failure_find(JOB, 0, "rateLimitExceeded", "Exceeded rate limits: too many concurrent queries")->crowded);
    assert_false(failure_find(REQ, 503, "", "")->crowded);
}

static void a_verdict_is_what_the_table_says(void **state)
{
    (void)state;
    assert_int_equal(verdict_of(FROM_HANDLER, 0, "retry", "x", 1).outcome, OUT_RETRY);
    assert_int_equal(verdict_of(FROM_HANDLER, 75, "exit", "x", 1).outcome, OUT_RETRY);
    assert_int_equal(verdict_of(FROM_HANDLER, 3, "exit", "x", 1).outcome, OUT_TASK);
    assert_int_equal(verdict_of(FROM_HANDLER, 0, "fatal", "x", 1).outcome, OUT_FATAL);
    assert_int_equal(verdict_of(FROM_ROW, 0, "row", "x", 1).outcome, OUT_TASK);
    assert_string_equal(verdict_of(FROM_HANDLER, 3, "exit", "x", 1).reason, "handler");
    assert_string_equal(verdict_of(FROM_HANDLER, 0, "crash", "x", 1).reason, "crash");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_arrives_decides),
        cmocka_unit_test(bigquerys_errors_carry_what_the_table_says),
        cmocka_unit_test(librdkafkas_codes_are_known_by_their_names),
        cmocka_unit_test(every_row_is_met_by_something),
        cmocka_unit_test(only_requests_that_are_too_many_make_them_fewer),
        cmocka_unit_test(a_verdict_is_what_the_table_says),
    };
    hit = xcalloc(failure_count, sizeof(*hit));
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(hit);
    return rc;
}
