#include "tests/sim/sleeper_internal.h"

/* Questions to the bus, and their answers. */

struct question {
    struct sleeper *s;
    bus_marks_cb *marks;
    bus_committed_cb *committed;
    bus_topic_cb *topic;
    bus_done_cb *done;
    void *arg;
    int64_t low, high;
    int64_t *offsets; int32_t partitions;
    struct bus_topic described; char *name;
    struct error err;
    struct timer *late;
};

/* Nobody heard it, or the answer is not heard: an error, once its time is over. */
#define QUESTION_US (10 * US_PER_S)

static struct question *ask(struct bus *b, void *arg)
{
    struct question *q = xcalloc(1, sizeof(*q));
    *q = (struct question){.s = (struct sleeper *)(void *)((char *)b - offsetof(struct sleeper, bus)), .arg = arg};
    q->s->outstanding++;
    return q;
}

static void tell(void *arg)
{
    struct question *q = arg;
    const struct error *err = q->err.kind == ERR_NONE ? NULL : &q->err;
    if (!q->s->dead && q->marks)
        q->marks(q->arg, q->low, q->high, err);
    else if (!q->s->dead && q->committed)
        q->committed(q->arg, q->offsets, q->partitions, err);
    else if (!q->s->dead && q->topic)
        q->topic(q->arg, &q->described, err);
    else if (!q->s->dead)
        q->done(q->arg, err);
    timer_free(q->late);
    free(q->offsets);
    free(q->name);
    free(q);
}

static void answered(struct question *q, const struct error *err)
{
    q->s->outstanding--;
    q->err = err ? *err : ERROR_INIT;
    sleeper_happen(q->s, 0, tell, q);
}

static void on_late(void *arg)
{
    struct question *q = arg;
    struct error err;
    error_set(&err, ERR_RETRY, 0, "the broker does not answer");
    answered(q, &err);
}

static bool unheard(struct question *q)
{
    if ((q->s->cut & CUT_BUS) == 0 && ((q->s->cut & CUT_ASKS) == 0 || sleeper_chance(q->s, .4)))
        return false;
    q->late = timer_new(q->s->base, on_late, q);
    timer_set(q->late, (q->s->cut & CUT_BUS) != 0 ? QUESTION_US : (int64_t)rnd_below(q->s->rnd, 6 * QUESTION_US));
    return true;
}

static void on_marks(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct question *q = arg;
    q->low = low;
    q->high = high;
    answered(q, err);
}

static void watermarks(struct bus *b, const char *topic, int32_t partition, bus_marks_cb *cb, void *arg)
{
    struct question *q = ask(b, arg);
    q->marks = cb;
    if (!unheard(q))
        bus_watermarks(q->s->outer_bus, topic, partition, on_marks, q);
}

static void offset_at(struct bus *b, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *cb, void *arg)
{
    struct question *q = ask(b, arg);
    q->marks = cb;
    if (!unheard(q))
        bus_offset_at(q->s->outer_bus, topic, partition, time_ms, on_marks, q);
}

static void on_committed(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err)
{
    struct question *q = arg;
    q->offsets = offsets ? xmemdup(offsets, (size_t)partitions * sizeof(*offsets)) : NULL;
    q->partitions = partitions;
    answered(q, err);
}

static void committed(struct bus *b, const char *group, const char *topic, int32_t partitions, bus_committed_cb *cb, void *arg)
{
    struct question *q = ask(b, arg);
    q->committed = cb;
    if (!unheard(q))
        bus_committed(q->s->outer_bus, group, topic, partitions, on_committed, q);
}

static void on_topic(void *arg, const struct bus_topic *t, const struct error *err)
{
    struct question *q = arg;
    if (t != NULL) {
        q->described = *t;
        q->described.name = q->name = xstrdup(t->name);
    }
    answered(q, err);
}

static void topic_describe(struct bus *b, const char *name, bus_topic_cb *cb, void *arg)
{
    struct question *q = ask(b, arg);
    q->topic = cb;
    if (!unheard(q))
        bus_topic_describe(q->s->outer_bus, name, on_topic, q);
}

static void on_done(void *arg, const struct error *err)
{
    answered(arg, err);
}

static void ping(struct bus *b, int64_t wait_ms, bus_done_cb *cb, void *arg)
{
    struct question *q = ask(b, arg);
    q->done = cb;
    if (!unheard(q))
        bus_ping(q->s->outer_bus, wait_ms, on_done, q);
}

void sleeper_ask_init(struct bus_ops *ops)
{
    ops->watermarks = watermarks;
    ops->offset_at = offset_at;
    ops->committed = committed;
    ops->topic_describe = topic_describe;
    ops->ping = ping;
}
