#include "tests/sim/check.h"

/* The rules of a run's log, as the design has them, a second time: short, and without regard to speed. */

static void grow_items(struct ledger *l, int64_t items)
{
    if (items <= l->owners)
        return;
    int64_t want = i64_max(items, l->owners * 2);
    l->owner = xreallocarray(l->owner, (size_t)want, sizeof(*l->owner));
    for (int64_t i = l->owners; i < want; i++)
        l->owner[i] = OWNER_NONE;
    l->owners = want;
}

/* Whether it was not done before. */
static bool own(struct ledger *l, int64_t item, int64_t owner)
{
    grow_items(l, item + 1);
    if (l->owner[item] != OWNER_NONE)
        return false;
    l->owner[item] = owner;
    l->done++;
    l->failed += owner == OWNER_FAILED;
    return true;
}

static struct lcut *add_cut(struct ledger *l, const char *shard, int64_t number, bool last)
{
    if (l->cut_count == l->cut_cap) {
        l->cut_cap = l->cut_cap ? l->cut_cap * 2 : 8;
        l->cuts = xreallocarray(l->cuts, l->cut_cap, sizeof(*l->cuts));
    }
    struct lcut *c = &l->cuts[l->cut_count++];
    *c = (struct lcut){.number = number, .last = last};
    snprintf(c->shard, sizeof(c->shard), "%s", shard);
    return c;
}

static void cut_run(struct ledger *l, bool last)
{
    struct lcut *c = add_cut(l, "", l->run_cuts++, last);
    for (size_t i = 0; i < l->load_count; i++)
        if (l->loads[i]->cut < 0 && l->loads[i]->fresh > 0) {
            l->loads[i]->cut = c - l->cuts;
            c->loads++;
        }
}

static void end(struct ledger *l, enum log_type by)
{
    l->phase = PHASE_ENDED;
    l->ended_by = by;
}

static int64_t tolerated(const struct ledger *l)
{
    const struct fold_config *f = &l->record->finish;
    if (f->tolerate_count >= 0)
        return f->tolerate_count;
    return (int64_t)(f->tolerate_percent * (double)l->items / 100 + 1e-9);
}

static void complete(struct ledger *l)
{
    if (l->phase != PHASE_WORKING || l->done < l->items)
        return;
    if (l->failed > tolerated(l)) {
        l->phase = PHASE_HELD;
        return;
    }
    cut_run(l, true);
    end(l, LOGM_SEAL);
}

static void take_load(struct ledger *l, const struct manifest *m)
{
    struct lload *x = xcalloc(1, sizeof(*x));
    snprintf(x->id, sizeof(x->id), "%s", m->load);
    snprintf(x->shard, sizeof(x->shard), "%s", m->incarnation);
    x->cut = -1;
    x->rows = m->rows;
    x->range_count = m->range_count;
    x->ranges = xmemdup(m->ranges, m->range_count * sizeof(*m->ranges));
    if (l->load_count == l->load_cap) {
        l->load_cap = l->load_cap ? l->load_cap * 2 : 16;
        l->loads = xreallocarray(l->loads, l->load_cap, sizeof(struct lload *));
    }
    l->loads[l->load_count] = x;
    for (size_t i = 0; i < m->range_count; i++)
        for (int64_t k = 0; k < m->ranges[i].count; k++)
            x->fresh += own(l, m->ranges[i].first + k, (int64_t)l->load_count);
    l->load_count++;
    HASH_ADD_STR(l->by_id, id, x);
}

static void take_manifest(struct ledger *l, const struct manifest *m)
{
    struct lload *known = NULL;
    HASH_FIND_STR(l->by_id, m->load, known);
    if (l->phase == PHASE_ENDED || (m->load[0] != '\0' && known != NULL))
        return;
    if (m->load[0] != '\0')
        take_load(l, m);
    for (size_t i = 0; i < m->empty_count; i++)
        for (int64_t k = 0; k < m->empty[i].count; k++)
            own(l, m->empty[i].first + k, OWNER_EMPTY);
    for (size_t i = 0; i < m->failure_count; i++)
        own(l, m->failures[i].item, OWNER_FAILED);
    complete(l);
}

static bool uncut_of(struct ledger *l, const char *id, const char *shard, struct lload **out)
{
    struct lload *x = NULL;
    HASH_FIND_STR(l->by_id, id, x);
    *out = x;
    return x != NULL && x->cut < 0 && x->fresh > 0 && strcmp(x->shard, shard) == 0;
}

static void take_cut(struct ledger *l, const struct log_msg *m)
{
    struct lload *x;
    int64_t number = 0, any = 0;
    if (l->phase == PHASE_ENDED || l->phase == PHASE_HELD)
        return;
    if (m->shard[0] == '\0') {
        if (m->cut == l->run_cuts)
            cut_run(l, false);
        return;
    }
    for (size_t i = 0; i < l->cut_count; i++)
        number += strcmp(l->cuts[i].shard, m->shard) == 0;
    for (size_t i = 0; i < m->load_count; i++)
        any += uncut_of(l, m->loads[i], m->shard, &x);
    if (m->cut != number || any == 0)
        return;
    struct lcut *c = add_cut(l, m->shard, number, false);
    for (size_t i = 0; i < m->load_count; i++)
        if (uncut_of(l, m->loads[i], m->shard, &x)) {
            x->cut = c - l->cuts;
            c->loads++;
        }
}

static struct lcut *open_cut(struct ledger *l, const char *shard, int64_t number)
{
    for (size_t i = 0; i < l->cut_count; i++)
        if (l->cuts[i].state == LCUT_OPEN && (shard == NULL || (l->cuts[i].number == number && strcmp(l->cuts[i].shard, shard) == 0)))
            return &l->cuts[i];
    return NULL;
}

static void take_outcome(struct ledger *l, const struct log_msg *m)
{
    struct lcut *c = open_cut(l, m->shard, m->cut);
    if (c == NULL)
        return;
    c->state = m->ok ? LCUT_DONE : LCUT_FAILED;
    c->inserted = m->inserted;
    c->updated = m->updated;
    c->deleted = m->deleted;
    if (m->ok)
        return;
    end(l, LOGM_OUTCOME);
    l->failed_end = true;
    for (size_t i = 0; i < l->cut_count; i++)
        if (l->cuts[i].state == LCUT_OPEN && (!m->shard[0] || !l->cuts[i].shard[0] || strcmp(l->cuts[i].shard, m->shard) == 0))
            l->cuts[i].state = LCUT_VOID;
}

bool ledger_settled(const struct ledger *l)
{
    return l->withdrawn || l->closed || (l->phase == PHASE_ENDED && open_cut((struct ledger *)(uintptr_t)l, NULL, 0) == NULL);
}

static void take_seal(struct check *c, struct ledger *l, const struct log_msg *m)
{
    if (l->phase != PHASE_PUBLISHING)
        return;
    for (int64_t i = m->items; i < l->owners; i++)
        if (l->owner[i] != OWNER_NONE)
            sim_violated(c->sim, INV_ROWS, "%s is sealed with %" PRId64 " items, and item %" PRId64 " is done", l->record->run, m->items, i);
    l->items = m->items;
    l->phase = PHASE_WORKING;
    complete(l);
}

void ledger_apply(struct check *c, struct ledger *l, const struct log_msg *m, int64_t offset)
{
    bool running = l->phase == PHASE_PUBLISHING || l->phase == PHASE_WORKING, failed = l->failed_end;
    enum ledger_phase before = l->phase;
    switch (m->type) {
    case LOGM_SEAL: take_seal(c, l, m); break;
    case LOGM_MANIFEST: take_manifest(l, &m->manifest); break;
    case LOGM_CUT: take_cut(l, m); break;
    case LOGM_OUTCOME: take_outcome(l, m); break;
    case LOGM_ACCEPT:
        if (l->phase == PHASE_HELD) {
            cut_run(l, true);
            end(l, LOGM_ACCEPT);
        }
        break;
    case LOGM_ADOPTED:
        if (l->phase == PHASE_HELD && open_cut(l, NULL, 0) == NULL) {
            snprintf(l->adopted_by, sizeof(l->adopted_by), "%s", m->run);
            end(l, LOGM_ADOPTED);
        }
        break;
    case LOGM_CANCEL:
        if (l->phase != PHASE_ENDED)
            end(l, LOGM_CANCEL);
        break;
    case LOGM_FATAL:
        if (running)
            end(l, LOGM_FATAL);
        break;
    case LOGM_ABANDON:
        if (l->phase == PHASE_PUBLISHING && m->heard >= l->heard)
            end(l, LOGM_ABANDON);
        break;
    case LOGM_PAUSE:
    case LOGM_RESUME: l->paused = m->type == LOGM_PAUSE; break;
    case LOGM_LOST:
        if (l->phase == PHASE_WORKING)
            end(l, LOGM_LOST);
        break;
    default: break;
    }
    if (m->type == LOGM_ALIVE || m->type == LOGM_SEAL)
        l->heard = offset + 1;
    if (l->phase != before || l->failed_end != failed)
        snprintf(l->why, sizeof(l->why), "%s", m->text ? m->text : "");
}

void ledger_free(struct ledger *l)
{
    for (size_t i = 0; i < l->load_count; i++) {
        HASH_DEL(l->by_id, l->loads[i]);
        free(l->loads[i]->ranges);
        free(l->loads[i]);
    }
    free(l->loads);
    free(l->cuts);
    free(l->owner);
    free(l->numbers);
    free(l->seen);
    free(l->seen_rows);
    record_free(l->record);
    free(l);
}
