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
    return (int64_t)rnd_below(s->rnd, 3000);
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
    return loop_wall_us(of(l)->base);
}

static const struct loop_ops ops = {.now_us = now_us, .wall_us = wall_us, .timer_init = shade_init, .timer_arm = shade_arm, .timer_disarm = shade_disarm,
                                    .timer_fini = shade_fini};

/* --- stopping and going on ------------------------------------------------------------------------------------------------------------------- */

void sleeper_happen(struct sleeper *s, void (*fn)(void *), void *arg)
{
    if (!s->stopped) {
        fn(arg);
        return;
    }
    struct happening *h = xcalloc(1, sizeof(*h));
    *h = (struct happening){.fn = fn, .arg = arg};
    TAILQ_INSERT_TAIL(&s->happened, h, link);
}

static void run_happened(struct sleeper *s)
{
    struct happening *h;
    while ((h = TAILQ_FIRST(&s->happened)) != NULL) {
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

void sleeper_calm(struct sleeper *s)
{
    s->calm = true;
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
    s->wake = timer_new(base, on_wake, s);
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
    sleeper_bus_kill(s);
    sleeper_http_kill(s);
}

void sleeper_free(struct sleeper *s)
{
    assert(s->dead && s->outstanding == 0 && LIST_EMPTY(&s->shades) && LIST_EMPTY(&s->calls));
    timer_free(s->wake);
    timer_free(s->post);
    free(s->loop.waiting.items);
    free(s);
}
