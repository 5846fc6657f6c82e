#include "tests/sim/check_rows.h"

/* Rows, one by one: what must be in a target by the logs and by what the handlers said, and what is. */

#define TRIES_MOST 40

static bool did_well(const struct mjob *j)
{
    return j != NULL && j->state == JOB_DONE && j->outcome.kind == ERR_NONE;
}

const struct mjob *effect_find(const struct sim *s, const char *base, int *count)
{
    char id[JOB_BASE_SIZE + 8];
    const struct mjob *found = NULL;
    *count = 0;
    for (int k = 0; k < TRIES_MOST; k++) {
        snprintf(id, sizeof(id), "%s_t%d", base, k);
        const struct mjob *j = model_job(s->model, "local", id);
        *count += did_well(j);
        found = did_well(j) ? j : found;
    }
    return found;
}

static int by_end(const void *a, const void *b)
{
    const struct written *x = a, *y = b;
    if (x->ended_ms != y->ended_ms)
        return x->ended_ms < y->ended_ms ? -1 : 1;
    return x->started_ms != y->started_ms ? (x->started_ms < y->started_ms ? -1 : 1) : x->l != y->l ? x->l->index - y->l->index : x->c < y->c ? -1 : x->c > y->c;
}

void writes_add(struct writes *out, struct written w)
{
    if (out->count == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 16;
        out->v = xreallocarray(out->v, out->cap, sizeof(*out->v));
    }
    out->v[out->count++] = w;
}

void writes_sort(struct writes *w)
{
    if (w->count > 0)
        qsort(w->v, w->count, sizeof(w->v[0]), by_end);
}

/* --- what the rows must be --------------------------------------------------------------------------------------------------------------------------- */

struct want { char key[128]; int32_t run; int64_t item, row, order; int age, place; bool found; UT_hash_handle hh; };

/* The partition's column is a key, too. */
static bool by_part(const struct batch_plan *b)
{
    return b->mode == WRITE_MERGE && b->parts != PARTS_NONE && !way_shows(b);
}

static bool alone(const struct batch_plan *b, const struct row_fact *f)
{
    bool null = (b->second_key && f->second[0] == '\0') || (by_part(b) && f->part[0] == '\0');
    return b->null_keys == NULL_KEYS_DISTINCT && null;
}

/* Which rows must be there is known by the log alone: an attempt finds what another one finds. */
static bool is_exact(const struct batch_plan *b)
{
    return b->mode == WRITE_MERGE || b->mode == WRITE_REPLACE_PARTITIONS;
}

static void key_of(const struct batch_plan *b, const struct row_fact *f, int32_t run, int64_t item, int64_t row, char out[128])
{
    if (!way_keyed(b) || alone(b, f))
        snprintf(out, 128, "%s/%s/%d/%" PRId64 "/%" PRId64, f->key, f->second, run, item, row);
    else
        snprintf(out, 128, "%s/%s/%s", f->key, f->second, by_part(b) ? f->part : "");
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
    old->place = w->place;
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
                    w.place = f.place;
                    key_of(l->batch, &f, l->index, item, row, w.key);
                    put_cut_row(l->batch, rows, &w);
                }
    }
}

/* Rows of a job: its cut's, those of cuts that were listed before, and of a last cut those of the held runs that it takes over. */
static void rows_of_cut(struct sim *s, const struct written *d, struct want **rows)
{
    int age = 100;
    struct ledger *l = d->l;
    size_t at = (size_t)(d->c - l->cuts);
    for (size_t k = d->since; k <= at; k++)
        if (k == at || l->cuts[k].state == LCUT_DONE)
            rows_of_loads(s, l, (int64_t)k, age, rows);
    for (struct ledger *a = l; d->c->last && !d->ends && a->record->adopts[0];) {
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

/* Those partitions are emptied first that its rows come to. */
static void empty_places(struct want *rows, struct want **table)
{
    struct want *w, *tmp;
    unsigned places = 0;
    for (w = rows; w; w = w->hh.next)
        places |= 1U << (w->place + 1);
    HASH_ITER(hh, *table, w, tmp)
        if ((places & 1U << (w->place + 1)) != 0) {
            HASH_DEL(*table, w);
            free(w);
        }
}

static void write_cut(struct sim *s, const struct written *d, struct want **table)
{
    struct want *rows = NULL, *w, *tmp, *old;
    enum write_mode mode = d->l->record->mode; /* a redrive's may be another one than its batch's */
    rows_of_cut(s, d, &rows);
    if (mode == WRITE_REPLACE_PARTITIONS)
        empty_places(rows, table);
    HASH_ITER(hh, rows, w, tmp) {
        HASH_DEL(rows, w);
        HASH_FIND_STR(*table, w->key, old);
        if (old != NULL && d->l->batch->order && w->order < old->order) {
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

static void put_old(struct sim *s, const struct batch_plan *b, struct want **table)
{
    struct row_fact f;
    for (int64_t at = 0; at < WAYS_OLD_ROWS; at++) {
        if (!ways_old_row(s, b, at, &f))
            continue;
        struct want *w = xcalloc(1, sizeof(*w));
        *w = (struct want){.run = -1, .item = at, .order = f.order, .place = f.place};
        key_of(b, &f, -1, at, 0, w->key);
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
    if (item >= l->seen_cap || l->seen == NULL) {
        int64_t want = l->owners;
        l->seen = xreallocarray(l->seen, (size_t)want + 1, sizeof(*l->seen));
        l->seen_rows = xreallocarray(l->seen_rows, (size_t)want + 1, sizeof(*l->seen_rows));
        memset(l->seen + l->seen_cap, 0, (size_t)(want + 1 - l->seen_cap) * sizeof(*l->seen));
        memset(l->seen_rows + l->seen_cap, 0, (size_t)(want + 1 - l->seen_cap) * sizeof(*l->seen_rows));
        l->seen_cap = want;
    }
    if (l->seen[item] != 0 && l->seen[item] != v + 1)
        sim_violated(s, INV_ROWS, "%s has rows of attempts %" PRId64 " and %" PRId64 " for item %" PRId64 " of %s", where, l->seen[item] - 1, v, item, l->record->run);
    l->seen[item] = v + 1;
    l->seen_rows[item]++;
}

static bool has_part(const struct batch_plan *b, const doc *row, const struct row_fact *f)
{
    char number[24] = "";
    const doc *d = doc_get(row, "d");
    if (doc_type(d) == DOC_INT)
        snprintf(number, sizeof(number), "%" PRId64, doc_int(row, "d", 0));
    return b->parts == PARTS_NONE || strcmp(doc_type(d) == DOC_INT ? number : doc_str(row, "d", ""), f->part) == 0;
}

/* The facts of a row by what it says it is. */
static const struct ledger *facts_of(struct sim *s, const struct batch_plan *b, const doc *row, struct row_fact *f, const char *where)
{
    int64_t run = doc_int(row, "r", -2), item = doc_int(row, "i", -1), n = doc_int(row, "n", -1), v = doc_int(row, "v", -1);
    if (run == -1 && n == 0 && ways_old_row(s, b, item, f))
        return NULL;
    struct ledger *l = check_run_at(s->check, (int32_t)run);
    if (l == NULL || item < 0 || item >= l->owners || strcmp(l->batch->target, b->target) != 0)
        sim_violated(s, INV_ROWS, "%s has a row of item %" PRId64 " of run %" PRId64 ", which cannot be there", where, item, run);
    emission_at(s, v, run, item, where);
    one_attempt(s, l, item, v, where);
    row_facts(s, l->batch, l->numbers[item], n, f);
    return l;
}

static void check_row(struct sim *s, const struct batch_plan *b, const doc *row, struct want *table, const char *where)
{
    struct want *w = NULL;
    struct row_fact f;
    char key[128];
    int64_t run = doc_int(row, "r", -1), item = doc_int(row, "i", -1), n = doc_int(row, "n", -1);
    const struct ledger *l = facts_of(s, b, row, &f, where);
    key_of(b, &f, (int32_t)run, item, n, key);
    if (strcmp(doc_str(row, "k", ""), f.key) != 0 || strcmp(doc_str(row, "q", ""), f.second) != 0 || !has_part(b, row, &f))
        sim_violated(s, INV_ROWS, "%s has a row with key %s where %s was", where, doc_str(row, "k", ""), f.key);
    if (!is_exact(b) && l != NULL)
        return;
    HASH_FIND_STR(table, key, w);
    if (w == NULL || w->found || w->run != run || w->item != item || w->row != n)
        sim_violated(s, INV_ROWS, "%s has for key %s row %" PRId64 " of item %" PRId64 " of %s; %s (row %" PRId64 " of item %" PRId64 " of run %d must be there)", where, key, n,
                     item, l ? l->record->run : "nobody", w && w->found ? "twice" : w ? "it was superseded" : "nothing may be there", w ? w->row : -1, w ? w->item : -1,
                     w ? w->run : -1);
    w->found = true;
}

/* Appended and replacing: each item of the cuts has all rows of its attempt. */
static void check_appended(struct sim *s, const struct writes *cuts, int64_t rows, int64_t old, const char *where)
{
    int64_t want = old;
    size_t from = cuts->count; /* the last one that replaced; a redrive of a run that was written adds to it */
    while (from > 0 && (from == cuts->count || cuts->v[from].l->record->mode != WRITE_REPLACE))
        from--;
    for (size_t d = from; d < cuts->count; d++) {
        struct want *items = NULL, *w, *tmp;
        rows_of_cut(s, &cuts->v[d], &items);
        HASH_ITER(hh, items, w, tmp) {
            struct ledger *l = check_run_at(s->check, w->run);
            int64_t v = l->seen ? l->seen[w->item] - 1 : -1;
            if (w->row == 0 && (v < 0 || l->seen_rows[w->item] != s->handlers.v[v].rows))
                sim_violated(s, INV_ROWS, "%s has %" PRId64 " rows of item %" PRId64 " of %s instead of %" PRId64, where, l->seen ? l->seen_rows[w->item] : 0, w->item,
                             l->record->run, v < 0 ? rows_of(s, l->batch, l->numbers[w->item], 0) : s->handlers.v[v].rows);
            want += w->row == 0 ? l->seen_rows[w->item] : 0;
        }
        drop_all(&items);
    }
    if (rows != want)
        sim_violated(s, INV_ROWS, "%s has %" PRId64 " rows, and %" PRId64 " belong there", where, rows, want);
}

/* Attempts are remembered from one look to the next: rows of an item never change into another attempt's. */
static void forget_counts(struct sim *s, const struct batch_plan *b)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next)
        if (l->seen_rows != NULL && strcmp(l->batch->target, b->target) == 0)
            memset(l->seen_rows, 0, (size_t)(l->seen_cap + 1) * sizeof(*l->seen_rows));
}

void rows_check(struct sim *s, const struct batch_plan *b, const doc *rows, const struct writes *writes, const char *where)
{
    struct want *table = NULL, *w, *tmp;
    forget_counts(s, b);
    put_old(s, b, &table);
    int64_t old = HASH_COUNT(table);
    for (size_t i = 0; i < writes->count && is_exact(b); i++)
        write_cut(s, &writes->v[i], &table);
    for (size_t i = 0; i < doc_len(rows); i++)
        check_row(s, b, doc_at(rows, i), table, where);
    HASH_ITER(hh, table, w, tmp)
        if (!w->found)
            sim_violated(s, INV_ROWS, "%s lacks row %" PRId64 " of item %" PRId64 " of run %d (key %s)", where, w->row, w->item, w->run, w->key);
    if (!is_exact(b))
        check_appended(s, writes, (int64_t)doc_len(rows), old, where);
    drop_all(&table);
}
