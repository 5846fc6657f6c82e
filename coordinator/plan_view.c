#include "coordinator/plan_view.h"

#include "common/fleet/view.h"

enum { READS_MAX = 5 }; /* of a view whose base is replaced between two looks */

struct plan_view {
    struct world world;
    struct record *record;
    char first[BASE_SUFFIX_SIZE]; /* made here; "": none */
    int reads;
    struct bq_call *call;
    bq_table_cb *cb;
    void *arg;
};

static void look(struct plan_view *v);

static void tell(struct plan_view *v, const struct error *err)
{
    struct error copy = *err;
    v->cb(v->arg, NULL, &copy);
}

static void on_read(void *arg, struct bq_table *table, const struct error *err)
{
    struct plan_view *v = arg;
    v->call = NULL;
    if (err != NULL && err->code == 404 && ++v->reads < READS_MAX)
        look(v);
    else
        v->cb(v->arg, table, err);
}

static void on_base(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    struct bq_ref base;
    struct error err;
    v->call = NULL;
    if (a->err != NULL) {
        tell(v, a->err);
    } else if (a->doc == NULL && ++v->reads < READS_MAX) {
        look(v);
    } else if (a->doc == NULL) {
        error_set(&err, ERR_USAGE, 0, "it is a view of bqfleet's, and the table behind it is gone");
        tell(v, &err);
    } else if (doc_int(a->doc, "expirationTime", 0) > 0) {
        tables_base_ref(v->record, v->record->base, &base);
        error_set(&err, ERR_USAGE, 0, "it is a view, and the table behind it, %s, is to expire, with all that the view shows: take its expiration away", base.table);
        tell(v, &err);
    } else {
        doc_free(v->record->layout);
        v->record->layout = view_layout(a->doc);
        tables_base_ref(v->record, v->record->base, &base);
        v->call = bq_table_get(v->world.bq, &base, on_read, v);
    }
}

static void on_look(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    struct view_state s;
    struct bq_ref base;
    struct error err;
    v->call = NULL;
    view_read(a->err == NULL ? a->doc : NULL, v->record, &s);
    if (a->err != NULL) {
        tell(v, a->err);
    } else if (!s.there) {
        error_set(&err, ERR_FATAL, 404, "it does not exist");
        tell(v, &err);
    } else if (!s.ours) {
        error_set(&err, ERR_USAGE, 0, "it is a %s; write.via: worker-tables shows its rows by a view of its own: name one that does not exist yet", s.type);
        tell(v, &err);
    } else {
        memcpy(v->record->base, s.base, sizeof(v->record->base));
        tables_base_ref(v->record, s.base, &base);
        v->call = bq_table_look(v->world.bq, &base, on_base, v);
    }
}

static void look(struct plan_view *v)
{
    v->call = bq_table_look(v->world.bq, &v->record->target, on_look, v);
}

/* --- making it ----------------------------------------------------------------------------------------------------------------------------- */

static void on_dropped(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    (void)a; /* an empty table would be left */
    v->call = NULL;
    look(v);
}

/* A view that is there already may be another one's, or this one, whose answer was lost: that tells by its base. */
static void on_found(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    struct view_state s;
    struct bq_ref base;
    v->call = NULL;
    view_read(a->err == NULL ? a->doc : NULL, v->record, &s);
    if (a->err != NULL || strcmp(s.base, v->first) == 0 || strcmp(s.was, v->first) == 0) {
        look(v);
        return;
    }
    tables_base_ref(v->record, v->first, &base);
    v->call = bq_table_delete(v->world.bq, &base, on_dropped, v);
}

static void on_view(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    v->call = NULL;
    if (a->err != NULL && a->err->code != 409)
        tell(v, a->err);
    else if (a->err != NULL)
        v->call = bq_table_look(v->world.bq, &v->record->target, on_found, v);
    else
        look(v);
}

static void on_first_base(void *arg, const struct bq_answer *a)
{
    struct plan_view *v = arg;
    v->call = NULL;
    if (a->err != NULL && a->err->code != 409)
        tell(v, a->err);
    else
        v->call = view_make(&v->world, v->record, v->first, on_view, v);
}

static struct plan_view *new(const struct world *w, struct record *r, bq_table_cb *cb, void *arg)
{
    struct plan_view *v = xcalloc(1, sizeof(*v));
    *v = (struct plan_view){.world = *w, .record = r, .cb = cb, .arg = arg};
    return v;
}

struct plan_view *plan_view_read(const struct world *w, struct record *r, bq_table_cb *cb, void *arg)
{
    struct plan_view *v = new(w, r, cb, arg);
    look(v);
    return v;
}

struct plan_view *plan_view_make(const struct world *w, struct record *r, bq_table_cb *cb, void *arg)
{
    struct plan_view *v = new(w, r, cb, arg);
    tables_base_first(v->first, r);
    v->call = view_make_base(w, r, v->first, on_first_base, v);
    return v;
}

void plan_view_stop(struct plan_view *v)
{
    if (v == NULL)
        return;
    bq_call_cancel(v->call);
    free(v);
}
