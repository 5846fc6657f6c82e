#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/bq/internal.h"

/* Whole partitions replaced, by the product's own statement: ds.t is taken to be partitioned by v in tens from 0 to 100. */

static const struct partition tens = {.unit = PARTITION_RANGE, .column = "v", .type = FIELD_INT64, .start = 0, .end = 100, .interval = 10};
#define PARTS .mode = WRITE_REPLACE_PARTITIONS, .part = "v", .partition = &tens
#define OLD(k, v) "{\"k\":\"" k "\",\"v\":" #v "}"
#define NEW(k, v) "{\"k\":\"" k "\",\"v\":" #v ",\"at\":null,\"x\":null}"

static void partitions_of_the_runs_rows_are_replaced_and_others_stay(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", 10) "," OLD("b", 19) "," OLD("c", 20) "," OLD("d", 9) "," OLD("e", null) "," OLD("f", 35) "]");
    load(w, "l", "s", PLAIN("x", 12, 0, "l1") PLAIN("y", 30, 1, "l1") PLAIN("z", 50, 2, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 12, .hi = 50, .loads = {{"l1", 3, 0}}});
    assert_counts(w, 3, 0, 3);
    assert_rows(w, "ds.t", "[" NEW("c", 20) "," NEW("d", 9) "," NEW("e", null) "," NEW("x", 12) "," NEW("y", 30) "," NEW("z", 50) "]");
}

static void a_partition_of_only_excluded_rows_stays(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", 10) "," OLD("b", 20) "]");
    load(w, "l", "s", PLAIN("x", 12, 0, "l1") PLAIN("y", 22, 1, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 12, .hi = 22, .loads = {{"l1", 2, 0}}, .exclusions = {{"l1", 1}}});
    assert_rows(w, "ds.t", "[" NEW("b", 20) "," NEW("x", 12) "]");
}

static void rows_without_a_value_replace_such_rows(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", null) "," OLD("b", 20) "]");
    load(w, "l", "s", PLAIN("x", null, 0, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .part_null = true, .no_range = true});
    assert_rows(w, "ds.t", "[" NEW("b", 20) "," NEW("x", null) "]");
}

static void numbers_outside_of_all_ranges_share_a_partition(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", -7) "," OLD("b", 2000) "," OLD("c", 99) "," OLD("d", null) "]");
    load(w, "l", "s", PLAIN("x", 100, 0, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 100, .hi = 100});
    assert_rows(w, "ds.t", "[" NEW("c", 99) "," NEW("d", null) "," NEW("x", 100) "]");
}

static void numbers_above_all_ranges_replace_those_below_though_other_rows_are_in_a_range(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", -7) "," OLD("b", 2000) "," OLD("c", 99) "," OLD("d", 12) "]");
    load(w, "l", "s", PLAIN("x", 100, 0, "l1") PLAIN("y", 15, 1, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 15, .hi = 100, .loads = {{"l1", 2, 0}}});
    assert_rows(w, "ds.t", "[" NEW("c", 99) "," NEW("x", 100) "," NEW("y", 15) "]");
    load(w, "m", "s", PLAIN("z", -1, 2, "l2") PLAIN("v", 15, 3, "l2"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = -1, .hi = 15, .loads = {{"l2", 2, 0}}});
    assert_rows(w, "ds.t", "[" NEW("c", 99) "," NEW("z", -1) "," NEW("v", 15) "]");
}

static void of_equal_keys_only_the_first_counts_and_its_partition(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", 10) "," OLD("b", 20) "]");
    load(w, "l", "s", PLAIN("x", 12, 0, "l1") PLAIN("x", 22, 1, "l1"));
    run_cut(w, &(struct cut){PARTS, .order = "v", .lo = 12, .hi = 22, .loads = {{"l1", 2, 0}}});
    assert_rows(w, "ds.t", "[" NEW("a", 10) "," NEW("x", 22) "]"); /* v=12 lost, so its partition was not written to */
}

static void a_statement_that_is_repeated_ends_the_same(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", 10) "]");
    load(w, "l", "s", PLAIN("x", 12, 0, "l1"));
    for (int i = 0; i < 2; i++) {
        run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 12, .hi = 12});
        assert_rows(w, "ds.t", "[" NEW("x", 12) "]");
    }
}

static void a_load_that_is_not_whole_replaces_nothing(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[" OLD("a", 10) "]");
    load(w, "l", "s", PLAIN("x", 12, 0, "l1"));
    run_cut(w, &(struct cut){PARTS, .unkeyed = true, .lo = 12, .hi = 12, .loads = {{"l1", 2, 0}}});
    assert_answer(w, "status.errorResult.message", "bqfleet: load l1 has 1 staged rows instead of 2");
    assert_rows(w, "ds.t", "[" NEW("a", 10) "]");
}

int main(void)
{
#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        WITH_WORLD(partitions_of_the_runs_rows_are_replaced_and_others_stay),
        WITH_WORLD(a_partition_of_only_excluded_rows_stays),
        WITH_WORLD(rows_without_a_value_replace_such_rows),
        WITH_WORLD(numbers_outside_of_all_ranges_share_a_partition),
        WITH_WORLD(numbers_above_all_ranges_replace_those_below_though_other_rows_are_in_a_range),
        WITH_WORLD(of_equal_keys_only_the_first_counts_and_its_partition),
        WITH_WORLD(a_statement_that_is_repeated_ends_the_same),
        WITH_WORLD(a_load_that_is_not_whole_replaces_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
