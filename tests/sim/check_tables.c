#include "tests/sim/check.h"

#include "tests/bq/internal.h"

/* What must be true at the end of the model's jobs and tables. */

/* --- effects -------------------------------------------------------------------------------------------------------------------------------------- */

#define TRIES_MOST 40

struct done_cut { struct ledger *l; struct lcut *c; int64_t started_ms, ended_ms; };
struct done_cuts { struct done_cut *v; size_t count, cap; };

static bool did_well(const struct mjob *j)
{
    return j != NULL && j->state == JOB_DONE && j->outcome.kind == ERR_NONE;
}

static const struct mjob *effect_of(struct sim *s, struct ledger *l, const struct lcut *c)
{
    char base[JOB_BASE_SIZE], id[JOB_BASE_SIZE + 8];
    const struct mjob *found = NULL;
    int count = 0;
    if (c->shard[0])
        job_base_shard_cut(base, l->record->run, c->shard, c->number);
    else
        job_base_cut(base, l->record->run, c->number);
    for (int k = 0; k < TRIES_MOST; k++) {
        snprintf(id, sizeof(id), "%s_t%d", base, k);
        const struct mjob *j = model_job(s->model, "local", id);
        count += did_well(j);
        found = did_well(j) ? j : found;
    }
    bool only_marks = c->loads == 0;
    int want = c->state == LCUT_DONE;
    if (count != want && !(only_marks && count <= 1))
        sim_violated(s, INV_EFFECT, "%s: %d effects instead of %d (loads %" PRId64 ", state %d)", base, count, want, c->loads, c->state);
    if (found && c->loads > 0 && c->state == LCUT_DONE &&
        (found->effects.inserted != c->inserted || found->effects.updated != c->updated || found->effects.deleted != c->deleted))
        sim_violated(s, INV_EFFECT, "%s has written %" PRId64 "+%" PRId64 "-%" PRId64 " rows, and its outcome says %" PRId64 "+%" PRId64 "-%" PRId64, base,
                     found->effects.inserted, found->effects.updated, found->effects.deleted, c->inserted, c->updated, c->deleted);
    return found;
}

static int by_end(const void *a, const void *b)
{
    const struct done_cut *x = a, *y = b;
    if (x->ended_ms != y->ended_ms)
        return x->ended_ms < y->ended_ms ? -1 : 1;
    return x->started_ms != y->started_ms ? (x->started_ms < y->started_ms ? -1 : 1) : x->l != y->l ? x->l->index - y->l->index : x->c < y->c ? -1 : x->c > y->c;
}

/* Of one target, in the order in which they were written. */
static void gather(struct sim *s, const struct batch_plan *b, struct done_cuts *out)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next)
        for (size_t i = 0; i < l->cut_count && l->batch == b; i++) {
            const struct mjob *j = effect_of(s, l, &l->cuts[i]);
            if (j == NULL)
                continue;
            if (out->count == out->cap) {
                out->cap = out->cap ? out->cap * 2 : 16;
                out->v = xreallocarray(out->v, out->cap, sizeof(*out->v));
            }
            out->v[out->count++] = (struct done_cut){l, &l->cuts[i], j->started_ms, j->ended_ms};
        }
    if (out->count > 0)
        qsort(out->v, out->count, sizeof(out->v[0]), by_end);
}

static void check_permits(struct sim *s, const struct batch_plan *b, const struct done_cuts *cuts)
{
    for (size_t i = 0; i < cuts->count && b->permits > 0; i++) {
        int at_once = 0;
        for (size_t k = 0; k < cuts->count; k++)
            at_once += cuts->v[k].started_ms <= cuts->v[i].started_ms && cuts->v[i].started_ms < cuts->v[k].ended_ms;
        if (at_once > b->permits)
            sim_violated(s, INV_PERMITS, "%d statements wrote into %s at once, at %" PRId64 ", under %d permits", at_once, b->target, cuts->v[i].started_ms, b->permits);
    }
}

/* A run that replaces another writes when nothing of that one can come any more. */
static void check_replaced(struct sim *s, const struct done_cuts *cuts)
{
    for (size_t i = 0; i < cuts->count; i++)
        for (size_t k = 0; k < cuts->count; k++) {
            const struct done_cut *older = &cuts->v[i], *newer = &cuts->v[k];
            if (strcmp(newer->l->record->replaces, older->l->record->run) == 0 && newer->started_ms < older->ended_ms)
                sim_violated(s, INV_EFFECT, "%s writes into %s from %" PRId64 " on, and %s, which it replaces, until %" PRId64, newer->l->record->run,
                             newer->l->batch->target, newer->started_ms, older->l->record->run, older->ended_ms);
        }
}

/* --- what the rows must be --------------------------------------------------------------------------------------------------------------------------- */

struct want { char key[128]; int32_t run; int64_t item, row, order; int age; bool found; UT_hash_handle hh; };

static bool alone(const struct batch_plan *b, const struct row_fact *f)
{
    return b->null_keys == NULL_KEYS_DISTINCT && b->second_key && f->second[0] == '\0';
}

static void key_of(const struct batch_plan *b, const struct row_fact *f, int32_t run, int64_t item, int64_t row, char out[128])
{
    if (b->mode != WRITE_MERGE || alone(b, f))
        snprintf(out, 128, "%s/%s/%d/%" PRId64 "/%" PRId64, f->key, f->second, run, item, row);
    else
        snprintf(out, 128, "%s/%s", f->key, f->second);
}

/* Of two rows of one key in one cut: the greatest order, then the later run, item, row. */
static bool outranks(const struct batch_plan *b, const struct want *x, const struct want *y)
{
    if (b->order && x->order != y->order)
        return x->order > y->order;
    if (x->age != y->age)
        return x->age > y->age;
    return x->item != y->item ? x->item > y->item : x->row > y->row;
}

static void put_cut_row(const struct batch_plan *b, struct want **rows, const struct want *w)
{
    struct want *old = NULL;
    HASH_FIND_STR(*rows, w->key, old);
    if (old != NULL && !outranks(b, w, old))
        return;
    if (old == NULL) {
        old = xcalloc(1, sizeof(*old));
        memcpy(old->key, w->key, sizeof(old->key));
        HASH_ADD_STR(*rows, key, old);
    }
    old->run = w->run;
    old->item = w->item;
    old->row = w->row;
    old->order = w->order;
    old->age = w->age;
}

static void rows_of_loads(struct sim *s, struct ledger *l, int64_t cut, int age, struct want **rows)
{
    struct row_fact f;
    for (size_t i = 0; i < l->load_count; i++) {
        const struct lload *x = l->loads[i];
        for (size_t k = 0; k < x->range_count && x->cut == cut && x->fresh > 0; k++)
            for (int64_t item = x->ranges[k].first; item < x->ranges[k].first + x->ranges[k].count; item++)
                for (int64_t row = 0; l->owner[item] == (int64_t)i && row < rows_of(s, l->batch, l->numbers[item], 0); row++) {
                    struct want w = {.run = l->index, .item = item, .row = row, .age = age};
                    row_facts(s, l->batch, l->numbers[item], row, &f);
                    w.order = f.order;
                    key_of(l->batch, &f, l->index, item, row, w.key);
                    put_cut_row(l->batch, rows, &w);
                }
    }
}

/* Rows of a cut: its own, and of a last one those of the held runs that it takes over. */
static void rows_of_cut(struct sim *s, struct ledger *l, const struct lcut *c, struct want **rows)
{
    int age = 100;
    rows_of_loads(s, l, c - l->cuts, age, rows);
    for (struct ledger *a = l; c->last && a->record->adopts[0];) {
        struct ledger *older = check_run(s->check, a->record->adopts, strlen(a->record->adopts));
        if (older == NULL || strcmp(older->adopted_by, l->record->run) != 0)
            break;
        rows_of_loads(s, older, -1, --age, rows);
        a = older;
    }
}

static void drop_all(struct want **rows)
{
    struct want *w, *tmp;
    HASH_ITER(hh, *rows, w, tmp) {
        HASH_DEL(*rows, w);
        free(w);
    }
}

static void write_cut(struct sim *s, const struct batch_plan *b, const struct done_cut *d, struct want **table)
{
    struct want *rows = NULL, *w, *tmp, *old;
    if (b->mode == WRITE_REPLACE)
        drop_all(table);
    rows_of_cut(s, d->l, d->c, &rows);
    HASH_ITER(hh, rows, w, tmp) {
        HASH_DEL(rows, w);
        HASH_FIND_STR(*table, w->key, old);
        if (old != NULL && b->order && w->order < old->order) {
            free(w);
            continue;
        }
        if (old != NULL) {
            HASH_DEL(*table, old);
            free(old);
        }
        HASH_ADD_STR(*table, key, w);
    }
}

/* --- what they are -------------------------------------------------------------------------------------------------------------------------------------- */

static const struct emission *emission_at(struct sim *s, int64_t v, int64_t run, int64_t item, const char *where)
{
    if (v < 0 || v >= (int64_t)s->handlers.count)
        sim_violated(s, INV_ROWS, "%s has a row of an attempt %" PRId64 " that there was not", where, v);
    const struct emission *e = &s->handlers.v[v];
    if (e->run != run || e->item != item || !e->done)
        sim_violated(s, INV_ROWS, "%s has rows of attempt %" PRId64 " for item %" PRId64 " of run %" PRId64 "; that attempt was for item %" PRId64 " of run %d%s", where, v, item,
                     run, e->item, e->run, e->done ? "" : ", and failed");
    return e;
}

/* All rows of an item are of one attempt. */
static void one_attempt(struct sim *s, struct ledger *l, int64_t item, int64_t v, const char *where)
{
    if (l->seen == NULL) {
        l->seen = xcalloc((size_t)l->owners + 1, sizeof(*l->seen));
        l->seen_rows = xcalloc((size_t)l->owners + 1, sizeof(*l->seen_rows));
    }
    if (l->seen[item] != 0 && l->seen[item] != v + 1)
        sim_violated(s, INV_ROWS, "%s has rows of attempts %" PRId64 " and %" PRId64 " for item %" PRId64 " of %s", where, l->seen[item] - 1, v, item, l->record->run);
    l->seen[item] = v + 1;
    l->seen_rows[item]++;
}

static void check_row(struct sim *s, const struct batch_plan *b, const doc *row, struct want *table)
{
    struct want *w = NULL;
    struct row_fact f;
    char key[128];
    int64_t run = doc_int(row, "r", -1), item = doc_int(row, "i", -1), n = doc_int(row, "n", -1), v = doc_int(row, "v", -1);
    struct ledger *l = check_run_at(s->check, (int32_t)run);
    if (l == NULL || item < 0 || item >= l->owners || l->batch != b)
        sim_violated(s, INV_ROWS, "%s has a row of item %" PRId64 " of run %" PRId64 ", which cannot be there", b->target, item, run);
    emission_at(s, v, run, item, b->target);
    one_attempt(s, l, item, v, b->target);
    row_facts(s, b, l->numbers[item], n, &f);
    key_of(b, &f, (int32_t)run, item, n, key);
    if (strcmp(doc_str(row, "k", ""), f.key) != 0 || strcmp(doc_str(row, "q", ""), f.second) != 0)
        sim_violated(s, INV_ROWS, "%s has a row with key %s where %s was", b->target, doc_str(row, "k", ""), f.key);
    if (b->mode != WRITE_MERGE)
        return;
    HASH_FIND_STR(table, key, w);
    if (w == NULL || w->found || w->run != run || w->item != item || w->row != n)
        sim_violated(s, INV_ROWS, "%s has for key %s row %" PRId64 " of item %" PRId64 " of %s; %s (row %" PRId64 " of item %" PRId64 " of run %d must be there)", b->target, key, n,
                     item, l->record->run, w && w->found ? "twice" : w ? "it was superseded" : "nothing may be there", w ? w->row : -1, w ? w->item : -1, w ? w->run : -1);
    w->found = true;
}

/* Appended and replacing: each item of the cuts has all rows of its attempt. */
static void check_appended(struct sim *s, const struct batch_plan *b, const struct done_cuts *cuts, int64_t rows)
{
    int64_t want = 0;
    size_t from = cuts->count; /* the last one that replaced; a redrive of a run that was written adds to it */
    while (from > 0 && (from == cuts->count || cuts->v[from].l->record->mode != WRITE_REPLACE))
        from--;
    for (size_t d = from; d < cuts->count; d++) {
        struct want *items = NULL, *w, *tmp;
        rows_of_cut(s, cuts->v[d].l, cuts->v[d].c, &items);
        HASH_ITER(hh, items, w, tmp) {
            struct ledger *l = check_run_at(s->check, w->run);
            int64_t v = l->seen ? l->seen[w->item] - 1 : -1;
            if (w->row == 0 && (v < 0 || l->seen_rows[w->item] != s->handlers.v[v].rows))
                sim_violated(s, INV_ROWS, "%s has %" PRId64 " rows of item %" PRId64 " of %s instead of %" PRId64, b->target, l->seen ? l->seen_rows[w->item] : 0, w->item,
                             l->record->run, v < 0 ? rows_of(s, b, l->numbers[w->item], 0) : s->handlers.v[v].rows);
            want += w->row == 0 ? l->seen_rows[w->item] : 0;
        }
        drop_all(&items);
    }
    if (rows != want)
        sim_violated(s, INV_ROWS, "%s has %" PRId64 " rows, and %" PRId64 " belong there", b->target, rows, want);
}

static void check_target(struct sim *s, const struct batch_plan *b)
{
    struct done_cuts cuts = {0};
    struct want *table = NULL, *w, *tmp;
    gather(s, b, &cuts);
    check_permits(s, b, &cuts);
    check_replaced(s, &cuts);
    for (size_t i = 0; i < cuts.count && b->mode == WRITE_MERGE; i++)
        write_cut(s, b, &cuts.v[i], &table);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, b->target);
    for (size_t i = 0; i < doc_len(rows); i++)
        check_row(s, b, doc_at(rows, i), table);
    HASH_ITER(hh, table, w, tmp)
        if (!w->found)
            sim_violated(s, INV_ROWS, "%s lacks row %" PRId64 " of item %" PRId64 " of run %d (key %s)", b->target, w->row, w->item, w->run, w->key);
    if (b->mode != WRITE_MERGE)
        check_appended(s, b, &cuts, (int64_t)doc_len(rows));
    drop_all(&table);
    free(cuts.v);
    s->report->rows += (int64_t)doc_len(rows);
}

/* A run that is written has every item in exactly one place; what failed is within what it tolerates, unless somebody accepted it. */
static void check_run_end(struct sim *s, const struct ledger *l)
{
    bool written = l->phase == PHASE_ENDED && !l->failed_end && (l->ended_by == LOGM_SEAL || l->ended_by == LOGM_ACCEPT);
    int64_t failed = 0;
    for (int64_t i = 0; i < l->items && written; i++) {
        if (i >= l->owners || l->owner[i] == OWNER_NONE)
            sim_violated(s, INV_ROWS, "%s is written, and its item %" PRId64 " is nowhere", l->record->run, i);
        failed += l->owner[i] == OWNER_FAILED;
        if (l->owner[i] >= 0 && l->cuts[l->loads[l->owner[i]]->cut].state != LCUT_DONE)
            sim_violated(s, INV_ROWS, "%s is written, and item %" PRId64 " is in an increment that is not", l->record->run, i);
    }
    if (written && failed != l->failed)
        sim_violated(s, INV_ROWS, "%s has %" PRId64 " failed items, and %" PRId64 " were told", l->record->run, failed, l->failed);
    int64_t code = written ? EXIT_WRITTEN : l->failed_end ? EXIT_UNFINISHED
                           : l->ended_by == LOGM_CANCEL || l->ended_by == LOGM_ADOPTED || l->ended_by == LOGM_ABANDON ? EXIT_ENDED : EXIT_UNFINISHED;
    if (!l->withdrawn && l->told_exit != code)
        sim_violated(s, INV_ROWS, "%s ends with %" PRId64 ", and `batches` says %" PRId64, l->record->run, code, l->told_exit);
}

static bool is_bereft(struct sim *s, const struct ledger *l)
{
    for (; l != NULL; l = l->record->adopts[0] ? check_run(s->check, l->record->adopts, strlen(l->record->adopts)) : NULL)
        if (l->bereft)
            return true;
    return false;
}

/* Somebody decided otherwise about a run whose failed items it redrives, or that one does. */
static bool is_orphan(struct sim *s, const struct ledger *l)
{
    while (l->record->adopts[0]) {
        const struct ledger *older = check_run(s->check, l->record->adopts, strlen(l->record->adopts));
        if (older == NULL || strcmp(older->adopted_by, l->record->run) != 0)
            return true;
        l = older;
    }
    return false;
}

/* Of all that goes wrong here only little may end a run. */
static void check_loud(struct sim *s, const struct ledger *l)
{
    bool stopped = l->record->finish.stop_after > 0 && l->failed >= l->record->finish.stop_after && strncmp(l->why, "stop_after:", 11) == 0;
    if (l->withdrawn || l->contradicted || is_bereft(s, l) || is_orphan(s, l))
        return;
    /* The last one of a job's tries may have failed for the other thing that was drawn. */
    bool exhausted = l->failed_end && s->hard && (strstr(l->why, "Backend error") != NULL || strstr(l->why, "due to concurrent update") != NULL);
    if ((l->failed_end && !exhausted) || l->ended_by == LOGM_LOST || (l->ended_by == LOGM_FATAL && !stopped))
        sim_violated(s, INV_LOUD, "%s ends as %s, for which there is no reason: %s", l->record->run, l->failed_end ? "failed" : log_type_name(l->ended_by), l->why);
    if (l->ended_by == LOGM_ABANDON && s->plan.quiet)
        sim_violated(s, INV_LOUD, "%s is abandoned, and nobody was silent", l->record->run);
}

void check_end(struct sim *s)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next) {
        check_loud(s, l);
        check_run_end(s, l);
        s->report->runs++;
        s->report->ends[l->withdrawn ? 0 : l->failed_end ? 15 : l->ended_by]++;
    }
    for (int i = 0; i < s->plan.batch_count; i++)
        check_target(s, &s->plan.batches[i]);
    check_tick(s);
}
