#include "tests/sim/sleeper_internal.h"

/* Time as the process sees it, and what comes when it goes on. */

struct shade {
    LIST_ENTRY(shade) link;
    struct sleeper *sleeper;
    struct timer *owner, *real;
    bool due;               /* while the process was stopped */
};

static struct sleeper *of(struct loop *l)
{
    return (struct sleeper *)(void *)l;
}

/* A timer of ours has no event of libevent's: its shade stands there. */
static struct shade *shade_of(struct timer *t)
{
    return (struct shade *)(void *)t->event;
}

bool sleeper_chance(struct sleeper *s, double p)
{
    return rnd_real(s->rnd) < p;
}

int64_t sleeper_delay_us(struct sleeper *s)
{
    return (int64_t)rnd_below(s->rnd, (uint64_t)s->faults.delay_us);
}

/* --- the loop ------------------------------------------------------------------------------------------------------------------------------ */

static void on_real(void *arg)
{
    struct shade *x = arg;
    if (x->sleeper->dead)
        return;
    if (x->sleeper->stopped)
        x->due = true;
    else
        timer_fire(x->owner);
}

static void shade_init(struct timer *t)
{
    struct sleeper *s = of(t->loop);
    struct shade *x = xcalloc(1, sizeof(*x));
    *x = (struct shade){.sleeper = s, .owner = t, .real = timer_new(s->base, on_real, x)};
    t->event = (struct event *)(void *)x;
    LIST_INSERT_HEAD(&s->shades, x, link);
}

static void shade_arm(struct timer *t, int64_t delay_us)
{
    struct shade *x = shade_of(t);
    x->due = false;
    t->due_us = loop_now_us(x->sleeper->base) + delay_us;
    timer_set(x->real, delay_us);
}

static void shade_disarm(struct timer *t)
{
    shade_of(t)->due = false;
    timer_stop(shade_of(t)->real);
}

static void shade_fini(struct timer *t)
{
    struct shade *x = shade_of(t);
    LIST_REMOVE(x, link);
    timer_free(x->real);
    free(x);
}

static int64_t now_us(struct loop *l)
{
    return loop_now_us(of(l)->base);
}

static int64_t wall_us(struct loop *l)
{
    return loop_wall_us(of(l)->base) + of(l)->skew_us;
}

static const struct loop_ops ops = {.now_us = now_us, .wall_us = wall_us, .timer_init = shade_init, .timer_arm = shade_arm, .timer_disarm = shade_disarm,
                                    .timer_fini = shade_fini};

/* --- stopping and going on ------------------------------------------------------------------------------------------------------------------- */

static bool kept_from(const struct sleeper *s, unsigned way)
{
    return !s->dead && (s->stopped || (s->cut & way) != 0);
}

void sleeper_happen(struct sleeper *s, unsigned way, void (*fn)(void *), void *arg)
{
    if (!kept_from(s, way)) {
        fn(arg);
        return;
    }
    struct happening *h = xcalloc(1, sizeof(*h));
    *h = (struct happening){.fn = fn, .arg = arg, .way = way};
    TAILQ_INSERT_TAIL(&s->happened, h, link);
}

static struct happening *next_happened(struct sleeper *s)
{
    struct happening *h;
    TAILQ_FOREACH(h, &s->happened, link)
        if (!kept_from(s, h->way))
            return h;
    return NULL;
}

static void run_happened(struct sleeper *s)
{
    struct happening *h;
    while ((h = next_happened(s)) != NULL) {
        TAILQ_REMOVE(&s->happened, h, link);
        h->fn(h->arg);
        free(h);
    }
}

static struct shade *first_due(struct sleeper *s)
{
    struct shade *x, *first = NULL;
    LIST_FOREACH(x, &s->shades, link)
        if (x->due && (first == NULL || x->owner->due_us < first->owner->due_us))
            first = x;
    return first;
}

static void run_due(struct sleeper *s)
{
    struct shade *x;
    while ((x = first_due(s)) != NULL) { /* each may free others */
        x->due = false;
        timer_fire(x->owner);
    }
}

/* After a while in which the log could be read, or at once. */
static void on_wake(void *arg)
{
    struct sleeper *s = arg;
    if (s->stopped || s->dead)
        return;
    bool timers_first = sleeper_chance(s, 0.5);
    if (timers_first)
        run_due(s);
    run_happened(s);
    run_due(s);
    sleeper_http_leave(s);
    sleeper_bus_post(s);
    sleeper_bus_follow(s);
}

void sleeper_stop(struct sleeper *s)
{
    if (s->stopped || s->dead)
        return;
    if (sleeper_chance(s, 0.5)) /* what the kernel has is on its way */
        sleeper_bus_post(s);
    s->stopped = true;
    sleeper_bus_stop(s);
}

void sleeper_go_on(struct sleeper *s)
{
    if (!s->stopped || s->dead)
        return;
    s->stopped = false;
    bool log_first = sleeper_chance(s, 0.3);
    if (log_first)
        sleeper_bus_follow(s);
    timer_set(s->wake, log_first ? 10 * US_PER_MS : 0);
}

bool sleeper_stopped(const struct sleeper *s)
{
    return s->stopped;
}

void sleeper_faults(struct sleeper *s, const struct sleeper_faults *f)
{
    s->faults = *f;
}

void sleeper_calm(struct sleeper *s)
{
    s->faults.lose_ack = s->faults.refuse_commit = s->faults.fetch = 0;
}

void sleeper_skew(struct sleeper *s, int64_t us)
{
    s->skew_us = us;
}

void sleeper_observe(struct sleeper *s, const struct sleeper_observer *o, void *arg)
{
    s->observer = *o;
    s->observer_arg = arg;
}

/* --- its network ----------------------------------------------------------------------------------------------------------------------------- */

#define SESSION_US (45 * US_PER_S)

static void on_session(void *arg)
{
    struct sleeper *s = arg;
    if ((s->cut & CUT_BUS) != 0)
        sleeper_group_stop(s);
}

static void on_rejoin(void *arg)
{
    sleeper_group_join(arg);
}

void sleeper_cut(struct sleeper *s, unsigned directions)
{
    unsigned was = s->cut;
    if (s->dead)
        return;
    s->cut = directions;
    if ((directions & CUT_BUS) != 0 && (was & CUT_BUS) == 0)
        timer_set(s->session, SESSION_US);
    else if ((directions & CUT_BUS) == 0)
        timer_stop(s->session);
    if (s->stopped)
        return;
    if ((directions & CUT_BUS_IN) != 0)
        sleeper_bus_deaf(s);
    sleeper_bus_late(s);
    sleeper_bus_blind(s);
    sleeper_group_cut(s);
    run_happened(s);
    sleeper_bus_post(s);
    sleeper_bus_follow(s);
}

void sleeper_expel(struct sleeper *s)
{
    if (s->stopped || s->dead)
        return;
    sleeper_group_stop(s);
    timer_set(s->rejoin, US_PER_S + (int64_t)rnd_below(s->rnd, 9 * US_PER_S));
}

void sleeper_refuse(struct sleeper *s, unsigned what)
{
    s->refused = what;
}

void sleeper_mute(struct sleeper *s, bool mute)
{
    s->mute = mute;
    if (!mute)
        sleeper_bus_post(s);
}

void sleeper_tells_the_dead(struct sleeper *s)
{
    s->tells_the_dead = true;
}

/* --- life ------------------------------------------------------------------------------------------------------------------------------------- */

struct sleeper *sleeper_new(struct loop *base, struct bus *bus, struct http *http, struct rnd *rnd)
{
    struct sleeper *s = xcalloc(1, sizeof(*s));
    s->loop.ops = &ops;
    s->base = base;
    s->outer_bus = bus;
    s->outer_http = http;
    s->rnd = rnd;
    LIST_INIT(&s->shades);
    TAILQ_INIT(&s->happened);
    s->faults = (struct sleeper_faults){.lose_ack = 0.05, .delay_us = 3000};
    s->wake = timer_new(base, on_wake, s);
    s->session = timer_new(base, on_session, s);
    s->rejoin = timer_new(base, on_rejoin, s);
    sleeper_bus_init(s);
    sleeper_http_init(s);
    return s;
}

struct loop *sleeper_loop(struct sleeper *s)
{
    return &s->loop;
}

struct bus *sleeper_bus(struct sleeper *s)
{
    return &s->bus;
}

struct http *sleeper_http(struct sleeper *s)
{
    return &s->http;
}

void sleeper_kill(struct sleeper *s)
{
    sleeper_bus_stop(s);
    s->stopped = false; /* what had happened to it is let go below, to nobody */
    s->dead = true;
    run_happened(s);
    timer_stop(s->wake);
    timer_stop(s->session);
    timer_stop(s->rejoin);
    sleeper_bus_kill(s);
    sleeper_http_kill(s);
}

void sleeper_free(struct sleeper *s)
{
    assert(s->dead && s->outstanding == 0 && LIST_EMPTY(&s->shades) && LIST_EMPTY(&s->calls));
    timer_free(s->wake);
    timer_free(s->session);
    timer_free(s->rejoin);
    timer_free(s->post);
    free(s->loop.waiting.items);
    free(s);
}
