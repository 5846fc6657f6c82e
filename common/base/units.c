#include "common/base/units.h"

#include <errno.h>
#include <strings.h>
#include <time.h>

struct unit {
    const char *name;
    int64_t scale;
};

/* Digits after the point that count: enough for "1.5GiB", few enough that scale * fraction fits in 64 bits. */
#define FRACTION_DIGITS 6
#define FRACTION_ONE INT64_C(1000000)

/* Reads "12" or "12.5": whole part, millionths, and what follows. false: no number, or one beyond int64. */
static bool decimal(const char *text, int64_t *whole, int64_t *millionths, const char **rest)
{
    const char *p = text;
    *whole = *millionths = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*whole, 10, whole) || __builtin_add_overflow(*whole, *p - '0', whole))
            return false;
    if (*p == '.') {
        const char *first = ++p;
        int64_t weight = FRACTION_ONE / 10;
        for (; *p >= '0' && *p <= '9'; p++, weight /= 10)
            *millionths += weight * (*p - '0');
        if (p == first || p - first > FRACTION_DIGITS)
            return false;
    }
    *rest = p;
    return true;
}

static bool scaled(const char *text, const struct unit *units, size_t count, int64_t *out)
{
    int64_t whole, millionths;
    const char *rest;
    if (!decimal(text, &whole, &millionths, &rest))
        return false;
    while (*rest == ' ')
        rest++;
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        if (strcasecmp(rest, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(whole, units[i].scale, &value) ||
            __builtin_add_overflow(value, units[i].scale * millionths / FRACTION_ONE, &value))
            return false;
        *out = value;
        return true;
    }
    return false;
}

int units_duration_ms(const char *text, int64_t *ms, struct error *err)
{
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    if (!scaled(text, units, ARRAY_LEN(units), ms))
        return error_set(err, ERR_USAGE, 0, "\"%.200s\" is not a duration; write e.g. 250ms, 30s, 5m, 1h", text);
    if (*ms > INT64_MAX / US_PER_MS) /* timers count in microseconds */
        return error_set(err, ERR_USAGE, 0, "\"%.200s\" is too long a duration", text);
    return 0;
}

int units_duration_us(const char *text, int64_t *us, struct error *err)
{
    static const struct unit units[] = {{"us", 1}};
    int64_t ms;
    if (scaled(text, units, ARRAY_LEN(units), us))
        return 0;
    if (units_duration_ms(text, &ms, err) != 0)
        return -1;
    *us = ms * US_PER_MS;
    return 0;
}

int units_size(const char *text, int64_t *bytes, struct error *err)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"kB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", INT64_C(1000000000000)},
        {"KiB", 1 << 10},
        {"MiB", 1 << 20},
        {"GiB", 1 << 30},
        {"TiB", INT64_C(1) << 40},
    };
    if (scaled(text, units, ARRAY_LEN(units), bytes))
        return 0;
    return error_set(err, ERR_USAGE, 0, "\"%.200s\" is not a size; write e.g. 512, 64KiB, 8MiB, 1GiB, 10MB", text);
}

int units_tolerance(const char *text, int64_t *count, double *percent, struct error *err)
{
    int64_t whole, millionths;
    const char *rest;
    bool good = decimal(text, &whole, &millionths, &rest);
    if (good && *rest == '\0' && rest[-1] != '.' && strchr(text, '.') == NULL) {
        *count = whole;
        *percent = -1;
        return 0;
    }
    if (good && strcmp(rest, "%") == 0 && (whole < 100 || (whole == 100 && millionths == 0))) {
        *count = -1;
        *percent = (double)whole + (double)millionths / (double)FRACTION_ONE;
        return 0;
    }
    return error_set(err, ERR_USAGE, 0, "\"%.200s\" is neither a number of items nor a percentage; write e.g. 0, 3 or 2.5%%", text);
}

int units_int(const char *text, int64_t min, int64_t max, int64_t *out, struct error *err)
{
    const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return error_set(err, ERR_USAGE, 0, "\"%.200s\" is not a whole number", text);
    errno = 0;
    int64_t value = strtoll(text, NULL, 10);
    if (errno != 0 || value < min || value > max) {
        if (min == INT64_MIN || max == INT64_MAX)
            return error_set(err, ERR_USAGE, 0, "%.200s is %s", text,
                             errno != 0 ? "beyond 64 bits" : value < min ? "too small" : "too large");
        return error_set(err, ERR_USAGE, 0, "%.200s is not between %" PRId64 " and %" PRId64, text, min, max);
    }
    *out = value;
    return 0;
}

static uint64_t magnitude(int64_t n, const char **sign)
{
    *sign = n < 0 ? "-" : "";
    return n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
}

static void show_pair(char *out, size_t size, const char *sign, uint64_t big, const char *big_unit, uint64_t small, const char *small_unit)
{
    if (small == 0)
        snprintf(out, size, "%s%" PRIu64 " %s", sign, big, big_unit);
    else
        snprintf(out, size, "%s%" PRIu64 " %s %" PRIu64 " %s", sign, big, big_unit, small, small_unit);
}

const char *units_show_ms(int64_t ms, char *out, size_t size)
{
    const char *sign;
    uint64_t n = magnitude(ms, &sign);
    uint64_t tenths = n / 100 + (n % 100 >= 50), seconds = n / 1000 + (n % 1000 >= 500), minutes = (seconds + 30) / 60,
             hours = (minutes + 30) / 60;
    if (n < 1000)
        snprintf(out, size, "%s%" PRIu64 " ms", sign, n);
    else if (tenths < 600 && tenths % 10 != 0)
        snprintf(out, size, "%s%" PRIu64 ".%" PRIu64 " s", sign, tenths / 10, tenths % 10);
    else if (tenths < 600)
        snprintf(out, size, "%s%" PRIu64 " s", sign, tenths / 10);
    else if (seconds < 3600)
        show_pair(out, size, sign, seconds / 60, "min", seconds % 60, "s");
    else if (minutes < 1440)
        show_pair(out, size, sign, minutes / 60, "h", minutes % 60, "min");
    else
        show_pair(out, size, sign, hours / 24, "d", hours % 24, "h");
    return out;
}

const char *units_show_bytes(int64_t bytes, char *out, size_t size)
{
    static const char *const names[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    const char *sign;
    uint64_t n = magnitude(bytes, &sign);
    if (n < 1000) {
        snprintf(out, size, "%s%" PRIu64 " B", sign, n);
        return out;
    }
    double value = (double)n / 1000;
    size_t i = 0;
    for (; value >= 999.95 && i + 1 < ARRAY_LEN(names); i++) /* 999.95 would be shown as 1000.0 */
        value /= 1000;
    snprintf(out, size, "%s%.1f %s", sign, value, names[i]);
    return out;
}

const char *units_show_count(int64_t n, char *out, size_t size)
{
    const char *sign;
    char digits[24], grouped[40];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, magnitude(n, &sign));
    char *at = grouped;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    snprintf(out, size, "%s%s", sign, grouped);
    return out;
}

const char *units_show_time(int64_t wall_ms, char *out, size_t size)
{
    int64_t ms = wall_ms % 1000, seconds = wall_ms / 1000;
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    time_t at = (time_t)seconds;
    struct tm tm = {0};
    gmtime_r(&at, &tm);
    snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
             tm.tm_sec, (int)ms);
    return out;
}

#define NEAR_MAX 64 /* bytes of a word that is compared; longer ones have no neighbours */

/* Edit distance where a swap of two neighbours counts once: that is how words are mistyped. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t table[3][NEAR_MAX + 1];
    size_t *before = table[0], *last = table[1], *row = table[2];
    for (size_t j = 0; j <= b_len; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = size_min(size_min(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = size_min(best, before[j - 2] + 1);
            row[j] = best;
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_len];
}

const char *units_nearest(const char *word, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t len = strlen(word), best = size_max(2, len / 3) + 1;
    for (size_t i = 0; i < count && len <= NEAR_MAX; i++) {
        size_t name_len = strlen(names[i]);
        if (name_len > NEAR_MAX)
            continue;
        size_t d = distance(word, len, names[i], name_len);
        if (d < best && d < size_min(len, name_len)) { /* something must be left of both: "a" is not near to "no" */
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
