#include "coordinator/items_internal.h"

#include "common/base/utf8.h"

/* Items that are lines: NDJSON, and plain lines whose text is the key. */

static const char bom[] = "\xef\xbb\xbf";

/* Takes up to the line's end from the source. What goes beyond LIMIT_PAYLOAD is dropped. 1: the line is complete. */
static int take_line(struct items *it)
{
    struct source *s = &it->source;
    const char *from = s->data + s->at;
    const char *end = memchr(from, '\n', s->len - s->at);
    size_t n = end != NULL ? (size_t)(end - from) : s->len - s->at;
    size_t room = it->text.max - it->text.len;
    if (n > room)
        it->text_over = true;
    buf_xadd(&it->text, from, size_min(n, room));
    s->at += n + (end != NULL ? 1 : 0);
    return end != NULL ? 1 : 0;
}

/* The next line in it->text, without its end. 1, 0 at the end of the source, 2, -1. */
static int read_line(struct items *it, struct error *err)
{
    for (;;) {
        int rc = source_fill(&it->source, err);
        if (rc == SOURCE_LATER)
            return 2;
        if (rc == SOURCE_FAILED)
            return error_prefix(err, "%s", it->name);
        if (rc == SOURCE_END && it->text.len == 0)
            return 0;
        if (rc == SOURCE_DATA && !take_line(it))
            continue;
        it->line++;
        if (it->line == 1 && it->text.len >= 3 && memcmp(it->text.data, bom, 3) == 0)
            buf_consume(&it->text, 3);
        if (!it->text_over && it->text.len > 0 && it->text.data[it->text.len - 1] == '\r')
            it->text.len--;
        return 1;
    }
}

static bool is_blank(const struct buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->data[i] != ' ' && b->data[i] != '\t')
            return false;
    return true;
}

/* --- a line that is too long: its key may still be told ------------------------------------------------------------------------------------ */

/* The end of the JSON value at p, or NULL when the text ends first. No validation: strings and brackets are enough to find it. */
static const char *value_end(const char *p, const char *end)
{
    int depth = 0;
    bool in_string = false;
    for (; p < end; p++) {
        if (in_string) {
            if (*p == '\\')
                p++;
            else if (*p == '"')
                in_string = false;
        } else if (*p == '"') {
            in_string = true;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']' || *p == ',') {
            if (depth == 0)
                return p;
            depth -= *p != ',';
        }
    }
    return NULL;
}

/* The member `name` of an object of which only the beginning is there: "NAME": VALUE pairs up to where the text breaks off. */
static doc *find_in_prefix(const char *text, size_t len, const char *name)
{
    const char *end = text + len, *p = memchr(text, '{', len);
    while (p != NULL && p < end) {
        const char *begin = p + 1, *stop = value_end(begin, end);
        if (stop == NULL)
            return NULL;
        AUTO(buf_free) struct buf member = BUF_INIT(LIMIT_DOCUMENT);
        buf_xputs(&member, "{");
        buf_xadd(&member, begin, (size_t)(stop - begin));
        buf_xputs(&member, "}");
        struct error ignored = ERROR_INIT;
        AUTO(doc_free_auto) doc *d = doc_parse(member.data, member.len, "member", &ignored);
        const doc *found = d != NULL ? doc_field(d, name) : NULL;
        if (found != NULL)
            return doc_ref((doc *)found);
        p = *stop == ',' ? stop : NULL;
    }
    return NULL;
}

/* --- items --------------------------------------------------------------------------------------------------------------------------------------- */

/* Such an item fails alone, with its key when that stands before the place where the line was cut. */
static int ndjson_over(struct items *it)
{
    struct error ignored = ERROR_INIT;
    AUTO(doc_free_auto) doc *key = find_in_prefix(it->text.data, it->text.len, it->spec->items.key);
    if (key != NULL && items_key_from(it, key, &ignored) != 0)
        buf_clear(&it->key);
    it->over = true;
    return 1;
}

static int ndjson_item(struct items *it, struct error *err)
{
    if (it->text_over)
        return ndjson_over(it);
    struct error why = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(it->text.data, it->text.len, "item", &why);
    if (d == NULL) {
        const char *text = why.text;
        int column = 0, skip = 0;
        if (sscanf(text, "item: line %*d, column %d: %n", &column, &skip) == 1 && skip > 0)
            text += skip;
        return items_error(it, err, "not a line of JSON: column %d: %s", column, text);
    }
    if (doc_type(d) != DOC_OBJECT)
        return items_error(it, err, "not a JSON object; an item is a line like {\"%s\": ...}", it->spec->items.key);
    if (items_key_from(it, doc_field(d, it->spec->items.key), err) != 0)
        return -1;
    return buf_add(&it->payload, it->text.data, it->text.len) == 0 ? 1 : ndjson_over(it);
}

static int plain_item(struct items *it, struct error *err)
{
    uint32_t code;
    for (size_t i = 0, n; i < it->text.len; i += n) {
        n = utf8_step(it->text.data + i, it->text.len - i, &code);
        if (n == 0 && it->text_over && it->text.len - i < 4)
            break; /* a character that was cut with the line */
        if (n == 0 || code == 0)
            return items_error(it, err, "not a line of UTF-8 text (byte %zu)", i + 1);
    }
    items_key_add(it, it->text.data, it->text.len);
    it->over = it->text_over;
    return 1;
}

int items_line_next(struct items *it, struct error *err)
{
    for (;;) {
        int rc = read_line(it, err);
        if (rc != 1)
            return rc;
        it->place = it->line;
        bool blank = !it->text_over && is_blank(&it->text);
        if (!blank)
            rc = it->spec->items.kind == ITEMS_FILE ? ndjson_item(it, err) : plain_item(it, err);
        buf_clear(&it->text);
        it->text_over = false;
        if (!blank)
            return rc;
    }
}
