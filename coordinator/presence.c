#include "coordinator/presence.h"

#include "common/base/log.h"
#include "common/fleet/names.h"

/* alone: of a process before the one that speaks now. */
struct seen { char *name; doc *said, *alone; int64_t time_ms, read_us, alone_ms; };

struct presence {
    struct loop *loop;
    struct bus_follow *follow;
    struct seen *v; size_t count, cap;
    bool ready;
    void (*changed)(void *);
    void *arg;
};

/* A worker is live while it spoke within three intervals: one late message is no death. */
enum { SILENT_MS = 3 * WAIT_PRESENCE_EVERY };
/* What an earlier process died of is news for so long; the next one may be started much later. */
enum { ALONE_MS = 10 * 60000 };

static struct seen *find(struct presence *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->v[i].name, name) == 0)
            return &p->v[i];
    return NULL;
}

static void drop(struct presence *p, struct seen *s)
{
    free(s->name);
    doc_free(s->said);
    doc_free(s->alone);
    *s = p->v[--p->count];
}

static struct seen *add(struct presence *p, const char *name)
{
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->v = xreallocarray(p->v, p->cap, sizeof(*p->v));
    }
    p->v[p->count] = (struct seen){.name = xstrdup(name)};
    return &p->v[p->count++];
}

/* In a crash loop the first words of a process soon take the place of the last ones of the one before, which say what it died of. */
static void remember(struct seen *s, const doc *said)
{
    bool same = strcmp(doc_str(s->said, "incarnation", ""), doc_str(said, "incarnation", "")) == 0;
    const doc *alone = doc_get(s->said, "alone");
    if (same || alone == NULL)
        return;
    doc_free(s->alone);
    s->alone = doc_copy(alone);
    s->alone_ms = s->time_ms;
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct presence *p = arg;
    AUTO(free_ptr) char *name = xstrndup(m->key_len ? m->key : "", m->key_len);
    struct seen *s = find(p, name);
    if (m->value == NULL) { /* it left for good */
        if (s != NULL)
            drop(p, s);
        return;
    }
    struct error err = ERROR_INIT;
    doc *said = doc_parse(m->value, m->value_len, "a worker's message", &err);
    if (said == NULL) {
        log_debug("%s is skipped", err.text);
        return;
    }
    if (s == NULL)
        s = add(p, name);
    remember(s, said);
    doc_free(s->said);
    s->said = said;
    s->time_ms = m->time_ms;
    s->read_us = loop_now_us(p->loop);
    if (p->ready && p->changed)
        p->changed(p->arg);
}

static void on_end(void *arg, int64_t next)
{
    struct presence *p = arg;
    (void)next;
    bool first = !p->ready;
    p->ready = true;
    if (first && p->changed)
        p->changed(p->arg);
}

static void on_failed(void *arg, const struct error *err)
{
    struct presence *p = arg;
    bus_follow_stop(p->follow);
    p->follow = NULL;
    p->ready = true; /* no more will be known */
    log_warn("the workers of the fleet are not known: %s", err->text);
    if (p->changed)
        p->changed(p->arg);
}

struct presence *presence_start(const struct world *world, void (*changed)(void *), void *arg, struct error *err)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct presence *p = xcalloc(1, sizeof(*p));
    p->loop = world->loop;
    p->changed = changed;
    p->arg = arg;
    char topic[TOPIC_SIZE];
    topic_workers(topic, world->prefix);
    p->follow = bus_follow(world->bus, topic, 0, BUS_BEGIN, &follow, p, err);
    if (p->follow == NULL) {
        presence_free(p);
        return NULL;
    }
    return p;
}

void presence_free(struct presence *p)
{
    if (p == NULL)
        return;
    if (p->follow)
        bus_follow_stop(p->follow);
    while (p->count > 0)
        drop(p, &p->v[0]);
    free(p->v);
    free(p);
}

bool presence_ready(const struct presence *p)
{
    return p->ready;
}

size_t presence_count(const struct presence *p)
{
    return p->count;
}

void presence_at(const struct presence *p, size_t i, struct presence_worker *out)
{
    const struct seen *s = &p->v[i];
    int64_t since_read = (loop_now_us(p->loop) - s->read_us) / US_PER_MS;
    *out = (struct presence_worker){.name = s->name, .queue = doc_str(s->said, "queue", ""), .said = s->said, .time_ms = s->time_ms};
    /* Both clocks: the topic also holds what dead workers once said, and a clock that is ahead must not make them live. */
    out->silent_ms = i64_max(since_read, loop_wall_ms(p->loop) - s->time_ms);
    out->live = out->silent_ms < SILENT_MS;
    out->alone_ms = i64_max(loop_wall_ms(p->loop) - s->alone_ms, 0);
    out->alone = out->alone_ms < ALONE_MS ? s->alone : NULL;
}

static bool offers(const doc *said, const char *handler)
{
    const doc *list = doc_get(said, "handlers");
    for (size_t i = 0; i < doc_len(list); i++)
        if (strcmp(doc_str(doc_at(list, i), NULL, doc_str(doc_at(list, i), "name", "")), handler) == 0)
            return true;
    return false;
}

int presence_live(const struct presence *p, const char *queue, const char *handler, int *offering)
{
    int live = 0;
    *offering = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct presence_worker w;
        presence_at(p, i, &w);
        if (!w.live || strcmp(w.queue, queue) != 0)
            continue;
        live++;
        *offering += offers(w.said, handler);
    }
    return live;
}

const char *presence_waits_for(const struct presence *p, const char *queue, const char *handler, char *out, size_t size)
{
    int offering = 0;
    out[0] = '\0';
    if (!presence_ready(p))
        return out;
    int live = presence_live(p, queue, handler, &offering);
    if (offering == 0)
        snprintf(out, size, "a worker of queue %s that offers handler %s (%d live, none does)", queue, handler, live);
    return out;
}

bool presence_busy(const struct presence *p, const char *queue)
{
    if (!presence_ready(p))
        return true;
    for (size_t i = 0; i < presence_count(p); i++) {
        struct presence_worker w;
        presence_at(p, i, &w);
        if (w.live && strcmp(w.queue, queue) == 0 && doc_int(w.said, "unfinished", 0) > 0)
            return true;
    }
    return false;
}
