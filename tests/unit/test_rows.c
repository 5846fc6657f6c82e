#include "common/base/rows.h"

#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"

static const char SCHEMA[] = "{\"fields\":[\"id:INT64 REQUIRED\",\"name:STRING\",\"day:DATE\",\"at:TIMESTAMP\",\"tags:STRING REPEATED\","
                             "{\"name\":\"made\",\"type\":\"STRING\",\"mode\":\"REQUIRED\",\"defaultValueExpression\":\"'x'\"},"
                             "{\"name\":\"stats\",\"type\":\"RECORD\",\"fields\":[\"hr:INT64 REPEATED\",\"avg:FLOAT64 REQUIRED\"]},"
                             "{\"name\":\"games\",\"type\":\"RECORD\",\"mode\":\"REPEATED\",\"fields\":[\"n:INT64 REQUIRED\"]},"
                             "\"a_name_of_more_than_sixteen_bytes:INT64\"]}";

struct fixture {
    struct schema *schema;
    struct rowcheck *rc;
    struct buf out;
    struct row_range range;
    struct error err;
};

static struct fixture make(const struct rowcheck_options *options)
{
    struct fixture f = {.out = BUF_INIT(100000), .err = ERROR_INIT};
    AUTO(doc_free_auto) doc *d = doc_parse(SCHEMA, sizeof(SCHEMA) - 1, "test", &f.err);
    f.schema = schema_parse(d, &f.err);
    if (f.schema == NULL)
        fail_msg("%s", f.err.text);
    f.rc = rowcheck_new(f.schema, options, &f.err);
    return f;
}

static void drop(struct fixture *f)
{
    rowcheck_free(f->rc);
    schema_free(f->schema);
    buf_free(&f->out);
}

static int add(struct fixture *f, const char *row)
{
    AUTO(free_ptr) char *exact = xmemdup(row, strlen(row)); /* no NUL behind it: a byte too far is seen */
    return rowcheck_add(f->rc, exact, strlen(row), 7, 0, &f->out, &f->range, &f->err);
}

static void refused(struct fixture *f, const char *row, const char *text)
{
    size_t before = f->out.len;
    f->err = ERROR_INIT;
    assert_int_equal(add(f, row), -1);
    assert_int_equal(f->out.len, before);
    assert_int_equal(f->err.kind, ERR_TASK);
    assert_string_equal(f->err.reason, "row");
    if (strncmp(f->err.text, text, strlen(text)) != 0)
        fail_msg("%s: \"%s\"; wanted \"%s\"", row, f->err.text, text);
}

static void passes(struct fixture *f, const char *row, const char *line)
{
    buf_clear(&f->out);
    if (add(f, row) != 0)
        fail_msg("%s: %s", row, f->err.text);
    assert_string_equal(f->out.data, line);
}
#define TAIL ",\"bqfleet_item\":7,\"bqfleet_row\":0\n"

static void a_row_becomes_one_open_line_with_its_item_and_number(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    passes(&f, "{\"id\":1}", "{\"id\":1" TAIL);
    passes(&f, " \r\n{ \"id\" : 1 ,\n\"name\": \"x\"\r\n}\n ", "{ \"id\" : 1 ,\"name\": \"x\"" TAIL);
    passes(&f, "{\"stats\":{\"avg\":NaN,\"hr\":[1, 2]},\"id\":1,\"games\":[{\"n\":1},{\"n\":2}]}",
           "{\"stats\":{\"avg\":\"NaN\",\"hr\":[1, 2]},\"id\":1,\"games\":[{\"n\":1},{\"n\":2}]" TAIL);
    passes(&f, "{\"name\":null,\"stats\":null,\"tags\":null,\"id\":2}", "{\"name\":null,\"stats\":null,\"tags\":[],\"id\":2" TAIL);
    buf_clear(&f.out);
    assert_int_equal(rowcheck_add(f.rc, "{\"id\":1}", 8, INT64_MAX, INT64_MIN, &f.out, NULL, &f.err), 0);
    assert_string_equal(f.out.data, "{\"id\":1,\"bqfleet_item\":9223372036854775807,\"bqfleet_row\":-9223372036854775808\n");
    drop(&f);
}

static void an_empty_object_is_fine_when_nothing_is_required(void **state)
{
    (void)state;
    struct field a = {.name = (char[]){"a"}, .type = FIELD_INT64};
    struct schema schema = {&a, 1};
    struct error err = ERROR_INIT;
    AUTO(rowcheck_free_auto) struct rowcheck *rc = rowcheck_new(&schema, NULL, &err);
    AUTO(buf_free) struct buf out = BUF_INIT(1000);
    assert_int_equal(rowcheck_add(rc, "{ }", 3, 7, 0, &out, NULL, &err), 0);
    assert_string_equal(out.data, "{ \"bqfleet_item\":7,\"bqfleet_row\":0\n");
}

static void names_match_whatever_their_case_order_and_spelling(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    for (int i = 0; i < 2; i++) { /* the second time the order is the guessed one */
        passes(&f, "{\"NAME\":\"x\",\"A_Name_Of_More_Than_Sixteen_Bytes\":3,\"iD\":1}",
               "{\"NAME\":\"x\",\"A_Name_Of_More_Than_Sixteen_Bytes\":3,\"iD\":1" TAIL);
        passes(&f, "{\"a_name_of_more_than_sixteen_bytes\":3,\"id\":1}", "{\"a_name_of_more_than_sixteen_bytes\":3,\"id\":1" TAIL);
        passes(&f, "{\"\\u006eame\":\"x\",\"id\":1}", "{\"\\u006eame\":\"x\",\"id\":1" TAIL);
    }
    drop(&f);
}

static void errors_name_the_path_and_show_the_value(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    refused(&f, "{\"id\":\"x\"}", "column id: \"x\" is not an INT64; wanted a whole number");
    refused(&f, "{\"id\":1,\"stats\":{\"avg\":1,\"hr\":[1,2,3,\"x\"]}}", "column stats.hr[3]: \"x\" is not an INT64");
    refused(&f, "{\"id\":1,\"games\":[{\"n\":1},{\"n\":1.5}]}", "column games[1].n: 1.5 is not an INT64");
    refused(&f, "{\"id\":1,\"games\":[{\"n\":1},{}]}", "column games[1].n: absent, but the column must have a value");
    refused(&f, "{\"id\":1,\"stats\":{\"avg\":null}}", "column stats.avg: null, but the column must have a value");
    refused(&f, "{\"id\":1,\"stats\":{\"avg\":1,\"max\":2}}", "column stats: \"max\" is not a field of the STRUCT");
    refused(&f, "{\"id\":1,\"naem\":2}", "\"naem\" is not a column of the table");
    refused(&f, "{\"id\":1,\"tags\":[\"a\",null]}", "column tags[1]: null in an array");
    refused(&f, "{\"id\":1,\"tags\":\"a\"}", "column tags: \"a\" is not an array of STRING");
    refused(&f, "{\"id\":1,\"stats\":5}", "column stats: 5 is not a STRUCT");
    refused(&f, "{\"id\":1,\"day\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
            "column day: \"01234567890123456789012345678901234567890123456789012345678... is not a DATE");
    refused(&f, "{\"id\":1,\"day\":\"a\\nb\x7f\"}", "column day: \"a\\nb?\" is not a DATE");
    drop(&f);
}

static void what_is_not_one_json_object_is_refused(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    refused(&f, "", "the row ends where a JSON object is wanted");
    refused(&f, "  ", "the row ends where a JSON object is wanted");
    refused(&f, "[1]", "not JSON at byte 1: wanted a JSON object, found [1]");
    refused(&f, "{\"id\":1", "the row ends where a comma or } is wanted");
    refused(&f, "{\"id\":1} x", "not JSON at byte 10: wanted the end of the row, found x");
    refused(&f, "{\"id\":1,}", "not JSON at byte 9: wanted a column's name in quotes");
    refused(&f, "{,}", "not JSON at byte 2: wanted a column's name in quotes");
    refused(&f, "{id:1}", "not JSON at byte 2");
    refused(&f, "{\"id\" 1}", "not JSON at byte 7: wanted a colon");
    refused(&f, "{\"id\":}", "column id: not JSON at byte 7: wanted a value, found }");
    refused(&f, "{\"id\":1 \"name\":\"x\"}", "not JSON at byte 9: wanted a comma or }");
    drop(&f);
}

static void repeated_unknown_and_bookkeeping_names_are_refused(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    refused(&f, "{\"id\":1,\"ID\":2}", "column id: given twice in one row");
    refused(&f, "{\"id\":1,\"bqfleet_row\":2}", "\"bqfleet_row\" is no name for a column of yours");
    refused(&f, "{\"id\":1,\"BQFleet_x\":2}", "\"BQFleet_x\" is no name for a column of yours");
    passes(&f, "{\"id\":1}", "{\"id\":1" TAIL);
    drop(&f);
}

static void required_columns_and_keys_must_have_a_value(void **state)
{
    (void)state;
    struct fixture f = make(&(struct rowcheck_options){.required = (const char *const[]){"NAME"}, .required_count = 1});
    refused(&f, "{\"name\":\"x\"}", "column id: absent");
    refused(&f, "{\"id\":1}", "column name: absent, but it is a key (write.null_keys");
    refused(&f, "{\"id\":1,\"name\":null}", "column name: null, but it is a key (write.null_keys takes rows with NULL in one)");
    refused(&f, "{\"id\":null,\"name\":\"x\"}", "column id: null, but the column must have a value");
    refused(&f, "{\"id\":1,\"name\":\"x\",\"made\":null}", "column made: null");
    passes(&f, "{\"name\":\"x\",\"id\":1}", "{\"name\":\"x\",\"id\":1" TAIL); /* made has a default */
    drop(&f);
}

static void options_that_do_not_suit_the_schema_are_fatal(void **state)
{
    (void)state;
    struct rowcheck_options options[] = {{.required = (const char *const[]){"nope"}, .required_count = 1},
                                         {.partition_column = "nope"},
                                         {.partition_column = "name"},
                                         {.partition_column = "tags"}};
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        struct fixture f = make(&options[i]);
        assert_null(f.rc);
        assert_int_equal(f.err.kind, ERR_FATAL);
        drop(&f);
    }
}

static void a_full_buffer_says_so_and_stays_as_it_was(void **state)
{
    (void)state;
    struct fixture f = make(&(struct rowcheck_options){.partition_column = "day"});
    const char *row = "{\"id\":1,\"day\":\"2024-01-02\"}";
    assert_int_equal(add(&f, row), 0);
    size_t one = f.out.len;
    buf_free(&f.out);
    f.range = (struct row_range){0};
    for (size_t room = 0; room <= 2 * one; room++) {
        AUTO(buf_free) struct buf small = BUF_INIT(room);
        struct buf *all = &small;
        int first = rowcheck_add(f.rc, row, strlen(row), 7, 0, all, &f.range, &f.err);
        assert_int_equal(first, room >= one ? 0 : -2);
        assert_int_equal(small.len, room >= one ? one : 0);
        assert_true(f.range.any == (room >= one));
        if (room < one)
            assert_int_equal(rowcheck_add(f.rc, "{\"id\":1.5}", 10, 7, 0, all, NULL, &f.err), -1); /* bad, room or not */
    }
    drop(&f);
}

static void a_row_has_a_greatest_size(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    size_t len = LIMIT_ROW + 1;
    AUTO(free_ptr) char *row = xmalloc(len);
    memset(row, ' ', len);
    memcpy(row, "{\"id\":1}", 8);
    assert_int_equal(rowcheck_add(f.rc, row, len, 7, 0, &f.out, NULL, &f.err), -1);
    assert_non_null(strstr(f.err.text, "the limit is 33554432"));
    assert_int_equal(rowcheck_add(f.rc, row, len - 1, 7, 0, &f.out, NULL, &f.err), 0);
    drop(&f);
}

static void ranges_of_the_partition_column_are_gathered(void **state)
{
    (void)state;
    struct fixture f = make(&(struct rowcheck_options){.partition_column = "day"});
    passes(&f, "{\"id\":1,\"day\":\"1970-01-02\"}", "{\"id\":1,\"day\":\"1970-01-02\"" TAIL);
    assert_true(f.range.any && !f.range.null && f.range.lo == 1 && f.range.hi == 1);
    refused(&f, "{\"day\":\"2024-01-01\"}", "column id");
    assert_int_equal(add(&f, "{\"id\":1,\"day\":\"1969-12-31\"}"), 0);
    assert_true(!f.range.null && f.range.lo == -1 && f.range.hi == 1);
    assert_int_equal(add(&f, "{\"id\":1}"), 0);
    assert_true(f.range.null && f.range.lo == -1);
    drop(&f);
    f = make(&(struct rowcheck_options){.partition_column = "at"});
    assert_int_equal(add(&f, "{\"id\":1,\"at\":\"1970-01-01T01:00:00.5+01:00\"}"), 0);
    assert_int_equal(add(&f, "{\"id\":1,\"at\":2.25}"), 0);
    assert_true(f.range.any && f.range.lo == 500000 && f.range.hi == 2250000 && !f.range.null);
    assert_int_equal(add(&f, "{\"id\":1,\"at\":null}"), 0);
    assert_true(f.range.null);
    drop(&f);
    f = make(&(struct rowcheck_options){.partition_column = "id"});
    assert_int_equal(add(&f, "{\"id\":\"-9223372036854775808\"}"), 0);
    assert_true(f.range.lo == INT64_MIN && f.range.hi == INT64_MIN);
    drop(&f);
}

static void sealed_lines_are_whole_json_with_the_load(void **state)
{
    (void)state;
    struct fixture f = make(NULL);
    assert_int_equal(add(&f, "{\"id\":1}"), 0);
    assert_int_equal(add(&f, "{\"id\":2}"), 0);
    size_t want = f.out.len + 2 * ROWS_SEAL_BYTES(4);
    AUTO(buf_free) struct buf sealed = BUF_INIT(want);
    assert_int_equal(rows_seal(f.out.data, f.out.len, "ld-1", &sealed), 0);
    assert_int_equal(sealed.len, want);
    assert_string_equal(sealed.data, "{\"id\":1,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"ld-1\"}\n"
                                     "{\"id\":2,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"ld-1\"}\n");
    rows_reseal(sealed.data, sealed.len, "ld-2");
    assert_string_equal(sealed.data, "{\"id\":1,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"ld-2\"}\n"
                                     "{\"id\":2,\"bqfleet_item\":7,\"bqfleet_row\":0,\"bqfleet_load\":\"ld-2\"}\n");
    AUTO(buf_free) struct buf small = BUF_INIT(want - 1);
    buf_clear(&small);
    assert_int_equal(rows_seal(f.out.data, f.out.len, "ld-1", &small), -1);
    assert_int_equal(small.len, 0);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_becomes_one_open_line_with_its_item_and_number),
        cmocka_unit_test(an_empty_object_is_fine_when_nothing_is_required),
        cmocka_unit_test(names_match_whatever_their_case_order_and_spelling),
        cmocka_unit_test(errors_name_the_path_and_show_the_value),
        cmocka_unit_test(what_is_not_one_json_object_is_refused),
        cmocka_unit_test(repeated_unknown_and_bookkeeping_names_are_refused),
        cmocka_unit_test(required_columns_and_keys_must_have_a_value),
        cmocka_unit_test(options_that_do_not_suit_the_schema_are_fatal),
        cmocka_unit_test(a_full_buffer_says_so_and_stays_as_it_was),
        cmocka_unit_test(a_row_has_a_greatest_size),
        cmocka_unit_test(ranges_of_the_partition_column_are_gathered),
        cmocka_unit_test(sealed_lines_are_whole_json_with_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
