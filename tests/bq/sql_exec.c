#include "tests/bq/sql_dedupe.h"

/* What a statement makes of its target. */

/* An array that grows at 0, 1, 3, 7... elements, to twice and one more. */
static bool is_full(size_t count)
{
    return (count & (count + 1)) == 0;
}

void effects_change(struct effects *e, size_t index, struct row *into)
{
    if (is_full(e->changed_count)) {
        e->changed = xreallocarray(e->changed, e->changed_count * 2 + 1, sizeof(*e->changed));
        e->into = xreallocarray(e->into, e->changed_count * 2 + 1, sizeof(*e->into));
    }
    e->changed[e->changed_count] = index;
    e->into[e->changed_count++] = into;
    e->updated += into != NULL;
    e->deleted += into == NULL;
}

/* REQUIRED columns have values. */
static int check_row(struct run *r, const struct cell *cells)
{
    for (size_t i = 0; i < r->target->schema->count; i++) {
        const struct field *f = &r->target->schema->fields[i];
        if (f->mode == MODE_REQUIRED && cells[i].text == NULL)
            return run_fail(r, "invalidQuery", "Required field %s cannot be null", f->name);
    }
    return 0;
}

static int add(struct run *r, struct effects *e, const struct src *row)
{
    size_t n = r->target->schema->count;
    AUTO(free_ptr) struct cell *cells = xcalloc(n + 1, sizeof(*cells));
    for (size_t i = 0; i < n; i++)
        if (r->target->schema->fields[i].mode == MODE_REPEATED)
            cells[i] = (struct cell){"[]", 2};
    for (size_t i = 0; i < r->s->columns.count; i++)
        cells[r->columns[i]] = *src_cell(row, i);
    if (r->s->folds) {
        size_t item = 0, number = 0, load = 0;
        if (run_column(r, r->target, "bqfleet_item", &item) || run_column(r, r->target, "bqfleet_row", &number) ||
            run_column(r, r->target, "bqfleet_load", &load))
            return -1;
        cells[item] = row->row->cells[row->shard->item];
        cells[number] = row->row->cells[row->shard->row];
        cells[load] = row->row->cells[row->shard->load];
    }
    if (check_row(r, cells))
        return -1;
    if (is_full(e->added_count))
        e->added = xreallocarray(e->added, e->added_count * 2 + 1, sizeof(*e->added));
    e->added[e->added_count++] = row_new(cells, n);
    e->inserted++;
    return 0;
}

static int add_all(struct run *r, struct effects *e)
{
    for (size_t i = 0; i < r->count; i++)
        if (add(r, e, &r->rows[i]))
            return -1;
    return 0;
}

/* --- MERGE ----------------------------------------------------------------------------------------------------------------------------------- */

struct merge {
    struct run *r;
    size_t *on;             /* the ON columns, among the statement's */
    bool *safe;             /* of each: whether NULL equals NULL */
    struct entry *by_key;   /* value: the last source row of that key */
    int64_t *before;        /* the one before it, or -1 */
    bool *matched;
    struct seen_range seen;
};

/* False: one of them is a NULL that equals nothing. */
static bool on_key(const struct merge *g, const struct row *row, const size_t *columns, struct buf *key)
{
    buf_clear(key);
    buf_xputs(key, "k");
    for (size_t i = 0; i < g->r->s->on.count; i++) {
        const struct cell *c = &row->cells[columns[g->on[i]]];
        if (c->text == NULL && !g->safe[i])
            return false;
        key_add(key, c);
    }
    return true;
}

static void index_source(struct merge *g)
{
    struct run *r = g->r;
    struct buf key = BUF_INIT(KEY_MAX);
    for (size_t i = 0; i < r->count; i++) {
        g->before[i] = -1;
        if (!on_key(g, r->rows[i].row, r->rows[i].shard->columns, &key))
            continue;
        struct entry *e = entry_put(&g->by_key, key.data, key.len);
        g->before[i] = e->found++ ? e->value : -1;
        e->value = (int64_t)i;
    }
    buf_free(&key);
}

/* The source's row may replace the target's. */
static bool may_replace(const struct run *r, const struct src *src, const struct row *old)
{
    if (!r->s->guarded)
        return true;
    size_t n = r->s->order_count;
    AUTO(free_ptr) const struct cell **ours = xcalloc(n, sizeof(*ours)), **theirs = xcalloc(n, sizeof(*theirs));
    src_terms(r, src, ours);
    for (size_t i = 0; i < n; i++)
        theirs[i] = &old->cells[r->columns[run_position(r, r->s->order[i].column)]];
    return terms_compare(r, ours, theirs) >= 0;
}

static struct row *replaced(const struct run *r, const struct src *src, const struct row *old)
{
    AUTO(free_ptr) struct cell *cells = xmemdup(old->cells, sizeof(struct cell) * old->count);
    for (size_t i = 0; i < r->s->set.count; i++) {
        size_t at = run_position(r, r->s->set.at[i]);
        cells[r->columns[at]] = *src_cell(src, at);
    }
    return row_new(cells, old->count);
}

static int match(struct merge *g, struct effects *e)
{
    struct run *r = g->r;
    struct buf key = BUF_INIT(KEY_MAX);
    int rc = 0;
    for (size_t i = 0; i < r->target->count && rc == 0; i++) {
        const struct row *old = r->target->rows[i];
        int replacements = 0;
        const struct entry *hit = seen_range_has(&g->seen, old) && on_key(g, old, r->columns, &key) ? entry_find(g->by_key, key.data, key.len) : NULL;
        for (int64_t k = hit ? hit->value : -1; k >= 0; k = g->before[k]) {
            g->matched[k] = true;
            if (r->s->set.count == 0 || !may_replace(r, &r->rows[k], old))
                continue;
            if (replacements++ > 0) {
                rc = run_fail(r, "invalidQuery", "UPDATE/MERGE must match at most one source row for each target row");
                break;
            }
            effects_change(e, i, replaced(r, &r->rows[k], old));
            rc = check_row(r, e->into[e->changed_count - 1]->cells);
        }
    }
    buf_free(&key);
    return rc;
}

static int merge(struct run *r, struct effects *e)
{
    struct merge g = {.r = r};
    AUTO(free_ptr) size_t *on = g.on = xcalloc(r->s->on.count + 1, sizeof(*on));
    AUTO(free_ptr) bool *safe = g.safe = xcalloc(r->s->on.count + 1, sizeof(*safe));
    AUTO(free_ptr) int64_t *before = g.before = xcalloc(r->count + 1, sizeof(*before));
    AUTO(free_ptr) bool *matched = g.matched = xcalloc(r->count + 1, sizeof(*matched));
    for (size_t i = 0; i < r->s->on.count; i++)
        if ((on[i] = run_position(r, r->s->on.at[i])) == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", r->s->on.at[i]);
    for (size_t i = 0; i < r->s->on.count; i++)
        for (size_t k = 0; k < r->s->safe.count; k++)
            safe[i] = safe[i] || strcmp(r->s->on.at[i], r->s->safe.at[k]) == 0;
    for (size_t i = 0; i < r->s->set.count; i++)
        if (run_position(r, r->s->set.at[i]) == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", r->s->set.at[i]);
    int rc = seen_range_open(r, &g.seen);
    if (rc == 0) {
        index_source(&g);
        rc = match(&g, e);
    }
    seen_range_close(&g.seen);
    for (size_t i = 0; i < r->count && rc == 0; i++)
        if (!matched[i])
            rc = add(r, e, &r->rows[i]);
    entries_free(&g.by_key);
    return rc;
}

/* --- all of them ----------------------------------------------------------------------------------------------------------------------------- */

static int write_target(struct run *r, struct effects *e)
{
    if (r->s->kind == STMT_UPDATE)
        return run_update(r, e);
    if (r->s->kind == STMT_GROUP)
        return run_group(r, e);
    if (r->s->kind == STMT_EMPTY) /* its condition is looked at for each row: without rows it never fails */
        return r->target->count > 0 && r->s->fence.present ? run_fence(r) : 0;
    if (run_source(r))
        return -1;
    return r->s->kind == STMT_MERGE ? merge(r, e) : add_all(r, e);
}

int stmt_run(struct bqmodel *m, const struct stmt *s, const doc *params, struct effects *e, struct error *err)
{
    struct run r = {.m = m, .s = s, .params = params, .err = err};
    *e = (struct effects){0};
    if (s->kind == STMT_NOTHING)
        return 0;
    if (s->kind == STMT_ERROR)
        return run_fail(&r, "invalidQuery", "%s", s->error);
    if (s->kind == STMT_SELECT)
        return s->dedupe ? run_survey(&r, e) : s->range ? run_range(&r, e) : run_group(&r, e);
    r.target = run_table(&r, &s->target);
    if (r.target == NULL)
        return -1;
    e->incarnation = r.target->incarnation;
    e->mutations = r.target->mutations;
    int rc = s->dedupe ? run_dedupe(&r, e) : write_target(&r, e);
    if (rc == 0 && s->parts != NULL && !s->dedupe)
        rc = run_replaced_parts(&r, e);
    else if (rc == 0 && !s->dedupe && (s->kind == STMT_REPLACE || s->kind == STMT_EMPTY))
        for (size_t i = 0; i < r.target->count; i++)
            effects_change(e, i, NULL);
    run_release(&r);
    if (rc)
        effects_free(e);
    return rc;
}

void effects_apply(struct mtable *t, struct effects *e)
{
    for (size_t i = 0; i < e->changed_count; i++) {
        free(t->rows[e->changed[i]]);
        t->rows[e->changed[i]] = e->into[i];
        e->into[i] = NULL;
    }
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->rows[i])
            t->rows[kept++] = t->rows[i];
    t->count = kept;
    for (size_t i = 0; i < e->added_count; i++)
        mtable_append(t, e->added[i]);
    t->mutations += e->changed_count > 0;
    t->version++;
    e->added_count = 0;
}

void effects_free(struct effects *e)
{
    for (size_t i = 0; i < e->changed_count; i++)
        free(e->into[i]);
    for (size_t i = 0; i < e->added_count; i++)
        free(e->added[i]);
    free(e->changed);
    free(e->into);
    free(e->added);
    free(e->old);
    names_free(&e->partitions);
    doc_free(e->result);
    *e = (struct effects){0};
}
