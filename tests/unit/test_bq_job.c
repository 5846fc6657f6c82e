#include "tests/unit/support_bqjob.h"

/* A job from its insert to its end. */

static void a_job_that_is_done_at_once_needs_one_request(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_false(o.failed);
    assert_int_equal(o.rows, 12345678901);
    assert_int_equal(o.tries, 1);
    assert_int_equal(o.announced, 1);
    assert_string_equal(o.job_id, "b_t0");
    assert_int_equal(o.ended_ms, 1700000002000);
}

static void a_load_is_polled_from_pending_to_running_to_done(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("PENDING")), NULL}, {READ(0), 200, OURS(0, STATE("PENDING")), NULL},
           {READ(0), 200, OURS(0, STATE("RUNNING")), NULL}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = {0};
    struct bq_job *job = job_start(&s, LOAD, &o);
    assert_string_equal(bq_job_state(job), "inserting");
    while (s.at < 2)
        loop_step(s.loop, US_PER_S);
    assert_string_equal(bq_job_state(job), "pending");
    while (s.at < 3)
        loop_step(s.loop, US_PER_S);
    loop_step(s.loop, 2 * US_PER_MS);
    assert_string_equal(bq_job_state(job), "running");
    script_run(&s, &o.over);
    assert_false(o.failed);
    assert_int_equal(o.announced, 1);
    assert_true(loop_now_ms(s.loop) < 3000);
    script_end(&s);
}

/* Of a load there is no long poll. The one before took a second, as BigQuery's own figures say. */
static void a_load_is_asked_about_when_loads_use_to_end(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, LOADED), NULL}, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL},
           {READ(0), 200, OURS(0, STATE("RUNNING")), NULL}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome first = {0}, second = {0};
    job_start(&s, LOAD, &first);
    script_run(&s, &first.over);
    job_start(&s, LOAD, &second);
    int64_t from = loop_now_ms(s.loop);
    while (s.at < 3)
        loop_step(s.loop, US_PER_S);
    assert_in_range(loop_now_ms(s.loop) - from, 562, 940);
    script_run(&s, &second.over);
    assert_in_range(loop_now_ms(s.loop) - from, 562 + 75, 940 + 130);
    assert_false(second.failed);
    script_end(&s);
}

/* One load waited for an hour in BigQuery's queue; the next one's end is not heard of an hour later. */
static void one_slow_load_slows_no_other_one(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, "\"statistics\":{\"creationTime\":\"1\",\"endTime\":\"3600001\",\"load\":{}},\"status\":{\"state\":\"DONE\"}"), NULL},
           {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome first = {0}, second = {0};
    job_start(&s, LOAD, &first);
    script_run(&s, &first.over);
    job_start(&s, LOAD, &second);
    script_run(&s, &second.over);
    assert_true(loop_now_ms(s.loop) <= 14000);
    script_end(&s);
}

/* Whoever goes first to see whether requests are taken again is not refused for it by ourselves. */
static void when_requests_are_taken_again_the_job_goes_on(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 403, ERROR_BODY("quotaExceeded", "Quota exceeded for quota metric 'API requests'"), NULL}, {INSERT(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = {0};
    job_start(&s, LOAD, &o);
    script_run(&s, &o.over);
    assert_in_range(loop_now_ms(s.loop), 600000, 606000);
    script_end(&s);
}

static void polls_of_a_long_load_grow_to_ten_seconds(void **state)
{
    (void)state;
    static struct line lines[42];
    lines[0] = (struct line){INSERT(0), 200, OURS(0, STATE("PENDING")), NULL};
    for (size_t i = 1; i < 41; i++)
        lines[i] = (struct line){READ(0), 200, OURS(0, STATE("RUNNING")), NULL};
    lines[41] = (struct line){READ(0), 200, OURS(0, LOADED), NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    struct outcome o = {0};
    job_start(&s, LOAD, &o);
    script_run(&s, &o.over);
    assert_in_range(loop_now_ms(s.loop), 200000, 420000);
    script_end(&s);
}

static void a_query_waits_at_the_server_and_its_figures_come_from_the_job(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 200, "{\"jobComplete\":false}", NULL},
           {RESULTS(0), 200, "{\"jobComplete\":true}", NULL}, {READ(0), 200, OURS(0, MERGED), NULL});
    struct outcome o = job_play(&s, 0);
    assert_false(o.failed);
    assert_int_equal(o.inserted, 1);
    assert_int_equal(o.updated, 2);
    assert_int_equal(o.deleted, 3);
    assert_int_equal(o.affected, 6);
    assert_int_equal(o.billed, 10485760);
}

static void a_lost_reply_is_repeated_and_its_conflict_read(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 0, NULL, NULL}, {INSERT(0), CONFLICT(0)}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_false(o.failed);
    assert_int_equal(o.announced, 1);
    assert_int_equal(o.tries, 1);
}

static void a_conflict_may_be_a_job_that_cannot_be_seen_yet(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), CONFLICT(0)}, {READ(0), 404, ERROR_BODY("notFound", "Not found: Job"), NULL}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_false(o.failed);
}

static void another_digest_under_our_id_is_a_loud_stop(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), CONFLICT(0)}, {READ(0), 200, JOB("b_t0", "d2", LOADED), NULL});
    struct outcome o = job_play(&s, LOAD | GIVES_UP);
    assert_true(o.failed);
    assert_int_equal(o.err.kind, ERR_FATAL);
    assert_string_equal(o.err.reason, "foreignJob");
    assert_int_equal(o.announced, 0);
}

static void a_job_older_than_its_run_is_a_loud_stop(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), CONFLICT(0)},
           {READ(0), 200, JOB("b_t0", "d1", "\"statistics\":{\"creationTime\":\"1699996399000\"},\"status\":{\"state\":\"DONE\"}"), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_int_equal(o.err.kind, ERR_FATAL);
    assert_string_equal(o.err.reason, "foreignJob");
}

static void an_hour_of_clock_skew_is_allowed(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), CONFLICT(0)},
           {READ(0), 200, JOB("b_t0", "d1", "\"statistics\":{\"creationTime\":\"1699996401000\",\"endTime\":\"1\",\"load\":{\"outputRows\":\"1\"}},"
                              "\"status\":{\"state\":\"DONE\"}"), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_false(o.failed);
}

static void a_try_that_failed_for_a_moment_is_followed_by_the_next_id(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "Could not serialize access to table p:d.t due to concurrent update")), NULL},
           {INSERT(1), 200, OURS(1, BROKEN("jobBackendError", "busy")), NULL}, {INSERT(2), 200, OURS(2, MERGED), NULL});
    struct outcome o = job_play(&s, 0);
    assert_false(o.failed);
    assert_int_equal(o.tries, 3);
    assert_int_equal(o.announced, 3);
    assert_string_equal(o.job_id, "b_t2");
}

static void done_with_an_error_result_is_a_failure_that_the_job_decided(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "Syntax error: Unexpected end of script at [1:6]")), NULL});
    struct outcome o = job_play(&s, 0);
    assert_true(o.failed);
    assert_true(o.decided);
    assert_int_equal(o.err.kind, ERR_FATAL);
    assert_non_null(strstr(o.err.text, "Syntax error"));
}

static void tries_come_to_an_end(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("backendError", "busy")), NULL}, {INSERT(1), 200, OURS(1, BROKEN("backendError", "busy")), NULL});
    struct outcome o = job_play(&s, TWO_TRIES);
    assert_true(o.failed);
    assert_true(o.decided);
    assert_int_equal(o.err.kind, ERR_RETRY);
    assert_int_equal(o.tries, 2);
}

/* Two tries are too many failures of its own; any number of others' statements are not. */
static void others_statements_in_the_way_do_not_count(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "Could not serialize access to table p:d.t due to concurrent update")), NULL},
           {INSERT(1), 200, OURS(1, BROKEN("resourcesExceeded", "Too many DML statements outstanding against table p:d.t, limit is 20.")), NULL},
           {INSERT(2), 200, OURS(2, BROKEN("invalidQuery", "Could not serialize access to table p:d.t due to concurrent update")), NULL},
           {INSERT(3), 200, OURS(3, BROKEN("backendError", "busy")), NULL}, {INSERT(4), 200, OURS(4, MERGED), NULL});
    struct outcome o = job_play(&s, PATIENT | TWO_TRIES);
    assert_false(o.failed);
    assert_int_equal(o.tries, 5);
}

static void a_refused_insert_decides_nothing(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 403, ERROR_BODY("accessDenied", "Access Denied: no bigquery.jobs.create"), NULL});
    struct outcome o = job_play(&s, 0);
    assert_true(o.failed);
    assert_false(o.decided);
    assert_int_equal(o.err.kind, ERR_FATAL);
    assert_int_equal(o.announced, 0);
}

static void a_quota_is_waited_for_under_the_same_id(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 403, ERROR_BODY("quotaExceeded", "Your table exceeded quota for imports"), NULL}, {INSERT(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = {0};
    struct bq_job *job = job_start(&s, LOAD, &o);
    loop_step(s.loop, US_PER_S);
    loop_step(s.loop, US_PER_S);
    assert_non_null(strstr(bq_job_state(job), "waiting for a quota until 2023-11-14T22:23:2"));
    script_run(&s, &o.over);
    assert_false(o.failed);
    assert_true(loop_now_ms(s.loop) >= 600000);
    script_end(&s);
}

static void a_quota_that_stays_is_not_given_up_for_everyone(void **state)
{
    (void)state;
    static struct line lines[8];
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        lines[i] = (struct line){INSERT(0), 403, ERROR_BODY("quotaExceeded", "Your table exceeded quota for imports"), NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    struct outcome o = {0};
    job_start(&s, GIVES_UP, &o);
    while (!o.over && loop_now_ms(s.loop) < 5 * 3600000)
        loop_step(s.loop, 3600 * US_PER_S);
    assert_true(o.over);
    assert_int_equal(o.err.kind, ERR_QUOTA);
    assert_false(o.decided);
    script_end(&s);
}

static void a_failed_query_is_believed_only_when_its_job_says_so(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 400, ERROR_BODY("invalidQuery", "division by zero"), NULL},
           {READ(0), 200, OURS(0, STATE("RUNNING")), NULL}, {READ(0), 200, OURS(0, MERGED), NULL});
    struct outcome o = job_play(&s, 0);
    assert_false(o.failed);
}

static void a_failed_query_is_not_polled_again_for_its_error(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 400, ERROR_BODY("jobBackendError", "busy"), NULL},
           {READ(0), 200, OURS(0, BROKEN("jobBackendError", "busy")), NULL}, {INSERT(1), 200, OURS(1, MERGED), NULL});
    struct outcome o = job_play(&s, 0);
    assert_false(o.failed);
    assert_int_equal(o.tries, 2);
}

static void a_stopped_job_is_cancelled_only_when_asked(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 200, "{}", NULL},
           {"POST", "/projects/p/jobs/b_t0/cancel?location=EU", NULL, 200, "{}", NULL});
    struct outcome o = {0};
    struct bq_job *job = job_start(&s, 0, &o);
    while (s.at < 2)
        loop_step(s.loop, US_PER_S);
    bq_job_stop(job, true);
    loop_step(s.loop, US_PER_S);
    assert_false(o.over);
    script_end(&s);
}

/* What is none of BigQuery's answers says nothing: neither that a job was taken, nor how it stands, nor that there is none. */
static void what_a_proxy_answers_in_its_place_is_as_if_it_were_lost(void **state)
{
    static const char *const pages[] = {NULL, "<html>sign in</html>", "{}", "[1]", "{\"status\":\"DONE\"}", "{\"status\":{\"state\":1}}", "{\"status\":{\"sta"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        const struct line lines[] = {{INSERT(0), 200, pages[i], NULL}, {INSERT(0), CONFLICT(0)}, {READ(0), 200, pages[i], NULL}, {READ(0), 200, OURS(0, LOADED), NULL}};
        struct script s;
        script_begin(&s, lines, ARRAY_LEN(lines));
        struct outcome o = job_play(&s, LOAD);
        assert_false(o.failed);
        assert_int_equal(o.rows, 12345678901);
    }
    SCRIPT(q, {INSERT(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 200, "{\"jobComplete\":\"yes\"}", NULL}, {READ(0), 200, OURS(0, MERGED), NULL});
    assert_false(job_play(&q, 0).failed);
}

static void a_page_that_says_not_found_does_not_say_that_there_is_no_job(void **state)
{
    (void)state;
    static struct line lines[9];
    lines[0] = (struct line){INSERT(0), CONFLICT(0)};
    for (size_t i = 1; i < 8; i++) /* more of them than reads of a job that is not there */
        lines[i] = (struct line){READ(0), 404, i % 2 ? "<html>404</html>" : "{\"detail\":\"Not Found\"}", NULL};
    lines[8] = (struct line){READ(0), 200, OURS(0, LOADED), NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    assert_false(job_play(&s, LOAD).failed);
}

static void a_job_whose_place_nobody_tells_is_asked_for_without_one(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/jobs?", "\"jobId\":\"b_t0\"", 200, "{\"configuration\":{\"labels\":{\"bqfleet_digest\":\"d1\"}}," STATE("RUNNING") "}", NULL},
           {"GET", "/projects/p/jobs/b_t0?prettyPrint", NULL, 200, OURS(0, STATE("RUNNING")), NULL}, {READ(0), 200, OURS(0, LOADED), NULL}); /* once it is told, with it */
    assert_false(job_play(&s, LOAD | NOWHERE).failed);
}

static void an_answer_without_figures_is_read_again(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, STATE("DONE")), NULL}, {READ(0), 200, OURS(0, LOADED), NULL});
    struct outcome o = job_play(&s, LOAD);
    assert_int_equal(o.rows, 12345678901);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_that_is_done_at_once_needs_one_request),
        cmocka_unit_test(a_load_is_polled_from_pending_to_running_to_done),
        cmocka_unit_test(a_load_is_asked_about_when_loads_use_to_end),
        cmocka_unit_test(one_slow_load_slows_no_other_one), cmocka_unit_test(when_requests_are_taken_again_the_job_goes_on),
        cmocka_unit_test(polls_of_a_long_load_grow_to_ten_seconds),
        cmocka_unit_test(a_query_waits_at_the_server_and_its_figures_come_from_the_job),
        cmocka_unit_test(a_lost_reply_is_repeated_and_its_conflict_read),
        cmocka_unit_test(a_conflict_may_be_a_job_that_cannot_be_seen_yet),
        cmocka_unit_test(another_digest_under_our_id_is_a_loud_stop),
        cmocka_unit_test(a_job_older_than_its_run_is_a_loud_stop),
        cmocka_unit_test(an_hour_of_clock_skew_is_allowed),
        cmocka_unit_test(a_try_that_failed_for_a_moment_is_followed_by_the_next_id),
        cmocka_unit_test(done_with_an_error_result_is_a_failure_that_the_job_decided),
        cmocka_unit_test(tries_come_to_an_end),
        cmocka_unit_test(others_statements_in_the_way_do_not_count),
        cmocka_unit_test(a_refused_insert_decides_nothing),
        cmocka_unit_test(a_quota_is_waited_for_under_the_same_id),
        cmocka_unit_test(a_quota_that_stays_is_not_given_up_for_everyone),
        cmocka_unit_test(a_failed_query_is_believed_only_when_its_job_says_so),
        cmocka_unit_test(a_failed_query_is_not_polled_again_for_its_error),
        cmocka_unit_test(a_stopped_job_is_cancelled_only_when_asked),
        cmocka_unit_test(an_answer_without_figures_is_read_again), cmocka_unit_test(a_job_whose_place_nobody_tells_is_asked_for_without_one),
        cmocka_unit_test(what_a_proxy_answers_in_its_place_is_as_if_it_were_lost),
        cmocka_unit_test(a_page_that_says_not_found_does_not_say_that_there_is_no_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
