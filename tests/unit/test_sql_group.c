#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/bq/sql_group.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_select_is_taken_with_all_its_comments_and_without_its_semicolon),
        cmocka_unit_test(what_is_no_single_select_is_refused_with_its_line),
        cmocka_unit_test(a_result_fits_when_each_column_is_one_of_the_targets),
        cmocka_unit_test(what_does_not_fit_is_named_with_the_nearest_that_would),
        cmocka_unit_test(the_statement_holds_the_text_on_lines_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
