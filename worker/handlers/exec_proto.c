#include "worker/handlers/exec_proto.h"

static int want_bool(struct span v, const char *name, bool *out, struct error *err)
{
    *out = span_is(v, "true");
    return *out || span_is(v, "false") || span_is(v, "null") ? 0 : error_set(err, ERR_TASK, 0, "\"%s\" is neither true nor false", name);
}

static int member(struct span key, struct span v, struct answer *a, struct error *err)
{
    bool null = span_is(v, "null");
    if (span_is(key, "\"item\"")) {
        a->has_item = true;
        return span_int(v, &a->item) == 0 ? 0 : error_set(err, ERR_TASK, 0, "\"item\" is no item's number");
    }
    if (span_is(key, "\"row\"")) {
        if (!null && v.p[0] != '{')
            return error_set(err, ERR_TASK, 0, "\"row\" is no object");
        a->row = null ? (struct span){0} : v;
    } else if (span_is(key, "\"rows\"")) {
        if (!null && v.p[0] != '[')
            return error_set(err, ERR_TASK, 0, "\"rows\" is no array");
        a->rows = null ? (struct span){0} : v;
    } else if (span_is(key, "\"error\"")) {
        a->error = null ? (struct span){0} : v;
    } else if (span_is(key, "\"done\"")) {
        return want_bool(v, "done", &a->done, err);
    } else if (span_is(key, "\"ready\"")) {
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
    struct json_scan s = json_scan_of(line, len);
    struct span key, value;
    bool first = true;
    int rc;
    *a = (struct answer){0};
    json_space(&s);
    if (s.p == s.end || *s.p != '{')
        return 1;
    s.p++;
    while ((rc = json_member(&s, &first, &key, &value)) == 1)
        if (member(key, value, a, err) != 0)
            return -1;
    json_space(&s);
    return rc == 0 && s.p == s.end ? 0 : malformed(err);
}

int answer_next_row(struct span *rows, struct span *row)
{
    struct json_scan s = json_scan_of(rows->p, rows->n);
    json_space(&s);
    if (s.p == s.end || *s.p == ']')
        return 0;
    s.p++; /* '[' or ',' */
    json_space(&s);
    if (s.p < s.end && *s.p == ']')
        return rows->p[0] == '[' ? 0 : -1;
    if (s.p == s.end || *s.p != '{' || json_value(&s, row) != 0)
        return -1;
    json_space(&s);
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

#define PUT(out, text) buf_xadd(out, text, sizeof(text) - 1)

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
    json_put_string(out, r->run, strlen(r->run));
    buf_xputs(out, ",\"batch\":");
    json_put_string(out, r->batch, strlen(r->batch));
    buf_xputs(out, ",\"params\":");
    put_doc(out, r->params);
    buf_xputs(out, ",\"schema\":");
    put_doc(out, r->schema_doc);
    buf_xputs(out, "}\n");
}

void proto_item(struct buf *out, const struct item *i, int64_t deadline_ms)
{
    PUT(out, "{\"item\":");
    buf_xint(out, i->index);
    PUT(out, ",\"key\":");
    json_put_string(out, item_key(i), i->key_len);
    PUT(out, ",\"attempt\":");
    buf_xint(out, i->attempts + 1);
    PUT(out, ",\"deadline_ms\":");
    buf_xint(out, deadline_ms);
    PUT(out, ",\"payload\":");
    if (i->payload_len == 0) {
        PUT(out, "null");
    } else {
        /* A line is a message: breaks between the payload's tokens (inside strings JSON allows none) become spaces. */
        size_t from = out->len;
        buf_xadd(out, item_payload(i), i->payload_len);
        for (char *p = out->data + from, *end = out->data + out->len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL;)
            *p++ = ' ';
    }
    PUT(out, "}\n");
}
