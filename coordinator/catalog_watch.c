#include "coordinator/catalog_watch.h"

#include "common/fleet/names.h"

struct catalog_watch {
    struct catalog *runs;
    struct catalog_watch_events events;
    void *arg;
    struct bus_follow *follow;
    int64_t next;
    bool ready;
};

static void on_message(void *arg, const struct bus_msg *m)
{
    struct catalog_watch *w = arg;
    struct catalog_run *run = catalog_apply(w->runs, m->key, m->key_len, m->value, m->value_len, m->offset);
    w->next = m->offset + 1;
    if (run != NULL && w->events.changed)
        w->events.changed(w->arg, run);
}

static void on_end(void *arg, int64_t next)
{
    struct catalog_watch *w = arg;
    w->next = i64_max(w->next, next);
    w->ready = true;
    if (w->events.read)
        w->events.read(w->arg);
}

static void on_failed(void *arg, const struct error *err)
{
    struct catalog_watch *w = arg;
    struct error told = *err;
    bus_follow_stop(w->follow);
    w->follow = NULL;
    error_prefix(&told, "the topic of runs cannot be read");
    w->events.failed(w->arg, &told);
}

struct catalog_watch *catalog_watch_start(const struct world *world, const struct catalog_watch_events *events, void *arg, struct error *err)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct catalog_watch *w = xcalloc(1, sizeof(*w));
    w->events = *events;
    w->arg = arg;
    w->runs = catalog_new();
    char topic[TOPIC_SIZE];
    topic_batches(topic, world->prefix);
    w->follow = bus_follow(world->bus, topic, 0, BUS_BEGIN, &follow, w, err);
    if (w->follow == NULL) {
        catalog_watch_free(w);
        return NULL;
    }
    return w;
}

void catalog_watch_free(struct catalog_watch *w)
{
    if (w == NULL)
        return;
    if (w->follow)
        bus_follow_stop(w->follow);
    catalog_free(w->runs);
    free(w);
}

struct catalog *catalog_watch_runs(struct catalog_watch *w)
{
    return w->runs;
}

bool catalog_watch_ready(const struct catalog_watch *w)
{
    return w->ready;
}

int64_t catalog_watch_next(const struct catalog_watch *w)
{
    return w->next;
}

struct catalog_run *catalog_watch_named(struct catalog_watch *w, const char *text, struct error *err)
{
    struct catalog_run *exact = catalog_find(w->runs, text), *found = NULL;
    if (exact != NULL)
        return exact;
    if ((found = catalog_last_of(w->runs, text)) != NULL)
        return found;
    int matches = 0;
    for (struct catalog_run *r = catalog_next(w->runs, NULL); r != NULL; r = catalog_next(w->runs, r))
        if (strncmp(r->run, text, strlen(text)) == 0) {
            found = r;
            matches++;
        }
    if (matches == 1)
        return found;
    if (matches > 1)
        error_set(err, ERR_USAGE, 0, "\"%s\" begins the ids of %d runs; give more of it (bqfleet status lists the open ones)", text, matches);
    else
        error_set(err, ERR_USAGE, 0, "no run or batch is called \"%s\"; bqfleet status lists the open runs", text);
    return NULL;
}
