#include "common/base/schema.h"

#include <strings.h>

#include "common/base/buf.h"
#include "common/base/limits.h"

/* The first name of a type is its name in SQL, the last one the name that the REST API gives it. */
static const struct {
    enum field_type type;
    const char *names[3];
} types[] = {
    {FIELD_STRING, {"STRING", NULL, NULL}},
    {FIELD_BYTES, {"BYTES", NULL, NULL}},
    {FIELD_INT64, {"INT64", "INTEGER", NULL}},
    {FIELD_FLOAT64, {"FLOAT64", "FLOAT", NULL}},
    {FIELD_BOOL, {"BOOL", "BOOLEAN", NULL}},
    {FIELD_NUMERIC, {"NUMERIC", NULL, NULL}},
    {FIELD_BIGNUMERIC, {"BIGNUMERIC", NULL, NULL}},
    {FIELD_DATE, {"DATE", NULL, NULL}},
    {FIELD_DATETIME, {"DATETIME", NULL, NULL}},
    {FIELD_TIME, {"TIME", NULL, NULL}},
    {FIELD_TIMESTAMP, {"TIMESTAMP", NULL, NULL}},
    {FIELD_JSON, {"JSON", NULL, NULL}},
    {FIELD_GEOGRAPHY, {"GEOGRAPHY", NULL, NULL}},
    {FIELD_INTERVAL, {"INTERVAL", NULL, NULL}},
    {FIELD_RANGE, {"RANGE", NULL, NULL}},
    {FIELD_STRUCT, {"STRUCT", "RECORD", NULL}},
};
static const char *const modes[] = {"NULLABLE", "REQUIRED", "REPEATED"};

const char *field_type_name(enum field_type type)
{
    assert((size_t)type < ARRAY_LEN(types) && types[type].type == type);
    return types[type].names[0];
}

static const char *rest_name(enum field_type type)
{
    const char *const *names = types[type].names;
    return names[1] != NULL ? names[1] : names[0];
}

static bool type_parse(const char *name, size_t len, enum field_type *type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (size_t k = 0; types[i].names[k] != NULL; k++)
            if (strlen(types[i].names[k]) == len && strncasecmp(types[i].names[k], name, len) == 0) {
                *type = types[i].type;
                return true;
            }
    return false;
}

static bool mode_parse(const char *name, size_t len, enum field_mode *mode)
{
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (strlen(modes[i]) == len && strncasecmp(modes[i], name, len) == 0) {
            *mode = (enum field_mode)i;
            return true;
        }
    return false;
}

static void fields_free(struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fields_free(fields[i].fields, fields[i].count);
        free(fields[i].name);
        free(fields[i].default_value);
    }
    free(fields);
}

void schema_free(struct schema *s)
{
    if (s == NULL)
        return;
    fields_free(s->fields, s->count);
    free(s);
}

/* Names that would need escapes in JSON or in SQL's backticks do not exist in BigQuery. */
static bool name_is_sane(const char *name)
{
    if (name[0] == '\0')
        return false;
    for (const char *p = name; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || strchr("\"\\`", *p) != NULL)
            return false;
    return true;
}

/* What holds of every field, however it was written. */
static int field_check(const struct field *f, struct error *err)
{
    if (!name_is_sane(f->name))
        return error_set(err, ERR_FATAL, 0, "schema: \"%s\" is no name for a column", f->name);
    if (f->type == FIELD_STRUCT && f->count == 0)
        return error_set(err, ERR_FATAL, 0, "schema: column %s is a STRUCT without fields", f->name);
    if (f->max_length < 0 || f->precision < 0 || f->scale < 0 || f->scale > f->precision)
        return error_set(err, ERR_FATAL, 0, "schema: column %s has an impossible length, precision or scale", f->name);
    if (f->type == FIELD_RANGE && f->range_of != FIELD_DATE && f->range_of != FIELD_DATETIME && f->range_of != FIELD_TIMESTAMP)
        return error_set(err, ERR_FATAL, 0, "schema: column %s is a RANGE of neither DATE, DATETIME nor TIMESTAMP", f->name);
    return 0;
}

/* ---- The short form: NAME:TYPE[(N[,N])][<TYPE>] [MODE] ---- */

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

static size_t word_len(const char *p)
{
    return strcspn(p, " \t,:(<>)");
}

static const char *short_parameters(const char *p, struct field *f)
{
    if (*p == '<') {
        size_t n = word_len(p + 1);
        if (!type_parse(p + 1, n, &f->range_of) || p[1 + n] != '>')
            return NULL;
        return p + n + 2;
    }
    char *end = NULL;
    long long first = strtoll(p + 1, &end, 10), second = 0;
    if (*end == ',')
        second = strtoll(end + 1, &end, 10);
    if (*end != ')' || first <= 0 || second < 0)
        return NULL;
    if (f->type == FIELD_STRING || f->type == FIELD_BYTES)
        f->max_length = first;
    else if (f->type == FIELD_NUMERIC || f->type == FIELD_BIGNUMERIC) {
        f->precision = first;
        f->scale = second;
    } else
        return NULL;
    return end + 1;
}

/* Reads one field at *text and moves *text to the comma or the end behind it. */
static int short_field(const char **text, struct field *f, struct error *err)
{
    const char *p = skip_space(*text), *whole = p;
    size_t n = strcspn(p, ":,");
    if (p[n] != ':')
        return error_set(err, ERR_FATAL, 0, "schema: \"%.60s\" is not NAME:TYPE", whole);
    size_t name_len = n;
    while (name_len > 0 && p[name_len - 1] == ' ')
        name_len--;
    f->name = xstrndup(p, name_len);
    p = skip_space(p + n + 1);
    n = word_len(p);
    if (!type_parse(p, n, &f->type) || f->type == FIELD_STRUCT)
        return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.*s\" is not a type of the short form", f->name, (int)size_min(n, 60), p);
    p += n;
    if (*p == '(' || *p == '<') {
        const char *after = short_parameters(p, f);
        if (after == NULL)
            return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.60s\" does not suit its type", f->name, p);
        p = after;
    }
    p = skip_space(p);
    n = word_len(p);
    if (n > 0 && !mode_parse(p, n, &f->mode))
        return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.*s\" is not NULLABLE, REQUIRED or REPEATED", f->name,
                         (int)size_min(n, 60), p);
    p = skip_space(p + n);
    if (*p != ',' && *p != '\0')
        return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.60s\" is too much", f->name, p);
    *text = p;
    return field_check(f, err);
}

static int short_list(const char *text, struct field **fields, size_t *count, struct error *err)
{
    for (;;) {
        if (*count == LIMIT_COLUMNS)
            return error_set(err, ERR_FATAL, 0, "schema: more than %d columns", LIMIT_COLUMNS);
        *fields = xreallocarray(*fields, *count + 1, sizeof(**fields));
        struct field *f = &(*fields)[(*count)++];
        *f = (struct field){.type = FIELD_STRING};
        if (short_field(&text, f, err) != 0)
            return -1;
        if (*text == '\0')
            return 0;
        text++;
    }
}

/* ---- The form of the REST API ---- */

static int fields_parse(const doc *list, struct field **fields, size_t *count, int depth, size_t *total, struct error *err);

static int field_parse(const doc *d, struct field *f, int depth, size_t *total, struct error *err)
{
    const char *name = doc_str(d, "name", NULL);
    if (name == NULL)
        return error_set(err, ERR_FATAL, 0, "schema: a field without a name");
    f->name = xstrdup(name);
    const char *type = doc_str(d, "type", ""), *mode = doc_str(d, "mode", "NULLABLE");
    if (!type_parse(type, strlen(type), &f->type))
        return error_set(err, ERR_FATAL, 0, "schema: column %s: unknown type \"%.60s\"", name, type);
    if (!mode_parse(mode, strlen(mode), &f->mode))
        return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.60s\" is not NULLABLE, REQUIRED or REPEATED", name, mode);
    f->max_length = doc_int(d, "maxLength", 0);
    f->precision = doc_int(d, "precision", 0);
    f->scale = doc_int(d, "scale", 0);
    const char *value = doc_str(d, "defaultValueExpression", NULL);
    if (value != NULL) {
        f->has_default = true;
        f->default_value = xstrdup(value);
    }
    const char *of = doc_str(d, "rangeElementType.type", NULL);
    if (of != NULL && !type_parse(of, strlen(of), &f->range_of))
        return error_set(err, ERR_FATAL, 0, "schema: column %s: unknown type \"%.60s\"", name, of);
    if (f->type == FIELD_STRUCT && fields_parse(doc_get(d, "fields"), &f->fields, &f->count, depth + 1, total, err) != 0)
        return -1;
    return field_check(f, err);
}

static int name_order(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

static int refuse_repeated(const struct field *fields, size_t count, struct error *err)
{
    AUTO(free_ptr) const char **names = xcalloc(count + 1, sizeof(*names));
    for (size_t i = 0; i < count; i++)
        names[i] = fields[i].name;
    qsort(names, count, sizeof(*names), name_order);
    for (size_t i = 1; i < count; i++)
        if (strcasecmp(names[i - 1], names[i]) == 0)
            return error_set(err, ERR_FATAL, 0, "schema: column %s appears twice (names are case-insensitive)", names[i]);
    return 0;
}

static int fields_parse(const doc *list, struct field **fields, size_t *count, int depth, size_t *total, struct error *err)
{
    if (depth > LIMIT_NEST)
        return error_set(err, ERR_FATAL, 0, "schema: STRUCTs nested more than %d deep", LIMIT_NEST);
    if (doc_type(list) == DOC_STRING)
        return short_list(doc_str(list, NULL, ""), fields, count, err) != 0 ? -1 : refuse_repeated(*fields, *count, err);
    if (doc_type(list) != DOC_ARRAY)
        return error_set(err, ERR_FATAL, 0, "schema: \"fields\" is not a list");
    size_t n = doc_len(list);
    *total += n;
    if (*total > LIMIT_COLUMNS)
        return error_set(err, ERR_FATAL, 0, "schema: more than %d columns", LIMIT_COLUMNS);
    *fields = xcalloc(n + 1, sizeof(**fields));
    for (size_t i = 0; i < n; i++) {
        const doc *d = doc_at(list, i);
        struct field *f = &(*fields)[(*count)++];
        const char *text = doc_str(d, NULL, NULL);
        if (text != NULL ? short_field(&text, f, err) != 0 : field_parse(d, f, depth, total, err) != 0)
            return -1;
        if (text != NULL && *text != '\0')
            return error_set(err, ERR_FATAL, 0, "schema: column %s: \"%.60s\" is too much", f->name, text);
    }
    return refuse_repeated(*fields, *count, err);
}

struct schema *schema_parse(const doc *d, struct error *err)
{
    AUTO(schema_free_auto) struct schema *s = xcalloc(1, sizeof(*s));
    size_t total = 0;
    const doc *list = doc_type(d) == DOC_OBJECT ? doc_get(d, "fields") : d;
    if (fields_parse(list, &s->fields, &s->count, 0, &total, err) != 0)
        return NULL;
    if (s->count == 0) {
        error_set(err, ERR_FATAL, 0, "schema: no columns");
        return NULL;
    }
    struct schema *done = s;
    s = NULL;
    return done;
}

static doc *fields_to_doc(const struct field *fields, size_t count)
{
    doc *list = doc_array();
    for (size_t i = 0; i < count; i++) {
        const struct field *f = &fields[i];
        doc *d = doc_set_str(doc_set_str(doc_object(), "name", f->name), "type", rest_name(f->type));
        doc_set_str(d, "mode", modes[f->mode]);
        if (f->max_length > 0)
            doc_set_int_text(d, "maxLength", f->max_length);
        if (f->precision > 0)
            doc_set_int_text(d, "precision", f->precision);
        if (f->scale > 0)
            doc_set_int_text(d, "scale", f->scale);
        if (f->type == FIELD_RANGE)
            doc_set(d, "rangeElementType", doc_set_str(doc_object(), "type", rest_name(f->range_of)));
        if (f->type == FIELD_STRUCT)
            doc_set(d, "fields", fields_to_doc(f->fields, f->count));
        if (f->default_value != NULL)
            doc_set_str(d, "defaultValueExpression", f->default_value);
        doc_add(list, d);
    }
    return list;
}

doc *schema_to_doc(const struct schema *s)
{
    return doc_set(doc_object(), "fields", fields_to_doc(s->fields, s->count));
}

const struct field *schema_find(const struct schema *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcasecmp(s->fields[i].name, name) == 0)
            return &s->fields[i];
    return NULL;
}

static void sql_type(const struct field *f, struct buf *b)
{
    if (f->mode == MODE_REPEATED)
        buf_xputs(b, "ARRAY<");
    buf_xputs(b, field_type_name(f->type));
    if (f->max_length > 0)
        buf_xprintf(b, "(%" PRId64 ")", f->max_length);
    if (f->precision > 0 && f->scale > 0)
        buf_xprintf(b, "(%" PRId64 ", %" PRId64 ")", f->precision, f->scale);
    else if (f->precision > 0)
        buf_xprintf(b, "(%" PRId64 ")", f->precision);
    if (f->type == FIELD_RANGE)
        buf_xprintf(b, "<%s>", field_type_name(f->range_of));
    if (f->type == FIELD_STRUCT) {
        for (size_t i = 0; i < f->count; i++) {
            buf_xprintf(b, "%s`%s` ", i == 0 ? "<" : ", ", f->fields[i].name);
            sql_type(&f->fields[i], b);
        }
        buf_xputs(b, ">");
    }
    if (f->mode == MODE_REPEATED)
        buf_xputs(b, ">");
}

char *field_sql_type(const struct field *f)
{
    struct buf b = BUF_INIT(LIMIT_DOCUMENT); /* a name has at most some 300 bytes, a schema LIMIT_COLUMNS names */
    sql_type(f, &b);
    return buf_steal(&b);
}
