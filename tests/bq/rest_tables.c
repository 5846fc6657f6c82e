#include "tests/bq/internal.h"

/* datasets, tables, tabledata. */

static void no_dataset(struct exchange *x, const char *project, const char *dataset)
{
    reply_error(x, 404, "notFound", "Not found: Dataset %s:%s", project, dataset);
}

static doc *dataset_doc(const struct bqmodel *m, const struct mdataset *d)
{
    char id[400];
    snprintf(id, sizeof(id), "%s:%s", d->project, d->name);
    doc *out = doc_set_str(doc_set_str(doc_object(), "kind", "bigquery#dataset"), "id", id);
    doc_set(out, "datasetReference", doc_set_str(doc_set_str(doc_object(), "projectId", d->project), "datasetId", d->name));
    return doc_set_str(out, "location", m->location);
}

static doc *body_doc(struct exchange *x, const struct mrequest *r)
{
    struct error err = ERROR_INIT;
    doc *d = doc_parse(r->body, r->len, "request", &err);
    if (d == NULL)
        reply_error(x, 400, "parseError", "Parse Error: %s", err.text);
    return d;
}

static void datasets_insert(struct exchange *x, const struct route *to)
{
    AUTO(doc_free_auto) doc *d = body_doc(x, to->r);
    const char *name = doc_str(d, "datasetReference.datasetId", "");
    if (d == NULL)
        return;
    if (*name == '\0')
        reply_error(x, 400, "required", "Dataset ID is missing.");
    else if (model_dataset(x->model, to->seg[0], name))
        reply_error(x, 409, "duplicate", "Already Exists: Dataset %s:%s", to->seg[0], name);
    else
        reply_doc(x, 200, dataset_doc(x->model, model_dataset_add(x->model, to->seg[0], name)));
}

static void datasets_list(struct exchange *x, const struct route *to)
{
    int64_t max = query_int(to->r, "maxResults", 50);
    doc *list = doc_array(), *out = doc_set_str(doc_object(), "kind", "bigquery#datasetList");
    for (const struct mdataset *d = x->model->datasets; d && (int64_t)doc_len(list) < max; d = d->next)
        if (strcmp(d->project, to->seg[0]) == 0)
            doc_add(list, dataset_doc(x->model, d));
    if (doc_len(list) > 0)
        doc_set(out, "datasets", list);
    else
        doc_free(list);
    reply_doc(x, 200, out);
}

static struct bq_ref ref_of(const struct route *to)
{
    struct bq_ref ref = {.table = ""};
    snprintf(ref.project, sizeof(ref.project), "%s", to->seg[0]);
    snprintf(ref.dataset, sizeof(ref.dataset), "%s", to->seg[2]);
    snprintf(ref.table, sizeof(ref.table), "%s", to->count > 4 ? to->seg[4] : "");
    return ref;
}

static void tables_insert(struct exchange *x, const struct route *to)
{
    struct bqmodel *m = x->model;
    struct error err = ERROR_INIT;
    struct bq_ref ref = ref_of(to);
    AUTO(doc_free_auto) doc *d = body_doc(x, to->r);
    if (d == NULL)
        return;
    snprintf(ref.table, sizeof(ref.table), "%s", doc_str(d, "tableReference.tableId", ""));
    struct mtable *t = NULL;
    if (ref.table[0] == '\0')
        reply_error(x, 400, "required", "Table ID is missing.");
    else if (model_table(m, &ref))
        reply_error(x, 409, "duplicate", "Already Exists: Table %s:%s.%s", ref.project, ref.dataset, ref.table);
    else if ((t = model_table_add(m, &ref, d, &err)) == NULL)
        reply_error(x, err.code >= 400 ? err.code : 400, err.code == 404 ? "notFound" : "invalid", "%s", err.text);
    else
        reply_doc(x, 200, mtable_resource(m, t));
}

#define PAGE_TOKEN "at-"
/* Where a page begins; false: answered. */
static bool page_start(struct exchange *x, const struct mrequest *r, int64_t *start)
{
    char token[64];
    *start = query_int(r, "startIndex", 0);
    if (!query_value(r, "pageToken", token, sizeof(token)))
        return true;
    char *end = NULL;
    *start = strtoll(token + (strncmp(token, PAGE_TOKEN, 3) == 0 ? 3 : 0), &end, 10);
    if (strncmp(token, PAGE_TOKEN, 3) == 0 && *end == '\0')
        return true;
    reply_error(x, 400, "invalid", "Invalid page token: %s", token);
    return false;
}

static void set_token(doc *out, const char *name, int64_t next, int64_t total)
{
    char token[64];
    if (next >= total)
        return;
    snprintf(token, sizeof(token), PAGE_TOKEN "%" PRId64, next);
    doc_set_str(out, name, token);
}

static int by_id(const void *a, const void *b)
{
    const struct mtable *const *x = a, *const *y = b;
    return strcmp((*x)->ref.table, (*y)->ref.table);
}

/* Of a table's resource, what a list says. */
static doc *list_entry(struct bqmodel *m, const struct mtable *t)
{
    static const char *const kept[] = {"kind", "id", "tableReference", "type", "labels", "timePartitioning", "rangePartitioning", "clustering",
                                       "creationTime", "expirationTime"};
    AUTO(doc_free_auto) doc *whole = mtable_resource(m, t);
    doc *out = doc_object();
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (doc_get(whole, kept[i]))
            doc_set(out, kept[i], doc_copy(doc_get(whole, kept[i])));
    return out;
}

static void tables_list(struct exchange *x, const struct route *to)
{
    struct bqmodel *m = x->model;
    struct bq_ref ref = ref_of(to);
    int64_t start = 0, total = 0, max = query_int(to->r, "maxResults", 50);
    if (!page_start(x, to->r, &start))
        return;
    model_sweep(m);
    const struct mtable **found = NULL;
    for (const struct mtable *t = m->tables; t; t = t->next)
        if (strcmp(t->ref.project, ref.project) == 0 && strcmp(t->ref.dataset, ref.dataset) == 0) {
            found = xreallocarray(found, (size_t)total + 1, sizeof(*found));
            found[total++] = t;
        }
    if (total > 0)
        qsort(found, (size_t)total, sizeof(*found), by_id);
    doc *list = doc_array(), *out = doc_set_str(doc_object(), "kind", "bigquery#tableList");
    int64_t i = start;
    for (; i < total && i < start + max; i++)
        doc_add(list, list_entry(m, found[i]));
    free(found);
    set_token(out, "nextPageToken", i, total);
    reply_doc(x, 200, doc_set_int(doc_set(out, "tables", list), "totalItems", total));
}

static void tables_patch(struct exchange *x, const struct route *to, struct mtable *t)
{
    AUTO(doc_free_auto) doc *d = body_doc(x, to->r);
    struct error err = ERROR_INIT;
    if (d == NULL)
        return;
    AUTO(doc_free_auto) doc *is = mtable_resource(x->model, t);
    const char *wanted = to->r->header(to->r, "If-Match");
    if (wanted != NULL && strcmp(wanted, doc_str(is, "etag", "")) != 0) {
        reply_error(x, 412, "conditionNotMet", "Precondition Failed");
        return;
    }
    if (!limit_update(x->model, &t->ref, false, &err)) {
        reply_error(x, err.code, err.reason, "%s", err.text);
        return;
    }
    if (doc_get(d, "view") && (t->view == NULL || mtable_set_view(x->model, t, d, &err) != 0)) {
        reply_error(x, err.code == 404 ? 404 : 400, err.code == 404 ? "notFound" : "invalid", "%s", t->view ? err.text : "a table is no view");
        return;
    }
    for (void *it = doc_first(d); it; it = doc_next(d, it)) {
        const char *key = doc_key(it);
        if (strcmp(key, "schema") == 0) {
            reply_error(x, 400, "invalid", "bqmodel: schemas do not change here");
            return;
        }
        if (strcmp(key, "expirationTime") == 0)
            t->expires_ms = doc_int(doc_value(it), NULL, 0);
        else if (strcmp(key, "tableReference") != 0)
            doc_set(t->body, key, doc_copy(doc_value(it)));
    }
    t->version++;
    t->modified_ms = loop_wall_ms(x->model->loop);
    reply_doc(x, 200, mtable_resource(x->model, t));
}

static void data_list(struct exchange *x, const struct route *to, const struct mtable *t)
{
    char flag[16];
    int64_t start = 0, total = (int64_t)t->count;
    if (!page_start(x, to->r, &start))
        return;
    int64_t max = i64_min(query_int(to->r, "maxResults", x->model->o.page_rows), x->model->o.page_rows);
    bool int64_timestamp = query_value(to->r, "formatOptions.useInt64Timestamp", flag, sizeof(flag)) && strcmp(flag, "true") == 0;
    int64_timestamp = int64_timestamp && !x->model->o.float_timestamps;
    doc *rows = doc_array(), *out = doc_set_str(doc_object(), "kind", "bigquery#tableDataList");
    int64_t i = start;
    for (; i < total && i < start + max; i++) {
        doc *cells = doc_array();
        for (size_t c = 0; c < t->schema->count; c++)
            doc_add(cells, value_rest(&t->schema->fields[c], &t->rows[i]->cells[c], int64_timestamp));
        doc_add(rows, doc_set(doc_object(), "f", cells));
    }
    doc_set_int_text(out, "totalRows", total);
    set_token(out, "pageToken", i, total);
    if (doc_len(rows) > 0)
        doc_set(out, "rows", rows);
    else
        doc_free(rows);
    reply_doc(x, 200, out);
}

static void one_table(struct exchange *x, const struct route *to)
{
    const char *method = to->r->method;
    struct bq_ref ref = ref_of(to);
    struct mtable *t = model_table(x->model, &ref);
    bool data = to->count == 6 && strcmp(to->seg[5], "data") == 0;
    if (t == NULL) {
        reply_error(x, 404, "notFound", "Not found: Table %s:%s.%s", ref.project, ref.dataset, ref.table);
    } else if (data && t->view != NULL) {
        reply_error(x, 400, "invalid", "Cannot list a table of type VIEW.");
    } else if (data && strcmp(method, "GET") == 0) {
        data_list(x, to, t);
    } else if (to->count == 5 && strcmp(method, "GET") == 0) {
        reply_doc(x, 200, mtable_resource(x->model, t));
    } else if (to->count == 5 && strcmp(method, "PATCH") == 0) {
        tables_patch(x, to, t);
    } else if (to->count == 5 && strcmp(method, "DELETE") == 0) {
        model_table_drop(x->model, t);
        reply_raw(x, 204, NULL, NULL);
    } else {
        reply_error(x, 405, "invalid", "bqmodel: %s is not known for %s", method, to->r->path);
    }
}

void rest_tables(struct exchange *x, const struct route *to)
{
    bool post = strcmp(to->r->method, "POST") == 0, get = strcmp(to->r->method, "GET") == 0;
    if (to->count == 2 && post) {
        datasets_insert(x, to);
        return;
    }
    if (to->count == 2 && get) {
        datasets_list(x, to);
        return;
    }
    const struct mdataset *d = to->count > 2 ? model_dataset(x->model, to->seg[0], to->seg[2]) : NULL;
    if (d == NULL)
        no_dataset(x, to->seg[0], to->count > 2 ? to->seg[2] : "");
    else if (to->count == 3 && get)
        reply_doc(x, 200, dataset_doc(x->model, d));
    else if (to->count == 4 && post)
        tables_insert(x, to);
    else if (to->count == 4 && get)
        tables_list(x, to);
    else if (to->count == 5 || to->count == 6)
        one_table(x, to);
    else
        reply_error(x, 405, "invalid", "bqmodel: %s is not known for %s", to->r->method, to->r->path);
}
