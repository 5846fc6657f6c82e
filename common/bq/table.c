#include "common/bq/table.h"

#include "common/base/limits.h"
#include "common/bq/internal.h"

void bq_table_path(const struct bq_ref *ref, const char *suffix, struct buf *out)
{
    buf_xputs(out, "/projects/");
    http_escape(out, ref->project);
    buf_xputs(out, "/datasets/");
    http_escape(out, ref->dataset);
    buf_xputs(out, "/tables");
    if (ref->table[0]) {
        buf_xputs(out, "/");
        http_escape(out, ref->table);
    }
    buf_xputs(out, suffix);
}

struct bq_call *bq_table_send(struct bq *bq, const struct bq_ref *ref, struct bq_request request, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    bq_table_path(ref, "", &path);
    request.path = path.data;
    struct bq_call *call = bq_send(bq, &request, cb, arg);
    buf_free(&path);
    return call;
}

struct bq_call *bq_tables_send(struct bq *bq, const struct bq_ref *ref, struct bq_request request, bq_cb *cb, void *arg)
{
    struct bq_ref dataset = *ref;
    dataset.table[0] = '\0';
    return bq_table_send(bq, &dataset, request, cb, arg);
}

/* Whether it can be a table's resource: servers leave out this or that. */
static bool is_table(const doc *d)
{
    return doc_type(doc_get(d, "tableReference")) == DOC_OBJECT || doc_type(doc_get(d, "schema")) == DOC_OBJECT;
}

/* --- tables.get -------------------------------------------------------------------------------------------------------------------------- */

struct table_get {
    struct bq_ref ref;
    bq_table_cb *cb;
    void *arg;
};

static void read_partitioning(const doc *d, struct bq_table *t)
{
    const doc *time = doc_get(d, "timePartitioning"), *range = doc_get(d, "rangePartitioning");
    if (doc_type(time) == DOC_OBJECT) { /* servers may also say null */
        t->partitioning = PART_TIME;
        snprintf(t->part_type, sizeof(t->part_type), "%s", doc_str(time, "type", "DAY"));
        snprintf(t->part_field, sizeof(t->part_field), "%s", doc_str(time, "field", ""));
    } else if (doc_type(range) == DOC_OBJECT) {
        t->partitioning = PART_RANGE;
        snprintf(t->part_field, sizeof(t->part_field), "%s", doc_str(range, "field", ""));
        t->part_start = doc_int(range, "range.start", 0);
        t->part_end = doc_int(range, "range.end", 0);
        t->part_interval = doc_int(range, "range.interval", 0);
    }
    t->require_filter = doc_bool(d, "requirePartitionFilter", false) || doc_bool(time, "requirePartitionFilter", false);
}

static void got_table(void *arg, const struct bq_answer *a)
{
    struct table_get *g = arg;
    char name[600];
    struct error err = ERROR_INIT;
    if (a->err) {
        err = *a->err;
        error_prefix(&err, "table %s", bq_ref_text(&g->ref, name, sizeof(name)));
        g->cb(g->arg, NULL, &err);
        return;
    }
    struct bq_table t = {.ref = g->ref};
    t.schema = schema_parse(doc_get(a->doc, "schema"), &err);
    if (t.schema == NULL) {
        error_prefix(&err, "table %s", bq_ref_text(&g->ref, name, sizeof(name)));
        g->cb(g->arg, NULL, &err);
        return;
    }
    read_partitioning(a->doc, &t);
    snprintf(t.type, sizeof(t.type), "%s", doc_str(a->doc, "type", "TABLE"));
    snprintf(t.location, sizeof(t.location), "%s", doc_str(a->doc, "location", ""));
    snprintf(t.etag, sizeof(t.etag), "%s", doc_str(a->doc, "etag", ""));
    t.rows = doc_int(a->doc, "numRows", 0);
    t.bytes = doc_int(a->doc, "numBytes", 0);
    t.created_ms = doc_int(a->doc, "creationTime", 0);
    t.modified_ms = doc_int(a->doc, "lastModifiedTime", 0);
    t.expires_ms = doc_int(a->doc, "expirationTime", 0);
    g->cb(g->arg, &t, NULL);
    schema_free(t.schema);
}

struct bq_call *bq_table_get(struct bq *bq, const struct bq_ref *ref, bq_table_cb *cb, void *arg)
{
    static const struct bq_hooks hooks = {NULL, free};
    struct table_get *g = xcalloc(1, sizeof(*g));
    *g = (struct table_get){.ref = *ref, .cb = cb, .arg = arg};
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    bq_table_path(ref, "", &path);
    struct bq_call *call = bq_send_owned(bq, &(struct bq_request){.method = "GET", .path = path.data, .sound = is_table}, got_table, g, &hooks);
    buf_free(&path);
    return call;
}

/* --- the others -------------------------------------------------------------------------------------------------------------------------- */

struct bq_call *bq_table_create(struct bq *bq, const struct bq_table_new *n, bq_cb *cb, void *arg)
{
    doc *reference = doc_set_str(doc_object(), "projectId", n->ref->project);
    doc_set_str(doc_set_str(reference, "datasetId", n->ref->dataset), "tableId", n->ref->table);
    AUTO(doc_free_auto) doc *body = doc_set(doc_object(), "tableReference", reference);
    doc_set(body, "schema", doc_copy(n->schema));
    for (void *it = doc_first(n->partitioning); it; it = doc_next(n->partitioning, it))
        doc_set(body, doc_key(it), doc_copy(doc_value(it)));
    if (n->expires_ms > 0)
        doc_set_int_text(body, "expirationTime", n->expires_ms);
    if (n->label_count > 0) {
        doc *labels = doc_object();
        for (size_t i = 0; i < n->label_count; i++)
            doc_set_str(labels, n->labels[i].name, n->labels[i].value);
        doc_set(body, "labels", labels);
    }
    doc_set_str(body, "description", n->description);
    if (n->cluster_by)
        doc_set(body, "clustering", doc_set(doc_object(), "fields", doc_add(doc_array(), doc_string(n->cluster_by))));
    return bq_tables_send(bq, n->ref, (struct bq_request){.method = "POST", .body = body, .sound = is_table}, cb, arg);
}

struct bq_call *bq_table_expire(struct bq *bq, const struct bq_ref *ref, int64_t expires_ms, bq_cb *cb, void *arg)
{
    AUTO(doc_free_auto) doc *body = doc_set_int_text(doc_object(), "expirationTime", expires_ms);
    return bq_table_send(bq, ref, (struct bq_request){.method = "PATCH", .body = body, .sound = is_table}, cb, arg);
}

struct bq_call *bq_table_delete(struct bq *bq, const struct bq_ref *ref, bq_cb *cb, void *arg)
{
    return bq_table_send(bq, ref, (struct bq_request){.method = "DELETE", .absent_ok = true}, cb, arg);
}

struct bq_call *bq_dataset_get(struct bq *bq, const char *project, const char *dataset, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    buf_xputs(&path, "/projects/");
    http_escape(&path, project);
    buf_xputs(&path, "/datasets/");
    http_escape(&path, dataset);
    struct bq_call *call = bq_send(bq, &(struct bq_request){.method = "GET", .path = path.data}, cb, arg);
    buf_free(&path);
    return call;
}

static bool is_rows(const doc *d)
{
    return doc_get(d, "kind") != NULL || doc_get(d, "totalRows") != NULL || doc_get(d, "rows") != NULL;
}

struct bq_call *bq_table_rows(struct bq *bq, const struct bq_ref *ref, int64_t start, int64_t max, const char *page_token, bq_cb *cb, void *arg)
{
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX * 4);
    bq_table_path(ref, "/data", &path);
    buf_xprintf(&query, "maxResults=%" PRId64 "&formatOptions.useInt64Timestamp=true&", max);
    if (page_token) {
        buf_xputs(&query, "pageToken=");
        http_escape(&query, page_token);
        buf_xputs(&query, "&");
    } else {
        buf_xprintf(&query, "startIndex=%" PRId64 "&", start);
    }
    struct bq_call *call = bq_send(bq, &(struct bq_request){.method = "GET", .path = path.data, .query = query.data, .sound = is_rows}, cb, arg);
    buf_free(&path);
    buf_free(&query);
    return call;
}

/* --- tables.list ------------------------------------------------------------------------------------------------------------------------- */

struct table_list {
    struct bq_ref dataset;
    char prefix[256];
    doc *found;
    bq_cb *cb;
    void *arg;
};

static void list_free(void *arg)
{
    struct table_list *l = arg;
    doc_free(l->found);
    free(l);
}

static void list_query(const char *token, struct buf *out)
{
    buf_xputs(out, "maxResults=1000&");
    if (token) {
        buf_xputs(out, "pageToken=");
        http_escape(out, token);
        buf_xputs(out, "&");
    }
}

static bool list_page(struct bq_call *call, void *arg, const struct bq_answer *a)
{
    struct table_list *l = arg;
    const doc *tables = doc_get(a->doc, "tables");
    for (size_t i = 0; i < doc_len(tables); i++) {
        const doc *table = doc_at(tables, i), *labels = doc_get(table, "labels");
        const char *id = doc_str(table, "tableReference.tableId", "");
        if (strncmp(id, l->prefix, strlen(l->prefix)) == 0)
            doc_add(l->found, doc_set(doc_set_str(doc_object(), "id", id), "labels", doc_type(labels) == DOC_OBJECT ? doc_copy(labels) : doc_object()));
    }
    const char *token = doc_str(a->doc, "nextPageToken", "");
    if (*token == '\0')
        return false;
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX * 4);
    bq_table_path(&l->dataset, "", &path);
    list_query(token, &query);
    bq_call_redirect(call, path.data, query.data);
    buf_free(&path);
    buf_free(&query);
    return true;
}

static void list_end(void *arg, const struct bq_answer *a)
{
    struct table_list *l = arg;
    struct bq_answer all = *a;
    all.doc = a->err ? NULL : l->found;
    l->cb(l->arg, &all);
}

struct bq_call *bq_table_list(struct bq *bq, const char *project, const char *dataset, const char *prefix, bq_cb *cb, void *arg)
{
    static const struct bq_hooks hooks = {list_page, list_free};
    struct table_list *l = xcalloc(1, sizeof(*l));
    snprintf(l->dataset.project, sizeof(l->dataset.project), "%s", project);
    snprintf(l->dataset.dataset, sizeof(l->dataset.dataset), "%s", dataset);
    snprintf(l->prefix, sizeof(l->prefix), "%s", prefix ? prefix : "");
    l->found = doc_array();
    l->cb = cb;
    l->arg = arg;
    struct buf path = BUF_INIT(BQ_PATH_MAX), query = BUF_INIT(BQ_PATH_MAX * 4);
    bq_table_path(&l->dataset, "", &path);
    list_query(NULL, &query);
    struct bq_call *call = bq_send_owned(bq, &(struct bq_request){.method = "GET", .path = path.data, .query = query.data}, list_end, l, &hooks);
    buf_free(&path);
    buf_free(&query);
    return call;
}
