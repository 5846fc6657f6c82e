#include "tests/unit/support_crew.h"

/* Rows written directly: workers and coordinators as processes of their own, on one bus and one BigQuery. */

static struct crew crew;
static struct crewman boss, worker, other;

static void begin(void **state, struct record *r)
{
    crew.record = r;
    (void)state;
    stage_publish(crew.stage, r);
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
    crew_coordinator(&crew, &boss, r, TRACK_SECOND);
    sleeper_calm(boss.sleeper);
}

static struct record *open_run(void **state)
{
    crew_open(&crew, state, 5);
    return crew_record(&crew, "run-1");
}

static void hire(struct crewman *m, const char *name)
{
    crew_worker(&crew, m, name);
    sleeper_calm(m->sleeper);
}

static const struct fold *fold(void)
{
    return track_fold(boss.track);
}

static void end(void **state)
{
    crew_check(&crew, crew.record, fold(), "at the end");
    crew_kill(&crew, &worker);
    crew_kill(&crew, &other);
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

/* --- conditions -------------------------------------------------------------------------------------------------------------------------------- */

#define WAIT(cond) STAGE_WAIT(crew.stage, (cond), NULL)

static int64_t wanted;

static bool so_many_are_done(void *arg)
{
    (void)arg;
    return fold()->done >= wanted;
}

static bool nothing_waits(void *arg)
{
    (void)arg;
    return fold()->load_count > 0 && !fold_has_uncut(fold()) && fold_open_cut(fold()) == NULL;
}

static bool so_many_written(void *arg)
{
    (void)arg;
    return bqmodel_count(crew.stage->model, STAGE_TARGET) >= wanted;
}

static bool a_cut_stands(void *arg)
{
    (void)arg;
    return fold_open_cut(fold()) != NULL && fold_open_cut(fold())->shard >= 0;
}

static bool its_job_is_there(void *arg)
{
    (void)arg;
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(crew.stage->model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        if (strncmp(doc_str(doc_at(jobs, i), "jobReference.jobId", ""), "bqfleet_direct_", 15) == 0)
            return true;
    return false;
}

static bool is_settled(void *arg)
{
    (void)arg;
    return fold_settled(fold());
}

static bool is_done(void *arg)
{
    (void)arg;
    return track_done(boss.track);
}

static bool is_held(void *arg)
{
    (void)arg;
    return fold()->phase == RUN_HELD;
}

static void wait_done(int64_t items)
{
    wanted = items;
    STAGE_WAIT(crew.stage, so_many_are_done, NULL);
}

static void seal(int64_t items)
{
    stage_seal(crew.stage, crew.record, items);
    WAIT(is_done);
}

static void work_one(int64_t item)
{
    crew_items(&crew, crew.record, item, 1);
    wait_done(item + 1);
    WAIT(nothing_waits);
}

static int64_t now_ms(void)
{
    return loop_now_us(crew.stage->loop) / US_PER_MS;
}

static void all_items_are_there_once(int64_t items)
{
    static struct crew_written w;
    assert_int_equal(fold_exit_code(fold()), EXIT_WRITTEN);
    crew_by_table(&crew, &w);
    assert_int_equal(w.total, items);
    for (int64_t i = 0; i < items; i++)
        assert_int_equal(w.per_item[i], 1);
}

/* --- as it should be ---------------------------------------------------------------------------------------------------------------------------- */

static void rows_are_in_the_table_while_the_run_goes_on(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 10);
    WAIT(nothing_waits);
    assert_int_equal(fold()->phase, RUN_PUBLISHING);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 10);
    crew_items(&crew, crew.record, 10, 10);
    wait_done(20);
    WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 20);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 0);
    seal(20);
    all_items_are_there_once(20);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 0); /* nothing was left for it */
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    end(state);
}

static void what_is_loaded_while_a_statement_runs_shares_the_next_one(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    work_one(0); /* there are permits now */
    bqmodel_options(crew.stage->model)->dml_ms = 5000;
    crew_items(&crew, crew.record, 1, 1600); /* 20 s of work */
    wait_done(1601);
    WAIT(nothing_waits);
    assert_true(bqmodel_counters(crew.stage->model)->loads >= 8);
    assert_in_range(crew_jobs(&crew, "bqfleet_direct_"), 3, 6);
    seal(1601);
    all_items_are_there_once(1601);
    end(state);
}

static void the_permit_for_the_next_cut_is_asked_for_while_this_one_is_written(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    work_one(0);
    bqmodel_options(crew.stage->model)->dml_ms = 2000;
    int64_t from_ms = loop_wall_ms(crew.stage->loop);
    crew_items(&crew, crew.record, 1, 1600); /* 20 s of work */
    wait_done(1601);
    WAIT(nothing_waits);
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
    seal(1601);
    end(state);
}

static void two_permits_let_two_workers_write_at_once_and_one_only_one(void **state)
{
    for (int permits = 1; permits <= 2; permits++) {
        static const char *const direct[] = {"bqfleet_direct_"};
        struct record *r = open_run(state);
        bqmodel_options(crew.stage->model)->dml_ms = 3000;
        r->permits = permits;
        r->mode = WRITE_APPEND;
        r->key_count = 0;
        begin(state, r);
        hire(&worker, "a");
        hire(&other, "b");
        stage_sleep(crew.stage, 1000);
        crew_items(&crew, crew.record, 0, 800);
        wait_done(800);
        WAIT(nothing_waits);
        assert_int_equal(crew_at_once(&crew, direct, 1), permits);
        seal(800);
        all_items_are_there_once(800);
        end(state);
    }
}

/* Of equal keys, without order_by, the row that was written later stays. */
static void of_equal_keys_the_later_increment_wins(void **state)
{
    begin(state, open_run(state));
    crew_play.one_key = true;
    hire(&worker, "a");
    for (int64_t item = 0; item < 5; item++) {
        work_one(item);
        AUTO(doc_free_auto) doc *rows = bqmodel_rows(crew.stage->model, STAGE_TARGET);
        assert_int_equal(doc_len(rows), 1);
        assert_int_equal(doc_int(doc_at(rows, 0), "v", -1), item);
    }
    stage_seal(crew.stage, crew.record, 5);
    WAIT(is_done);
    crew_kill(&crew, &worker);
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

/* --- who dies when -------------------------------------------------------------------------------------------------------------------------------- */

static void a_worker_that_dies_between_its_cut_and_the_job_has_it_done_by_a_coordinator(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_DROP_BEFORE, .times = -1});
    crew_items(&crew, crew.record, 0, 4);
    WAIT(a_cut_stands);
    stage_sleep(crew.stage, 1000);
    crew_kill(&crew, &worker);
    bqmodel_clear_faults(crew.stage->model);
    assert_false(its_job_is_there(NULL));
    int64_t from_ms = now_ms();
    WAIT(nothing_waits);
    assert_in_range(now_ms() - from_ms, WAIT_SECOND_COORDINATOR - 5000, 2 * WAIT_SECOND_COORDINATOR + WAIT_PERMIT_LEASE);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 1);
    hire(&other, "b");
    seal(4);
    all_items_are_there_once(4);
    end(state);
}

static void a_worker_that_dies_between_the_job_and_the_outcome_has_it_told_by_a_coordinator(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_SLOW, .ms = 100000});
    crew_items(&crew, crew.record, 0, 4);
    WAIT(its_job_is_there);
    crew_kill(&crew, &worker);
    seal(4);
    all_items_are_there_once(4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 1);
    end(state);
}

static void a_worker_that_dies_before_its_cut_leaves_its_loads_to_the_last_one(void **state)
{
    struct record *r = open_run(state);
    bqmodel_options(crew.stage->model)->dml_ms = 20000; /* taking the permit takes long */
    begin(state, r);
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 4);
    wait_done(4);
    crew_kill(&crew, &worker);
    assert_int_equal(fold()->cut_count, 0);
    seal(4);
    all_items_are_there_once(4);
    assert_int_equal(crew_jobs(&crew, "bqfleet_direct_"), 0);
    assert_int_equal(crew_jobs(&crew, "bqfleet_cut_"), 1);
    end(state);
}

/* It has the cut, the job is not inserted, the lease is over, others have written what it was about to write. */
static void a_worker_that_was_stopped_beyond_its_lease_changes_nothing(void **state)
{
    struct record *r = open_run(state);
    r->mode = WRITE_APPEND;
    r->key_count = 0;
    begin(state, r);
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_DROP_BEFORE, .times = -1});
    crew_items(&crew, crew.record, 0, 4);
    WAIT(a_cut_stands);
    stage_sleep(crew.stage, 500);
    sleeper_stop(worker.sleeper);
    stage_sleep(crew.stage, 3000);
    bqmodel_clear_faults(crew.stage->model);
    hire(&other, "b");
    crew_items(&crew, crew.record, 4, 4);
    wait_done(8);
    WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 8);
    sleeper_go_on(worker.sleeper);
    stage_sleep(crew.stage, 120000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 8);
    seal(8);
    all_items_are_there_once(8);
    end(state);
}

/* The same, and it comes back while nobody has done its work: its statement fails by its fence, and the next try runs under another permit. */
static void a_statement_that_lost_its_permit_is_tried_again_under_another_one(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .ms = 0,
                                                             .message = "bqfleet: the permit is lost1"});
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_SLOW, .ms = 3000});
    crew_items(&crew, crew.record, 0, 200); /* more is loaded meanwhile: the next permit is wished for before the other is lost */
    int64_t from_ms = now_ms();
    wait_done(200);
    WAIT(nothing_waits);
    assert_true(now_ms() - from_ms < 2 * WAIT_PERMIT_LEASE + 30000); /* what was lost runs out */
    assert_true(fold()->cut_count >= 2);
    assert_non_null(strstr(fold()->cuts[0].job, "_t1"));
    seal(200);
    all_items_are_there_once(200);
    end(state);
}

static void lost_replies_cost_no_row_and_double_none(void **state)
{
    static const char *const places[] = {"bqfleet_direct_", "bqfleet_permit_take", "bqfleet_permit_ahead", "bqfleet_permit_release", "bqfleet_load_"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct record *r = open_run(state);
        r->mode = WRITE_APPEND;
        r->key_count = 0;
        bqmodel_options(crew.stage->model)->dml_ms = 400;
        begin(state, r);
        bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = places[i], .kind = BQMODEL_LOSE_REPLY, .times = 3});
        hire(&worker, "a");
        crew_items(&crew, crew.record, 0, 300);
        wait_done(300);
        WAIT(nothing_waits);
        seal(300);
        all_items_are_there_once(300);
        stage_sleep(crew.stage, 10000);
        assert_true(bqmodel_counters(crew.stage->model)->faults > 0);
        end(state);
    }
}

/* A worker is thrown out of its group with rows that it has loaded and not reported; its items go to another one. When it goes on, it reports them too. */
static void two_workers_with_the_same_items_write_them_once(void **state)
{
    struct record *r = open_run(state);
    r->mode = WRITE_APPEND;
    r->key_count = 0;
    begin(state, r);
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_load_", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    crew_items(&crew, crew.record, 0, 30);
    stage_sleep(crew.stage, 2000);
    assert_int_equal(fold()->done, 0);
    sleeper_stop(worker.sleeper);
    hire(&other, "b");
    wait_done(30);
    sleeper_go_on(worker.sleeper);
    stage_sleep(crew.stage, 20000);
    assert_true(crew_play.attempts > 30);
    WAIT(nothing_waits);
    seal(30);
    all_items_are_there_once(30);
    end(state);
}

/* --- the run's end ---------------------------------------------------------------------------------------------------------------------------------- */

static void of_a_cancelled_run_the_cuts_before_it_stand_and_nothing_more(void **state)
{
    struct record *r = open_run(state);
    bqmodel_options(crew.stage->model)->dml_ms = 3000;
    begin(state, r);
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 1000);
    wanted = 1;
    WAIT(so_many_written);
    WAIT(a_cut_stands);
    stage_say(crew.stage, crew.record, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    WAIT(is_done);
    assert_int_equal(fold()->end, END_CANCEL);
    size_t cuts = fold()->cut_count;
    for (size_t i = 0; i < cuts; i++)
        assert_int_equal(fold()->cuts[i].state, CUT_DONE);
    int64_t rows = bqmodel_count(crew.stage->model, STAGE_TARGET);
    assert_in_range(rows, 1, 999);
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    stage_sleep(crew.stage, 120000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), rows);
    end(state);
}

static void a_held_run_keeps_its_increments_and_the_accept_takes_the_rest(void **state)
{
    struct record *r = open_run(state);
    r->finish.tolerate_count = 0;
    begin(state, r);
    crew_play.first_bad = 20;
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 20);
    wait_done(20);
    WAIT(nothing_waits);
    crew_items(&crew, crew.record, 20, 2);
    wait_done(22);
    stage_seal(crew.stage, crew.record, 22);
    WAIT(is_held);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 20);
    stage_say(crew.stage, crew.record, (struct log_msg){.type = LOGM_ACCEPT});
    WAIT(is_done);
    assert_int_equal(fold()->end, END_ACCEPTED);
    all_items_are_there_once(20);
    end(state);
}

static void an_increment_that_fails_for_good_fails_the_run(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "bqfleet_direct_", .kind = BQMODEL_JOB_ERROR, .times = -1, .reason = "invalidQuery",
                                                             .message = "No matching signature"});
    crew_items(&crew, crew.record, 0, 4);
    WAIT(is_settled);
    assert_int_equal(fold()->end, END_FAILED);
    assert_non_null(strstr(fold()->end_text, "No matching signature"));
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 0);
    WAIT(is_done);
    end(state);
}

static void a_worker_that_drains_writes_what_it_has_loaded(void **state)
{
    begin(state, open_run(state));
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 40);
    wait_done(20);
    crew_drain(&crew, &worker, 30000);
    int64_t done = fold()->done;
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), done);
    hire(&other, "b"); /* gets the permit at once: it was given back */
    int64_t from_ms = now_ms();
    wait_done(40);
    WAIT(nothing_waits);
    assert_true(now_ms() - from_ms < WAIT_PERMIT_LEASE / 2);
    seal(40);
    all_items_are_there_once(40);
    end(state);
}

static void a_run_that_replaces_another_one_writes_nothing_before_that_is_over(void **state)
{
    struct record *older = open_run(state);
    older->via = VIA_STAGING;
    stage_publish(crew.stage, older);
    struct record *r = crew_record(&crew, "run-2");
    snprintf(r->replaces, sizeof(r->replaces), "run-1");
    begin(state, r);
    hire(&worker, "a");
    crew_items(&crew, crew.record, 0, 4);
    wait_done(4);
    stage_sleep(crew.stage, 60000);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 0);
    assert_int_equal(fold()->cut_count, 0);
    crew_coordinator(&crew, &other, older, TRACK_FIRST);
    stage_say(crew.stage, older, (struct log_msg){.type = LOGM_CANCEL, .text = "replaced"});
    WAIT(nothing_waits);
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 4);
    seal(4);
    all_items_are_there_once(4);
    record_free(older);
    end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_in_the_table_while_the_run_goes_on),
        cmocka_unit_test(what_is_loaded_while_a_statement_runs_shares_the_next_one),
        cmocka_unit_test(the_permit_for_the_next_cut_is_asked_for_while_this_one_is_written),
        cmocka_unit_test(two_permits_let_two_workers_write_at_once_and_one_only_one),
        cmocka_unit_test(of_equal_keys_the_later_increment_wins),
        cmocka_unit_test(a_worker_that_dies_between_its_cut_and_the_job_has_it_done_by_a_coordinator),
        cmocka_unit_test(a_worker_that_dies_between_the_job_and_the_outcome_has_it_told_by_a_coordinator),
        cmocka_unit_test(a_worker_that_dies_before_its_cut_leaves_its_loads_to_the_last_one),
        cmocka_unit_test(a_worker_that_was_stopped_beyond_its_lease_changes_nothing),
        cmocka_unit_test(a_statement_that_lost_its_permit_is_tried_again_under_another_one),
        cmocka_unit_test(lost_replies_cost_no_row_and_double_none),
        cmocka_unit_test(two_workers_with_the_same_items_write_them_once),
        cmocka_unit_test(of_a_cancelled_run_the_cuts_before_it_stand_and_nothing_more),
        cmocka_unit_test(a_held_run_keeps_its_increments_and_the_accept_takes_the_rest),
        cmocka_unit_test(an_increment_that_fails_for_good_fails_the_run),
        cmocka_unit_test(a_worker_that_drains_writes_what_it_has_loaded),
        cmocka_unit_test(a_run_that_replaces_another_one_writes_nothing_before_that_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
