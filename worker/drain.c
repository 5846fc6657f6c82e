#include "worker/drain.h"

#include "worker/core.h"
#include "worker/direct.h"
#include "worker/dispatch.h"
#include "worker/fatal.h"
#include "worker/intake.h"
#include "worker/manifests.h"
#include "worker/pool.h"
#include "worker/post.h"
#include "worker/beacon.h"
#include "worker/runs.h"
#include "worker/staging.h"
#include "worker/stream.h"

/*
 * 1. Nothing is taken and nothing starts; items with handlers may finish, until a part of the grace is over: then they are handed back.
 * 2. What is done is loaded and reported, until the grace is over.
 * 3. What is reported is committed, the group left, the line in `workers` removed.
 * What was not reported is not committed: another worker has it again.
 */
enum drain_state { DRAIN_FINISHING, DRAIN_LANDING, DRAIN_LEAVING, DRAIN_SIGNING_OFF, DRAIN_OVER };
struct drain {
    struct worker *w;
    enum drain_state state;
    struct timer *timer;     /* the end of the present part of the grace; leaving: looks again */
    struct timer *look;
    int64_t until_us;
    bool for_good;
    void (*drained)(void *);
    void *arg;
};
#define LAND_MOST_MS 10000 /* of the grace, kept for loads and manifests: a third, and at most this */

static void set_state(struct drain *d, enum drain_state to)
{
    static const char *const names[] = {"finishing", "landing", "leaving", "signing off", "over"};
    assert(to > d->state);
    struct log_ctx ctx = {.worker = d->w->name};
    log_line(LOG_DEBUG, &ctx, "drain: %s -> %s", names[d->state], names[to]);
    d->state = to;
}

static void over(void *arg)
{
    struct drain *d = arg;
    set_state(d, DRAIN_OVER);
    timer_stop(d->timer);
    struct log_ctx ctx = {.worker = d->w->name};
    log_line(d->w->o.inside ? LOG_DEBUG : LOG_INFO, &ctx, "worker left; %" PRId64 " items are handed back", d->w->unfinished);
    if (d->drained != NULL)
        d->drained(d->arg); /* may free the worker */
}

static void left(void *arg)
{
    struct drain *d = arg;
    set_state(d, DRAIN_SIGNING_OFF);
    beacon_leave(d->w->beacon, over, d);
}

static void leave(struct drain *d)
{
    set_state(d, DRAIN_LEAVING);
    timer_stop(d->timer);
    intake_leave(d->w->intake, d->for_good, left, d);
}

static bool landed(const struct worker *w)
{
    if (!LIST_EMPTY(&w->leavers))
        return false;
    const struct run *run;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->telling != NULL && !fatal_told(run->telling))
            return false;
        if (!direct_idle(run->direct))
            return false;
        if (run->pool != NULL && !run->fatal && (run->running > 0 || !staging_empty(run->staging) || !streams_none(run) || !manifests_none(run->manifests)))
            return false;
    }
    return true;
}

/* The rest of the grace is for loads and manifests. */
static void land(struct drain *d)
{
    set_state(d, DRAIN_LANDING);
    timer_set(d->timer, i64_max(d->until_us - loop_now_us(d->w->w.loop), 0));
}

static void look(void *arg)
{
    struct drain *d = arg;
    if (d->state == DRAIN_FINISHING && d->w->in_flight == 0)
        land(d);
    if (d->state == DRAIN_LANDING && landed(d->w))
        leave(d);
}

/* Items that are still with handlers go back to the queue: their handlers are stopped. */
static void hand_back(struct worker *w)
{
    struct run *run;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->pool == NULL || run->running == 0)
            continue;
        pool_free(run->pool);
        run->pool = pool_new(run);
        dispatch_reclaim(run);
    }
}

static void on_timer(void *arg)
{
    struct drain *d = arg;
    if (d->state == DRAIN_FINISHING) {
        if (d->w->in_flight > 0)
            log_info("the grace period is over for %" PRId64 " items, which are handed back", d->w->in_flight);
        hand_back(d->w);
        land(d);
        dispatch_kick(d->w->dispatch);
        timer_set(d->look, 0);
    } else if (d->state == DRAIN_LANDING) {
        leave(d);
    }
}

void worker_drain(struct worker *w, int64_t grace_ms, bool for_good, void (*drained)(void *), void *arg)
{
    struct drain *d = w->drain;
    if (d == NULL) {
        d = w->drain = xcalloc(1, sizeof(*d));
        d->w = w;
        d->timer = timer_new(w->w.loop, on_timer, d);
        d->look = timer_new(w->w.loop, look, d);
        intake_stop(w->intake);
        intake_close(w->intake);
        struct log_ctx ctx = {.worker = w->name};
        log_line(w->o.inside ? LOG_DEBUG : LOG_INFO, &ctx, "worker drains: %" PRId64 " items are with handlers", w->in_flight);
    }
    d->for_good = d->for_good || for_good;
    d->drained = drained;
    d->arg = arg;
    int64_t land_ms = i64_min(grace_ms / 3, LAND_MOST_MS), now = loop_now_us(w->w.loop);
    d->until_us = now + grace_ms * US_PER_MS;
    if (d->state == DRAIN_FINISHING)
        timer_set(d->timer, (grace_ms - land_ms) * US_PER_MS);
    else if (d->state == DRAIN_LANDING)
        timer_set(d->timer, grace_ms * US_PER_MS);
    dispatch_kick(w->dispatch);
    beacon_changed(w->beacon);
    timer_set(d->look, 0);
}

void drain_free(struct drain *d)
{
    if (d == NULL)
        return;
    timer_free(d->timer);
    timer_free(d->look);
    free(d);
}

bool worker_draining(const struct worker *w)
{
    return w->drain != NULL;
}

void worker_moved(struct worker *w)
{
    if (w->drain != NULL && w->drain->state < DRAIN_LEAVING && !timer_is_set(w->drain->look))
        timer_set(w->drain->look, 0);
}

/* --- a worker that cannot go on --------------------------------------------------------------------------------------------------------------------- */

void worker_fail(struct worker *w, const struct error *err)
{
    if (w->failed)
        return;
    w->failed = true;
    w->why = *err;
    struct log_ctx ctx = {.worker = w->name};
    log_line(LOG_ERROR, &ctx, "this worker cannot go on: %s", err->text);
    if (w->intake != NULL)
        intake_close(w->intake); /* no item's fault */
    timer_set(w->failure, 0);
}

void drain_tell_failure(void *worker)
{
    struct worker *w = worker;
    if (w->o.failed != NULL)
        w->o.failed(w->o.arg, &w->why);
}
