#include "tests/unit/support_show.h"

#include "common/fleet/consolidate.h"

/* Coordinators of a run that is shown by a view, which sleep, or hear of things late. */

static bool a_cut_is_open(void *arg)
{
    (void)arg;
    return fold_open_cut(track_fold(show.other.track)) != NULL;
}

/* Of a coordinator that is cut off from the log, and is not from BigQuery. */
static struct { bool done, ok; struct consolidate *consolidate; } late;

static void on_late(void *arg, struct log_msg *outcome, const struct error *err)
{
    (void)arg, (void)err;
    late.done = true;
    late.ok = outcome != NULL && outcome->ok;
}

static bool is_late_done(void *arg)
{
    (void)arg;
    return late.done;
}

/* The first cut, as the one that sleeps knows of it. */
static void begin_late(void)
{
    static struct world w;
    w = show.crew.stage->world;
    w.bq = show.crew.stage->bq;
    const struct fold *f = track_fold(show.other.track);
    struct consolidate_options o = {.world = &w, .of = {.record = show.run, .fold = f, .cut = fold_open_cut(f)}};
    late.done = false;
    late.consolidate = consolidate_start(&o, on_late, NULL);
}

static void end_late(void)
{
    STAGE_WAIT(show.crew.stage, is_late_done, NULL);
    assert_true(late.ok);
    consolidate_stop(late.consolidate, true);
    stage_sleep(show.crew.stage, 60000);
}

static void consolidate_late(void)
{
    begin_late();
    end_late();
}

static void sleep_at_the_first_cut(void **state)
{
    show_open(state);
    show_publish(show.run);
    crew_coordinator(&show.crew, &show.other, show.run, TRACK_SECOND);
    sleeper_calm(show.other.sleeper);
    stage_load(show.crew.stage, show.run, 0, 8, 1);
}

static void a_coordinator_that_slept_through_two_runs_changes_nothing(void **state)
{
    sleep_at_the_first_cut(state);
    struct stage *s = show.crew.stage;
    stage_seal(s, show.run, 8);
    STAGE_WAIT(s, a_cut_is_open, NULL);
    sleeper_stop(show.other.sleeper);
    crew_coordinator(&show.crew, &show.boss, show.run, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
    show_wait_done(&show.boss);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    crew_kill(&show.crew, &show.boss);
    struct record *later = show_second_run(WRITE_MERGE);
    show_publish(later);
    crew_coordinator(&show.crew, &show.boss, later, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
    stage_load(s, later, 0, 10, 5);
    stage_seal(s, later, 10);
    show_wait_done(&show.boss);
    /* It had asked whether the cut's job is there, and slept with the answer: no. */
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_run-1_0_t0", .kind = BQMODEL_STATUS, .status = 404, .reason = "notFound", .message = "Not found: Job"});
    consolidate_late();
    consolidate_late(); /* and once more, when it is told that the job is there */
    char label[64];
    assert_string_equal(tables_label(s, "bqfleet_run", label, sizeof(label)), "run-2");
    sleeper_go_on(show.other.sleeper);
    show_wait_done(&show.other);
    stage_sleep(s, 600000);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 10);
    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(show_value_of(i), 5);
    record_free(later);
    show_finish(state);
}

static void a_coordinator_that_slept_through_increments_takes_none_from_the_view(void **state)
{
    sleep_at_the_first_cut(state);
    struct stage *s = show.crew.stage;
    STAGE_WAIT(s, a_cut_is_open, NULL);
    sleeper_stop(show.other.sleeper);
    crew_coordinator(&show.crew, &show.boss, show.run, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
    show_wait_rows(8);
    stage_load(s, show.run, 8, 4, 2);
    show_wait_rows(12);
    consolidate_late();
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 12);
    stage_seal(s, show.run, 12);
    sleeper_go_on(show.other.sleeper);
    show_wait_done(&show.boss);
    show_wait_done(&show.other);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 12);
    show_finish(state);
}

static bool a_fault_has_struck(void *arg)
{
    (void)arg;
    return bqmodel_counters(show.crew.stage->model)->faults > 0;
}

/* One looks at the view, which is free, and hears of it late: another one has taken it by then, for the same show.run, and the job that it finds fails in passing. */
static void a_job_that_another_one_has_begun_meanwhile_may_fail_and_is_tried_again(void **state)
{
    sleep_at_the_first_cut(state);
    struct stage *s = show.crew.stage;
    STAGE_WAIT(s, a_cut_is_open, NULL);
    sleeper_stop(show.other.sleeper);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/t", .kind = BQMODEL_DELAY, .ms = 20000});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_run-1_0_t0", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_run-1_0_t0", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."});
    begin_late();
    STAGE_WAIT(s, a_fault_has_struck, NULL);
    crew_coordinator(&show.crew, &show.boss, show.run, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
    end_late();
    show_wait_rows(8);
    stage_seal(s, show.run, 8);
    sleeper_go_on(show.other.sleeper);
    show_wait_done(&show.boss);
    show_wait_done(&show.other);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    show_finish(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coordinator_that_slept_through_two_runs_changes_nothing),
        cmocka_unit_test(a_coordinator_that_slept_through_increments_takes_none_from_the_view),
        cmocka_unit_test(a_job_that_another_one_has_begun_meanwhile_may_fail_and_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
