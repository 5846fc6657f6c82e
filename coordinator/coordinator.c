#include "coordinator/coordinator.h"

#include <sys/queue.h>

#include "common/base/log.h"
#include "coordinator/janitor.h"
#include "coordinator/presence.h"

struct member { struct track *track; bool kept; LIST_ENTRY(member) link; };
struct project { char name[64]; struct bq *bq; struct project *next; };

struct coordinator {
    struct coordinator_options o;
    struct world world;
    struct coordinator_events events;
    void *arg;
    struct catalog_watch *watch;
    LIST_HEAD(, member) members;
    struct project *projects; /* besides world.bq's */
    struct timer *sweep;
    struct presence *presence; /* once somebody asks whether workers are busy */
    struct janitor *janitor;   /* with all runs and BigQuery, once they are known */
};

/* No process substitutes its own project for a record's: its jobs run in the project that the submitter named, whoever inserts them. */
static struct bq *bq_for(struct coordinator *c, const struct record *r)
{
    struct bq *own = c->world.bq;
    if (own == NULL || c->o.http == NULL || r->project[0] == '\0' || strcmp(bq_project(own), r->project) == 0)
        return own;
    for (struct project *p = c->projects; p != NULL; p = p->next)
        if (strcmp(p->name, r->project) == 0)
            return p->bq;
    struct project *p = xcalloc(1, sizeof(*p));
    memcpy(p->name, r->project, sizeof(p->name));
    p->bq = bq_new_for(own, p->name);
    p->next = c->projects;
    c->projects = p;
    return p->bq;
}

static struct member *member_of(struct coordinator *c, const char *run)
{
    struct member *m;
    LIST_FOREACH(m, &c->members, link)
        if (strcmp(track_record(m->track)->run, run) == 0)
            return m;
    return NULL;
}

static void on_changed(void *arg, struct track *t)
{
    struct coordinator *c = arg;
    if (c->events.changed)
        c->events.changed(c->arg, t);
    struct member *m;
    LIST_FOREACH(m, &c->members, link)
        if (strcmp(track_record(m->track)->adopts, track_record(t)->run) == 0)
            track_poke(m->track);
    if (c->o.all && track_done(t))
        timer_set(c->sweep, 0);
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    struct coordinator *c = arg;
    c->events.trouble(c->arg, t, err);
}

/* Its heir has yet to read what became of it. */
static bool has_heir(const struct coordinator *c, const struct record *r)
{
    const struct member *m;
    LIST_FOREACH(m, &c->members, link)
        if (strcmp(track_record(m->track)->adopts, r->run) == 0 && !track_done(m->track))
            return true;
    return false;
}

/* Trackers that are done, and those of runs that others ended meanwhile. Here and not in the callbacks, which come from inside trackers. */
static void sweep(void *arg)
{
    struct coordinator *c = arg;
    struct member *m, *after;
    for (m = LIST_FIRST(&c->members); m != NULL; m = after) {
        after = LIST_NEXT(m, link);
        if (m->kept || !track_done(m->track) || has_heir(c, track_record(m->track)))
            continue;
        log_info("run %s is settled: %s", track_record(m->track)->run, run_end_name(track_fold(m->track)->end));
        LIST_REMOVE(m, link);
        track_free(m->track);
        free(m);
        timer_set(c->sweep, 0); /* it may have been the heir of one before it */
    }
}

static bool busy(void *arg, const char *queue)
{
    struct coordinator *c = arg;
    struct error err;
    if (c->presence == NULL)
        c->presence = presence_start(&c->world, NULL, NULL, &err);
    return c->presence == NULL || presence_busy(c->presence, queue);
}

static struct track *find_adopted(void *arg, const char *run)
{
    return coordinator_find(arg, run);
}

static struct member *add(struct coordinator *c, const struct record *r, enum track_role role, struct error *err);

/* What a run adopts is part of its last cut: its log is folded too, whatever it has come to meanwhile. */
static int add_adopted(struct coordinator *c, const struct record *r, struct error *err)
{
    struct catalog *runs = catalog_watch_runs(c->watch);
    const struct catalog_run *own = catalog_find(runs, r->run), *a = r->adopts[0] ? catalog_find(runs, r->adopts) : NULL;
    if (a != NULL && own != NULL && a->offset >= own->offset) /* it would have known its own heir: no chain goes in a circle */
        a = NULL;
    if (a == NULL && r->adopts[0])
        log_warn("run %s redrives run %s, whose record is gone: it cannot be written", r->run, r->adopts);
    return a == NULL || member_of(c, a->run) != NULL || add(c, a->record, TRACK_SECOND, err) != NULL ? 0 : -1;
}

static struct member *add(struct coordinator *c, const struct record *r, enum track_role role, struct error *err)
{
    static const struct track_events events = {.changed = on_changed, .trouble = on_trouble};
    struct world world = c->world;
    world.bq = bq_for(c, r);
    struct track_options o = {.world = &world, .outbox = c->o.outbox, .watch = c->watch, .record = r, .role = role,
                              .abandon_ms = c->o.abandon_ms, .takeover_ms = c->o.takeover_ms, .shards_at_once = c->o.shards_at_once, .params_at_once = c->o.params_at_once,
                              .busy = busy, .busy_arg = c, .find = find_adopted, .find_arg = c};
    if (role != TRACK_LOOKS && add_adopted(c, r, err) != 0)
        return NULL;
    struct track *t = track_start(&o, &events, c, err);
    if (t == NULL)
        return NULL;
    struct member *m = xcalloc(1, sizeof(*m));
    m->track = t;
    LIST_INSERT_HEAD(&c->members, m, link);
    return m;
}

/* Whatever open run the record replaces, directly or not: somebody must settle it. */
static int track_older(struct coordinator *c, const struct record *r, struct error *err)
{
    struct catalog *runs = catalog_watch_runs(c->watch);
    struct catalog_run *o = r->replaces[0] ? catalog_find(runs, r->run) : NULL;
    while (o != NULL && (o = catalog_open_before(runs, o)) != NULL)
        if (member_of(c, o->run) == NULL && add(c, o->record, TRACK_SECOND, err) == NULL)
            return -1;
    return 0;
}

struct track *coordinator_track(struct coordinator *c, const struct record *r, enum track_role role, struct error *err)
{
    struct member *m = member_of(c, r->run);
    if (m == NULL)
        m = add(c, r, role, err);
    if (m == NULL)
        return NULL;
    m->kept = true;
    return role == TRACK_LOOKS || track_older(c, r, err) == 0 ? m->track : NULL;
}

static void track_open_runs(struct coordinator *c)
{
    struct catalog *runs = catalog_watch_runs(c->watch);
    for (struct catalog_run *r = catalog_next(runs, NULL); r != NULL; r = catalog_next(runs, r)) {
        struct error err = ERROR_INIT;
        if (r->standing != STANDING_OPEN || member_of(c, r->run) != NULL)
            continue;
        struct member *m = add(c, r->record, TRACK_SECOND, &err);
        if (m == NULL)
            log_err("run %s cannot be followed: %s", r->run, err.text);
        else
            log_info("run %s of batch %s is open", r->run, r->record->batch);
    }
}

static void on_read(void *arg)
{
    struct coordinator *c = arg;
    struct member *m;
    if (c->o.all)
        track_open_runs(c);
    LIST_FOREACH(m, &c->members, link)
        if (track_fold(m->track)->end == END_ADOPTED) /* its heir may have ended */
            track_poke(m->track);
    if (c->o.all && c->janitor == NULL && c->world.bq != NULL)
        c->janitor = janitor_start(&c->world, catalog_watch_runs(c->watch));
    if (c->events.ready)
        c->events.ready(c->arg);
}

/* Whoever waits for a message of its own need not wait for the end after it, which Kafka tells a whole fetch later. */
static void on_run(void *arg, struct catalog_run *run)
{
    (void)run;
    struct coordinator *c = arg;
    if (catalog_watch_ready(c->watch) && c->events.ready)
        c->events.ready(c->arg);
}

static void on_failed(void *arg, const struct error *err)
{
    struct coordinator *c = arg;
    c->events.trouble(c->arg, NULL, err);
}

struct coordinator *coordinator_start(const struct coordinator_options *o, const struct coordinator_events *events, void *arg, struct error *err)
{
    static const struct catalog_watch_events watch = {.changed = on_run, .read = on_read, .failed = on_failed};
    struct coordinator *c = xcalloc(1, sizeof(*c));
    c->o = *o;
    c->world = *o->world;
    c->events = *events;
    c->arg = arg;
    LIST_INIT(&c->members);
    c->sweep = timer_new(c->world.loop, sweep, c);
    c->watch = catalog_watch_start(&c->world, &watch, c, err);
    if (c->watch == NULL) {
        coordinator_free(c);
        return NULL;
    }
    return c;
}

void coordinator_free(struct coordinator *c)
{
    if (c == NULL)
        return;
    struct member *m;
    while ((m = LIST_FIRST(&c->members)) != NULL) {
        LIST_REMOVE(m, link);
        track_free(m->track);
        free(m);
    }
    presence_free(c->presence);
    janitor_free(c->janitor);
    catalog_watch_free(c->watch);
    while (c->projects) {
        struct project *p = c->projects;
        c->projects = p->next;
        bq_free(p->bq);
        free(p);
    }
    timer_free(c->sweep);
    free(c);
}

struct catalog_watch *coordinator_watch(struct coordinator *c)
{
    return c->watch;
}

struct track *coordinator_find(struct coordinator *c, const char *run)
{
    struct member *m = member_of(c, run);
    return m ? m->track : NULL;
}

struct track *coordinator_next(struct coordinator *c, const struct track *t)
{
    struct member *m;
    if (t == NULL) {
        m = LIST_FIRST(&c->members);
    } else {
        m = member_of(c, track_record(t)->run);
        m = m ? LIST_NEXT(m, link) : NULL;
    }
    return m ? m->track : NULL;
}
