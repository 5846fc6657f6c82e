#include "tests/sim/check_rows.h"

/*
 * Runs that are shown by a view: what it shows at any moment is the table behind it, which holds all that was compacted until then, and the cuts behind that whose
 * list's job is done, of the run at the view. A cut is seen from its job's end on, and never only in part.
 */

static const struct mjob *cut_job(const struct sim *s, const struct ledger *l, const struct lcut *c)
{
    char base[JOB_BASE_SIZE];
    int count;
    job_base_cut(base, l->record->run, c->number);
    return effect_find(s, base, &count);
}

static const struct lcut *last_done(const struct ledger *l)
{
    for (size_t i = l->cut_count; i > 0; i--)
        if (l->cuts[i - 1].state == LCUT_DONE)
            return &l->cuts[i - 1];
    return NULL;
}

static void gather_run(struct sim *s, struct ledger *l, struct writes *out)
{
    char base[JOB_BASE_SIZE];
    size_t since = 0;
    int count;
    for (size_t i = 0; i < l->cut_count; i++) {
        const struct mjob *j = cut_job(s, l, &l->cuts[i]);
        if (j == NULL || j->is_load)
            continue;
        writes_add(out, (struct written){.l = l, .c = &l->cuts[i], .since = since, .started_ms = j->started_ms, .ended_ms = j->ended_ms, .job = j});
        since = i + 1;
    }
    job_base_end(base, l->record->run);
    const struct mjob *j = effect_find(s, base, &count);
    if (count > 1)
        sim_violated(s, INV_EFFECT, "%s: %d effects", base, count);
    if (j != NULL)
        writes_add(out, (struct written){.l = l, .c = last_done(l), .since = since, .ends = true, .started_ms = j->started_ms, .ended_ms = j->ended_ms, .job = j});
}

void view_gather(struct sim *s, const struct batch_plan *b, struct writes *out)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next)
        if (strcmp(l->batch->target, b->target) == 0)
            gather_run(s, l, out);
    writes_sort(out);
}

static const struct mtable *view_of(struct sim *s, const struct batch_plan *b)
{
    struct bq_ref ref = model_ref(s->model, b->target);
    const struct mtable *t = model_table(s->model, &ref);
    assert(t != NULL && t->view != NULL);
    return t;
}

static const char *label(const struct mtable *t, const char *name)
{
    return doc_str(doc_get(t->body, "labels"), name, "");
}

/* Those that made the table behind it, and those before them. */
static void keep_compacted(struct sim *s, const struct mtable *t, struct writes *w)
{
    char first[BASE_SUFFIX_SIZE];
    const char *base = label(t, "bqfleet_base");
    size_t keep = w->count;
    while (keep > 0 && strcmp(w->v[keep - 1].job->target.table, t->view->base.table) != 0)
        keep--;
    struct record *r = ways_record(&s->plan.batches[0], "first");
    tables_base_first(first, r);
    record_free(r);
    if (keep == 0 && strcmp(base, first) != 0)
        sim_violated(s, INV_ROWS, "%s is over %s, which no job has made", t->ref.table, t->view->base.table);
    w->count = keep;
}

/* What is listed of the run at it, behind its last cut that is in that table. */
static void add_listed(struct sim *s, const struct mtable *t, struct writes *w)
{
    const char *run = label(t, "bqfleet_run");
    struct ledger *l = check_run(s->check, run, strlen(run));
    const struct lcut *last = NULL;
    size_t since = 0;
    if (l == NULL || strcmp(label(t, "bqfleet_state"), "open") != 0)
        return;
    for (size_t i = 0; i < w->count; i++)
        if (w->v[i].l == l)
            since = w->v[i].ends ? l->cut_count : (size_t)(w->v[i].c - l->cuts) + 1;
    for (size_t i = since; i < l->cut_count; i++) {
        const struct mjob *j = cut_job(s, l, &l->cuts[i]);
        if (j != NULL && j->is_load)
            last = &l->cuts[i];
    }
    if (last != NULL)
        writes_add(w, (struct written){.l = l, .c = last, .since = since});
}

/* A staging table that somebody took away takes the view with it, until its run is released. */
static bool may_be_broken(struct sim *s, const struct mtable *t)
{
    const char *run = label(t, "bqfleet_run");
    const struct ledger *l = check_run(s->check, run, strlen(run));
    return l != NULL && l->bereft;
}

static void look(struct sim *s, const struct batch_plan *b)
{
    struct writes w = {0};
    struct error err = ERROR_INIT;
    const struct mtable *t = view_of(s, b);
    AUTO(doc_free_auto) doc *rows = mtable_view_rows(s->model, t, &err);
    if (may_be_broken(s, t))
        return;
    if (rows == NULL)
        sim_violated(s, INV_ROWS, "%s cannot be read: %s", b->target, err.text);
    view_gather(s, b, &w);
    keep_compacted(s, t, &w);
    add_listed(s, t, &w);
    rows_check(s, b, rows, &w, b->target);
    free(w.v);
}

void check_view_tick(struct sim *s)
{
    for (int i = 0; i < s->plan.batch_count; i++) {
        const struct batch_plan *b = &s->plan.batches[i];
        if (way_shows(b) && ways_is_first(s, b) && !check_target_gone(s->check, b->target) && rnd_real(&s->views) < 20.0 / (double)i64_max(100, b->items))
            look(s, b);
    }
}

void view_check_end(struct sim *s, const struct batch_plan *b)
{
    char prefix[300];
    int count = 0;
    const struct mtable *t = view_of(s, b);
    snprintf(prefix, sizeof(prefix), "%s_bqfleet_", t->ref.table);
    if (strcmp(label(t, "bqfleet_state"), "free") != 0)
        sim_violated(s, INV_EFFECT, "%s is still run %s's", b->target, label(t, "bqfleet_run"));
    /* A coordinator that looks at its view, and sleeps until all is over, makes the table that its cut was to write anew. It stays empty, since the cut's job is done,
     * and nobody reads it; what was there before the first run is in every other one. */
    for (const struct mtable *x = s->model->tables; x; x = x->next)
        count += strncmp(x->ref.table, prefix, strlen(prefix)) == 0 && x->count > 0;
    if (count != 1)
        sim_violated(s, INV_EFFECT, "%d tables with rows are behind %s", count, b->target);
}
