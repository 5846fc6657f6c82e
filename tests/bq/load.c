#include "tests/bq/internal.h"

#include <strings.h>

/* A load job's work: all of its lines become rows, or none does. */

#define GAVE_UP "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: %" PRId64 "; errors: 1. " \
                "Please look into the errors[] collection for more details."

static doc *entry(const char *reason, const char *message)
{
    return doc_set_str(doc_set_str(doc_object(), "reason", reason), "message", message);
}

static int fail(struct mjob *j, const char *reason, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail(struct mjob *j, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(&j->outcome, ERR_TASK, 0, fmt, ap);
    va_end(ap);
    error_reason(&j->outcome, reason);
    return -1;
}

/* As BigQuery words it: the row is in errors[], not in errorResult. */
static int bad_row(struct mjob *j, int64_t rows, size_t position, const char *why)
{
    char text[1400];
    fail(j, "invalid", GAVE_UP, rows);
    j->details = doc_add(doc_array(), entry("invalid", j->outcome.text));
    snprintf(text, sizeof(text), "Error while reading data, error message: JSON processing encountered too many errors, giving up. Rows: %" PRId64
             "; errors: 1; max bad: 0; error percent: 0", rows);
    doc_add(j->details, entry("invalid", text));
    snprintf(text, sizeof(text), "Error while reading data, error message: JSON parsing error in row starting at position %zu: %s", position, why);
    doc_add(j->details, entry("invalid", text));
    return -1;
}

static bool rejected(struct mjob *j, const char *line, size_t len)
{
    static const char mark[] = "bqmodel-reject";
    char name[640];
    const struct bqmodel_options *o = &j->model->o;
    if (o->reject == NULL)
        return memmem(line, len, mark, sizeof(mark) - 1) != NULL;
    return o->reject(o->reject_arg, bq_ref_text(&j->target, name, sizeof(name)), line, len);
}

struct batch { struct row **rows; size_t count, cap; };

static void batch_free(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        free(b->rows[i]);
    free(b->rows);
}

static int read_line(struct mjob *j, const struct mtable *t, const char *line, size_t len, struct batch *b)
{
    struct error why = ERROR_INIT;
    size_t position = (size_t)(line - j->media);
    AUTO(doc_free_auto) doc *object = doc_parse(line, len, "row", &why);
    if (object == NULL || doc_type(object) != DOC_OBJECT)
        return bad_row(j, (int64_t)b->count + 1, position, "Parser terminated before end of string");
    struct row *row = row_read(t->schema, object, doc_bool(j->configuration, "load.ignoreUnknownValues", false), &why);
    if (row && rejected(j, line, len)) {
        free(row);
        row = NULL;
        error_set(&why, ERR_TASK, 0, "Internal representation of the row is not accepted.");
    }
    if (row == NULL)
        return bad_row(j, (int64_t)b->count + 1, position, why.text);
    if (b->count == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->rows = xreallocarray(b->rows, b->cap, sizeof(*b->rows));
    }
    b->rows[b->count++] = row;
    return 0;
}

static int read_lines(struct mjob *j, const struct mtable *t, struct batch *b)
{
    const char *p = j->media, *end = j->media + j->media_len;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((stop ? stop : end) - p);
        bool blank = true;
        for (size_t i = 0; i < len && blank; i++)
            blank = p[i] == ' ' || p[i] == '\r' || p[i] == '\t';
        if (!blank && read_line(j, t, p, len, b))
            return -1;
        p += len + 1;
    }
    return 0;
}

/* A schema that comes with the load must be the table's. */
static int check_schema(struct mjob *j, const struct mtable *t, const doc *given)
{
    struct error err = ERROR_INIT;
    AUTO(schema_free_auto) struct schema *s = schema_parse(given, &err);
    if (s == NULL)
        return fail(j, "invalid", "Invalid schema: %s", err.text);
    for (size_t i = 0; i < s->count; i++) {
        const struct field *f = schema_find(t->schema, s->fields[i].name);
        if (f == NULL)
            return fail(j, "invalid", "Provided Schema does not match Table %s:%s.%s. Cannot add fields (field: %s)", t->ref.project, t->ref.dataset,
                        t->ref.table, s->fields[i].name);
        if (f->type != s->fields[i].type || (f->mode == MODE_REPEATED) != (s->fields[i].mode == MODE_REPEATED))
            return fail(j, "invalid", "Provided Schema does not match Table %s:%s.%s. Field %s has changed type", t->ref.project, t->ref.dataset,
                        t->ref.table, f->name);
    }
    return 0;
}

static int find_target(struct mjob *j, const doc *load, struct mtable **out)
{
    struct bqmodel *m = j->model;
    struct error err = ERROR_INIT;
    const struct bq_ref *ref = &j->target;
    const doc *schema = doc_get(load, "schema");
    if (model_dataset(m, ref->project, ref->dataset) == NULL)
        return fail(j, "notFound", "Not found: Dataset %s:%s was not found in location %s", ref->project, ref->dataset, m->location);
    *out = model_table(m, ref);
    if (*out)
        return schema ? check_schema(j, *out, schema) : 0;
    if (strcmp(doc_str(load, "createDisposition", "CREATE_IF_NEEDED"), "CREATE_NEVER") == 0)
        return fail(j, "notFound", "Not found: Table %s:%s.%s", ref->project, ref->dataset, ref->table);
    if (schema == NULL)
        return fail(j, "invalid", "No schema specified on job or table.");
    AUTO(doc_free_auto) doc *body = doc_set(doc_object(), "schema", doc_copy(schema));
    *out = model_table_add(m, ref, body, &err);
    return *out ? 0 : fail(j, "invalid", "Invalid schema: %s", err.text);
}

int load_run(struct mjob *j)
{
    const doc *load = doc_get(j->configuration, "load");
    const char *format = doc_str(load, "sourceFormat", "CSV"), *write = doc_str(load, "writeDisposition", "WRITE_APPEND");
    struct mtable *t = NULL;
    struct batch b = {0};
    if (strcmp(format, "NEWLINE_DELIMITED_JSON") != 0)
        return fail(j, "invalid", "bqmodel: loads of %s are unknown here", format);
    if (find_target(j, load, &t))
        return -1;
    if (strcmp(write, "WRITE_EMPTY") == 0 && t->count > 0)
        return fail(j, "duplicate", "Already Exists: Table %s:%s.%s", t->ref.project, t->ref.dataset, t->ref.table);
    if (read_lines(j, t, &b)) {
        batch_free(&b);
        return -1;
    }
    if (strncmp(write, "WRITE_TRUNCATE", 14) == 0)
        mtable_empty(t);
    for (size_t i = 0; i < b.count; i++)
        mtable_append(t, b.rows[i]);
    j->output_rows = (int64_t)b.count;
    t->version++;
    t->modified_ms = loop_wall_ms(j->model->loop);
    free(b.rows);
    return 0;
}
