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

/* As one would write it down first: byte by byte. */
static const char *nesting_ends(const char *p, const char *end)
{
    int64_t depth = 0;
    for (bool text = false; p < end; p++) {
        if (text && *p == '\\')
            p++;
        else if (*p == '"')
            text = !text;
        else if (!text && (*p == '{' || *p == '['))
            depth++;
        else if (!text && (*p == '}' || *p == ']') && --depth == 0)
            return p + 1;
    }
    return NULL;
}

/* Quotes, backslashes and brackets in any order, so that each falls on each side of a block's edge. */
static void a_nested_value_ends_where_it_does_byte_by_byte(void **state)
{
    (void)state;
    static const char letters[] = "{}[]\"\"\\\\ab,:{}";
    uint32_t r = 1;
    for (int round = 0; round < 200000; round++) {
        char text[300];
        size_t n = 1 + (r = r * 1664525U + 1013904223U) / 16 % (sizeof(text) - 1);
        size_t plain = r >> 28; /* of 16: how much of it is ordinary */
        text[0] = round & 1 ? '{' : '[';
        for (size_t i = 1; i < n; i++) {
            r = r * 1664525U + 1013904223U;
            text[i] = (r >> 12) % 16 < plain ? 'x' : letters[(r >> 16) % (sizeof(letters) - 1)];
        }
        bool escape_outside = false;
        for (size_t i = 0, quotes = 0; i < n; i++) { /* no JSON: what it means there does not matter */
            if (text[i] == '\\' && quotes % 2 == 0)
                escape_outside = true;
            else if (text[i] == '\\')
                i++;
            else
                quotes += text[i] == '"';
        }
        if (escape_outside)
            continue;
        AUTO(free_ptr) char *exact = xmemdup(text, n); /* the sanitizer sees a read behind it */
        struct json_scan s = json_scan_of(exact, n);
        struct span value;
        const char *end = nesting_ends(exact, exact + n);
        assert_int_equal(json_value(&s, &value), end ? 0 : -1);
        if (end != NULL)
            assert_ptr_equal(s.p, end);
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
        cmocka_unit_test(a_nested_value_ends_where_it_does_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
