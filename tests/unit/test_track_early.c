#include "tests/unit/support_crew.h"

/* The permit of a run's last cut, which its coordinator takes while the last items still run. Virtual time. */

#define ITEMS 158
#define LOOKS 600

static struct crew crew;
static struct crewman boss, worker;

static bool is_done(void *items) { return track_fold(boss.track)->done >= *(int64_t *)items; }

static bool is_over(void *arg)
{
    (void)arg;
    return track_fold(boss.track)->phase == RUN_ENDED;
}

static bool is_held(void)
{
    struct bq_ref table;
    char name[700];
    bool held = false;
    record_permits_ref(crew.record, &table);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(crew.stage->model, bq_ref_text(&table, name, sizeof(name)));
    for (size_t i = 0; i < doc_len(rows); i++)
        held = held || *doc_str(doc_at(rows, i), "holder", "") != '\0';
    return held;
}

/* One item takes an hour, and by its rate the run ends any moment. Others need the table in that hour. */
static void the_table_is_not_kept_for_an_item_that_takes_an_hour(void **state)
{
    int64_t all_but_one = ITEMS - 1, everything = ITEMS;
    int held = 0;
    crew_open(&crew, state, 1);
    struct record *r = crew.record = crew_record(&crew, "run-1");
    r->via = VIA_STAGING;
    r->timeout_ms = 2 * 3600 * 1000;
    stage_publish(crew.stage, r);
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
    crew_coordinator(&crew, &boss, r, TRACK_FIRST);
    crew_worker(&crew, &worker, "w");
    crew_play.work_ms = 1000;
    crew_items(&crew, r, 0, all_but_one);
    assert_true(loop_until(crew.stage->loop, is_done, &all_but_one, 3600 * US_PER_S));
    crew_play.work_ms = 3600 * 1000;
    crew_items(&crew, r, all_but_one, 1);
    stage_seal(crew.stage, r, ITEMS);
    for (int i = 0; i < LOOKS; i++) {
        stage_sleep(crew.stage, 1000);
        held += is_held();
    }
    print_message("held for %d of %d s\n", held, LOOKS);
    assert_in_range(held, 1, LOOKS / 5);
    assert_true(loop_until(crew.stage->loop, is_done, &everything, 2 * 3600 * US_PER_S));
    assert_true(loop_until(crew.stage->loop, is_over, NULL, 600 * US_PER_S));
    stage_sleep(crew.stage, 20000);
    crew_kill(&crew, &worker);
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

/* All three are read in one turn: the permit that was asked for is for a cut that is over, and the one that is to be written gets another. */
static void a_permit_for_a_cut_that_others_wrote_meanwhile_is_given_back(void **state)
{
    crew_open(&crew, state, 1);
    struct record *r = crew.record = crew_record(&crew, "run-1");
    r->via = VIA_STAGING;
    r->every_ms = 24 * 3600 * 1000;
    stage_publish(crew.stage, r);
    crew_coordinator(&crew, &boss, r, TRACK_FIRST);
    stage_seal(crew.stage, r, 3);
    for (int i = 0; i < 150 && !is_held(); i++)
        stage_sleep(crew.stage, 100);
    assert_true(is_held());
    struct log_msg said[] = {{.type = LOGM_CUT}, {.type = LOGM_OUTCOME, .ok = true}, {.type = LOGM_CUT, .cut = 1}};
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        outbox_log(crew.stage->outbox, r, &said[i], NULL, NULL);
    stage_sleep(crew.stage, 5000);
    assert_false(is_held());
    assert_int_equal(track_fold(boss.track)->run_cuts, 2);
    assert_null(fold_open_cut(track_fold(boss.track)));
    struct item_range all = {0, 3};
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &all, .empty_count = 1}});
    assert_true(loop_until(crew.stage->loop, is_over, NULL, 600 * US_PER_S));
    stage_sleep(crew.stage, 20000);
    assert_false(is_held());
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_table_is_not_kept_for_an_item_that_takes_an_hour),
                                       cmocka_unit_test(a_permit_for_a_cut_that_others_wrote_meanwhile_is_given_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
