#include "tests/unit/support_crew.h"
#include "tests/unit/support_tables.h"

#include "common/fleet/consolidate.h"
#include "common/fleet/worker_tables.h"

/* Runs whose rows are shown by a view: what readers see, from the first rows to the end, and what two runs do to each other. */

static struct crew crew;
static struct crewman boss, other;
static struct record *run;

static void open_stage(void **state)
{
    crew_open(&crew, state, 7);
    run = stage_record(crew.stage, "run-1", "batch");
    run->every_ms = 1000;
    tables_stage(crew.stage, run);
}

static void publish(struct record *r)
{
    stage_publish(crew.stage, r);
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
}

static void begin(void **state)
{
    open_stage(state);
    publish(run);
    crew_coordinator(&crew, &boss, run, TRACK_FIRST);
    sleeper_calm(boss.sleeper);
}

static void finish(void **state)
{
    crew_kill(&crew, &boss);
    crew_kill(&crew, &other);
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    assert_int_equal(stage_tables(crew.stage, "t_bqfleet_"), 1);
    char label[64];
    assert_string_equal(tables_label(crew.stage, "bqfleet_state", label, sizeof(label)), "free");
    record_free(run);
    crew_close(&crew, state);
}

static int64_t wanted;

static bool so_many_shown(void *arg)
{
    (void)arg;
    return bqmodel_count(crew.stage->model, STAGE_TARGET) == wanted;
}

static void wait_shown(int64_t rows)
{
    wanted = rows;
    STAGE_WAIT(crew.stage, so_many_shown, NULL);
}

static bool is_done(void *arg)
{
    return track_done(((struct crewman *)arg)->track);
}

static void wait_done(struct crewman *m)
{
    STAGE_WAIT(crew.stage, is_done, m);
}

/* A value that is shown under the key of an item; -1: none. */
static int64_t value_of(int64_t item)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(crew.stage->model, STAGE_TARGET);
    char key[32];
    snprintf(key, sizeof(key), "k%" PRId64, item);
    for (size_t i = 0; i < doc_len(rows); i++)
        if (strcmp(doc_str(doc_at(rows, i), "k", ""), key) == 0)
            return doc_int(doc_at(rows, i), "v", -1);
    return -1;
}

/* --- one run --------------------------------------------------------------------------------------------------------------------------------- */

static void rows_are_shown_increment_by_increment_and_compacted_at_the_end(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 10, 1);
    wait_shown(10);
    stage_load(s, run, 10, 5, 2);
    wait_shown(15);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 0); /* loads into the list alone */
    char label[64];
    assert_string_equal(tables_label(s, "bqfleet_run", label, sizeof(label)), "run-1");
    assert_string_equal(tables_label(s, "bqfleet_state", label, sizeof(label)), "open");
    stage_load(s, run, 15, 5, 3);
    stage_seal(s, run, 20);
    wait_done(&boss);
    assert_int_equal(fold_exit_code(track_fold(boss.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 20);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 1);
    finish(state);
}

static void an_item_that_was_loaded_twice_is_shown_with_its_first_load(void **state)
{
    open_stage(state);
    struct stage *s = crew.stage;
    run->mode = WRITE_APPEND; /* no key hides what is shown too much */
    run->key_count = 0;
    publish(run);
    crew_coordinator(&crew, &boss, run, TRACK_FIRST);
    sleeper_calm(boss.sleeper);
    stage_load(s, run, 0, 6, 1);
    wait_shown(6);
    stage_load(s, run, 3, 6, 2); /* 3, 4 and 5 are excluded from it */
    wait_shown(9);
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(value_of(i), i < 6 ? 1 : 2);
    stage_seal(s, run, 9);
    wait_done(&boss);
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(value_of(i), i < 6 ? 1 : 2);
    finish(state);
}

static void rows_that_no_manifest_names_are_never_shown(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 3, 1);
    wait_shown(3);
    bqmodel_insert(s->model, "local.ds.bqf_run_1_shard00000", "[{\"k\":\"stray\",\"v\":9,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"shard00000-000001\"}]");
    assert_int_equal(tables_rows_with(s, "stray"), 0);
    stage_seal(s, run, 3);
    wait_done(&boss);
    assert_int_equal(tables_rows_with(s, "stray"), 0);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    finish(state);
}

static void what_was_shown_of_a_cancelled_run_stays(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 8, 1);
    wait_shown(8);
    stage_say(s, run, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    stage_load(s, run, 8, 4, 2);
    wait_done(&boss);
    assert_int_equal(fold_exit_code(track_fold(boss.track)), EXIT_ENDED);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    finish(state);
}

static bool is_held(void *arg)
{
    (void)arg;
    return track_fold(boss.track)->phase == RUN_HELD;
}

static void a_held_run_goes_on_showing_what_it_showed_and_its_decision_counts(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 8, 1);
    wait_shown(8);
    stage_load(s, run, 8, 1, 2);
    stage_fail(s, run, 9);
    stage_seal(s, run, 10);
    STAGE_WAIT(s, is_held, NULL);
    stage_sleep(s, 30 * 86400 * 1000LL); /* nothing of it expires */
    assert_true(bqmodel_count(s->model, STAGE_TARGET) >= 8);
    stage_say(s, run, (struct log_msg){.type = LOGM_ACCEPT});
    wait_done(&boss);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 9);
    finish(state);
}

static void a_run_whose_shard_is_gone_fails_and_the_view_is_what_it_was(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    AUTO(doc_free_auto) doc *none = bqmodel_rows(s->model, STAGE_TARGET);
    assert_int_equal(doc_len(none), 0);
    stage_load(s, run, 0, 8, 1);
    wait_shown(8);
    bqmodel_drop_table(s->model, "local.ds.bqf_run_1_shard00000");
    stage_seal(s, run, 8);
    wait_done(&boss);
    assert_int_equal(track_fold(boss.track)->end, END_FAILED);
    assert_int_equal(fold_exit_code(track_fold(boss.track)), EXIT_UNFINISHED);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 0);
    finish(state);
}

static void it_fails_and_says(const char *what)
{
    wait_done(&boss);
    assert_int_equal(track_fold(boss.track)->end, END_FAILED);
    assert_int_equal(fold_exit_code(track_fold(boss.track)), EXIT_UNFINISHED);
    assert_non_null(strstr(track_fold(boss.track)->end_text, what));
    crew_kill(&crew, &boss);
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
    record_free(run);
}

static void a_run_whose_view_is_dropped_fails_and_says_so(void **state)
{
    begin(state);
    stage_load(crew.stage, run, 0, 8, 1);
    wait_shown(8);
    bqmodel_drop_table(crew.stage->model, STAGE_TARGET);
    stage_load(crew.stage, run, 8, 4, 2);
    it_fails_and_says("was dropped while the run went on");
    crew_close(&crew, state);
}

static void a_run_whose_view_is_replaced_by_a_table_fails_and_leaves_that_alone(void **state)
{
    begin(state);
    stage_load(crew.stage, run, 0, 8, 1);
    wait_shown(8);
    bqmodel_drop_table(crew.stage->model, STAGE_TARGET);
    bqmodel_add_table(crew.stage->model, STAGE_TARGET, "k:STRING");
    stage_seal(crew.stage, run, 8);
    it_fails_and_says("was replaced by something that is not bqfleet's");
    assert_int_equal(bqmodel_count(crew.stage->model, STAGE_TARGET), 0);
    crew_close(&crew, state);
}

/* Its last cut's job is done, and nothing can show what that has made. */
static void a_run_whose_view_is_dropped_at_the_last_moment_fails(void **state)
{
    begin(state);
    stage_load(crew.stage, run, 0, 8, 1);
    wait_shown(8);
    bqmodel_fault(crew.stage->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/t", .kind = BQMODEL_STATUS, .skip = 1,
                                                             .times = -1, .status = 404, .reason = "notFound", .message = "Not found: Table"});
    stage_seal(crew.stage, run, 8);
    it_fails_and_says("was dropped while the run went on");
    assert_int_equal(bqmodel_counters(crew.stage->model)->inserts, 1);
    crew_close(&crew, state);
}

/* The view cannot name what is not there. */
static void a_run_whose_shard_is_gone_before_it_was_shown_fails(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 8, 1);
    wait_shown(8);
    stage_load(s, run, 8, 2, 2);
    bqmodel_drop_table(s->model, "local.ds.bqf_run_1_shard00001");
    stage_seal(s, run, 12);
    wait_done(&boss);
    assert_int_equal(track_fold(boss.track)->end, END_FAILED);
    assert_non_null(strstr(track_fold(boss.track)->end_text, "a table that the view is to show is gone"));
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8); /* what was shown stays */
    finish(state);
}

/* --- several --------------------------------------------------------------------------------------------------------------------------------- */

static struct record *second_run(enum write_mode mode)
{
    struct record *r = stage_record(crew.stage, "run-2", "other");
    r->every_ms = 1000;
    r->via = VIA_WORKER_TABLES;
    r->mode = mode;
    r->layout = doc_object();
    return r;
}

static void a_later_run_waits_for_the_view_and_its_rows_win_over_those_of_the_base(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    struct record *later = second_run(WRITE_MERGE);
    char waits[512];
    stage_load(s, run, 0, 8, 1);
    wait_shown(8);
    publish(later);
    crew_coordinator(&crew, &other, later, TRACK_FIRST);
    sleeper_calm(other.sleeper);
    stage_load(s, later, 4, 8, 2);
    stage_sleep(s, 60000);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    assert_non_null(strstr(track_waits_for(other.track, waits, sizeof(waits)), "run run-1 is at the view"));
    stage_seal(s, run, 8);
    wait_done(&boss);
    wait_shown(12);
    stage_say(s, later, (struct log_msg){.type = LOGM_CANCEL, .text = "that is all"});
    wait_done(&other);
    for (int64_t i = 0; i < 12; i++)
        assert_int_equal(value_of(i), i < 4 ? 1 : 2);
    record_free(later);
    finish(state);
}

/* What the held run has shown is compacted for it; what it has not, its heir's last cut takes, which waits for the view. */
static void a_run_that_was_adopted_keeps_what_it_showed_and_its_heir_adds_the_rest(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    stage_load(s, run, 0, 3, 1);
    wait_shown(3);
    stage_load(s, run, 3, 1, 1);
    stage_fail(s, run, 4);
    stage_seal(s, run, 5);
    STAGE_WAIT(s, is_held, NULL);
    struct record *heir = second_run(WRITE_MERGE);
    heir->every_ms = 0;
    memcpy(heir->batch, run->batch, sizeof(heir->batch));
    memcpy(heir->adopts, run->run, sizeof(heir->adopts));
    memcpy(heir->redrives, run->run, sizeof(heir->redrives));
    publish(heir);
    struct process p;
    process_start(&p, s, heir, TRACK_FIRST);
    stage_load(s, heir, 4, 1, 2);
    stage_say(s, heir, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = (struct item_range[]){{0, 4}}, .empty_count = 1}});
    stage_seal(s, heir, 5);
    STAGE_WAIT(s, process_done, &p);
    wait_done(&boss);
    assert_int_equal(track_fold(boss.track)->end, END_ADOPTED);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 5);
    for (int64_t i = 0; i < 5; i++)
        assert_int_equal(value_of(i), i < 4 ? 1 : 2);
    process_kill(&p);
    record_free(heir);
    finish(state);
}

static bool a_cut_is_open(void *arg)
{
    (void)arg;
    return fold_open_cut(track_fold(other.track)) != NULL;
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
static void consolidate_late(void)
{
    struct world w = crew.stage->world;
    w.bq = crew.stage->bq;
    const struct fold *f = track_fold(other.track);
    struct consolidate_options o = {.world = &w, .of = {.record = run, .fold = f, .cut = fold_open_cut(f)}};
    late.done = false;
    late.consolidate = consolidate_start(&o, on_late, NULL);
    STAGE_WAIT(crew.stage, is_late_done, NULL);
    assert_true(late.ok);
    consolidate_stop(late.consolidate, true);
    stage_sleep(crew.stage, 60000);
}

static void sleep_at_the_first_cut(void **state)
{
    open_stage(state);
    publish(run);
    crew_coordinator(&crew, &other, run, TRACK_SECOND);
    sleeper_calm(other.sleeper);
    stage_load(crew.stage, run, 0, 8, 1);
}

static void a_coordinator_that_slept_through_two_runs_changes_nothing(void **state)
{
    sleep_at_the_first_cut(state);
    struct stage *s = crew.stage;
    stage_seal(s, run, 8);
    STAGE_WAIT(s, a_cut_is_open, NULL);
    sleeper_stop(other.sleeper);
    crew_coordinator(&crew, &boss, run, TRACK_FIRST);
    sleeper_calm(boss.sleeper);
    wait_done(&boss);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 8);
    crew_kill(&crew, &boss);
    struct record *later = second_run(WRITE_MERGE);
    publish(later);
    crew_coordinator(&crew, &boss, later, TRACK_FIRST);
    sleeper_calm(boss.sleeper);
    stage_load(s, later, 0, 10, 5);
    stage_seal(s, later, 10);
    wait_done(&boss);
    /* It had asked whether the cut's job is there, and slept with the answer: no. */
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_run-1_0_t0", .kind = BQMODEL_STATUS, .status = 404, .reason = "notFound", .message = "Not found: Job"});
    consolidate_late();
    char label[64];
    assert_string_equal(tables_label(s, "bqfleet_run", label, sizeof(label)), "run-2");
    sleeper_go_on(other.sleeper);
    wait_done(&other);
    stage_sleep(s, 600000);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 10);
    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(value_of(i), 5);
    record_free(later);
    finish(state);
}

static void a_coordinator_that_slept_through_increments_takes_none_from_the_view(void **state)
{
    sleep_at_the_first_cut(state);
    struct stage *s = crew.stage;
    STAGE_WAIT(s, a_cut_is_open, NULL);
    sleeper_stop(other.sleeper);
    crew_coordinator(&crew, &boss, run, TRACK_FIRST);
    sleeper_calm(boss.sleeper);
    wait_shown(8);
    stage_load(s, run, 8, 4, 2);
    wait_shown(12);
    consolidate_late();
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 12);
    stage_seal(s, run, 12);
    sleeper_go_on(other.sleeper);
    wait_done(&boss);
    wait_done(&other);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 12);
    finish(state);
}

/* --- the plan -------------------------------------------------------------------------------------------------------------------------------- */

static bool all_settled(void *arg)
{
    (void)arg;
    return fold_open_cut(track_fold(boss.track)) == NULL;
}

static void so_many_shards_are_compacted_in_mid_run(void **state)
{
    begin(state);
    struct stage *s = crew.stage;
    struct tables_plan p;
    for (int i = 0; i < 4; i++) {
        stage_load(s, run, i, 1, i);
        wait_shown(i + 1);
    }
    STAGE_WAIT(s, all_settled, NULL);
    const struct fold *f = track_fold(boss.track);
    assert_int_equal(f->cut_count, 4);
    for (int64_t i = 0; i < 4; i++) { /* two shards in the view: the third cut compacts, the fourth lists anew */
        tables_plan(run, f, i, 2, &p);
        assert_int_equal(p.compacts, i == 2);
        assert_int_equal(p.takes, i == 0);
        assert_int_equal(p.from, i < 3 ? 0 : 3);
        assert_int_equal(p.compacted, i < 3 ? -1 : 2);
        assert_int_equal(p.loads, i < 3 ? i + 1 : 1);
    }
    tables_plan(run, f, 4, 2, &p);
    assert_true(p.compacts && p.from == 3 && p.loads == 1);
    tables_plan(run, f, 4, 0, &p);
    assert_true(p.compacts && p.from == 0 && p.loads == 4);
    stage_seal(s, run, 4);
    wait_done(&boss);
    finish(state);
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
        cmocka_unit_test(a_run_whose_view_is_dropped_fails_and_says_so),
        cmocka_unit_test(a_run_whose_view_is_replaced_by_a_table_fails_and_leaves_that_alone),
        cmocka_unit_test(a_run_whose_view_is_dropped_at_the_last_moment_fails),
        cmocka_unit_test(a_later_run_waits_for_the_view_and_its_rows_win_over_those_of_the_base),
        cmocka_unit_test(a_run_that_was_adopted_keeps_what_it_showed_and_its_heir_adds_the_rest),
        cmocka_unit_test(a_coordinator_that_slept_through_two_runs_changes_nothing),
        cmocka_unit_test(a_coordinator_that_slept_through_increments_takes_none_from_the_view),
        cmocka_unit_test(so_many_shards_are_compacted_in_mid_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
