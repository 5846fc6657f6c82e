#ifndef BQF_TESTS_BQ_SQL_WORDS_H
#define BQF_TESTS_BQ_SQL_WORDS_H

#include "tests/bq/sql_part.h"

/* What reading a statement word by word is made of. */

struct parser { const char *p; struct stmt *s; };

/* Whether this text stands here; then it is passed. */
static inline bool is(struct parser *in, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(in->p, text, n) != 0)
        return false;
    in->p += n;
    return true;
}

static inline bool is_fmt(struct parser *in, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline bool is_fmt(struct parser *in, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return is(in, text);
}

static inline bool quoted(struct parser *in, const char **name, size_t *len)
{
    if (*in->p != '`')
        return false;
    const char *end = strchr(in->p + 1, '`');
    if (end == NULL || end == in->p + 1)
        return false;
    *name = in->p + 1;
    *len = (size_t)(end - *name);
    in->p = end + 1;
    return true;
}

static inline bool part(struct parser *in, char *out, size_t size)
{
    const char *name = NULL;
    size_t len = 0;
    if (!quoted(in, &name, &len) || len >= size)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

static inline bool ref(struct parser *in, struct bq_ref *out)
{
    return part(in, out->project, sizeof(out->project)) && is(in, ".") && part(in, out->dataset, sizeof(out->dataset)) && is(in, ".") &&
           part(in, out->table, sizeof(out->table));
}

static inline bool same_ref(struct parser *in, const struct bq_ref *want)
{
    struct bq_ref got;
    return ref(in, &got) && bq_ref_equal(&got, want);
}

/* PREFIX`a`, PREFIX`b`: captured, to the last that looks so. */
static inline bool column_list(struct parser *in, const char *prefix, struct names *out)
{
    const char *name = NULL;
    size_t len = 0;
    struct parser next = *in;
    while (is(&next, out->count ? ", " : "") && is(&next, prefix) && quoted(&next, &name, &len)) {
        names_add(out, name, len);
        in->p = next.p;
    }
    return out->count > 0;
}

/* "IFNULL(LPAD(FORMAT_DATE('%Y%m', ALIAS.`d`), 6, '0'), '__NULL__')", or that of integer ranges. Captured the first time, wanted again afterwards. */
bool part_id(struct parser *in, const char *alias);
/* sql_parse.c: a term of an order; the fence; typed NULLs for all columns; the columns. */
bool parse_term(struct parser *);
bool parse_fence(struct parser *);
bool parse_nulls(struct parser *);
bool parse_columns(struct parser *, const char *prefix);

#endif
