#include "common/base/rows_internal.h"

/* INTERVAL: SQL's canonical "Y-M D H:M:S.F" and ISO 8601's "P1Y2M3DT4H5M6.7S"; always written as the latter, whole, as load jobs
 * want it. The limits are BigQuery's. */
#define MAX_MONTHS INT64_C(120000)
#define MAX_DAYS INT64_C(3660000)
#define MAX_US (INT64_C(87840000) * 3600 * US_PER_S)

struct interval { int64_t months, days, us; };

static const char *read_count(const char *p, const char *end, int64_t *v)
{
    const char *first = p;
    for (*v = 0; p < end && p - first < 12 && (unsigned)(*p - '0') <= 9; p++)
        *v = *v * 10 + (*p - '0');
    return p == first ? NULL : p;
}

/* Digits behind a point, as microseconds. */
static const char *read_fraction(const char *p, const char *end, int64_t *us)
{
    int64_t unit = US_PER_S;
    const char *first = p;
    for (*us = 0; p < end && p - first < 6 && (unsigned)(*p - '0') <= 9; p++)
        *us += (*p - '0') * (unit /= 10);
    return p == first ? NULL : p;
}

static const char *read_sign(const char *p, const char *end, int64_t *sign)
{
    *sign = p < end && *p == '-' ? -1 : 1;
    return p < end && (*p == '-' || *p == '+') ? p + 1 : p;
}

/* COUNT then the byte `then`. */
static const char *count_then(const char *p, const char *end, char then, int64_t *v)
{
    p = read_count(p, end, v);
    return p == NULL || p >= end || *p != then ? NULL : p + 1;
}

static bool read_canonical(const char *p, const char *end, struct interval *v)
{
    int64_t sign = 1, a = 0, b = 0, c = 0, us = 0;
    p = count_then(read_sign(p, end, &sign), end, '-', &a);
    if (p == NULL || (p = count_then(p, end, ' ', &b)) == NULL)
        return false;
    v->months = sign * (a * 12 + b);
    p = count_then(read_sign(p, end, &sign), end, ' ', &a);
    if (p == NULL)
        return false;
    v->days = sign * a;
    p = count_then(read_sign(p, end, &sign), end, ':', &a);
    if (p == NULL || (p = count_then(p, end, ':', &b)) == NULL || (p = read_count(p, end, &c)) == NULL)
        return false;
    if (p < end && *p == '.' && (p = read_fraction(p + 1, end, &us)) == NULL)
        return false;
    if (a > 87840000 || b > 59 || c > 59)
        return false;
    v->us = sign * (((a * 60 + b) * 60 + c) * US_PER_S + us);
    return p == end;
}

static bool read_iso(const char *p, const char *end, struct interval *v)
{
    static const char units[] = "YMDTHMS";
    size_t unit = 0, parts = 0;
    for (p++; p < end;) {
        if (*p == 'T' && unit <= 3) {
            unit = 4;
            p++;
            continue;
        }
        int64_t sign = 1, count = 0, us = 0;
        p = read_count(read_sign(p, end, &sign), end, &count);
        bool fraction = p != NULL && p < end && *p == '.';
        if (fraction)
            p = read_fraction(p + 1, end, &us);
        if (p == NULL || p >= end || count > 1000000000000)
            return false;
        size_t stop = unit <= 3 ? 3 : 7;
        while (unit < stop && units[unit] != *p)
            unit++;
        if (unit == stop || (fraction && *p != 'S'))
            return false;
        static const int64_t months[] = {12, 1, 0, 0, 0, 0, 0}, days[] = {0, 0, 1, 0, 0, 0, 0}, seconds[] = {0, 0, 0, 0, 3600, 60, 1};
        if (count > MAX_US / US_PER_S)
            return false;
        if (seconds[unit] > 0 && count > MAX_US / US_PER_S / seconds[unit])
            return false;
        v->months += sign * count * months[unit];
        v->days += sign * count * days[unit];
        v->us += sign * (count * seconds[unit] * US_PER_S + us);
        unit++;
        parts++;
        p++;
    }
    return parts > 0;
}

static const char *sign_of(int64_t v)
{
    return v < 0 ? "-" : "";
}

static void write_interval(struct scan *s, const char *from, const char *to, const struct interval *v)
{
    char text[128];
    int64_t m = v->months < 0 ? -v->months : v->months, us = v->us < 0 ? -v->us : v->us, seconds = us / US_PER_S;
    const char *ms = sign_of(v->months), *us_sign = sign_of(v->us);
    int n = snprintf(text, sizeof(text), "P%s%" PRId64 "Y%s%" PRId64 "M%" PRId64 "DT%s%" PRId64 "H%s%" PRId64 "M%s%" PRId64, ms, m / 12,
                     ms, m % 12, v->days, us_sign, seconds / 3600, us_sign, seconds / 60 % 60, us_sign, seconds % 60);
    if (us % US_PER_S != 0)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ".%06" PRId64, us % US_PER_S);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "S");
    scan_put_quoted(s, from, to, text, (size_t)n);
}

const char *value_interval(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) != '"')
        return scan_refuse(s, c, p);
    const char *text = NULL;
    size_t len = 0;
    const char *end = scan_text(s, p, &text, &len);
    if (end == NULL)
        return NULL;
    struct interval v = {0, 0, 0};
    bool ok = len > 0 && *text == 'P' ? read_iso(text, text + len, &v) : read_canonical(text, text + len, &v);
    if (!ok || v.months > MAX_MONTHS || v.months < -MAX_MONTHS || v.days > MAX_DAYS || v.days < -MAX_DAYS || v.us > MAX_US ||
        v.us < -MAX_US)
        return scan_refuse(s, c, p);
    write_interval(s, p, end, &v);
    return end;
}
