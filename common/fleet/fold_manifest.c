#include "common/fleet/fold_internal.h"

static void names_free(struct fold_name *names)
{
    struct fold_name *n, *tmp;
    HASH_ITER(hh, names, n, tmp) {
        HASH_DEL(names, n);
        free(n);
    }
}

void fold_index_free(struct fold_index *x)
{
    names_free(x->loads);
    names_free(x->shards);
    free(x);
}

int64_t fold_highest(const struct fold *f)
{
    return fold_index(f)->highest - 1;
}

static int64_t name_find(struct fold_name *names, const char *id)
{
    struct fold_name *n;
    HASH_FIND_STR(names, id, n);
    return n ? n->at : -1;
}

static struct fold_name *name_new(const char *id, int64_t at)
{
    struct fold_name *n = xcalloc(1, sizeof(*n));
    snprintf(n->id, sizeof(n->id), "%s", id);
    n->at = at;
    return n;
}

static int shard_of(struct fold *f, const char *incarnation)
{
    struct fold_index *x = fold_index(f);
    int64_t at = name_find(x->shards, incarnation);
    if (at >= 0)
        return (int)at;
    FOLD_GROW(f->shards, f->shard_count, f->shard_cap);
    struct fold_shard *s = &f->shards[f->shard_count];
    *s = (struct fold_shard){.cuts = 0};
    snprintf(s->incarnation, sizeof(s->incarnation), "%s", incarnation);
    struct fold_name *n = name_new(incarnation, (int64_t)f->shard_count);
    HASH_ADD_STR(x->shards, id, n);
    return (int)f->shard_count++;
}

static void grow_bits(const struct fold *f, uint64_t **bits, int64_t *len, int64_t items)
{
    if (items <= *len)
        return;
    int64_t want = i64_max(items, i64_max(f->items, i64_min(*len * 2, LIMIT_ITEMS)));
    int64_t words = (want + 63) / 64, old = *len / 64;
    uint64_t *grown = xcalloc((size_t)words, sizeof(*grown)); /* pages that no item falls on stay the kernel's */
    if (old > 0)
        memcpy(grown, *bits, (size_t)old * sizeof(*grown));
    free(*bits);
    *bits = grown;
    *len = words * 64;
}

/* True when the item was not done before. */
static bool mark(struct fold *f, int64_t item)
{
    grow_bits(f, &f->bits, &f->bits_len, item + 1);
    uint64_t bit = UINT64_C(1) << (item % 64);
    if (f->bits[item / 64] & bit)
        return false;
    f->bits[item / 64] |= bit;
    f->done++;
    fold_index(f)->highest = i64_max(fold_index(f)->highest, item + 1);
    return true;
}

static void exclude(struct fold *f, size_t load, int64_t item)
{
    FOLD_GROW(f->exclusions, f->exclusion_count, f->exclusion_cap);
    f->exclusions[f->exclusion_count++] = (struct fold_exclusion){.load = load, .item = item};
    f->loads[load].exclusion_count++;
}

/* Nothing of the load is left, so nobody need read it; its id stays known. */
static void do_without(struct fold *f, size_t load)
{
    f->loads[load].cut = LOAD_UNNEEDED;
    f->exclusion_count = f->loads[load].first_exclusion;
    f->loads[load].exclusion_count = 0;
    f->rows -= f->loads[load].rows;
    f->shards[f->loads[load].shard].uncut--;
    fold_index(f)->uncut--;
}

/* Accepts the load; items of it that are done already are excluded from it. Returns how many were new. */
static int64_t fold_a_load(struct fold *f, const struct manifest *m, int64_t offset)
{
    struct fold_index *x = fold_index(f);
    int shard = shard_of(f, m->incarnation);
    FOLD_GROW(f->loads, f->load_count, f->load_cap);
    size_t at = f->load_count++;
    f->loads[at] = (struct fold_load){
        .shard = shard, .rows = m->rows, .items = ranges_items(m->ranges, m->range_count), .cut = LOAD_UNCUT, .first_exclusion = f->exclusion_count,
        .has_range = m->has_range, .range_null = m->range_null, .range_lo = m->range_lo, .range_hi = m->range_hi, .offset = offset};
    snprintf(f->loads[at].id, sizeof(f->loads[at].id), "%s", m->load);
    struct fold_name *n = name_new(m->load, (int64_t)at);
    HASH_ADD_STR(x->loads, id, n);
    x->uncut++;
    f->shards[shard].loads++;
    f->shards[shard].uncut++;
    f->rows += m->rows;
    int64_t fresh = 0;
    for (size_t i = 0; i < m->range_count; i++)
        for (int64_t k = 0; k < m->ranges[i].count; k++) {
            int64_t item = m->ranges[i].first + k;
            if (mark(f, item))
                fresh++;
            else
                exclude(f, at, item);
        }
    if (fresh == 0)
        do_without(f, at);
    return fresh;
}

static void keep_failure(struct fold *f, const struct item_failure *from)
{
    grow_bits(f, &f->failed_bits, &f->failed_len, from->item + 1);
    f->failed_bits[from->item / 64] |= UINT64_C(1) << (from->item % 64);
    if (f->on_failure)
        f->on_failure(f->on_failure_arg, from, f->now_ms);
    if (f->failure_count == FOLD_FAILURES)
        return;
    FOLD_GROW(f->failures, f->failure_count, f->failure_cap);
    f->failures[f->failure_count++] = (struct fold_failure){
        .item = from->item, .attempts = from->attempts, .key = xstrdup(from->key), .reason = xstrdup(from->reason), .text = xstrdup(from->text)};
}

/* The highest item a manifest names. */
static int64_t manifest_highest(const struct manifest *m)
{
    int64_t highest = -1;
    if (m->range_count > 0)
        highest = m->ranges[m->range_count - 1].first + m->ranges[m->range_count - 1].count - 1;
    if (m->empty_count > 0)
        highest = i64_max(highest, m->empty[m->empty_count - 1].first + m->empty[m->empty_count - 1].count - 1);
    for (size_t i = 0; i < m->failure_count; i++)
        highest = i64_max(highest, m->failures[i].item);
    return highest;
}

int fold_manifest(struct fold *f, const struct manifest *m, int64_t offset, struct error *err)
{
    if (m->load[0] != '\0' && name_find(fold_index(f)->loads, m->load) >= 0)
        return 1;
    int64_t highest = manifest_highest(m);
    if (f->items >= 0 && highest >= f->items)
        return error_set(err, ERR_FATAL, 0, "a manifest names item %" PRId64 ", but the run was sealed with %" PRId64 " items", highest, f->items);
    int64_t good = 0, bad = 0;
    if (m->load[0] != '\0')
        good += fold_a_load(f, m, offset);
    for (size_t i = 0; i < m->empty_count; i++)
        for (int64_t k = 0; k < m->empty[i].count; k++)
            if (mark(f, m->empty[i].first + k)) {
                f->empty++;
                good++;
            }
    for (size_t i = 0; i < m->failure_count; i++)
        if (mark(f, m->failures[i].item)) {
            keep_failure(f, &m->failures[i]);
            bad++;
        }
    f->failed += bad;
    /* Rows of good items are on their way while a failure is told at once: so what counts beside failures is what handlers succeeded with. */
    f->in_a_row = good > 0 || m->succeeded > 0 ? 0 : f->in_a_row + bad;
    return good + bad > 0 || m->load[0] != '\0' ? 0 : 1;
}
