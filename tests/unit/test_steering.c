#include "tests/unit/support_coord.h"

/* Runs that are steered while they go on, from the coordinators' side: what reaches `batches`, and when. */

static struct record *begin(struct stage *s, int64_t every_ms)
{
    struct record *r = stage_record(s, "run-1", "batch");
    r->every_ms = every_ms;
    return r;
}

static const struct catalog_run *known(const struct process *p)
{
    return catalog_find(catalog_watch_runs(coordinator_watch(p->coordinator)), "run-1");
}

static bool is_over(void *arg)
{
    return known(arg)->over;
}

static bool is_paused(void *arg)
{
    return known(arg)->paused;
}

static bool has_cap(void *arg)
{
    const struct process *p = arg;
    return known(p)->parallel == 7 && !known(p)->paused;
}

static bool has_open_cut(void *arg)
{
    const struct process *p = arg;
    return fold_open_cut(track_fold(p->track)) != NULL;
}

static void pauses_and_caps_are_passed_on_whoever_wrote_them(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, 0);
    stage_publish(s, r);
    stage_say(s, r, (struct log_msg){.type = LOGM_PAUSE});
    struct process p, q;
    process_start(&p, s, r, TRACK_SECOND); /* the one who wrote it is gone */
    STAGE_WAIT(s, is_paused, &p);
    process_kill(&p);
    process_start(&q, s, r, TRACK_SECOND);
    stage_say(s, r, (struct log_msg){.type = LOGM_PARALLEL, .parallel = 7});
    stage_say(s, r, (struct log_msg){.type = LOGM_RESUME});
    STAGE_WAIT(s, has_cap, &q);
    process_kill(&q);
    record_free(r);
}

/* A cut that was there before the cancel is written. Until that is known its shards stay, though nobody works on the run any more. */
static void after_a_cancel_workers_stop_at_once_and_staging_goes_after_the_outcome(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, 1000);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    STAGE_WAIT(s, has_open_cut, &p);
    stage_load(s, r, 3, 3, 1); /* in no cut */
    stage_say(s, r, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    STAGE_WAIT(s, is_over, &p);
    stage_sleep(s, 30000);
    assert_int_equal(known(&p)->standing, STANDING_OPEN);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 0);
    assert_int_equal(stage_tables(s, "bqf_"), 2);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 1);
    assert_int_equal(known(&p)->standing, STANDING_ENDED);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_ENDED);
    process_kill(&p);
    record_free(r);
}

static void a_coordinator_killed_after_a_cancel_leaves_the_rest_to_the_next(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, 1000);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    stage_publish(s, r);
    struct process p, q;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    STAGE_WAIT(s, has_open_cut, &p);
    stage_sleep(s, 5000); /* its job runs */
    stage_say(s, r, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    process_kill(&p);
    process_start(&q, s, r, TRACK_SECOND);
    STAGE_WAIT(s, is_over, &q);
    STAGE_WAIT(s, process_done, &q);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&q);
    record_free(r);
}

static void a_run_that_ends_well_is_not_said_to_be_over_beforehand(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, 0);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    stage_sleep(s, 10000);
    assert_false(known(&p)->over);
    STAGE_WAIT(s, process_done, &p);
    assert_false(known(&p)->over);
    process_kill(&p);
    record_free(r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pauses_and_caps_are_passed_on_whoever_wrote_them),
        T(after_a_cancel_workers_stop_at_once_and_staging_goes_after_the_outcome),
        T(a_coordinator_killed_after_a_cancel_leaves_the_rest_to_the_next),
        T(a_run_that_ends_well_is_not_said_to_be_over_beforehand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
