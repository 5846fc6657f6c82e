#include "tests/unit/support_tables.h"

#include "common/bq/view.h"
#include "coordinator/plan_view.h"

struct made { bool done; struct error err; };

static void on_made(void *arg, struct bq_table *table, const struct error *err)
{
    struct made *m = arg;
    (void)table;
    m->done = true;
    m->err = err ? *err : ERROR_INIT;
}

static bool is_made(void *arg)
{
    return ((struct made *)arg)->done;
}

void tables_stage(struct stage *s, struct record *r)
{
    struct made made = {.done = false};
    if (bqmodel_has_table(s->model, STAGE_TARGET))
        bqmodel_drop_table(s->model, STAGE_TARGET);
    r->via = VIA_WORKER_TABLES;
    r->permits = 0;
    r->layout = doc_object();
    struct world w = s->world;
    w.bq = s->bq;
    struct plan_view *v = plan_view_make(&w, r, on_made, &made);
    STAGE_WAIT(s, is_made, &made);
    assert_string_equal(made.err.text, "");
    plan_view_stop(v);
}

int tables_rows_with(struct stage *s, const char *key)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    int n = 0;
    for (size_t i = 0; i < doc_len(rows); i++)
        n += strcmp(doc_str(doc_at(rows, i), "k", ""), key) == 0;
    return n;
}

static void on_look(void *arg, const struct bq_answer *a)
{
    *(doc **)arg = a->doc ? doc_copy(a->doc) : doc_object();
}

static bool is_there(void *arg)
{
    return *(doc **)arg != NULL;
}

const char *tables_label(struct stage *s, const char *name, char *out, size_t size)
{
    doc *resource = NULL;
    struct bq_ref target;
    struct error err = ERROR_INIT;
    assert_int_equal(bq_ref_parse(STAGE_TARGET, "local", &target, &err), 0);
    bq_table_look(s->bq, &target, on_look, &resource);
    STAGE_WAIT(s, is_there, &resource);
    snprintf(out, size, "%s", doc_str(doc_get(resource, "labels"), name, ""));
    doc_free(resource);
    return out;
}
