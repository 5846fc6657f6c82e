#include "common/net/loop.h"

#include "common/net/loop_internal.h"

/* The part of the loop that does not depend on where time and descriptors come from. */

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    assert(!l->in_turn);
    assert(l->objects == 0); /* a timer or watch that outlives its loop would touch freed memory */
    free(l->waiting.items);
    free(l->running.items);
    l->ops->free(l);
}

int64_t loop_now_us(struct loop *l)
{
    return l->ops->now_us(l);
}

int64_t loop_wall_us(struct loop *l)
{
    return l->ops->wall_us(l);
}

void loop_spend(struct loop *l, int64_t us)
{
    l->ops->spend(l, us);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_defer(struct loop *l, void (*fn)(void *), void *arg)
{
    struct deferred_list *d = &l->waiting;
    if (d->count == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 16;
        d->items = xreallocarray(d->items, d->cap, sizeof(*d->items));
    }
    d->items[d->count++] = (struct deferred){fn, arg};
}

/* Those that were there when the turn began: what they defer in turn belongs to the next one. */
static bool run_deferred(struct loop *l)
{
    if (l->waiting.count == 0)
        return false;
    struct deferred_list d = l->waiting;
    l->waiting = l->running;
    l->running = d;
    for (size_t i = 0; i < d.count; i++) {
        l->ran++;
        d.items[i].fn(d.items[i].arg);
    }
    l->running.count = 0;
    return true;
}

static enum turn turn(struct loop *l, int64_t max_wait_us)
{
    assert(!l->in_turn); /* a callback must not run the loop it is called from */
    l->in_turn = true;
    bool ran = run_deferred(l);
    enum turn t = l->ops->turn(l, ran ? 0 : max_wait_us);
    l->in_turn = false;
    return l->waiting.count > 0 ? TURN_WENT : t;
}

void loop_run(struct loop *l)
{
    while (!l->stop && turn(l, TURN_FOREVER) != TURN_EMPTY)
        continue;
    l->stop = false;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}

bool loop_step(struct loop *l, int64_t max_wait_us)
{
    uint64_t before = l->ran;
    turn(l, i64_max(max_wait_us, 0));
    return l->ran != before;
}

bool loop_until(struct loop *l, bool (*cond)(void *), void *arg, int64_t timeout_us)
{
    int64_t end = loop_now_us(l) + timeout_us;
    while (!cond(arg)) {
        int64_t left = end - loop_now_us(l);
        bool ran = loop_step(l, left);
        if (left <= 0 && (l->base != NULL || !ran))
            return cond(arg);
    }
    return true;
}

struct timer *timer_new(struct loop *l, void (*fn)(void *), void *arg)
{
    struct timer *t = xcalloc(1, sizeof(*t));
    t->loop = l;
    t->fn = fn;
    t->arg = arg;
    l->ops->timer_init(t);
    l->objects++;
    return t;
}

void timer_set(struct timer *t, int64_t delay_us)
{
    t->loop->ops->timer_arm(t, i64_max(delay_us, 0));
    t->set = true;
}

void timer_stop(struct timer *t)
{
    if (!t->set)
        return;
    t->set = false;
    t->loop->ops->timer_disarm(t);
}

bool timer_is_set(const struct timer *t)
{
    return t->set;
}

void timer_free(struct timer *t)
{
    if (t == NULL)
        return;
    timer_stop(t);
    t->loop->ops->timer_fini(t);
    t->loop->objects--;
    free(t);
}

void timer_fire(struct timer *t)
{
    t->set = false;
    t->loop->ran++;
    t->fn(t->arg);
}
