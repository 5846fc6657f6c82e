#include "common/bus/bus_memory.h"

#include "common/base/failures.h"

/*
 * Groups in memory. As in Kafka with eager range assignment: when somebody joins or leaves, everybody gives up what it holds, and then
 * the partitions are dealt out anew, in the order in which the members joined. A static member that leaves, but not for good, keeps its
 * slot (and its partitions wait) until it is back or its session is over.
 */

struct mem_offset { int64_t offset; char *metadata; };

struct mem_group;
struct mem_slot {
    struct mem_share *share;
    struct mem_group *live;   /* NULL: a static member that is away */
    char *member;             /* NULL: dynamic */
    int32_t first, count;     /* its partitions since the last deal */
    struct timer *expiry;
    TAILQ_ENTRY(mem_slot) link;
};

/* A group's part in one topic. */
struct mem_share {
    struct bus_memory *memory;
    char *group;
    struct mem_topic *topic;
    struct mem_offset *committed; /* by partition */
    TAILQ_HEAD(mem_slots, mem_slot) slots;
    bool dealing;                 /* a deal is among the operations */
    LIST_ENTRY(mem_share) link;
};

struct mem_group {
    struct bus_group base;
    struct mem_share *share;      /* NULL: the topic does not exist */
    struct mem_slot *slot;        /* NULL: failed, and replaced by another one of its name */
    struct bus_group_events events;
    void *arg;
    struct mem_reader *readers;   /* one for each partition it holds */
    int32_t first, held;
    int64_t session_ms;
    bool paused, leaving, failed;
    bool halt;                    /* any of the three */
    LIST_ENTRY(mem_group) link;
};

static struct mem_group *of(struct bus_group *g)
{
    return (struct mem_group *)g;
}

static struct bus_memory *memory_of(struct mem_group *g)
{
    return bus_memory_of(g->base.bus);
}

static void update_halt(struct mem_group *g)
{
    bool was = g->halt;
    g->halt = g->paused || g->leaving || g->failed;
    if (was && !g->halt)
        for (int32_t i = 0; i < g->held; i++)
            mem_reader_wake(memory_of(g), &g->readers[i]);
}

/* --- dealing ------------------------------------------------------------------------------------------------------------------ */

static void drop_readers(struct mem_group *g)
{
    for (int32_t i = 0; i < g->held; i++)
        mem_reader_detach(memory_of(g), &g->readers[i]);
    free(g->readers);
    g->readers = NULL;
    g->held = 0;
}

static void give_up(struct mem_group *g, bool lost)
{
    for (int32_t i = 0; i < g->held; i++)
        g->events.revoked(g->arg, g->first + i, lost);
    drop_readers(g);
}

static int64_t start_of(const struct mem_part *p, int64_t committed)
{
    return committed < p->low || committed > p->end ? p->low : committed;
}

static void take_over(struct mem_group *g)
{
    struct mem_share *s = g->share;
    g->first = g->slot->first;
    g->held = g->slot->count;
    g->readers = xcalloc((size_t)g->held + 1, sizeof(*g->readers));
    for (int32_t i = 0; i < g->held; i++) {
        struct mem_reader *r = &g->readers[i];
        *r = (struct mem_reader){.halt = &g->halt, .message = g->events.message, .arg = g->arg};
        struct mem_part *p = &s->topic->parts[g->first + i];
        mem_reader_attach(r, p, start_of(p, s->committed[g->first + i].offset));
    }
    for (int32_t i = 0; i < g->held; i++) {
        const struct mem_offset *c = &s->committed[g->first + i];
        g->events.assigned(g->arg, g->first + i, c->offset, c->metadata ? c->metadata : "");
    }
    for (int32_t i = 0; i < g->held; i++)
        mem_reader_wake(memory_of(g), &g->readers[i]);
    if (g->events.settled != NULL)
        g->events.settled(g->arg);
}

static void run_deal(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    struct mem_share *s = op->subject;
    s->dealing = false;
    struct mem_slot *slot;
    TAILQ_FOREACH(slot, &s->slots, link)
        if (slot->live != NULL)
            give_up(slot->live, false);
    int32_t slots = 0, dealt = 0, i = 0;
    TAILQ_FOREACH(slot, &s->slots, link)
        slots++;
    TAILQ_FOREACH(slot, &s->slots, link) {
        slot->first = dealt;
        slot->count = s->topic->info.partitions / slots + (i++ < s->topic->info.partitions % slots ? 1 : 0);
        dealt += slot->count;
    }
    TAILQ_FOREACH(slot, &s->slots, link)
        if (slot->live != NULL && !slot->live->leaving)
            take_over(slot->live);
}

static void want_deal(struct mem_share *s)
{
    if (s->dealing)
        return;
    s->dealing = true;
    mem_op_new(s->memory, run_deal, s, NULL);
}

/* --- slots ---------------------------------------------------------------------------------------------------------------------- */

static struct mem_share *share_find(struct bus_memory *m, const char *group, const struct mem_topic *topic)
{
    struct mem_share *s;
    LIST_FOREACH(s, &m->shares, link)
        if (s->topic == topic && strcmp(s->group, group) == 0)
            return s;
    return NULL;
}

static struct mem_share *share_get(struct bus_memory *m, const char *group, struct mem_topic *topic)
{
    struct mem_share *s = share_find(m, group, topic);
    if (s != NULL)
        return s;
    s = xcalloc(1, sizeof(*s));
    s->memory = m;
    s->group = xstrdup(group);
    s->topic = topic;
    s->committed = xcalloc((size_t)topic->room, sizeof(*s->committed));
    for (int32_t p = 0; p < topic->room; p++)
        s->committed[p].offset = -1;
    TAILQ_INIT(&s->slots);
    LIST_INSERT_HEAD(&m->shares, s, link);
    return s;
}

static void slot_free(struct mem_slot *slot)
{
    TAILQ_REMOVE(&slot->share->slots, slot, link);
    timer_free(slot->expiry);
    free(slot->member);
    free(slot);
}

static void on_expiry(void *arg)
{
    struct mem_slot *slot = arg;
    struct mem_share *s = slot->share;
    slot_free(slot);
    want_deal(s);
}

static void run_failed(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    struct mem_group *g = op->subject;
    give_up(g, true);
    if (g->events.failed != NULL)
        g->events.failed(g->arg, &op->err);
}

static void fail(struct mem_group *g)
{
    g->failed = true;
    g->slot = NULL;
    update_halt(g);
}

static void fence(struct mem_group *old)
{
    struct mem_op *op = mem_op_new(memory_of(old), run_failed, old, NULL);
    failure_set(&op->err, FROM_KAFKA, 0, "FENCED_INSTANCE_ID", "member %s of group %s was fenced: another process joined under the same name",
                old->slot->member, old->share->group);
    fail(old);
}

static void run_take_over(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    struct mem_group *g = op->subject;
    if (g->slot != NULL && !g->leaving && !g->share->dealing && g->readers == NULL)
        take_over(g);
}

/* A static member that is known takes its partitions back, and the others are not disturbed. */
static bool slot_retake(struct mem_share *s, struct mem_group *g, const char *member)
{
    struct mem_slot *slot;
    TAILQ_FOREACH(slot, &s->slots, link) {
        if (member == NULL || slot->member == NULL || strcmp(slot->member, member) != 0)
            continue;
        if (slot->live != NULL)
            fence(slot->live);
        timer_free(slot->expiry);
        slot->expiry = NULL;
        slot->live = g;
        g->slot = slot;
        mem_op_new(s->memory, run_take_over, g, NULL);
        return true;
    }
    return false;
}

static void slot_new(struct mem_share *s, struct mem_group *g, const char *member)
{
    struct mem_slot *slot = xcalloc(1, sizeof(*slot));
    slot->share = s;
    slot->live = g;
    slot->member = member ? xstrdup(member) : NULL;
    TAILQ_INSERT_TAIL(&s->slots, slot, link);
    g->slot = slot;
    want_deal(s);
}

/* --- the calls ------------------------------------------------------------------------------------------------------------------- */

struct bus_group *mem_join(struct bus *b, const struct bus_group_config *config, const struct bus_group_events *events, void *arg,
                           struct error *err)
{
    (void)err;
    struct bus_memory *m = bus_memory_of(b);
    struct mem_group *g = xcalloc(1, sizeof(*g));
    LIST_INSERT_HEAD(&m->groups, g, link);
    g->base.bus = b;
    g->events = *events;
    g->arg = arg;
    g->session_ms = config->session_ms ? config->session_ms : BUS_SESSION_MS;
    struct mem_topic *topic = mem_topic_find(m, config->topic);
    if (topic == NULL) {
        struct mem_op *op = mem_op_new(m, run_failed, g, NULL);
        (void)bus_error_topic(&op->err, config->topic);
        fail(g);
        return &g->base;
    }
    g->share = share_get(m, config->group, topic);
    if (!slot_retake(g->share, g, config->member))
        slot_new(g->share, g, config->member);
    return &g->base;
}

void mem_group_pause(struct bus_group *base)
{
    of(base)->paused = true;
    update_halt(of(base));
}

void mem_group_resume(struct bus_group *base)
{
    of(base)->paused = false;
    update_halt(of(base));
}

static void run_done(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    op->cb.done(op->arg, op->flag ? &op->err : NULL);
}

void mem_group_commit(struct bus_group *base, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    struct mem_group *g = of(base);
    struct error err = ERROR_INIT;
    bool bad = bus_commits_check(commits, count, &err) < 0;
    for (size_t i = 0; i < count && !bad && !g->failed; i++) {
        const struct bus_commit *c = &commits[i];
        if (c->partition < g->first || c->partition >= g->first + g->held)
            continue;
        struct mem_offset *o = &g->share->committed[c->partition];
        o->offset = c->offset;
        free(o->metadata);
        o->metadata = c->metadata && c->metadata[0] ? xstrdup(c->metadata) : NULL;
        mem_part_dirty(memory_of(g), &g->share->topic->parts[c->partition]);
    }
    if (cb == NULL)
        return;
    struct mem_op *op = mem_op_new(memory_of(g), run_done, g, arg);
    op->cb.done = cb;
    op->flag = bad;
    op->err = err;
}

static void release_slot(struct mem_group *g, bool for_good)
{
    struct mem_slot *slot = g->slot;
    if (slot == NULL)
        return;
    slot->live = NULL;
    if (slot->member != NULL && !for_good) {
        slot->expiry = timer_new(g->share->memory->loop, on_expiry, slot);
        timer_set(slot->expiry, g->session_ms * US_PER_MS);
        return;
    }
    struct mem_share *s = g->share;
    slot_free(slot);
    if (!TAILQ_EMPTY(&s->slots))
        want_deal(s);
}

static void run_left(struct bus_memory *m, struct mem_op *op)
{
    struct mem_group *g = op->subject;
    mem_ops_cancel(m, g);
    LIST_REMOVE(g, link);
    free(g);
    if (op->cb.left != NULL)
        op->cb.left(op->arg);
}

/* The commits made while giving up are answered by operations of their own, so that the last one comes after them. */
static void run_leave(struct bus_memory *m, struct mem_op *op)
{
    struct mem_group *g = op->subject;
    give_up(g, false);
    release_slot(g, op->flag);
    struct mem_op *last = mem_op_new(m, run_left, g, op->arg);
    last->cb.left = op->cb.left;
}

void mem_group_leave(struct bus_group *base, bool for_good, void (*left)(void *), void *arg)
{
    struct mem_group *g = of(base);
    assert(!g->leaving);
    g->leaving = true;
    update_halt(g);
    struct mem_op *op = mem_op_new(memory_of(g), run_leave, g, arg);
    op->cb.left = left;
    op->flag = for_good;
}

/* --- for the rest of the bus --------------------------------------------------------------------------------------------------------- */

int64_t mem_group_committed(struct bus_memory *m, const char *group, const struct mem_topic *topic, int32_t partition)
{
    struct mem_share *s = share_find(m, group, topic);
    return s == NULL || partition >= topic->info.partitions ? -1 : s->committed[partition].offset;
}

void mem_groups_deal(struct bus_memory *m, const struct mem_topic *topic)
{
    struct mem_share *s;
    LIST_FOREACH(s, &m->shares, link)
        if (s->topic == topic && !TAILQ_EMPTY(&s->slots))
            want_deal(s);
}

int64_t mem_groups_low(struct bus_memory *m, const struct mem_part *p)
{
    int64_t low = -1;
    struct mem_share *s;
    LIST_FOREACH(s, &m->shares, link) {
        if (s->topic != p->topic)
            continue;
        int64_t committed = s->committed[p->index].offset;
        if (committed < 0)
            return -1;
        low = low < 0 ? committed : i64_min(low, committed);
    }
    return low;
}

void mem_groups_free(struct bus_memory *m)
{
    struct mem_group *g;
    while ((g = LIST_FIRST(&m->groups)) != NULL) {
        LIST_REMOVE(g, link);
        drop_readers(g);
        free(g);
    }
    struct mem_share *s;
    while ((s = LIST_FIRST(&m->shares)) != NULL) {
        LIST_REMOVE(s, link);
        struct mem_slot *slot;
        while ((slot = TAILQ_FIRST(&s->slots)) != NULL)
            slot_free(slot);
        for (int32_t p = 0; p < s->topic->info.partitions; p++)
            free(s->committed[p].metadata);
        free(s->committed);
        free(s->group);
        free(s);
    }
}
