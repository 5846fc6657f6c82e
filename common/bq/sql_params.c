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

bool sql_pruned(const struct sql_cut *cut)
{
    if (!(cut->has_range || cut->range_null) || cut->partition_column == NULL)
        return false;
    return cut->mode == WRITE_REPLACE_PARTITIONS || (cut->mode == WRITE_MERGE && sql_listed(cut->keys, cut->key_count, cut->partition_column));
}

/* Of the rows; or, where whole partitions are meant, of those. Numbers above all ranges share theirs with those below, so each end may reach beyond the other. */
static void range_params(doc *params, const struct sql_cut *cut)
{
    enum field_type type = sql_column(cut, cut->partition_column)->type;
    int64_t lo = cut->range_lo, hi = cut->range_hi, lows[2], highs[2];
    char text[64];
    if (cut->mode == WRITE_REPLACE_PARTITIONS) {
        partition_bounds(cut->partition, cut->range_lo, &lows[0], &highs[0]);
        partition_bounds(cut->partition, cut->range_hi, &lows[1], &highs[1]);
        lo = i64_min(lows[0], lows[1]);
        hi = i64_max(highs[0], highs[1]);
    }
    partition_value(type, lo, text);
    bq_param(params, "part_lo", field_type_name(type), text);
    partition_value(type, hi, text);
    bq_param(params, "part_hi", field_type_name(type), text);
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
    if (sql_pruned(cut) && cut->has_range)
        range_params(params, cut);
    return params;
}
