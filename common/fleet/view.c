#include "common/fleet/view.h"

#define LABEL_BASE "bqfleet_base"
#define LABEL_WAS "bqfleet_was"
#define LABEL_RUN "bqfleet_run"
#define LABEL_NONCE "bqfleet_nonce"
#define LABEL_CUT "bqfleet_cut"
#define LABEL_STATE "bqfleet_state"
#define NO_CUT "none"

static void take(const doc *labels, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s", doc_str(labels, name, ""));
}

void view_read(const doc *d, const struct record *r, struct view_state *v)
{
    const doc *labels = doc_get(d, "labels");
    *v = (struct view_state){.there = d != NULL, .cut = -1};
    if (d == NULL)
        return;
    take(d, "etag", v->etag, sizeof(v->etag));
    take(d, "type", v->type, sizeof(v->type));
    take(labels, LABEL_BASE, v->base, sizeof(v->base));
    take(labels, LABEL_WAS, v->was, sizeof(v->was));
    take(labels, LABEL_RUN, v->run, sizeof(v->run));
    v->ours = strcmp(v->type, "VIEW") == 0 && v->base[0] != '\0';
    v->mine = v->ours && strcmp(v->run, r->run) == 0 && strcmp(doc_str(labels, LABEL_NONCE, ""), r->nonce) == 0;
    v->open = strcmp(doc_str(labels, LABEL_STATE, ""), "open") == 0;
    const char *cut = doc_str(labels, LABEL_CUT, NO_CUT);
    if (strcmp(cut, NO_CUT) != 0)
        v->cut = strtoll(cut, NULL, 10);
}

enum { LABELS = 6 };

static void labels_of(const struct view_labels *l, char cut[24], struct bq_label out[LABELS])
{
    snprintf(cut, 24, "%" PRId64, l->cut);
    out[0] = (struct bq_label){LABEL_BASE, l->base};
    out[1] = (struct bq_label){LABEL_WAS, l->was};
    out[2] = (struct bq_label){LABEL_RUN, l->record->run};
    out[3] = (struct bq_label){LABEL_NONCE, l->record->nonce};
    out[4] = (struct bq_label){LABEL_CUT, l->cut < 0 ? NO_CUT : cut};
    out[5] = (struct bq_label){LABEL_STATE, l->open ? "open" : "free"};
}

struct bq_call *view_set(const struct world *w, const struct view_labels *l, const char *sql, const char *etag, bq_cb *cb, void *arg)
{
    char cut[24];
    struct bq_label labels[LABELS];
    labels_of(l, cut, labels);
    struct bq_view_new v = {.ref = &l->record->target, .sql = sql, .labels = labels, .label_count = LABELS};
    return bq_view_change(w->bq, &v, etag, cb, arg);
}

struct bq_call *view_make(const struct world *w, const struct record *r, const char *base, bq_cb *cb, void *arg)
{
    struct bq_ref ref;
    struct buf sql = BUF_INIT(2 * LIMIT_VIEW_SQL);
    struct error err = ERROR_INIT;
    struct bq_label labels[] = {{LABEL_BASE, base}, {LABEL_STATE, "free"}};
    tables_base_ref(r, base, &ref);
    struct sql_cut cut = {.schema = r->schema, .base = &ref};
    (void)sql_view(&cut, &sql, &err); /* too long for BigQuery: that one says so */
    struct bq_view_new v = {.ref = &r->target, .sql = sql.data, .labels = labels, .label_count = ARRAY_LEN(labels),
                            .description = "What bqfleet runs have written, and as far as one is at it, its workers' tables. Change nothing of it by hand."};
    struct bq_call *call = bq_view_create(w->bq, &v, cb, arg);
    buf_free(&sql);
    return call;
}

struct bq_call *view_make_base(const struct world *w, const struct record *r, const char *suffix, bq_cb *cb, void *arg)
{
    struct bq_ref ref;
    struct bq_label labels[STAGING_LABELS];
    tables_base_ref(r, suffix, &ref);
    record_staging_labels(r, labels);
    struct bq_table_new t = {.ref = &ref, .schema = r->schema_doc, .partitioning = r->layout, .labels = labels, .label_count = STAGING_LABELS,
                             .description = "The rows of a bqfleet view. It is replaced by another one with every run."};
    return bq_table_create(w->bq, &t, cb, arg);
}

doc *view_layout(const doc *base)
{
    static const char *const kept[] = {"timePartitioning", "rangePartitioning", "clustering"};
    doc *out = doc_object();
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (doc_type(doc_get(base, kept[i])) == DOC_OBJECT)
            doc_set(out, kept[i], doc_copy(doc_get(base, kept[i])));
    return out;
}
