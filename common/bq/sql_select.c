#include "common/bq/sql_group.h"

#include <strings.h>

/*
 * A user's SELECT, read word by word as far as needed to know where strings and comments end: what begins the statement, where it ends, and that it leaves
 * no parenthesis, string or comment open. Backslashes escape in every kind of string, raw ones too, as far as the end of the string goes.
 */
struct reader {
    const char *p, *end, *begin;
    const char *first;      /* token of the statement */
    const char *semicolon;  /* the first one */
    int depth;
    struct error *err;
};

static int line_of(const struct reader *r, const char *at)
{
    int line = 1;
    for (const char *p = r->begin; p < at; p++)
        line += *p == '\n';
    return line;
}

static int refuse(const struct reader *r, const char *at, const char *what)
{
    return error_set(r->err, ERR_USAGE, 0, "line %d: %s", line_of(r, at), what);
}

static bool starts(const struct reader *r, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(r->end - r->p) >= n && memcmp(r->p, text, n) == 0;
}

/* Behind the closing quote. */
static int pass_quoted(struct reader *r, const char *quote)
{
    const char *from = r->p;
    size_t n = strlen(quote);
    for (r->p += n; r->p < r->end; r->p += *r->p == '\\' && r->p + 1 < r->end ? 2 : 1) {
        if (starts(r, quote)) {
            r->p += n;
            return 0;
        }
    }
    return refuse(r, from, "a string or a quoted name is not closed");
}

/* 1: a comment was passed; 0: there is none. */
static int pass_comment(struct reader *r)
{
    const char *from = r->p;
    if (starts(r, "--") || *r->p == '#') {
        const char *eol = memchr(r->p, '\n', (size_t)(r->end - r->p));
        r->p = eol ? eol + 1 : r->end;
        return 1;
    }
    if (!starts(r, "/*"))
        return 0;
    for (r->p += 2; r->p < r->end; r->p++) {
        if (starts(r, "*/")) {
            r->p += 2;
            return 1;
        }
    }
    return refuse(r, from, "a comment is not closed");
}

static int pass_token(struct reader *r)
{
    static const char *const quotes[] = {"'''", "\"\"\"", "'", "\"", "`"};
    if (r->semicolon != NULL && *r->p != ';')
        return refuse(r, r->p, "something stands behind the semicolon; a query handler is one SELECT");
    if (r->first == NULL && *r->p != ';')
        r->first = r->p;
    for (size_t i = 0; i < ARRAY_LEN(quotes); i++)
        if (starts(r, quotes[i]))
            return pass_quoted(r, quotes[i]);
    if (*r->p == ';' && r->semicolon == NULL)
        r->semicolon = r->p;
    r->depth += (*r->p == '(') - (*r->p == ')');
    if (r->depth < 0)
        return refuse(r, r->p, "a parenthesis is closed that was not opened");
    r->p++;
    return 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int check_first(const struct reader *r)
{
    static const char *const words[] = {"SELECT", "WITH", "FROM"};
    if (r->first == NULL)
        return error_set(r->err, ERR_USAGE, 0, "there is no statement in it");
    size_t n = 0;
    while (r->first + n < r->end && is_letter(r->first[n]))
        n++;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (n == strlen(words[i]) && strncasecmp(r->first, words[i], n) == 0)
            return 0;
    if (*r->first == '(')
        return 0;
    error_set(r->err, ERR_USAGE, 0, "line %d: it begins with %.*s; a query handler is one SELECT, whose rows are written for it (no DML, DDL or script)",
              line_of(r, r->first), (int)size_min(n ? n : 1, 40), r->first);
    return -1;
}

int sql_select_text(const char *text, size_t len, struct buf *out, struct error *err)
{
    struct reader r = {.p = text, .end = text + len, .begin = text, .err = err};
    if (memchr(text, '\0', len) != NULL)
        return error_set(err, ERR_USAGE, 0, "it holds a NUL byte");
    while (r.p < r.end) {
        if (is_space(*r.p)) {
            r.p++;
            continue;
        }
        int rc = pass_comment(&r);
        if (rc < 0 || (rc == 0 && pass_token(&r) != 0))
            return -1;
    }
    if (check_first(&r) != 0)
        return -1;
    if (r.depth > 0)
        return error_set(err, ERR_USAGE, 0, "a parenthesis is not closed");
    size_t n = (size_t)((r.semicolon ? r.semicolon : r.end) - text);
    while (n > 0 && is_space(text[n - 1]))
        n--;
    buf_xadd(out, text, n);
    return 0;
}
