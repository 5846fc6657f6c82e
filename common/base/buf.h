#ifndef BQF_BASE_BUF_H
#define BQF_BASE_BUF_H

#include "common/base/base.h"

/*
 * A growing byte buffer, born with a ceiling. A value: `struct buf b = BUF_INIT(LIMIT_X);` then buf_free(&b).
 * data is always followed by a NUL once anything was added, so text can be read as a C string.
 */
struct buf {
    char *data;
    size_t len, cap;
    size_t max; /* bytes; adding beyond it fails and changes nothing */
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

/* 0, or -1 when the ceiling would be passed (nothing was added). */
int buf_add(struct buf *, const void *p, size_t n) MUST_CHECK;
int buf_puts(struct buf *, const char *s) MUST_CHECK;
int buf_printf(struct buf *, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
/* Room for n more bytes at data + len, or NULL beyond the ceiling; then add to len what was written. */
char *buf_reserve(struct buf *, size_t n) MUST_CHECK;
/* For text that is bounded by its caller: passing the ceiling is our bug and aborts. */
void buf_xadd(struct buf *, const void *p, size_t n);
void buf_xputs(struct buf *, const char *s);
void buf_xprintf(struct buf *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_xint(struct buf *, int64_t); /* in decimal: what is written for each item or row is not printed */
/* Drops the first n bytes. */
void buf_consume(struct buf *, size_t n);
/* Keeps the first n bytes, and gives the memory of the others back. */
void buf_shrink(struct buf *, size_t n);
void buf_clear(struct buf *); /* keeps the memory */
void buf_free(struct buf *);  /* leaves an empty buffer with the same ceiling */
/* The bytes as a NUL-terminated string that the caller frees; the buffer is empty afterwards. */
char *buf_steal(struct buf *);

#endif
