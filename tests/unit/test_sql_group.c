#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/bq/sql_group.h"
#include "tests/unit/support_golden.h"

/* A user's SELECT: what is taken for one, and what stands in our statement. */

static const char *text_of(const char *text)
{
    static struct buf out = {.max = LIMIT_SQL};
    static struct error err;
    buf_clear(&out);
    err = ERROR_INIT;
    int rc = sql_select_text(text, strlen(text), &out, &err);
    if (rc != 0)
        assert_int_equal(err.kind, ERR_USAGE);
    return rc == 0 ? out.data : err.text;
}

static void a_select_is_taken_with_all_its_comments_and_without_its_semicolon(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } kases[] = {
        {"SELECT 1", "SELECT 1"},
        {"SELECT 1;", "SELECT 1"},
        {"  SELECT 1 ; \n-- done\n", "  SELECT 1"},
        {"SELECT 1 -- done", "SELECT 1 -- done"},
        {"SELECT 1 -- a ; in a comment", "SELECT 1 -- a ; in a comment"},
        {"-- first\n/* then ; */ # and\nselect 1;;", "-- first\n/* then ; */ # and\nselect 1"},
        {"WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"},
        {"(SELECT 1) UNION ALL (SELECT 2)", "(SELECT 1) UNION ALL (SELECT 2)"},
        {"FROM d.t |> SELECT a", "FROM d.t |> SELECT a"},
        {"SELECT ';' , \"it's ) ;\", `a;b`, '''x'; y''', \"\"\"(\"\"\"", "SELECT ';' , \"it's ) ;\", `a;b`, '''x'; y''', \"\"\"(\"\"\""},
        {"SELECT r'\\';', b'\\\\' ; ", "SELECT r'\\';', b'\\\\'"},
    };
    for (size_t i = 0; i < ARRAY_LEN(kases); i++)
        assert_string_equal(text_of(kases[i].in), kases[i].out);
}

static void what_is_no_single_select_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct { const char *in, *why; } kases[] = {
        {"", "no statement"},
        {" -- nothing\n", "no statement"},
        {";", "no statement"},
        {"\nDELETE FROM d.t WHERE TRUE", "line 2: it begins with DELETE"},
        {"insert INTO d.t SELECT 1", "begins with insert"},
        {"MERGE d.t USING s ON FALSE WHEN NOT MATCHED THEN INSERT ROW", "begins with MERGE"},
        {"CREATE TEMP FUNCTION f() AS (1); SELECT f()", "behind the semicolon"},
        {"DECLARE x INT64", "begins with DECLARE"},
        {"EXPORT DATA OPTIONS() AS SELECT 1", "begins with EXPORT"},
        {"SELECTED 1", "begins with SELECTED"},
        {"SELECT 1;\nDELETE FROM d.t WHERE TRUE", "line 2: something stands behind the semicolon"},
        {"SELECT 1) UNION ALL (SELECT 2", "closed that was not opened"},
        {"SELECT (1", "not closed"},
        {"SELECT (1;", "not closed"},
        {"SELECT 'a", "line 1: a string or a quoted name is not closed"},
        {"SELECT 'a\\'", "not closed"},
        {"SELECT 1 /* so", "a comment is not closed"},
        {"SELECT `a", "not closed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(kases); i++) {
        const char *why = text_of(kases[i].in);
        if (strstr(why, kases[i].why) == NULL)
            fail_msg("%s: \"%s\" instead of \"%s\"", kases[i].in, why, kases[i].why);
    }
    struct buf out = BUF_INIT(LIMIT_SQL);
    struct error err = ERROR_INIT;
    assert_int_equal(sql_select_text("SELECT 1\0", 9, &out, &err), -1);
}

/* --- whether it fits ----------------------------------------------------------------------------------------------------------------------- */

static struct schema *schema_of(const char *fields)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_set_str(doc_object(), "fields", fields);
    struct schema *s = schema_parse(d, &err);
    assert_non_null(s);
    return s;
}

static const char *check(const char *target, const char *result, const char *key)
{
    static struct error err;
    struct schema *t = target ? schema_of(target) : NULL, *r = schema_of(result);
    struct sql_group g = {.target = t, .result = r, .keys = &key, .key_count = key ? 1 : 0};
    err = ERROR_INIT;
    int rc = sql_group_check(&g, &err);
    schema_free(t);
    schema_free(r);
    return rc == 0 ? "" : err.text;
}

static void a_result_fits_when_each_column_is_one_of_the_targets(void **state)
{
    (void)state;
    assert_string_equal(check("k:STRING, v:INT64", "item:INT64, V:INT64", NULL), "");
    assert_string_equal(check("k:STRING REQUIRED, v:INT64", "Item:INT64, K:STRING", "k"), "");
    assert_string_equal(check("item:INT64, v:INT64", "bqfleet_item:INT64, item:INT64", NULL), "");
    assert_string_equal(check(NULL, "item:INT64, anything:STRING", NULL), "");
}

static void what_does_not_fit_is_named_with_the_nearest_that_would(void **state)
{
    (void)state;
    assert_non_null(strstr(check("k:STRING, score:INT64", "item:INT64, scroe:INT64", NULL), "scroe, which the target has not; did you mean score?"));
    assert_non_null(strstr(check("k:STRING", "k:STRING", NULL), "returns no column item"));
    assert_non_null(strstr(check("k:STRING", "item:STRING, k:STRING", NULL), "its column item is a STRING"));
    assert_non_null(strstr(check("k:STRING", "item:INT64 REPEATED, k:STRING", NULL), "an ARRAY of INT64"));
    assert_non_null(strstr(check("k:STRING", "item:INT64, f0_:STRING", NULL), "column 2 has no name"));
    assert_non_null(strstr(check("k:STRING, r:INT64 REQUIRED", "item:INT64, k:STRING", NULL), "does not return column r, which is REQUIRED"));
    assert_non_null(strstr(check("k:STRING, v:INT64", "item:INT64, v:INT64", "k"), "column k, which is one of write.keys"));
    assert_non_null(strstr(check("item:INT64, v:INT64", "item:INT64, v:INT64", NULL), "return the item's index as bqfleet_item"));
    assert_non_null(strstr(check("item:INT64 REQUIRED, v:INT64", "bqfleet_item:INT64, v:INT64", NULL), "does not return column item"));
}

static void the_statement_holds_the_text_on_lines_of_its_own(void **state)
{
    (void)state;
    struct schema *target = schema_of("k:STRING, v:INT64, w:INT64"), *result = schema_of("V:INT64, item:INT64, k:STRING");
    const struct bq_ref shard = {"p", "d", "s"};
    const char *key = "K";
    struct sql_group g = {.shard = &shard, .target = target, .result = result, .keys = &key, .key_count = 1, .select = "SELECT 1 -- so"};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    sql_group_insert(&g, &sql);
    assert_string_equal(sql.data,
        "INSERT INTO `p`.`d`.`s` (`k`, `v`, bqfleet_item, bqfleet_row, bqfleet_load)\n"
        "SELECT IF(bqfleet_q.`k` IS NULL, ERROR(CONCAT('bqfleet: key column k is NULL in a row of item ', CAST(bqfleet_q.`item` AS STRING))), bqfleet_q.`k`), "
        "bqfleet_q.`v`, IF(bqfleet_i.item IS NULL, ERROR(CONCAT('bqfleet: the query returned a row of item ', "
        "IFNULL(CAST(bqfleet_q.`item` AS STRING), 'NULL'), ', which is none of those in @items')), bqfleet_i.item), "
        "ROW_NUMBER() OVER (PARTITION BY bqfleet_q.`item`) - 1, @load\n"
        "FROM (\nSELECT 1 -- so\n) AS bqfleet_q LEFT JOIN UNNEST(@items) AS bqfleet_i ON bqfleet_i.item = bqfleet_q.`item`");
    buf_free(&sql);
    schema_free(target);
    schema_free(result);
}

/* --- the corpus ---------------------------------------------------------------------------------------------------------------------------- */

/* SELECTs as users write them, in our statement, over the tables of the corpus: kept as tests/golden/sql/groups.ndjson. */
struct kase { const char *id, *table, *target, *result, *keys, *select, *want; };

#define TARGET "k:STRING REQUIRED, k_int:INT64, k_num:NUMERIC(10,2), k_date:DATE, k_ts:TIMESTAMP, score:FLOAT64, select:STRING, j:JSON, tags:STRING REPEATED"
static const struct kase kases[] = {
    {"payload", "target_s0", TARGET, "item:INT64, k:STRING, k_int:INT64", "k",
     "SELECT i.item, i.key AS k, CAST(JSON_VALUE(i.payload, '$.n') AS INT64) AS k_int FROM UNNEST(@items) AS i", NULL},
    {"join", "target_s1", TARGET, "item:INT64, k:STRING, score:FLOAT64", "k",
     "WITH wanted AS (SELECT i.item, i.key FROM UNNEST(@items) AS i)\nSELECT w.item, t.k, AVG(t.score) AS score -- of all\nFROM wanted AS w "
     "JOIN `my-project`.`shop`.`target` AS t ON t.k = w.key\nGROUP BY w.item, t.k\nORDER BY score LIMIT 10 -- the best", NULL},
    {"params", "target_s0", TARGET, "item:INT64, k:STRING, k_date:DATE, select:STRING", NULL,
     "SELECT item, key AS k, DATE(INT64(@params.season), 1, 1) AS k_date, STRING(@params.name) AS `select` FROM UNNEST(@items)", NULL},
    {"arrays", "target_s0", TARGET, "item:INT64, k:STRING, j:JSON, tags:STRING REPEATED", NULL,
     "SELECT i.item, i.key AS k, i.payload AS j, JSON_VALUE_ARRAY(i.payload, '$.tags') AS tags FROM UNNEST(@items) AS i", NULL},
    {"coerced", "target_s0", TARGET, "item:INT64, k:STRING, k_num:INT64, score:INT64", NULL,
     "SELECT i.item, i.key AS k, i.item AS k_num, i.item AS score FROM UNNEST(@items) AS i", NULL},
    {"union", "narrow_s0", "k:INT64, v:FLOAT64", "item:INT64, k:INT64, v:FLOAT64", "k",
     "(SELECT i.item, 1 AS k, 0.5 AS v FROM UNNEST(@items) AS i) UNION ALL (SELECT i.item, 2, 1.5 FROM UNNEST(@items) AS i)", NULL},
    {"pipes", "narrow_s0", "k:INT64, v:FLOAT64", "item:INT64, k:INT64", NULL,
     "FROM UNNEST(@items) AS i |> SELECT i.item, LENGTH(i.key) AS k", NULL},
    {"another_index", "narrow_s0", "k:INT64, v:FLOAT64", "bqfleet_item:INT64, k:INT64", NULL,
     "SELECT i.item AS bqfleet_item, i.item AS k FROM UNNEST(@items) AS i", NULL},
    {"exotic", "exotic_s0", "k:INT64, place:GEOGRAPHY, span:INTERVAL, days:RANGE", "item:INT64, k:INT64, place:GEOGRAPHY, span:INTERVAL, days:RANGE", "k",
     "SELECT i.item, 1 AS k, ST_GEOGPOINT(1, 2) AS place, INTERVAL 1 DAY AS span, RANGE(DATE '2020-01-01', NULL) AS days FROM UNNEST(@items) AS i", NULL},
    {"wrong_type", "narrow_s0", "k:INT64, v:FLOAT64", "item:INT64, k:INT64", NULL,
     "SELECT i.item, i.key AS k FROM UNNEST(@items) AS i", "has type STRING which cannot be inserted into column k"},
};

/* RANGE is written long. */
static struct schema *target_of(const struct kase *k)
{
    if (strcmp(k->id, "exotic") != 0)
        return schema_of(k->target);
    static const char long_form[] = "{\"fields\":[{\"name\":\"k\",\"type\":\"INT64\"},{\"name\":\"place\",\"type\":\"GEOGRAPHY\"},{\"name\":\"span\",\"type\":\"INTERVAL\"},"
                                    "{\"name\":\"days\",\"type\":\"RANGE\",\"rangeElementType\":{\"type\":\"DATE\"}},{\"name\":\"item\",\"type\":\"INT64\"}]}";
    AUTO(doc_free_auto) doc *d = doc_parse(long_form, strlen(long_form), "fields", NULL);
    struct error err = ERROR_INIT;
    return schema_parse(d, &err);
}

static void every_statement_is_the_one_that_was_judged(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(CORPUS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(kases); i++) {
        const struct kase *k = &kases[i];
        struct bq_ref shard = {"my-project", "staging", ""};
        snprintf(shard.table, sizeof(shard.table), "%s", k->table);
        bool exotic = strcmp(k->id, "exotic") == 0;
        struct schema *target = target_of(k), *result = exotic ? target_of(k) : schema_of(k->result);
        struct sql_group g = {.shard = &shard, .target = target, .result = result, .keys = &k->keys, .key_count = k->keys ? 1 : 0, .select = k->select};
        struct buf sql = BUF_INIT(LIMIT_SQL);
        AUTO(doc_free_auto) doc *params = sql_group_params(NULL, 0, "{}", "a-0");
        AUTO(free_ptr) char *id = xasprintf("group_%s", k->id);
        sql_group_insert(&g, &sql);
        golden_line(&out, id, sql.data, golden_types(params), k->want ? doc_string(k->want) : doc_boolean(true));
        buf_free(&sql);
        schema_free(target);
        schema_free(result);
    }
    static const char *const columns[] = {"k_int:INT64", "k_date:DATE", "k_datetime:DATETIME", "k_ts:TIMESTAMP"};
    const struct bq_ref from = {"my-project", "staging", "target_s0"};
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        struct schema *column = schema_of(columns[i]);
        struct buf sql = BUF_INIT(LIMIT_SQL);
        AUTO(free_ptr) char *id = xasprintf("range_%s", column->fields[0].name);
        sql_group_range(&from, &column->fields[0], &sql);
        golden_line(&out, id, sql.data, doc_set_str(doc_object(), "load", "STRING"), doc_boolean(true));
        buf_free(&sql);
        schema_free(column);
    }
    golden_compare("groups.ndjson", out.data);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_select_is_taken_with_all_its_comments_and_without_its_semicolon),
        cmocka_unit_test(what_is_no_single_select_is_refused_with_its_line),
        cmocka_unit_test(a_result_fits_when_each_column_is_one_of_the_targets),
        cmocka_unit_test(what_does_not_fit_is_named_with_the_nearest_that_would),
        cmocka_unit_test(the_statement_holds_the_text_on_lines_of_its_own),
        cmocka_unit_test(every_statement_is_the_one_that_was_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
