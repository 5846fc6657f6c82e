#include "worker/worker.h"

#include "worker/core.h"
#include "worker/direct.h"
#include "worker/dispatch.h"
#include "worker/drain.h"
#include "worker/handlers/handler.h"
#include "worker/intake.h"
#include "worker/manifests.h"
#include "worker/pool.h"
#include "worker/post.h"
#include "worker/quarantine.h"
#include "worker/beacon.h"
#include "worker/room.h"
#include "worker/runs.h"
#include "worker/shard.h"
#include "worker/share.h"
#include "worker/staging.h"
#include "worker/stream.h"

static void init(struct worker *w, const struct worker_options *o)
{
    w->o = *o;
    w->w = *o->world;
    snprintf(w->name, sizeof(w->name), "%s", o->name);
    snprintf(w->queue, sizeof(w->queue), "%s", o->queue);
    snprintf(w->prefix, sizeof(w->prefix), "%s", o->world->prefix);
    rnd_text(w->w.rnd, w->incarnation, INCARNATION_LEN);
    w->started_ms = loop_wall_ms(w->w.loop);
    topic_results(w->results, w->prefix);
    topic_dead(w->dead, w->prefix);
    topic_workers(w->workers, w->prefix);
    w->o.parallel = i64_max(o->parallel, 1);
    room_init(w);
    TAILQ_INIT(&w->runs);
    TAILQ_INIT(&w->items);
    TAILQ_INIT(&w->closing);
}

struct worker *worker_start(const struct worker_options *o, struct error *err)
{
    struct worker *w = xcalloc(1, sizeof(*w));
    init(w, o);
    w->posts = posts_new(w->w.loop, w->w.bus, w->w.rnd);
    w->failure = timer_new(w->w.loop, drain_tell_failure, w);
    w->dispatch = dispatch_new(w);
    w->quarantine = quarantine_new(w);
    w->shares = shares_new(w);
    w->known = runs_new(w, err);
    if (w->known != NULL)
        w->intake = intake_new(w, err);
    if (w->intake == NULL) {
        worker_free(w);
        return NULL;
    }
    w->beacon = beacon_new(w);
    struct log_ctx ctx = {.worker = w->name};
    log_line(w->o.inside ? LOG_DEBUG : LOG_INFO, &ctx, "worker started: queue %s, %zu handlers, %" PRId64 " items at once", w->queue, w->o.handlers->count, w->o.parallel);
    return w;
}

void worker_free(struct worker *w)
{
    if (w == NULL)
        return;
    w->failed = true; /* nothing starts any more */
    drain_free(w->drain);
    beacon_free(w->beacon);
    runs_free(w->known);
    shards_forget(w);
    intake_free(w->intake);
    struct handler *h;
    while ((h = TAILQ_FIRST(&w->closing)) != NULL)
        h->ops->close(h, true);
    quarantine_free(w->quarantine);
    shares_free(w->shares);
    dispatch_free(w->dispatch);
    posts_free(w->posts);
    timer_free(w->failure);
    assert(TAILQ_EMPTY(&w->items) && w->held == 0 && w->places == 0 && w->in_flight == 0);
    spares_free(&w->spares);
    free(w);
}

void worker_hold(struct worker *w, int64_t bytes)
{
    bool was_full = worker_full(w);
    w->held += bytes;
    assert(w->held >= 0);
    metric_add(w->w.metrics, METRIC_BUFFER_BYTES, bytes);
    if (was_full != worker_full(w) && w->dispatch != NULL)
        dispatch_kick(w->dispatch);
}

static const char *trouble(struct worker *w)
{
    if (w->failed)
        return "to be stopped: it cannot go on";
    if (quarantine_waits_for(w->quarantine)[0])
        return quarantine_waits_for(w->quarantine);
    if (w->w.bq != NULL && bq_waits_for(w->w.bq)[0])
        return bq_waits_for(w->w.bq);
    struct run *run;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->staging != NULL && staging_waits_for(run->staging)[0])
            return staging_waits_for(run->staging);
        if (streams_waits_for(run)[0])
            return streams_waits_for(run);
        if (run->pool != NULL && pool_waits_for(run->pool)[0])
            return pool_waits_for(run->pool);
        if (direct_waits_for(run->direct)[0])
            return direct_waits_for(run->direct);
    }
    const char *text = posts_waits_for(w->posts);
    if (text[0] == '\0')
        text = runs_waits_for(w->known);
    if (text[0] == '\0')
        text = shares_waits_for(w->shares);
    return text[0] ? text : intake_waits_for(w->intake);
}

void worker_state(const struct worker *w, struct worker_state *s)
{
    *s = (struct worker_state){.in_flight = w->in_flight, .unfinished = w->unfinished, .buffered = w->held, .loads_running = w->loads_running,
                               .oldest_item = -1};
    const struct run *run;
    TAILQ_FOREACH(run, &w->runs, link)
        s->waiting += run->waiting_count;
    const struct item *item = TAILQ_FIRST(&w->items);
    if (item != NULL) {
        s->oldest_item = item->index;
        s->oldest_age_ms = (loop_now_us(w->w.loop) - item->taken_us) / US_PER_MS;
        snprintf(s->oldest_key, sizeof(s->oldest_key), "%s", item_key(item));
    }
    snprintf(s->waits_for, sizeof(s->waits_for), "%s", trouble((struct worker *)(uintptr_t)w));
}
