#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

/* The model of BigQuery, asked as the product asks it: by REST requests on a virtual loop. Its statements are in test_bqmodel_sql.c. */

/* --- tables -------------------------------------------------------------------------------------------------------------------------------- */

static void tables_are_made_read_changed_listed_and_dropped(void **state)
{
    struct world *w = *state;
    assert_int_equal(ask(w, "POST", "/datasets", "{\"datasetReference\":{\"projectId\":\"local\",\"datasetId\":\"d2\"}}"), 200);
    assert_int_equal(ask(w, "POST", "/datasets", "{\"datasetReference\":{\"projectId\":\"local\",\"datasetId\":\"d2\"}}"), 409);
    assert_int_equal(ask(w, "GET", "/datasets/d2", NULL), 200);
    assert_answer(w, "location", "US");
    assert_int_equal(ask(w, "GET", "/datasets/d3", NULL), 404);
    assert_int_equal(ask(w, "GET", "/datasets?maxResults=1000", NULL), 200);
    assert_int_equal(doc_len(doc_get(w->doc, "datasets")), 2);
    const char *table = "{\"tableReference\":{\"projectId\":\"local\",\"datasetId\":\"d2\",\"tableId\":\"a\"},"
                        "\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"INTEGER\"}]},\"labels\":{\"x\":\"y\"}}";
    assert_int_equal(ask(w, "POST", "/datasets/d2/tables", table), 200);
    assert_int_equal(ask(w, "POST", "/datasets/d2/tables", table), 409);
    assert_answer(w, "error.errors.0.reason", "duplicate");
    assert_answer(w, "error.message", "Already Exists: Table local:d2.a");
    assert_int_equal(ask(w, "PATCH", "/datasets/d2/tables/a", "{\"expirationTime\":\"1999999999999\"}"), 200);
    assert_int_equal(ask(w, "GET", "/datasets/d2/tables/a", NULL), 200);
    assert_answer(w, "expirationTime", "1999999999999");
    assert_answer(w, "labels.x", "y");
    bqmodel_add_table(w->m, "d2.b", "k:STRING");
    assert_int_equal(ask(w, "GET", "/datasets/d2/tables?maxResults=1", NULL), 200);
    assert_answer(w, "tables.0.tableReference.tableId", "a");
    AUTO(free_ptr) char *next = xasprintf("/datasets/d2/tables?maxResults=1&pageToken=%s", doc_str(w->doc, "nextPageToken", ""));
    assert_int_equal(ask(w, "GET", next, NULL), 200);
    assert_answer(w, "tables.0.tableReference.tableId", "b");
    assert_null(doc_get(w->doc, "nextPageToken"));
    assert_int_equal(ask(w, "DELETE", "/datasets/d2/tables/a", NULL), 204);
    assert_int_equal(ask(w, "DELETE", "/datasets/d2/tables/a", NULL), 404);
}

static void a_table_is_gone_when_its_time_is_over(void **state)
{
    struct world *w = *state;
    AUTO(free_ptr) char *body = xasprintf("{\"expirationTime\":\"%" PRId64 "\"}", loop_wall_ms(w->loop) + 1000);
    assert_int_equal(ask(w, "PATCH", "/datasets/ds/tables/s", body), 200);
    assert_true(bqmodel_has_table(w->m, "ds.s"));
    world_sleep(w, 1100);
    assert_false(bqmodel_has_table(w->m, "ds.s"));
    assert_int_equal(ask(w, "GET", "/datasets/ds/tables/s", NULL), 404);
    load(w, "late", "s", PLAIN("a", 1, 0, "l1"));
    assert_answer(w, "status.errorResult.reason", "notFound");
    assert_false(bqmodel_has_table(w->m, "ds.s"));
}

static void rows_come_in_pages_as_the_service_writes_them(void **state)
{
    struct world *w = *state;
    bqmodel_add_table(w->m, "ds.all", "i:INT64, f:FLOAT64, b:BOOL, s:STRING, t:TIMESTAMP, a:STRING REPEATED, n:NUMERIC");
    bqmodel_insert(w->m, "ds.all", "[{\"i\":\"12\",\"f\":1.5,\"b\":true,\"s\":\"x\",\"t\":\"2024-01-01 00:00:00.5+01:00\",\"a\":[\"p\",\"q\"],\"n\":\"1.50\"},{},{\"i\":3}]");
    assert_int_equal(ask(w, "GET", "/datasets/ds/tables/all/data?maxResults=2&formatOptions.useInt64Timestamp=true", NULL), 200);
    assert_answer(w, "rows.0.f.0.v", "12");
    assert_answer(w, "rows.0.f.1.v", "1.5");
    assert_answer(w, "rows.0.f.2.v", "true");
    assert_answer(w, "rows.0.f.4.v", "1704063600500000");
    assert_answer(w, "rows.0.f.5.v.1.v", "q");
    assert_answer(w, "rows.0.f.6.v", "1.5");
    assert_int_equal(doc_type(doc_get(w->doc, "rows.1.f.0.v")), DOC_NULL);
    assert_answer(w, "totalRows", "3");
    AUTO(free_ptr) char *next = xasprintf("/datasets/ds/tables/all/data?pageToken=%s", doc_str(w->doc, "pageToken", ""));
    assert_int_equal(ask(w, "GET", next, NULL), 200);
    assert_answer(w, "rows.0.f.0.v", "3");
    assert_null(doc_get(w->doc, "pageToken"));
    assert_int_equal(ask(w, "GET", "/datasets/ds/tables/all/data?startIndex=0&maxResults=1", NULL), 200);
    assert_answer(w, "rows.0.f.4.v", "1.7040636005E9");
    assert_rows(w, "ds.all", "[{\"i\":12,\"f\":1.5,\"b\":true,\"s\":\"x\",\"t\":\"2023-12-31T23:00:00.5Z\",\"a\":[\"p\",\"q\"],\"n\":\"1.5\"},"
                             "{\"i\":null,\"f\":null,\"b\":null,\"s\":null,\"t\":null,\"a\":[],\"n\":null},"
                             "{\"i\":3,\"f\":null,\"b\":null,\"s\":null,\"t\":null,\"a\":[],\"n\":null}]");
}

/* --- loads --------------------------------------------------------------------------------------------------------------------------------- */

static void a_load_goes_through_its_states_and_appends_at_the_end(void **state)
{
    struct world *w = *state;
    assert_int_equal(insert_load(w, "a", "s", PLAIN("a", 1, 0, "l1") "\n" PLAIN("b", 2, 1, "l1")), 200);
    assert_answer(w, "status.state", "PENDING");
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 0);
    get_job(w, "a");
    assert_answer(w, "status.state", "RUNNING");
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 0);
    wait_job(w, "a");
    assert_good(w);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 2);
    assert_int_equal(doc_int(w->doc, "statistics.load.outputRows", -1), 2);
    assert_answer(w, "configuration.labels.a", "b");
    assert_answer(w, "jobReference.location", "US");
    assert_int_equal(doc_int(w->doc, "statistics.creationTime", 0), START_US / US_PER_MS + 1);
    assert_true(doc_int(w->doc, "statistics.endTime", 0) >= doc_int(w->doc, "statistics.startTime", 0) + 5);
}

static void a_job_id_is_used_once_for_ever(void **state)
{
    struct world *w = *state;
    load(w, "a", "s", PLAIN("a", 1, 0, "l1"));
    assert_int_equal(insert_load(w, "a", "s", PLAIN("a", 1, 0, "l1")), 409);
    assert_answer(w, "error.errors.0.reason", "duplicate");
    assert_answer(w, "error.message", "Already Exists: Job local:US.a");
    load(w, "b", "nowhere", "{}");
    assert_answer(w, "status.errorResult.reason", "notFound");
    assert_int_equal(insert_load(w, "b", "s", "{}"), 409);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 1);
    assert_int_equal(bqmodel_counters(w->m)->duplicates, 2);
}

static void a_bad_row_fails_the_whole_load(void **state)
{
    static const struct { const char *line, *why; } bad[] = {
        {"{\"k\":\"a\",\"unknown\":1}", "No such field: unknown."},
        {"{\"k\":\"a\",\"i\":\"x\"}", "Field: i"},
        {"{\"k\":\"a\",\"i\":1.5}", "Field: i"},
        {"{\"i\":1}", "Missing required field: k."},
        {"{\"k\":null}", "Only optional fields can be set to NULL. Field: k"},
        {"{\"k\":\"a\",\"d\":\"2024-02-30\"}", "Field: d"},
        {"{\"k\":\"a\",\"n\":\"1.234\"}", "Field: n"},
        {"{\"k\":\"a\",\"s\":\"toolong\"}", "maximum length 3"},
        {"{\"k\":\"a\",\"l\":[1,null]}", "Field: l"},
        {"{\"k\":\"a\",\"l\":1}", "l."},
        {"{\"k\":\"a\",\"z\":\"abc\"}", "Field: z"},
        {"{\"k\":\"a\",\"r\":{\"q\":1}}", "No such field: r.q."},
        {"{\"k\":\"a\"", "Parser terminated"},
        {"{\"k\":\"some bqmodel-reject text\"}", "not accepted"},
    };
    struct world *w = *state;
    bqmodel_add_table(w->m, "ds.strict", "[\"k:STRING REQUIRED\",\"i:INT64\",\"d:DATE\",\"n:NUMERIC(5,2)\",\"s:STRING(3)\",\"l:INT64 REPEATED\",\"z:BYTES\","
                                         "{\"name\":\"r\",\"type\":\"RECORD\",\"fields\":[{\"name\":\"p\",\"type\":\"INT64\"}]}]");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char id[32];
        snprintf(id, sizeof(id), "bad%zu", i);
        AUTO(free_ptr) char *lines = xasprintf("{\"k\":\"fine\"}\n%s\n", bad[i].line);
        load(w, id, "strict", lines);
        assert_answer(w, "status.errorResult.reason", "invalid");
        assert_answer(w, "status.errorResult.message", "JSON table encountered too many errors, giving up. Rows: 2; errors: 1.");
        assert_answer(w, "status.errors.2.message", "starting at position 13");
        assert_answer(w, "status.errors.2.message", bad[i].why);
        assert_int_equal(bqmodel_count(w->m, "ds.strict"), 0);
    }
    load(w, "good", "strict", "{\"K\":\"a\",\"i\":\"7\",\"d\":\"2024-02-29\",\"n\":\"1.20\",\"l\":[\"1\"],\"z\":\"YWI=\",\"r\":{\"p\":2}}");
    assert_rows(w, "ds.strict", "[{\"k\":\"a\",\"i\":7,\"d\":\"2024-02-29\",\"n\":\"1.2\",\"s\":null,\"l\":[1],\"z\":\"YWI=\",\"r\":{\"p\":2}}]");
}

static bool reject_all(void *arg, const char *table, const char *line, size_t len)
{
    (void)arg;
    return strcmp(table, "local.ds.s") == 0 && len > 0 && line[0] == '{';
}

static void a_test_says_which_rows_are_poison(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w, &(struct bqmodel_options){.reject = reject_all});
    bqmodel_add_table(w.m, "ds.s", SHARD);
    load(&w, "a", "s", PLAIN("a", 1, 0, "l1"));
    assert_answer(&w, "status.errorResult.reason", "invalid");
    assert_int_equal(bqmodel_count(w.m, "ds.s"), 0);
    world_end(&w);
}

static void jobs_are_found_only_with_their_location_where_there_is_one(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w, &(struct bqmodel_options){.location = "EU"});
    bqmodel_add_table(w.m, "ds.s", SHARD);
    assert_int_equal(insert_load(&w, "a", "s", PLAIN("a", 1, 0, "l1")), 200);
    assert_int_equal(ask(&w, "GET", "/jobs/a", NULL), 404);
    assert_answer(&w, "error.message", "Not found: Job local:a");
    assert_int_equal(ask(&w, "GET", "/jobs/a?location=EU", NULL), 200);
    assert_int_equal(ask(&w, "GET", "/jobs/b?location=EU", NULL), 404);
    world_end(&w);
}

/* --- resumable uploads ---------------------------------------------------------------------------------------------------------------------- */

#define UNIT 262144

/* A session's address; lines: exactly this many bytes will come. */
static void start_session(struct world *w, const char *id, size_t total, char *url, size_t size)
{
    AUTO(free_ptr) char *job = load_job(id, "s");
    AUTO(free_ptr) char *length = xasprintf("X-Upload-Content-Length: %zu", total);
    const char *const headers[] = {"Content-Type: application/json", length, NULL};
    assert_int_equal(ask_with(w, "POST", UPLOAD "?uploadType=resumable", headers, job, strlen(job)), 200);
    snprintf(url, size, "%s", w->location);
    assert_true(strncmp(url, UPLOAD, sizeof(UPLOAD) - 1) == 0);
}

static int put(struct world *w, const char *url, const char *range, const char *body, size_t len)
{
    AUTO(free_ptr) char *line = xasprintf("Content-Range: bytes %s", range);
    const char *const headers[] = {line, NULL};
    return ask_with(w, "PUT", url, headers, body, len);
}

/* One row that is one byte longer than a unit: the rest is space. */
static char *long_line(void)
{
    static const char row[] = PLAIN("a", 1, 0, "l1");
    char *text = xmalloc(UNIT + 2);
    memset(text, ' ', UNIT + 1);
    memcpy(text + UNIT + 1 - (sizeof(row) - 1), row, sizeof(row) - 1);
    text[UNIT + 1] = '\0';
    return text;
}

static void a_session_takes_chunks_of_whole_units_and_makes_its_job_at_the_end(void **state)
{
    struct world *w = *state;
    char url[256], url2[256];
    AUTO(free_ptr) char *data = long_line();
    start_session(w, "r", UNIT + 1, url, sizeof(url));
    assert_int_equal(put(w, url, "*/262145", "", 0), 308);
    assert_string_equal(w->range, "");
    assert_int_equal(put(w, url, "0-99/262145", data, 100), 400);
    assert_int_equal(put(w, url, "0-262143/262145", data, UNIT), 308);
    assert_string_equal(w->range, "bytes=0-262143");
    assert_null(bqmodel_job(w->m, "r"));
    assert_int_equal(put(w, url, "*/262145", "", 0), 308);
    assert_string_equal(w->range, "bytes=0-262143");
    assert_int_equal(put(w, url, "262144-262144/262145", data + UNIT, 1), 200);
    assert_answer(w, "jobReference.jobId", "r");
    assert_int_equal(put(w, url, "*/262145", "", 0), 200); /* the same for as long as it is asked */
    wait_job(w, "r");
    assert_good(w);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 1);
    start_session(w, "r", UNIT + 1, url2, sizeof(url2)); /* the id is looked at when the job is made */
    assert_int_equal(put(w, url2, "0-262144/262145", data, UNIT + 1), 409);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 1);
}

static void a_session_may_keep_fewer_bytes_and_may_go(void **state)
{
    struct world *w = *state;
    char url[256];
    AUTO(free_ptr) char *data = long_line();
    start_session(w, "r", UNIT + 1, url, sizeof(url));
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "r", .kind = BQMODEL_KEEP_FEWER, .bytes = 1000});
    assert_int_equal(put(w, url, "0-262144/262145", data, UNIT + 1), 308);
    assert_string_equal(w->range, "bytes=0-999");
    assert_int_equal(put(w, url, "2000-262144/262145", data + 2000, UNIT - 1999), 400); /* not where it stands */
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_SESSION_GONE, .status = 410});
    assert_int_equal(put(w, url, "1000-262144/262145", data + 1000, UNIT - 999), 410);
    assert_int_equal(put(w, url, "*/262145", "", 0), 404);
    assert_null(bqmodel_job(w->m, "r"));
}

/* --- faults ---------------------------------------------------------------------------------------------------------------------------------- */

static void faults_strike_where_and_as_often_as_they_were_told(void **state)
{
    struct world *w = *state;
    static const char row[] = PLAIN("a", 1, 0, "l1");
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "uploadType=multipart", .kind = BQMODEL_LOSE_REPLY});
    assert_int_equal(insert_load(w, "a", "s", row), 0);
    assert_true(w->last.maybe_executed);
    assert_int_equal(w->last.err.kind, ERR_RETRY);
    assert_int_equal(insert_load(w, "a", "s", row), 409); /* it was executed */
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "job_b", .kind = BQMODEL_DROP_BEFORE, .skip = 1, .times = 2});
    assert_int_equal(ask(w, "GET", "/jobs/job_b", NULL), 404);
    assert_int_equal(insert_load(w, "job_b", "s", row), 0);
    assert_int_equal(insert_load(w, "job_b", "s", row), 0);
    assert_int_equal(insert_load(w, "job_b", "s", row), 200); /* it was not, and the fault is spent */
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "GET", .kind = BQMODEL_STATUS, .status = 403, .reason = "rateLimitExceeded", .message = "slow down"});
    assert_int_equal(ask(w, "GET", "/jobs/a", NULL), 403);
    assert_answer(w, "error.errors.0.reason", "rateLimitExceeded");
    assert_answer(w, "error.message", "slow down");
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "/jobs", .kind = BQMODEL_STATUS, .body = "<html>busy</html>", .executed = true});
    assert_int_equal(insert_load(w, "c", "s", row), 503);
    assert_string_equal(w->last.body, "<html>busy</html>");
    get_job(w, "c");
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "/jobs/c", .kind = BQMODEL_DELAY, .ms = 30000, .times = -1});
    int64_t before = loop_now_ms(w->loop);
    get_job(w, "c");
    assert_int_equal(loop_now_ms(w->loop) - before, 30002);
    bqmodel_clear_faults(w->m);
    assert_int_equal(bqmodel_counters(w->m)->faults, 6);
}

static void a_request_ends_after_its_time_though_it_was_executed(void **state)
{
    struct world *w = *state;
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "", .kind = BQMODEL_DELAY, .ms = 90000});
    int64_t before = loop_now_ms(w->loop);
    assert_int_equal(insert_load(w, "a", "s", PLAIN("a", 1, 0, "l1")), 0);
    assert_true(w->last.maybe_executed);
    assert_int_equal(loop_now_ms(w->loop) - before, 60000);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 1);
}

static void a_job_ends_late_or_badly_when_told(void **state)
{
    struct world *w = *state;
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "LOAD local.ds.s", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "try again"});
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "slow", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "slow", .kind = BQMODEL_JOB_PENDING, .ms = 7000});
    load(w, "bad", "s", PLAIN("a", 1, 0, "l1"));
    assert_answer(w, "status.errorResult.reason", "backendError");
    assert_answer(w, "status.errorResult.message", "try again");
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 0);
    assert_int_equal(doc_int(w->doc, "statistics.load.outputRows", -1), 0);
    load(w, "slow", "s", PLAIN("a", 1, 0, "l1"));
    assert_good(w);
    assert_int_equal(doc_int(w->doc, "statistics.startTime", 0) - doc_int(w->doc, "statistics.creationTime", 0), 7002);
    assert_int_equal(doc_int(w->doc, "statistics.endTime", 0) - doc_int(w->doc, "statistics.startTime", 0), 5005);
    assert_int_equal(bqmodel_counters(w->m)->failed, 1);
}

static void cancelling_a_call_or_a_job_ends_it(void **state)
{
    struct world *w = *state;
    struct reply never = {0};
    http_cancel(w->http, http_send(w->http, &(struct http_request){.method = "GET", .url = URL "/jobs"}, reply_cb, &never));
    assert_int_equal(insert_load(w, "a", "s", PLAIN("a", 1, 0, "l1")), 200);
    assert_int_equal(ask(w, "POST", "/jobs/a/cancel", NULL), 200);
    wait_job(w, "a");
    assert_answer(w, "status.errorResult.reason", "stopped");
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 0);
    assert_int_equal(never.calls, 0);
    http_send(w->http, &(struct http_request){.method = "GET", .url = URL "/jobs"}, reply_cb, &never); /* dropped at the end of the test */
}

#define REFERENCE(id) "\"jobReference\":{\"projectId\":\"local\",\"jobId\":\"" id "\"}"
static void jobs_that_no_honest_program_would_insert_are_refused(void **state)
{
    static const struct { const char *body; int status; } bad[] = {
        {"{" REFERENCE("a b") ",\"configuration\":{\"query\":{\"query\":\"x\"}}}", 400},
        {"{" REFERENCE("a") ",\"configuration\":{}}", 400},
        {"{" REFERENCE("a") ",\"configuration\":{\"load\":{}}}", 400},
        {"{" REFERENCE("a") ",\"configuration\":{\"labels\":{\"A\":\"b\"},\"query\":{\"query\":\"x\"}}}", 400},
        {"{" REFERENCE("a") ",\"configuration\":{\"labels\":{\"a\":\"b c\"},\"query\":{\"query\":\"x\"}}}", 400},
        {"{\"jobReference\":{\"jobId\":\"a\",\"projectId\":\"other\"},\"configuration\":{\"query\":{\"query\":\"x\"}}}", 400},
        {"{", 400},
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(ask(w, "POST", "/jobs", bad[i].body), bad[i].status);
    assert_string_equal(bqmodel_violation(w->m), "jobs.insert: the body: line 1, column 1: string or '}' expected near end of file");
    bqmodel_forgive(w->m);
    assert_int_equal(ask(w, "GET", "/nonsense", NULL), 404);
    assert_non_null(bqmodel_violation(w->m));
    bqmodel_forgive(w->m);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(w->m);
    assert_int_equal(doc_len(jobs), 0);
}

/* --- on a socket ----------------------------------------------------------------------------------------------------------------------------- */

static int ask_port(struct world *w, int port, const char *method, const char *path, const char *body)
{
    AUTO(free_ptr) char *url = xasprintf("http://127.0.0.1:%d%s", port, path);
    return ask_with(w, method, url, NULL, body, body ? strlen(body) : 0);
}

static void on_a_socket_it_is_the_same_and_can_be_controlled(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct world w = {.loop = loop_new()};
    w.m = bqmodel_new(w.loop, NULL);
    w.http = http_curl(w.loop, &(struct http_options){0});
    int port = bqmodel_serve(w.m, "127.0.0.1", 0, &err);
    assert_true(port > 0);
    assert_int_equal(ask_port(&w, port, "POST", "/control/table", "{\"ref\":\"ds.t\",\"schema\":{\"fields\":\"k:STRING\"},\"rows\":[{\"k\":\"a\"}]}"), 200);
    assert_int_equal(ask_port(&w, port, "GET", "/control/rows?table=local.ds.t", NULL), 200);
    assert_answer(&w, "0.k", "a");
    assert_int_equal(ask_port(&w, port, "GET", "/bigquery/v2/projects/local/datasets/ds/tables/t?prettyPrint=false", NULL), 200);
    assert_answer(&w, "numRows", "1");
    assert_int_equal(ask_port(&w, port, "POST", "/control/fault", "{\"match\":\"tables/t\",\"kind\":\"lose_reply\"}"), 200);
    assert_int_equal(ask_port(&w, port, "DELETE", "/bigquery/v2/projects/local/datasets/ds/tables/t", NULL), 0);
    assert_int_equal(ask_port(&w, port, "GET", "/control/rows?table=ds.t", NULL), 404);
    assert_int_equal(ask_port(&w, port, "POST", "/control/fault", "{\"match\":\"\",\"kind\":\"lose_mind\"}"), 400);
    assert_int_equal(ask_port(&w, port, "POST", "/control/fault", "{\"match\":\"\",\"kind\":\"delay\",\"misspelt\":1}"), 400);
    assert_int_equal(ask_port(&w, port, "POST", "/control/table", "{\"ref\":\"ds.t\",\"schema\":{\"fields\":\"k:STRING\"}}"), 200);
    assert_int_equal(ask_port(&w, port, "POST", "/control/expire?table=ds.t", "{}"), 200);
    assert_int_equal(ask_port(&w, port, "GET", "/bigquery/v2/projects/local/datasets/ds/tables/t", NULL), 404);
    assert_int_equal(ask_port(&w, port, "GET", "/control/counters", NULL), 200);
    assert_int_equal(doc_int(w.doc, "requests", -1), 3);
    assert_int_equal(doc_int(w.doc, "faults", -1), 1);
    assert_int_equal(doc_type(doc_get(w.doc, "unknown_statement")), DOC_NULL);
    http_free(w.http);
    world_end(&w);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tables_are_made_read_changed_listed_and_dropped),
        TEST(a_table_is_gone_when_its_time_is_over),
        TEST(rows_come_in_pages_as_the_service_writes_them),
        TEST(a_load_goes_through_its_states_and_appends_at_the_end),
        TEST(a_job_id_is_used_once_for_ever),
        TEST(a_bad_row_fails_the_whole_load),
        cmocka_unit_test(a_test_says_which_rows_are_poison),
        cmocka_unit_test(jobs_are_found_only_with_their_location_where_there_is_one),
        TEST(a_session_takes_chunks_of_whole_units_and_makes_its_job_at_the_end),
        TEST(a_session_may_keep_fewer_bytes_and_may_go),
        TEST(faults_strike_where_and_as_often_as_they_were_told),
        TEST(a_request_ends_after_its_time_though_it_was_executed),
        TEST(a_job_ends_late_or_badly_when_told),
        TEST(cancelling_a_call_or_a_job_ends_it),
        TEST(jobs_that_no_honest_program_would_insert_are_refused),
        cmocka_unit_test(on_a_socket_it_is_the_same_and_can_be_controlled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
