#include "tests/unit/support_bqjob.h"

/* Giving up is a job, too. */

static void a_failure_for_everyone_stands_as_a_job_under_the_next_id(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "no such 'column'")), NULL}, {GIVE_UP(1), 200, GIVEN_UP(1), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.failed);
    assert_true(o.decided);
    assert_int_equal(o.err.kind, ERR_FATAL);
    assert_int_equal(o.tries, 2);
    assert_string_equal(o.job_id, "b_t1");
}

static void the_giveup_job_names_itself_and_repeats_the_reason(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "no such 'column'")), NULL}, {GIVE_UP(1), 200, GIVEN_UP(1), NULL});
    struct outcome o = {0};
    job_start(&s, GIVES_UP, &o);
    script_run(&s, &o.over);
    assert_non_null(strstr(s.last.data, "\"bqfleet_kind\":\"giveup\""));
    assert_non_null(strstr(s.last.data, "\"bqfleet_digest\":\"d1\""));
    assert_non_null(strstr(s.last.data, "\"bqfleet_error\":\"fatal\""));
    assert_non_null(strstr(s.last.data, "no such \\\\'column\\\\'"));
    script_end(&s);
}

static void a_giveup_job_that_is_found_is_the_answer(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("backendError", "busy")), NULL}, {INSERT(1), CONFLICT(1)}, {READ(1), 200, GIVEN_UP(1), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.failed);
    assert_true(o.decided);
    assert_string_equal(o.err.reason, "givenUp");
    assert_int_equal(o.err.kind, ERR_TASK); /* as its label says */
    assert_string_equal(o.err.text, "it was hopeless");
}

static void a_giveup_job_that_does_not_say_of_what_kind_it_is_is_final(void **state)
{
    (void)state;
    static const char bare[] = "{\"configuration\":{\"labels\":{\"bqfleet_digest\":\"d1\",\"bqfleet_kind\":\"giveup\"}},\"statistics\":{" CREATED
                               "},\"status\":{\"state\":\"DONE\",\"errorResult\":{\"reason\":\"invalidQuery\",\"message\":\"it was hopeless\"}}}";
    SCRIPT(s, {INSERT(0), CONFLICT(0)}, {READ(0), 200, bare, NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.decided);
    assert_int_equal(o.err.kind, ERR_FATAL);
}

static void a_job_that_is_being_given_up_says_so(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 200, OURS(0, BROKEN("invalidQuery", "no such 'column'")), NULL}, {GIVE_UP(1), 200, GIVEN_UP(1), NULL});
    struct outcome o = {0};
    bool told = false;
    const struct bq_job *job = job_start(&s, GIVES_UP, &o);
    for (int i = 0; i < 1000 && !o.over; i++) {
        told |= strcmp(bq_job_state(job), "giving up") == 0;
        loop_step(s.loop, US_PER_MS);
    }
    assert_true(told && o.over);
    script_end(&s);
}

static void a_refused_insert_gives_up_under_its_own_id(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 400, ERROR_BODY("invalid", "Invalid value"), NULL}, {GIVE_UP(0), 200, GIVEN_UP(0), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.decided);
    assert_int_equal(o.tries, 1);
}

static void when_giving_up_is_refused_too_nobody_has_decided(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 400, ERROR_BODY("invalid", "no"), NULL}, {GIVE_UP(0), 403, ERROR_BODY("accessDenied", "no"), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.failed);
    assert_false(o.decided);
    assert_int_equal(o.err.kind, ERR_RETRY);
}

static void what_one_process_may_not_insert_is_not_given_up_for_everyone(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 403, ERROR_BODY("accessDenied", "no"), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_true(o.failed);
    assert_false(o.decided);
    assert_int_equal(o.err.kind, ERR_FATAL);
}

static void giving_up_yields_to_a_try_that_another_process_made(void **state)
{
    (void)state;
    SCRIPT(s, {INSERT(0), 400, ERROR_BODY("invalid", "no"), NULL}, {GIVE_UP(0), CONFLICT(0)},
           {READ(0), 200, OURS(0, STATE("RUNNING")), NULL}, {RESULTS(0), 200, "{\"jobComplete\":true}", NULL}, {READ(0), 200, OURS(0, MERGED), NULL});
    struct outcome o = job_play(&s, GIVES_UP);
    assert_false(o.failed);
    assert_int_equal(o.updated, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_for_everyone_stands_as_a_job_under_the_next_id),
        cmocka_unit_test(the_giveup_job_names_itself_and_repeats_the_reason),
        cmocka_unit_test(a_giveup_job_that_is_found_is_the_answer),
        cmocka_unit_test(a_giveup_job_that_does_not_say_of_what_kind_it_is_is_final),
        cmocka_unit_test(a_job_that_is_being_given_up_says_so),
        cmocka_unit_test(a_refused_insert_gives_up_under_its_own_id),
        cmocka_unit_test(when_giving_up_is_refused_too_nobody_has_decided),
        cmocka_unit_test(what_one_process_may_not_insert_is_not_given_up_for_everyone),
        cmocka_unit_test(giving_up_yields_to_a_try_that_another_process_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
