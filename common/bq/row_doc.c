#include "common/bq/row_doc.h"

#include <math.h>
#include <time.h>

#define SAFE_INTEGER INT64_C(9007199254740992) /* 2^53: up to it every JSON reader keeps an integer exact; larger ones are texts */

/* Microseconds since 1970 as RFC 3339; a text that is no such number stays what it is. */
static doc *timestamp_doc(const char *text)
{
    struct tm tm;
    char out[64], *end;
    int64_t us = strtoll(text, &end, 10);
    if (*end != '\0' || end == text)
        return doc_string(text);
    int64_t part = us % US_PER_S < 0 ? us % US_PER_S + US_PER_S : us % US_PER_S;
    time_t seconds = (time_t)((us - part) / US_PER_S);
    if (gmtime_r(&seconds, &tm) == NULL)
        return doc_string(text);
    snprintf(out, sizeof(out), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
             tm.tm_sec, (int)part);
    return doc_string(out);
}

static doc *json_doc(const char *text)
{
    struct error ignored = ERROR_INIT;
    doc *d = doc_parse(text, strlen(text), "json", &ignored);
    return d != NULL ? d : doc_string(text);
}

static doc *integer_doc(const doc *v, const char *text)
{
    int64_t n = doc_int(v, NULL, INT64_MAX);
    return n >= -SAFE_INTEGER && n <= SAFE_INTEGER ? doc_integer(n) : doc_string(text);
}

static doc *real_doc(const char *text)
{
    char *end;
    double n = strtod(text, &end);
    return *end == '\0' && end != text && isfinite(n) ? doc_number(n) : doc_string(text);
}

static doc *row_doc(const struct field *fields, size_t count, const doc *row);

static doc *value_doc(const struct field *f, const doc *v)
{
    if (f->type == FIELD_STRUCT)
        return row_doc(f->fields, f->count, v);
    const char *text = doc_str(v, NULL, NULL);
    if (text == NULL) /* null, or a service that does not send texts */
        return doc_copy(v);
    switch (f->type) {
    case FIELD_INT64:
        return integer_doc(v, text);
    case FIELD_FLOAT64:
        return real_doc(text);
    case FIELD_BOOL:
        return doc_boolean(strcmp(text, "true") == 0);
    case FIELD_TIMESTAMP:
        return timestamp_doc(text);
    case FIELD_JSON:
        return json_doc(text);
    default:
        return doc_string(text);
    }
}

static doc *cell_doc(const struct field *f, const doc *v)
{
    if (doc_type(v) == DOC_NULL || doc_type(v) == DOC_NONE)
        return f->mode == MODE_REPEATED ? doc_array() : doc_null();
    if (f->mode != MODE_REPEATED)
        return value_doc(f, v);
    doc *list = doc_array();
    for (size_t i = 0; i < doc_len(v); i++)
        doc_add(list, cell_doc(&(struct field){.type = f->type, .fields = f->fields, .count = f->count}, doc_field(doc_at(v, i), "v")));
    return list;
}

/* {"f":[{"v":...}]} */
static doc *row_doc(const struct field *fields, size_t count, const doc *row)
{
    doc *object = doc_object();
    const doc *cells = doc_field(row, "f");
    for (size_t i = 0; i < count; i++)
        doc_set(object, fields[i].name, cell_doc(&fields[i], doc_field(doc_at(cells, i), "v")));
    return object;
}

doc *bq_row_doc(const struct schema *schema, const doc *row)
{
    return row_doc(schema->fields, schema->count, row);
}
