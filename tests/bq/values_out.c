#include "tests/bq/internal.h"

#include <math.h>
#include <strings.h>

#include <jansson.h>

/* Rows: one block each, the cells first and their texts behind them; and values as the REST API writes them. */

static bool as_json(const struct field *f)
{
    return f->mode == MODE_REPEATED || f->type == FIELD_STRUCT || f->type == FIELD_JSON;
}

char *value_text(const struct field *f, const doc *clean, size_t *len)
{
    char *text = NULL;
    if (doc_type(clean) == DOC_NULL)
        return NULL;
    if (as_json(f))
        text = doc_text(clean);
    else if (doc_type(clean) == DOC_INT)
        text = xasprintf("%" PRId64, (int64_t)json_integer_value(clean));
    else if (doc_type(clean) == DOC_REAL)
        text = xasprintf("%.17g", json_real_value(clean));
    else if (doc_type(clean) == DOC_BOOL)
        text = xstrdup(doc_bool(clean, NULL, false) ? "true" : "false");
    if (text) {
        *len = strlen(text);
        return text;
    }
    *len = json_string_length(clean);
    text = xmalloc(*len + 1);
    memcpy(text, json_string_value(clean), *len + 1);
    return text;
}

/* A cell's clean value again. */
static doc *cell_clean(const struct field *f, const struct cell *c)
{
    if (c->text == NULL)
        return doc_null();
    if (as_json(f)) {
        doc *d = doc_parse(c->text, c->len, "a cell", NULL);
        assert(d);
        return d;
    }
    switch (f->type) {
    case FIELD_INT64: case FIELD_TIMESTAMP: return doc_integer(strtoll(c->text, NULL, 10));
    case FIELD_FLOAT64: return strchr("NI", c->text[c->text[0] == '-']) ? doc_string(c->text) : doc_number(strtod(c->text, NULL));
    case FIELD_BOOL: return doc_boolean(c->text[0] == 't');
    default: return doc_stringn(c->text, c->len);
    }
}

/* As tests read it: only timestamps are written otherwise. */
static doc *show(const struct field *f, const doc *clean, bool element)
{
    if (doc_type(clean) == DOC_NULL)
        return doc_null();
    if (f->mode == MODE_REPEATED && !element) {
        doc *out = doc_array();
        for (size_t i = 0; i < doc_len(clean); i++)
            doc_add(out, show(f, doc_at(clean, i), true));
        return out;
    }
    if (f->type == FIELD_STRUCT) {
        doc *out = doc_object();
        for (size_t i = 0; i < f->count; i++)
            doc_set(out, f->fields[i].name, show(&f->fields[i], doc_field(clean, f->fields[i].name), false));
        return out;
    }
    if (f->type == FIELD_TIMESTAMP) {
        AUTO(free_ptr) char *text = value_timestamp_text(json_integer_value(clean));
        return doc_string(text);
    }
    return doc_copy(clean);
}

doc *value_doc(const struct field *f, const struct cell *c)
{
    AUTO(doc_free_auto) doc *clean = cell_clean(f, c);
    return show(f, clean, false);
}

/* A double as BigQuery writes a timestamp's seconds: 1.7040672E9. */
static void seconds_text(int64_t us, char *out, size_t size)
{
    char plain[64];
    double v = (double)us / 1e6;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(plain, sizeof(plain), "%.*e", digits, v);
        if (strtod(plain, NULL) == v)
            break;
    }
    char *e = strchr(plain, 'e');
    *e = '\0';
    snprintf(out, size, "%.30sE%d", plain, atoi(e + 1));
}

static doc *rest_value(const struct field *f, const doc *clean, bool element, bool int64_timestamp)
{
    char text[64];
    if (doc_type(clean) == DOC_NULL)
        return doc_null();
    if (f->mode == MODE_REPEATED && !element) {
        doc *out = doc_array();
        for (size_t i = 0; i < doc_len(clean); i++)
            doc_add(out, doc_set(doc_object(), "v", rest_value(f, doc_at(clean, i), true, int64_timestamp)));
        return out;
    }
    if (f->type == FIELD_STRUCT) {
        doc *cells = doc_array();
        for (size_t i = 0; i < f->count; i++)
            doc_add(cells, doc_set(doc_object(), "v", rest_value(&f->fields[i], doc_field(clean, f->fields[i].name), false, int64_timestamp)));
        return doc_set(doc_object(), "f", cells);
    }
    if (f->type == FIELD_TIMESTAMP && !int64_timestamp) {
        seconds_text(json_integer_value(clean), text, sizeof(text));
        return doc_string(text);
    }
    if (f->type == FIELD_JSON) {
        AUTO(free_ptr) char *json = doc_text(clean);
        return doc_string(json);
    }
    if (f->type == FIELD_FLOAT64 && doc_type(clean) == DOC_REAL) {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof(text), "%.*g", digits, json_real_value(clean));
            if (strtod(text, NULL) == json_real_value(clean))
                break;
        }
        bool whole = text[strcspn(text, ".eE")] == '\0'; /* 5.0, as BigQuery writes it */
        return whole ? doc_string(strcat(text, ".0")) : doc_string(text);
    }
    size_t len = 0;
    struct field scalar = {.name = f->name, .type = f->type};
    AUTO(free_ptr) char *plain = value_text(&scalar, clean, &len);
    return doc_stringn(plain, len);
}

doc *value_rest(const struct field *f, const struct cell *c, bool int64_timestamp)
{
    AUTO(doc_free_auto) doc *clean = cell_clean(f, c);
    return doc_set(doc_object(), "v", rest_value(f, clean, false, int64_timestamp));
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------------------ */

struct row *row_new(const struct cell *cells, size_t count)
{
    size_t size = sizeof(struct row) + sizeof(struct cell) * count;
    for (size_t i = 0; i < count; i++)
        size += cells[i].text ? cells[i].len + 1 : 0;
    struct row *row = xmalloc(size);
    row->count = count;
    char *at = (char *)(row->cells + count);
    for (size_t i = 0; i < count; i++) {
        row->cells[i] = (struct cell){NULL, 0};
        if (cells[i].text == NULL)
            continue;
        row->cells[i] = (struct cell){at, cells[i].len};
        memcpy(at, cells[i].text, cells[i].len);
        at[cells[i].len] = '\0';
        at += cells[i].len + 1;
    }
    return row;
}

/* The column of a name; handlers keep their order, so the next one is looked at first. */
static size_t find_column(const struct schema *s, const char *name, size_t guess)
{
    if (guess < s->count && strcasecmp(s->fields[guess].name, name) == 0)
        return guess;
    for (size_t i = 0; i < s->count; i++)
        if (strcasecmp(s->fields[i].name, name) == 0)
            return i;
    return s->count;
}

struct row *row_read(const struct schema *s, const doc *object, bool unknown_ok, struct error *why)
{
    struct row *row = NULL;
    AUTO(free_ptr) const doc **given = xcalloc(s->count + 1, sizeof(*given));
    AUTO(free_ptr) struct cell *cells = xcalloc(s->count + 1, sizeof(*cells));
    bool good = doc_type(object) == DOC_OBJECT;
    if (!good)
        error_set(why, ERR_TASK, 0, "Parser terminated before end of string");
    size_t at = 0;
    for (void *it = good ? doc_first(object) : NULL; it && good; it = doc_next(object, it)) {
        at = find_column(s, doc_key(it), at);
        good = at < s->count || unknown_ok;
        if (at < s->count)
            given[at++] = doc_value(it);
        else if (!good)
            error_set(why, ERR_TASK, 0, "No such field: %s.", doc_key(it));
    }
    for (size_t i = 0; i < s->count && good; i++) {
        doc *clean = value_clean(&s->fields[i], given[i], why);
        good = clean != NULL;
        if (clean)
            cells[i].text = value_text(&s->fields[i], clean, &cells[i].len);
        doc_free(clean);
    }
    if (good)
        row = row_new(cells, s->count);
    for (size_t i = 0; i < s->count; i++)
        free((void *)(uintptr_t)cells[i].text);
    return row;
}
