#include "tests/sim/sleeper_internal.h"

/* The bus as a process sees it. */

static struct sleeper *of(struct bus *b)
{
    return (struct sleeper *)(void *)((char *)b - offsetof(struct sleeper, bus));
}

/* --- publishing ------------------------------------------------------------------------------------------------------------------------------ */

struct parcel {
    TAILQ_ENTRY(parcel) link;
    struct sleeper *s;
    struct bus_out out; /* its texts are ours */
    char *topic;
    void *key, *value;
    bus_ack_cb *cb;
    void *arg;
    int32_t partition;
    int64_t offset;
    struct timer *timer;
    struct error err;
};

static void free_parcel(struct parcel *p)
{
    timer_free(p->timer);
    free(p->topic);
    free(p->key);
    free(p->value);
    free(p);
}

static void tell_later(struct parcel *);

static void tell_ack(void *arg)
{
    struct parcel *p = arg;
    if (p->s->dead && p->s->tells_the_dead && p->timer == NULL) {
        tell_later(p);
        return;
    }
    if (!p->s->dead || p->s->tells_the_dead)
        p->cb(p->arg, p->partition, p->offset, p->err.kind == ERR_NONE ? NULL : &p->err);
    free_parcel(p);
}

static void told_later(void *arg)
{
    struct parcel *p = arg;
    p->s->outstanding--;
    tell_ack(p);
}

/* When those who stood on the sleeper are gone. */
static void tell_later(struct parcel *p)
{
    p->timer = timer_new(p->s->base, told_later, p);
    timer_set(p->timer, US_PER_MS);
    p->s->outstanding++;
}

static void on_ack(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    struct parcel *p = arg;
    p->s->outstanding--;
    p->partition = partition;
    p->offset = offset;
    p->err = err ? *err : ERROR_INIT;
    if (err == NULL && p->s->observer.acked)
        p->s->observer.acked(p->s->observer_arg, &p->out, partition, offset);
    if (err == NULL && p->s->faults.lose_ack > 0 && sleeper_chance(p->s, p->s->faults.lose_ack))
        error_set(&p->err, ERR_RETRY, 0, "its time was over; it may be in the log or not");
    sleeper_happen(p->s, CUT_BUS_IN, tell_ack, p);
}

static bool ends_with(const char *topic, const char *name)
{
    size_t len = strlen(topic), n = strlen(name);
    return len >= n && strcmp(topic + len - n, name) == 0;
}

/* It is told at once, and nothing of it is in the log. */
static bool may_not_write(struct sleeper *s, struct parcel *p)
{
    bool no_dead = (s->refused & REFUSE_DEAD) != 0 && ends_with(p->topic, ".dead");
    if (!no_dead && ((s->cut & CUT_TOPICS) == 0 || !(ends_with(p->topic, ".results") || ends_with(p->topic, ".batches"))))
        return false;
    error_set(&p->err, ERR_FATAL, 29, "topic %s: Broker: Topic authorization failed", p->topic);
    p->partition = -1;
    p->offset = -1;
    sleeper_happen(s, CUT_BUS_IN, tell_ack, p);
    return true;
}

static void hand_on(void *arg)
{
    struct sleeper *s = arg;
    if (!s->stopped)
        sleeper_bus_post(s);
}

void sleeper_bus_post(struct sleeper *s)
{
    struct parcel *p;
    while (!s->mute && (s->cut & CUT_BUS_OUT) == 0 && (p = TAILQ_FIRST(&s->parcels)) != NULL) {
        struct error err = ERROR_INIT;
        TAILQ_REMOVE(&s->parcels, p, link);
        if (may_not_write(s, p))
            continue;
        int rc = bus_publish(s->outer_bus, &p->out, on_ack, p, &err);
        assert(rc == 0); /* the stage's bus has room */
        (void)rc;
        s->outstanding++;
    }
}

static int publish(struct bus *b, const struct bus_out *out, bus_ack_cb *cb, void *arg, struct error *err)
{
    struct sleeper *s = of(b);
    struct parcel *p = xcalloc(1, sizeof(*p));
    (void)err;
    *p = (struct parcel){.s = s, .out = *out, .topic = xstrdup(out->topic), .key = out->key ? xmemdup(out->key, out->key_len) : NULL,
                         .value = out->value ? xmemdup(out->value, out->value_len) : NULL, .cb = cb, .arg = arg};
    p->out.topic = p->topic;
    p->out.key = p->key;
    p->out.value = p->value;
    p->out.headers = NULL;
    p->out.header_count = 0;
    TAILQ_INSERT_TAIL(&s->parcels, p, link);
    timer_set(s->post, sleeper_delay_us(s));
    return 0;
}

static void on_space(struct bus *b, void (*fn)(void *), void *arg)
{
    (void)b, (void)fn, (void)arg; /* it is never full */
}

/* --- following ----------------------------------------------------------------------------------------------------------------------------------- */

struct watcher {
    struct bus_follow base; /* first */
    LIST_ENTRY(watcher) link;
    char *topic;
    int32_t partition;
    int64_t next;
    struct bus_follow_events events;
    void *arg;
    struct bus_follow *inner;
    struct timer *refusal;     /* it may not read; NULL: it may */
    struct timer *fetch;       /* what comes next is on its way; NULL: it never was */
};

static void on_fetched(void *arg)
{
    struct watcher *w = arg;
    if (!of(w->base.bus)->stopped && !of(w->base.bus)->dead)
        sleeper_bus_follow(of(w->base.bus));
}

/* A message is the last one of what came together. */
static void wait_for_more(struct watcher *w)
{
    struct sleeper *s = of(w->base.bus);
    bus_follow_stop(w->inner);
    w->inner = NULL;
    w->fetch = w->fetch ? w->fetch : timer_new(s->base, on_fetched, w);
    timer_set(w->fetch, (int64_t)rnd_below(s->rnd, US_PER_S));
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct watcher *w = arg;
    struct sleeper *s = of(w->base.bus);
    w->next = m->offset + 1;
    if (s->faults.fetch > 0 && sleeper_chance(s, s->faults.fetch))
        wait_for_more(w);
    w->events.message(w->arg, m);
}

static void on_end(void *arg, int64_t next)
{
    struct watcher *w = arg;
    w->next = i64_max(w->next, next);
    w->events.at_end(w->arg, next);
}

static void on_failed(void *arg, const struct error *err)
{
    struct watcher *w = arg;
    w->events.failed(w->arg, err);
}

static void begin(struct watcher *w)
{
    static const struct bus_follow_events events = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct error err = ERROR_INIT;
    w->inner = bus_follow(of(w->base.bus)->outer_bus, w->topic, w->partition, w->next, &events, w, &err);
    assert(w->inner);
}

/* Its partition does not answer, and the others do; or it is no longer read at all. */
static bool comes_late(const struct watcher *w)
{
    unsigned cut = of(w->base.bus)->cut;
    return w->refusal != NULL || ((cut & CUT_LOG) != 0 && ends_with(w->topic, ".results")) || ((cut & CUT_RUNS) != 0 && ends_with(w->topic, ".batches"));
}

static void on_refusal(void *arg)
{
    struct watcher *w = arg;
    struct sleeper *s = of(w->base.bus);
    struct error err;
    if (s->dead)
        return;
    if (s->stopped || (s->cut & CUT_BUS_IN) != 0) {
        timer_set(w->refusal, US_PER_S);
        return;
    }
    error_set(&err, ERR_FATAL, 29, "topic %s: Broker: Topic authorization failed", w->topic);
    w->events.failed(w->arg, &err);
}

static void may_not_read(struct watcher *w)
{
    struct sleeper *s = of(w->base.bus);
    if ((s->cut & CUT_READS) == 0 || w->refusal != NULL || !ends_with(w->topic, ".results"))
        return;
    if (w->inner)
        bus_follow_stop(w->inner);
    w->inner = NULL;
    w->refusal = timer_new(s->base, on_refusal, w);
    timer_set(w->refusal, sleeper_delay_us(s));
}

static struct bus_follow *follow(struct bus *b, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *events, void *arg,
                                 struct error *err)
{
    struct watcher *w = xcalloc(1, sizeof(*w));
    (void)err;
    *w = (struct watcher){.base = {b}, .topic = xstrdup(topic), .partition = partition, .next = from, .events = *events, .arg = arg};
    LIST_INSERT_HEAD(&of(b)->watchers, w, link);
    may_not_read(w);
    if ((of(b)->cut & CUT_BUS) == 0 && !comes_late(w))
        begin(w);
    return &w->base;
}

static void follow_stop(struct bus_follow *f)
{
    struct watcher *w = (struct watcher *)(void *)f;
    if (w->inner)
        bus_follow_stop(w->inner);
    LIST_REMOVE(w, link);
    timer_free(w->refusal);
    timer_free(w->fetch);
    free(w->topic);
    free(w);
}

void sleeper_bus_deaf(struct sleeper *s)
{
    struct watcher *w;
    LIST_FOREACH(w, &s->watchers, link) {
        if (w->inner)
            bus_follow_stop(w->inner);
        w->inner = NULL;
    }
}

void sleeper_bus_late(struct sleeper *s)
{
    struct watcher *w;
    LIST_FOREACH(w, &s->watchers, link) {
        if (w->inner == NULL || !comes_late(w))
            continue;
        bus_follow_stop(w->inner);
        w->inner = NULL;
    }
}

void sleeper_bus_blind(struct sleeper *s)
{
    struct watcher *w;
    LIST_FOREACH(w, &s->watchers, link)
        may_not_read(w);
}

void sleeper_bus_stop(struct sleeper *s)
{
    sleeper_bus_deaf(s);
    sleeper_group_stop(s);
}

void sleeper_bus_follow(struct sleeper *s)
{
    struct watcher *w;
    if ((s->cut & CUT_BUS) != 0)
        return;
    LIST_FOREACH(w, &s->watchers, link)
        if (w->inner == NULL && !comes_late(w))
            begin(w);
    sleeper_group_join(s);
}

/* --- life ---------------------------------------------------------------------------------------------------------------------------------------- */

static const char *describe(struct bus *b)
{
    return bus_describe(of(b)->outer_bus);
}

void sleeper_bus_init(struct sleeper *s)
{
    static struct bus_ops ops = {.publish = publish, .on_space = on_space, .follow = follow, .follow_stop = follow_stop, .describe = describe};
    sleeper_group_init(&ops);
    sleeper_ask_init(&ops);
    s->bus.ops = &ops;
    TAILQ_INIT(&s->parcels);
    LIST_INIT(&s->watchers);
    LIST_INIT(&s->members);
    s->post = timer_new(s->base, hand_on, s);
}

void sleeper_bus_kill(struct sleeper *s)
{
    struct parcel *p;
    timer_stop(s->post);
    while ((p = TAILQ_FIRST(&s->parcels)) != NULL) {
        TAILQ_REMOVE(&s->parcels, p, link);
        error_set(&p->err, ERR_FATAL, 0, "it never left");
        tell_ack(p);
    }
}
