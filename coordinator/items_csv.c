#include "coordinator/items_internal.h"

#include "common/base/units.h"

/*
 * CSV as RFC 4180 has it, with a header: comma, quotes doubled inside quotes, line breaks inside quotes, LF or CRLF, a BOM is skipped. Each
 * record becomes a JSON object of strings. A pure state machine over bytes, so that a pipe may pause anywhere.
 */
enum csv_state { CSV_FIELD, CSV_PLAIN, CSV_QUOTED, CSV_QUOTE, CSV_CR };

struct csv {
    enum csv_state state;
    char **names;             /* of the header */
    char **members;           /* "name": as JSON */
    size_t count, key_column;
    bool has_header;
    struct buf field;
    bool field_over;
    size_t column;            /* of the field being read */
    int64_t record_line, quote_line;
    size_t bom;               /* bytes of it seen; 3: past it */
};

struct csv *csv_new(void)
{
    struct csv *c = xcalloc(1, sizeof(*c));
    c->field = BUF_INIT(LIMIT_PAYLOAD);
    c->record_line = 1;
    return c;
}

void csv_free(struct csv *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++) {
        free(c->names[i]);
        free(c->members[i]);
    }
    free(c->names);
    free(c->members);
    buf_free(&c->field);
    free(c);
}

static int add_name(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    if (c->count == LIMIT_COLUMNS || c->field_over)
        return items_error(it, err, "a header of more than %d columns, or with a name that has no end", LIMIT_COLUMNS);
    if (c->field.len == 0)
        return items_error(it, err, "the header's column %zu has no name", c->count + 1);
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->names[i], c->field.data) == 0)
            return items_error(it, err, "the header names column \"%.200s\" twice", c->field.data);
    AUTO(buf_free) struct buf member = BUF_INIT(LIMIT_DOCUMENT);
    if (strlen(c->field.data) != c->field.len || items_json_string(&member, c->field.data, c->field.len) != 0)
        return items_error(it, err, "the header's column %zu is not UTF-8 text", c->count + 1);
    buf_xputs(&member, ":");
    c->names = xreallocarray(c->names, c->count + 1, sizeof(*c->names));
    c->members = xreallocarray(c->members, c->count + 1, sizeof(*c->members));
    c->names[c->count] = xstrndup(c->field.data, c->field.len);
    c->members[c->count++] = buf_steal(&member);
    return 0;
}

static int end_header(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    const char *key = it->spec->items.key;
    c->has_header = true;
    for (c->key_column = 0; c->key_column < c->count; c->key_column++)
        if (strcmp(c->names[c->key_column], key) == 0)
            return 0;
    const char *nearest = units_nearest(key, (const char *const *)c->names, c->count);
    if (nearest != NULL)
        return items_error(it, err, "the header has no column \"%s\" (items.key); did you mean \"%s\"?", key, nearest);
    return items_error(it, err, "the header has no column \"%s\" (items.key)", key);
}

static int add_value(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    if (c->column >= c->count)
        return items_error(it, err, "more fields than the %zu columns of the header", c->count);
    if (c->column == c->key_column)
        items_key_add(it, c->field.data, c->field.len);
    if (c->field_over)
        it->over = true;
    if (it->over)
        return 0;
    const char *member = c->members[c->column];
    int rc = buf_add(&it->payload, c->column == 0 ? "{" : ",", 1);
    if (rc == 0)
        rc = buf_puts(&it->payload, member);
    if (rc == 0)
        rc = items_json_string(&it->payload, c->field.data, c->field.len);
    if (rc == -2)
        return items_error(it, err, "column \"%s\" is not UTF-8 text", c->names[c->column]);
    it->over = rc != 0;
    return 0;
}

static int end_field(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    it->place = c->record_line;
    buf_xadd(&c->field, "", 0);
    int rc = c->has_header ? add_value(it, err) : add_name(it, err);
    buf_clear(&c->field);
    c->field_over = false;
    c->column++;
    return rc;
}

/* 1: it->payload is an item. 0: it was the header, or an empty line. */
static int end_record(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    bool blank = c->column == 0 && c->state == CSV_FIELD;
    it->place = c->record_line;
    if (blank)
        return 0;
    if (end_field(it, err) != 0)
        return -1;
    size_t fields = c->column;
    c->column = 0;
    if (!c->has_header)
        return end_header(it, err);
    if (fields < c->count)
        return items_error(it, err, "%zu field%s, and the header has %zu column%s", fields, fields == 1 ? "" : "s", c->count, c->count == 1 ? "" : "s");
    if (!it->over && buf_puts(&it->payload, "}") != 0)
        it->over = true;
    if (it->key.len == 0 || strlen(it->key.data) != it->key.len)
        return items_error(it, err, "column \"%s\", which is the key, is %s", it->spec->items.key, it->key.len == 0 ? "empty" : "no text");
    return 1;
}

static void add_byte(struct csv *c, char byte)
{
    if (buf_add(&c->field, &byte, 1) != 0)
        c->field_over = true;
}

/* A byte outside quotes. 1: an item is complete; 0: go on; -1. */
static int plain_byte(struct items *it, char byte, struct error *err)
{
    struct csv *c = it->csv;
    if (c->state == CSV_CR && byte != '\n') { /* a lone CR is data */
        c->state = CSV_PLAIN;
        add_byte(c, '\r');
    }
    if (byte == '\n') {
        int rc = end_record(it, err);
        c->state = CSV_FIELD;
        c->record_line = it->line + 1;
        return rc;
    }
    if (byte == ',') {
        c->state = CSV_FIELD;
        return end_field(it, err);
    }
    if (byte == '"' && c->state == CSV_FIELD) {
        c->state = CSV_QUOTED;
        c->quote_line = it->line;
        return 0;
    }
    if (byte == '\r') {
        /* An empty line may end in CR too: without a field begun it stays an empty line. */
        c->state = c->state == CSV_FIELD && c->column == 0 ? CSV_FIELD : CSV_CR;
        return 0;
    }
    c->state = CSV_PLAIN;
    add_byte(c, byte);
    return 0;
}

static int take_byte(struct items *it, char byte, struct error *err)
{
    struct csv *c = it->csv;
    if (c->state == CSV_QUOTED) {
        if (byte == '"')
            c->state = CSV_QUOTE;
        else
            add_byte(c, byte);
        return 0;
    }
    if (c->state == CSV_QUOTE) {
        if (byte == '"') {
            add_byte(c, '"');
            c->state = CSV_QUOTED;
            return 0;
        }
        it->place = it->line;
        if (byte != ',' && byte != '\n' && byte != '\r')
            return items_error(it, err, "text after a closing quote; a quote inside quotes is written twice");
    }
    return plain_byte(it, byte, err);
}

/* The source has ended, perhaps without a last line break. */
static int end_of_source(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    if (c->state == CSV_QUOTED) {
        it->place = c->quote_line;
        return items_error(it, err, "a quote is opened in this line and never closed");
    }
    if (c->state == CSV_CR)
        c->state = CSV_PLAIN;
    int rc = end_record(it, err);
    c->state = CSV_FIELD;
    if (rc == 0 && !c->has_header)
        return items_error(it, err, "no header: the first line must name the columns");
    return rc;
}

static const char bom[] = "\xef\xbb\xbf";

/* The first bytes looked like a BOM and are none: they are data. */
static int not_a_bom(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    size_t seen = c->bom;
    c->bom = 3;
    for (size_t i = 0; i < seen; i++)
        if (take_byte(it, bom[i], err) < 0)
            return -1;
    return 0;
}

int items_csv_next(struct items *it, struct error *err)
{
    struct csv *c = it->csv;
    struct source *s = &it->source;
    for (;;) {
        int rc = source_fill(s, err);
        if (rc == SOURCE_LATER)
            return 2;
        if (rc == SOURCE_FAILED)
            return error_prefix(err, "%s", it->name);
        if (rc == SOURCE_END)
            return end_of_source(it, err);
        if (it->line == 0)
            it->line = 1;
        while (s->at < s->len) {
            char byte = s->data[s->at++];
            if (c->bom < 3) {
                if (byte == bom[c->bom]) {
                    c->bom++;
                    continue;
                }
                rc = not_a_bom(it, err);
            }
            if (rc < 0)
                return rc;
            rc = take_byte(it, byte, err);
            it->line += byte == '\n';
            if (rc != 0)
                return rc;
        }
    }
}
