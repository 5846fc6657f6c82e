#include "common/bq/sql_internal.h"

/* What the statements over shards are given: loads, exclusions, the range of a partition column. */

#define NUMBER_TEXT 24 /* bytes of an INT64 in decimal, with the NUL */

/* names and numbers as rows of two fields. */
static doc *pairs_param(doc *params, const char *name, const char *second, size_t count, const char *(*text)(const struct sql_cut *, size_t),
                        int64_t (*number)(const struct sql_cut *, size_t), const struct sql_cut *cut)
{
    const char *const fields[] = {"load", second}, *const types[] = {"STRING", "INT64"};
    AUTO(free_ptr) const char **values = xreallocarray(NULL, count * 2 + 1, sizeof(*values));
    AUTO(free_ptr) char *digits = xreallocarray(NULL, count + 1, NUMBER_TEXT);
    for (size_t i = 0; i < count; i++) {
        snprintf(digits + i * NUMBER_TEXT, NUMBER_TEXT, "%" PRId64, number(cut, i));
        values[2 * i] = text(cut, i);
        values[2 * i + 1] = digits + i * NUMBER_TEXT;
    }
    return bq_param_structs(params, name, fields, types, 2, values, count);
}

static const char *load_id(const struct sql_cut *cut, size_t i) { return cut->loads[i].id; }
static int64_t load_rows(const struct sql_cut *cut, size_t i) { return cut->loads[i].rows; }
static const char *exclusion_load(const struct sql_cut *cut, size_t i) { return cut->exclusions[i].load; }
static int64_t exclusion_item(const struct sql_cut *cut, size_t i) { return cut->exclusions[i].item; }

/* Proleptic Gregorian date of a day number, counted from 1970-01-01; years 1 to 9999 are all that BigQuery has. */
static void civil(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097; /* 146,097 days in 400 years, beginning on 1 March */
    int64_t in_era = z - era * 146097;
    int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;
    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

#define US_PER_DAY (86400 * US_PER_S)
static doc *range_param(doc *params, const char *name, const struct field *f, int64_t value)
{
    char text[64];
    int year, month, day;
    if (f->type == FIELD_INT64) {
        snprintf(text, sizeof(text), "%" PRId64, value);
    } else if (f->type == FIELD_DATE) {
        civil(value, &year, &month, &day);
        snprintf(text, sizeof(text), "%04d-%02d-%02d", year, month, day);
    } else {
        int64_t days = value / US_PER_DAY - (value % US_PER_DAY < 0), us = value - days * US_PER_DAY;
        civil(days, &year, &month, &day);
        snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d:%02d.%06d%s", year, month, day, (int)(us / (3600 * US_PER_S)),
                 (int)(us / (60 * US_PER_S) % 60), (int)(us / US_PER_S % 60), (int)(us % US_PER_S),
                 f->type == FIELD_TIMESTAMP ? "+00:00" : "");
    }
    return bq_param(params, name, field_type_name(f->type), text);
}

bool sql_pruned(const struct sql_cut *cut)
{
    return (cut->has_range || cut->range_null) && cut->partition_column && sql_listed(cut->keys, cut->key_count, cut->partition_column);
}

doc *sql_cut_params(const struct sql_cut *cut)
{
    doc *params = bq_params();
    if (cut->side) {
        int64_t total = 0;
        for (size_t i = 0; i < cut->load_count; i++)
            total += cut->loads[i].rows;
        for (size_t i = 0; i < cut->exclusion_count; i++)
            total += cut->exclusions[i].item;
        bq_param_int(params, "side_loads", (int64_t)cut->load_count);
        bq_param_int(params, "side_exclusions", (int64_t)cut->exclusion_count);
        bq_param_int(params, "side_total", total);
    } else {
        pairs_param(params, "loads", "rows", cut->load_count, load_id, load_rows, cut);
        if (cut->exclusion_count > 0)
            pairs_param(params, "exclusions", "item", cut->exclusion_count, exclusion_load, exclusion_item, cut);
    }
    if (cut->mode == WRITE_MERGE && sql_pruned(cut) && cut->has_range) {
        const struct field *f = sql_column(cut, cut->partition_column);
        range_param(params, "part_lo", f, cut->range_lo);
        range_param(params, "part_hi", f, cut->range_hi);
    }
    return params;
}
