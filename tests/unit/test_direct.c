#include "tests/unit/support_direct.h"

/* Rows written directly: workers and coordinators as processes of their own, on one bus and one BigQuery. */

/* --- as it should be ---------------------------------------------------------------------------------------------------------------------------- */

static void rows_are_in_the_table_while_the_run_goes_on(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 10);
    DIRECT_WAIT(nothing_waits);
    assert_int_equal(direct_fold()->phase, RUN_PUBLISHING);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 10);
    crew_items(&crew, crew.record, 10, 10);
    direct_wait_done(20);
    DIRECT_WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 20);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 0);
    direct_seal(20);
    direct_all_items_are_there_once(20);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 0); /* nothing was left for it */
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    direct_end(state);
}

static void what_is_loaded_while_a_statement_runs_shares_the_next_one(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    direct_work_one(0); /* there are permits now */
    bqmodel_options(crew.stage->model)->dml_ms = 5000;
    crew_items(&crew, crew.record, 1, 1600); /* 20 s of work */
    direct_wait_done(1601);
    DIRECT_WAIT(nothing_waits);
    assert_true(bqmodel_counters(crew.stage->model)->loads >= 8);
    assert_in_range(crew_jobs(&crew, "bqfleet_direct_"), 3, 6);
    direct_seal(1601);
    direct_all_items_are_there_once(1601);
    direct_end(state);
}

static void the_permit_for_the_next_cut_is_asked_for_while_this_one_is_written(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    direct_work_one(0);
    bqmodel_options(crew.stage->model)->dml_ms = 2000;
    int64_t from_ms = loop_wall_ms(crew.stage->loop);
    crew_items(&crew, crew.record, 1, 1600); /* 20 s of work */
    direct_wait_done(1601);
    DIRECT_WAIT(nothing_waits);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(crew.stage->model);
    int64_t last_ms = 0, at_once = 0;
    for (size_t i = 0; i < doc_len(jobs); i++) {
        const doc *job = doc_at(jobs, i);
        if (strncmp(doc_str(job, "jobReference.jobId", ""), "bqfleet_direct_", 15) != 0 || doc_int(job, "statistics.startTime", 0) < from_ms)
            continue;
        at_once += doc_int(job, "statistics.startTime", 0) - last_ms < 500;
        last_ms = doc_int(job, "statistics.endTime", 0);
    }
    assert_true(at_once >= 4); /* a statement about the permit alone takes two seconds */
    direct_seal(1601);
    direct_end(state);
}

static void two_permits_let_two_workers_write_at_once_and_one_only_one(void **state)
{
    for (int permits = 1; permits <= 2; permits++) {
        static const char *const direct[] = {"bqfleet_direct_"};
        struct record *r = direct_open(state);
        bqmodel_options(crew.stage->model)->dml_ms = 3000;
        r->permits = permits;
        r->mode = WRITE_APPEND;
        r->key_count = 0;
        direct_begin(state, r);
        direct_hire(&worker, "a");
        direct_hire(&other, "b");
        stage_sleep(crew.stage, 1000);
        crew_items(&crew, crew.record, 0, 800);
        direct_wait_done(800);
        DIRECT_WAIT(nothing_waits);
        assert_int_equal(crew_at_once(&crew, direct, 1), permits);
        direct_seal(800);
        direct_all_items_are_there_once(800);
        direct_end(state);
    }
}

/* Of equal keys, without order_by, the row that was written later stays. */
static void of_equal_keys_the_later_increment_wins(void **state)
{
    direct_begin(state, direct_open(state));
    crew_play.one_key = true;
    direct_hire(&worker, "a");
    for (int64_t item = 0; item < 5; item++) {
        direct_work_one(item);
        AUTO(doc_free_auto) doc *rows = bqmodel_rows(crew.stage->model, STAGE_TARGET);
        assert_int_equal(doc_len(rows), 1);
        assert_int_equal(doc_int(doc_at(rows, 0), "v", -1), item);
    }
    stage_seal(crew.stage, crew.record, 5);
    DIRECT_WAIT(is_done);
    crew_kill(&crew, &worker);
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

/* --- the run's end ---------------------------------------------------------------------------------------------------------------------------------- */

static void of_a_cancelled_run_the_cuts_before_it_stand_and_nothing_more(void **state)
{
    struct record *r = direct_open(state);
    bqmodel_options(crew.stage->model)->dml_ms = 3000;
    direct_begin(state, r);
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 1000);
    wanted = 1;
    DIRECT_WAIT(so_many_written);
    DIRECT_WAIT(a_cut_stands);
    stage_say(crew.stage, crew.record, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    DIRECT_WAIT(is_done);
    assert_int_equal(direct_fold()->end, END_CANCEL);
    size_t cuts = direct_fold()->cut_count;
    for (size_t i = 0; i < cuts; i++)
        assert_int_equal(direct_fold()->cuts[i].state, CUT_DONE);
    int64_t rows = bqmodel_count(crew.stage->model, STAGE_TARGET);
    assert_in_range(rows, 1, 999);
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    stage_sleep(crew.stage, 120000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), rows);
    direct_end(state);
}

static void a_held_run_keeps_its_increments_and_the_accept_takes_the_rest(void **state)
{
    struct record *r = direct_open(state);
    r->finish.tolerate_count = 0;
    direct_begin(state, r);
    crew_play.first_bad = 20;
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 20);
    direct_wait_done(20);
    DIRECT_WAIT(nothing_waits);
    crew_items(&crew, crew.record, 20, 2);
    direct_wait_done(22);
    stage_seal(crew.stage, crew.record, 22);
    DIRECT_WAIT(is_held);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 20);
    stage_say(crew.stage, crew.record, (struct log_msg){.type = LOGM_ACCEPT});
    DIRECT_WAIT(is_done);
    assert_int_equal(direct_fold()->end, END_ACCEPTED);
    direct_all_items_are_there_once(20);
    direct_end(state);
}

static void an_increment_that_fails_for_good_fails_the_run(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_ERROR, .times = -1, .reason = "invalidQuery",
                                                             .message = "No matching signature"});
    crew_items(&crew, crew.record, 0, 4);
    DIRECT_WAIT(is_settled);
    assert_int_equal(direct_fold()->end, END_FAILED);
    assert_non_null(strstr(direct_fold()->end_text, "No matching signature"));
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 0);
    DIRECT_WAIT(is_done);
    direct_end(state);
}

static void a_worker_that_drains_writes_what_it_has_loaded(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 40);
    direct_wait_done(20);
    crew_drain(&crew, &worker, 30000);
    int64_t done = direct_fold()->done;
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), done);
    direct_hire(&other, "b"); /* gets the permit at once: it was given back */
    int64_t from_ms = direct_now_ms();
    direct_wait_done(40);
    DIRECT_WAIT(nothing_waits);
    assert_true(direct_now_ms() - from_ms < WAIT_PERMIT_LEASE / 2);
    direct_seal(40);
    direct_all_items_are_there_once(40);
    direct_end(state);
}

static void a_run_that_replaces_another_one_writes_nothing_before_that_is_over(void **state)
{
    struct record *older = direct_open(state);
    older->via = VIA_STAGING;
    stage_publish(crew.stage, older);
    struct record *r = crew_record(&crew, "run-2");
    snprintf(r->replaces, sizeof(r->replaces), "run-1");
    direct_begin(state, r);
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 4);
    direct_wait_done(4);
    stage_sleep(crew.stage, 60000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 0);
    assert_int_equal(direct_fold()->cut_count, 0);
    crew_coordinator(&crew, &other, older, TRACK_FIRST);
    stage_say(crew.stage, older, (struct log_msg){.type = LOGM_CANCEL, .text = "replaced"});
    DIRECT_WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 4);
    direct_seal(4);
    direct_all_items_are_there_once(4);
    record_free(older);
    direct_end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_in_the_table_while_the_run_goes_on),
        cmocka_unit_test(what_is_loaded_while_a_statement_runs_shares_the_next_one),
        cmocka_unit_test(the_permit_for_the_next_cut_is_asked_for_while_this_one_is_written),
        cmocka_unit_test(two_permits_let_two_workers_write_at_once_and_one_only_one),
        cmocka_unit_test(of_equal_keys_the_later_increment_wins),
        cmocka_unit_test(of_a_cancelled_run_the_cuts_before_it_stand_and_nothing_more),
        cmocka_unit_test(a_held_run_keeps_its_increments_and_the_accept_takes_the_rest),
        cmocka_unit_test(an_increment_that_fails_for_good_fails_the_run),
        cmocka_unit_test(a_worker_that_drains_writes_what_it_has_loaded),
        cmocka_unit_test(a_run_that_replaces_another_one_writes_nothing_before_that_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
