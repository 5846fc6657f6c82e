#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fleet/fold.h"

/* Which items have failed, and when a held run may be adopted. */

struct log { struct fold *fold; int64_t offset; };

static struct log begin(int64_t tolerate)
{
    struct fold_config c = {.tolerate_count = tolerate};
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
    assert_int_equal(fold_apply(l->fold, &m, l->offset, l->offset * 10, &err), 0);
    l->offset++;
}

static void loads(struct log *l, int seq, int64_t first, int64_t count)
{
    char id[LOAD_ID_LEN + 1];
    load_id(id, "abcdefghij", seq);
    struct item_range r = {first, count};
    say(l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.incarnation = "abcdefghij", .load = id, .rows = count, .ranges = &r, .range_count = 1}});
}

static void fails(struct log *l, int64_t item)
{
    struct item_failure f = {.item = item, .attempts = 5, .key = "k", .reason = "handler", .text = "no"};
    say(l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.failures = &f, .failure_count = 1}});
}

static void an_item_has_failed_only_if_that_came_first(void **state)
{
    (void)state;
    struct log l = begin(10);
    loads(&l, 0, 0, 3);
    fails(&l, 1);   /* done already: a zombie's word */
    fails(&l, 64);
    fails(&l, 200);
    fails(&l, 200);
    loads(&l, 1, 200, 1); /* it failed before */
    assert_int_equal(l.fold->failed, 2);
    assert_false(fold_is_failed(l.fold, 1));
    assert_true(fold_is_failed(l.fold, 64));
    assert_false(fold_is_failed(l.fold, 63));
    assert_false(fold_is_failed(l.fold, INT64_C(1) << 40));
    assert_int_equal(fold_next_failed(l.fold, 0), 64);
    assert_int_equal(fold_next_failed(l.fold, 64), 64);
    assert_int_equal(fold_next_failed(l.fold, 65), 200);
    assert_int_equal(fold_next_failed(l.fold, 201), -1);
    fold_free(l.fold);
}

/* What `redrive` takes must be all that failed, however many that are. */
static void every_failure_is_remembered_where_texts_are_not(void **state)
{
    (void)state;
    struct log l = begin(0);
    const int64_t many = 3 * FOLD_FAILURES;
    for (int64_t i = 0; i < many; i++)
        fails(&l, i * 7);
    assert_int_equal(l.fold->failure_count, FOLD_FAILURES);
    int64_t seen = 0;
    for (int64_t i = fold_next_failed(l.fold, 0); i >= 0; i = fold_next_failed(l.fold, i + 1))
        assert_int_equal(i, 7 * seen++);
    assert_int_equal(seen, many);
    fold_free(l.fold);
}

static void the_digest_tells_a_failure_from_an_item_without_rows(void **state)
{
    (void)state;
    char a[65], b[65];
    struct log one = begin(9), two = begin(9);
    fails(&one, 4);
    fails(&two, 5);
    struct item_range four = {4, 1}, five = {5, 1};
    say(&one, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &five, .empty_count = 1}});
    say(&two, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &four, .empty_count = 1}});
    one.fold->in_a_row = two.fold->in_a_row = 0;
    fold_digest(one.fold, a);
    fold_digest(two.fold, b);
    assert_string_not_equal(a, b);
    fold_free(one.fold);
    fold_free(two.fold);
}

struct told { int64_t items[4], times[4]; size_t count; };
static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    struct told *t = arg;
    assert_in_range(t->count, 0, ARRAY_LEN(t->items) - 1);
    t->items[t->count] = f->item;
    t->times[t->count++] = time_ms;
}

static void whoever_asks_is_told_each_failure_once_with_its_time(void **state)
{
    (void)state;
    struct told t = {.count = 0};
    struct log l = begin(9);
    l.fold->on_failure = on_failure;
    l.fold->on_failure_arg = &t;
    fails(&l, 3);
    fails(&l, 3);
    loads(&l, 0, 8, 1);
    fails(&l, 8);
    fails(&l, 1);
    assert_int_equal(t.count, 2);
    assert_int_equal(t.items[0], 3);
    assert_int_equal(t.times[0], 0);
    assert_int_equal(t.items[1], 1);
    assert_int_equal(t.times[1], 40);
    fold_free(l.fold);
}

static void what_is_tolerated_is_a_number_of_items(void **state)
{
    (void)state;
    struct fold_config percent = {.tolerate_count = -1, .tolerate_percent = 29};
    struct log l = {.fold = fold_new(&percent)};
    assert_int_equal(fold_tolerated(l.fold), 0);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 100});
    assert_int_equal(fold_tolerated(l.fold), 29);
    fold_free(l.fold);
    l = begin(7);
    assert_int_equal(fold_tolerated(l.fold), 7);
    fold_free(l.fold);
}

/* --- adoption ------------------------------------------------------------------------------------------------------------------------------- */

static struct log held(void)
{
    struct log l = begin(0);
    loads(&l, 0, 0, 2);
    fails(&l, 2);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 3});
    assert_int_equal(l.fold->phase, RUN_HELD);
    return l;
}

static void adopts(struct log *l, const char *run)
{
    say(l, (struct log_msg){.type = LOGM_ADOPTED, .run = run});
}

static void the_first_to_adopt_a_held_run_has_it(void **state)
{
    (void)state;
    struct log l = held();
    adopts(&l, "first");
    adopts(&l, "second");
    say(&l, (struct log_msg){.type = LOGM_ACCEPT});
    say(&l, (struct log_msg){.type = LOGM_CANCEL});
    assert_int_equal(l.fold->end, END_ADOPTED);
    assert_string_equal(l.fold->adopted_by, "first");
    assert_int_equal(l.fold->loads[0].cut, LOAD_UNCUT); /* its heir's to take */
    assert_true(fold_settled(l.fold));
    assert_int_equal(fold_exit_code(l.fold), EXIT_ENDED);
    fold_free(l.fold);
}

static void what_was_decided_before_cannot_be_adopted(void **state)
{
    static const enum log_type decisions[] = {LOGM_ACCEPT, LOGM_CANCEL};
    static const enum run_end ends[] = {END_ACCEPTED, END_CANCEL};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(decisions); i++) {
        struct log l = held();
        say(&l, (struct log_msg){.type = decisions[i]});
        adopts(&l, "late");
        assert_int_equal(l.fold->end, ends[i]);
        assert_null(l.fold->adopted_by);
        fold_free(l.fold);
    }
    struct log open = begin(0);
    adopts(&open, "early");
    assert_int_equal(open.fold->phase, RUN_PUBLISHING);
    fold_free(open.fold);
}

static struct log held_with_an_increment(void)
{
    struct log l = begin(0);
    loads(&l, 0, 0, 2);
    say(&l, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    loads(&l, 1, 2, 1);
    fails(&l, 3);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 4});
    assert_int_equal(l.fold->phase, RUN_HELD);
    return l;
}

static void a_held_run_is_adopted_after_the_outcomes_of_its_increments(void **state)
{
    (void)state;
    struct log l = held_with_an_increment();
    adopts(&l, "early");
    assert_int_equal(l.fold->phase, RUN_HELD);
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = true});
    adopts(&l, "heir");
    assert_string_equal(l.fold->adopted_by, "heir");
    assert_int_equal(l.fold->loads[0].cut, 0);
    assert_int_equal(l.fold->loads[1].cut, LOAD_UNCUT);
    fold_free(l.fold);
}

static void an_increment_that_fails_ends_a_held_run_before_anyone_adopts_it(void **state)
{
    (void)state;
    struct log l = held_with_an_increment();
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = false, .text = "no"});
    adopts(&l, "heir");
    assert_int_equal(l.fold->end, END_FAILED);
    assert_null(l.fold->adopted_by);
    assert_int_equal(fold_exit_code(l.fold), EXIT_UNFINISHED);
    fold_free(l.fold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_item_has_failed_only_if_that_came_first),
        cmocka_unit_test(every_failure_is_remembered_where_texts_are_not),
        cmocka_unit_test(the_digest_tells_a_failure_from_an_item_without_rows),
        cmocka_unit_test(whoever_asks_is_told_each_failure_once_with_its_time),
        cmocka_unit_test(what_is_tolerated_is_a_number_of_items),
        cmocka_unit_test(the_first_to_adopt_a_held_run_has_it),
        cmocka_unit_test(what_was_decided_before_cannot_be_adopted),
        cmocka_unit_test(a_held_run_is_adopted_after_the_outcomes_of_its_increments),
        cmocka_unit_test(an_increment_that_fails_ends_a_held_run_before_anyone_adopts_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
