#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/rnd.h"
#include "common/fleet/fold.h"

/* A log that is written message by message. */
struct log { struct fold *fold; int64_t offset; };

static struct log begin(int64_t tolerate)
{
    struct fold_config c = {.tolerate_count = tolerate, .stop_after = 3};
    return (struct log){.fold = fold_new(&c)};
}

static void say(struct log *l, struct log_msg m)
{
    struct error err = ERROR_INIT;
    m.text = m.text ? m.text : "";
    m.job = m.job ? m.job : "";
    m.shard = m.shard ? m.shard : "";
    m.manifest.load = m.manifest.load ? m.manifest.load : "";
    m.manifest.incarnation = m.manifest.incarnation ? m.manifest.incarnation : "";
    assert_int_equal(fold_apply(l->fold, &m, l->offset++, 0, &err), 0);
}

static const char *load_name(int seq)
{
    static char names[8][LOAD_ID_LEN + 1];
    static int at;
    at = (at + 1) % 8;
    load_id(names[at], "abcdefghij", seq);
    return names[at];
}

static void a_load(struct log *l, int seq, int64_t first, int64_t count)
{
    struct item_range r = {first, count};
    say(l, (struct log_msg){.type = LOGM_MANIFEST,
                            .manifest = {.incarnation = "abcdefghij", .load = load_name(seq), .rows = count * 2, .ranges = &r, .range_count = 1}});
}

static void a_failure(struct log *l, int64_t item)
{
    struct item_failure f = {.item = item, .attempts = 5, .key = "k", .reason = "handler", .text = "no"};
    say(l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.failures = &f, .failure_count = 1}});
}

static void seal(struct log *l, int64_t items)
{
    say(l, (struct log_msg){.type = LOGM_SEAL, .items = items});
}

static void the_last_manifest_is_the_last_cut(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 5);
    seal(&l, 10);
    assert_int_equal(l.fold->phase, RUN_WORKING);
    a_load(&l, 1, 5, 5);
    assert_int_equal(l.fold->end, END_COMPLETE);
    assert_int_equal(l.fold->end_offset, 2);
    const struct fold_cut *c = fold_open_cut(l.fold);
    assert_non_null(c);
    assert_true(c->last);
    assert_int_equal(c->loads, 2);
    assert_false(fold_settled(l.fold));
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = true, .inserted = 20});
    assert_true(fold_settled(l.fold));
    assert_int_equal(fold_exit_code(l.fold), EXIT_WRITTEN);
    fold_free(l.fold);
}

static void the_time_of_an_end_is_not_that_of_what_comes_after_it(void **state)
{
    (void)state;
    struct log l = begin(0);
    struct error err = ERROR_INIT;
    const struct log_msg cancel = {.type = LOGM_CANCEL, .text = "enough"};
    assert_int_equal(fold_apply(l.fold, &cancel, 0, 1000, &err), 0);
    assert_int_equal(fold_apply(l.fold, &cancel, 1, 9000, &err), 0);
    assert_true(fold_settled(l.fold));
    assert_int_equal(l.fold->effect_ms, 1000);
    fold_free(l.fold);
}

static void the_seal_is_the_last_cut_when_it_comes_last(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 5);
    seal(&l, 5);
    assert_int_equal(l.fold->end, END_COMPLETE);
    fold_free(l.fold);
    l = begin(0);
    seal(&l, 0); /* a run of no items */
    assert_int_equal(l.fold->end, END_COMPLETE);
    assert_int_equal(fold_open_cut(l.fold)->loads, 0);
    fold_free(l.fold);
}

static void an_item_keeps_its_first_load(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 4);
    a_load(&l, 1, 2, 4); /* items 2 and 3 again */
    assert_int_equal(l.fold->done, 6);
    assert_int_equal(l.fold->load_count, 2);
    assert_int_equal(l.fold->exclusion_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(l.fold->exclusions[i].load, 1);
        assert_int_equal(l.fold->exclusions[i].item, 2 + (int64_t)i);
    }
    fold_free(l.fold);
}

static void a_second_copy_of_a_manifest_changes_nothing(void **state)
{
    (void)state;
    struct log l = begin(0);
    char before[65], after[65];
    a_load(&l, 0, 0, 4);
    a_failure(&l, 9);
    fold_digest(l.fold, before);
    a_load(&l, 0, 0, 4);
    a_failure(&l, 9);
    fold_digest(l.fold, after);
    assert_string_equal(before, after);
    fold_free(l.fold);
}

static void an_item_that_failed_stays_failed_when_a_zombie_loads_it(void **state)
{
    (void)state;
    struct log l = begin(5);
    a_failure(&l, 1);
    a_load(&l, 0, 0, 2);
    assert_int_equal(l.fold->failed, 1);
    assert_int_equal(l.fold->exclusion_count, 1);
    assert_int_equal(l.fold->exclusions[0].item, 1);
    fold_free(l.fold);
}

static void a_load_without_a_new_item_is_not_needed_and_costs_no_exclusions(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 1000);
    int64_t rows = l.fold->rows;
    for (int i = 1; i <= 10; i++) /* the queue is replayed */
        a_load(&l, i, 100 * (i - 1), 100);
    assert_int_equal(l.fold->exclusion_count, 0);
    assert_int_equal(l.fold->rows, rows);
    a_load(&l, 1, 1000, 1); /* its id is known all the same */
    assert_int_equal(l.fold->done, 1000);
    a_load(&l, 11, 999, 2);
    seal(&l, 1001);
    assert_int_equal(fold_open_cut(l.fold)->loads, 2);
    assert_int_equal(l.fold->exclusion_count, 1);
    assert_int_equal(l.fold->loads[5].cut, LOAD_UNNEEDED);
    assert_false(fold_has_uncut(l.fold));
    fold_free(l.fold);
}

static void a_percentage_is_not_missed_by_a_binary_fraction(void **state)
{
    (void)state;
    for (int percent = 1; percent < 100; percent++) {
        struct fold *f = fold_new(&(struct fold_config){.tolerate_count = -1, .tolerate_percent = percent});
        f->items = 100;
        f->failed = percent;
        assert_false(fold_over_tolerance(f));
        f->failed++;
        assert_true(fold_over_tolerance(f));
        fold_free(f);
    }
}

static void an_abandon_by_a_coordinator_that_heard_less_than_was_said_is_void(void **state)
{
    (void)state;
    struct log l = begin(0);
    say(&l, (struct log_msg){.type = LOGM_ALIVE, .published = 1});
    int64_t stale = l.fold->heard;
    assert_int_equal(stale, 1);
    say(&l, (struct log_msg){.type = LOGM_ALIVE, .published = 2});
    say(&l, (struct log_msg){.type = LOGM_ABANDON, .heard = 0});
    say(&l, (struct log_msg){.type = LOGM_ABANDON, .heard = stale});
    assert_int_equal(l.fold->phase, RUN_PUBLISHING);
    say(&l, (struct log_msg){.type = LOGM_ABANDON, .heard = l.fold->heard});
    assert_int_equal(l.fold->end, END_ABANDON);
    fold_free(l.fold);
}

static void a_huge_index_before_the_seal_takes_no_memory_that_it_does_not_need(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_failure(&l, LIMIT_ITEMS - 1);
    a_failure(&l, 3);
    assert_true(fold_is_done(l.fold, LIMIT_ITEMS - 1) && fold_is_done(l.fold, 3));
    assert_false(fold_is_done(l.fold, 4));
    assert_int_equal(l.fold->done, 2);
    fold_free(l.fold);
}

static void failures_beyond_tolerance_hold_the_run_until_somebody_decides(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 2);
    a_failure(&l, 2);
    seal(&l, 3);
    assert_int_equal(l.fold->phase, RUN_HELD);
    assert_int_equal(fold_exit_code(l.fold), EXIT_HELD);
    assert_null(fold_open_cut(l.fold));
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 0}); /* void */
    assert_null(fold_open_cut(l.fold));
    say(&l, (struct log_msg){.type = LOGM_ACCEPT});
    assert_int_equal(l.fold->end, END_ACCEPTED);
    assert_int_equal(fold_open_cut(l.fold)->loads, 1);
    say(&l, (struct log_msg){.type = LOGM_CANCEL}); /* too late */
    assert_int_equal(l.fold->end, END_ACCEPTED);
    fold_free(l.fold);
}

static void the_first_end_wins(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 2);
    say(&l, (struct log_msg){.type = LOGM_ACCEPT}); /* not held: void */
    assert_int_equal(l.fold->phase, RUN_PUBLISHING);
    say(&l, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    seal(&l, 2);
    a_load(&l, 1, 0, 2);
    say(&l, (struct log_msg){.type = LOGM_FATAL});
    assert_int_equal(l.fold->end, END_CANCEL);
    assert_true(fold_settled(l.fold));
    assert_int_equal(l.fold->load_count, 1);
    assert_int_equal(fold_exit_code(l.fold), EXIT_ENDED);
    fold_free(l.fold);
}

static void abandon_counts_only_before_the_seal_and_lost_only_after(void **state)
{
    (void)state;
    struct log l = begin(0);
    say(&l, (struct log_msg){.type = LOGM_LOST, .missing = 1});
    assert_int_equal(l.fold->phase, RUN_PUBLISHING);
    seal(&l, 2);
    say(&l, (struct log_msg){.type = LOGM_ABANDON});
    assert_int_equal(l.fold->phase, RUN_WORKING);
    say(&l, (struct log_msg){.type = LOGM_LOST, .missing = 2});
    assert_int_equal(l.fold->end, END_LOST);
    fold_free(l.fold);
    l = begin(0);
    say(&l, (struct log_msg){.type = LOGM_ABANDON});
    seal(&l, 0);
    assert_int_equal(l.fold->end, END_ABANDON);
    fold_free(l.fold);
}

static void cuts_take_what_came_since_the_last_one_and_stand_after_a_cancel(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 2);
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 0}); /* a rival's: void */
    a_load(&l, 1, 2, 2);
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 1});
    a_load(&l, 2, 4, 2);
    say(&l, (struct log_msg){.type = LOGM_CANCEL});
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 2}); /* void */
    assert_int_equal(l.fold->cut_count, 2);
    assert_int_equal(l.fold->loads[0].cut, 0);
    assert_int_equal(l.fold->loads[1].cut, 1);
    assert_int_equal(l.fold->loads[2].cut, -1);
    assert_false(fold_settled(l.fold));
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 1, .ok = true});
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 1, .ok = false}); /* the first one won */
    assert_int_equal(l.fold->cuts[1].state, CUT_DONE);
    assert_int_equal(fold_open_cut(l.fold)->number, 0);
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = true});
    assert_true(fold_settled(l.fold));
    fold_free(l.fold);
}

static void a_shards_cut_takes_only_its_own_named_loads(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 2);
    a_load(&l, 1, 2, 2);
    const char *names[] = {load_name(1), load_name(1), "zzzzzzzzzz-000001"};
    say(&l, (struct log_msg){.type = LOGM_CUT, .shard = "abcdefghij", .cut = 0, .loads = names, .load_count = 3});
    say(&l, (struct log_msg){.type = LOGM_CUT, .shard = "abcdefghij", .cut = 1, .loads = names, .load_count = 3}); /* nothing left */
    assert_int_equal(l.fold->cut_count, 1);
    assert_int_equal(l.fold->cuts[0].loads, 1);
    seal(&l, 4);
    assert_int_equal(l.fold->cut_count, 2);
    assert_int_equal(l.fold->loads[0].cut, 1); /* the rest belongs to the last cut */
    assert_int_equal(l.fold->loads[1].cut, 0);
    assert_int_equal(l.fold->cuts[1].loads, 1);
    fold_free(l.fold);
}

static void a_failed_outcome_ends_the_run_and_voids_later_cuts(void **state)
{
    (void)state;
    struct log l = begin(0);
    a_load(&l, 0, 0, 2);
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    a_load(&l, 1, 2, 2);
    seal(&l, 4);
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = false, .text = "no permission"});
    assert_int_equal(l.fold->end, END_FAILED);
    assert_int_equal(l.fold->cuts[1].state, CUT_VOID);
    assert_true(fold_settled(l.fold));
    assert_int_equal(fold_exit_code(l.fold), EXIT_UNFINISHED);
    fold_free(l.fold);
}

static void failures_in_a_row_ask_for_a_stop(void **state)
{
    (void)state;
    struct log l = begin(100);
    a_failure(&l, 0);
    a_failure(&l, 1);
    a_load(&l, 0, 2, 1);
    a_failure(&l, 3);
    a_failure(&l, 4);
    assert_false(fold_must_stop(l.fold));
    a_failure(&l, 5);
    assert_true(fold_must_stop(l.fold));
    fold_free(l.fold);
}

/* A failure is told at once, rows of good items have to be loaded first: their writer tells that they are on their way. */
static void failures_among_successes_ask_for_no_stop(void **state)
{
    (void)state;
    struct log l = begin(100);
    for (int64_t i = 0; i < 20; i++) {
        struct item_failure failure = {.item = i, .attempts = 1, .key = "k", .reason = "handler", .text = "no"};
        say(&l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.incarnation = "", .load = "", .failures = &failure, .failure_count = 1,
                                                                     .succeeded = i % 3 == 2}});
        assert_false(fold_must_stop(l.fold));
    }
    assert_int_equal(l.fold->failed, 20);
    a_failure(&l, 20);
    assert_true(fold_must_stop(l.fold));
    fold_free(l.fold);
}

static void a_log_that_contradicts_its_seal_is_refused(void **state)
{
    (void)state;
    struct log l = begin(0);
    seal(&l, 3);
    struct item_range r = {2, 2};
    struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.incarnation = "", .load = "", .empty = &r, .empty_count = 1}};
    struct error err = ERROR_INIT;
    assert_int_equal(fold_apply(l.fold, &m, l.offset, 0, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(l.fold->done, 0);
    fold_free(l.fold);
}

/* --- a naive second opinion over random logs --- */

enum { ITEMS = 60, STEPS = 120 };
struct naive { int owner[ITEMS]; /* 0 nobody, 1 empty, 2 failed, 3 + load */ bool loaded[40]; };

static void random_step(struct log *l, struct naive *n, struct rnd *rnd)
{
    struct item_range r = {(int64_t)rnd_below(rnd, ITEMS - 6), 1 + (int64_t)rnd_below(rnd, 6)};
    uint64_t what = rnd_below(rnd, 20);
    bool over = l->fold->phase == RUN_ENDED;
    if (what < 10) {
        int seq = (int)rnd_below(rnd, 40);
        a_load(l, seq, r.first, r.count);
        for (int64_t i = r.first; !over && !n->loaded[seq] && i < r.first + r.count; i++)
            n->owner[i] = n->owner[i] ? n->owner[i] : 3 + seq;
        n->loaded[seq] |= !over;
    } else if (what < 13) {
        say(l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &r, .empty_count = 1}});
        for (int64_t i = r.first; !over && i < r.first + r.count; i++)
            n->owner[i] = n->owner[i] ? n->owner[i] : 1;
    } else if (what < 16) {
        a_failure(l, r.first);
        if (!over)
            n->owner[r.first] = n->owner[r.first] ? n->owner[r.first] : 2;
    } else if (what < 18) {
        say(l, (struct log_msg){.type = LOGM_CUT, .cut = (int64_t)rnd_below(rnd, 6)});
    } else if (what == 18) {
        say(l, (struct log_msg){.type = LOGM_OUTCOME, .cut = (int64_t)rnd_below(rnd, 6), .ok = true});
    } else if (rnd_below(rnd, 8) == 0) {
        say(l, (struct log_msg){.type = rnd_below(rnd, 2) ? LOGM_SEAL : LOGM_CANCEL, .items = ITEMS});
    }
}

/* From how many loads the item is excluded. */
static int exclusions_of(const struct fold *f, int64_t item)
{
    int found = 0;
    for (size_t i = 0; i < f->exclusion_count; i++)
        found += f->exclusions[i].item == item;
    return found;
}

static void random_logs_give_each_item_one_owner(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct rnd rnd;
        rnd_seeded(&rnd, seed);
        struct log l = begin(ITEMS);
        struct naive n = {.owner = {0}};
        for (int i = 0; i < STEPS; i++)
            random_step(&l, &n, &rnd);
        int64_t done = 0, empty = 0, failed = 0, excluded = 0, in_loads = 0, owned_by_loads = 0;
        for (int i = 0; i < ITEMS; i++) {
            assert_int_equal(fold_is_done(l.fold, i), n.owner[i] != 0);
            done += n.owner[i] != 0;
            empty += n.owner[i] == 1;
            failed += n.owner[i] == 2;
            owned_by_loads += n.owner[i] >= 3;
            excluded += exclusions_of(l.fold, i);
        }
        for (size_t i = 0; i < l.fold->load_count; i++)
            in_loads += l.fold->loads[i].cut == LOAD_UNNEEDED ? 0 : l.fold->loads[i].items;
        assert_int_equal(l.fold->done, done);
        assert_int_equal(l.fold->empty, empty);
        assert_int_equal(l.fold->failed, failed);
        /* every item of every load is either that load's own or excluded from it */
        assert_int_equal(in_loads, owned_by_loads + excluded);
        int64_t cut_loads = 0;
        for (size_t i = 0; i < l.fold->cut_count; i++)
            cut_loads += l.fold->cuts[i].loads;
        for (size_t i = 0; i < l.fold->load_count; i++)
            cut_loads -= l.fold->loads[i].cut >= 0;
        assert_int_equal(cut_loads, 0);
        fold_free(l.fold);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_manifest_is_the_last_cut),
        cmocka_unit_test(the_time_of_an_end_is_not_that_of_what_comes_after_it),
        cmocka_unit_test(the_seal_is_the_last_cut_when_it_comes_last),
        cmocka_unit_test(an_item_keeps_its_first_load),
        cmocka_unit_test(a_second_copy_of_a_manifest_changes_nothing),
        cmocka_unit_test(an_item_that_failed_stays_failed_when_a_zombie_loads_it),
        cmocka_unit_test(a_load_without_a_new_item_is_not_needed_and_costs_no_exclusions),
        cmocka_unit_test(a_percentage_is_not_missed_by_a_binary_fraction),
        cmocka_unit_test(an_abandon_by_a_coordinator_that_heard_less_than_was_said_is_void),
        cmocka_unit_test(a_huge_index_before_the_seal_takes_no_memory_that_it_does_not_need),
        cmocka_unit_test(failures_beyond_tolerance_hold_the_run_until_somebody_decides),
        cmocka_unit_test(the_first_end_wins),
        cmocka_unit_test(abandon_counts_only_before_the_seal_and_lost_only_after),
        cmocka_unit_test(cuts_take_what_came_since_the_last_one_and_stand_after_a_cancel),
        cmocka_unit_test(a_shards_cut_takes_only_its_own_named_loads),
        cmocka_unit_test(a_failed_outcome_ends_the_run_and_voids_later_cuts),
        cmocka_unit_test(failures_in_a_row_ask_for_a_stop),
        cmocka_unit_test(failures_among_successes_ask_for_no_stop),
        cmocka_unit_test(a_log_that_contradicts_its_seal_is_refused),
        cmocka_unit_test(random_logs_give_each_item_one_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
