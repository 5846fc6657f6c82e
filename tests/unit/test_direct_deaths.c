#include "tests/unit/support_direct.h"

/* Rows written directly, by workers that die, are stopped, lose their permit, their replies or their place in the group. */

static void a_worker_that_dies_between_its_cut_and_the_job_has_it_done_by_a_coordinator(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_DROP_BEFORE, .times = -1});
    crew_items(&crew, crew.record, 0, 4);
    DIRECT_WAIT(a_cut_stands);
    stage_sleep(crew.stage, 1000);
    crew_kill(&crew, &worker);
    bqmodel_clear_faults(crew.stage->model);
    assert_false(its_job_is_there(NULL));
    int64_t from_ms = direct_now_ms();
    DIRECT_WAIT(nothing_waits);
    assert_in_range(direct_now_ms() - from_ms, WAIT_SECOND_COORDINATOR - 5000, 2 * WAIT_SECOND_COORDINATOR + WAIT_PERMIT_LEASE);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 1);
    direct_hire(&other, "b");
    direct_seal(4);
    direct_all_items_are_there_once(4);
    direct_end(state);
}

static void a_worker_that_dies_between_the_job_and_the_outcome_has_it_told_by_a_coordinator(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_SLOW, .ms = 100000});
    crew_items(&crew, crew.record, 0, 4);
    DIRECT_WAIT(its_job_is_there);
    crew_kill(&crew, &worker);
    direct_seal(4);
    direct_all_items_are_there_once(4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 1);
    direct_end(state);
}

static void a_worker_that_dies_before_its_cut_leaves_its_loads_to_the_last_one(void **state)
{
    struct record *r = direct_open(state);
    bqmodel_options(crew.stage->model)->dml_ms = 20000; /* taking the permit takes long */
    direct_begin(state, r);
    direct_hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 4);
    direct_wait_done(4);
    crew_kill(&crew, &worker);
    assert_int_equal(direct_fold()->cut_count, 0);
    direct_seal(4);
    direct_all_items_are_there_once(4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 0);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 1);
    direct_end(state);
}

/* It has the cut, the job is not inserted, the lease is over, others have written what it was about to write. */
static void a_worker_that_was_stopped_beyond_its_lease_changes_nothing(void **state)
{
    struct record *r = direct_open(state);
    r->mode = WRITE_APPEND;
    r->key_count = 0;
    direct_begin(state, r);
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_DROP_BEFORE, .times = -1});
    crew_items(&crew, crew.record, 0, 4);
    DIRECT_WAIT(a_cut_stands);
    stage_sleep(crew.stage, 500);
    sleeper_stop(worker.sleeper);
    stage_sleep(crew.stage, 3000);
    bqmodel_clear_faults(crew.stage->model);
    direct_hire(&other, "b");
    crew_items(&crew, crew.record, 4, 4);
    direct_wait_done(8);
    DIRECT_WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 8);
    sleeper_go_on(worker.sleeper);
    stage_sleep(crew.stage, 120000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 8);
    direct_seal(8);
    direct_all_items_are_there_once(8);
    direct_end(state);
}

/* The same, and it comes back while nobody has done its work: its statement fails by its fence, and the next try runs under another permit. */
static void a_statement_that_lost_its_permit_is_tried_again_under_another_one(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    direct_work_one(0);
    bqmodel_options(crew.stage->model)->dml_ms = 3000; /* more is loaded meanwhile: the next permit is wished for before this one is lost */
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                             .message = "bqfleet: the permit is lost1"});
    crew_items(&crew, crew.record, 1, 1000);
    int64_t from_ms = direct_now_ms();
    direct_wait_done(1001);
    DIRECT_WAIT(nothing_waits);
    assert_true(direct_now_ms() - from_ms < WAIT_PERMIT_LEASE + 40000); /* what was lost runs out */
    assert_non_null(strstr(direct_fold()->cuts[1].job, "_t1"));
    direct_seal(1001);
    direct_all_items_are_there_once(1001);
    direct_end(state);
}

static bool it_has_failed(void *arg)
{
    (void)arg;
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(crew.stage->model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        if (strncmp(doc_str(doc_at(jobs, i), "jobReference.jobId", ""), "bqfleet_direct_", 15) == 0 && doc_get(doc_at(jobs, i), "status.errorResult") != NULL)
            return true;
    return false;
}

/* Whoever goes on with it does not take its own permit for lost. */
static void a_worker_that_dies_having_lost_its_permit_is_followed_by_a_coordinator_with_a_good_one(void **state)
{
    direct_begin(state, direct_open(state));
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                             .message = "bqfleet: the permit is lost1"});
    crew_items(&crew, crew.record, 0, 4);
    DIRECT_WAIT(it_has_failed);
    crew_kill(&crew, &worker);
    int64_t from_ms = direct_now_ms();
    DIRECT_WAIT(nothing_waits);
    assert_true(direct_now_ms() - from_ms < WAIT_PERMIT_LEASE + 30000); /* the worker's lease, but not the coordinator's after it */
    assert_non_null(strstr(direct_fold()->cuts[0].job, "_t1"));
    direct_seal(4);
    direct_all_items_are_there_once(4);
    direct_end(state);
}

static bool it_was_taken(void *arg)
{
    (void)arg;
    return crew_jobs(&crew, "bqfleet_permit_take") >= wanted;
}

static bool it_is_over(void *arg)
{
    (void)arg;
    return crew_jobs(&crew, "bqfleet_direct_") >= wanted;
}

/* Its cut does not get into the log, or its outcome; BigQuery hears it, so that it could renew its permit for ever. */
static void a_worker_that_is_cut_off_from_the_log_does_not_keep_its_permit(void **state)
{
    for (int outcome = 0; outcome < 2; outcome++) {
        direct_begin(state, direct_open(state));
        bqmodel_options(crew.stage->model)->dml_ms = 500;
        direct_hire(&worker, "a");
        direct_hire(&other, "b");
        stage_sleep(crew.stage, 1000);
        crew_items(&crew, crew.record, 0, 1);
        wanted = 1;
        STAGE_WAIT(crew.stage, outcome ? its_job_is_there : it_was_taken, NULL);
        sleeper_mute(worker.sleeper, true);
        if (outcome)
            DIRECT_WAIT(it_is_over);
        int64_t from_ms = direct_now_ms();
        crew_items(&crew, crew.record, 1, 3); /* some of them the other one's */
        wanted = outcome ? 2 : 1;
        STAGE_WAIT(crew.stage, it_is_over, NULL);
        assert_true(direct_now_ms() - from_ms < WAIT_LOG_BACK + 30000);
        sleeper_mute(worker.sleeper, false);
        direct_wait_done(4);
        DIRECT_WAIT(nothing_waits);
        direct_seal(4);
        direct_all_items_are_there_once(4);
        direct_end(state);
    }
}

static void lost_replies_cost_no_row_and_double_none(void **state)
{
    static const char *const places[] = {"bqfleet_direct_", "bqfleet_permit_take", "bqfleet_permit_ahead", "bqfleet_permit_release", "bqfleet_load_"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct record *r = direct_open(state);
        r->mode = WRITE_APPEND;
        r->key_count = 0;
        bqmodel_options(crew.stage->model)->dml_ms = 400;
        direct_begin(state, r);
        bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = places[i], .kind = BQMODEL_LOSE_REPLY, .times = 3});
        direct_hire(&worker, "a");
        crew_items(&crew, crew.record, 0, 300);
        direct_wait_done(300);
        DIRECT_WAIT(nothing_waits);
        direct_seal(300);
        direct_all_items_are_there_once(300);
        stage_sleep(crew.stage, 10000);
        assert_true(bqmodel_counters(crew.stage->model)->faults > 0);
        direct_end(state);
    }
}

/* A worker is thrown out of its group with rows that it has loaded and not reported; its items go to another one. When it goes on, it reports them too. */
static void two_workers_with_the_same_items_write_them_once(void **state)
{
    struct record *r = direct_open(state);
    r->mode = WRITE_APPEND;
    r->key_count = 0;
    direct_begin(state, r);
    direct_hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_load_", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    crew_items(&crew, crew.record, 0, 30);
    stage_sleep(crew.stage, 2000);
    assert_int_equal(direct_fold()->done, 0);
    sleeper_stop(worker.sleeper);
    direct_hire(&other, "b");
    direct_wait_done(30);
    sleeper_go_on(worker.sleeper);
    stage_sleep(crew.stage, 20000);
    assert_true(crew_play.attempts > 30);
    DIRECT_WAIT(nothing_waits);
    direct_seal(30);
    direct_all_items_are_there_once(30);
    direct_end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_dies_between_its_cut_and_the_job_has_it_done_by_a_coordinator),
        cmocka_unit_test(a_worker_that_dies_between_the_job_and_the_outcome_has_it_told_by_a_coordinator),
        cmocka_unit_test(a_worker_that_dies_before_its_cut_leaves_its_loads_to_the_last_one),
        cmocka_unit_test(a_worker_that_was_stopped_beyond_its_lease_changes_nothing),
        cmocka_unit_test(a_statement_that_lost_its_permit_is_tried_again_under_another_one),
        cmocka_unit_test(a_worker_that_dies_having_lost_its_permit_is_followed_by_a_coordinator_with_a_good_one),
        cmocka_unit_test(a_worker_that_is_cut_off_from_the_log_does_not_keep_its_permit),
        cmocka_unit_test(lost_replies_cost_no_row_and_double_none),
        cmocka_unit_test(two_workers_with_the_same_items_write_them_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
