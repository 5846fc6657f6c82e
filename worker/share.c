#include "worker/share.h"

#include <uthash.h>

#include "worker/beacon.h"
#include "worker/dispatch.h"

#define SHARE_LOOK_MS 1000     /* between two looks at what is held and wanted */
#define SHARE_SILENT_MS 30000  /* three lines that did not come */
#define SHARE_ALONE_MS 20000   /* our own line was not read back for so long: nothing starts */

/* A worker, as its last line says. */
struct speaker {
    char name[LIMIT_NAME];
    doc *capped;               /* {RUN: {"holds","wants","since_ms"}}; NULL: none */
    int64_t read_us;
    int64_t old_ms;            /* so old it was when it was read */
    UT_hash_handle hh;
};

struct shares {
    struct worker *w;
    struct bus_follow *follow;
    bool read, tried;          /* `workers` was read to its end once; it is to be read */
    struct speaker *speakers;
    int64_t heard_us;          /* when our own line was read last */
    struct timer *timer;
    char waits[160];
};

static int64_t cap_of(const struct run *run)
{
    return run_cap(run->known->parallel, run->record->parallel);
}

/* --- dividing ---------------------------------------------------------------------------------------------------------------------------------- */

static int by_wants(const void *a, const void *b)
{
    const struct share_claim *x = *(struct share_claim *const *)a, *y = *(struct share_claim *const *)b;
    return (x->wants > y->wants) - (x->wants < y->wants);
}

void shares_divide(struct share_claim *v, size_t count, int64_t cap)
{
    AUTO(free_ptr) struct share_claim **order = xmalloc((count + 1) * sizeof(*order));
    for (size_t i = 0; i < count; i++)
        order[i] = &v[i];
    qsort(order, count, sizeof(struct share_claim *), by_wants);
    size_t modest = 0; /* who wants little leaves more to the others */
    for (; modest < count && order[modest]->wants <= cap / (int64_t)(count - modest); modest++)
        cap -= order[modest]->part = order[modest]->wants;
    int64_t each = modest < count ? cap / (int64_t)(count - modest) : 0;
    for (size_t i = modest; i < count; i++)
        cap -= order[i]->part = each;
    for (size_t i = 0; i < count && cap > 0; i++) {
        if (v[i].part >= v[i].wants)
            continue;
        v[i].part++;
        cap--;
    }
}

/* --- what others say ----------------------------------------------------------------------------------------------------------------------------- */

static bool is_live(const struct shares *s, const struct speaker *p)
{
    return (loop_now_us(s->w->w.loop) - p->read_us) / US_PER_MS + p->old_ms < SHARE_SILENT_MS;
}

static const doc *claim_of(const struct shares *s, const struct speaker *p, const struct run *run)
{
    bool own = strcmp(p->name, s->w->name) == 0;
    const doc *claim = p->capped != NULL && !own && is_live(s, p) ? doc_field(p->capped, run->id) : NULL;
    return doc_type(claim) == DOC_OBJECT ? claim : NULL;
}

static int64_t held_by_others(const struct shares *s, const struct run *run)
{
    int64_t sum = 0;
    for (const struct speaker *p = s->speakers; p != NULL; p = p->hh.next) {
        const doc *claim = claim_of(s, p, run);
        sum += claim != NULL ? i64_max(doc_int(claim, "holds", 0), 0) : 0;
    }
    return sum;
}

/* What runs here, and could. */
static int64_t wants(const struct run *run)
{
    const struct worker *w = run->worker;
    bool more = dispatch_may_run(run) && !w->failed && !worker_draining(w);
    return i64_min(run->running + (more ? run->waiting_count : 0), run->def != NULL && run->def->kind == HANDLER_QUERY ? INT64_MAX : w->o.parallel);
}

struct ranked { const char *name; int64_t since_ms, wants; };

static int by_seniority(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->since_ms != y->since_ms ? (x->since_ms > y->since_ms) - (x->since_ms < y->since_ms) : strcmp(x->name, y->name);
}

static int64_t fair_part(const struct shares *s, const struct run *run)
{
    size_t count = 0, own = 0;
    AUTO(free_ptr) struct ranked *all = xmalloc((HASH_COUNT(s->speakers) + 1) * sizeof(*all));
    for (const struct speaker *p = s->speakers; p != NULL; p = p->hh.next) {
        const doc *claim = claim_of(s, p, run);
        if (claim != NULL)
            all[count++] = (struct ranked){p->name, doc_int(claim, "since_ms", 0), i64_max(doc_int(claim, "wants", 0), 0)};
    }
    all[count++] = (struct ranked){s->w->name, run->share.since_ms, wants(run)};
    qsort(all, count, sizeof(*all), by_seniority);
    AUTO(free_ptr) struct share_claim *v = xcalloc(count, sizeof(*v));
    for (size_t i = 0; i < count; i++) {
        v[i].wants = all[i].wants;
        if (strcmp(all[i].name, s->w->name) == 0)
            own = i;
    }
    shares_divide(v, count, cap_of(run));
    return v[own].part;
}

/* --- our part ------------------------------------------------------------------------------------------------------------------------------------- */

static bool heard(const struct shares *s)
{
    return s->heard_us > 0 && loop_now_us(s->w->w.loop) - s->heard_us < SHARE_ALONE_MS * US_PER_MS;
}

/* What our next line is to say that we hold. */
static int64_t to_hold(const struct shares *s, struct run *run)
{
    int64_t fair = fair_part(s, run), room = i64_max(cap_of(run) - held_by_others(s, run), 0);
    run->share.granted = i64_min(run->share.granted, fair);
    return i64_max(i64_max(i64_min(fair, room), run->share.granted), run->running);
}

static void look_at(struct shares *s, struct run *run, bool *news)
{
    struct share *h = &run->share;
    int64_t could = wants(run);
    if (could == 0 || cap_of(run) == 0) {
        *news |= h->since_ms != 0;
        *h = (struct share){0};
        return;
    }
    if (h->since_ms == 0)
        h->since_ms = loop_wall_ms(s->w->w.loop);
    int64_t hold = to_hold(s, run);
    *news |= hold != h->said || could != h->said_wants;
}

static void on_timer(void *arg)
{
    struct shares *s = arg;
    bool news = false, capped = false;
    struct run *run;
    TAILQ_FOREACH(run, &s->w->runs, link) {
        if (cap_of(run) > 0 || run->share.since_ms != 0)
            look_at(s, run, &news);
        capped |= cap_of(run) > 0;
    }
    if (news && s->read)
        beacon_changed(s->w->beacon);
    if (capped)
        timer_set(s->timer, SHARE_LOOK_MS * US_PER_MS);
}

doc *shares_line(struct shares *s)
{
    doc *all = NULL;
    struct run *run;
    if (!s->read)
        return NULL;
    TAILQ_FOREACH(run, &s->w->runs, link) {
        struct share *h = &run->share;
        if (h->since_ms == 0 || cap_of(run) == 0)
            continue;
        h->said = to_hold(s, run);
        h->said_wants = wants(run);
        all = all ? all : doc_object();
        doc_set(all, run->id, doc_set_int(doc_set_int(doc_set_int(doc_object(), "holds", h->said), "wants", h->said_wants), "since_ms", h->since_ms));
    }
    return all;
}

/* Our own line, at its place among those of the others. */
static void read_back(struct shares *s, const doc *capped, int64_t sent_ms)
{
    bool anew = !heard(s); /* the others took what we held meanwhile */
    int64_t age_ms = i64_max(loop_wall_ms(s->w->w.loop) - sent_ms, 0); /* it may have waited while this process stood still, and so do later ones of others */
    s->heard_us = i64_max(s->heard_us, loop_now_us(s->w->w.loop) - age_ms * US_PER_MS);
    struct run *run;
    TAILQ_FOREACH(run, &s->w->runs, link) {
        if (anew)
            run->share.granted = 0;
        const doc *claim = capped != NULL ? doc_field(capped, run->id) : NULL;
        struct share *h = &run->share;
        int64_t cap = cap_of(run);
        if (doc_type(claim) != DOC_OBJECT || cap == 0 || doc_int(claim, "since_ms", -1) != h->since_ms)
            continue;
        int64_t room = i64_max(cap - held_by_others(s, run), 0);
        h->granted = i64_max(h->granted, i64_min(doc_int(claim, "holds", 0), room));
    }
}

/* --- the topic ------------------------------------------------------------------------------------------------------------------------------------- */

static void forget(struct shares *s, struct speaker *p)
{
    HASH_DEL(s->speakers, p);
    doc_free(p->capped);
    free(p);
}

static struct speaker *speaker_of(struct shares *s, const void *name, size_t len, bool make)
{
    struct speaker *p;
    HASH_FIND(hh, s->speakers, name, len, p);
    if (p == NULL && make && len > 0 && len < sizeof(p->name)) {
        p = xcalloc(1, sizeof(*p));
        memcpy(p->name, name, len);
        HASH_ADD_KEYPTR(hh, s->speakers, p->name, len, p);
    }
    return p;
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct shares *s = arg;
    struct speaker *p = speaker_of(s, m->key, m->key_len, m->value != NULL);
    if (p == NULL || m->value == NULL) {
        if (p != NULL)
            forget(s, p);
        timer_set(s->timer, 0);
        return;
    }
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *said = doc_parse(m->value, m->value_len, "a worker's line", &err);
    if (said == NULL)
        return;
    const doc *capped = strcmp(doc_str(said, "queue", ""), s->w->queue) == 0 ? doc_get(said, "capped") : NULL;
    bool had = p->capped != NULL;
    doc_free(p->capped);
    p->capped = doc_type(capped) == DOC_OBJECT ? doc_ref((doc *)(uintptr_t)capped) : NULL;
    p->read_us = loop_now_us(s->w->w.loop);
    p->old_ms = s->read ? 0 : i64_max(loop_wall_ms(s->w->w.loop) - m->time_ms, 0);
    if (strcmp(p->name, s->w->name) == 0 && strcmp(doc_str(said, "incarnation", ""), s->w->incarnation) == 0) {
        read_back(s, p->capped, doc_int(said, "time_ms", 0));
        dispatch_kick(s->w->dispatch);
    }
    if (had || p->capped != NULL)
        timer_set(s->timer, 0);
}

static void on_end(void *arg, int64_t next)
{
    struct shares *s = arg;
    (void)next;
    if (s->read)
        return;
    s->read = true;
    timer_set(s->timer, 0);
}

static void on_failed(void *arg, const struct error *err)
{
    struct shares *s = arg;
    bus_follow_stop(s->follow);
    s->follow = NULL;
    worker_fail(s->w, err);
}

/* Only where there is a cap to be divided. */
static void follow(struct shares *s)
{
    static const struct bus_follow_events events = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct error err = ERROR_INIT;
    s->tried = true;
    s->follow = bus_follow(s->w->w.bus, s->w->workers, 0, BUS_BEGIN, &events, s, &err);
    if (s->follow == NULL)
        worker_fail(s->w, &err);
}

struct shares *shares_new(struct worker *w)
{
    struct shares *s = xcalloc(1, sizeof(*s));
    s->w = w;
    s->timer = timer_new(w->w.loop, on_timer, s);
    return s;
}

void shares_free(struct shares *s)
{
    if (s == NULL)
        return;
    if (s->follow != NULL)
        bus_follow_stop(s->follow);
    struct speaker *p, *next;
    HASH_ITER(hh, s->speakers, p, next)
        forget(s, p);
    timer_free(s->timer);
    free(s);
}

int64_t shares_limit(struct run *run)
{
    struct shares *s = run->worker->shares;
    int64_t cap = cap_of(run);
    if (cap == 0)
        return INT64_MAX;
    if (run->worker->o.inside) /* there is no other */
        return cap;
    if (!s->tried)
        follow(s);
    if (!timer_is_set(s->timer))
        timer_set(s->timer, 0);
    return heard(s) ? i64_min(run->share.granted, cap) : 0;
}

int64_t shares_live(struct shares *s)
{
    int64_t live = 1;
    if (s->w->o.inside)
        return 1;
    if (!s->tried)
        follow(s);
    for (const struct speaker *p = s->speakers; p != NULL; p = p->hh.next)
        live += is_live(s, p) && strcmp(p->name, s->w->name) != 0;
    return live;
}

const char *shares_waits_for(struct shares *s)
{
    struct run *run;
    s->waits[0] = '\0';
    TAILQ_FOREACH(run, &s->w->runs, link)
        if (cap_of(run) > 0 && run->waiting_count > 0 && run->running == 0 && dispatch_may_run(run) && !s->w->o.inside)
            snprintf(s->waits, sizeof(s->waits), "a place of the %" PRId64 " that run %.40s has in the fleet", cap_of(run), run->id);
    return s->waits;
}
