#include "worker/manifests.h"

#include "worker/dead.h"
#include "worker/dispatch.h"
#include "worker/intake.h"
#include "worker/load.h"
#include "worker/post.h"

/* Together with a load's ranges (load.c) these always fit into LIMIT_MANIFEST: 4,000 ranges of 12 bytes, 100 failures of less than 700. */
#define FAILURES_MAX 100
#define KEY_MAX 128

TAILQ_HEAD(out_list, out);
struct out { /* a manifest on its way */
    struct manifests *owner;
    TAILQ_ENTRY(out) link;
    struct item_list items;
    int64_t failed;
    struct post *post;
};

struct manifests {
    struct run *run;
    struct worker *w;
    struct ranges empty;
    struct item_list empties, failed; /* wait for a manifest */
    int64_t empty_count, failed_count;
    struct item_list dying;           /* their entries in `dead` are on their way; in order of their deadlines */
    struct timer *flush, *deadline;
    struct out_list outs;
};

static void send_waiting(void *arg);
static void on_deadline(void *arg);

struct manifests *manifests_new(struct run *run)
{
    struct manifests *m = xcalloc(1, sizeof(*m));
    m->run = run;
    m->w = run->worker;
    TAILQ_INIT(&m->empties);
    TAILQ_INIT(&m->failed);
    TAILQ_INIT(&m->dying);
    TAILQ_INIT(&m->outs);
    m->flush = timer_new(m->w->w.loop, send_waiting, m);
    m->deadline = timer_new(m->w->w.loop, on_deadline, m);
    return m;
}

static void empty_list(struct item_list *list)
{
    struct item *item;
    while ((item = TAILQ_FIRST(list)) != NULL)
        item_enlist(item, NULL);
}

static void out_free(struct out *o)
{
    TAILQ_REMOVE(&o->owner->outs, o, link);
    empty_list(&o->items);
    free(o);
}

void manifests_free(struct manifests *m)
{
    if (m == NULL)
        return;
    struct out *o;
    while ((o = TAILQ_FIRST(&m->outs)) != NULL) {
        post_forget(o->post);
        out_free(o);
    }
    empty_list(&m->empties);
    empty_list(&m->failed);
    empty_list(&m->dying);
    ranges_free(&m->empty);
    timer_free(m->flush);
    timer_free(m->deadline);
    free(m);
}

bool manifests_none(const struct manifests *m)
{
    return TAILQ_EMPTY(&m->outs) && TAILQ_EMPTY(&m->dying) && m->empty_count == 0 && m->failed_count == 0;
}

/* --- sending -------------------------------------------------------------------------------------------------------------------------------------- */

static void acknowledged(void *arg, const struct error *err)
{
    struct out *o = arg;
    struct manifests *m = o->owner;
    struct worker *w = m->w;
    o->post = NULL;
    if (err != NULL) {
        struct error copy = *err;
        error_prefix(&copy, "a manifest of run %s cannot be written to %s", m->run->id, w->results);
        out_free(o);
        worker_fail(w, &copy);
        return;
    }
    int64_t items = 0;
    struct item *item;
    while ((item = TAILQ_FIRST(&o->items)) != NULL) {
        item_finish(item);
        items++;
    }
    metric_add(w->w.metrics, METRIC_MANIFESTS, 1);
    metric_add(w->w.metrics, METRIC_ITEMS_DONE, items);
    metric_add(w->w.metrics, METRIC_ITEMS_FAILED, o->failed);
    out_free(o);
    intake_room(w->intake);
    dispatch_kick(w->dispatch); /* what waits may go now */
    worker_moved(w);
}

/* At most max - 1 bytes of well-formed text. */
static char *cut(const char *text, size_t max)
{
    size_t n = strlen(text);
    if (n >= max) {
        n = max - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    return xstrndup(text, n);
}

static struct item_failure *failures_of(struct manifests *m)
{
    struct item_failure *v = xcalloc((size_t)m->failed_count + 1, sizeof(*v));
    struct item *item;
    size_t i = 0;
    TAILQ_FOREACH(item, &m->failed, link)
        v[i++] = (struct item_failure){.item = item->index, .attempts = item->attempts, .key = cut(item_key(item), KEY_MAX), .reason = item->reason,
                                       .text = cut(item->text ? item->text : "", LIMIT_FAILURE_TEXT)};
    return v;
}

static void move_all(struct item_list *from, struct item_list *to)
{
    struct item *item;
    while ((item = TAILQ_FIRST(from)) != NULL)
        item_enlist(item, to);
}

/* Everything that waits goes along with the load's items, if there is a load. */
static void publish(struct manifests *m, struct manifest *body)
{
    struct worker *w = m->w;
    struct out *o = xcalloc(1, sizeof(*o));
    o->owner = m;
    TAILQ_INIT(&o->items);
    TAILQ_INSERT_TAIL(&m->outs, o, link);
    ranges_sort(&m->empty);
    body->empty = m->empty.v;
    body->empty_count = m->empty.count;
    body->failures = failures_of(m);
    body->failure_count = (size_t)m->failed_count;
    body->succeeded = m->run->succeeded;
    m->run->succeeded = 0;
    struct log_msg msg = {.type = LOGM_MANIFEST, .manifest = *body, .by = w->name};
    struct buf bytes = BUF_INIT(LIMIT_MANIFEST);
    if (logmsg_encode(&msg, &bytes) != 0)
        abort(); /* what may go into one is bounded above */
    for (size_t i = 0; i < body->failure_count; i++) {
        free((char *)(uintptr_t)body->failures[i].key);
        free((char *)(uintptr_t)body->failures[i].text);
    }
    free(body->failures);
    o->failed = m->failed_count;
    move_all(&m->empties, &o->items);
    move_all(&m->failed, &o->items);
    m->empty_count = m->failed_count = 0;
    m->empty.count = 0;
    timer_stop(m->flush);
    struct bus_out out = {.topic = w->results, .partition = m->run->record->log_partition, .key = m->run->id, .key_len = strlen(m->run->id),
                          .value = bytes.data, .value_len = bytes.len};
    o->post = post_send(w->posts, &out, false, acknowledged, o);
    buf_free(&bytes);
}

static void send_waiting(void *arg)
{
    struct manifests *m = arg;
    if (m->empty_count == 0 && m->failed_count == 0)
        return;
    struct manifest body = {.incarnation = "", .load = ""};
    publish(m, &body);
}

static void waits(struct manifests *m)
{
    if (m->empty_count >= LIMIT_MANIFEST_ITEMS || m->failed_count >= FAILURES_MAX)
        send_waiting(m);
    else if (!timer_is_set(m->flush))
        timer_set(m->flush, WAIT_MANIFEST * US_PER_MS);
}

void manifests_load(const struct load *l)
{
    struct manifests *m = l->run->manifests;
    struct manifest body = {.incarnation = m->w->incarnation, .load = l->id, .rows = l->rows, .ranges = l->ranges.v, .range_count = l->ranges.count,
                            .has_range = l->range.any, .range_null = l->range.null, .range_lo = l->range.lo, .range_hi = l->range.hi};
    publish(m, &body);
    l->run->loads_told++;
    struct out *o = TAILQ_LAST(&m->outs, out_list);
    struct item *item;
    while ((item = TAILQ_FIRST(&l->items)) != NULL) {
        item_move(item, ITEM_SETTLED);
        item_enlist(item, &o->items);
    }
}

void manifests_idle(struct run *run)
{
    struct manifests *m = run->manifests;
    if (m != NULL && TAILQ_EMPTY(&m->outs) && TAILQ_EMPTY(&m->dying))
        send_waiting(m);
}

/* --- items without a load -------------------------------------------------------------------------------------------------------------------------- */

void manifests_empty(struct item *item)
{
    struct manifests *m = item->run->manifests;
    item_move(item, ITEM_SETTLED);
    item_enlist(item, &m->empties);
    ranges_add(&m->empty, item->index);
    m->empty_count++;
    waits(m);
}

static void settle_failed(struct item *item)
{
    struct manifests *m = item->run->manifests;
    item->dead = NULL;
    item_move(item, ITEM_SETTLED);
    item_enlist(item, &m->failed);
    m->failed_count++;
    waits(m);
    dispatch_kick(m->w->dispatch);
}

static void dead_sent(void *arg, const struct error *err)
{
    struct item *item = arg;
    struct log_ctx ctx = item_ctx(item);
    if (err != NULL)
        log_line(LOG_WARN, &ctx, "the failed item's entry in %s could not be written: %s", item->worker->dead, err->text);
    settle_failed(item);
}

static void on_deadline(void *arg)
{
    struct manifests *m = arg;
    struct item *item;
    int64_t now = loop_now_us(m->w->w.loop);
    while ((item = TAILQ_FIRST(&m->dying)) != NULL && item->dead_until_us <= now) {
        post_forget(item->dead);
        struct log_ctx ctx = item_ctx(item);
        log_line(LOG_WARN, &ctx, "the failed item's entry in %s is not waited for any longer", m->w->dead);
        settle_failed(item);
    }
    if (item != NULL)
        timer_set(m->deadline, item->dead_until_us - now);
}

/* A manifest needs no more of it. */
static void shorten_text(struct item *item)
{
    char *text = cut(item->text, LIMIT_FAILURE_TEXT);
    free(item->text);
    item->text = text;
    item->text_len = strlen(text);
}

void manifests_fail(struct item *item)
{
    struct manifests *m = item->run->manifests;
    struct log_ctx ctx = item_ctx(item);
    ctx.attempt = (int)item->attempts;
    log_line(LOG_WARN, &ctx, "the item has failed (%s): %.400s", item->reason, item->text);
    item_move(item, ITEM_FAILING);
    item_enlist(item, &m->dying);
    item->dead_until_us = loop_now_us(m->w->w.loop) + WAIT_DEAD * US_PER_MS;
    if (!timer_is_set(m->deadline))
        timer_set(m->deadline, WAIT_DEAD * US_PER_MS);
    if (posts_bytes(m->w->posts) > LIMIT_TAKEN_BYTES) /* `dead` does not keep up: entries become shorter, and memory stays where it is */
        shorten_text(item);
    item->dead = dead_send(item, dead_sent, item);
    shorten_text(item);
}
