#ifndef BQF_BASE_BASE_H
#define BQF_BASE_BASE_H

/* What every file needs: sizes, memory that never fails, locals that release themselves. */

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define VPRINTF_LIKE(fmt) __attribute__((format(printf, fmt, 0)))
#define MUST_CHECK __attribute__((warn_unused_result))

/* A local that releases itself: AUTO(free_ptr) char *s = NULL; the function gets the address of the variable. */
#define AUTO(release) __attribute__((cleanup(release)))
void free_ptr(void *address_of_pointer);
/* DEFINE_AUTO(buf_free, struct buf *) makes buf_free_auto, for AUTO(buf_free_auto) on a pointer variable. */
#define DEFINE_AUTO(release, type) \
    static inline void release##_auto(type *p) { if (*p) release(*p); }

/* Out of memory ends the process: redelivery makes a crash safe, a half-done state would not be. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
void *xreallocarray(void *p, size_t count, size_t size);
void *xmemdup(const void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

static inline size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t size_max(size_t a, size_t b) { return a > b ? a : b; }
static inline int64_t i64_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t i64_max(int64_t a, int64_t b) { return a > b ? a : b; }

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

#endif
