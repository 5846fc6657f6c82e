#include "worker/beacon.h"

#include "worker/post.h"
#include "worker/quarantine.h"
#include "worker/share.h"

#define SOON_MS 1000   /* between two lines */
#define LEAVE_MS 2000  /* for the tombstone's acknowledgement */

struct beacon {
    struct worker *w;
    struct timer *timer;
    struct post *post;
    int64_t last_us;
    bool said, changed, leaving;
    void (*done)(void *);
    void *arg;
};

static void on_timer(void *arg);

struct beacon *beacon_new(struct worker *w)
{
    struct beacon *p = xcalloc(1, sizeof(*p));
    p->w = w;
    p->timer = timer_new(w->w.loop, on_timer, p);
    timer_set(p->timer, 0);
    return p;
}

void beacon_free(struct beacon *p)
{
    if (p == NULL)
        return;
    post_forget(p->post);
    timer_free(p->timer);
    free(p);
}

static doc *name_of(const struct item *item, int64_t index, const char *key)
{
    doc *d = doc_object();
    doc_set_str(d, "run", item->run ? item->run->id : "");
    doc_set_int(d, "item", index);
    return doc_set_str(d, "key", key);
}

static doc *oldest(const struct worker *w, const struct worker_state *s)
{
    const struct item *first = TAILQ_FIRST(&w->items); /* whom worker_state() told of */
    if (first == NULL)
        return doc_null();
    doc *d = name_of(first, s->oldest_item, s->oldest_key);
    return doc_set_int(d, "age_ms", s->oldest_age_ms);
}

static char *line(const struct worker *w)
{
    struct worker_state s;
    worker_state(w, &s);
    doc *d = doc_object(), *handlers = doc_array();
    for (size_t i = 0; i < w->o.handlers->count; i++)
        doc_add(handlers, doc_string(w->o.handlers->v[i].name));
    doc_set_str(d, "worker", w->name);
    doc_set_str(d, "queue", w->queue);
    doc_set_str(d, "incarnation", w->incarnation);
    doc_set(d, "handlers", handlers);
    doc_set_int(d, "in_flight", s.in_flight);
    doc_set_int(d, "waiting", s.waiting);
    doc_set_int(d, "unfinished", s.unfinished);
    doc_set(d, "oldest", oldest(w, &s));
    doc_set_int(d, "buffered", s.buffered);
    doc_set_int(d, "loads", s.loads_running);
    doc_set_str(d, "waits_for", s.waits_for);
    const struct item *alone = quarantine_runs(w->quarantine);
    if (alone != NULL)
        doc_set(d, "alone", name_of(alone, alone->index, item_key(alone)));
    doc_set_bool(d, "draining", worker_draining(w));
    doc *capped = shares_line(w->shares);
    if (capped != NULL)
        doc_set(d, "capped", capped);
    doc_set_int(d, "parallel", w->o.parallel);
    doc_set_int(d, "started_ms", w->started_ms);
    doc_set_int(d, "time_ms", loop_wall_ms(w->w.loop));
    doc_set_str(d, "version", BQF_VERSION);
    char *text = doc_text(d);
    doc_free(d);
    return text;
}

static void finish(struct beacon *p)
{
    timer_stop(p->timer);
    p->done(p->arg);
}

static void sent(void *arg, const struct error *err)
{
    struct beacon *p = arg;
    p->post = NULL;
    if (err != NULL && !p->said)
        log_warn("this worker cannot show itself in %s: %s", p->w->workers, err->text);
    p->said = p->said || err != NULL; /* once is enough: it is for people only */
    if (p->leaving)
        finish(p);
}

static void send(struct beacon *p)
{
    if (p->post != NULL)
        return;
    char *text = p->leaving ? NULL : line(p->w);
    struct bus_out out = {.topic = p->w->workers, .partition = -1, .key = p->w->name, .key_len = strlen(p->w->name), .value = text,
                          .value_len = text ? strlen(text) : 0};
    p->post = post_send(p->w->posts, &out, true, sent, p);
    free(text);
    p->last_us = loop_now_us(p->w->w.loop);
    p->changed = false;
}

static void on_timer(void *arg)
{
    struct beacon *p = arg;
    if (p->leaving) {
        post_forget(p->post);
        p->post = NULL;
        finish(p);
        return;
    }
    send(p);
    timer_set(p->timer, WAIT_PRESENCE_EVERY * US_PER_MS);
}

void beacon_changed(struct beacon *p)
{
    if (p->leaving || p->changed)
        return;
    p->changed = true;
    int64_t since = loop_now_us(p->w->w.loop) - p->last_us;
    timer_set(p->timer, i64_max(SOON_MS * US_PER_MS - since, 0));
}

void beacon_now(struct beacon *p)
{
    if (p->leaving)
        return;
    post_forget(p->post); /* of an older line nobody needs to know how it went */
    p->post = NULL;
    send(p);
}

void beacon_leave(struct beacon *p, void (*done)(void *), void *arg)
{
    p->leaving = true;
    p->done = done;
    p->arg = arg;
    post_forget(p->post);
    p->post = NULL;
    timer_set(p->timer, LEAVE_MS * US_PER_MS);
    send(p);
}
