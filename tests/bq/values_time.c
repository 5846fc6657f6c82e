#include "tests/bq/internal.h"

#include <ctype.h>

/* Dates and times as load jobs read them, and in one canonical form whose texts are in the order of time: fractions without zeros at the end. */

static bool number(const char **p, const char *end, int min, int max, int64_t *v)
{
    int n = 0;
    for (*v = 0; n < max && *p < end && isdigit((unsigned char)**p); n++)
        *v = *v * 10 + *(*p)++ - '0';
    return n >= min;
}

static bool sign_char(const char **p, const char *end, char c)
{
    if (*p >= end || **p != c)
        return false;
    (*p)++;
    return true;
}

static bool leap(int64_t y) { return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0); }

static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t p = y - 1;
    return p * 365 + p / 4 - p / 100 + p / 400 + before[m - 1] + (m > 2 && leap(y)) + d - 1 - 719162;
}

static bool read_date(const char **p, const char *end, int64_t date[3])
{
    static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (!number(p, end, 4, 4, &date[0]) || !sign_char(p, end, '-') || !number(p, end, 1, 2, &date[1]) || !sign_char(p, end, '-') ||
        !number(p, end, 1, 2, &date[2]))
        return false;
    return date[0] >= 1 && date[1] >= 1 && date[1] <= 12 && date[2] >= 1 && date[2] <= length[date[1] - 1] + (date[1] == 2 && leap(date[0]));
}

/* Microseconds of the day. */
static bool read_time(const char **p, const char *end, int64_t *us)
{
    int64_t h, m, s, fraction = 0, scale = US_PER_S;
    if (!number(p, end, 1, 2, &h) || !sign_char(p, end, ':') || !number(p, end, 1, 2, &m) || !sign_char(p, end, ':') || !number(p, end, 1, 2, &s))
        return false;
    if (sign_char(p, end, '.'))
        for (int n = 0; *p < end && isdigit((unsigned char)**p); n++, (*p)++) {
            if (n == 6)
                return false;
            scale /= 10;
            fraction += (**p - '0') * scale;
        }
    *us = ((h * 60 + m) * 60 + s) * US_PER_S + fraction;
    return h < 24 && m < 60 && s < 60;
}

/* Minutes east; nothing is UTC. */
static bool read_zone(const char **p, const char *end, int64_t *minutes)
{
    *minutes = 0;
    sign_char(p, end, ' ');
    if (*p == end || (end - *p == 1 && (**p == 'Z' || **p == 'z')) || (end - *p == 3 && memcmp(*p, "UTC", 3) == 0)) {
        *p = end;
        return true;
    }
    bool west = sign_char(p, end, '-');
    int64_t h, m = 0;
    if ((!west && !sign_char(p, end, '+')) || !number(p, end, 1, 2, &h) || (sign_char(p, end, ':') && !number(p, end, 2, 2, &m)))
        return false;
    *minutes = (h * 60 + m) * (west ? -1 : 1);
    return h <= 14 && m < 60;
}

static void put_time(char *out, size_t size, int64_t us)
{
    int n = snprintf(out, size, "%02d:%02d:%02d", (int)(us / (3600 * US_PER_S)), (int)(us / (60 * US_PER_S) % 60), (int)(us / US_PER_S % 60));
    if (us % US_PER_S == 0)
        return;
    n += snprintf(out + n, size - (size_t)n, ".%06d", (int)(us % US_PER_S));
    while (out[n - 1] == '0')
        out[--n] = '\0';
}

doc *value_clean_time(enum field_type type, const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    int64_t date[3] = {1970, 1, 1}, us = 0, zone = 0;
    char out[64], clock[32];
    if (type != FIELD_TIME && !read_date(&p, end, date))
        return NULL;
    bool more = type == FIELD_TIME || (type != FIELD_DATE && p < end);
    if (more && type != FIELD_TIME && !sign_char(&p, end, 'T') && !sign_char(&p, end, 't') && !sign_char(&p, end, ' '))
        return NULL;
    if (more && !read_time(&p, end, &us))
        return NULL;
    if (type == FIELD_TIMESTAMP && !read_zone(&p, end, &zone))
        return NULL;
    if (p != end)
        return NULL;
    if (type == FIELD_TIMESTAMP)
        return doc_integer(days_of(date[0], date[1], date[2]) * 86400 * US_PER_S + us - zone * 60 * US_PER_S);
    put_time(clock, sizeof(clock), us);
    if (type == FIELD_TIME)
        return doc_string(clock);
    snprintf(out, sizeof(out), "%04d-%02d-%02d%s%s", (int)date[0], (int)date[1], (int)date[2], type == FIELD_DATE ? "" : "T",
             type == FIELD_DATE ? "" : clock);
    return doc_string(out);
}

char *value_timestamp_text(int64_t us)
{
    char clock[32];
    int64_t day = us / (86400 * US_PER_S), rest = us % (86400 * US_PER_S);
    if (rest < 0) {
        rest += 86400 * US_PER_S;
        day--;
    }
    int64_t y = day / 366 + 1970 - 1, m = 12; /* never too late */
    if (day < 0)
        y = 1970 + day / 365 - 1;
    while (days_of(y + 1, 1, 1) <= day)
        y++;
    while (days_of(y, m, 1) > day)
        m--;
    put_time(clock, sizeof(clock), rest);
    return xasprintf("%04d-%02d-%02dT%sZ", (int)y, (int)m, (int)(day - days_of(y, m, 1) + 1), clock);
}
