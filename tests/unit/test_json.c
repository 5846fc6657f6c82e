#include "common/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char *put(const char *p, size_t n)
{
    struct buf b = BUF_INIT(4096);
    json_put_string(&b, p, n);
    return buf_steal(&b);
}

/* NULL: refused. */
static char *get(const char *text)
{
    struct buf b = BUF_INIT(4096);
    if (json_get_string((struct span){text, strlen(text)}, &b) == 0)
        return b.len ? buf_steal(&b) : xstrdup("");
    buf_free(&b);
    return NULL;
}

static void a_string_comes_back_as_it_went(void **state)
{
    (void)state;
    static const char text[] = "a\"b\\c\nd\te\x01 f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\x7f";
    AUTO(free_ptr) char *json = put(text, sizeof(text)); /* its NUL, too */
    struct buf b = BUF_INIT(4096);
    assert_int_equal(json_get_string((struct span){json, strlen(json)}, &b), 0);
    assert_int_equal(b.len, sizeof(text));
    assert_memory_equal(b.data, text, sizeof(text));
    assert_null(strchr(json, '\n'));
    buf_free(&b);
}

static void what_is_no_utf8_is_replaced(void **state)
{
    (void)state;
    AUTO(free_ptr) char *json = put("a\xff""b", 3);
    assert_string_equal(json, "\"a\xef\xbf\xbd""b\"");
}

static void escapes_are_read_and_bad_ones_refused(void **state)
{
    (void)state;
    static const struct { const char *json, *text; } cases[] = {
        {"\"\"", ""}, {"\"\\/\\b\\f\\r\"", "/\b\f\r"}, {"\"\\u00e9\\u20AC\"", "\xc3\xa9\xe2\x82\xac"}, {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\\x\"", NULL}, {"\"\\ud83d\"", NULL}, {"\"\\ude00\"", NULL}, {"\"\\ud83d\\u0041\"", NULL}, {"\"\\u12\"", NULL}, {"\"a", NULL}, {"7", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(free_ptr) char *text = get(cases[i].json);
        if (cases[i].text)
            assert_string_equal(text, cases[i].text);
        else
            assert_null(text);
    }
}

static void members_are_taken_in_turn(void **state)
{
    (void)state;
    static const char text[] = "\"a\" : {\"b\":[1,\"}\"]} , \"c\":-1.5e3,\"d\":\"x\\\"y\"}rest";
    struct json_scan s = json_scan_of(text, strlen(text));
    struct span key, value;
    bool first = true;
    static const char *const want[][2] = {{"\"a\"", "{\"b\":[1,\"}\"]}"}, {"\"c\"", "-1.5e3"}, {"\"d\"", "\"x\\\"y\""}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(json_member(&s, &first, &key, &value), 1);
        assert_true(span_is(key, want[i][0]));
        assert_true(span_is(value, want[i][1]));
    }
    assert_int_equal(json_member(&s, &first, &key, &value), 0);
    assert_string_equal(s.p, "rest");
}

static void broken_objects_are_none(void **state)
{
    (void)state;
    static const char *const good[] = {"{}", " {\"a\":1} ", "{\"a\":{\"b\":[]}}"}, *const bad[] = {"", "{", "[1]", "{}{}", "{\"a\":\"}", "1", "{} x"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(json_is_object(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(json_is_object(bad[i], strlen(bad[i])));
    static const char *const members[] = {",\"a\":1}", "\"a\":1,}", "\"a\" 1}", "a:1}", "\"a\":1", "\"a\":}"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct json_scan s = json_scan_of(members[i], strlen(members[i]));
        struct span key, value;
        bool first = true;
        int rc;
        while ((rc = json_member(&s, &first, &key, &value)) == 1)
            continue;
        assert_int_equal(rc, -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_string_comes_back_as_it_went),
        cmocka_unit_test(what_is_no_utf8_is_replaced),
        cmocka_unit_test(escapes_are_read_and_bad_ones_refused),
        cmocka_unit_test(members_are_taken_in_turn),
        cmocka_unit_test(broken_objects_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
