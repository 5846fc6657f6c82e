#include "common/bq/view.h"

#include "common/bq/internal.h"

struct bq_call *bq_table_look(struct bq *bq, const struct bq_ref *ref, bq_cb *cb, void *arg)
{
    return bq_table_send(bq, ref, (struct bq_request){.method = "GET", .absent_ok = true}, cb, arg);
}

static doc *body_of(const struct bq_view_new *v)
{
    doc *body = doc_object(), *labels = doc_object();
    if (v->sql != NULL)
        doc_set(body, "view", doc_set_bool(doc_set_str(doc_object(), "query", v->sql), "useLegacySql", false));
    for (size_t i = 0; i < v->label_count; i++)
        doc_set_str(labels, v->labels[i].name, v->labels[i].value);
    return doc_set(body, "labels", labels);
}

struct bq_call *bq_view_create(struct bq *bq, const struct bq_view_new *v, bq_cb *cb, void *arg)
{
    AUTO(doc_free_auto) doc *body = body_of(v);
    doc *reference = doc_set_str(doc_object(), "projectId", v->ref->project);
    doc_set(body, "tableReference", doc_set_str(doc_set_str(reference, "datasetId", v->ref->dataset), "tableId", v->ref->table));
    doc_set_str(body, "description", v->description);
    return bq_tables_send(bq, v->ref, (struct bq_request){.method = "POST", .body = body}, cb, arg);
}

struct bq_call *bq_view_change(struct bq *bq, const struct bq_view_new *v, const char *etag, bq_cb *cb, void *arg)
{
    AUTO(doc_free_auto) doc *body = body_of(v);
    AUTO(free_ptr) char *condition = xasprintf("If-Match: %s", etag);
    const char *const headers[] = {condition, NULL};
    return bq_table_send(bq, v->ref, (struct bq_request){.method = "PATCH", .body = body, .headers = headers}, cb, arg);
}
