#include "common/base/error.h"

static const char *const kind_names[] = {"none", "retry", "quota", "task", "fatal", "usage"};

static void mark_truncated(char *text, size_t size)
{
    memcpy(text + size - 4, "...", 4);
}

int error_vset(struct error *err, enum error_kind kind, int code, const char *fmt, va_list ap)
{
    if (err == NULL)
        return -1;
    err->kind = kind;
    err->code = code;
    err->retry_after_ms = 0;
    err->reason[0] = '\0';
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    if (n >= (int)sizeof(err->text))
        mark_truncated(err->text, sizeof(err->text));
    return -1;
}

int error_set(struct error *err, enum error_kind kind, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, kind, code, fmt, ap);
    va_end(ap);
    return -1;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
    if (err == NULL)
        return -1;
    char old[sizeof(err->text)];
    memcpy(old, err->text, sizeof(old));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : size_min((size_t)n, sizeof(err->text) - 1);
    int m = snprintf(err->text + used, sizeof(err->text) - used, ": %s", old);
    if (m >= (int)(sizeof(err->text) - used))
        mark_truncated(err->text, sizeof(err->text));
    return -1;
}

void error_reason(struct error *err, const char *reason)
{
    if (err != NULL)
        snprintf(err->reason, sizeof(err->reason), "%s", reason);
}

const char *error_kind_name(enum error_kind kind)
{
    assert((size_t)kind < ARRAY_LEN(kind_names));
    return kind_names[kind];
}

enum error_kind error_kind_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kind_names); i++)
        if (strcmp(kind_names[i], name) == 0)
            return (enum error_kind)i;
    return ERR_NONE;
}
