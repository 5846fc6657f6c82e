#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"

/* The model's statements, where keys are NULL and where shards are folded: the text is the product's own, the meaning is asserted row by row. */

static void null_keys_may_be_equal_to_each_other(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"v\":1},{\"k\":\"a\",\"v\":2}]");
    load(w, "l", "s", ROW("null", 3, "null", "null", 0, 0, "l1") ROW("null", 4, "null", "null", 1, 0, "l1") PLAIN("b", 5, 2, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .loads = {{"l1", 3, 0}}, .nulls = NULL_KEYS_EQUAL});
    assert_counts(w, 1, 1, 0);
    assert_rows(w, "ds.t", "[{\"k\":null,\"v\":4,\"at\":null,\"x\":null},{\"k\":\"a\",\"v\":2,\"at\":null,\"x\":null},{\"k\":\"b\",\"v\":5,\"at\":null,\"x\":null}]");
}

static void null_keys_may_be_distinct_from_everything(void **state)
{
    static const enum write_mode modes[] = {WRITE_MERGE, WRITE_APPEND, WRITE_REPLACE};
    struct world *w = *state;
    load(w, "l", "s", ROW("null", 3, "null", "null", 0, 0, "l1") ROW("null", 3, "null", "null", 0, 1, "l1") PLAIN("b", 5, 2, "l1") PLAIN("b", 6, 3, "l1"));
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) { /* merge finds none, then append adds all, then replace leaves its own */
        run_cut(w, &(struct cut){.mode = modes[i], .loads = {{"l1", 4, 0}}, .nulls = NULL_KEYS_DISTINCT});
        assert_counts(w, 3, 0, i == 2 ? 6 : 0);
    }
}

static void a_null_partition_is_looked_into_when_it_is_named(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"t\"},{\"k\":\"t\",\"v\":6}]");
    load(w, "l", "s", ROW("\"a\"", null, "null", "null", 0, 0, "l1") PLAIN("b", 6, 1, "l1"));
    struct cut cut = {.mode = WRITE_MERGE, .key = "v", .part = "v", .lo = 6, .hi = 6, .loads = {{"l1", 2, 0}}, .nulls = NULL_KEYS_EQUAL, .part_null = true};
    run_cut(w, &cut);
    assert_counts(w, 0, 2, 0);
    cut.no_range = true; /* a lie, which shows as a second row */
    run_cut(w, &cut);
    assert_counts(w, 1, 1, 0);
    cut.no_range = cut.part_null = false;
    run_cut(w, &cut);
    assert_good(w);
    assert_answer(w, "statistics.query.dmlStats.insertedRowCount", "1");
}

static void fold(struct world *w, const char *id, const struct sql_load *loads, size_t count)
{
    static const char fields[] = "{\"fields\":\"" TARGET "\"}";
    static const struct bq_ref into = {"local", "ds", "folded"}, shards[] = {{"local", "ds", "s"}, {"local", "ds", "s2"}};
    AUTO(doc_free_auto) doc *d = doc_parse(fields, strlen(fields), "fields", NULL);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, NULL);
    struct sql_cut cut = {.target = &into, .schema = schema, .shards = shards, .shard_count = 2, .loads = loads, .load_count = count};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    doc *params = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(sql_fold(&cut, &sql, &params, &err), 0);
    assert_int_equal(insert_query(w, id, sql.data, params), 200);
    wait_job(w, id);
    assert_null(bqmodel_unknown_statement(w->m));
    buf_free(&sql);
}

static void shards_are_folded_with_their_bookkeeping_or_not_at_all(void **state)
{
    struct world *w = *state;
    static const struct sql_load good[] = {{"l1", 2, 0}, {"l2", 1, 1}}, bad[] = {{"l1", 2, 0}, {"l2", 2, 1}};
    bqmodel_add_table(w->m, "ds.s2", SHARD);
    bqmodel_add_table(w->m, "ds.folded", SHARD);
    load(w, "a", "s", PLAIN("a", 1, 0, "l1") PLAIN("b", 2, 1, "l1") PLAIN("x", 9, 2, "unreported"));
    load(w, "b", "s2", ROW("\"c\"", 3, "null", "null", 3, 7, "l2"));
    fold(w, "f0", bad, 2);
    assert_answer(w, "status.errorResult.message", "bqfleet: load l2 has 1 staged rows instead of 2");
    assert_int_equal(bqmodel_count(w->m, "ds.folded"), 0);
    fold(w, "f1", good, 2);
    assert_counts(w, 3, 0, 0);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(w->m, "ds.folded");
    assert_int_equal(doc_int(rows, "2.bqfleet_item", -1), 3);
    assert_int_equal(doc_int(rows, "2.bqfleet_row", -1), 7);
    assert_string_equal(doc_str(rows, "2.bqfleet_load", ""), "l2");
    bqmodel_drop_table(w->m, "ds.s2");
    bqmodel_add_table(w->m, "ds.s2", "v:INT64, k:STRING, at:TIMESTAMP, x:FLOAT64, bqfleet_item:INT64, bqfleet_row:INT64, bqfleet_load:STRING");
    fold(w, "f2", good, 1);
    assert_answer(w, "status.errorResult.message", "bqmodel: s2 has not the columns of the shards it is folded with");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(null_keys_may_be_equal_to_each_other),
        TEST(null_keys_may_be_distinct_from_everything),
        TEST(a_null_partition_is_looked_into_when_it_is_named),
        TEST(shards_are_folded_with_their_bookkeeping_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
