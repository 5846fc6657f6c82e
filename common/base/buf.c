#include "common/base/buf.h"

char *buf_reserve(struct buf *b, size_t n)
{
    if (n > b->max || b->len > b->max - n)
        return NULL;
    size_t need = b->len + n + 1; /* the NUL */
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        if (cap > b->max + 1)
            cap = b->max + 1;
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    char *at = buf_reserve(b, n);
    if (at == NULL)
        return -1;
    if (n > 0)
        memcpy(at, p, n);
    at[n] = '\0';
    b->len += n;
    return 0;
}

int buf_puts(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

VPRINTF_LIKE(2)
static int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *at = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (at != NULL) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return at == NULL ? -1 : 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return rc;
}

static void within(int rc, const struct buf *b)
{
    if (rc != 0) {
        fprintf(stderr, "bqfleet: a buffer of at most %zu bytes overflowed: this is a bug\n", b->max);
        abort();
    }
}

void buf_xadd(struct buf *b, const void *p, size_t n)
{
    within(buf_add(b, p, n), b);
}

void buf_xputs(struct buf *b, const char *s)
{
    within(buf_puts(b, s), b);
}

void buf_xprintf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_vprintf(b, fmt, ap);
    va_end(ap);
    within(rc, b);
}

void buf_xint(struct buf *b, int64_t v)
{
    char digits[20], *p = digits + sizeof(digits);
    uint64_t n = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    if (v < 0)
        *--p = '-';
    buf_xadd(b, p, (size_t)(digits + sizeof(digits) - p));
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

void buf_shrink(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0) {
        buf_free(b);
        return;
    }
    b->data = xrealloc(b->data, n + 1);
    b->data[n] = '\0';
    b->len = n;
    b->cap = n;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->max);
}

char *buf_steal(struct buf *b)
{
    char *s = b->data ? b->data : xstrdup("");
    *b = BUF_INIT(b->max);
    return s;
}
