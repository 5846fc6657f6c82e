#include "common/base/schema.h"

#include <setjmp.h>
#include <cmocka.h>

static struct schema *parse(const char *text, struct error *err)
{
    AUTO(doc_free_auto) doc *d = doc_parse(text, strlen(text), "test", err);
    assert_non_null(d);
    return schema_parse(d, err);
}

static struct schema *good(const char *text)
{
    struct error err = ERROR_INIT;
    struct schema *s = parse(text, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static void refused(const char *text, const char *part)
{
    struct error err = ERROR_INIT;
    AUTO(schema_free_auto) struct schema *s = parse(text, &err);
    assert_null(s);
    assert_int_equal(err.kind, ERR_FATAL);
    if (strstr(err.text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void legacy_names_mean_the_types_of_sql(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *s =
        good("{\"fields\":[{\"name\":\"a\",\"type\":\"INTEGER\",\"mode\":\"REQUIRED\"},{\"name\":\"b\",\"type\":\"float\"},"
             "{\"name\":\"c\",\"type\":\"BOOLEAN\",\"mode\":\"REPEATED\"},"
             "{\"name\":\"d\",\"type\":\"RECORD\",\"fields\":[{\"name\":\"x\",\"type\":\"NUMERIC\",\"precision\":\"10\",\"scale\":\"2\"}]}]}");
    assert_int_equal(s->count, 4);
    assert_int_equal(s->fields[0].type, FIELD_INT64);
    assert_int_equal(s->fields[0].mode, MODE_REQUIRED);
    assert_int_equal(s->fields[1].type, FIELD_FLOAT64);
    assert_int_equal(s->fields[1].mode, MODE_NULLABLE);
    assert_int_equal(s->fields[2].type, FIELD_BOOL);
    assert_int_equal(s->fields[2].mode, MODE_REPEATED);
    assert_int_equal(s->fields[3].type, FIELD_STRUCT);
    assert_int_equal(s->fields[3].fields[0].precision, 10);
    assert_int_equal(s->fields[3].fields[0].scale, 2);
}

static void a_schema_survives_its_own_document(void **state)
{
    (void)state;
    static const char text[] =
        "{\"fields\":[{\"name\":\"a\",\"type\":\"INTEGER\",\"mode\":\"REQUIRED\",\"defaultValueExpression\":\"1 + 1\"},"
        "{\"name\":\"s\",\"type\":\"STRING\",\"mode\":\"NULLABLE\",\"maxLength\":\"20\"},"
        "{\"name\":\"n\",\"type\":\"BIGNUMERIC\",\"mode\":\"NULLABLE\",\"precision\":\"40\",\"scale\":\"3\"},"
        "{\"name\":\"r\",\"type\":\"RANGE\",\"mode\":\"NULLABLE\",\"rangeElementType\":{\"type\":\"TIMESTAMP\"}},"
        "{\"name\":\"t\",\"type\":\"RECORD\",\"mode\":\"REPEATED\",\"fields\":[{\"name\":\"u\",\"type\":\"GEOGRAPHY\",\"mode\":\"NULLABLE\"}]}]}";
    AUTO(schema_free_auto) struct schema *s = good(text);
    assert_true(s->fields[0].has_default);
    AUTO(doc_free_auto) doc *d = schema_to_doc(s);
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *original = doc_parse(text, sizeof(text) - 1, "test", &err);
    assert_true(doc_equal(d, original));
}

static void the_short_form_says_the_same_as_the_long_one(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *list =
        good("{\"fields\":[\"a:STRING REQUIRED\",\"b : numeric(10, 2)\",{\"name\":\"c\",\"type\":\"RANGE\",\"rangeElementType\":{\"type\":\"DATE\"}}]}");
    AUTO(schema_free_auto) struct schema *line = good("{\"fields\":\"a:STRING REQUIRED, b:NUMERIC(10,2), c:RANGE<DATE>\"}");
    AUTO(doc_free_auto) doc *a = schema_to_doc(list);
    AUTO(doc_free_auto) doc *b = schema_to_doc(line);
    assert_true(doc_equal(a, b));
    assert_int_equal(line->fields[1].scale, 2);
    AUTO(schema_free_auto) struct schema *bare = good("[\"x:INT64\"]");
    assert_int_equal(bare->fields[0].type, FIELD_INT64);
}

static void what_no_table_can_have_is_refused_with_the_column_named(void **state)
{
    (void)state;
    refused("{}", "\"fields\" is not a list");
    refused("{\"fields\":[]}", "no columns");
    refused("{\"fields\":[{\"type\":\"STRING\"}]}", "without a name");
    refused("{\"fields\":[{\"name\":\"a\",\"type\":\"TEXT\"}]}", "column a: unknown type \"TEXT\"");
    refused("{\"fields\":[{\"name\":\"a\",\"type\":\"STRING\",\"mode\":\"MAYBE\"}]}", "\"MAYBE\" is not NULLABLE");
    refused("{\"fields\":\"a:STRING, A:INT64\"}", "appears twice");
    refused("{\"fields\":[{\"name\":\"a\",\"type\":\"STRUCT\",\"fields\":[]}]}", "without fields");
    refused("{\"fields\":[{\"name\":\"a\\\"b\",\"type\":\"STRING\"}]}", "no name for a column");
    refused("{\"fields\":[{\"name\":\"r\",\"type\":\"RANGE\"}]}", "RANGE of neither");
    refused("{\"fields\":\"a\"}", "is not NAME:TYPE");
    refused("{\"fields\":\"a:STRING SOMETIMES\"}", "\"SOMETIMES\"");
    refused("{\"fields\":\"a:INT64(3)\"}", "does not suit its type");
    refused("{\"fields\":\"a:STRING REQUIRED b\"}", "too much");
    refused("{\"fields\":[\"a:STRING, b:STRING\"]}", "too much");
    refused("{\"fields\":\"a:NUMERIC(2,5)\"}", "impossible");
}

static void structs_nest_as_deep_as_bigquery_lets_them(void **state)
{
    (void)state;
    for (int depth = 15; depth <= 16; depth++) {
        AUTO(doc_free_auto) doc *f = doc_set_str(doc_set_str(doc_object(), "name", "leaf"), "type", "INT64");
        for (int i = 0; i < depth; i++) {
            doc *outer = doc_set_str(doc_set_str(doc_object(), "name", "s"), "type", "STRUCT");
            f = doc_set(outer, "fields", doc_add(doc_array(), f));
        }
        AUTO(doc_free_auto) doc *list = doc_add(doc_array(), doc_ref(f));
        struct error err = ERROR_INIT;
        AUTO(schema_free_auto) struct schema *s = schema_parse(list, &err);
        if (depth == 15)
            assert_non_null(s);
        else
            assert_null(s);
    }
}

static void names_are_found_whatever_their_case(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *s = good("{\"fields\":\"Player_ID:INT64, b:STRING\"}");
    assert_string_equal(schema_find(s, "player_id")->name, "Player_ID");
    assert_null(schema_find(s, "player"));
}

static void a_type_is_written_as_sql_writes_it(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *s =
        good("{\"fields\":[\"a:STRING(20)\",\"b:NUMERIC(10,2) REPEATED\",\"c:BIGNUMERIC(40)\",\"d:RANGE<DATETIME>\",{\"name\":\"e\",\"type\":"
             "\"RECORD\",\"mode\":\"REPEATED\",\"fields\":[\"x:INT64\",\"y y:BOOL REPEATED\"]}]}");
    static const char *const want[] = {"STRING(20)", "ARRAY<NUMERIC(10, 2)>", "BIGNUMERIC(40)", "RANGE<DATETIME>",
                                       "ARRAY<STRUCT<`x` INT64, `y y` ARRAY<BOOL>>>"};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        AUTO(free_ptr) char *type = field_sql_type(&s->fields[i]);
        assert_string_equal(type, want[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_names_mean_the_types_of_sql),
        cmocka_unit_test(a_schema_survives_its_own_document),
        cmocka_unit_test(the_short_form_says_the_same_as_the_long_one),
        cmocka_unit_test(what_no_table_can_have_is_refused_with_the_column_named),
        cmocka_unit_test(structs_nest_as_deep_as_bigquery_lets_them),
        cmocka_unit_test(names_are_found_whatever_their_case),
        cmocka_unit_test(a_type_is_written_as_sql_writes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
