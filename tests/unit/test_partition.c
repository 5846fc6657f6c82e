#include "common/bq/partition.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define DAY_US (INT64_C(86400) * US_PER_S)
#define HOUR_US (3600 * US_PER_S)

static struct partition time_part(enum partition_unit unit, enum field_type type)
{
    return (struct partition){.unit = unit, .type = type, .column = "c"};
}

static const struct partition tens = {.unit = PARTITION_RANGE, .type = FIELD_INT64, .column = "n", .start = -20, .end = 95, .interval = 10};

static void assert_bounds(const struct partition *p, int64_t value, int64_t want_lo, int64_t want_hi)
{
    int64_t lo = 0, hi = 0;
    partition_bounds(p, value, &lo, &hi);
    assert_int_equal(lo, want_lo);
    assert_int_equal(hi, want_hi);
}

static void bounds_are_those_of_the_whole_partition(void **state)
{
    (void)state;
    struct partition p = time_part(PARTITION_MONTH, FIELD_DATE);
    assert_bounds(&p, 19782, 19754, 19782); /* 2024-02-29 */
    assert_bounds(&p, -1, -31, -1);
    assert_bounds(&p, 2932896, 2932866, 2932896); /* 9999-12-31, the last day there is */
    p = time_part(PARTITION_YEAR, FIELD_DATE);
    assert_bounds(&p, 19782, 19723, 20088);
    p = time_part(PARTITION_DAY, FIELD_DATE);
    assert_bounds(&p, 5, 5, 5);
    p = time_part(PARTITION_DAY, FIELD_TIMESTAMP);
    assert_bounds(&p, -1, -DAY_US, -1);
    p = time_part(PARTITION_HOUR, FIELD_DATETIME);
    assert_bounds(&p, HOUR_US + 7, HOUR_US, 2 * HOUR_US - 1);
    p = time_part(PARTITION_MONTH, FIELD_TIMESTAMP);
    assert_bounds(&p, 19782 * DAY_US, 19754 * DAY_US, 19783 * DAY_US - 1);
}

static void numbers_lie_in_ranges_or_outside_of_all(void **state)
{
    (void)state;
    assert_bounds(&tens, -20, -20, -11);
    assert_bounds(&tens, -1, -10, -1);
    assert_bounds(&tens, 94, 90, 94); /* the last range is a short one */
    assert_bounds(&tens, 95, INT64_MIN, INT64_MAX);
    assert_bounds(&tens, -21, INT64_MIN, INT64_MAX);
    struct partition wide = {.unit = PARTITION_RANGE, .type = FIELD_INT64, .start = INT64_MIN + 1, .end = INT64_MAX, .interval = INT64_MAX};
    assert_bounds(&wide, INT64_MAX - 1, 0, INT64_MAX - 1);
    assert_bounds(&wide, 0, 0, INT64_MAX - 1);
}

static void every_value_is_within_the_bounds_of_its_id(void **state)
{
    (void)state;
    static const enum partition_unit units[] = {PARTITION_HOUR, PARTITION_DAY, PARTITION_MONTH, PARTITION_YEAR};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        struct partition p = time_part(units[i], FIELD_TIMESTAMP);
        for (int64_t value = -3000 * DAY_US; value < 30000 * DAY_US; value += 37 * DAY_US + 12345678901) {
            int64_t lo, hi, lo2, hi2;
            char text[64], id[PARTITION_ID_SIZE];
            bool is_null;
            struct error err = ERROR_INIT;
            static const int lengths[] = {13, 10, 7, 4};
            partition_bounds(&p, value, &lo, &hi);
            assert_true(lo <= value && value <= hi);
            partition_value(FIELD_TIMESTAMP, value, text);
            text[lengths[i]] = '\0';
            if (partition_parse(&p, text, id, &is_null, &lo2, &hi2, &err) != 0)
                fail_msg("%s", err.text);
            assert_true(lo2 == lo && hi2 == hi && !is_null);
        }
    }
}

static void ids_are_read_as_bigquery_and_people_write_them(void **state)
{
    (void)state;
    struct partition day = time_part(PARTITION_DAY, FIELD_DATE), hour = time_part(PARTITION_HOUR, FIELD_TIMESTAMP);
    char id[PARTITION_ID_SIZE];
    bool is_null;
    int64_t lo, hi;
    struct error err = ERROR_INIT;
    assert_int_equal(partition_parse(&day, "2026-01-31", id, &is_null, &lo, &hi, &err), 0);
    assert_string_equal(id, "20260131");
    assert_int_equal(partition_parse(&hour, "2026-01-31T07", id, &is_null, &lo, &hi, &err), 0);
    assert_string_equal(id, "2026013107");
    assert_int_equal(partition_parse(&day, "__NULL__", id, &is_null, &lo, &hi, &err), 0);
    assert_true(is_null);
    assert_int_equal(partition_parse(&tens, "-20", id, &is_null, &lo, &hi, &err), 0);
    assert_int_equal(hi, -11);
    assert_int_equal(partition_parse(&tens, "__UNPARTITIONED__", id, &is_null, &lo, &hi, &err), 0);
    assert_int_equal(lo, INT64_MIN);
    static const char *const wrong[] = {"2026-02-30", "202601", "20261301", "2026013101", "x", "", "__UNPARTITIONED__", "2026/01/31"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(partition_parse(&day, wrong[i], id, &is_null, &lo, &hi, &err), -1);
    static const char *const numbers[] = {"-19", "100", "-30", "x", "", "9999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        assert_int_equal(partition_parse(&tens, numbers[i], id, &is_null, &lo, &hi, &err), -1);
}

static void what_cannot_be_told_by_a_value_is_refused(void **state)
{
    (void)state;
    static const char fields[] = "{\"fields\":\"d:DATE, n:INT64, s:STRING\"}";
    struct error err = ERROR_INIT;
    struct partition p;
    AUTO(doc_free_auto) doc *d = doc_parse(fields, strlen(fields), "fields", &err);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, &err);
    assert_int_equal(partition_make(schema, PART_TIME, "", "DAY", 0, 0, 0, &p, &err), -1);
    assert_non_null(strstr(err.text, "ingestion time"));
    assert_int_equal(partition_make(schema, PART_TIME, "s", "DAY", 0, 0, 0, &p, &err), -1);
    assert_int_equal(partition_make(schema, PART_TIME, "d", "WEEK", 0, 0, 0, &p, &err), -1);
    assert_int_equal(partition_make(schema, PART_RANGE, "n", "", 0, 10, 0, &p, &err), -1);
    assert_int_equal(partition_make(schema, PART_TIME, "D", "", 0, 0, 0, &p, &err), 0);
    assert_int_equal(p.unit, PARTITION_DAY);
    assert_string_equal(p.column, "d");
    assert_int_equal(partition_make(schema, PART_NONE, "", "", 0, 0, 0, &p, &err), 0);
    assert_int_equal(p.unit, PARTITION_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_those_of_the_whole_partition),
        cmocka_unit_test(numbers_lie_in_ranges_or_outside_of_all),
        cmocka_unit_test(every_value_is_within_the_bounds_of_its_id),
        cmocka_unit_test(ids_are_read_as_bigquery_and_people_write_them),
        cmocka_unit_test(what_cannot_be_told_by_a_value_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
