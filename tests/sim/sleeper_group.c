#include "tests/sim/sleeper_internal.h"

/* Membership in a group: a process that is stopped is thrown out of it, and told so when it goes on, where it joins anew. */

enum { PARTITIONS_MAX = 256 };

struct seat { struct member *member; struct sleeper *s; }; /* one membership; member NULL: it is over, and its leaving under way */

struct member {
    struct bus_group base; /* first */
    LIST_ENTRY(member) link;
    struct sleeper *s;
    char *group, *topic;
    struct bus_group_config config;
    struct bus_group_events events;
    void *arg;
    struct bus_group *inner; /* NULL: thrown out */
    struct seat *seat;
    bool held[PARTITIONS_MAX], paused;
    bool fenced;             /* for good */
};

static struct sleeper *of(struct bus *b)
{
    return (struct sleeper *)(void *)((char *)b - offsetof(struct sleeper, bus));
}

static void stand_up(struct member *);

/* It does not hear of a deal, and so has no part in it. */
static bool left_behind(struct member *m)
{
    if ((m->s->cut & CUT_BUS) == 0)
        return false;
    stand_up(m);
    return true;
}

static void on_assigned(void *arg, int32_t partition, int64_t committed, const char *metadata)
{
    struct member *m = ((struct seat *)arg)->member;
    assert(partition < PARTITIONS_MAX);
    if (m == NULL || left_behind(m))
        return;
    m->held[partition] = true;
    m->events.assigned(m->arg, partition, committed, metadata);
}

static void on_revoked(void *arg, int32_t partition, bool lost)
{
    struct member *m = ((struct seat *)arg)->member;
    if (m == NULL || left_behind(m))
        return;
    m->held[partition] = false;
    m->events.revoked(m->arg, partition, lost);
}

static void on_message(void *arg, const struct bus_msg *msg)
{
    struct member *m = ((struct seat *)arg)->member;
    if (m != NULL)
        m->events.message(m->arg, msg);
}

static void on_settled(void *arg)
{
    struct member *m = ((struct seat *)arg)->member;
    if (m != NULL && m->events.settled)
        m->events.settled(m->arg);
}

static void on_failed(void *arg, const struct error *err)
{
    struct member *m = ((struct seat *)arg)->member;
    if (m != NULL)
        m->events.failed(m->arg, err);
}

static void sit(struct member *m)
{
    static const struct bus_group_events events = {.assigned = on_assigned, .revoked = on_revoked, .message = on_message, .settled = on_settled,
                                                   .failed = on_failed};
    struct error err = ERROR_INIT;
    m->seat = xcalloc(1, sizeof(*m->seat));
    *m->seat = (struct seat){m, m->s};
    m->inner = bus_join(m->s->outer_bus, &m->config, &events, m->seat, &err);
    assert(m->inner);
    if (m->paused)
        bus_group_pause(m->inner);
}

void sleeper_group_cut(struct sleeper *s)
{
    struct member *m;
    LIST_FOREACH(m, &s->members, link)
        if (m->inner != NULL && (m->paused || (s->cut & CUT_BUS_IN) != 0))
            bus_group_pause(m->inner);
        else if (m->inner != NULL)
            bus_group_resume(m->inner);
}

static void on_stood_up(void *arg)
{
    struct seat *seat = arg;
    seat->s->outstanding--;
    free(seat);
}

static void stand_up(struct member *m)
{
    struct bus_group *inner = m->inner;
    m->inner = NULL;
    m->seat->member = NULL;
    m->s->outstanding++;
    bus_group_leave(inner, true, on_stood_up, m->seat);
    m->seat = NULL;
}

static struct bus_group *join(struct bus *b, const struct bus_group_config *config, const struct bus_group_events *events, void *arg, struct error *err)
{
    if ((of(b)->refused & REFUSE_GROUP) != 0) {
        error_set(err, ERR_USAGE, 0, "it may not join group %s", config->group);
        return NULL;
    }
    struct member *m = xcalloc(1, sizeof(*m));
    *m = (struct member){.base = {b}, .s = of(b), .group = xstrdup(config->group), .topic = xstrdup(config->topic), .events = *events, .arg = arg};
    m->config = (struct bus_group_config){.group = m->group, .topic = m->topic, .session_ms = config->session_ms};
    LIST_INSERT_HEAD(&m->s->members, m, link);
    if ((m->s->cut & CUT_BUS) == 0)
        sit(m);
    return &m->base;
}

static void set_paused(struct bus_group *g, bool paused)
{
    struct member *m = (struct member *)(void *)g;
    m->paused = paused;
    if (m->inner != NULL && paused)
        bus_group_pause(m->inner);
    else if (m->inner != NULL && (m->s->cut & CUT_BUS_IN) == 0)
        bus_group_resume(m->inner);
}

static void pause_group(struct bus_group *g)
{
    set_paused(g, true);
}

static void resume_group(struct bus_group *g)
{
    set_paused(g, false);
}

struct reply { struct sleeper *s; bus_done_cb *cb; void (*left)(void *); void *arg; struct error err; struct timer *timer; };

static void tell(void *arg)
{
    struct reply *r = arg;
    r->s->commits--;
    if (!r->s->dead && r->cb)
        r->cb(r->arg, r->err.kind == ERR_NONE ? NULL : &r->err);
    timer_free(r->timer);
    free(r);
}

static void on_committed(void *arg, const struct error *err)
{
    struct reply *r = arg;
    r->s->outstanding--;
    r->err = err ? *err : ERROR_INIT;
    sleeper_happen(r->s, CUT_BUS_IN, tell, r);
}

static void on_refused(void *arg)
{
    struct reply *r = arg;
    struct error err;
    error_set(&err, ERR_RETRY, 0, "the group is being dealt out anew");
    on_committed(r, &err);
}

static void commit(struct bus_group *g, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    struct member *m = (struct member *)(void *)g;
    struct sleeper *s = m->s;
    struct reply *r = xcalloc(1, sizeof(*r));
    *r = (struct reply){.s = s, .cb = cb, .arg = arg};
    s->outstanding++;
    s->commits++;
    /* Without its place in the group (it runs what it was to do while it was stopped), or in the middle of a deal: nobody takes its commits. */
    if (m->inner == NULL || (s->cut & CUT_BUS_OUT) != 0 || (s->faults.refuse_commit > 0 && sleeper_chance(s, s->faults.refuse_commit))) {
        if (s->observer.refused)
            s->observer.refused(s->observer_arg);
        r->timer = timer_new(s->base, on_refused, r);
        timer_set(r->timer, (s->cut & CUT_BUS_OUT) != 0 ? 5 * US_PER_S : US_PER_MS);
        return;
    }
    for (size_t i = 0; i < count && s->observer.committed; i++)
        s->observer.committed(s->observer_arg, m->topic, &commits[i]);
    bus_group_commit(m->inner, commits, count, on_committed, r);
}

static void on_left(void *arg)
{
    struct reply *r = arg;
    if (!r->s->dead && (r->s->stopped || r->s->commits > 0)) { /* it has left when all that it committed is answered */
        timer_set(r->timer, US_PER_S / 5);
        return;
    }
    r->s->outstanding--;
    if (r->left)
        r->left(r->arg);
    timer_free(r->timer);
    free(r);
}

/* Also of a dead process, whose memory is to be freed. */
static void leave(struct bus_group *g, bool for_good, void (*left)(void *), void *arg)
{
    struct member *m = (struct member *)(void *)g;
    struct sleeper *s = m->s;
    (void)for_good;
    for (int32_t p = 0; p < PARTITIONS_MAX && !s->dead; p++)
        if (m->held[p])
            m->events.revoked(m->arg, p, m->inner == NULL);
    if (m->inner != NULL)
        stand_up(m);
    LIST_REMOVE(m, link);
    struct reply *r = xcalloc(1, sizeof(*r));
    *r = (struct reply){.s = s, .left = left, .arg = arg};
    r->timer = timer_new(s->base, on_left, r);
    s->outstanding++;
    timer_set(r->timer, 5 * US_PER_MS);
    free(m->group);
    free(m->topic);
    free(m);
}

void sleeper_group_init(struct bus_ops *ops)
{
    ops->join = join;
    ops->group_pause = pause_group;
    ops->group_resume = resume_group;
    ops->group_commit = commit;
    ops->group_leave = leave;
}

void sleeper_fence(struct sleeper *s)
{
    struct member *m;
    struct error err;
    error_set(&err, ERR_FATAL, 0, "another process has its name");
    LIST_FOREACH(m, &s->members, link) {
        if (m->inner == NULL || s->stopped)
            continue;
        stand_up(m);
        m->fenced = true;
        for (int32_t p = 0; p < PARTITIONS_MAX; p++) {
            if (m->held[p])
                m->events.revoked(m->arg, p, true);
            m->held[p] = false;
        }
        m->events.failed(m->arg, &err);
    }
}

void sleeper_group_stop(struct sleeper *s)
{
    struct member *m;
    LIST_FOREACH(m, &s->members, link)
        if (m->inner != NULL)
            stand_up(m);
}

void sleeper_group_join(struct sleeper *s)
{
    struct member *m;
    LIST_FOREACH(m, &s->members, link) {
        if (m->inner != NULL || m->fenced || s->stopped || (s->cut & CUT_BUS) != 0)
            continue;
        for (int32_t p = 0; p < PARTITIONS_MAX; p++) {
            if (m->held[p])
                m->events.revoked(m->arg, p, true);
            m->held[p] = false;
        }
        sit(m);
    }
}
