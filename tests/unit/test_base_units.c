#include "common/base/units.h"

#include <setjmp.h>
#include <cmocka.h>

static void durations_carry_their_unit(void **state)
{
    (void)state;
    const struct { const char *text; int64_t ms; } good[] = {
        {"0", 0}, {"250ms", 250}, {"2s", 2000}, {"1.5s", 1500}, {"5m", 300000}, {"1h", 3600000}, {"7d", 604800000}, {"0s", 0},
    };
    struct error err = ERROR_INIT;
    int64_t ms = -1;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(units_duration_ms(good[i].text, &ms, &err), 0);
        assert_int_equal(ms, good[i].ms);
    }
    const char *const bad[] = {"", "30", "s", "-5s", "1.s", ".5s", "5 parsecs", "99999999999999999999s", "9223372036854775807h", "1e3s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(units_duration_ms(bad[i], &ms, &err), -1);
    assert_int_equal(units_duration_ms("30x", &ms, &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_string_equal(err.text, "\"30x\" is not a duration; write e.g. 250ms, 30s, 5m, 1h");
}

static void sizes_tell_thousands_from_1024s(void **state)
{
    (void)state;
    const struct { const char *text; int64_t bytes; } good[] = {
        {"512", 512}, {"64KiB", 65536}, {"8MiB", 8 << 20}, {"1GiB", 1 << 30}, {"10MB", 10000000}, {"1.5 GiB", 3 << 29}, {"2kb", 2000},
    };
    struct error err = ERROR_INIT;
    int64_t bytes = -1;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(units_size(good[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    const char *const bad[] = {"", "8M", "-1", "MiB", "99999999999TiB", "1,5MiB"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(units_size(bad[i], &bytes, &err), -1);
}

static void tolerance_is_a_number_or_a_percentage(void **state)
{
    (void)state;
    int64_t count = 9;
    double percent = 9;
    assert_int_equal(units_tolerance("3", &count, &percent, NULL), 0);
    assert_true(count == 3 && percent < 0);
    assert_int_equal(units_tolerance("2.5%", &count, &percent, NULL), 0);
    assert_true(count < 0 && percent > 2.4999 && percent < 2.5001);
    assert_int_equal(units_tolerance("100%", &count, &percent, NULL), 0);
    const char *const bad[] = {"", "2.5", "-1", "101%", "100.1%", "%", "3 items"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(units_tolerance(bad[i], &count, &percent, NULL), -1);
}

static void whole_numbers_stay_in_their_range(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int64_t n = 0;
    assert_int_equal(units_int("-7", -10, 10, &n, &err), 0);
    assert_int_equal(n, -7);
    assert_int_equal(units_int("11", -10, 10, &n, &err), -1);
    assert_string_equal(err.text, "11 is not between -10 and 10");
    assert_int_equal(units_int("9223372036854775808", INT64_MIN, INT64_MAX, &n, &err), -1);
    const char *const bad[] = {"", "x", "1x", " 1", "1 ", "1.0", "--1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(units_int(bad[i], INT64_MIN, INT64_MAX, &n, &err), -1);
    assert_int_equal(n, -7);
}

static void people_read_times_sizes_and_counts(void **state)
{
    (void)state;
    char out[64];
    const struct { int64_t ms; const char *text; } times[] = {
        {0, "0 ms"}, {999, "999 ms"}, {1000, "1 s"}, {1500, "1.5 s"}, {59949, "59.9 s"}, {59950, "1 min"}, {200000, "3 min 20 s"},
        {3599499, "59 min 59 s"}, {3599500, "1 h"}, {7500000, "2 h 5 min"}, {86400000, "1 d"}, {90000000, "1 d 1 h"}, {-1500, "-1.5 s"},
    };
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        assert_string_equal(units_show_ms(times[i].ms, out, sizeof(out)), times[i].text);
    assert_string_equal(units_show_bytes(999, out, sizeof(out)), "999 B");
    assert_string_equal(units_show_bytes(12345678, out, sizeof(out)), "12.3 MB");
    assert_string_equal(units_show_bytes(999950, out, sizeof(out)), "1.0 MB");
    assert_string_equal(units_show_bytes(INT64_MAX, out, sizeof(out)), "9.2 EB");
    assert_string_equal(units_show_count(1234567, out, sizeof(out)), "1,234,567");
    assert_string_equal(units_show_count(-100, out, sizeof(out)), "-100");
    assert_string_equal(units_show_count(INT64_MIN, out, sizeof(out)), "-9,223,372,036,854,775,808");
}

static void moments_are_shown_in_utc(void **state)
{
    (void)state;
    char out[25];
    assert_string_equal(units_show_time(0, out, sizeof(out)), "1970-01-01T00:00:00.000Z");
    assert_string_equal(units_show_time(1769860800123, out, sizeof(out)), "2026-01-31T12:00:00.123Z");
    assert_string_equal(units_show_time(-1, out, sizeof(out)), "1969-12-31T23:59:59.999Z");
}

static void a_mistyped_word_finds_its_neighbour_and_a_strange_one_none(void **state)
{
    (void)state;
    const char *const names[] = {"table", "mode", "keys", "order_by", "insert_only", "csv"};
    assert_string_equal(units_nearest("tabel", names, ARRAY_LEN(names)), "table");
    assert_string_equal(units_nearest("key", names, ARRAY_LEN(names)), "keys");
    assert_string_equal(units_nearest("cvs", names, ARRAY_LEN(names)), "csv");
    assert_string_equal(units_nearest("insertonly", names, ARRAY_LEN(names)), "insert_only");
    const char *const near_misses[] = {"xbd", "bxc"}; /* both two steps from "abc": no two letters are swapped */
    assert_string_equal(units_nearest("abc", near_misses, 2), "xbd");
    assert_null(units_nearest("colour", names, ARRAY_LEN(names)));
    assert_null(units_nearest("x", names, ARRAY_LEN(names)));
    assert_null(units_nearest("", names, ARRAY_LEN(names)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_carry_their_unit),
        cmocka_unit_test(sizes_tell_thousands_from_1024s),
        cmocka_unit_test(tolerance_is_a_number_or_a_percentage),
        cmocka_unit_test(whole_numbers_stay_in_their_range),
        cmocka_unit_test(people_read_times_sizes_and_counts),
        cmocka_unit_test(moments_are_shown_in_utc),
        cmocka_unit_test(a_mistyped_word_finds_its_neighbour_and_a_strange_one_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
