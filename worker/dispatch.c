#include "worker/dispatch.h"

#include "worker/handlers/handler.h"
#include "worker/intake.h"
#include "worker/load.h"
#include "worker/manifests.h"
#include "worker/pool.h"
#include "worker/quarantine.h"
#include "worker/room.h"
#include "worker/runs.h"
#include "worker/share.h"
#include "worker/staging.h"

/* Items whose time has not come, in slots by when it does: adding one costs nothing however many there are. */
#define WHEEL_SLOTS 256
#define WHEEL_SLOT_MS 250
#define RETRY_BASE_MS 1000
#define RETRY_CAP_MS 60000 /* less than the wheel's length */
#define QUANTUM 16         /* items of one run before the next run's turn */

TAILQ_HEAD(touched_list, handler);
struct dispatch {
    struct worker *w;
    struct timer *kick, *tick;
    struct item_list wheel[WHEEL_SLOTS];
    int64_t wheel_slot;       /* the last slot that was emptied, counted from the loop's zero */
    int64_t delayed;
    struct touched_list touched;
    struct item *solo;        /* runs now, alone */
};

static void pump(void *arg);
static void tick(void *arg);

struct dispatch *dispatch_new(struct worker *w)
{
    struct dispatch *d = xcalloc(1, sizeof(*d));
    d->w = w;
    d->kick = timer_new(w->w.loop, pump, d);
    d->tick = timer_new(w->w.loop, tick, d);
    for (size_t i = 0; i < WHEEL_SLOTS; i++)
        TAILQ_INIT(&d->wheel[i]);
    TAILQ_INIT(&d->touched);
    return d;
}

void dispatch_free(struct dispatch *d)
{
    if (d == NULL)
        return;
    timer_free(d->kick);
    timer_free(d->tick);
    free(d);
}

void dispatch_kick(struct dispatch *d)
{
    if (!timer_is_set(d->kick))
        timer_set(d->kick, 0);
}

/* --- waiting ------------------------------------------------------------------------------------------------------------------------ */

static bool in_wheel(const struct dispatch *d, const struct item *item)
{
    return item->list >= &d->wheel[0] && item->list < &d->wheel[WHEEL_SLOTS];
}

void dispatch_queue(struct item *item)
{
    struct run *run = item->run;
    if (item->worker->guarded && quarantine_keeps(item))
        return;
    item_enlist(item, item->solo ? &run->solo : item->large ? &run->large : item->suspect ? &run->suspects : &run->waiting);
    dispatch_kick(run->worker->dispatch);
}

void dispatch_add(struct item *item)
{
    item_move(item, ITEM_WAITING);
    item->run->waiting_count++;
    dispatch_queue(item);
}

static void leave_queue(struct item *item)
{
    struct dispatch *d = item->worker->dispatch;
    if (in_wheel(d, item))
        d->delayed--;
    item_enlist(item, NULL);
    item->run->waiting_count--;
}

void dispatch_withdraw(struct item *item)
{
    assert(item->state == ITEM_WAITING);
    leave_queue(item);
    item_abandon(item);
}

void dispatch_fail(struct item *item, const char *reason, const char *text)
{
    assert(item->state == ITEM_WAITING);
    leave_queue(item);
    item_set_failure(item, reason, text, strlen(text));
    manifests_fail(item);
}

static int64_t slot_now(const struct dispatch *d)
{
    return loop_now_ms(d->w->w.loop) / WHEEL_SLOT_MS;
}

void dispatch_add_later(struct item *item, int64_t delay_ms)
{
    struct dispatch *d = item->worker->dispatch;
    item_move(item, ITEM_WAITING);
    item->run->waiting_count++;
    if (d->delayed++ == 0)
        d->wheel_slot = slot_now(d);
    int64_t slot = slot_now(d) + i64_min(delay_ms / WHEEL_SLOT_MS, WHEEL_SLOTS - 8) + 1;
    item_enlist(item, &d->wheel[slot % WHEEL_SLOTS]);
    if (!timer_is_set(d->tick))
        timer_set(d->tick, WHEEL_SLOT_MS * US_PER_MS);
}

static void tick(void *arg)
{
    struct dispatch *d = arg;
    int64_t now = slot_now(d);
    if (now - d->wheel_slot > WHEEL_SLOTS) /* the process stood still: one round meets them all */
        d->wheel_slot = now - WHEEL_SLOTS;
    while (d->wheel_slot < now) {
        struct item_list *slot = &d->wheel[++d->wheel_slot % WHEEL_SLOTS];
        struct item *item;
        while ((item = TAILQ_FIRST(slot)) != NULL) {
            d->delayed--;
            dispatch_queue(item);
        }
    }
    if (d->delayed > 0)
        timer_set(d->tick, WHEEL_SLOT_MS * US_PER_MS);
}

static void count_running(struct run *run, int64_t n)
{
    run->running += n;
    run->worker->in_flight += n;
    run->worker->in_groups += run->def->kind == HANDLER_QUERY ? n : 0;
}

void dispatch_forget(struct run *run)
{
    struct dispatch *d = run->worker->dispatch;
    struct item *item;
    TAILQ_FOREACH(item, &run->worker->items, all) {
        if (item->run != run)
            continue;
        if (item->state == ITEM_WAITING && item->list != NULL) {
            leave_queue(item);
        } else if (item->state == ITEM_RUNNING && item->handler == NULL && item->started_us != 0) {
            item->started_us = 0;
            count_running(run, -1);
            if (d->solo == item)
                d->solo = NULL;
        }
    }
}

void dispatch_reclaim(struct run *run)
{
    struct dispatch *d = run->worker->dispatch;
    struct item *item;
    TAILQ_FOREACH(item, &run->worker->items, all) {
        if (item->run != run || item->state != ITEM_RUNNING || item->handler != NULL)
            continue;
        item->started_us = 0;
        item->spoiled = false;
        count_running(run, -1);
        if (d->solo == item)
            d->solo = NULL;
        item_drop_rows(item);
        dispatch_add(item);
    }
}

bool dispatch_idle(const struct run *run)
{
    return run->running == 0 &&
           (run->fatal || run->known->paused || run->def == NULL || (TAILQ_EMPTY(&run->waiting) && TAILQ_EMPTY(&run->suspects)));
}

void dispatch_untouch(struct dispatch *d, struct handler *h)
{
    if (h->flush_due)
        TAILQ_REMOVE(&d->touched, h, touched);
    h->flush_due = false;
}

/* --- what became of it ---------------------------------------------------------------------------------------------------------------- */

static int64_t retry_delay_ms(struct item *item)
{
    int64_t full = RETRY_BASE_MS << (int)i64_min(item->attempts - 1, 10);
    int64_t half = i64_min(full, RETRY_CAP_MS) / 2;
    return half + (int64_t)(rnd_real(item->worker->w.rnd) * (double)half);
}

static void lose_attempt(struct item *item, const struct verdict *v)
{
    struct run *run = item->run;
    struct log_ctx ctx = item_ctx(item);
    item->attempts++;
    if (v->text != item->text)
        item_set_failure(item, v->reason, v->text, v->len);
    log_line(LOG_INFO, &ctx, "attempt %" PRId64 " of %" PRId64 " failed (%s): %.400s", item->attempts, run->record->attempts, item->reason, item->text);
    if (item->attempts >= run->record->attempts || v->outcome == OUT_FAILED) {
        manifests_fail(item);
        return;
    }
    metric_add(item->worker->w.metrics, METRIC_ITEMS_RETRIED, 1);
    item_set_failure(item, NULL, NULL, 0); /* it was logged; thousands that wait for their next attempt would hold much */
    if (v->outcome == OUT_RETRY)
        dispatch_add_later(item, retry_delay_ms(item));
    else
        dispatch_add(item);
}

/* Takes the item from its handler. */
static void release(struct item *item)
{
    struct dispatch *d = item->worker->dispatch;
    struct handler *h = item->handler;
    item_enlist(item, NULL);
    item->handler = NULL;
    item->started_us = 0;
    count_running(item->run, -1);
    if (d->solo == item)
        d->solo = NULL;
    h->busy--;
    pool_released(h);
    if (d->w->guarded)
        quarantine_returned(item);
    dispatch_kick(d);
}

/* How it runs from now on. */
static void mark(struct item *item, enum outcome outcome)
{
    item->suspect |= outcome == OUT_SUSPECT || outcome == OUT_FRESH;
    item->fresh |= outcome == OUT_FRESH;
    item->solo |= outcome == OUT_SOLO;
    item->large |= outcome == OUT_LARGE;
}

void dispatch_answer(struct item *item, const struct verdict *said)
{
    assert(item->state == ITEM_RUNNING && item->handler != NULL);
    struct verdict v = *said;
    if (item->spoiled && v.outcome != OUT_FATAL) {
        v = (struct verdict){.outcome = item->reason == NULL ? OUT_BACK : OUT_TASK, .reason = item->reason, .text = item->text, .len = item->text_len};
    }
    item->spoiled = false;
    release(item);
    if (v.outcome != OUT_DONE && v.outcome != OUT_LOADED)
        item_drop_rows(item);
    switch (v.outcome) {
    case OUT_DONE:
        item->run->succeeded++;
        staging_join(item);
        break;
    case OUT_LOADED:
        item->run->succeeded++;
        item_move(item, ITEM_STAGED);
        load_take(v.load, item);
        break;
    case OUT_TASK:
    case OUT_RETRY:
    case OUT_FAILED:
        lose_attempt(item, &v);
        break;
    case OUT_FATAL:
        dispatch_add(item);
        runs_fatal(item->run, "handler %.100s, item %" PRId64 " (key %.64s): %.*s", item->run->record->handler, item->index, item_key(item), (int)v.len,
                   v.text);
        break;
    case OUT_SUSPECT:
    case OUT_FRESH:
    case OUT_SOLO:
    case OUT_LARGE:
        mark(item, v.outcome);
        dispatch_add(item);
        break;
    case OUT_BACK:
        dispatch_add(item);
        break;
    }
}

void dispatch_spoil(struct item *item, const struct verdict *v)
{
    assert(item->state == ITEM_RUNNING && !item->spoiled);
    item->spoiled = true;
    item_drop_rows(item);
    mark(item, v->outcome);
    item_set_failure(item, v->outcome == OUT_TASK ? v->reason : NULL, v->text, v->len);
    dispatch_kick(item->worker->dispatch); /* room for others */
}

/* --- what runs next ----------------------------------------------------------------------------------------------------------------------- */

bool dispatch_may_run(const struct run *run)
{
    return !run->fatal && run->pool != NULL && run->def != NULL && !run->known->paused;
}

static bool may_start(struct run *run)
{
    return dispatch_may_run(run) && run->running < shares_limit(run) && !staging_stuck(run);
}

static bool start_item(struct dispatch *d, struct item *item)
{
    struct handler *h = pool_take(item->run->pool, item);
    if (h == NULL)
        return false;
    leave_queue(item);
    item_move(item, ITEM_RUNNING);
    if (item->large)
        room_take(item);
    item->started_us = i64_max(loop_now_us(d->w->w.loop), 1);
    item->handler = h;
    count_running(item->run, 1);
    item_enlist(item, &h->items);
    if (!h->flush_due) {
        h->flush_due = true;
        TAILQ_INSERT_TAIL(&d->touched, h, touched);
    }
    h->ops->start(h, item);
    return true;
}

/* An item that needs the buffer to itself waits until nothing else is there to do, but not for ever. True: others are held back for it. */
static bool solo_first(struct dispatch *d)
{
    struct worker *w = d->w;
    if (d->solo != NULL)
        return true;
    struct run *run;
    struct item *solo = NULL;
    bool others = false;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (!may_start(run))
            continue;
        if (solo == NULL)
            solo = TAILQ_FIRST(&run->solo);
        others |= !TAILQ_EMPTY(&run->waiting) || !TAILQ_EMPTY(&run->suspects);
    }
    if (solo == NULL)
        return false;
    if (others && loop_now_us(w->w.loop) - solo->taken_us < WAIT_SOLO * US_PER_MS)
        return false;
    if (w->in_flight == 0 && w->held == 0 && room_place(w)) {
        d->solo = solo; /* before its start, which may fail and take it back */
        if (!start_item(d, solo))
            d->solo = NULL;
    }
    return true;
}

static struct item *next_of(struct run *run)
{
    struct item *item = TAILQ_FIRST(&run->suspects);
    if (item == NULL && room_place(run->worker))
        item = TAILQ_FIRST(&run->large);
    return item != NULL ? item : TAILQ_FIRST(&run->waiting);
}

static bool has_place(const struct worker *w, const struct run *run)
{
    return run->def->kind == HANDLER_QUERY || w->in_flight - w->in_groups < w->o.parallel;
}

static bool turn_of(struct dispatch *d, struct run *run)
{
    bool any = false;
    for (int i = 0; i < QUANTUM && may_start(run) && has_place(d->w, run); i++) {
        struct item *item = next_of(run);
        if (item == NULL || !start_item(d, item))
            break;
        any = true;
    }
    return any;
}

/* Each handler gets all its new items at once. False: there were none. */
static bool flush(struct dispatch *d)
{
    struct handler *h;
    bool any = !TAILQ_EMPTY(&d->touched);
    while ((h = TAILQ_FIRST(&d->touched)) != NULL) {
        TAILQ_REMOVE(&d->touched, h, touched);
        h->flush_due = false;
        if (h->ops->flush != NULL)
            h->ops->flush(h);
    }
    return any;
}

static bool round_of_runs(struct dispatch *d)
{
    struct worker *w = d->w;
    if (w->failed || worker_draining(w) || worker_full(w))
        return false;
    bool any = false;
    struct item *alone = NULL;
    if (w->guarded && quarantine_holds(w->quarantine, &alone)) {
        if (alone != NULL && may_start(alone->run) && (!alone->large || room_place(w)))
            (void)start_item(d, alone);
    } else if (!solo_first(d)) {
        struct run *run;
        TAILQ_FOREACH(run, &w->runs, link)
            any |= turn_of(d, run);
    }
    return any;
}

/* Another run begins next time. Not after each round: an idle round follows a busy one, and two runs would keep their places for ever. */
static void take_turns(struct worker *w)
{
    struct run *first = TAILQ_FIRST(&w->runs);
    if (first == NULL || TAILQ_NEXT(first, link) == NULL)
        return;
    TAILQ_REMOVE(&w->runs, first, link);
    TAILQ_INSERT_TAIL(&w->runs, first, link);
}

void dispatch_refill(struct dispatch *d)
{
    while (round_of_runs(d))
        ;
    flush(d);
}

static void pump(void *arg)
{
    struct dispatch *d = arg;
    struct worker *w = d->w;
    runs_stop_fatal(w->known);
    room_make(w);
    if (w->guarded)
        quarantine_turn(w->quarantine);
    do
        while (round_of_runs(d))
            ;
    while (flush(d)); /* noop answers in it */
    take_turns(w);
    struct run *run;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->pool == NULL)
            continue;
        if (!worker_full(w))
            pool_resume(run->pool);
        bool idle = dispatch_idle(run) || (worker_draining(w) && run->running == 0);
        if (w->guarded ? quarantine_idle(w->quarantine, run, idle) : idle) {
            staging_idle(run);
            manifests_idle(run);
        }
    }
    metric_set(w->w.metrics, METRIC_ITEMS_IN_FLIGHT, w->in_flight);
    metric_set(w->w.metrics, METRIC_ITEMS_UNFINISHED, w->unfinished);
    intake_room(w->intake);
    worker_moved(w);
}
