#include "coordinator/live.h"

/* What progress shows of a command's run. */

static const char *phase_of(const struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (l->final != NULL && l->final_code == EXIT_HELD) /* in one process it is cancelled then, to be rid of its staging */
        return run_phase_name(RUN_HELD);
    if (f->paused && f->phase < RUN_HELD)
        return "paused";
    if (f->phase != RUN_ENDED)
        return run_phase_name(f->phase);
    return fold_settled(f) ? run_end_name(f->end) : "writing";
}

static int64_t in_flight(const struct live *l)
{
    int64_t sum = 0;
    if (l->embedded) {
        char waits[160];
        l->own_worker(l, &sum, waits, sizeof(waits));
        return sum;
    }
    if (l->presence == NULL || !presence_ready(l->presence))
        return -1;
    assert(l->record != NULL && l->record->queue != NULL); /* a run is tracked once its record is there */
    for (size_t i = 0; i < presence_count(l->presence); i++) {
        struct presence_worker w;
        presence_at(l->presence, i, &w);
        if (w.live && strcmp(w.queue, l->record->queue) == 0)
            sum += doc_int(w.said, "in_flight", 0);
    }
    return sum;
}

enum { KNOCK_MS = 5000, KNOCK_EVERY_MS = 10000 };

static void on_knock(void *arg, const struct error *err)
{
    struct live *l = ticket_take(arg);
    if (l == NULL)
        return;
    l->knock = NULL;
    l->bus_silent = err != NULL;
}

/* Nobody is heard: the workers may be gone, or the bus. */
static bool bus_answers(struct live *l)
{
    int64_t now = loop_now_us(l->setup.world.loop);
    if (l->knock == NULL && (l->knocked_us == 0 || now - l->knocked_us > KNOCK_EVERY_MS * US_PER_MS)) {
        l->knocked_us = now;
        l->knock = ticket_new(l->outbox, l);
        bus_ping(l->setup.world.bus, KNOCK_MS, on_knock, l->knock);
    }
    return !l->bus_silent;
}

/* What workers wait for, when the coordinator itself does not. */
static void ask_workers(struct live *l, char *out, size_t size)
{
    const struct fold *f = track_fold(l->track);
    if (f->phase != RUN_PUBLISHING && f->phase != RUN_WORKING)
        return;
    if (l->embedded) {
        int64_t running;
        l->own_worker(l, &running, out, size);
        return;
    }
    if (l->presence == NULL)
        return;
    if (!presence_ready(l->presence)) { /* it may never be, with a bus that went away at once */
        if (!bus_answers(l))
            snprintf(out, size, "%s, which does not answer", bus_describe(l->setup.world.bus));
        return;
    }
    presence_waits_for(l->presence, l->record->queue, l->record->handler, out, size);
    if (out[0] == '\0')
        l->bus_silent = false;
    else if (!bus_answers(l))
        snprintf(out, size, "%s, which does not answer", bus_describe(l->setup.world.bus));
    for (size_t i = 0; i < presence_count(l->presence) && out[0] == '\0'; i++) {
        struct presence_worker w;
        presence_at(l->presence, i, &w);
        const char *what = doc_str(w.said, "waits_for", "");
        if (w.live && what[0] && strcmp(w.queue, l->record->queue) == 0)
            snprintf(out, size, "%s (worker %s)", what, w.name);
    }
}

static void view(void *arg, struct progress_view *v)
{
    struct live *l = arg;
    v->label = l->record ? l->record->batch : "";
    v->phase = "opening";
    v->total = l->expected;
    if (l->track == NULL)
        return;
    const struct fold *f = track_fold(l->track);
    v->phase = phase_of(l);
    v->done = f->done;
    v->failed = f->failed;
    v->total = f->items >= 0 ? f->items : l->expected;
    v->in_flight = in_flight(l);
    assert(l->record != NULL);
    v->cap = run_cap(f->parallel, l->record->parallel);
    if (l->setup.world.bq != NULL)
        snprintf(v->waits_for, sizeof(v->waits_for), "%s", bq_waits_for(l->setup.world.bq));
    if (v->waits_for[0] == '\0' && !(l->embedded && f->phase == RUN_HELD)) /* one process waits for no decision */
        track_waits_for(l->track, v->waits_for, sizeof(v->waits_for));
    if (v->waits_for[0] == '\0')
        ask_workers(l, v->waits_for, sizeof(v->waits_for));
    if (v->waits_for[0] == '\0' && l->submit != NULL && f->phase == RUN_PUBLISHING) {
        struct submit_state s;
        submit_state(l->submit, &s);
        snprintf(v->waits_for, sizeof(v->waits_for), "%s", s.waits_for);
    }
}

void live_show_progress(struct live *l)
{
    if (l->progress == NULL)
        l->progress = progress_start(l->setup.world.loop, l->env->settings->progress, l->env->env, view, l);
}
