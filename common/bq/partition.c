#include "common/bq/partition.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "common/bq/sql.h"

#define US_PER_HOUR (3600 * US_PER_S)
#define US_PER_DAY (86400 * US_PER_S)

static const char *const unit_names[] = {NULL, "HOUR", "DAY", "MONTH", "YEAR", "RANGE"};

const char *partition_unit_name(enum partition_unit unit)
{
    return unit_names[unit];
}

/* --- the calendar: proleptic Gregorian; years 1 to 9999 are all that BigQuery has --------------------------------------------------------- */

/* The date of a day number, counted from 1970-01-01. */
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

static int64_t day_number(int year, int month, int day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, in_era_year = y - era * 400;
    int64_t in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + in_era_year * 365 + in_era_year / 4 - in_era_year / 100 + in_year - 719468;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

void partition_value(enum field_type type, int64_t value, char out[64])
{
    int year, month, day;
    if (type == FIELD_INT64) {
        snprintf(out, 64, "%" PRId64, value);
    } else if (type == FIELD_DATE) {
        civil(value, &year, &month, &day);
        snprintf(out, 64, "%04d-%02d-%02d", year, month, day);
    } else {
        int64_t days = floor_div(value, US_PER_DAY), us = value - days * US_PER_DAY;
        civil(days, &year, &month, &day);
        snprintf(out, 64, "%04d-%02d-%02d %02d:%02d:%02d.%06d%s", year, month, day, (int)(us / US_PER_HOUR), (int)(us / (60 * US_PER_S) % 60),
                 (int)(us / US_PER_S % 60), (int)(us % US_PER_S), type == FIELD_TIMESTAMP ? "+00:00" : "");
    }
}

/* --- partitions ------------------------------------------------------------------------------------------------------------------------- */

int partition_make(const struct schema *schema, enum bq_partitioning kind, const char *column, const char *unit, int64_t start, int64_t end, int64_t interval,
                   struct partition *p, struct error *err)
{
    *p = (struct partition){.unit = PARTITION_NONE};
    if (kind == PART_NONE)
        return 0;
    if (column[0] == '\0')
        return error_set(err, ERR_USAGE, 0, "it is partitioned by ingestion time, and so by when a row came and not by what is in it");
    const struct field *f = schema_find(schema, column);
    if (f == NULL)
        return error_set(err, ERR_USAGE, 0, "it is partitioned by %s, which is no column of its schema", column);
    snprintf(p->column, sizeof(p->column), "%s", f->name);
    p->type = f->type;
    bool range = kind == PART_RANGE;
    bool fits = range ? f->type == FIELD_INT64 && interval > 0 : f->type == FIELD_DATE || f->type == FIELD_DATETIME || f->type == FIELD_TIMESTAMP;
    for (size_t i = PARTITION_HOUR; fits && i <= PARTITION_RANGE; i++)
        if (strcasecmp(range ? "RANGE" : unit[0] ? unit : "DAY", unit_names[i]) == 0)
            p->unit = (enum partition_unit)i;
    if (p->unit == PARTITION_NONE)
        return error_set(err, ERR_USAGE, 0, "it is partitioned by %s of column %s (%s), which this version does not know", unit[0] ? unit : "a range", f->name,
                         field_type_name(f->type));
    p->start = start;
    p->end = end;
    p->interval = interval;
    return 0;
}

static void range_bounds(const struct partition *p, int64_t value, int64_t *lo, int64_t *hi)
{
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (value < p->start || value >= p->end)
        return;
    int64_t past = (int64_t)(((uint64_t)value - (uint64_t)p->start) % (uint64_t)p->interval);
    *lo = value - past;
    *hi = (uint64_t)p->end - (uint64_t)*lo > (uint64_t)p->interval ? *lo + (p->interval - 1) : p->end - 1;
}

void partition_bounds(const struct partition *p, int64_t value, int64_t *lo, int64_t *hi)
{
    int64_t per_day = p->type == FIELD_DATE ? 1 : US_PER_DAY, day = floor_div(value, per_day), last = day;
    int y, m, d;
    switch (p->unit) {
    case PARTITION_NONE: assert(0); return;
    case PARTITION_RANGE: range_bounds(p, value, lo, hi); return;
    case PARTITION_HOUR:
        *lo = floor_div(value, US_PER_HOUR) * US_PER_HOUR;
        *hi = *lo + US_PER_HOUR - 1;
        return;
    case PARTITION_DAY: break;
    case PARTITION_MONTH:
        civil(day, &y, &m, &d);
        day = day_number(y, m, 1);
        last = day_number(m == 12 ? y + 1 : y, m == 12 ? 1 : m + 1, 1) - 1;
        break;
    case PARTITION_YEAR:
        civil(day, &y, &m, &d);
        day = day_number(y, 1, 1);
        last = day_number(y + 1, 1, 1) - 1;
        break;
    }
    *lo = day * per_day;
    *hi = (last + 1) * per_day - 1;
}

static const size_t id_digits[] = {0, 10, 8, 6, 4, 0};

static int no_partition(const struct partition *p, const char *text, struct error *err)
{
    static const char *const examples[] = {"", "2026013107", "20260131 (or 2026-01-31)", "202601 (or 2026-01)", "2026", ""};
    if (p->unit == PARTITION_RANGE)
        return error_set(err, ERR_USAGE, 0, "\"%.60s\" is no partition of %s: they are named by their first number, from %" PRId64 " on in steps of %" PRId64
                         ", and there are " PARTITION_NULL " and " PARTITION_OUTSIDE, text, p->column, p->start, p->interval);
    return error_set(err, ERR_USAGE, 0, "\"%.60s\" is no partition of %s, which is partitioned by %s: write %s, or " PARTITION_NULL, text, p->column,
                     unit_names[p->unit], examples[p->unit]);
}

static int parse_number(const struct partition *p, const char *text, char id[PARTITION_ID_SIZE], int64_t *lo, int64_t *hi, struct error *err)
{
    char *end = NULL;
    errno = 0;
    int64_t n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || n < p->start || n >= p->end)
        return no_partition(p, text, err);
    range_bounds(p, n, lo, hi);
    snprintf(id, PARTITION_ID_SIZE, "%" PRId64, *lo);
    return n == *lo ? 0 : no_partition(p, text, err);
}

int partition_parse(const struct partition *p, const char *text, char id[PARTITION_ID_SIZE], bool *is_null, int64_t *lo, int64_t *hi, struct error *err)
{
    *is_null = strcmp(text, PARTITION_NULL) == 0;
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    snprintf(id, PARTITION_ID_SIZE, "%s", text);
    if (*is_null || (p->unit == PARTITION_RANGE && strcmp(text, PARTITION_OUTSIDE) == 0))
        return 0;
    if (p->unit == PARTITION_RANGE)
        return parse_number(p, text, id, lo, hi, err);
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        if (isdigit((unsigned char)*c) && n < id_digits[p->unit])
            id[n++] = *c;
        else if (isdigit((unsigned char)*c) || strchr("-T ", *c) == NULL)
            return no_partition(p, text, err);
    }
    id[n] = '\0';
    int y = 0, m = 1, d = 1, h = 0;
    if (n != id_digits[p->unit] || sscanf(id, "%4d%2d%2d%2d", &y, &m, &d, &h) < 1 || y < 1 || m < 1 || m > 12 || d < 1 || d > 31 || h > 23)
        return no_partition(p, text, err);
    int64_t day = day_number(y, m, d);
    partition_bounds(p, p->type == FIELD_DATE ? day : day * US_PER_DAY + h * US_PER_HOUR, lo, hi);
    int y2, m2, d2; /* no 31st of February */
    civil(day, &y2, &m2, &d2);
    return m2 == m && d2 == d ? 0 : no_partition(p, text, err);
}

/* Names are quoted, so they cannot break out; numbers are our own. BigQuery's %Y has no more digits than the year, and 0001-01-01 is a date that people write for
 * none; so the id is filled up to its length. */
void partition_sql(const struct partition *p, const char *alias, struct buf *out)
{
    static const char *const formats[] = {"", "%Y%m%d%H", "%Y%m%d", "%Y%m", "%Y", ""};
    struct buf column = BUF_INIT(1024);
    buf_xprintf(&column, "%s.", alias);
    sql_quote(&column, p->column);
    const char *c = column.data;
    if (p->unit == PARTITION_RANGE)
        buf_xprintf(out, "IFNULL(IF(%s < %" PRId64 " OR %s >= %" PRId64 ", '" PARTITION_OUTSIDE "', CAST(%s - MOD(%s - (%" PRId64 "), %" PRId64 ") AS STRING)), '" PARTITION_NULL "')",
                    c, p->start, c, p->end, c, c, p->start, p->interval);
    else
        buf_xprintf(out, "IFNULL(LPAD(FORMAT_%s('%s', %s), %zu, '0'), '" PARTITION_NULL "')", field_type_name(p->type), formats[p->unit], c, id_digits[p->unit]);
    buf_free(&column);
}
