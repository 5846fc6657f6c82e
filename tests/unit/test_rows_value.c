/* Every type: what load jobs take passes, and what they would refuse or read differently is refused or written exactly. */
#include "common/base/rows.h"

#include <setjmp.h>
#include <cmocka.h>

struct sample {
    const char *type, *given;
    const char *written; /* NULL: refused; "=": as given */
};

/* The value of column c in the line, or NULL when the row was refused. */
static char *pass(const char *type, const char *given, struct error *err)
{
    AUTO(free_ptr) char *text = xasprintf("{\"fields\":\"c:%s\"}", type);
    AUTO(doc_free_auto) doc *d = doc_parse(text, strlen(text), "test", err);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, err);
    if (schema == NULL)
        fail_msg("%s", err->text);
    AUTO(rowcheck_free_auto) struct rowcheck *rc = rowcheck_new(schema, NULL, err);
    AUTO(buf_free) struct buf out = BUF_INIT(100000);
    AUTO(buf_free) struct buf row = BUF_INIT(100000);
    buf_xprintf(&row, "{\"c\":%s}", given);
    AUTO(free_ptr) char *exact = xmemdup(row.data, row.len); /* no NUL behind it: a byte too far is seen */
    if (rowcheck_add(rc, exact, row.len, 1, 2, &out, NULL, err) != 0) {
        assert_int_equal(out.len, 0);
        assert_int_equal(err->kind, ERR_TASK);
        assert_string_equal(err->reason, "row");
        return NULL;
    }
    static const char tail[] = ",\"bqfleet_item\":1,\"bqfleet_row\":2\n";
    assert_true(out.len > sizeof(tail) + 4);
    assert_string_equal(out.data + out.len - (sizeof(tail) - 1), tail);
    assert_memory_equal(out.data, "{\"c\":", 5);
    return xstrndup(out.data + 5, out.len - 5 - (sizeof(tail) - 1));
}

static void check(const struct sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sample *a = &samples[i];
        struct error err = ERROR_INIT;
        AUTO(free_ptr) char *got = pass(a->type, a->given, &err);
        const char *want = a->written != NULL && strcmp(a->written, "=") == 0 ? a->given : a->written;
        if (want == NULL && got != NULL)
            fail_msg("%s %s passed as %s", a->type, a->given, got);
        if (want != NULL && (got == NULL || strcmp(got, want) != 0))
            fail_msg("%s %s: %s; wanted %s", a->type, a->given, got != NULL ? got : err.text, want);
    }
}
#define CHECK(...) \
    static const struct sample samples[] = {__VA_ARGS__}; \
    check(samples, ARRAY_LEN(samples))

static void strings_are_json_and_utf8_and_no_longer_than_their_column(void **state)
{
    (void)state;
    CHECK({"STRING", "\"\"", "="}, {"STRING", "\"plain text, longer than sixteen bytes\"", "="},
          {"STRING", "\"\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00e9 \\uD83D\\uDE00\"", "="}, {"STRING", "\"caf\xc3\xa9 \xf0\x9f\x98\x80\"", "="},
          {"STRING", "5", NULL}, {"STRING", "true", NULL}, {"STRING", "\"open", NULL}, {"STRING", "\"\\x\"", NULL},
          {"STRING", "\"\\u12g4\"", NULL}, {"STRING", "\"\\u12\"", NULL}, {"STRING", "\"\\ud83d\"", NULL}, {"STRING", "\"\\ude00\"", NULL},
          {"STRING", "\"\\ud83d\\u0041\"", NULL}, {"STRING", "\"\\ude00\\ude00\"", NULL}, {"STRING", "\"tab\there\"", NULL}, {"STRING", "\"line\nbreak\"", NULL},
          {"STRING", "\"\xff\"", NULL}, {"STRING", "\"\xc3\"", NULL}, {"STRING", "\"\xc0\xaf\"", NULL}, {"STRING", "\"\xed\xa0\x80\"", NULL},
          {"STRING", "\"\xf4\x90\x80\x80\"", NULL}, {"STRING", "\"0123456789abcde\x01\"", NULL}, {"STRING(3)", "\"abc\"", "="},
          {"STRING(3)", "\"abcd\"", NULL}, {"STRING(3)", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"", "="}, {"STRING(3)", "\"\\u00e9\\n\\uD83D\\uDE00\"", "="},
          {"STRING(3)", "\"\\u00e9\\n\\uD83D\\uDE00.\"", NULL});
}

static void bytes_are_base64(void **state)
{
    (void)state;
    CHECK({"BYTES", "\"\"", "="}, {"BYTES", "\"AAEC\"", "="}, {"BYTES", "\"AA==\"", "="}, {"BYTES", "\"ab\\/+\"", "="},
          {"BYTES", "\"AAE\"", NULL}, {"BYTES", "\"A===\"", NULL}, {"BYTES", "\"AA=A\"", NULL}, {"BYTES", "\"ab-_\"", NULL}, {"BYTES", "1", NULL},
          {"BYTES(2)", "\"AAE=\"", "="}, {"BYTES(2)", "\"AAEC\"", NULL});
}

static void integers_have_64_bits_and_no_fraction(void **state)
{
    (void)state;
    CHECK({"INT64", "0", "="}, {"INT64", "-7", "="}, {"INT64", "\"42\"", "="}, {"INT64", "9007199254740991", "="},
          {"INT64", "9007199254740992", "\"9007199254740992\""}, {"INT64", "-9223372036854775808", "\"-9223372036854775808\""},
          {"INT64", "9223372036854775807", "\"9223372036854775807\""}, {"INT64", "\"9223372036854775807\"", "="},
          {"INT64", "9223372036854775808", NULL}, {"INT64", "-9223372036854775809", NULL}, {"INT64", "99999999999999999999", NULL},
          {"INT64", "1.0", NULL}, {"INT64", "1e3", NULL}, {"INT64", "01", NULL}, {"INT64", "-", NULL}, {"INT64", "+1", NULL},
          {"INT64", "\"\"", NULL}, {"INT64", "\" 1\"", NULL}, {"INT64", "\"1x\"", NULL}, {"INT64", "1x", NULL}, {"INT64", "true", NULL},
          {"INT64", "NaN", NULL}, {"INT64", "", NULL});
}

static void floats_may_be_no_numbers_and_are_then_quoted(void **state)
{
    (void)state;
    CHECK({"FLOAT64", "1.5", "="}, {"FLOAT64", "-0", "="}, {"FLOAT64", "1E-400", "="}, {"FLOAT64", "1.7e308", "="}, {"FLOAT64", "\"2.5\"", "="},
          {"FLOAT64", "NaN", "\"NaN\""}, {"FLOAT64", "nan", "\"NaN\""}, {"FLOAT64", "Infinity", "\"Infinity\""},
          {"FLOAT64", "-Infinity", "\"-Infinity\""}, {"FLOAT64", "\"+Infinity\"", "\"Infinity\""}, {"FLOAT64", "-inf", "\"-Infinity\""},
          {"FLOAT64", "\"NaN\"", "="}, {"FLOAT64", "1e309", NULL}, {"FLOAT64", "\"1e309\"", NULL}, {"FLOAT64", "1.", NULL}, {"FLOAT64", ".5", NULL},
          {"FLOAT64", "1e", NULL}, {"FLOAT64", "0x10", NULL}, {"FLOAT64", "-NaN", NULL}, {"FLOAT64", "\"\"", NULL}, {"FLOAT64", "x", NULL});
}

static void booleans_have_the_words_of_load_jobs(void **state)
{
    (void)state;
    CHECK({"BOOL", "true", "="}, {"BOOL", "false", "="}, {"BOOL", "\"True\"", "true"}, {"BOOL", "\"FALSE\"", "false"}, {"BOOL", "1", "true"},
          {"BOOL", "0", "false"}, {"BOOL", "\"y\"", "true"}, {"BOOL", "\"No\"", "false"}, {"BOOL", "2", NULL}, {"BOOL", "10", NULL},
          {"BOOL", "True", NULL}, {"BOOL", "\"\"", NULL}, {"BOOL", "\"on\"", NULL}, {"BOOL", "truex", NULL});
}

static void decimals_keep_every_digit_or_are_refused(void **state)
{
    (void)state;
    CHECK({"NUMERIC", "5", "="}, {"NUMERIC", "1255139.628052805", "\"1255139.628052805\""}, {"NUMERIC", "\"0.123456789\"", "="},
          {"NUMERIC", "\"0.1234567891\"", NULL}, {"NUMERIC", "\"0.1234567890\"", "="}, {"NUMERIC", "\"99999999999999999999999999999.9\"", "="},
          {"NUMERIC", "\"100000000000000000000000000000\"", NULL}, {"NUMERIC", "12345678901234567890", "\"12345678901234567890\""},
          {"NUMERIC", "\"1e28\"", "="}, {"NUMERIC", "\"1e29\"", NULL}, {"NUMERIC", "\"1e-9\"", "="}, {"NUMERIC", "\"1e-10\"", NULL},
          {"NUMERIC", "\"0e99\"", "="}, {"NUMERIC", "\"abc\"", NULL}, {"NUMERIC", "NaN", NULL}, {"NUMERIC", "\"\"", NULL},
          {"NUMERIC(5,2)", "123.45", "\"123.45\""}, {"NUMERIC(5,2)", "1234", NULL}, {"NUMERIC(5,2)", "1.234", NULL},
          {"BIGNUMERIC", "\"0.12345678901234567890123456789012345678\"", "="},
          {"BIGNUMERIC", "\"0.123456789012345678901234567890123456789\"", NULL}, {"BIGNUMERIC", "\"12345678901234567890123456789012345678\"", "="});
}

static void dates_exist_and_are_written_in_full(void **state)
{
    (void)state;
    CHECK({"DATE", "\"2024-02-29\"", "="}, {"DATE", "\"2023-02-29\"", NULL}, {"DATE", "\"1900-02-29\"", NULL}, {"DATE", "\"2000-02-29\"", "="},
          {"DATE", "\"0001-01-01\"", "="}, {"DATE", "\"0000-01-01\"", NULL}, {"DATE", "\"9999-12-31\"", "="}, {"DATE", "\"10000-01-01\"", NULL},
          {"DATE", "\"2024-1-2\"", "\"2024-01-02\""}, {"DATE", "\"0999-12-1\"", "\"0999-12-01\""}, {"DATE", "\"2024-13-01\"", NULL},
          {"DATE", "\"2024-04-31\"", NULL}, {"DATE", "\"2024-04-00\"", NULL}, {"DATE", "\"2024/04/01\"", NULL}, {"DATE", "\"2024-04-01 \"", NULL},
          {"DATE", "\"2024-04-011\"", NULL}, {"DATE", "20240401", NULL}, {"DATE", "\"\"", NULL}, {"DATE", "\"2024\\u002d01-02\"", "="});
}

static void times_of_day_have_microseconds(void **state)
{
    (void)state;
    CHECK({"TIME", "\"00:00:00\"", "="}, {"TIME", "\"23:59:59.999999\"", "="}, {"TIME", "\"1:2:3.5\"", "\"01:02:03.500000\""},
          {"TIME", "\"24:00:00\"", NULL}, {"TIME", "\"12:60:00\"", NULL}, {"TIME", "\"12:00:60\"", NULL}, {"TIME", "\"12:00\"", NULL},
          {"TIME", "\"12:00:00.\"", NULL}, {"TIME", "\"12:00:00.1234567\"", NULL}, {"TIME", "\"12:00:00Z\"", NULL},
          {"DATETIME", "\"2024-05-06 07:08:09\"", "="}, {"DATETIME", "\"2024-05-06T07:08:09.25\"", "="},
          {"DATETIME", "\"2024-05-06t7:08:09\"", "\"2024-05-06 07:08:09\""}, {"DATETIME", "\"2024-05-06\"", "\"2024-05-06 00:00:00\""},
          {"DATETIME", "\"2024-05-06T07:08:09Z\"", NULL}, {"DATETIME", "\"2024-05-06T07:08\"", NULL}, {"DATETIME", "\"2024-05-06T\"", NULL});
}

static void timestamps_may_have_a_zone_or_be_seconds(void **state)
{
    (void)state;
    CHECK({"TIMESTAMP", "\"2018-08-19T12:11\"", "="}, {"TIMESTAMP", "\"2018-08-19 12:11:35.22\"", "="}, {"TIMESTAMP", "\"2018/08/19T12:11\"", "="},
          {"TIMESTAMP", "\"2018-07-05T12:54:00 UTC\"", "="}, {"TIMESTAMP", "\"2018-08-19T07:11:35.220 -05:00\"", "="},
          {"TIMESTAMP", "\"2018-08-19T12:11:35.220Z\"", "="}, {"TIMESTAMP", "\"2018-08-19T12:11:35+0530\"", "\"2018-08-19 06:41:35Z\""},
          {"TIMESTAMP", "\"2018-08-19T12:11:35-5\"", "\"2018-08-19 17:11:35Z\""}, {"TIMESTAMP", "\"2018-08-19\"", "\"2018-08-19 00:00:00Z\""},
          {"TIMESTAMP", "\"2018-08-19t12:11:35z\"", "\"2018-08-19 12:11:35Z\""}, {"TIMESTAMP", "\"2018-08-19T12:11:35+15:00\"", NULL},
          {"TIMESTAMP", "\"2018-08-19T12:11:35 \"", NULL}, {"TIMESTAMP", "\"2018-08-19T12:11:35 Europe/Berlin\"", NULL},
          {"TIMESTAMP", "\"0001-01-01T00:00:00+01:00\"", NULL}, {"TIMESTAMP", "\"9999-12-31T23:59:59-00:01\"", NULL},
          {"TIMESTAMP", "1534680695", "\"2018-08-19 12:11:35Z\""}, {"TIMESTAMP", "1534680695.1234567", "\"2018-08-19 12:11:35.123457Z\""},
          {"TIMESTAMP", "1.534680695e9", "\"2018-08-19 12:11:35Z\""}, {"TIMESTAMP", "-0.5", "\"1969-12-31 23:59:59.500000Z\""},
          {"TIMESTAMP", "0e999999999", "\"1970-01-01 00:00:00Z\""}, {"TIMESTAMP", "-62135596800", "\"0001-01-01 00:00:00Z\""},
          {"TIMESTAMP", "-62135596801", NULL}, {"TIMESTAMP", "253402300799.999999", "\"9999-12-31 23:59:59.999999Z\""},
          {"TIMESTAMP", "253402300800", NULL}, {"TIMESTAMP", "1534680695000", NULL}, {"TIMESTAMP", "1e99", NULL}, {"TIMESTAMP", "now", NULL});
}

static void json_is_any_value_on_one_line(void **state)
{
    (void)state;
    CHECK({"JSON", "{\"a\":[1,{\"b\":null}],\"c\":\"x\"}", "="}, {"JSON", "[]", "="}, {"JSON", "{}", "="}, {"JSON", "\"x\"", "="},
          {"JSON", "-1.5e3", "="}, {"JSON", "[[],{},[{}]]", "="}, {"JSON", "{\n \"a\" : [ 1 ,\r\n\t2 ] }", "{ \"a\" : [ 1 ,\t2 ] }"},
          {"JSON", "[1,]", NULL}, {"JSON", "[1 2]", NULL}, {"JSON", "{\"a\"}", NULL}, {"JSON", "{a:1}", NULL}, {"JSON", "{\"a\":1,}", NULL},
          {"JSON", "[1}", NULL}, {"JSON", "[NaN]", NULL}, {"JSON", "1e999", NULL}, {"JSON", "tru", NULL}, {"JSON", "[", NULL});
}

static void geography_is_written_as_a_string(void **state)
{
    (void)state;
    CHECK({"GEOGRAPHY", "\"POINT(1 2)\"", "="}, {"GEOGRAPHY", "\"point (1 2)\"", "="}, {"GEOGRAPHY", "\"POINT EMPTY\"", "="},
          {"GEOGRAPHY", "{\t\"type\":\"Point\",\n\"coordinates\":[1,2]}", "\"{ \\\"type\\\":\\\"Point\\\",\\\"coordinates\\\":[1,2]}\""},
          {"GEOGRAPHY", "\"{\\\"type\\\":\\\"Point\\\"}\"", "="}, {"GEOGRAPHY", "\"0101000000feffffffffffef3f0000000000000040\"", "="},
          {"GEOGRAPHY", "\"somewhere\"", NULL}, {"GEOGRAPHY", "\"\"", NULL}, {"GEOGRAPHY", "\"010\"", NULL}, {"GEOGRAPHY", "\"POINT(1 2\"", NULL},
          {"GEOGRAPHY", "[1,2]", NULL});
}

static void intervals_are_written_in_the_form_of_load_jobs(void **state)
{
    (void)state;
    CHECK({"INTERVAL", "\"1-2 3 4:5:6.789\"", "\"P1Y2M3DT4H5M6.789000S\""}, {"INTERVAL", "\"-0-1 -2 -0:0:1\"", "\"P-0Y-1M-2DT-0H-0M-1S\""},
          {"INTERVAL", "\"P-10000Y0M-3660000DT-87840000H0M0S\"", "\"P-10000Y-0M-3660000DT-87840000H-0M-0S\""},
          {"INTERVAL", "\"P1Y\"", "\"P1Y0M0DT0H0M0S\""}, {"INTERVAL", "\"PT1.5S\"", "\"P0Y0M0DT0H0M1.500000S\""}, {"INTERVAL", "\"P\"", NULL},
          {"INTERVAL", "\"P1S\"", NULL}, {"INTERVAL", "\"PT1.5M\"", NULL}, {"INTERVAL", "\"P10001Y\"", NULL}, {"INTERVAL", "\"1-2\"", NULL},
          {"INTERVAL", "\"PT99999999999999999999S\"", NULL}, {"INTERVAL", "\"P3660001D\"", NULL}, {"INTERVAL", "5", NULL});
}

static void ranges_begin_before_they_end(void **state)
{
    (void)state;
    CHECK({"RANGE<DATE>", "\"[2020-01-01, 2020-12-31)\"", "="}, {"RANGE<DATE>", "\"[unbounded, 2020-12-31)\"", "="},
          {"RANGE<DATE>", "\"[NULL, UNBOUNDED)\"", "="}, {"RANGE<DATE>", "\"[2020-12-31, 2020-01-01)\"", NULL},
          {"RANGE<DATE>", "\"[2020-01-01, 2020-01-01)\"", NULL}, {"RANGE<DATE>", "\"(2020-01-01, 2020-12-31]\"", NULL},
          {"RANGE<DATE>", "\"[2020-01-01)\"", NULL}, {"RANGE<DATE>", "\"[)\"", NULL},
          {"RANGE<TIMESTAMP>", "\"[2020-01-01 00:00:00+01:00, 2020-01-01 00:00:00Z)\"", "="},
          {"RANGE<DATE>", "{\"start\":\"2020-01-01\",\"end\":null}", "="}, {"RANGE<DATE>", "{ \"end\" : \"2020-01-01\" }", "="},
          {"RANGE<DATE>", "{\"start\":\"2020-01-02\",\"end\":\"2020-01-01\"}", NULL}, {"RANGE<DATE>", "{\"begin\":\"2020-01-01\"}", NULL},
          {"RANGE<DATE>", "{\"start\":\"2020-01-02\",}", NULL}, {"RANGE<DATE>", "{\"start\":1}", NULL}, {"RANGE<DATE>", "{", NULL});
}

static void arrays_have_no_null_in_them_and_null_is_an_empty_one(void **state)
{
    (void)state;
    CHECK({"INT64 REPEATED", "[1,2, 3 ]", "="}, {"INT64 REPEATED", "[]", "="}, {"INT64 REPEATED", "null", "[]"},
          {"INT64 REPEATED", "[1,null]", NULL}, {"INT64 REPEATED", "1", NULL}, {"INT64 REPEATED", "[1,]", NULL}, {"INT64 REPEATED", "[1", NULL},
          {"INT64 REPEATED", "[[1]]", NULL}, {"FLOAT64 REPEATED", "[NaN,1]", "[\"NaN\",1]"}, {"INT64", "null", "="}, {"INT64 REQUIRED", "null", NULL},
          {"JSON REPEATED", "[null]", NULL}, {"JSON REPEATED", "[[null]]", "="});
}

static void json_nests_to_a_limit_and_never_exhausts_the_stack(void **state)
{
    (void)state;
    for (int depth = 500; depth <= 501; depth++) {
        char text[2 * 501 + 1];
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        struct error err = ERROR_INIT;
        AUTO(free_ptr) char *got = pass("JSON", text, &err);
        assert_true((got != NULL) == (depth == 500));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_json_and_utf8_and_no_longer_than_their_column),
        cmocka_unit_test(bytes_are_base64),
        cmocka_unit_test(integers_have_64_bits_and_no_fraction),
        cmocka_unit_test(floats_may_be_no_numbers_and_are_then_quoted),
        cmocka_unit_test(booleans_have_the_words_of_load_jobs),
        cmocka_unit_test(decimals_keep_every_digit_or_are_refused),
        cmocka_unit_test(dates_exist_and_are_written_in_full),
        cmocka_unit_test(times_of_day_have_microseconds),
        cmocka_unit_test(timestamps_may_have_a_zone_or_be_seconds),
        cmocka_unit_test(json_is_any_value_on_one_line),
        cmocka_unit_test(geography_is_written_as_a_string),
        cmocka_unit_test(intervals_are_written_in_the_form_of_load_jobs),
        cmocka_unit_test(ranges_begin_before_they_end),
        cmocka_unit_test(arrays_have_no_null_in_them_and_null_is_an_empty_one),
        cmocka_unit_test(json_nests_to_a_limit_and_never_exhausts_the_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
