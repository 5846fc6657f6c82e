#include "common/host/lines.h"

static const struct bqfleet_text null_text = {"null", 4};

/* A string's meaning, in scratch; where it stands there, as that may move. */
struct piece { size_t at, len; };

static int unquote(struct span v, struct buf *scratch, struct piece *out)
{
    out->at = scratch->len;
    if (json_get_string(v, scratch) != 0)
        return -1;
    out->len = scratch->len - out->at;
    return 0;
}

static struct bqfleet_text text_of(const struct buf *scratch, struct piece p)
{
    return (struct bqfleet_text){p.len ? scratch->data + p.at : "", p.len};
}

struct parts { bool hello, item; struct piece run, batch, key; struct bqfleet_text params, schema, payload; int64_t index, attempt, deadline_ms; };

static int take(struct parts *p, struct span key, struct span v, struct buf *scratch)
{
    struct bqfleet_text json = {v.p, v.n};
    if (span_is(key, "\"item\"")) {
        p->item = true;
        return span_int(v, &p->index);
    }
    if (span_is(key, "\"key\""))
        return unquote(v, scratch, &p->key);
    if (span_is(key, "\"attempt\""))
        return span_int(v, &p->attempt);
    if (span_is(key, "\"deadline_ms\""))
        return span_int(v, &p->deadline_ms);
    if (span_is(key, "\"payload\""))
        p->payload = json;
    else if (span_is(key, "\"hello\""))
        p->hello = true;
    else if (span_is(key, "\"run\""))
        return unquote(v, scratch, &p->run);
    else if (span_is(key, "\"batch\""))
        return unquote(v, scratch, &p->batch);
    else if (span_is(key, "\"params\""))
        p->params = json;
    else if (span_is(key, "\"schema\""))
        p->schema = json;
    return 0; /* and whatever comes later */
}

int line_parse(const char *line, size_t len, struct bqfleet_hello *hello, struct bqfleet_item *item, struct buf *scratch, struct error *err)
{
    struct json_scan s = json_scan_of(line, len);
    struct parts p = {.params = null_text, .schema = null_text, .payload = null_text};
    struct span key, value;
    bool first = true;
    buf_clear(scratch);
    json_space(&s);
    int rc = s.p < s.end && *s.p++ == '{' ? 1 : -1;
    while (rc == 1 && (rc = json_member(&s, &first, &key, &value)) == 1)
        if (take(&p, key, value, scratch) != 0)
            rc = -1;
    if (rc != 0 || p.hello == p.item)
        return error_set(err, ERR_TASK, 0, "a line from the worker that is neither a hello nor an item: %.*s", (int)size_min(len, 200), line);
    *hello = (struct bqfleet_hello){.size = sizeof(*hello), .run = text_of(scratch, p.run), .batch = text_of(scratch, p.batch), .params = p.params,
                                    .schema = p.schema};
    *item = (struct bqfleet_item){.size = sizeof(*item), .index = p.index, .key = text_of(scratch, p.key), .payload = p.payload, .attempt = p.attempt,
                                  .deadline_ms = p.deadline_ms};
    return p.hello ? LINE_HELLO : LINE_ITEM;
}
