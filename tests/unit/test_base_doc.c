#include "common/base/doc.h"

#include <math.h>
#include <setjmp.h>
#include <cmocka.h>

static doc *parsed(const char *text)
{
    struct error err = ERROR_INIT;
    doc *d = doc_parse(text, strlen(text), "test", &err);
    if (d == NULL)
        fail_msg("%s", err.text);
    return d;
}

static void fields_are_found_by_path_and_missing_ones_fall_back(void **state)
{
    (void)state;
    AUTO(doc_free_auto) doc *d = parsed("{\"a\":{\"b\":[{\"c\":\"x\"},7]},\"n\":null,\"big\":\"9223372036854775807\",\"r\":2.0,"
                                        "\"t\":\"true\",\"f\":false,\"a.b\":1,\"half\":1.5,\"nul\":\"a\\u0000b\"}");
    assert_string_equal(doc_str(d, "a.b.0.c", "-"), "x");
    assert_int_equal(doc_int(d, "a.b.1", -1), 7);
    assert_string_equal(doc_str(d, "a.b.2.c", "-"), "-");
    assert_string_equal(doc_str(d, "n", "-"), "-");
    assert_string_equal(doc_str(d, "n.x.y", "-"), "-");
    assert_string_equal(doc_str(NULL, "a", "-"), "-");
    assert_true(doc_int(d, "big", 0) == INT64_MAX);
    assert_int_equal(doc_int(d, "r", 0), 2);
    assert_int_equal(doc_int(d, "half", -1), -1);
    assert_true(doc_bool(d, "t", false));
    assert_false(doc_bool(d, "f", true));
    assert_true(doc_bool(d, "missing", true));
    assert_int_equal(doc_type(doc_field(d, "a.b")), DOC_INT);
    assert_int_equal(doc_type(doc_get(d, "a.b")), DOC_ARRAY);
    assert_int_equal(doc_type(doc_get(d, "n")), DOC_NULL);
    assert_int_equal(doc_type(doc_get(d, "z")), DOC_NONE);
    assert_string_equal(doc_str(d, "nul", "-"), "-");
    assert_int_equal(doc_len(doc_get(d, "a.b")), 2);
}

static void bad_text_is_refused_with_its_place(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const char *const bad[] = {"", "  \n", "{\"a\":1,\"a\":2}", "{", "[1,]", "\"\xff\"", "{} x", "nul"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(doc_parse(bad[i], strlen(bad[i]), "item 3", &err));
        assert_int_equal(err.kind, ERR_TASK);
        assert_memory_equal(err.text, "item 3: line ", 13);
    }
    assert_null(doc_parse("{\n  \"a\": x}", 11, "reply", &err));
    assert_memory_equal(err.text, "reply: line 2, column ", 22);
}

static void text_keeps_the_order_in_which_keys_were_set(void **state)
{
    (void)state;
    AUTO(doc_free_auto) doc *d = doc_set_int(doc_set_str(doc_object(), "z", "1"), "a", 2);
    doc_set_str(d, "left_out", NULL);
    doc_set(d, "list", doc_add(doc_add(doc_array(), doc_null()), doc_boolean(true)));
    doc_set_int_text(d, "big", INT64_MIN);
    doc_set(d, "nan", doc_number(NAN));
    AUTO(free_ptr) char *text = doc_text(d);
    assert_string_equal(text, "{\"z\":\"1\",\"a\":2,\"list\":[null,true],\"big\":\"-9223372036854775808\",\"nan\":null}");
    AUTO(doc_free_auto) doc *again = parsed(text);
    assert_true(doc_equal(d, again));
    AUTO(doc_free_auto) doc *copy = doc_copy(d);
    doc_set_int(copy, "a", 3);
    assert_int_equal(doc_int(d, "a", 0), 2);
    assert_false(doc_equal(d, copy));
    size_t fields = 0;
    for (void *it = doc_first(d); it; it = doc_next(d, it), fields++)
        assert_ptr_equal(doc_field(d, doc_key(it)), doc_value(it));
    assert_int_equal(fields, doc_len(d));
}

static void bytes_that_are_no_text_become_replacement_characters(void **state)
{
    (void)state;
    const char *const bad[] = {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xe0\x80\xaf"};
    const size_t marks[] = {1, 2, 3, 4, 2, 3};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(doc_free_auto) doc *d = doc_string(bad[i]);
        const char *s = doc_str(d, NULL, "");
        assert_int_equal(strlen(s), 3 * marks[i]);
        for (size_t j = 0; j < marks[i]; j++)
            assert_memory_equal(s + 3 * j, "\xef\xbf\xbd", 3);
    }
    AUTO(doc_free_auto) doc *keyed = doc_set_str(doc_object(), "k\xff", "\xf0\x9f\x98\x80 \xc3\xa4");
    assert_string_equal(doc_str(keyed, "k\xef\xbf\xbd", ""), "\xf0\x9f\x98\x80 \xc3\xa4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_found_by_path_and_missing_ones_fall_back),
        cmocka_unit_test(bad_text_is_refused_with_its_place),
        cmocka_unit_test(text_keeps_the_order_in_which_keys_were_set),
        cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
