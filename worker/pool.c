#include "worker/pool.h"

#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/runs.h"
#include "worker/stream.h"

#define START_BASE_MS 250
#define START_CAP_MS 60000
#define START_SLOW_MS 5000 /* then people are told */

struct pool {
    struct run *run;
    struct handler_list room, full;  /* idle ones are first in room */
    int64_t count;
    bool probation;          /* one at a time */
    bool ever_proved;
    int failures;            /* starts in a row that failed for certain */
    int64_t lived_ms;        /* how long the last one that failed lived */
    int64_t start_us;        /* no start before */
    struct timer *again;     /* then, or when a child has passed its probation */
    struct timer *idle;      /* set while a child is, or was lately, without work */
    bool used;               /* since it was set: the timer is not moved with every item */
    char trouble[200], starting[200];
};

void handler_init(struct handler *h, const struct handler_ops *ops, struct run *run, int64_t window)
{
    h->ops = ops;
    h->run = run;
    h->window = window;
    h->born_us = loop_now_us(run->worker->w.loop);
    TAILQ_INIT(&h->items);
}

static void again(void *arg);
static void close_idle(void *arg);

struct pool *pool_new(struct run *run)
{
    struct pool *p = xcalloc(1, sizeof(*p));
    p->run = run;
    TAILQ_INIT(&p->room);
    TAILQ_INIT(&p->full);
    p->again = timer_new(run->worker->w.loop, again, p);
    p->idle = timer_new(run->worker->w.loop, close_idle, p);
    return p;
}

/* Places of `parallel` that one of the run's handlers takes. A query's statements run in BigQuery. */
static int64_t places(const struct run *run)
{
    return run->def->kind == HANDLER_QUERY ? 0 : 1;
}

/* Out of the pool; its items are left to the caller. */
static void detach(struct pool *p, struct handler *h)
{
    TAILQ_REMOVE(h->full ? &p->full : &p->room, h, link);
    p->count--;
    p->run->worker->handlers -= places(p->run);
    dispatch_untouch(p->run->worker->dispatch, h);
}

static void let_go(struct handler *h)
{
    struct item *item;
    while ((item = TAILQ_FIRST(&h->items)) != NULL) {
        item->handler = NULL;
        item_enlist(item, NULL);
    }
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    struct handler *h;
    while ((h = TAILQ_FIRST(&p->room)) != NULL || (h = TAILQ_FIRST(&p->full)) != NULL) {
        detach(p, h);
        bool busy = h->busy > 0;
        let_go(h);
        h->ops->close(h, busy);
    }
    timer_free(p->again);
    timer_free(p->idle);
    free(p);
}

static void close_one(struct pool *p, struct handler *h)
{
    assert(h->busy == 0);
    detach(p, h);
    h->ops->close(h, false);
}

static void close_idle(void *arg)
{
    struct pool *p = arg;
    if (p->used) {
        p->used = false;
        timer_set(p->idle, WAIT_HANDLER_IDLE * US_PER_MS);
        return;
    }
    struct handler *h;
    while ((h = TAILQ_FIRST(&p->room)) != NULL && h->busy == 0)
        close_one(p, h);
}

/* --- starting ------------------------------------------------------------------------------------------------------------------------- */

static struct handler *make(struct run *run, struct error *err)
{
    switch (run->def->kind) {
    case HANDLER_EXEC: return handler_exec(run, err);
    case HANDLER_COMMAND: return handler_command(run, err);
    case HANDLER_NOOP: return handler_noop(run, err);
    case HANDLER_QUERY: return handler_query(run, err);
    }
    return NULL;
}

static void start_failed(struct pool *p, const char *how, const char *words)
{
    static const char before_any[] = ", without an answer (a program of exec goes on reading lines until its stdin ends; command starts one for each item)";
    struct run *run = p->run;
    AUTO(free_ptr) char *last_words = xstrdup(words);
    for (size_t n = strlen(last_words); n > 0 && strchr("\r\n ", last_words[n - 1]) != NULL;)
        last_words[--n] = '\0';
    size_t len = strlen(last_words);
    const char *tail = len > 250 ? last_words + len - 250 : last_words; /* what matters comes last */
    p->probation = true;
    p->failures++;
    snprintf(p->trouble, sizeof(p->trouble), "handler %.64s does not start: %.100s", run->record->handler, how);
    struct log_ctx ctx = {.run = run->id, .worker = run->worker->name, .handler = run->record->handler};
    log_line(LOG_WARN, &ctx, "the handler does not start (%d in a row): %.300s%s%.600s", p->failures, how, last_words[0] ? ": " : "", last_words);
    if (p->failures >= LIMIT_STARTS && !p->ever_proved) {
        bool by_itself = run->def->kind == HANDLER_EXEC && strcmp(how, "exit status 0") == 0;
        runs_fatal(run, "handler %.64s does not start: %.160s%s%s%s", run->record->handler, how, by_itself ? before_any : "", tail[0] ? ": " : "", tail);
        return;
    }
    int64_t wait_ms = i64_min(START_CAP_MS, (int64_t)START_BASE_MS << i64_min(p->failures - 1, 10));
    p->start_us = loop_now_us(run->worker->w.loop) + wait_ms * US_PER_MS;
    timer_set(p->again, wait_ms * US_PER_MS);
}

/* So long, in microseconds, an idle child is left to its own run: one that was started for an item and has not been given it yet. Otherwise two runs whose
 * items need a child that nobody used would take each other's place for ever, and no item would run. */
static int64_t spared_us(const struct handler *h)
{
    if (h->given > 0 || h->run->waiting_count == 0)
        return 0;
    return i64_max(h->born_us + WAIT_HANDLER_IDLE * US_PER_MS - loop_now_us(h->run->worker->w.loop), 0);
}

/* Another run's idle child makes place. */
static bool evict(struct worker *w, struct pool *for_pool)
{
    struct run *run;
    int64_t wait_us = INT64_MAX;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->pool == NULL || run->pool == for_pool || places(run) == 0)
            continue;
        struct handler *h = TAILQ_FIRST(&run->pool->room);
        if (h == NULL || h->busy > 0)
            continue;
        if (spared_us(h) == 0) {
            close_one(run->pool, h);
            return true;
        }
        wait_us = i64_min(wait_us, spared_us(h));
    }
    if (wait_us != INT64_MAX && !timer_is_set(for_pool->again))
        timer_set(for_pool->again, wait_us);
    return false;
}

static int64_t window_of(const struct run *run)
{
    switch (run->def->kind) {
    case HANDLER_EXEC: return i64_max(run->def->window, 1);
    case HANDLER_NOOP: case HANDLER_QUERY: return INT64_MAX;
    case HANDLER_COMMAND: break;
    }
    return 1;
}

static struct handler *start(struct pool *p, bool alone)
{
    struct worker *w = p->run->worker;
    int64_t now = loop_now_us(w->w.loop), window = window_of(p->run);
    int64_t most = window == INT64_MAX ? 1 : (w->o.parallel + window - 1) / window;
    if (p->count >= most || (p->probation && p->count > 0 && !p->ever_proved) || now < p->start_us)
        return NULL;
    if (places(p->run) > 0 && w->handlers >= w->o.parallel && !evict(w, p))
        return NULL;
    struct error err = ERROR_INIT;
    struct handler *h = make(p->run, &err);
    if (h == NULL) {
        start_failed(p, err.text, "");
        return NULL;
    }
    metric_add(w->w.metrics, METRIC_CHILDREN_STARTED, p->run->def->kind == HANDLER_EXEC ? 1 : 0);
    h->alone = alone || p->probation;
    /* Also before a suspect: a child that dies with one right after its start would leave open which of the two it died of. */
    h->probation = h->alone && p->run->def->kind == HANDLER_EXEC;
    TAILQ_INSERT_HEAD(&p->room, h, link);
    p->count++;
    w->handlers += places(p->run);
    if (h->probation) {
        int64_t wait_ms = i64_max(WAIT_HANDLER_PROBATION, 2 * p->lived_ms);
        timer_set(p->again, i64_min(wait_ms, i64_max(p->run->def->start_timeout_ms, 1)) * US_PER_MS);
    }
    return h;
}

static bool on_probation(const struct pool *p)
{
    const struct handler *h;
    TAILQ_FOREACH(h, &p->room, link)
        if (h->probation)
            return true;
    return false;
}

/* The one on probation has lived long enough to be given an item, or it is time for another start. */
static void again(void *arg)
{
    struct pool *p = arg;
    struct handler *h;
    p->start_us = 0;
    TAILQ_FOREACH(h, &p->room, link) {
        if (h->probation) {
            h->probation = false;
            h->cleared = true;
            p->failures = 0;
            p->trouble[0] = '\0';
        }
    }
    dispatch_kick(p->run->worker->dispatch);
}

/* --- giving out -------------------------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct handler *h)
{
    return !h->probation && h->busy < (h->alone ? 1 : h->window);
}

static struct handler *give(struct pool *p, struct handler *h)
{
    TAILQ_REMOVE(&p->room, h, link);
    h->busy++;
    h->given++;
    h->full = !has_room(h);
    if (h->full)
        TAILQ_INSERT_TAIL(&p->full, h, link);
    else
        TAILQ_INSERT_TAIL(&p->room, h, link);
    p->used = true;
    return h;
}

static struct handler *first_idle(struct pool *p, bool fresh)
{
    struct handler *h;
    TAILQ_FOREACH(h, &p->room, link)
        if (h->busy == 0 && !h->probation && (!fresh || (h->alone && h->given == 0)))
            return h;
    return NULL;
}

/* A child that nobody used; an idle one makes place for it when there are enough. */
static struct handler *take_fresh(struct pool *p)
{
    struct handler *h = first_idle(p, true);
    if (h != NULL)
        return give(p, h);
    if (on_probation(p))
        return NULL;
    h = start(p, true);
    struct handler *idle = h ? NULL : first_idle(p, false);
    if (idle != NULL && loop_now_us(p->run->worker->w.loop) >= p->start_us) {
        close_one(p, idle);
        h = start(p, true);
    }
    return h != NULL && !h->probation ? give(p, h) : NULL;
}

/* There is one, which says itself what it takes. */
static struct handler *take_grouped(struct pool *p, const struct item *item)
{
    struct handler *h = TAILQ_FIRST(&p->room);
    if (h == NULL)
        h = start(p, false);
    return h != NULL && h->ops->room(h, item) ? give(p, h) : NULL;
}

/* A suspect's neighbours are mostly innocent: they need not wait for as many programs to start. */
static struct handler *take_alone(struct pool *p)
{
    struct handler *h = first_idle(p, false);
    if (h == NULL || !(h->proved || h->cleared))
        return take_fresh(p);
    h->alone = true;
    return give(p, h);
}

struct handler *pool_take(struct pool *p, struct item *item)
{
    if (p->run->def->kind == HANDLER_QUERY)
        return take_grouped(p, item);
    if (item->suspect && p->run->def->kind == HANDLER_EXEC)
        return item->fresh ? take_fresh(p) : take_alone(p);
    struct handler *h = TAILQ_FIRST(&p->room);
    while (h != NULL && !has_room(h))
        h = TAILQ_NEXT(h, link);
    if (h != NULL && h->busy == 0)
        return give(p, h);
    if (!on_probation(p)) {
        struct handler *fresh = start(p, false);
        if (fresh != NULL && !fresh->probation)
            return give(p, fresh);
    }
    return h != NULL ? give(p, h) : NULL;
}

void pool_released(struct handler *h)
{
    struct pool *p = h->run->pool;
    assert(p != NULL);
    TAILQ_REMOVE(h->full ? &p->full : &p->room, h, link);
    if (h->busy == 0 && h->proved)
        h->alone = false;
    h->full = !has_room(h);
    if (h->full)
        TAILQ_INSERT_TAIL(&p->full, h, link);
    else if (h->busy == 0)
        TAILQ_INSERT_HEAD(&p->room, h, link);
    else
        TAILQ_INSERT_TAIL(&p->room, h, link);
    if (h->busy == 0 && !timer_is_set(p->idle)) {
        p->used = false;
        timer_set(p->idle, WAIT_HANDLER_IDLE * US_PER_MS);
    }
}

void pool_proved(struct handler *h)
{
    struct pool *p = h->run->pool;
    if (h->proved)
        return;
    h->proved = true;
    h->probation = false;
    p->ever_proved = true;
    p->probation = false;
    p->failures = 0;
    p->start_us = 0;
    p->trouble[0] = '\0';
    if (h->busy == 0 && h->given > 0)
        h->alone = false;
    dispatch_kick(p->run->worker->dispatch);
}

void pool_ended(struct handler *h, enum pool_start its_start, const char *how, const char *last_words)
{
    struct pool *p = h->run->pool;
    struct worker *w = h->run->worker;
    assert(TAILQ_EMPTY(&h->items) && h->busy == 0);
    detach(p, h);
    metric_add(w->w.metrics, METRIC_CHILDREN_DIED, 1);
    if (its_start != START_OK)
        p->lived_ms = (loop_now_us(w->w.loop) - h->born_us) / US_PER_MS;
    if (its_start == START_FAILED || (its_start == START_UNSURE && h->probation))
        start_failed(p, how, last_words);
    else if (its_start == START_UNSURE)
        p->probation = true;
    h->ops->close(h, true);
    dispatch_kick(w->dispatch);
}

static bool still_stalls(struct handler *h)
{
    const struct item *item;
    if (!h->stalled)
        return false;
    h->stalled = false;
    TAILQ_FOREACH(item, &h->items, link)
        h->stalled |= item->stream != NULL && stream_full(item->stream);
    return h->stalled;
}

static struct handler *first_blocked(const struct pool *p)
{
    struct handler *h;
    TAILQ_FOREACH(h, &p->room, link)
        if (h->blocked && !still_stalls(h))
            return h;
    TAILQ_FOREACH(h, &p->full, link)
        if (h->blocked && !still_stalls(h))
            return h;
    return NULL;
}

/* From the start after each: what is read then moves handlers between the lists. */
void pool_resume(struct pool *p)
{
    struct handler *h;
    while (!worker_full(p->run->worker) && (h = first_blocked(p)) != NULL)
        h->ops->resume(h);
}

/* A program that never reads, or reads all of stdin first, would otherwise be waited for without a word until its time is over. */
static const char *say_starting(struct pool *p, const struct handler *h)
{
    char most[32];
    int64_t age_ms = h ? (loop_now_us(p->run->worker->w.loop) - h->born_us) / US_PER_MS : 0;
    if (p->ever_proved || p->run->def->kind != HANDLER_EXEC || age_ms < START_SLOW_MS)
        return "";
    snprintf(p->starting, sizeof(p->starting), "handler %.64s, which has not answered at all yet (its start_timeout is %s)", p->run->record->handler,
             units_show_ms(p->run->def->start_timeout_ms, most, sizeof(most)));
    return p->starting;
}

const char *pool_waits_for(struct pool *p)
{
    struct handler *h = TAILQ_FIRST(&p->room), *any = h ? h : TAILQ_FIRST(&p->full);
    if (p->run->waiting_count == 0 && p->run->running == 0)
        return "";
    if (p->trouble[0] == '\0' && say_starting(p, any)[0] != '\0')
        return p->starting;
    return p->trouble[0] == '\0' && h != NULL && h->ops->waits_for != NULL ? h->ops->waits_for(h) : p->trouble;
}
