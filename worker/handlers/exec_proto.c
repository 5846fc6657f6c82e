#include "worker/handlers/exec_proto.h"

#include "common/base/utf8.h"

/* --- scanning ---------------------------------------------------------------------------------------------------------------------------- */

struct scan { const char *p, *end; };

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n'))
        s->p++;
}

/* At a quote: goes past the closing one. */
static int skip_string(struct scan *s)
{
    const char *p = s->p + 1;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(s->end - p));
        if (quote == NULL)
            return -1;
        size_t slashes = 0;
        while (quote - slashes > s->p + 1 && quote[-1 - (ptrdiff_t)slashes] == '\\')
            slashes++;
        p = quote + 1;
        if (slashes % 2 == 0)
            break;
    }
    s->p = p;
    return 0;
}

/* Brackets are counted, not matched: the row scanner, or the document parser, reads what is between them. */
static int skip_nested(struct scan *s)
{
    int64_t depth = 0;
    while (s->p < s->end) {
        switch (*s->p) {
        case '"':
            if (skip_string(s) != 0)
                return -1;
            continue;
        case '{': case '[':
            depth++;
            break;
        case '}': case ']':
            if (--depth == 0) {
                s->p++;
                return 0;
            }
            break;
        default:
            break;
        }
        s->p++;
    }
    return -1;
}

static int skip_value(struct scan *s, struct span *out)
{
    skip_space(s);
    const char *from = s->p;
    if (s->p == s->end)
        return -1;
    if (*s->p == '"') {
        if (skip_string(s) != 0)
            return -1;
    } else if (*s->p == '{' || *s->p == '[') {
        if (skip_nested(s) != 0)
            return -1;
    } else {
        while (s->p < s->end && *s->p != ',' && *s->p != '}' && *s->p != ']' && (unsigned char)*s->p > ' ')
            s->p++;
    }
    *out = (struct span){.p = from, .n = (size_t)(s->p - from)};
    return out->n > 0 ? 0 : -1;
}

static bool is(struct span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static int parse_index(struct span s, int64_t *out)
{
    if (s.n == 0 || s.n > 18)
        return -1;
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        n = n * 10 + (s.p[i] - '0');
    }
    *out = n;
    return 0;
}

static int want_bool(struct span v, const char *name, bool *out, struct error *err)
{
    *out = is(v, "true");
    return *out || is(v, "false") || is(v, "null") ? 0 : error_set(err, ERR_TASK, 0, "\"%s\" is neither true nor false", name);
}

static int member(struct span key, struct span v, struct answer *a, struct error *err)
{
    bool null = is(v, "null");
    if (is(key, "\"item\"")) {
        a->has_item = true;
        return parse_index(v, &a->item) == 0 ? 0 : error_set(err, ERR_TASK, 0, "\"item\" is no item's number");
    }
    if (is(key, "\"row\"")) {
        if (!null && v.p[0] != '{')
            return error_set(err, ERR_TASK, 0, "\"row\" is no object");
        a->row = null ? (struct span){0} : v;
    } else if (is(key, "\"rows\"")) {
        if (!null && v.p[0] != '[')
            return error_set(err, ERR_TASK, 0, "\"rows\" is no array");
        a->rows = null ? (struct span){0} : v;
    } else if (is(key, "\"error\"")) {
        a->error = null ? (struct span){0} : v;
    } else if (is(key, "\"done\"")) {
        return want_bool(v, "done", &a->done, err);
    } else if (is(key, "\"ready\"")) {
        return want_bool(v, "ready", &a->ready, err);
    }
    return 0; /* progress, and whatever comes later */
}

static int malformed(struct error *err)
{
    return error_set(err, ERR_TASK, 0, "the line is no whole JSON object");
}

int answer_parse(const char *line, size_t len, struct answer *a, struct error *err)
{
    struct scan s = {.p = line, .end = line + len};
    *a = (struct answer){0};
    skip_space(&s);
    if (s.p == s.end || *s.p != '{')
        return 1;
    s.p++;
    skip_space(&s);
    if (s.p < s.end && *s.p == '}')
        s.p++;
    else
        for (;;) {
            struct span key, value;
            skip_space(&s);
            if (s.p == s.end || *s.p != '"' || skip_value(&s, &key) != 0)
                return malformed(err);
            skip_space(&s);
            if (s.p == s.end || *s.p++ != ':' || skip_value(&s, &value) != 0)
                return malformed(err);
            if (member(key, value, a, err) != 0)
                return -1;
            skip_space(&s);
            if (s.p == s.end)
                return malformed(err);
            char c = *s.p++;
            if (c == '}')
                break;
            if (c != ',')
                return malformed(err);
        }
    skip_space(&s);
    return s.p == s.end ? 0 : malformed(err);
}

int answer_next_row(struct span *rows, struct span *row)
{
    struct scan s = {.p = rows->p, .end = rows->p + rows->n};
    skip_space(&s);
    if (s.p == s.end || *s.p == ']')
        return 0;
    s.p++; /* '[' or ',' */
    skip_space(&s);
    if (s.p < s.end && *s.p == ']')
        return rows->p[0] == '[' ? 0 : -1;
    if (s.p == s.end || *s.p != '{' || skip_value(&s, row) != 0)
        return -1;
    skip_space(&s);
    if (s.p == s.end || (*s.p != ',' && *s.p != ']'))
        return -1;
    *rows = (struct span){.p = s.p, .n = (size_t)(s.end - s.p)};
    return 1;
}

enum answer_error answer_error(struct span error, char **text)
{
    struct error err = ERROR_INIT;
    doc *d = error.p[0] == '{' ? doc_parse(error.p, error.n, "error", &err) : NULL;
    enum answer_error kind = ANSWER_TASK;
    if (d != NULL) {
        const char *name = doc_str(d, "kind", "task");
        kind = strcmp(name, "retry") == 0 ? ANSWER_RETRY : strcmp(name, "fatal") == 0 ? ANSWER_FATAL : ANSWER_TASK;
        *text = xstrdup(doc_str(d, "message", "the handler gave no message"));
    } else {
        *text = xstrndup(error.p, size_min(error.n, LIMIT_DEAD_TEXT));
    }
    doc_free(d);
    return kind;
}

/* --- writing -------------------------------------------------------------------------------------------------------------------------------- */

void proto_string(struct buf *out, const char *p, size_t n)
{
    buf_xadd(out, "\"", 1);
    for (size_t i = 0, from = 0; i <= n;) {
        if (i < n && (unsigned char)p[i] >= 0x20 && (unsigned char)p[i] < 0x7f && p[i] != '"' && p[i] != '\\') {
            i++;
            continue;
        }
        buf_xadd(out, p + from, i - from);
        if (i == n)
            break;
        uint32_t code;
        size_t step = utf8_step(p + i, n - i, &code);
        if (step == 0)
            buf_xputs(out, UTF8_REPLACEMENT);
        else if (step > 1)
            buf_xadd(out, p + i, step);
        else if (p[i] == '"' || p[i] == '\\')
            buf_xprintf(out, "\\%c", p[i]);
        else
            buf_xprintf(out, "\\u%04x", (unsigned)(unsigned char)p[i]);
        i += step ? step : 1;
        from = i;
    }
    buf_xadd(out, "\"", 1);
}

static void put_doc(struct buf *out, const doc *d)
{
    if (d == NULL) {
        buf_xputs(out, "null");
        return;
    }
    char *text = doc_text(d);
    buf_xputs(out, text);
    free(text);
}

void proto_hello(struct buf *out, const struct record *r)
{
    buf_xputs(out, "{\"hello\":1,\"run\":");
    proto_string(out, r->run, strlen(r->run));
    buf_xputs(out, ",\"batch\":");
    proto_string(out, r->batch, strlen(r->batch));
    buf_xputs(out, ",\"params\":");
    put_doc(out, r->params);
    buf_xputs(out, ",\"schema\":");
    put_doc(out, r->schema_doc);
    buf_xputs(out, "}\n");
}

void proto_item(struct buf *out, const struct item *i, int64_t deadline_ms)
{
    buf_xprintf(out, "{\"item\":%" PRId64 ",\"key\":", i->index);
    proto_string(out, item_key(i), i->key_len);
    buf_xprintf(out, ",\"attempt\":%" PRId64 ",\"deadline_ms\":%" PRId64 ",\"payload\":", i->attempts + 1, deadline_ms);
    if (i->payload_len == 0) {
        buf_xputs(out, "null");
    } else {
        /* A line is a message: breaks between the payload's tokens (inside strings JSON allows none) become spaces. */
        size_t from = out->len;
        buf_xadd(out, item_payload(i), i->payload_len);
        for (char *p = out->data + from, *end = out->data + out->len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL;)
            *p++ = ' ';
    }
    buf_xputs(out, "}\n");
}
