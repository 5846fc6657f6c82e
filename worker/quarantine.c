#include "worker/quarantine_internal.h"

#include "worker/beacon.h"
#include "worker/dispatch.h"
#include "worker/intake.h"

static void on_timer(void *arg)
{
    struct quarantine *q = arg;
    dispatch_kick(q->w->dispatch);
}

struct quarantine *quarantine_new(struct worker *w)
{
    struct quarantine *q = xcalloc(1, sizeof(*q));
    q->w = w;
    TAILQ_INIT(&q->kept);
    TAILQ_INIT(&q->suspects);
    q->timer = timer_new(w->w.loop, on_timer, q);
    return q;
}

void quarantine_free(struct quarantine *q)
{
    if (q == NULL)
        return;
    for (int32_t i = 0; i < q->ward_count; i++)
        free(q->wards[i]);
    free(q->wards);
    timer_free(q->timer);
    free(q);
}

static void set_state(struct quarantine *q, enum quarantine_state to)
{
    static const char *const names[] = {"quiet", "waiting", "naming", "running", "landing", "reopening"};
    struct log_ctx ctx = {.worker = q->w->name};
    log_line(LOG_DEBUG, &ctx, "quarantine: %s -> %s", names[q->state], names[to]);
    q->state = to;
    q->until_us = 0;
    if (to == NAMING || to == LANDING || to == REOPENING)
        for (int32_t i = 0; i < q->ward_count; i++)
            if (q->wards[i] != NULL && q->wards[i]->open)
                ward_restate(q, i);
    if (to == RUNNING || to == LANDING) {
        q->until_us = loop_now_us(q->w->w.loop) + WAIT_ALONE * US_PER_MS;
        timer_set(q->timer, WAIT_ALONE * US_PER_MS);
    }
    if (to == NAMING) /* while the commit is waited for, so people learn of it, too */
        beacon_now(q->w->beacon);
    else if (to == QUIET)
        beacon_changed(q->w->beacon);
    dispatch_kick(q->w->dispatch);
}

/* --- where an item belongs ----------------------------------------------------------------------------------------------------------- */

enum lane { FREE, CAREFUL, SHUT, SUSPECT }; /* of several deliveries the last one in this order counts */

static enum lane lane_of(const struct quarantine *q, const struct item *item)
{
    enum lane lane = FREE;
    for (const struct delivery *v = &item->first; v != NULL; v = v->next) {
        const struct ward *d = ward_of(q, v->partition);
        if (d == NULL)
            continue;
        enum lane here = offsets_has(&d->marks.suspects, v->offset) ? SUSPECT
                         : d->open && !d->known          ? SHUT
                         : marks_careful(&d->marks)      ? CAREFUL
                                                         : FREE;
        lane = here > lane ? here : lane;
    }
    return lane;
}

static struct let_out *out_of(struct quarantine *q, const struct item *item)
{
    for (size_t i = 0; i < q->out_count; i++)
        if (q->out[i].item == item)
            return &q->out[i];
    return NULL;
}

/* Not among those that may be with handlers any more. Nothing is committed for that: to be named there although it has returned does no harm. */
static void take_in(struct quarantine *q, const struct item *item)
{
    struct let_out *o = out_of(q, item);
    if (o != NULL)
        *o = q->out[--q->out_count];
}

bool quarantine_keeps(struct item *item)
{
    struct quarantine *q = item->worker->quarantine;
    const struct let_out *o = out_of(q, item);
    if (o != NULL && o->known)
        return false;
    enum lane lane = lane_of(q, item);
    if (lane == FREE)
        return false;
    item_enlist(item, lane == SUSPECT ? &q->suspects : &q->kept);
    dispatch_kick(q->w->dispatch);
    return true;
}

static void clear(struct quarantine *q, const struct item *item)
{
    for (const struct delivery *v = &item->first; v != NULL; v = v->next) {
        struct ward *d = ward_of(q, v->partition);
        if (d != NULL)
            marks_clear(&d->marks, v->offset);
    }
}

void quarantine_returned(struct item *item)
{
    struct quarantine *q = item->worker->quarantine;
    take_in(q, item);
    if (item != q->current)
        return;
    clear(q, item);
    set_state(q, LANDING);
}

void quarantine_forget(struct item *item)
{
    struct quarantine *q = item->worker->quarantine;
    take_in(q, item);
    if (item != q->current)
        return;
    q->current = NULL;
    dispatch_kick(q->w->dispatch);
}

/* --- turns ------------------------------------------------------------------------------------------------------------------------------ */

/* What is done by now is no suspect, and what was careful need be so no longer. */
static void settle(struct quarantine *q)
{
    for (int32_t i = 0; i < q->ward_count; i++) {
        struct ward *d = q->wards[i];
        if (d == NULL || (d->marks.takeovers == 0 && d->marks.suspects.count == 0))
            continue;
        const struct ackmap *map = intake_map(q->w->intake, i);
        struct offsets suspects = d->marks.suspects;
        for (size_t k = 0; k < suspects.count; k++)
            if (ackmap_is_done(map, suspects.v[k]))
                marks_clear(&d->marks, suspects.v[k]);
        bool careful = marks_careful(&d->marks);
        marks_pass(&d->marks, ackmap_next(map));
        q->stirred |= careful != marks_careful(&d->marks);
    }
}

static void release(struct quarantine *q)
{
    if (!q->stirred)
        return;
    q->stirred = false;
    struct item *item, *next;
    for (item = TAILQ_FIRST(&q->kept); item != NULL; item = next) {
        next = TAILQ_NEXT(item, link);
        enum lane lane = lane_of(q, item);
        if (lane == FREE)
            dispatch_queue(item);
        else if (lane == SUSPECT)
            item_enlist(item, &q->suspects);
    }
    for (item = TAILQ_FIRST(&q->suspects); item != NULL; item = next) {
        next = TAILQ_NEXT(item, link);
        if (lane_of(q, item) != SUSPECT && item != q->current)
            dispatch_queue(item);
    }
}

/* Those whose run was paused or has stopped since give their places to others. */
static void take_back(struct quarantine *q)
{
    for (size_t i = 0; i < q->out_count;) {
        struct item *item = q->out[i].item;
        if (item->state == ITEM_RUNNING || (item->state == ITEM_WAITING && dispatch_may_run(item->run))) {
            i++;
            continue;
        }
        q->out[i] = q->out[--q->out_count];
        if (item->state == ITEM_WAITING)
            item_enlist(item, &q->kept);
    }
}

/* The next few may run once that is committed. */
static void let_out(struct quarantine *q)
{
    size_t most = (size_t)i64_min(LIMIT_CAREFUL, 2 * q->w->o.parallel);
    bool underway = false;
    for (size_t i = 0; i < q->out_count; i++) {
        struct let_out *o = &q->out[i];
        if (!o->known && wards_known(q, o->item)) {
            o->known = true;
            if (o->item->list == &q->kept) /* or it is free since its partition was revoked, and may be with a handler by now */
                dispatch_queue(o->item);
        }
        underway |= !o->known;
    }
    struct item *item;
    size_t before = q->out_count;
    TAILQ_FOREACH(item, &q->kept, link) {
        if (underway || q->out_count >= most)
            break;
        if (lane_of(q, item) == CAREFUL && dispatch_may_run(item->run))
            q->out[q->out_count++] = (struct let_out){.item = item};
    }
    for (size_t i = before; i < q->out_count; i++)
        for (const struct delivery *v = &q->out[i].item->first; v != NULL; v = v->next)
            if (ward_of(q, v->partition) != NULL)
                ward_restate(q, v->partition);
}

/* The partition in which it killed the last worker that had nothing but it; NULL: it has not. */
static struct ward *killed_in(const struct quarantine *q, const struct item *item)
{
    for (const struct delivery *v = &item->first; v != NULL; v = v->next) {
        struct ward *d = ward_of(q, v->partition);
        if (d != NULL && d->marks.killed == v->offset)
            return d;
    }
    return NULL;
}

static bool guilty(const struct quarantine *q, const struct item *item)
{
    const struct ward *d = killed_in(q, item);
    return d != NULL && marks_guilty(&d->marks, d->marks.killed);
}

/* One that has killed comes first: its count is of deaths in a row. */
static struct item *next_suspect(const struct quarantine *q)
{
    struct item *item, *found = NULL;
    TAILQ_FOREACH(item, &q->suspects, link) {
        if (!guilty(q, item) && (!dispatch_may_run(item->run) || loop_now_us(q->w->w.loop) < q->not_before_us))
            continue;
        if (killed_in(q, item) != NULL)
            return item;
        if (found == NULL)
            found = item;
    }
    return found;
}

/* It never runs again. Its marks stay until its manifest is acknowledged: whoever comes then need not find it out anew. */
static void convict(struct quarantine *q, struct item *item)
{
    const struct marks *m = &killed_in(q, item)->marks;
    char text[256];
    snprintf(text, sizeof(text), "it killed its worker %" PRId64 " times while nothing else ran there, after workers had died %" PRId64
             " times with it among others; what the handler said last went with the worker", m->kills, m->takeovers);
    item->attempts = m->kills;
    q->current = item;
    set_state(q, LANDING);
    dispatch_fail(item, "crash", text);
}

static void name(struct quarantine *q, struct item *item)
{
    q->current = item;
    struct log_ctx ctx = item_ctx(item);
    log_line(LOG_WARN, &ctx, "key %.64s was at work when a worker died; it runs now with nothing beside it", item_key(item));
    set_state(q, NAMING);
}

/* With no item at a handler: from one suspect to the next, or back to all others. */
static void go_on(struct quarantine *q)
{
    q->current = NULL;
    struct item *next = next_suspect(q);
    if (next == NULL)
        set_state(q, REOPENING);
    else if (guilty(q, next))
        convict(q, next);
    else
        name(q, next);
}

static bool gone(const struct quarantine *q)
{
    return q->current == NULL || q->current->state == ITEM_HELD;
}

/* Its program does not start: others must not wait for that. */
static void put_off(struct quarantine *q)
{
    q->not_before_us = loop_now_us(q->w->w.loop) + WAIT_ALONE_AGAIN * US_PER_MS;
    q->current = NULL;
    set_state(q, REOPENING);
    timer_set(q->timer, WAIT_ALONE_AGAIN * US_PER_MS);
}

static void step(struct quarantine *q)
{
    bool late = q->until_us > 0 && loop_now_us(q->w->w.loop) >= q->until_us;
    switch (q->state) {
    case QUIET:
        if (next_suspect(q) == NULL) {
            take_back(q);
            let_out(q);
            break;
        }
        set_state(q, WAITING);
        break;
    case WAITING:
        if (next_suspect(q) == NULL)
            set_state(q, QUIET);
        else if (q->w->in_flight == 0)
            go_on(q);
        break;
    case NAMING:
        if (gone(q))
            go_on(q);
        else if (wards_known(q, NULL))
            set_state(q, RUNNING);
        break;
    case RUNNING:
        if (gone(q))
            go_on(q);
        else if (late && q->current->state == ITEM_WAITING)
            put_off(q);
        break;
    case LANDING:
        if (gone(q) || q->current->state == ITEM_WAITING || late)
            go_on(q);
        break;
    case REOPENING:
        if (wards_known(q, NULL)) {
            set_state(q, QUIET);
            q->stirred = true;
        }
        break;
    }
}

void quarantine_turn(struct quarantine *q)
{
    if (q->leaving)
        return;
    settle(q);
    release(q);
    step(q);
    quarantine_look(q);
}

bool quarantine_holds(const struct quarantine *q, struct item **alone)
{
    *alone = q->state == RUNNING && q->current != NULL && q->current->state == ITEM_WAITING ? q->current : NULL;
    return q->state != QUIET;
}

bool quarantine_idle(const struct quarantine *q, const struct run *run, bool idle)
{
    if (q->leaving || q->state == QUIET)
        return idle && (q->leaving || wards_known(q, NULL)); /* else more comes in a moment */
    return run->running == 0;
}

const struct item *quarantine_runs(const struct quarantine *q)
{
    return q->state == NAMING || q->state == RUNNING ? q->current : NULL;
}

const char *quarantine_waits_for(struct quarantine *q)
{
    q->text[0] = '\0';
    const struct item *item = q->current ? q->current : TAILQ_FIRST(&q->suspects);
    if (q->state != QUIET && item != NULL && item->run != NULL)
        snprintf(q->text, sizeof(q->text), "item %" PRId64 " of run %.40s (key %.40s), which runs alone: workers died with it", item->index, item->run->id,
                 item_key(item));
    return q->text;
}
