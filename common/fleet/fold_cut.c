#include "common/base/ids.h"
#include "common/fleet/fold_internal.h"

static struct fold_cut *add_cut(struct fold *f, int64_t number, int shard, int64_t offset)
{
    FOLD_GROW(f->cuts, f->cut_count, f->cut_cap);
    struct fold_cut *c = &f->cuts[f->cut_count++];
    *c = (struct fold_cut){.number = number, .shard = shard, .offset = offset, .state = CUT_OPEN};
    return c;
}

static void give_load(struct fold *f, size_t load, struct fold_cut *c)
{
    struct fold_index *x = fold_index(f);
    f->loads[load].cut = c - f->cuts;
    f->shards[f->loads[load].shard].uncut--;
    c->loads++;
    x->uncut--;
    while (x->first_uncut < f->load_count && f->loads[x->first_uncut].cut != LOAD_UNCUT)
        x->first_uncut++;
}

void fold_cut_run(struct fold *f, int64_t offset, bool last)
{
    struct fold_index *x = fold_index(f);
    struct fold_cut *c = add_cut(f, f->run_cuts++, -1, offset);
    c->last = last;
    for (size_t i = x->first_uncut; i < f->load_count; i++)
        if (f->loads[i].cut == LOAD_UNCUT)
            give_load(f, i, c);
    x->first_uncut = f->load_count;
}

int fold_find_shard(const struct fold *f, const char *incarnation)
{
    struct fold_name *n;
    HASH_FIND_STR(fold_index(f)->shards, incarnation, n);
    return n ? (int)n->at : -1;
}

/* The named load, if it is of this shard and not cut yet; else -1. */
static int64_t find_uncut(const struct fold *f, const char *id, int shard)
{
    struct fold_name *n;
    HASH_FIND_STR(fold_index(f)->loads, id, n);
    if (n == NULL || f->loads[n->at].cut != LOAD_UNCUT || f->loads[n->at].shard != shard)
        return -1;
    return n->at;
}

int fold_cut_shard(struct fold *f, const struct log_msg *m, int64_t offset)
{
    int shard = fold_find_shard(f, m->shard);
    if (shard < 0 || m->cut != f->shards[shard].cuts)
        return 1;
    bool any = false;
    for (size_t i = 0; i < m->load_count; i++)
        any = any || find_uncut(f, m->loads[i], shard) >= 0;
    if (!any)
        return 1;
    struct fold_cut *c = add_cut(f, f->shards[shard].cuts++, shard, offset);
    for (size_t i = 0; i < m->load_count; i++) {
        int64_t load = find_uncut(f, m->loads[i], shard); /* a name given twice is found once */
        if (load >= 0)
            give_load(f, (size_t)load, c);
    }
    return 0;
}

static void skip_settled(struct fold *f)
{
    struct fold_index *x = fold_index(f);
    while (x->first_open < f->cut_count && f->cuts[x->first_open].state != CUT_OPEN)
        x->first_open++;
}

int fold_settle_cut(struct fold *f, const struct log_msg *m)
{
    int shard = m->shard[0] ? fold_find_shard(f, m->shard) : -1;
    if (m->shard[0] && shard < 0)
        return 1;
    for (size_t i = fold_index(f)->first_open; i < f->cut_count; i++) {
        struct fold_cut *c = &f->cuts[i];
        if (c->state != CUT_OPEN || c->shard != shard || c->number != m->cut)
            continue;
        c->state = m->ok ? CUT_DONE : CUT_FAILED;
        c->job = xstrdup(m->job);
        c->text = xstrdup(m->text);
        c->inserted = m->inserted;
        c->updated = m->updated;
        c->deleted = m->deleted;
        c->rows = m->rows;
        skip_settled(f);
        return 0;
    }
    return 1;
}

/* A worker's increment stands on its own: another worker's that failed says nothing of it, and it may be written already. */
void fold_void_open_cuts(struct fold *f, int shard)
{
    for (size_t i = fold_index(f)->first_open; i < f->cut_count; i++)
        if (f->cuts[i].state == CUT_OPEN && (shard < 0 || f->cuts[i].shard < 0 || f->cuts[i].shard == shard))
            f->cuts[i].state = CUT_VOID;
    skip_settled(f);
}

static const struct fold_cut *open_from(const struct fold *f, size_t i)
{
    for (; i < f->cut_count; i++)
        if (f->cuts[i].state == CUT_OPEN)
            return &f->cuts[i];
    return NULL;
}

const struct fold_cut *fold_open_cut(const struct fold *f)
{
    return open_from(f, fold_index(f)->first_open);
}

const struct fold_cut *fold_next_open(const struct fold *f, const struct fold_cut *c)
{
    return open_from(f, (size_t)(c - f->cuts) + 1);
}

bool fold_cut_ready(const struct fold *f, const struct fold_cut *c)
{
    const struct fold_cut *before = fold_open_cut(f);
    for (; before != NULL && before < c; before = fold_next_open(f, before))
        if (c->shard < 0 || before->shard < 0 || before->shard == c->shard)
            return false;
    return c->state == CUT_OPEN;
}

void fold_uncut_loads(const struct fold *f, int shard, bool (*each)(void *, const struct fold_load *), void *arg)
{
    int64_t left = f->shards[shard].uncut;
    for (size_t i = fold_index(f)->first_uncut; i < f->load_count && left > 0; i++) {
        if (f->loads[i].cut != LOAD_UNCUT || f->loads[i].shard != shard)
            continue;
        left--;
        if (!each(arg, &f->loads[i]))
            return;
    }
}

bool fold_has_uncut(const struct fold *f)
{
    return fold_index(f)->uncut > 0;
}

static void digest_run(const struct fold *f, struct buf *b)
{
    buf_xprintf(b, "%d %d %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d %" PRId64 " %" PRId64 "\n", f->phase, f->end,
                f->end_offset, f->items, f->done, f->failed, f->empty, f->in_a_row, f->paused, f->parallel, f->run_cuts);
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        buf_xprintf(b, "load %s %d %" PRId64 " %" PRId64 " %" PRId64 "\n", l->id, l->shard, l->rows, l->items, l->cut);
    }
    for (size_t i = 0; i < f->exclusion_count; i++)
        buf_xprintf(b, "exclusion %zu %" PRId64 "\n", f->exclusions[i].load, f->exclusions[i].item);
    for (size_t i = 0; i < f->cut_count; i++) {
        const struct fold_cut *c = &f->cuts[i];
        buf_xprintf(b, "cut %" PRId64 " %d %d %" PRId64 " %" PRId64 " %d\n", c->number, c->shard, c->last, c->offset, c->loads, c->state);
    }
}

void fold_digest(const struct fold *f, char out[65])
{
    struct buf b = BUF_INIT(SIZE_MAX / 2);
    digest_run(f, &b);
    for (int64_t i = 0; i < f->bits_len / 64; i++)
        if (f->bits[i] != 0)
            buf_xprintf(&b, "%" PRId64 " %" PRIx64 "\n", i, f->bits[i]);
    for (int64_t i = 0; i < f->failed_len / 64; i++)
        if (f->failed_bits[i] != 0)
            buf_xprintf(&b, "failed %" PRId64 " %" PRIx64 "\n", i, f->failed_bits[i]);
    sha256_hex(b.data, b.len, out);
    buf_free(&b);
}
