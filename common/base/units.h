#ifndef BQF_BASE_UNITS_H
#define BQF_BASE_UNITS_H

#include "common/base/error.h"

/* Texts with units. Each returns 0, or -1 with ERR_USAGE whose text says what is allowed. */
int units_duration_ms(const char *text, int64_t *ms, struct error *);   /* "250ms", "2s", "5m", "1h", "7d"; "0" */
int units_duration_us(const char *text, int64_t *us, struct error *);   /* the same, and "5us" */
int units_size(const char *text, int64_t *bytes, struct error *);       /* "512", "64KiB", "8MiB", "1GiB", "10MB" */
/* "3" -> count 3, percent < 0; "2.5%" -> percent 2.5, count < 0. */
int units_tolerance(const char *text, int64_t *count, double *percent, struct error *);
int units_int(const char *text, int64_t min, int64_t max, int64_t *out, struct error *);

/* For people: "1.5 s", "3 min 20 s", "2 h 5 min"; "12.3 MB"; "1,234,567". Returns out. */
const char *units_show_ms(int64_t ms, char *out, size_t size);
const char *units_show_bytes(int64_t bytes, char *out, size_t size);
const char *units_show_count(int64_t n, char *out, size_t size);
/* RFC 3339 in UTC with milliseconds: 2026-01-31T12:00:00.000Z (25 bytes with the NUL). */
const char *units_show_time(int64_t wall_ms, char *out, size_t size);

/* The name nearest to `word` (edit distance at most 2, or a third of its length), or NULL. */
const char *units_nearest(const char *word, const char *const *names, size_t count);

#endif
