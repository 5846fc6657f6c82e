#include "coordinator/work_read.h"

#include "common/base/log.h"

struct work_read {
    struct world world;
    struct outbox *outbox;
    const struct record *record;
    const struct fold *fold;
    struct work_read_events events;
    void *arg;
    char topic[TOPIC_SIZE];
    int32_t partition;       /* being read */
    int64_t next, end;       /* in it */
    bool paused, over;
    struct bus_follow *follow;
    struct ticket *ticket;
    struct timer *timer;     /* whatever comes next, on a turn of its own */
    struct buf scratch;
};

static void stop_following(struct work_read *w)
{
    if (w->follow)
        bus_follow_stop(w->follow);
    w->follow = NULL;
}

static void next_partition(struct work_read *w)
{
    stop_following(w);
    w->partition++;
    w->next = w->end = -1;
    timer_set(w->timer, 0);
}

static void take(struct work_read *w, const struct bus_msg *m)
{
    struct envelope e;
    struct error err = ERROR_INIT;
    size_t run = strlen(w->record->run);
    if (m->value == NULL || memmem(m->value, size_min(m->value_len, 16 + run), w->record->run, run) == NULL) /* another run's, cheaply seen */
        return;
    if (envelope_decode(m->value, m->value_len, &w->scratch, &e, &err) != 0) {
        log_debug("partition %" PRId32 ", offset %" PRId64 ": %s", m->partition, m->offset, err.text);
        return;
    }
    if (e.run_len == run && memcmp(e.run, w->record->run, run) == 0)
        w->events.item(w->arg, &e);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct work_read *w = arg;
    if (m->offset >= w->end) {
        next_partition(w);
        return;
    }
    w->next = m->offset + 1;
    take(w, m);
    if (w->paused)
        stop_following(w);
    else if (w->next >= w->end)
        next_partition(w);
}

static void on_end(void *arg, int64_t next)
{
    struct work_read *w = arg;
    if (next >= w->end)
        next_partition(w);
}

static void finish(struct work_read *w, const struct error *err)
{
    struct error copy = err ? *err : ERROR_INIT;
    stop_following(w);
    w->over = true;
    w->events.done(w->arg, err ? &copy : NULL);
}

static void on_failed(void *arg, const struct error *err)
{
    struct work_read *w = arg;
    bus_follow_stop(w->follow);
    w->follow = NULL;
    if (strcmp(err->reason, "out of range") == 0) { /* it was deleted while it was read: what is left comes next */
        w->end = -1;
        timer_set(w->timer, 0);
        return;
    }
    finish(w, err);
}

static int64_t seal_end_of(const struct fold *f, int32_t partition, int64_t high)
{
    for (size_t i = 0; i < f->end_count; i++)
        if (f->ends[i].partition == partition)
            return i64_min(f->ends[i].offset, high);
    return f->items >= 0 ? 0 : high; /* sealed: the run has nothing there */
}

static void on_marks(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct work_read *w = ticket_take(arg);
    if (w == NULL)
        return;
    w->ticket = NULL;
    if (err != NULL) {
        finish(w, err);
        return;
    }
    w->end = seal_end_of(w->fold, w->partition, high);
    w->next = i64_max(w->next, i64_max(low, w->record->work_starts[w->partition]));
    timer_set(w->timer, 0);
}

static void turn(void *arg)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct work_read *w = arg;
    struct error err = ERROR_INIT;
    if (w->over || w->paused || w->follow != NULL || w->ticket != NULL)
        return;
    if (w->partition >= w->record->work_partitions) {
        finish(w, NULL);
    } else if (w->end < 0) {
        w->ticket = ticket_new(w->outbox, w);
        bus_watermarks(w->world.bus, w->topic, w->partition, on_marks, w->ticket);
    } else if (w->next >= w->end) {
        next_partition(w);
    } else {
        w->follow = bus_follow(w->world.bus, w->topic, w->partition, w->next, &follow, w, &err);
        if (w->follow == NULL)
            finish(w, &err);
    }
}

struct work_read *work_read_start(const struct world *world, struct outbox *outbox, const struct record *record, const struct fold *fold,
                                  const struct work_read_events *events, void *arg)
{
    struct work_read *w = xcalloc(1, sizeof(*w));
    *w = (struct work_read){.world = *world, .outbox = outbox, .record = record, .fold = fold, .events = *events, .arg = arg, .next = -1, .end = -1,
                            .scratch = BUF_INIT(LIMIT_PAYLOAD + 4096)};
    topic_work(w->topic, world->prefix, record->queue);
    w->timer = timer_new(world->loop, turn, w);
    timer_set(w->timer, 0);
    return w;
}

void work_read_pause(struct work_read *w)
{
    w->paused = true;
}

void work_read_resume(struct work_read *w)
{
    w->paused = false;
    if (!w->over)
        timer_set(w->timer, 0);
}

void work_read_free(struct work_read *w)
{
    if (w == NULL)
        return;
    stop_following(w);
    ticket_forget(w->ticket);
    timer_free(w->timer);
    buf_free(&w->scratch);
    free(w);
}
