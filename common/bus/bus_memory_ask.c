#include "common/bus/bus_memory.h"

/* Following a partition, and questions. */

struct mem_follow {
    struct bus_follow base;
    struct mem_reader reader;
    struct bus_follow_events events;
    void *arg;
    bool failed;
    LIST_ENTRY(mem_follow) link;
};

#define MEM_SEGMENT_MS (INT64_C(7) * 86400 * 1000) /* what Kafka says by default */

static void run_failed(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    struct mem_follow *f = op->subject;
    if (f->events.failed != NULL)
        f->events.failed(f->arg, &op->err);
}

static struct mem_part *part_find(struct bus_memory *m, const char *topic, int32_t partition, struct error *err)
{
    struct mem_topic *t = mem_topic_find(m, topic);
    if (t == NULL)
        (void)bus_error_topic(err, topic);
    else if (partition >= t->info.partitions)
        (void)bus_error_partition(err, topic, partition);
    else
        return &t->parts[partition];
    return NULL;
}

struct bus_follow *mem_follow(struct bus *b, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *events,
                              void *arg, struct error *err)
{
    (void)err;
    struct bus_memory *m = bus_memory_of(b);
    struct mem_follow *f = xcalloc(1, sizeof(*f));
    f->base.bus = b;
    f->events = *events;
    f->arg = arg;
    f->reader = (struct mem_reader){.halt = &f->failed, .message = events->message, .at_end = events->at_end, .arg = arg};
    LIST_INSERT_HEAD(&m->follows, f, link);
    struct error why = ERROR_INIT;
    struct mem_part *p = part_find(m, topic, partition, &why);
    int64_t next = p == NULL ? -1 : from == BUS_BEGIN ? p->low : from == BUS_END ? p->visible : from;
    if (p != NULL && (next < p->low || next > p->end)) {
        (void)bus_error_range(&why, topic, partition, from);
        p = NULL;
    }
    if (p == NULL) {
        f->failed = true;
        mem_op_new(m, run_failed, f, NULL)->err = why;
        return &f->base;
    }
    mem_reader_attach(&f->reader, p, next);
    mem_reader_wake(m, &f->reader);
    return &f->base;
}

void mem_follow_stop(struct bus_follow *base)
{
    struct mem_follow *f = (struct mem_follow *)base;
    struct bus_memory *m = bus_memory_of(base->bus);
    mem_reader_detach(m, &f->reader);
    mem_ops_cancel(m, f);
    LIST_REMOVE(f, link);
    free(f);
}

void mem_follows_free(struct bus_memory *m)
{
    struct mem_follow *f;
    while ((f = LIST_FIRST(&m->follows)) != NULL)
        mem_follow_stop(&f->base);
}

/* --- questions ------------------------------------------------------------------------------------------------------------------- */

static void run_watermarks(struct bus_memory *m, struct mem_op *op)
{
    struct error err = ERROR_INIT;
    struct mem_part *p = part_find(m, op->name[0], (int32_t)op->number[0], &err);
    op->cb.marks(op->arg, p ? p->low : -1, p ? p->visible : -1, p ? NULL : &err);
}

void mem_watermarks(struct bus *b, const char *topic, int32_t partition, bus_marks_cb *cb, void *arg)
{
    struct mem_op *op = mem_op_new(bus_memory_of(b), run_watermarks, NULL, arg);
    op->cb.marks = cb;
    op->name[0] = xstrdup(topic);
    op->number[0] = partition;
}

static void run_offset_at(struct bus_memory *m, struct mem_op *op)
{
    struct error err = ERROR_INIT;
    struct mem_part *p = part_find(m, op->name[0], (int32_t)op->number[0], &err);
    int64_t offset = p ? mem_part_at_time(p, op->number[1]) : -1;
    op->cb.marks(op->arg, p ? p->low : -1, offset, p ? NULL : &err);
}

void mem_offset_at(struct bus *b, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *cb, void *arg)
{
    struct mem_op *op = mem_op_new(bus_memory_of(b), run_offset_at, NULL, arg);
    op->cb.marks = cb;
    op->name[0] = xstrdup(topic);
    op->number[0] = partition;
    op->number[1] = time_ms;
}

static void run_committed(struct bus_memory *m, struct mem_op *op)
{
    int32_t partitions = (int32_t)op->number[0];
    AUTO(free_ptr) int64_t *offsets = xcalloc((size_t)partitions, sizeof(*offsets));
    struct mem_topic *t = mem_topic_find(m, op->name[1]);
    for (int32_t p = 0; p < partitions; p++)
        offsets[p] = t == NULL ? -1 : mem_group_committed(m, op->name[0], t, p);
    if (t == NULL)
        (void)bus_error_topic(&op->err, op->name[1]);
    op->cb.committed(op->arg, offsets, partitions, t ? NULL : &op->err);
}

void mem_committed(struct bus *b, const char *group, const char *topic, int32_t partitions, bus_committed_cb *cb, void *arg)
{
    struct mem_op *op = mem_op_new(bus_memory_of(b), run_committed, NULL, arg);
    op->cb.committed = cb;
    op->name[0] = xstrdup(group);
    op->name[1] = xstrdup(topic);
    op->number[0] = partitions;
}

static void run_describe(struct bus_memory *m, struct mem_op *op)
{
    struct mem_topic *t = mem_topic_find(m, op->name[0]);
    struct bus_topic none = {.name = op->name[0]};
    op->cb.topic(op->arg, t ? &t->info : &none, NULL);
}

void mem_topic_describe(struct bus *b, const char *name, bus_topic_cb *cb, void *arg)
{
    struct mem_op *op = mem_op_new(bus_memory_of(b), run_describe, NULL, arg);
    op->cb.topic = cb;
    op->name[0] = xstrdup(name);
}

static void topic_add(struct bus_memory *m, const struct bus_topic *wanted)
{
    struct mem_topic *t = xcalloc(1, sizeof(*t));
    t->info = *wanted;
    t->info.name = xstrdup(wanted->name);
    t->info.replication = 1;
    t->info.min_insync = 1;
    t->info.max_message = m->max_message;
    t->info.unclean_election = false;
    t->info.segment_ms = MEM_SEGMENT_MS;
    t->room = wanted->partitions > m->most_partitions ? wanted->partitions : m->most_partitions;
    t->parts = xcalloc((size_t)t->room, sizeof(*t->parts));
    for (int32_t p = 0; p < wanted->partitions; p++)
        mem_part_init(&t->parts[p], t, p);
    HASH_ADD_KEYPTR(hh, m->topics, t->info.name, strlen(t->info.name), t);
}

static void run_done(struct bus_memory *m, struct mem_op *op)
{
    (void)m;
    if (op->cb.done != NULL)
        op->cb.done(op->arg, op->flag ? &op->err : NULL);
}

void mem_topic_create(struct bus *b, const struct bus_topic *wanted, bus_done_cb *cb, void *arg)
{
    struct bus_memory *m = bus_memory_of(b);
    struct mem_op *op = mem_op_new(m, run_done, NULL, arg);
    op->cb.done = cb;
    if (mem_topic_find(m, wanted->name) != NULL) {
        op->flag = true;
        (void)bus_error_exists(&op->err, wanted->name);
        return;
    }
    topic_add(m, wanted);
}

void bus_memory_widen(struct bus *b, const char *topic, int32_t partitions)
{
    struct bus_memory *m = bus_memory_of(b);
    struct mem_topic *t = mem_topic_find(m, topic);
    assert(t != NULL && partitions <= t->room);
    for (; t->info.partitions < partitions; t->info.partitions++)
        mem_part_init(&t->parts[t->info.partitions], t, t->info.partitions);
    mem_groups_deal(m, t);
}

/* A group goes on at what is left, as Kafka's does; who follows is told that its place is gone. */
static void readers_go_on(struct bus_memory *m, struct mem_part *p)
{
    struct mem_follow *f;
    struct mem_reader *r;
    LIST_FOREACH(f, &m->follows, link) {
        if (f->reader.part != p || f->reader.cursor.next >= p->low)
            continue;
        int64_t from = f->reader.cursor.next;
        mem_reader_detach(m, &f->reader);
        f->failed = true;
        (void)bus_error_range(&mem_op_new(m, run_failed, f, NULL)->err, p->topic->info.name, p->index, from);
    }
    TAILQ_FOREACH(r, &p->readers, part_link)
        if (r->cursor.next < p->low)
            r->cursor = (struct mem_cursor){.next = p->low};
}

void bus_memory_delete(struct bus *b, const char *topic, int32_t partition, int64_t before)
{
    struct bus_memory *m = bus_memory_of(b);
    struct mem_topic *t = mem_topic_find(m, topic);
    assert(t != NULL && partition < t->info.partitions && !m->in_turn);
    struct mem_part *p = &t->parts[partition];
    p->low = i64_max(p->low, i64_min(before, p->visible));
    readers_go_on(m, p);
    mem_part_trim(p, p->low);
}

void bus_memory_skip(struct bus *b, const char *topic, int32_t partition, int64_t count)
{
    struct mem_topic *t = mem_topic_find(bus_memory_of(b), topic);
    assert(t != NULL && partition < t->info.partitions && count >= 0);
    t->parts[partition].end += count;
}

void mem_ping(struct bus *b, int64_t wait_ms, bus_done_cb *cb, void *arg)
{
    (void)wait_ms;
    mem_op_new(bus_memory_of(b), run_done, NULL, arg)->cb.done = cb;
}
