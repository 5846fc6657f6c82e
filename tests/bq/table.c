#include "tests/bq/internal.h"

#include "common/base/limits.h"

struct bq_ref model_ref(const struct bqmodel *m, const char *text)
{
    struct error err = ERROR_INIT;
    struct bq_ref ref;
    if (bq_ref_parse(text, m->project, &ref, &err)) {
        fprintf(stderr, "bqmodel: %s\n", err.text);
        abort();
    }
    return ref;
}

struct mdataset *model_dataset(struct bqmodel *m, const char *project, const char *name)
{
    for (struct mdataset *d = m->datasets; d; d = d->next)
        if (strcmp(d->project, project) == 0 && strcmp(d->name, name) == 0)
            return d;
    return NULL;
}

struct mdataset *model_dataset_add(struct bqmodel *m, const char *project, const char *name)
{
    struct mdataset *d = model_dataset(m, project, name);
    if (d)
        return d;
    d = xcalloc(1, sizeof(*d));
    snprintf(d->project, sizeof(d->project), "%s", project);
    snprintf(d->name, sizeof(d->name), "%s", name);
    d->next = m->datasets;
    m->datasets = d;
    return d;
}

void mtable_empty(struct mtable *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->rows[i]);
    t->count = 0;
    t->emptied_at = ++t->mutations;
    t->version++;
}

static void table_free(struct mtable *t)
{
    mtable_empty(t);
    free(t->rows);
    mutated_free(t);
    schema_free(t->schema);
    stmt_free(t->view);
    doc_free(t->body);
    free(t);
}

void model_table_drop(struct bqmodel *m, struct mtable *t)
{
    for (struct mtable **at = &m->tables; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            table_free(t);
            return;
        }
}

void model_sweep(struct bqmodel *m)
{
    int64_t now = loop_wall_ms(m->loop);
    for (struct mtable *t = m->tables, *next; t; t = next) {
        next = t->next;
        if (t->expires_ms > 0 && t->expires_ms <= now)
            model_table_drop(m, t);
    }
}

struct mtable *model_table(struct bqmodel *m, const struct bq_ref *ref)
{
    model_sweep(m);
    for (struct mtable *t = m->tables; t; t = t->next)
        if (bq_ref_equal(&t->ref, ref))
            return t;
    return NULL;
}

struct mtable *model_table_add(struct bqmodel *m, const struct bq_ref *ref, const doc *body, struct error *err)
{
    AUTO(doc_free_auto) doc *none = doc_set(doc_object(), "fields", doc_array());
    bool view = doc_type(doc_get(body, "view")) == DOC_OBJECT;
    struct schema *schema = view ? NULL : schema_parse(doc_get(body, "schema.fields") ? doc_get(body, "schema") : none, err);
    if (schema == NULL && !view)
        return NULL;
    struct mtable *t = xcalloc(1, sizeof(*t));
    t->ref = *ref;
    t->schema = schema;
    t->body = doc_copy(body);
    t->created_ms = t->modified_ms = loop_wall_ms(m->loop);
    t->expires_ms = doc_int(body, "expirationTime", 0);
    t->incarnation = ++m->next_id;
    t->version = 1;
    if (view && mtable_set_view(m, t, body, err) != 0) {
        table_free(t);
        return NULL;
    }
    t->next = m->tables;
    m->tables = t;
    return t;
}

void mtable_append(struct mtable *t, struct row *row)
{
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->rows = xreallocarray(t->rows, t->cap, sizeof(*t->rows));
    }
    t->rows[t->count++] = row;
}

doc *mtable_resource(struct bqmodel *m, const struct mtable *t)
{
    char id[640];
    doc *d = doc_copy(t->body);
    snprintf(id, sizeof(id), "%s:%s.%s", t->ref.project, t->ref.dataset, t->ref.table);
    doc_set_str(d, "kind", "bigquery#table");
    doc_set_str(d, "id", id);
    doc *reference = doc_set_str(doc_object(), "projectId", t->ref.project);
    doc_set(d, "tableReference", doc_set_str(doc_set_str(reference, "datasetId", t->ref.dataset), "tableId", t->ref.table));
    doc_set(d, "schema", schema_to_doc(t->schema));
    doc_set_str(d, "type", t->view ? "VIEW" : "TABLE");
    doc_set_str(d, "location", m->location);
    snprintf(id, sizeof(id), "%" PRIu64 ".%" PRIu64, t->incarnation, t->version);
    doc_set_str(d, "etag", id);
    doc_set_int_text(d, "numRows", (int64_t)t->count);
    doc_set_str(d, "numBytes", "0");
    doc_set_int_text(d, "creationTime", t->created_ms);
    doc_set_int_text(d, "lastModifiedTime", t->modified_ms);
    if (t->expires_ms > 0)
        doc_set_int_text(d, "expirationTime", t->expires_ms);
    return d;
}

/* --- for tests ------------------------------------------------------------------------------------------------------------------------------- */

static _Noreturn void stop(const char *what, const char *why)
{
    fprintf(stderr, "bqmodel: %s: %s\n", what, why);
    abort();
}

void bqmodel_add_dataset(struct bqmodel *m, const char *name)
{
    const char *dot = strrchr(name, '.');
    AUTO(free_ptr) char *project = dot ? xstrndup(name, (size_t)(dot - name)) : xstrdup(m->project);
    model_dataset_add(m, project, dot ? dot + 1 : name);
}

void bqmodel_add_table(struct bqmodel *m, const char *table, const char *fields)
{
    struct error err = ERROR_INIT;
    struct bq_ref ref = model_ref(m, table);
    AUTO(doc_free_auto) doc *shorthand = doc_set_str(doc_object(), "fields", fields);
    if (fields[0] == '[') {
        doc *list = doc_parse(fields, strlen(fields), table, &err);
        if (list == NULL)
            stop(table, err.text);
        doc_set(shorthand, "fields", list);
    }
    AUTO(schema_free_auto) struct schema *schema = schema_parse(shorthand, &err);
    if (schema == NULL)
        stop(table, err.text);
    if (model_table(m, &ref))
        stop(table, "exists already");
    model_dataset_add(m, ref.project, ref.dataset);
    AUTO(doc_free_auto) doc *body = doc_set(doc_object(), "schema", schema_to_doc(schema));
    if (model_table_add(m, &ref, body, &err) == NULL)
        stop(table, err.text);
}

static struct mtable *must_have(struct bqmodel *m, const char *table)
{
    struct bq_ref ref = model_ref(m, table);
    struct mtable *t = model_table(m, &ref);
    if (t == NULL)
        stop(table, "no such table");
    return t;
}

void bqmodel_insert(struct bqmodel *m, const char *table, const char *rows)
{
    struct error err = ERROR_INIT;
    struct mtable *t = must_have(m, table);
    AUTO(doc_free_auto) doc *list = doc_parse(rows, strlen(rows), table, &err);
    if (doc_type(list) != DOC_ARRAY)
        stop(table, list ? "rows are an array of objects" : err.text);
    for (size_t i = 0; i < doc_len(list); i++) {
        struct row *row = row_read(t->schema, doc_at(list, i), false, &err);
        if (row == NULL)
            stop(table, err.text);
        mtable_append(t, row);
    }
    t->version++;
}

doc *bqmodel_rows(struct bqmodel *m, const char *table)
{
    struct bq_ref ref = model_ref(m, table);
    const struct mtable *t = model_table(m, &ref);
    if (t == NULL)
        return NULL;
    struct error err = ERROR_INIT;
    doc *shown = t->view ? mtable_view_rows(m, t, &err) : NULL;
    if (t->view && shown == NULL)
        stop(table, err.text);
    if (shown != NULL)
        return shown;
    doc *out = doc_array();
    for (size_t i = 0; i < t->count; i++) {
        doc *row = doc_object();
        for (size_t c = 0; c < t->schema->count; c++)
            doc_set(row, t->schema->fields[c].name, value_doc(&t->schema->fields[c], &t->rows[i]->cells[c]));
        doc_add(out, row);
    }
    return out;
}

int64_t bqmodel_count(struct bqmodel *m, const char *table)
{
    struct bq_ref ref = model_ref(m, table);
    const struct mtable *t = model_table(m, &ref);
    AUTO(doc_free_auto) doc *shown = t && t->view ? bqmodel_rows(m, table) : NULL;
    return shown ? (int64_t)doc_len(shown) : t ? (int64_t)t->count : -1;
}

bool bqmodel_has_table(struct bqmodel *m, const char *table)
{
    return bqmodel_count(m, table) >= 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

doc *bqmodel_tables(struct bqmodel *m)
{
    struct names all = {0};
    char name[640];
    model_sweep(m);
    for (const struct mtable *t = m->tables; t; t = t->next) {
        bq_ref_text(&t->ref, name, sizeof(name));
        names_add(&all, name, strlen(name));
    }
    if (all.count > 0)
        qsort(all.at, all.count, sizeof(*all.at), by_name);
    doc *out = doc_array();
    for (size_t i = 0; i < all.count; i++)
        doc_add(out, doc_string(all.at[i]));
    names_free(&all);
    return out;
}

static struct row *with_one_more(const struct row *old)
{
    struct cell *cells = xcalloc(old->count + 1, sizeof(*cells));
    memcpy(cells, old->cells, old->count * sizeof(*cells));
    struct row *row = row_new(cells, old->count + 1);
    free(cells);
    return row;
}

bool bqmodel_add_column(struct bqmodel *m, const char *table, const char *name, const char *type)
{
    struct error err = ERROR_INIT;
    struct mtable *t = must_have(m, table);
    const struct mjob *j;
    TAILQ_FOREACH(j, &m->active, active)
        if (bq_ref_equal(&j->target, &t->ref))
            return false;
    AUTO(doc_free_auto) doc *whole = schema_to_doc(t->schema);
    doc_add((doc *)(uintptr_t)doc_get(whole, "fields"), doc_set_str(doc_set_str(doc_object(), "name", name), "type", type));
    struct schema *schema = schema_parse(whole, &err);
    if (schema == NULL)
        stop(table, err.text);
    schema_free(t->schema);
    t->schema = schema;
    for (size_t i = 0; i < t->count; i++) {
        struct row *row = with_one_more(t->rows[i]);
        free(t->rows[i]);
        t->rows[i] = row;
    }
    t->version++;
    return true;
}

void bqmodel_drop_table(struct bqmodel *m, const char *table)
{
    model_table_drop(m, must_have(m, table));
}

void bqmodel_expire(struct bqmodel *m, const char *table)
{
    must_have(m, table)->expires_ms = loop_wall_ms(m->loop);
}
