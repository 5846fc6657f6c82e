#include "worker/intake.h"

#include "common/fleet/envelope.h"
#include "worker/ackmap.h"
#include "worker/dispatch.h"
#include "worker/parked.h"
#include "worker/post.h"
#include "worker/quarantine.h"
#include "worker/runs.h"
#include "worker/undecodable.h"

#define COMMIT_AGAIN_MS 1000 /* after one that was refused */

struct part {
    struct ackmap *map;     /* NULL: not ours now */
    bool dirty;             /* something to commit */
    bool open;              /* the quarantine knows that there is something to do */
};

/* What the bus calls back with: leaving takes a while, and the intake may be gone before it is over. */
struct member { struct intake *in; void (*left)(void *); void *arg; LIST_HEAD(, waited) waited; };

/* A commit that the quarantine waits for. */
struct waited { struct member *member; uint64_t number; LIST_ENTRY(waited) link; };

struct intake {
    struct worker *w;
    struct member *member;
    struct bus_group *group;
    struct part *parts;
    int32_t part_count;
    struct timer *commit;
    struct buf scratch, metadata;
    struct parked *parked;
    struct undecodable *bad;
    bool paused, stopped, gave_up, leaving;
    struct run *last;       /* of the last message: mostly that of the next one too */
    uint64_t last_version;
};

static struct intake *intake_of(void *member)
{
    return ((struct member *)member)->in;
}

static struct part *part_of(struct intake *in, int32_t partition)
{
    assert(partition >= 0);
    if (partition >= in->part_count) {
        in->parts = xreallocarray(in->parts, (size_t)partition + 1, sizeof(*in->parts));
        memset(in->parts + in->part_count, 0, (size_t)(partition + 1 - in->part_count) * sizeof(*in->parts));
        in->part_count = partition + 1;
    }
    return &in->parts[partition];
}

/* --- commits ------------------------------------------------------------------------------------------------------------------ */

/* One that was refused must not be the last: when nothing else of its partition becomes done, nobody would ever see the queue as worked off. What is
 * committed then is what is done by then, so it does not matter which one it was, nor under which assignment. */
static void on_committed(void *arg, const struct error *err)
{
    struct intake *in = intake_of(arg);
    if (err == NULL || in == NULL || in->leaving)
        return;
    for (int32_t i = 0; i < in->part_count; i++)
        in->parts[i].dirty |= in->parts[i].map != NULL;
    if (!timer_is_set(in->commit))
        timer_set(in->commit, COMMIT_AGAIN_MS * US_PER_MS);
}

static void on_waited(void *arg, const struct error *err)
{
    struct waited *v = arg;
    struct member *member = v->member;
    if (member->in != NULL)
        quarantine_answered(member->in->w->quarantine, v->number, err == NULL);
    LIST_REMOVE(v, link);
    free(v);
    on_committed(member, err);
}

/* last: the partition is about to be given up. */
static void commit_part(struct intake *in, int32_t partition, bool last)
{
    struct part *p = &in->parts[partition];
    int64_t next = p->map ? ackmap_next(p->map) : -1;
    if (!p->dirty || next < 0)
        return;
    p->dirty = false;
    ackmap_metadata(p->map, quarantine_marks(in->w->quarantine, partition, last), &in->metadata);
    struct bus_commit commit = {.partition = partition, .offset = next, .metadata = in->metadata.data};
    uint64_t number = last ? 0 : quarantine_sent(in->w->quarantine, partition);
    if (number == 0) {
        bus_group_commit(in->group, &commit, 1, on_committed, in->member);
    } else {
        struct waited *v = xcalloc(1, sizeof(*v));
        *v = (struct waited){.member = in->member, .number = number};
        LIST_INSERT_HEAD(&in->member->waited, v, link);
        bus_group_commit(in->group, &commit, 1, on_waited, v);
    }
    metric_add(in->w->w.metrics, METRIC_COMMITS, 1);
}

static void commit_all(struct intake *in)
{
    for (int32_t i = 0; i < in->part_count; i++)
        commit_part(in, i, false);
    worker_moved(in->w);
}

static void on_commit_time(void *arg)
{
    struct intake *in = arg;
    bool open = false;
    for (int32_t i = 0; i < in->part_count; i++) {
        struct part *p = &in->parts[i];
        if (!p->open)
            continue;
        p->open = quarantine_tick(in->w->quarantine, i, ackmap_span(p->map) == 0);
        p->dirty |= !p->open;
        open |= p->open;
    }
    commit_all(in);
    if (open && !timer_is_set(in->commit))
        timer_set(in->commit, WAIT_COMMIT_EVERY * US_PER_MS);
}

static void mark_dirty(struct intake *in, struct part *p)
{
    p->dirty = true;
    if (!timer_is_set(in->commit))
        timer_set(in->commit, WAIT_COMMIT_EVERY * US_PER_MS);
}

void intake_commit_soon(struct intake *in, int32_t partition)
{
    part_of(in, partition)->dirty = true;
    timer_set(in->commit, 0);
}

const struct ackmap *intake_map(const struct intake *in, int32_t partition)
{
    return partition < in->part_count ? in->parts[partition].map : NULL;
}

void intake_done(struct intake *in, int32_t partition, int64_t offset)
{
    struct part *p = part_of(in, partition);
    if (p->map == NULL)
        return;
    ackmap_done(p->map, offset);
    mark_dirty(in, p);
}

/* --- how much is taken --------------------------------------------------------------------------------------------------------- */

static bool too_far(const struct intake *in)
{
    for (int32_t i = 0; i < in->part_count; i++)
        if (in->parts[i].map != NULL && ackmap_span(in->parts[i].map) >= LIMIT_ACK_SPAN)
            return true;
    return false;
}

static void check_full(struct intake *in, const struct part *p)
{
    const struct worker *w = in->w;
    if (in->paused || (w->unfinished < LIMIT_UNFINISHED && w->taken_bytes < LIMIT_TAKEN_BYTES && ackmap_span(p->map) < LIMIT_ACK_SPAN))
        return;
    in->paused = true;
    bus_group_pause(in->group);
}

void intake_room(struct intake *in)
{
    const struct worker *w = in->w;
    if (!in->paused || in->stopped)
        return;
    if (w->unfinished > LIMIT_UNFINISHED / 2 || w->taken_bytes > LIMIT_TAKEN_BYTES / 2 || too_far(in))
        return;
    in->paused = false;
    bus_group_resume(in->group);
}

/* --- messages ------------------------------------------------------------------------------------------------------------------- */

static struct run *run_of(struct intake *in, const struct envelope *e, enum run_answer *answer)
{
    if (in->last != NULL && in->last_version == runs_version(in->w->known) && strlen(in->last->id) == e->run_len &&
        memcmp(in->last->id, e->run, e->run_len) == 0) {
        *answer = RUN_OPEN;
        return in->last;
    }
    struct run *run = runs_find(in->w->known, e->run, e->run_len, answer);
    in->last = run;
    in->last_version = runs_version(in->w->known);
    return run;
}

static void take(struct intake *in, const struct bus_msg *m, const struct envelope *e)
{
    struct worker *w = in->w;
    enum run_answer answer;
    struct run *run = run_of(in, e, &answer);
    metric_add(w->w.metrics, METRIC_ITEMS_TAKEN, 1);
    if (answer == RUN_OVER) {
        metric_add(w->w.metrics, METRIC_ITEMS_SKIPPED, 1);
        intake_done(in, m->partition, m->offset);
        return;
    }
    struct item *item = run ? itemmap_find(&run->items, e->item) : NULL;
    if (item != NULL) { /* here already: this delivery shares its fate */
        item_delivered(item, m->partition, m->offset);
        return;
    }
    item = item_new(w, e->item, e->key, e->key_len, e->payload, e->payload_len);
    item_delivered(item, m->partition, m->offset);
    if (answer == RUN_UNKNOWN)
        parked_add(in->parked, item, e->run, e->run_len);
    else
        runs_take(run, item);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct intake *in = intake_of(arg);
    if (in == NULL)
        return;
    struct part *p = part_of(in, m->partition);
    if (in->stopped || p->map == NULL)
        return;
    if (!ackmap_deliver(p->map, m->offset)) {
        metric_add(in->w->w.metrics, METRIC_ITEMS_SKIPPED, 1);
        mark_dirty(in, p);
        return;
    }
    if (!p->open) {
        p->open = true;
        quarantine_delivered(in->w->quarantine, m->partition);
    }
    struct envelope e;
    struct error err;
    error_clear(&err);
    if (envelope_decode(m->value, m->value_len, &in->scratch, &e, &err) != 0)
        undecodable_add(in->bad, m, &err);
    else
        take(in, m, &e);
    if (in->scratch.cap > LIMIT_PAYLOAD / 8)
        buf_free(&in->scratch);
    check_full(in, p);
}

/* --- assignments ----------------------------------------------------------------------------------------------------------------- */

static void on_assigned(void *arg, int32_t partition, int64_t committed, const char *metadata)
{
    struct intake *in = intake_of(arg);
    if (in == NULL)
        return;
    struct part *p = part_of(in, partition);
    ackmap_free(p->map);
    p->map = ackmap_new(committed);
    p->dirty = p->open = false;
    struct marks marks;
    struct error err = ERROR_INIT;
    if (ackmap_load(p->map, metadata, &marks, &err) != 0) {
        struct log_ctx ctx = {.worker = in->w->name, .partition1 = partition + 1};
        log_line(LOG_WARN, &ctx, "%s", err.text);
    }
    quarantine_assigned(in->w->quarantine, partition, &marks);
    metric_add(in->w->w.metrics, METRIC_REBALANCES, 1);
}

static void on_revoked(void *arg, int32_t partition, bool lost)
{
    struct intake *in = intake_of(arg);
    if (in == NULL)
        return;
    struct part *p = part_of(in, partition);
    p->dirty |= quarantine_open(in->w->quarantine, partition);
    if (!lost)
        commit_part(in, partition, true);
    quarantine_revoked(in->w->quarantine, partition);
    ackmap_free(p->map);
    p->map = NULL;
    p->dirty = p->open = false;
    in->gave_up = true;
}

/* Whether some assignment of ours has it, or will deliver it again. */
static bool ours(const struct intake *in, const struct item *item)
{
    for (const struct delivery *d = &item->first; d != NULL; d = d->next)
        if (in->parts[d->partition].map != NULL)
            return true;
    return false;
}

/* Items in flight go on when their partition is given up: their manifest is still good. Those that only wait are left to who has it now. */
static void on_settled(void *arg)
{
    struct intake *in = intake_of(arg);
    if (in == NULL || !in->gave_up)
        return;
    in->gave_up = false;
    struct item *item, *next;
    for (item = TAILQ_FIRST(&in->w->items); item != NULL; item = next) {
        next = TAILQ_NEXT(item, all);
        if (ours(in, item))
            continue;
        if (item->run == NULL)
            item_abandon(item);
        else if (item->state == ITEM_WAITING)
            dispatch_withdraw(item);
    }
    intake_room(in);
    worker_moved(in->w);
}

static void on_failed(void *arg, const struct error *err)
{
    struct intake *in = intake_of(arg);
    if (in != NULL)
        worker_fail(in->w, err);
}

/* --- life -------------------------------------------------------------------------------------------------------------------------- */

struct intake *intake_new(struct worker *w, struct error *err)
{
    static const struct bus_group_events events = {.assigned = on_assigned, .revoked = on_revoked, .message = on_message, .settled = on_settled,
                                                   .failed = on_failed};
    struct intake *in = xcalloc(1, sizeof(*in));
    in->w = w;
    in->scratch = BUF_INIT(2 * LIMIT_PAYLOAD);
    in->metadata = BUF_INIT(LIMIT_COMMIT_METADATA);
    in->commit = timer_new(w->w.loop, on_commit_time, in);
    in->parked = parked_new(w);
    in->bad = undecodable_new(w, in);
    char group[TOPIC_SIZE], topic[TOPIC_SIZE];
    group_of_queue(group, w->prefix, w->queue);
    topic_work(topic, w->prefix, w->queue);
    struct bus_group_config config = {.group = group, .topic = topic, .member = w->o.static_member ? w->name : NULL, .session_ms = w->o.session_ms};
    in->member = xcalloc(1, sizeof(*in->member));
    in->member->in = in;
    in->group = bus_join(w->w.bus, &config, &events, in->member, err);
    if (in->group == NULL) {
        intake_free(in);
        return NULL;
    }
    return in;
}

static void member_free(struct member *member)
{
    struct waited *v;
    while ((v = LIST_FIRST(&member->waited)) != NULL) {
        LIST_REMOVE(v, link);
        free(v);
    }
    free(member);
}

static void on_left(void *arg)
{
    struct member *member = arg;
    if (member->in != NULL) {
        member->in->group = NULL;
        member->in->member = NULL;
        member->left(member->arg);
    }
    member_free(member);
}

void intake_free(struct intake *in)
{
    if (in == NULL)
        return;
    if (in->member != NULL)
        in->member->in = NULL;
    if (in->group != NULL && !in->leaving)
        bus_group_leave(in->group, false, on_left, in->member);
    else if (in->group == NULL)
        free(in->member);
    for (int32_t i = 0; i < in->part_count; i++)
        ackmap_free(in->parts[i].map);
    free(in->parts);
    timer_free(in->commit);
    parked_free(in->parked);
    undecodable_free(in->bad);
    buf_free(&in->scratch);
    buf_free(&in->metadata);
    free(in);
}

void intake_catalog_at(struct intake *in, int64_t next)
{
    parked_catalog_at(in->parked, next);
}

void intake_close(struct intake *in)
{
    quarantine_leave(in->w->quarantine);
    if (in->group != NULL && !in->leaving)
        commit_all(in);
}

void intake_stop(struct intake *in)
{
    assert(!in->stopped && in->group != NULL);
    in->stopped = true;
    in->paused = true;
    bus_group_pause(in->group);
}

void intake_leave(struct intake *in, bool for_good, void (*left)(void *), void *arg)
{
    assert(in->group != NULL && !in->leaving);
    commit_all(in);
    in->leaving = true;
    in->member->left = left;
    in->member->arg = arg;
    timer_stop(in->commit);
    bus_group_leave(in->group, for_good, on_left, in->member); /* calls on_revoked: what is still to be committed is */
}

const char *intake_waits_for(const struct intake *in)
{
    return in->paused && !in->stopped && in->w->in_flight == 0 ? "room: every item taken waits for something else" : "";
}
