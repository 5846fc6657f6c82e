#include "tests/unit/support_show.h"

#include "common/fleet/consolidate.h"
#include "common/fleet/worker_tables.h"

/* Runs whose rows are shown by a view: what readers see, from the first rows to the end, and what two runs do to each other. */

/* --- one run --------------------------------------------------------------------------------------------------------------------------------- */

static void rows_are_shown_increment_by_increment_and_compacted_at_the_end(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 10, 1);
    show_wait_rows(10);
    stage_load(s, show.run, 10, 5, 2);
    show_wait_rows(15);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 0); /* loads into the list alone */
    char label[64];
    assert_string_equal(tables_label(s, "bqfleet_run", label, sizeof(label)), "run-1");
    assert_string_equal(tables_label(s, "bqfleet_state", label, sizeof(label)), "open");
    stage_load(s, show.run, 15, 5, 3);
    stage_seal(s, show.run, 20);
    show_wait_done(&show.boss);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 20);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 1);
    show_finish(state);
}

static void an_item_that_was_loaded_twice_is_shown_with_its_first_load(void **state)
{
    show_open(state);
    struct stage *s = show.crew.stage;
    show.run->mode = WRITE_APPEND; /* no key hides what is shown too much */
    show.run->key_count = 0;
    show_publish(show.run);
    crew_coordinator(&show.crew, &show.boss, show.run, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
    stage_load(s, show.run, 0, 6, 1);
    show_wait_rows(6);
    stage_load(s, show.run, 3, 6, 2); /* 3, 4 and 5 are excluded from it */
    show_wait_rows(9);
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(show_value_of(i), i < 6 ? 1 : 2);
    stage_seal(s, show.run, 9);
    show_wait_done(&show.boss);
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(show_value_of(i), i < 6 ? 1 : 2);
    show_finish(state);
}

static void rows_that_no_manifest_names_are_never_shown(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 3, 1);
    show_wait_rows(3);
    bqmodel_insert(s->model, "local.ds.bqf_run_1_shard00000", "[{\"k\":\"stray\",\"v\":9,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"shard00000-000001\"}]");
    assert_int_equal(tables_rows_with(s, "stray"), 0);
    stage_seal(s, show.run, 3);
    show_wait_done(&show.boss);
    assert_int_equal(tables_rows_with(s, "stray"), 0);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    show_finish(state);
}

static void what_was_shown_of_a_cancelled_run_stays(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 8, 1);
    show_wait_rows(8);
    stage_say(s, show.run, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    stage_load(s, show.run, 8, 4, 2);
    show_wait_done(&show.boss);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_ENDED);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    show_finish(state);
}

static bool is_held(void *arg)
{
    (void)arg;
    return track_fold(show.boss.track)->phase == RUN_HELD;
}

static void a_held_run_goes_on_showing_what_it_showed_and_its_decision_counts(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 8, 1);
    show_wait_rows(8);
    stage_load(s, show.run, 8, 1, 2);
    stage_fail(s, show.run, 9);
    stage_seal(s, show.run, 10);
    STAGE_WAIT(s, is_held, NULL);
    stage_sleep(s, 30 * 86400 * 1000LL); /* nothing of it expires */
    assert_true(bqmodel_count(s->model, STAGE_TARGET) >= 8);
    stage_say(s, show.run, (struct log_msg){.type = LOGM_ACCEPT});
    show_wait_done(&show.boss);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 9);
    show_finish(state);
}

static void a_run_whose_shard_is_gone_fails_and_the_view_is_what_it_was(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    AUTO(doc_free_auto) doc *none = bqmodel_rows(s->model, STAGE_TARGET);
    assert_int_equal(doc_len(none), 0);
    stage_load(s, show.run, 0, 8, 1);
    show_wait_rows(8);
    bqmodel_drop_table(s->model, "local.ds.bqf_run_1_shard00000");
    stage_seal(s, show.run, 8);
    show_wait_done(&show.boss);
    assert_int_equal(track_fold(show.boss.track)->end, END_FAILED);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_UNFINISHED);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 0);
    show_finish(state);
}

static void it_fails_and_says(const char *what)
{
    show_wait_done(&show.boss);
    assert_int_equal(track_fold(show.boss.track)->end, END_FAILED);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_UNFINISHED);
    assert_non_null(strstr(track_fold(show.boss.track)->end_text, what));
    crew_kill(&show.crew, &show.boss);
    assert_int_equal(stage_tables(show.crew.stage, "bqf_"), 0);
    record_free(show.run);
}

static void a_run_whose_view_is_dropped_fails_and_says_so(void **state)
{
    show_begin(state);
    stage_load(show.crew.stage, show.run, 0, 8, 1);
    show_wait_rows(8);
    bqmodel_drop_table(show.crew.stage->model, STAGE_TARGET);
    stage_load(show.crew.stage, show.run, 8, 4, 2);
    it_fails_and_says("was dropped while the run went on");
    crew_close(&show.crew, state);
}

static void a_run_whose_view_is_replaced_by_a_table_fails_and_leaves_that_alone(void **state)
{
    show_begin(state);
    stage_load(show.crew.stage, show.run, 0, 8, 1);
    show_wait_rows(8);
    bqmodel_drop_table(show.crew.stage->model, STAGE_TARGET);
    bqmodel_add_table(show.crew.stage->model, STAGE_TARGET, "k:STRING");
    stage_seal(show.crew.stage, show.run, 8);
    it_fails_and_says("was replaced by something that is not bqfleet's");
    assert_int_equal(bqmodel_count(show.crew.stage->model, STAGE_TARGET), 0);
    crew_close(&show.crew, state);
}

/* Its last cut's job is done, and nothing can show what that has made. */
static void a_run_whose_view_is_dropped_at_the_last_moment_fails(void **state)
{
    show_begin(state);
    stage_load(show.crew.stage, show.run, 0, 8, 1);
    show_wait_rows(8);
    bqmodel_fault(show.crew.stage->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/t", .kind = BQMODEL_STATUS, .skip = 1,
                                                             .times = -1, .status = 404, .reason = "notFound", .message = "Not found: Table"});
    stage_seal(show.crew.stage, show.run, 8);
    it_fails_and_says("was dropped while the run went on");
    assert_int_equal(bqmodel_counters(show.crew.stage->model)->inserts, 1);
    crew_close(&show.crew, state);
}

/* The view cannot name what is not there. */
static void a_run_whose_shard_is_gone_before_it_was_shown_fails(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 8, 1);
    show_wait_rows(8);
    stage_load(s, show.run, 8, 2, 2);
    bqmodel_drop_table(s->model, "local.ds.bqf_run_1_shard00001");
    stage_seal(s, show.run, 12);
    show_wait_done(&show.boss);
    assert_int_equal(track_fold(show.boss.track)->end, END_FAILED);
    assert_non_null(strstr(track_fold(show.boss.track)->end_text, "a table that the view is to show is gone"));
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8); /* what was shown stays */
    show_finish(state);
}

/* BigQuery refuses a request for longer than a process goes on asking at once. */
static void an_outage(void **state, const char *of, int spared)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = of, .kind = BQMODEL_STATUS, .status = 503, .skip = spared, .times = 70});
    stage_load(s, show.run, 0, 8, 1);
    if (spared > 0)
        stage_seal(s, show.run, 8);
    stage_sleep(s, 2 * 3600 * 1000LL);
    show_wait_rows(8);
    assert_true(bqmodel_counters(s->model)->faults > 20);
    if (spared == 0)
        stage_seal(s, show.run, 8);
    show_wait_done(&show.boss);
    assert_int_equal(fold_exit_code(track_fold(show.boss.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    show_finish(state);
}

static void a_list_that_is_refused_for_long_is_written_in_the_end(void **state)
{
    an_outage(state, "bqfleet_cut_run-1_0", 0);
}

static void a_view_that_cannot_be_changed_for_long_behind_the_last_job_is_changed_in_the_end(void **state)
{
    an_outage(state, "PATCH", 1);
}

/* --- several --------------------------------------------------------------------------------------------------------------------------------- */

static void a_later_run_waits_for_the_view_and_its_rows_win_over_those_of_the_base(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    struct record *later = show_second_run(WRITE_MERGE);
    char waits[512];
    stage_load(s, show.run, 0, 8, 1);
    show_wait_rows(8);
    show_publish(later);
    crew_coordinator(&show.crew, &show.other, later, TRACK_FIRST);
    sleeper_calm(show.other.sleeper);
    stage_load(s, later, 4, 8, 2);
    stage_sleep(s, 60000);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    assert_non_null(strstr(track_waits_for(show.other.track, waits, sizeof(waits)), "run run-1 is at the view"));
    stage_seal(s, show.run, 8);
    show_wait_done(&show.boss);
    show_wait_rows(12);
    stage_say(s, later, (struct log_msg){.type = LOGM_CANCEL, .text = "that is all"});
    show_wait_done(&show.other);
    for (int64_t i = 0; i < 12; i++)
        assert_int_equal(show_value_of(i), i < 4 ? 1 : 2);
    record_free(later);
    show_finish(state);
}

/* What the held run has shown is compacted for it; what it has not, its heir's last cut takes, which waits for the view. */
static void a_run_that_was_adopted_keeps_what_it_showed_and_its_heir_adds_the_rest(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    stage_load(s, show.run, 0, 3, 1);
    show_wait_rows(3);
    stage_load(s, show.run, 3, 1, 1);
    stage_fail(s, show.run, 4);
    stage_seal(s, show.run, 5);
    STAGE_WAIT(s, is_held, NULL);
    struct record *heir = show_second_run(WRITE_MERGE);
    heir->every_ms = 0;
    memcpy(heir->batch, show.run->batch, sizeof(heir->batch));
    memcpy(heir->adopts, show.run->run, sizeof(heir->adopts));
    memcpy(heir->redrives, show.run->run, sizeof(heir->redrives));
    show_publish(heir);
    struct process p;
    process_start(&p, s, heir, TRACK_FIRST);
    stage_load(s, heir, 4, 1, 2);
    stage_say(s, heir, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = (struct item_range[]){{0, 4}}, .empty_count = 1}});
    stage_seal(s, heir, 5);
    STAGE_WAIT(s, process_done, &p);
    show_wait_done(&show.boss);
    assert_int_equal(track_fold(show.boss.track)->end, END_ADOPTED);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 5);
    for (int64_t i = 0; i < 5; i++)
        assert_int_equal(show_value_of(i), i < 4 ? 1 : 2);
    process_kill(&p);
    record_free(heir);
    show_finish(state);
}

/* --- the plan -------------------------------------------------------------------------------------------------------------------------------- */

static bool all_settled(void *arg)
{
    (void)arg;
    return fold_open_cut(track_fold(show.boss.track)) == NULL;
}

static void so_many_shards_are_compacted_in_mid_run(void **state)
{
    show_begin(state);
    struct stage *s = show.crew.stage;
    struct tables_plan p;
    for (int i = 0; i < 4; i++) {
        stage_load(s, show.run, i, 1, i);
        show_wait_rows(i + 1);
    }
    STAGE_WAIT(s, all_settled, NULL);
    const struct fold *f = track_fold(show.boss.track);
    assert_int_equal(f->cut_count, 4);
    for (int64_t i = 0; i < 4; i++) { /* two shards in the view: the third cut compacts, the fourth lists anew */
        tables_plan(show.run, f, i, 2, &p);
        assert_int_equal(p.compacts, i == 2);
        assert_int_equal(p.takes, i == 0);
        assert_int_equal(p.from, i < 3 ? 0 : 3);
        assert_int_equal(p.compacted, i < 3 ? -1 : 2);
        assert_int_equal(p.loads, i < 3 ? i + 1 : 1);
    }
    tables_plan(show.run, f, 4, 2, &p);
    assert_true(p.compacts && p.from == 3 && p.loads == 1);
    tables_plan(show.run, f, 4, 0, &p);
    assert_true(p.compacts && p.from == 0 && p.loads == 4);
    stage_seal(s, show.run, 4);
    show_wait_done(&show.boss);
    show_finish(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_shown_increment_by_increment_and_compacted_at_the_end),
        cmocka_unit_test(an_item_that_was_loaded_twice_is_shown_with_its_first_load),
        cmocka_unit_test(rows_that_no_manifest_names_are_never_shown),
        cmocka_unit_test(what_was_shown_of_a_cancelled_run_stays),
        cmocka_unit_test(a_held_run_goes_on_showing_what_it_showed_and_its_decision_counts),
        cmocka_unit_test(a_run_whose_shard_is_gone_fails_and_the_view_is_what_it_was),
        cmocka_unit_test(a_run_whose_shard_is_gone_before_it_was_shown_fails),
        cmocka_unit_test(a_list_that_is_refused_for_long_is_written_in_the_end),
        cmocka_unit_test(a_view_that_cannot_be_changed_for_long_behind_the_last_job_is_changed_in_the_end),
        cmocka_unit_test(a_run_whose_view_is_dropped_fails_and_says_so),
        cmocka_unit_test(a_run_whose_view_is_replaced_by_a_table_fails_and_leaves_that_alone),
        cmocka_unit_test(a_run_whose_view_is_dropped_at_the_last_moment_fails),
        cmocka_unit_test(a_later_run_waits_for_the_view_and_its_rows_win_over_those_of_the_base),
        cmocka_unit_test(a_run_that_was_adopted_keeps_what_it_showed_and_its_heir_adds_the_rest),
        cmocka_unit_test(so_many_shards_are_compacted_in_mid_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
