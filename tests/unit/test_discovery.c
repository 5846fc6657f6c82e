#include "tests/bq/discovery.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/support_bqmodel.h"

/* The validator itself: requests and answers that are as BigQuery's discovery document says, and such that are not. */

#define JOBS "/bigquery/v2/projects/p/jobs"
#define TABLES "/bigquery/v2/projects/p/datasets/d/tables"
#define JSON "application/json; charset=UTF-8"

static char *check(const char *method, const char *path, const char *query, const char *type, const char *body)
{
    const char *answer;
    return discovery_check_request(
        &(struct discovery_request){.method = method, .path = path, .query = query, .content_type = type, .body = body, .len = strlen(body)}, &answer);
}

static void well(const char *method, const char *path, const char *query, const char *body)
{
    AUTO(free_ptr) char *text = check(method, path, query, *body ? JSON : NULL, body);
    if (text)
        fail_msg("%s", text);
}

static void bad(const char *method, const char *path, const char *query, const char *body, const char *why)
{
    AUTO(free_ptr) char *text = check(method, path, query, *body ? JSON : NULL, body);
    if (text == NULL || strstr(text, why) == NULL)
        fail_msg("%s %s?%s %s: %s, not %s", method, path, query, body, text ? text : "well", why);
}

#define REFERENCE "\"jobReference\":{\"projectId\":\"p\",\"jobId\":\"j\"}"
#define QUERY(more) "{" REFERENCE ",\"configuration\":{\"query\":{\"query\":\"SELECT 1\"" more "}}}"
#define TABLE(more) "{\"tableReference\":{\"projectId\":\"p\",\"datasetId\":\"d\",\"tableId\":\"t\"}" more "}"

static void what_the_document_says_passes(void **state)
{
    (void)state;
    well("POST", JOBS, "prettyPrint=false", QUERY(",\"useLegacySql\":false,\"maximumBytesBilled\":\"1000\""));
    well("POST", JOBS, "", QUERY(",\"queryParameters\":[{\"name\":\"a\",\"parameterType\":{\"type\":\"INT64\"},\"parameterValue\":{\"value\":null}}]"));
    well("POST", JOBS, "", "{\"jobReference\":{\"projectId\":\"p\",\"location\":\"EU\"},\"configuration\":{\"dryRun\":true}}");
    well("GET", JOBS "/j", "location=EU&fields=status%2Fstate", "");
    well("GET", JOBS, "stateFilter=done&stateFilter=running&maxResults=4294967295", "");
    well("POST", JOBS "/j/cancel", "", "");
    well("GET", "/bigquery/v2/projects/p/queries/j", "timeoutMs=10000&maxResults=0", "");
    well("GET", TABLES "/t/data", "formatOptions.useInt64Timestamp=true&startIndex=18446744073709551615", "");
    well("PATCH", TABLES "/t", "", "{\"expirationTime\":\"1\"}");
    well("DELETE", TABLES "/t", "", "");
}

static void a_method_or_a_path_that_is_not_there_is_wrong(void **state)
{
    (void)state;
    bad("PUT", JOBS, "", QUERY(""), "is no method");
    bad("DELETE", JOBS "/j", "", "", "is no method");
    bad("GET", JOBS "/j/cancel", "", "", "is no method");
    bad("GET", "/bigquery/v2/projects/p/job/j", "", "", "is no method");
    bad("GET", "/bigquery/v1/projects/p/jobs/j", "", "", "is no method");
    bad("GET", JOBS "/", "", "", "is no method"); /* a required part of the path is empty */
    bad("GET", "/bigquery/v2/projects//jobs/j", "", "", "is no method");
    bad("GET", TABLES "/a/b", "", "", "is no method");
}

static void query_parameters_are_known_and_of_their_type(void **state)
{
    (void)state;
    bad("GET", JOBS "/j", "place=EU", "", "no query parameter place");
    bad("GET", JOBS "/j", "projectId=p", "", "no query parameter projectId"); /* it belongs into the path */
    bad("GET", TABLES, "maxResults=many", "", "maxResults is \"many\"");
    bad("GET", TABLES, "maxResults=-1", "", "maxResults is \"-1\"");
    bad("GET", TABLES, "maxResults=4294967296", "", "maxResults is");
    bad("GET", TABLES "/t/data", "formatOptions.useInt64Timestamp=1", "", "useInt64Timestamp is \"1\"");
    bad("GET", JOBS, "projection=all", "", "projection is \"all\"");
    bad("GET", JOBS "/j", "location=EU&location=US", "", "location is there twice");
    bad("GET", JOBS "/j", "location=EU&prettyPrint", "", "not well formed");
    bad("GET", JOBS "/j", "prettyPrint=no", "", "prettyPrint is \"no\"");
    bad("GET", JOBS "/j", "upload_id=1", "", "no query parameter upload_id");
}

static void fields_are_known_and_of_their_type(void **state)
{
    (void)state;
    bad("POST", JOBS, "", QUERY(",\"sql\":\"x\""), "configuration.query has no field \"sql\"");
    bad("POST", JOBS, "", QUERY(",\"useLegacySql\":\"false\""), "useLegacySql is no boolean");
    bad("POST", JOBS, "", QUERY(",\"maximumBytesBilled\":1000"), "maximumBytesBilled is no string");
    bad("POST", JOBS, "", QUERY(",\"maximumBytesBilled\":\"1e3\""), "maximumBytesBilled is \"1e3\", no int64");
    bad("POST", JOBS, "", QUERY(",\"queryParameters\":{}"), "queryParameters is no array");
    bad("POST", JOBS, "", QUERY(",\"queryParameters\":[null]"), "has a null at 0");
    bad("POST", JOBS, "", QUERY(",\"queryParameters\":[{\"name\":\"a\",\"parameterType\":{\"type\":\"INT64\"},\"parameterValue\":{\"value\":5}}]"),
        "queryParameters.0.parameterValue.value is no string");
    bad("POST", JOBS, "", "{" REFERENCE ",\"configuration\":{\"load\":{\"maxBadRecords\":\"0\"}}}", "maxBadRecords is no integer");
    bad("POST", JOBS, "", "{" REFERENCE ",\"configuration\":{\"load\":{\"maxBadRecords\":2147483648}}}", "maxBadRecords is no integer");
    bad("POST", JOBS, "", "{" REFERENCE ",\"configuration\":{\"labels\":{\"a\":1}}}", "labels.a is no string");
    bad("POST", JOBS, "", "[]", "is no object");
    bad("POST", TABLES, "", TABLE(",\"etag\":\"x\""), "\"etag\", which is only put out");
    bad("POST", TABLES, "", TABLE(",\"timePartitioning\":{\"type\":\"DAY\",\"requirePartitionFilter\":true}"), "deprecated");
}

static void what_is_required_is_there(void **state)
{
    (void)state;
    bad("POST", JOBS, "", "{" REFERENCE "}", "lacks \"configuration\"");
    bad("POST", JOBS, "", "{" REFERENCE ",\"configuration\":null}", "lacks \"configuration\"");
    bad("POST", JOBS, "", "{\"jobReference\":{\"jobId\":\"j\"},\"configuration\":{}}", "jobReference lacks \"projectId\"");
    bad("POST", TABLES, "", "{\"tableReference\":{\"projectId\":\"p\",\"datasetId\":\"d\"}}", "tableReference lacks \"tableId\"");
    bad("POST", TABLES, "", TABLE(",\"schema\":{\"fields\":[{\"name\":\"a\"}]}"), "schema.fields.0 lacks \"type\"");
    bad("POST", JOBS, "", QUERY(",\"queryParameters\":[{\"name\":\"a\",\"parameterValue\":{\"value\":\"5\"}}]"), "lacks \"parameterType\"");
    bad("PATCH", TABLES "/t", "", "{\"tableReference\":{}}", "tableReference lacks"); /* only the outermost part of a patch may lack something */
}

static void a_body_is_there_where_it_belongs_and_says_what_it_is(void **state)
{
    (void)state;
    bad("GET", JOBS "/j", "", "{}", "takes no body");
    bad("POST", JOBS "/j/cancel", "", "{}", "takes no body");
    bad("POST", JOBS, "", "", "the body's type is \"\"");
    bad("POST", JOBS, "", "{\"configuration\"", "the body: ");
    AUTO(free_ptr) char *text = check("POST", JOBS, "", "text/plain", QUERY(""));
    assert_non_null(text);
}

#define UP "/upload/bigquery/v2/projects/p/jobs"
#define PARTS "multipart/related; boundary=x"

static void uploads_say_their_kind_and_carry_the_job(void **state)
{
    (void)state;
    static const char body[] = "--x\r\nContent-Type: application/json\r\n\r\n" QUERY("") "\r\n--x\r\nContent-Type: */*\r\n\r\n{}\n\r\n--x--\r\n";
    static const char unknown[] = "--x\r\nContent-Type: application/json\r\n\r\n" QUERY(",\"q\":1") "\r\n--x\r\n\r\n\r\n{}\n\r\n--x--\r\n";
    AUTO(free_ptr) char *good = check("POST", UP, "uploadType=multipart", PARTS, body), *field = check("POST", UP, "uploadType=multipart", PARTS, unknown);
    AUTO(free_ptr) char *split = check("POST", UP, "uploadType=multipart", JSON, body), *chunk = check("PUT", UP, "uploadType=resumable&upload_id=7", NULL, "xyz");
    AUTO(free_ptr) char *strange = check("PUT", UP, "uploadType=resumable&upload_id=7&job=j", NULL, "xyz");
    assert_null(good);
    assert_non_null(strstr(field, "has no field \"q\""));
    assert_non_null(strstr(split, "not of two parts"));
    assert_null(chunk);
    assert_non_null(strstr(strange, "no query parameter job"));
    well("POST", UP, "uploadType=resumable", QUERY(""));
    bad("POST", UP, "", QUERY(""), "an uploadType \"\"");
    bad("POST", UP, "uploadType=media", QUERY(""), "an uploadType \"media\"");
    bad("POST", UP, "uploadType=resumable", QUERY(",\"q\":1"), "has no field \"q\"");
    bad("POST", JOBS, "uploadType=multipart", QUERY(""), "an uploadType \"multipart\"");
}

static void answers_are_checked_too(void **state)
{
    (void)state;
    static const struct { const char *schema, *body, *why; } rows[] = {
        {"TableDataList", "{\"totalRows\":\"1\",\"rows\":[{\"f\":[{\"v\":null}]}]}", NULL},
        {"TableDataList", "{\"totalRows\":1}", "totalRows is no string"},
        {"TableDataList", "{\"totalRows\":null}", "totalRows is null"},
        {"Job", "{\"configuration\":{},\"status\":{\"state\":\"DONE\"},\"etag\":\"x\"}", NULL}, /* what is put out is */
        {"Job", "{\"configuration\":{},\"status\":{\"condition\":\"DONE\"}}", "status has no field \"condition\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(doc_free_auto) doc *body = doc_parse(rows[i].body, strlen(rows[i].body), "body", NULL);
        AUTO(free_ptr) char *text = discovery_check_answer(rows[i].schema, body);
        if (rows[i].why ? text == NULL || strstr(text, rows[i].why) == NULL : text != NULL)
            fail_msg("%s: %s", rows[i].body, text ? text : "well");
    }
}

static void the_model_remembers_the_first_violation(void **state)
{
    struct world *w = *state;
    assert_int_equal(ask(w, "GET", "/datasets/ds/tables/t?view=BASIC", NULL), 200);
    assert_null(bqmodel_violation(w->m));
    assert_int_equal(ask(w, "GET", "/datasets/ds/tables/t?look=BASIC", NULL), 200);
    ask(w, "GET", "/datasets/ds/tables/t?see=BASIC", NULL);
    assert_string_equal(bqmodel_violation(w->m), "tables.get: BigQuery knows no query parameter look");
    bqmodel_forgive(w->m);
    assert_null(bqmodel_violation(w->m));
}

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_document_says_passes), TEST(a_method_or_a_path_that_is_not_there_is_wrong), TEST(query_parameters_are_known_and_of_their_type),
        TEST(fields_are_known_and_of_their_type), TEST(what_is_required_is_there), TEST(a_body_is_there_where_it_belongs_and_says_what_it_is),
        TEST(uploads_say_their_kind_and_carry_the_job), TEST(answers_are_checked_too),
        cmocka_unit_test_setup_teardown(the_model_remembers_the_first_violation, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
