#include <sys/queue.h>

#include "coordinator/redrive.h"
#include "coordinator/work_read.h"

/* The queue's topic is read by leaps: it cannot be told to wait, so reading stops when enough is here, and begins again there when half of it is gone. */
enum { HERE_ITEMS = 20000, HERE_BYTES = 8 * 1024 * 1024 };

struct waiting { STAILQ_ENTRY(waiting) link; size_t key_len, payload_len; char bytes[]; };

struct redrive_source {
    struct loop *loop;
    const struct record *record;
    const struct fold *fold;
    struct itemset *left;             /* not found yet */
    struct work_read *work;
    STAILQ_HEAD(, waiting) here;
    int64_t items, bytes;
    struct waiting *given;            /* the last one: valid until the next call */
    bool read, paused, told_wait;
    struct error failed;
    double per_s;
    int64_t begun_us, count;          /* given so far */
    struct timer *timer;
    void (*ready)(void *);
    void *arg;
};

static void wake(struct redrive_source *s)
{
    if (s->told_wait && !timer_is_set(s->timer))
        timer_set(s->timer, 0);
}

static void on_timer(void *arg)
{
    struct redrive_source *s = arg;
    s->told_wait = false;
    s->ready(s->arg);
}

static void on_item(void *arg, const struct envelope *e)
{
    struct redrive_source *s = arg;
    if (!itemset_has(s->left, e->item)) /* another's, or here for the second time */
        return;
    itemset_remove(s->left, e->item);
    struct waiting *w = xmalloc(sizeof(*w) + e->key_len + e->payload_len);
    w->key_len = e->key_len;
    w->payload_len = e->payload_len;
    if (e->key_len > 0)
        memcpy(w->bytes, e->key, e->key_len);
    if (e->payload_len > 0)
        memcpy(w->bytes + e->key_len, e->payload, e->payload_len);
    STAILQ_INSERT_TAIL(&s->here, w, link);
    s->items++;
    s->bytes += (int64_t)(e->key_len + e->payload_len);
    if (s->items >= HERE_ITEMS || s->bytes >= HERE_BYTES) {
        s->paused = true;
        work_read_pause(s->work);
    }
    wake(s);
}

static void on_read(void *arg, const struct error *err)
{
    struct redrive_source *s = arg;
    s->read = true;
    if (err != NULL)
        s->failed = *err;
    wake(s);
}

struct redrive_source *redrive_source_open(const struct world *world, struct outbox *outbox, const struct record *of, const struct fold *f,
                                           struct redrive_choice *c, double per_s, void (*ready)(void *), void *arg)
{
    static const struct work_read_events events = {.item = on_item, .done = on_read};
    struct redrive_source *s = xcalloc(1, sizeof(*s));
    *s = (struct redrive_source){.loop = world->loop, .record = of, .fold = f, .left = &c->selected, .per_s = per_s, .begun_us = -1,
                                 .ready = ready, .arg = arg};
    STAILQ_INIT(&s->here);
    s->timer = timer_new(world->loop, on_timer, s);
    s->work = work_read_start(world, outbox, of, f, &events, s);
    return s;
}

static int missing(const struct redrive_source *s, struct error *err)
{
    int64_t item = itemset_first(s->left);
    const char *key = "";
    for (size_t i = 0; i < s->fold->failure_count; i++)
        if (s->fold->failures[i].item == item)
            key = s->fold->failures[i].key;
    error_set(err, ERR_FATAL, 0, "item %" PRId64 "%s%s%s of run %s%s is no longer in the queue's topic: its message has expired. Take what `dead` has of it "
              "(bqfleet dead list %s > failed.ndjson) and run that by items.file; a held run is written without it by `finish --accept-failed`, and a redrive can "
              "leave it out by --reason, --since or --until", item, key[0] ? " (" : "", key, key[0] ? ")" : "", s->record->run,
              s->left->count > 1 ? ", like others of them," : "", s->record->run);
    error_reason(err, "expired");
    return -1;
}

/* Milliseconds until the next one may go. */
static int64_t too_early_ms(const struct redrive_source *s)
{
    if (s->per_s <= 0 || s->begun_us < 0)
        return 0;
    double due_us = (double)s->count / s->per_s * (double)US_PER_S, now_us = (double)(loop_now_us(s->loop) - s->begun_us);
    return due_us <= now_us ? 0 : (int64_t)((due_us - now_us) / (double)US_PER_MS) + 1;
}

static int later(struct redrive_source *s, int64_t in_ms)
{
    s->told_wait = true;
    if (in_ms > 0)
        timer_set(s->timer, in_ms * US_PER_MS);
    return 2;
}

int redrive_source_next(void *source, struct item *item, struct error *err)
{
    struct redrive_source *s = source;
    struct waiting *w = STAILQ_FIRST(&s->here);
    int64_t early_ms = too_early_ms(s);
    free(s->given);
    s->given = NULL;
    if (w == NULL && s->failed.kind != ERR_NONE) {
        *err = s->failed;
        return -1;
    }
    if (w == NULL && s->read)
        return s->left->count > 0 ? missing(s, err) : 0;
    if (w == NULL || early_ms > 0)
        return later(s, w != NULL ? early_ms : 0);
    STAILQ_REMOVE_HEAD(&s->here, link);
    s->items--;
    s->bytes -= (int64_t)(w->key_len + w->payload_len);
    if (s->paused && s->items <= HERE_ITEMS / 2 && s->bytes <= HERE_BYTES / 2) {
        s->paused = false;
        work_read_resume(s->work);
    }
    s->given = w;
    if (s->count++ == 0)
        s->begun_us = loop_now_us(s->loop);
    *item = (struct item){.key = w->bytes, .key_len = w->key_len, .payload = w->bytes + w->key_len, .payload_len = w->payload_len};
    return 1;
}

void redrive_source_close(struct redrive_source *s)
{
    if (s == NULL)
        return;
    work_read_free(s->work);
    struct waiting *w;
    while ((w = STAILQ_FIRST(&s->here)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->here, link);
        free(w);
    }
    free(s->given);
    timer_free(s->timer);
    free(s);
}
