#include "common/base/rows_internal.h"

#include <strings.h>

/*
 * Dates and times. Load jobs want two digits everywhere and offsets as +HH:MM; SQL's canonical forms are more liberal and handlers
 * print what their language prints. Every unambiguous form is read; what is not in the load's form is written in it.
 */
#define MIN_DAY INT64_C(-719162) /* 0001-01-01 */
#define MAX_DAY INT64_C(2932896) /* 9999-12-31 */
#define US_PER_DAY (INT64_C(86400) * US_PER_S)

struct moment {
    int64_t day;    /* since 1970-01-01 */
    int64_t us;     /* of the day */
    int64_t offset; /* of the zone, in minutes east */
    bool exact;     /* the text is in the form that load jobs read */
};

static int64_t day_of(int64_t y, int64_t m, int64_t d)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    int64_t p = y - 1;
    return p * 365 + p / 4 - p / 100 + p / 400 + before[m - 1] + (leap && m > 2) + d - 1 + MIN_DAY;
}

static bool is_date(int64_t y, int64_t m, int64_t d)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (y < 1 || m < 1 || m > 12 || d < 1)
        return false;
    bool leap_february = m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    return d <= days[m - 1] + leap_february;
}

static void date_of(int64_t day, int *y, int *m, int *d)
{
    int64_t year = (day - MIN_DAY) / 366 + 1; /* never too late */
    while (day_of(year + 1, 1, 1) <= day)
        year++;
    int64_t month = 12;
    while (day_of(year, month, 1) > day)
        month--;
    *y = (int)year;
    *m = (int)month;
    *d = (int)(day - day_of(year, month, 1) + 1);
}

/* One or two digits; *exact falls when there is one. */
static const char *two_digits(const char *p, const char *end, int64_t *v, bool *exact)
{
    if (p >= end || (unsigned)(*p - '0') > 9)
        return NULL;
    *v = *p++ - '0';
    if (p < end && (unsigned)(*p - '0') <= 9)
        *v = *v * 10 + (*p++ - '0');
    else
        *exact = false;
    return p;
}

static const char *read_date(const char *p, const char *end, bool slashes, struct moment *t)
{
    int64_t y = 0, m = 0, d = 0;
    if (end - p < 8)
        return NULL;
    for (int i = 0; i < 4; i++) {
        if ((unsigned)(p[i] - '0') > 9)
            return NULL;
        y = y * 10 + (p[i] - '0');
    }
    char separator = p[4];
    if (separator != '-' && !(slashes && separator == '/'))
        return NULL;
    p = two_digits(p + 5, end, &m, &t->exact);
    if (p == NULL || p >= end || *p != separator)
        return NULL;
    p = two_digits(p + 1, end, &d, &t->exact);
    if (p == NULL || !is_date(y, m, d))
        return NULL;
    t->day = day_of(y, m, d);
    return p;
}

/* H:M:S[.F]; without seconds only where that is allowed. */
static const char *read_time(const char *p, const char *end, bool without_seconds, struct moment *t)
{
    int64_t h = 0, m = 0, s = 0, us = 0;
    p = two_digits(p, end, &h, &t->exact);
    if (p == NULL || p >= end || *p != ':')
        return NULL;
    p = two_digits(p + 1, end, &m, &t->exact);
    if (p == NULL)
        return NULL;
    if (p < end && *p == ':') {
        p = two_digits(p + 1, end, &s, &t->exact);
        if (p == NULL)
            return NULL;
        if (p < end && *p == '.') {
            int64_t unit = US_PER_S;
            const char *first = ++p;
            for (; p < end && p - first < 6 && (unsigned)(*p - '0') <= 9; p++)
                us += (*p - '0') * (unit /= 10);
            if (p == first)
                return NULL;
        }
    } else if (!without_seconds)
        return NULL;
    if (h > 23 || m > 59 || s > 59)
        return NULL;
    t->us = ((h * 60 + m) * 60 + s) * US_PER_S + us;
    return p;
}

/* Nothing, Z, UTC or an offset, up to the end. */
static bool read_zone(const char *p, const char *end, struct moment *t)
{
    if (p == end || (end - p == 1 && *p == 'Z'))
        return true;
    bool space = *p == ' ';
    p += space;
    if (p == end)
        return false;
    if (*p != '+' && *p != '-') {
        bool utc = end - p == 3 && strncasecmp(p, "UTC", 3) == 0;
        if (!utc || !space || *p != 'U')
            t->exact = false;
        return utc || (end - p == 1 && (*p | 0x20) == 'z');
    }
    int64_t h = 0, m = 0, sign = *p == '-' ? -1 : 1;
    p = two_digits(p + 1, end, &h, &t->exact);
    if (p == NULL)
        return false;
    if (p == end)
        t->exact = false;
    else {
        if (*p == ':')
            p++;
        else
            t->exact = false;
        const char *minutes = p;
        p = two_digits(p, end, &m, &t->exact);
        if (p == NULL || p - minutes != 2)
            return false;
    }
    t->offset = sign * (h * 60 + m);
    return p == end && m < 60 && h * 60 + m <= 14 * 60;
}

static bool read_datetime(const char *text, size_t len, struct moment *t)
{
    const char *end = text + len, *p = read_date(text, end, false, t);
    if (p == end) {
        t->exact = false; /* midnight, to be written */
        return true;
    }
    if (p == NULL || (*p != ' ' && (*p | 0x20) != 't'))
        return false;
    t->exact &= *p != 't';
    return read_time(p + 1, end, false, t) == end;
}

static bool read_timestamp(const char *text, size_t len, struct moment *t)
{
    const char *end = text + len, *p = read_date(text, end, true, t);
    if (p == NULL)
        return false;
    if (p < end && (*p == ' ' || (*p | 0x20) == 't')) {
        t->exact &= *p != 't';
        p = read_time(p + 1, end, true, t);
    } else
        t->exact = false;
    if (p == NULL || !read_zone(p, end, t))
        return false;
    int64_t us = t->day * US_PER_DAY + t->us - t->offset * 60 * US_PER_S;
    return us >= MIN_DAY * US_PER_DAY && us < (MAX_DAY + 1) * US_PER_DAY;
}

static int64_t moment_us(const struct moment *t)
{
    return t->day * US_PER_DAY + t->us - t->offset * 60 * US_PER_S;
}

static void write_moment(struct scan *s, const char *from, const char *to, int64_t us, bool date, bool time, const char *zone)
{
    int y = 0, mo = 0, d = 0, n = 0;
    char text[64];
    int64_t day = us / US_PER_DAY - (us % US_PER_DAY < 0), rest = us - day * US_PER_DAY;
    int seconds = (int)(rest / US_PER_S), fraction = (int)(rest % US_PER_S);
    date_of(day, &y, &mo, &d);
    if (date)
        n = snprintf(text, sizeof(text), "%04d-%02d-%02d%s", y, mo, d, time ? " " : "");
    if (time)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%02d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (time && fraction != 0)
        n += snprintf(text + n, sizeof(text) - (size_t)n, ".%06d", fraction);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "%s", zone);
    scan_put_quoted(s, from, to, text, (size_t)n);
}

static const char *quoted_text(struct scan *s, const struct column *c, const char *p, const char **text, size_t *len)
{
    return scan_peek(s, p) == '"' ? scan_text(s, p, text, len) : scan_refuse(s, c, p);
}

const char *value_date(struct scan *s, const struct column *c, const char *p)
{
    const char *text = NULL;
    size_t len = 0;
    const char *end = quoted_text(s, c, p, &text, &len);
    struct moment t = {.exact = true};
    if (end == NULL)
        return NULL;
    if (read_date(text, text + len, false, &t) != text + len)
        return scan_refuse(s, c, p);
    if (!t.exact)
        write_moment(s, p, end, t.day * US_PER_DAY, true, false, "");
    scan_note_partition(s, c, t.day);
    return end;
}

const char *value_time(struct scan *s, const struct column *c, const char *p)
{
    const char *text = NULL;
    size_t len = 0;
    const char *end = quoted_text(s, c, p, &text, &len);
    struct moment t = {.exact = true};
    if (end == NULL)
        return NULL;
    if (read_time(text, text + len, false, &t) != text + len)
        return scan_refuse(s, c, p);
    if (!t.exact)
        write_moment(s, p, end, t.us, false, true, "");
    return end;
}

const char *value_datetime(struct scan *s, const struct column *c, const char *p)
{
    const char *text = NULL;
    size_t len = 0;
    const char *end = quoted_text(s, c, p, &text, &len);
    struct moment t = {.exact = true};
    if (end == NULL)
        return NULL;
    if (!read_datetime(text, len, &t))
        return scan_refuse(s, c, p);
    if (!t.exact)
        write_moment(s, p, end, moment_us(&t), true, true, "");
    scan_note_partition(s, c, moment_us(&t));
    return end;
}

/* Seconds since 1970 as a bare number, written as text: what load jobs make of the number depends on its form and size. Rounded to
 * the microsecond. */
static const char *value_epoch(struct scan *s, const struct column *c, const char *p)
{
    struct number n;
    const char *end = scan_number(p, s->end, &n);
    if (end == NULL || !scan_ends(s, end))
        return scan_refuse(s, c, p);
    int64_t us = 0, point = (int64_t)n.whole_len + n.exponent, digits = (int64_t)(n.whole_len + n.frac_len);
    for (int64_t i = 0; i < point + 6; i++) {
        if (us > INT64_MAX / 100)
            return scan_refuse(s, c, p);
        if (us == 0 && i >= digits)
            break; /* zero, however large its exponent */
        us = us * 10 + (i >= digits ? 0 : (i < (int64_t)n.whole_len ? n.whole[i] : n.frac[i - (int64_t)n.whole_len]) - '0');
    }
    int64_t next = point + 6;
    if (next >= 0 && next < digits && (next < (int64_t)n.whole_len ? n.whole[next] : n.frac[next - (int64_t)n.whole_len]) >= '5')
        us++;
    us = n.negative ? -us : us;
    if (us < MIN_DAY * US_PER_DAY || us >= (MAX_DAY + 1) * US_PER_DAY)
        return scan_refuse(s, c, p);
    write_moment(s, p, end, us, true, true, "Z");
    scan_note_partition(s, c, us);
    return end;
}

const char *value_timestamp(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) != '"')
        return value_epoch(s, c, p);
    const char *text = NULL;
    size_t len = 0;
    const char *end = scan_text(s, p, &text, &len);
    struct moment t = {.exact = true};
    if (end == NULL)
        return NULL;
    if (!read_timestamp(text, len, &t))
        return scan_refuse(s, c, p);
    if (!t.exact)
        write_moment(s, p, end, moment_us(&t), true, true, "Z");
    scan_note_partition(s, c, moment_us(&t));
    return end;
}

/* ---- RANGE ---- */

/* A bound; *unbounded, or its value in *v. Only forms that load jobs read. */
static bool read_bound(enum field_type type, const char *text, size_t len, bool *unbounded, int64_t *v)
{
    struct moment t = {.exact = true};
    *unbounded = (len == 9 && strncasecmp(text, "UNBOUNDED", len) == 0) || (len == 4 && strncasecmp(text, "NULL", len) == 0);
    if (*unbounded)
        return true;
    bool ok = type == FIELD_DATE       ? read_date(text, text + len, false, &t) == text + len
              : type == FIELD_DATETIME ? read_datetime(text, len, &t)
                                       : read_timestamp(text, len, &t);
    *v = moment_us(&t);
    return ok && t.exact;
}

static const char *range_text(struct scan *s, const struct column *c, const char *p)
{
    const char *text = NULL;
    size_t len = 0;
    const char *end = scan_text(s, p, &text, &len);
    if (end == NULL)
        return NULL;
    const char *comma = len > 2 ? memchr(text, ',', len) : NULL;
    if (comma == NULL || text[0] != '[' || text[len - 1] != ')')
        return scan_refuse(s, c, p);
    const char *second = comma + 1, *last = text + len - 1;
    while (second < last && *second == ' ')
        second++;
    bool open_start = false, open_end = false;
    int64_t a = 0, b = 0;
    if (!read_bound(c->field->range_of, text + 1, (size_t)(comma - text - 1), &open_start, &a) ||
        !read_bound(c->field->range_of, second, (size_t)(last - second), &open_end, &b) || (!open_start && !open_end && a >= b))
        return scan_refuse(s, c, p);
    return end;
}

/* {"start":A,"end":B}: p behind the brace. */
static const char *range_object(struct scan *s, const struct column *c, const char *from, const char *p)
{
    bool seen[2] = {false, false}, open[2] = {true, true};
    int64_t at[2] = {0, 0};
    const char *text = NULL;
    size_t len = 0;
    for (p = scan_space(s, p); scan_peek(s, p) != '}';) {
        if (scan_peek(s, p) != '"' || (p = scan_text(s, p, &text, &len)) == NULL)
            return scan_refuse(s, c, from);
        int i = len == 5 && strncasecmp(text, "start", len) == 0 ? 0 : len == 3 && strncasecmp(text, "end", len) == 0 ? 1 : -1;
        p = scan_space(s, p);
        if (i < 0 || seen[i] || scan_peek(s, p) != ':')
            return scan_refuse(s, c, from);
        seen[i] = true;
        p = scan_space(s, p + 1);
        if (scan_word(s, p, "null"))
            p += 4;
        else if (scan_peek(s, p) != '"' || (p = scan_text(s, p, &text, &len)) == NULL ||
                 !read_bound(c->field->range_of, text, len, &open[i], &at[i]))
            return scan_refuse(s, c, from);
        p = scan_space(s, p);
        if (scan_peek(s, p) == ',') {
            p = scan_space(s, p + 1);
            if (scan_peek(s, p) == '}')
                return scan_syntax(s, p, "a name in quotes");
        } else if (scan_peek(s, p) != '}')
            return scan_syntax(s, p, "a comma or }");
    }
    return !open[0] && !open[1] && at[0] >= at[1] ? scan_refuse(s, c, from) : p + 1;
}

const char *value_range(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) == '"')
        return range_text(s, c, p);
    return scan_peek(s, p) == '{' ? range_object(s, c, p, p + 1) : scan_refuse(s, c, p);
}
