#include "worker/dispatch.h"
#include "worker/handlers/handler.h"
#include "worker/pool.h"

/*
 * Answers every item without rows, at once or after a stated time: to see what an item costs, and to rehearse a fleet. Below a millisecond the time is
 * spent working, as timers are no use for so little; from there on it is waited for, by as many items at once as the worker may run.
 */
struct noop {
    struct handler h;
    int64_t takes_us;
    struct timer *timer;   /* NULL: nothing is waited for. Set for the oldest item: all wait equally long, so the oldest is the next one */
};

static struct noop *noop_of(struct handler *h)
{
    return (struct noop *)h;
}

static void answer(struct item *item)
{
    struct verdict done = {.outcome = OUT_DONE};
    dispatch_answer(item, &done);
}

static void noop_start(struct handler *h, struct item *item)
{
    struct noop *n = noop_of(h);
    (void)item;
    if (n->timer != NULL && !timer_is_set(n->timer))
        timer_set(n->timer, n->takes_us);
}

static void on_time(void *arg)
{
    struct noop *n = arg;
    int64_t now_us = loop_now_us(n->h.run->worker->w.loop);
    struct item *item;
    while ((item = TAILQ_FIRST(&n->h.items)) != NULL && item->started_us + n->takes_us <= now_us)
        answer(item);
    if (item != NULL)
        timer_set(n->timer, item->started_us + n->takes_us - now_us);
}

static void noop_flush(struct handler *h)
{
    struct noop *n = noop_of(h);
    struct item *item;
    while (n->timer == NULL && (item = TAILQ_FIRST(&h->items)) != NULL) {
        if (n->takes_us > 0)
            loop_spend(h->run->worker->w.loop, n->takes_us);
        answer(item);
    }
}

static void noop_close(struct handler *h, bool now)
{
    (void)now;
    timer_free(noop_of(h)->timer);
    free(h);
}

struct handler *handler_noop(struct run *run, struct error *err)
{
    static const struct handler_ops ops = {.start = noop_start, .flush = noop_flush, .close = noop_close};
    (void)err;
    struct noop *n = xcalloc(1, sizeof(*n));
    handler_init(&n->h, &ops, run, INT64_MAX);
    n->takes_us = run->def->noop_us;
    if (n->takes_us >= US_PER_MS)
        n->timer = timer_new(run->worker->w.loop, on_time, n);
    n->h.proved = true;
    return &n->h;
}
