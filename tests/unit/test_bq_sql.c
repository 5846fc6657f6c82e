#include "common/bq/sql.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"

/* What the corpus does not show: what is refused, what parameters hold, what is left out. */

static const char fields[] =
    "{\"fields\":[{\"name\":\"k\",\"type\":\"INT64\"},{\"name\":\"d\",\"type\":\"DATE\"},{\"name\":\"dt\",\"type\":\"DATETIME\"},"
    "{\"name\":\"ts\",\"type\":\"TIMESTAMP\"},{\"name\":\"f\",\"type\":\"FLOAT64\"},{\"name\":\"j\",\"type\":\"JSON\"},{\"name\":\"g\",\"type\":\"GEOGRAPHY\"},"
    "{\"name\":\"a\",\"type\":\"STRING\",\"mode\":\"REPEATED\"},{\"name\":\"s\",\"type\":\"RECORD\",\"fields\":[{\"name\":\"x\",\"type\":\"INT64\"}]},"
    "{\"name\":\"i\",\"type\":\"INTERVAL\"},{\"name\":\"r\",\"type\":\"RANGE\",\"rangeElementType\":{\"type\":\"DATE\"}}]}";
static const struct bq_ref target = {"p", "d", "t"}, shard = {"p", "d", "s"};
static const struct sql_load load = {"r-a-0", 3, 0};

static struct schema *parse(const char *text)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(text, strlen(text), "fields", &err);
    struct schema *schema = d ? schema_parse(d, &err) : NULL;
    if (schema == NULL)
        fail_msg("%s", err.text);
    return schema;
}

/* -1 with the error's text, which must hold `piece`. */
static void refuses(const struct schema *schema, enum write_mode mode, const char *key, const char *order, const char *keep, const char *piece)
{
    struct error err = ERROR_INIT;
    int rc = sql_check_columns(schema, mode, &key, key != NULL, &order, order != NULL, &keep, keep != NULL, &err);
    if (rc != -1 || err.kind != ERR_USAGE || !strstr(err.text, piece))
        fail_msg("key %s, order %s, keep %s: %d %s", key ? key : "-", order ? order : "-", keep ? keep : "-", rc, err.text);
}

static void keys_must_be_comparable_exactly(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *schema = parse(fields);
    refuses(schema, WRITE_MERGE, NULL, NULL, NULL, "write.keys");
    refuses(schema, WRITE_MERGE, "nope", NULL, NULL, "no column nope");
    refuses(schema, WRITE_MERGE, "f", NULL, NULL, "store the key as NUMERIC");
    refuses(schema, WRITE_MERGE, "a", NULL, NULL, "ARRAY");
    static const char *const never[] = {"j", "g", "s", "i", "r"};
    for (size_t n = 0; n < ARRAY_LEN(never); n++)
        refuses(schema, WRITE_MERGE, never[n], NULL, NULL, "cannot be compared exactly");
    const char *const good[] = {"K", "d", "dt", "ts"}, *const twice[] = {"k", "K"};
    struct error err = ERROR_INIT;
    assert_int_equal(sql_check_columns(schema, WRITE_MERGE, good, 4, NULL, 0, NULL, 0, &err), 0);
    assert_int_equal(sql_check_columns(schema, WRITE_MERGE, twice, 2, NULL, 0, NULL, 0, &err), -1);
    assert_non_null(strstr(err.text, "twice"));
}

static void order_and_insert_only_are_checked_too(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *schema = parse(fields);
    refuses(schema, WRITE_MERGE, "k", "nope", NULL, "write.order_by");
    refuses(schema, WRITE_MERGE, "k", "j", NULL, "no order");
    refuses(schema, WRITE_MERGE, "k", "a", NULL, "ARRAY");
    refuses(schema, WRITE_MERGE, "k", NULL, "nope", "write.insert_only");
    refuses(schema, WRITE_MERGE, "k", NULL, "K", "is a key");
    AUTO(schema_free_auto) struct schema *ours = parse("{\"fields\":[{\"name\":\"BQFleet_x\",\"type\":\"INT64\"}]}");
    refuses(ours, WRITE_APPEND, NULL, NULL, NULL, "bookkeeping");
}

static void only_names_that_cannot_end_their_quotes_are_written(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "A_1", "select", "with space", "größe", "a-b", "50%", "x:y"};
    static const char *const bad[] = {"", "a`b", "a\\b", "a\nb", "a.b", "a;b", "a(b", "a\"b", "a$b", "a\x7f"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(sql_identifier_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(sql_identifier_ok(bad[i]));
    char longest[302];
    memset(longest, 'a', sizeof(longest));
    longest[300] = '\0';
    assert_true(sql_identifier_ok(longest));
    longest[300] = 'a';
    longest[301] = '\0';
    assert_false(sql_identifier_ok(longest));
    struct buf sql = BUF_INIT(1024);
    sql_quote_ref(&sql, &(struct bq_ref){"example.com:my-p", "d", "t"});
    assert_string_equal(sql.data, "`example.com:my-p`.`d`.`t`");
    buf_free(&sql);
}

static void without_loads_only_replace_has_something_to_do(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *schema = parse("{\"fields\":[{\"name\":\"k\",\"type\":\"INT64\"}]}");
    const char *key = "k";
    struct sql_cut cut = {.target = &target, .schema = schema, .mode = WRITE_MERGE, .keys = &key, .key_count = 1};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    doc *params = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), 1);
    cut.mode = WRITE_APPEND;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), 1);
    assert_int_equal(sql.len, 0);
    assert_null(params);
    cut.mode = WRITE_REPLACE;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), 0);
    assert_string_equal(sql.data, "DELETE FROM `p`.`d`.`t`\nWHERE TRUE");
    assert_int_equal(doc_len(params), 0);
    doc_free(params);
    cut.mode = WRITE_NONE;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    buf_free(&sql);
}

static const char *param(const doc *params, const char *name)
{
    for (size_t i = 0; i < doc_len(params); i++)
        if (strcmp(doc_str(doc_at(params, i), "name", ""), name) == 0)
            return doc_str(doc_at(params, i), "parameterValue.value", NULL);
    return NULL;
}

static void the_partition_s_bounds_are_constants_of_its_type(void **state)
{
    (void)state;
    static const struct {
        const char *column;
        int64_t lo, hi;
        const char *text_lo, *text_hi;
    } cases[] = {
        {"d", 0, 19782, "1970-01-01", "2024-02-29"},
        {"d", -719162, 2932896, "0001-01-01", "9999-12-31"},
        {"d", -1, 11016, "1969-12-31", "2000-02-29"},
        {"dt", -1, 1709251199999999, "1969-12-31 23:59:59.999999", "2024-02-29 23:59:59.999999"},
        {"ts", 0, 253402300799999999, "1970-01-01 00:00:00.000000+00:00", "9999-12-31 23:59:59.999999+00:00"},
        {"k", INT64_MIN, INT64_MAX, "-9223372036854775808", "9223372036854775807"},
    };
    AUTO(schema_free_auto) struct schema *schema = parse(fields);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sql_cut cut = {.target = &target, .schema = schema, .mode = WRITE_MERGE, .keys = &cases[i].column, .key_count = 1, .shards = &shard,
                              .shard_count = 1, .loads = &load, .load_count = 1, .partition_column = cases[i].column, .has_range = true,
                              .range_lo = cases[i].lo, .range_hi = cases[i].hi};
        struct buf sql = BUF_INIT(LIMIT_SQL);
        doc *params = NULL;
        assert_int_equal(sql_consolidate(&cut, &sql, &params, NULL), 0);
        assert_string_equal(param(params, "part_lo"), cases[i].text_lo);
        assert_string_equal(param(params, "part_hi"), cases[i].text_hi);
        doc_free(params);
        buf_free(&sql);
    }
}

static void a_statement_of_900_shards_fits_and_a_longer_one_says_so(void **state)
{
    (void)state;
    static struct bq_ref shards[LIMIT_SHARDS_PER_QUERY + 1];
    for (size_t i = 0; i < ARRAY_LEN(shards); i++) {
        shards[i] = (struct bq_ref){"my-long-project-name-1", "dataset_staging", ""};
        snprintf(shards[i].table, sizeof(shards[i].table), "bqfleet_01j0000000000000000000000_worker_%04zu", i);
    }
    AUTO(schema_free_auto) struct schema *schema = parse(fields);
    struct sql_cut cut = {.target = &target, .schema = schema, .mode = WRITE_APPEND, .shards = shards, .shard_count = LIMIT_SHARDS_PER_QUERY,
                          .loads = &load, .load_count = 1};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    doc *params = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), 0);
    doc_free(params);
    cut.shard_count++;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), -1);
    buf_free(&sql);
    AUTO(doc_free_auto) doc *columns = doc_array();
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof(name), "column_number_%d", i);
        doc_add(columns, doc_set_str(doc_set_str(doc_object(), "name", name), "type", "INT64"));
    }
    AUTO(doc_free_auto) doc *wide = doc_set(doc_object(), "fields", doc_ref(columns));
    AUTO(schema_free_auto) struct schema *hundred = schema_parse(wide, &err);
    cut.schema = hundred;
    cut.shard_count = LIMIT_SHARDS_PER_QUERY;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, &err), -1);
    assert_string_equal(err.reason, "sqlTooLong");
    buf_free(&sql);
}

static void many_loads_are_parameters_and_never_text(void **state)
{
    (void)state;
    static struct sql_load loads[LIMIT_PARAM_LOADS];
    static char ids[LIMIT_PARAM_LOADS][32];
    for (int i = 0; i < LIMIT_PARAM_LOADS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "r-'\"-%d", i);
        loads[i] = (struct sql_load){ids[i], i, 0};
    }
    AUTO(schema_free_auto) struct schema *schema = parse(fields);
    struct sql_cut cut = {.target = &target, .schema = schema, .mode = WRITE_APPEND, .shards = &shard, .shard_count = 1, .loads = loads,
                          .load_count = LIMIT_PARAM_LOADS};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    doc *params = NULL;
    assert_int_equal(sql_consolidate(&cut, &sql, &params, NULL), 0);
    assert_null(strstr(sql.data, "r-'"));
    assert_null(strstr(sql.data, "@exclusions"));
    const doc *values = doc_get(doc_at(params, 0), "parameterValue.arrayValues");
    assert_int_equal(doc_len(values), LIMIT_PARAM_LOADS);
    assert_string_equal(doc_str(doc_at(values, 7), "structValues.load.value", ""), "r-'\"-7");
    assert_string_equal(doc_str(doc_at(values, 7), "structValues.rows.value", ""), "7");
    doc_free(params);
    buf_free(&sql);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_must_be_comparable_exactly),
        cmocka_unit_test(order_and_insert_only_are_checked_too),
        cmocka_unit_test(only_names_that_cannot_end_their_quotes_are_written),
        cmocka_unit_test(without_loads_only_replace_has_something_to_do),
        cmocka_unit_test(the_partition_s_bounds_are_constants_of_its_type),
        cmocka_unit_test(a_statement_of_900_shards_fits_and_a_longer_one_says_so),
        cmocka_unit_test(many_loads_are_parameters_and_never_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
