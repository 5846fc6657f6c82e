#include "common/base/base.h"

void free_ptr(void *address_of_pointer)
{
    void **p = address_of_pointer;
    free(*p);
    *p = NULL;
}

static void *checked(void *p, size_t size)
{
    if (p == NULL && size > 0) {
        fprintf(stderr, "bqfleet: out of memory (%zu bytes)\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return checked(malloc(size ? size : 1), size);
}

void *xcalloc(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size ? size : 1), size);
}

void *xrealloc(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1), size);
}

void *xreallocarray(void *p, size_t count, size_t size)
{
    return checked(reallocarray(p, count ? count : 1, size ? size : 1), size);
}

void *xmemdup(const void *p, size_t size)
{
    void *copy = xmalloc(size);
    if (size > 0)
        memcpy(copy, p, size);
    return copy;
}

char *xstrdup(const char *s)
{
    return checked(strdup(s), 1);
}

char *xstrndup(const char *s, size_t n)
{
    return checked(strndup(s, n), 1);
}

char *xasprintf(const char *fmt, ...)
{
    char *out = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : out, 1);
}
