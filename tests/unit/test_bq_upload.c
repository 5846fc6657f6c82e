#include "common/bq/job.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "tests/unit/support_bqscript.h"

/* Loads with their bytes, through the job machine, against a script of replies. 20 MiB are three chunks: 8, 8 and 4 MiB. */

#define DONE_JOB                                                                                                                      \
    "{\"configuration\":{\"labels\":{\"bqfleet_digest\":\"d1\"}},\"statistics\":{\"endTime\":\"2\",\"load\":{\"outputRows\":\"7\"}}," \
    "\"status\":{\"state\":\"DONE\"}}"
#define MIB (1024 * 1024)
#define START "POST", "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable", "X-Upload-Content-Length: 20971520"
#define SESSION 200, NULL, "Location: http://bq/session/1"
#define PUT(range) "PUT", "http://bq/session/1", "Content-Range: bytes " range "/20971520\n"
#define KEPT(range) 308, NULL, "Range: " range
#define GONE(status) status, "{\"error\":{\"message\":\"gone\"}}", NULL
#define READ "GET", "/projects/p/jobs/b_t0?location=EU", NULL

struct outcome {
    bool over, failed;
    struct error err;
    int64_t rows;
};

static void on_end(void *arg, const struct bq_job_result *r)
{
    struct outcome *o = arg;
    o->over = true;
    o->failed = r->err != NULL;
    if (r->err)
        o->err = *r->err;
    o->rows = r->output_rows;
}

static void start(struct script *s, const struct http_slice *media, size_t count, struct outcome *o)
{
    static const struct bq_ref table = {"p", "d", "t"};
    AUTO(doc_free_auto) doc *config = bq_load_config(&table);
    struct bq_job_spec spec = {.id_base = "b", .location = "EU", .configuration = config, .digest = "d1", .media = media, .media_count = count};
    bq_job_start(s->bq, &spec, on_end, o);
}

/* Slices whose borders are not the chunks' borders, so that a wrong cut shows in the bytes. */
static char *big;
static struct http_slice slices[3];
static int make_big(void **state)
{
    (void)state;
    big = xmalloc(20 * MIB);
    for (size_t i = 0; i < 20 * MIB; i++)
        big[i] = (char)('a' + i % 23);
    slices[0] = (struct http_slice){big, 5 * MIB + 1};
    slices[1] = (struct http_slice){big + 5 * MIB + 1, 10 * MIB};
    slices[2] = (struct http_slice){big + 15 * MIB + 1, 5 * MIB - 1};
    return 0;
}

static int free_big(void **state)
{
    (void)state;
    free(big);
    return 0;
}

static struct outcome play_big(struct script *s)
{
    struct outcome o = {0};
    start(s, slices, ARRAY_LEN(slices), &o);
    script_run(s, &o.over);
    script_end(s);
    return o;
}

static void a_small_load_is_one_request_with_job_and_rows(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/upload/bigquery/v2/projects/p/jobs?uploadType=multipart", "Content-Type: multipart/related; boundary=", 200, DONE_JOB, NULL});
    struct http_slice media[] = {{"{\"a\":1}\n", 8}, {"{\"a\":2}\n", 8}};
    struct outcome o = {0};
    start(&s, media, 2, &o);
    script_run(&s, &o.over);
    assert_int_equal(o.rows, 7);
    const char *text = s.last.data, *boundary = strstr(text, "boundary=") + 9;
    char part[256];
    snprintf(part, sizeof(part), "--%.*s\r\nContent-Type: */*\r\n\r\n{\"a\":1}\n{\"a\":2}\n\r\n--%.*s--\r\n", (int)strcspn(boundary, "\n"), boundary,
             (int)strcspn(boundary, "\n"), boundary);
    assert_non_null(strstr(text, part));
    assert_non_null(strstr(text, "\"createDisposition\":\"CREATE_NEVER\""));
    assert_non_null(strstr(text, "\"location\":\"EU\""));
    script_end(&s);
}

static void a_large_load_goes_in_chunks(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), KEPT("bytes=0-8388607")}, {PUT("8388608-16777215"), KEPT("bytes=0-16777215")},
           {PUT("16777216-20971519"), 200, DONE_JOB, NULL});
    struct outcome o = {0};
    start(&s, slices, ARRAY_LEN(slices), &o);
    while (s.at < 3)
        loop_step(s.loop, US_PER_S);
    const char *second = strstr(s.last.data, "octet-stream\n") + 13;
    assert_memory_equal(second, big + 8 * MIB, 8 * MIB);
    script_run(&s, &o.over);
    assert_int_equal(s.last.len - (size_t)(strstr(s.last.data, "octet-stream\n") + 13 - s.last.data), 4 * MIB);
    assert_false(o.failed);
    script_end(&s);
}

static void what_the_server_kept_is_where_it_goes_on(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), KEPT("0-262143")}, {PUT("262144-8650751"), KEPT("bytes=0-8650751")},
           {PUT("8650752-17039359"), KEPT("bytes=0-17039359")}, {PUT("17039360-20971519"), 201, DONE_JOB, NULL});
    assert_false(play_big(&s).failed);
}

static void a_server_that_kept_nothing_gets_it_all_again_after_a_while(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), 308, NULL, NULL}, {PUT("0-8388607"), KEPT("bytes=0-16777215")},
           {PUT("16777216-20971519"), 200, DONE_JOB, NULL});
    assert_false(play_big(&s).failed);
}

static void a_lost_reply_is_followed_by_a_question(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), 0, NULL, NULL}, {PUT("*"), 503, NULL, NULL}, {PUT("*"), KEPT("bytes=0-1048575")},
           {PUT("1048576-9437183"), KEPT("bytes=0-9437183")}, {PUT("9437184-17825791"), KEPT("bytes=0-17825791")},
           {PUT("17825792-20971519"), 0, NULL, NULL}, {PUT("*"), 200, DONE_JOB, NULL});
    struct outcome o = play_big(&s);
    assert_false(o.failed);
    assert_int_equal(o.rows, 7);
}

static void a_session_that_is_gone_is_opened_anew_unless_the_job_exists(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), GONE(410)}, {READ, GONE(404)}, {START, SESSION}, {PUT("0-8388607"), GONE(404)},
           {READ, 200, DONE_JOB, NULL}, {READ, 200, DONE_JOB, NULL});
    struct outcome o = play_big(&s);
    assert_false(o.failed);
    assert_int_equal(o.rows, 7);
}

static void a_conflict_at_the_last_byte_means_read_that_job(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), KEPT("bytes=0-16777215")},
           {PUT("16777216-20971519"), 409, "{\"error\":{\"errors\":[{\"reason\":\"duplicate\"}]}}", NULL}, {READ, 200, DONE_JOB, NULL});
    struct outcome o = play_big(&s);
    assert_false(o.failed);
    assert_int_equal(o.rows, 7);
}

static void a_server_that_claims_too_much_is_not_believed(void **state)
{
    (void)state;
    SCRIPT(s, {START, SESSION}, {PUT("0-8388607"), KEPT("bytes=0-99999999")});
    struct outcome o = play_big(&s);
    assert_true(o.failed);
    assert_int_equal(o.err.kind, ERR_FATAL);
}

static void a_session_may_have_a_relative_address(void **state)
{
    (void)state;
    SCRIPT(s, {START, 200, NULL, "Location: /session/1"}, {PUT("0-8388607"), KEPT("bytes=0-16777215")},
           {PUT("16777216-20971519"), 200, DONE_JOB, NULL});
    assert_false(play_big(&s).failed);
}

static void an_upload_that_stands_still_ends(void **state)
{
    (void)state;
    static struct line lines[200];
    lines[0] = (struct line){START, SESSION};
    for (size_t i = 1; i < ARRAY_LEN(lines); i++)
        lines[i] = (struct line){PUT("0-8388607"), 308, NULL, NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    struct outcome o = {0};
    start(&s, slices, ARRAY_LEN(slices), &o);
    script_run(&s, &o.over);
    assert_true(o.failed);
    assert_int_equal(o.err.kind, ERR_RETRY);
    assert_true(s.at < 150);
    s.at = s.count;
    script_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_load_is_one_request_with_job_and_rows),
        cmocka_unit_test(a_large_load_goes_in_chunks),
        cmocka_unit_test(what_the_server_kept_is_where_it_goes_on),
        cmocka_unit_test(a_server_that_kept_nothing_gets_it_all_again_after_a_while),
        cmocka_unit_test(a_lost_reply_is_followed_by_a_question),
        cmocka_unit_test(a_session_that_is_gone_is_opened_anew_unless_the_job_exists),
        cmocka_unit_test(a_conflict_at_the_last_byte_means_read_that_job),
        cmocka_unit_test(a_server_that_claims_too_much_is_not_believed),
        cmocka_unit_test(a_session_may_have_a_relative_address),
        cmocka_unit_test(an_upload_that_stands_still_ends),
    };
    return cmocka_run_group_tests(tests, make_big, free_big);
}
