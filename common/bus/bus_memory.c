#include "common/bus/bus_memory.h"

/* The bus in memory: topics, publishing, and the turn that does everything else. */

#define ACKS_A_TURN 4096     /* bounds on one turn, so that timers and descriptors keep their share */
#define MESSAGES_A_TURN 2048
#define MESSAGES_A_READER 256
#define DEFAULT_MESSAGE 1048576 /* bytes */
#define DEFAULT_QUEUED 100000   /* publishes without an acknowledgement */

static void arm(struct bus_memory *m, int64_t due_us)
{
    if (m->in_turn || due_us >= m->armed_us)
        return;
    m->armed_us = due_us;
    timer_set(m->timer, i64_max(0, due_us - loop_now_us(m->loop)));
}

struct mem_topic *mem_topic_find(struct bus_memory *m, const char *name)
{
    if (m->recent != NULL && strcmp(m->recent->info.name, name) == 0)
        return m->recent;
    struct mem_topic *t = NULL;
    HASH_FIND_STR(m->topics, name, t);
    if (t != NULL)
        m->recent = t;
    return t;
}

/* --- operations ------------------------------------------------------------------------------------------------------------- */

struct mem_op *mem_op_new(struct bus_memory *m, void (*run)(struct bus_memory *, struct mem_op *), void *subject, void *arg)
{
    struct mem_op *op = xcalloc(1, sizeof(*op));
    op->run = run;
    op->subject = subject;
    op->arg = arg;
    op->due_us = loop_now_us(m->loop) + m->delay_us;
    TAILQ_INSERT_TAIL(&m->ops, op, link);
    arm(m, op->due_us);
    return op;
}

void mem_op_free(struct mem_op *op)
{
    free(op->name[0]);
    free(op->name[1]);
    free(op);
}

void mem_ops_cancel(struct bus_memory *m, const void *subject)
{
    struct mem_op *op = TAILQ_FIRST(&m->ops), *next;
    for (; op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        if (op->subject != subject)
            continue;
        TAILQ_REMOVE(&m->ops, op, link);
        mem_op_free(op);
    }
}

/* Only those that were there when the turn began: an answer that asks again gets its answer on another turn. */
static void run_ops(struct bus_memory *m, int64_t now_us)
{
    struct mem_op *last = TAILQ_LAST(&m->ops, mem_ops), *op;
    while (last != NULL && (op = TAILQ_FIRST(&m->ops)) != NULL && op->due_us <= now_us) {
        TAILQ_REMOVE(&m->ops, op, link);
        bool was_last = op == last;
        op->run(m, op);
        mem_op_free(op);
        if (was_last)
            break;
    }
}

/* --- publishing ----------------------------------------------------------------------------------------------------------- */

static uint64_t hash(const unsigned char *p, size_t n)
{
    uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(1099511628211);
    return h;
}

static int32_t choose_partition(struct mem_topic *t, const struct bus_out *out)
{
    uint32_t count = (uint32_t)t->info.partitions;
    if (out->partition >= 0)
        return out->partition;
    if (out->key == NULL)
        return (int32_t)(t->round++ % count);
    return (int32_t)((hash(out->key, out->key_len) >> 17) % count);
}

static struct mem_ack *ack_push(struct bus_memory *m)
{
    if (m->ack_count == m->ack_size) {
        size_t size = m->ack_size ? m->ack_size * 2 : 64;
        struct mem_ack *acks = xmalloc(size * sizeof(*acks));
        for (size_t i = 0; i < m->ack_count; i++)
            acks[i] = m->acks[(m->ack_first + i) & (m->ack_size - 1)];
        free(m->acks);
        m->acks = acks;
        m->ack_first = 0;
        m->ack_size = size;
    }
    return &m->acks[(m->ack_first + m->ack_count++) & (m->ack_size - 1)];
}

static int mem_publish(struct bus *b, const struct bus_out *out, bus_ack_cb *cb, void *arg, struct error *err)
{
    struct bus_memory *m = bus_memory_of(b);
    int64_t size = bus_out_size(out);
    if (size > m->max_message)
        return bus_error_too_large(err, out->topic, size, m->max_message);
    if ((int64_t)m->ack_count >= m->max_queued) {
        m->space.wanted = true;
        return bus_error_full(err);
    }
    struct mem_ack *ack = ack_push(m);
    *ack = (struct mem_ack){.offset = -1, .due_us = loop_now_us(m->loop) + m->delay_us, .cb = cb, .arg = arg};
    struct mem_topic *t = mem_topic_find(m, out->topic);
    int32_t partition = t ? choose_partition(t, out) : -1;
    if (t == NULL || partition >= t->info.partitions) {
        ack->error = xcalloc(1, sizeof(*ack->error));
        (void)(t ? bus_error_partition(ack->error, out->topic, partition) : bus_error_topic(ack->error, out->topic));
    } else {
        ack->part = &t->parts[partition];
        ack->offset = mem_part_append(ack->part, out, loop_wall_ms(m->loop));
    }
    arm(m, ack->due_us);
    return 0;
}

static void run_acks(struct bus_memory *m, int64_t now_us)
{
    for (int n = 0; n < ACKS_A_TURN && m->ack_count > 0 && m->acks[m->ack_first].due_us <= now_us; n++) {
        struct mem_ack ack = m->acks[m->ack_first];
        m->ack_first = (m->ack_first + 1) & (m->ack_size - 1);
        m->ack_count--;
        if (ack.part != NULL) {
            ack.part->visible = ack.offset + 1;
            struct mem_reader *r;
            TAILQ_FOREACH(r, &ack.part->readers, part_link)
                mem_reader_wake(m, r);
        }
        if (ack.cb != NULL)
            ack.cb(ack.arg, ack.part ? ack.part->index : -1, ack.offset, ack.error);
        free(ack.error);
    }
    if (m->space.wanted && (int64_t)m->ack_count <= m->max_queued / 2)
        bus_space_tell(&m->space);
}

static void mem_on_space(struct bus *b, void (*fn)(void *), void *arg)
{
    bus_space_set(&bus_memory_of(b)->space, fn, arg);
}

static int64_t mem_unacked(struct bus *b)
{
    return (int64_t)bus_memory_of(b)->ack_count;
}

/* --- delivering -------------------------------------------------------------------------------------------------------------- */

void mem_reader_attach(struct mem_reader *r, struct mem_part *p, int64_t next)
{
    r->part = p;
    r->cursor = (struct mem_cursor){.next = next};
    TAILQ_INSERT_TAIL(&p->readers, r, part_link);
}

void mem_reader_detach(struct bus_memory *m, struct mem_reader *r)
{
    if (r->part == NULL)
        return;
    TAILQ_REMOVE(&r->part->readers, r, part_link);
    if (r->queued)
        TAILQ_REMOVE(&m->ready, r, ready_link);
    if (m->current == r)
        m->current_gone = true;
    r->queued = false;
    r->part = NULL;
}

static bool reader_has_work(const struct mem_reader *r)
{
    return !*r->halt && (r->cursor.next < r->part->visible || (r->at_end != NULL && !r->end_told));
}

void mem_reader_wake(struct bus_memory *m, struct mem_reader *r)
{
    if (r->queued || r == m->current || !reader_has_work(r))
        return;
    r->queued = true;
    TAILQ_INSERT_TAIL(&m->ready, r, ready_link);
    arm(m, 0);
}

/* How many messages it was given. It may have been freed by one of them: then m->current_gone, and r must not be touched. */
static int deliver(struct bus_memory *m, struct mem_reader *r)
{
    int n = 0;
    struct bus_msg msg;
    while (n < MESSAGES_A_READER && r->cursor.next < r->part->visible && !*r->halt) {
        mem_part_read(r->part, &r->cursor, &msg);
        r->end_told = false;
        n++;
        r->message(r->arg, &msg);
        if (m->current_gone)
            return n;
    }
    if (r->at_end != NULL && !r->end_told && !*r->halt && r->cursor.next >= r->part->visible) {
        r->end_told = true;
        r->at_end(r->arg, r->cursor.next);
    }
    return n;
}

static void run_deliveries(struct bus_memory *m)
{
    struct mem_reader *r;
    for (int n = 0; n < MESSAGES_A_TURN && (r = TAILQ_FIRST(&m->ready)) != NULL;) {
        TAILQ_REMOVE(&m->ready, r, ready_link);
        r->queued = false;
        m->current = r;
        m->current_gone = false;
        n += 1 + deliver(m, r);
        m->current = NULL;
        if (!m->current_gone)
            mem_reader_wake(m, r);
    }
}

/* --- freeing what nobody needs -------------------------------------------------------------------------------------------------- */

void mem_part_dirty(struct bus_memory *m, struct mem_part *p)
{
    if (p->dirty)
        return;
    p->dirty = true;
    TAILQ_INSERT_TAIL(&m->dirty, p, dirty_link);
    arm(m, 0);
}

static void trim(struct bus_memory *m, struct mem_part *p)
{
    const struct bus_topic *info = &p->topic->info;
    if (info->compact || info->retention_ms == -1)
        return;
    int64_t low = i64_min(mem_groups_low(m, p), p->visible);
    struct mem_reader *r;
    TAILQ_FOREACH(r, &p->readers, part_link)
        low = i64_min(low, r->cursor.next);
    mem_part_trim(p, low);
}

static void run_trims(struct bus_memory *m)
{
    struct mem_part *p;
    while ((p = TAILQ_FIRST(&m->dirty)) != NULL) {
        TAILQ_REMOVE(&m->dirty, p, dirty_link);
        p->dirty = false;
        trim(m, p);
    }
}

/* --- the turn, making and freeing ------------------------------------------------------------------------------------------------- */

static void turn(void *arg)
{
    struct bus_memory *m = arg;
    int64_t now_us = loop_now_us(m->loop);
    m->armed_us = INT64_MAX;
    m->in_turn = true;
    run_ops(m, now_us);
    run_acks(m, now_us);
    run_deliveries(m);
    run_trims(m);
    m->in_turn = false;
    if (!TAILQ_EMPTY(&m->ready))
        arm(m, 0);
    if (!TAILQ_EMPTY(&m->ops))
        arm(m, TAILQ_FIRST(&m->ops)->due_us);
    if (m->ack_count > 0)
        arm(m, m->acks[m->ack_first].due_us);
}

static const char *mem_describe(struct bus *b)
{
    (void)b;
    return "memory";
}

static void topics_free(struct bus_memory *m)
{
    struct mem_topic *t, *next;
    HASH_ITER(hh, m->topics, t, next) {
        HASH_DEL(m->topics, t);
        for (int32_t p = 0; p < t->info.partitions; p++)
            mem_part_fini(&t->parts[p]);
        free(t->parts);
        free((char *)(uintptr_t)t->info.name);
        free(t);
    }
}

static void mem_free(struct bus *b)
{
    struct bus_memory *m = bus_memory_of(b);
    assert(!m->in_turn);
    mem_groups_free(m);
    mem_follows_free(m);
    struct mem_op *op;
    while ((op = TAILQ_FIRST(&m->ops)) != NULL) {
        TAILQ_REMOVE(&m->ops, op, link);
        mem_op_free(op);
    }
    for (size_t i = 0; i < m->ack_count; i++)
        free(m->acks[(m->ack_first + i) & (m->ack_size - 1)].error);
    free(m->acks);
    bus_space_free(&m->space);
    topics_free(m);
    timer_free(m->timer);
    free(m);
}

static const struct bus_ops memory_ops = {
    .publish = mem_publish, .on_space = mem_on_space, .unacked = mem_unacked,
    .join = mem_join, .group_pause = mem_group_pause, .group_resume = mem_group_resume,
    .group_commit = mem_group_commit, .group_leave = mem_group_leave,
    .follow = mem_follow, .follow_stop = mem_follow_stop,
    .watermarks = mem_watermarks, .offset_at = mem_offset_at, .committed = mem_committed,
    .topic_describe = mem_topic_describe, .topic_create = mem_topic_create,
    .ping = mem_ping, .describe = mem_describe, .free = mem_free,
};

struct bus *bus_memory(struct loop *loop, const struct bus_memory_options *options)
{
    struct bus_memory *m = xcalloc(1, sizeof(*m));
    m->bus.ops = &memory_ops;
    m->loop = loop;
    m->max_message = options && options->max_message ? options->max_message : DEFAULT_MESSAGE;
    m->max_queued = options && options->max_queued ? options->max_queued : DEFAULT_QUEUED;
    m->delay_us = options ? options->delay_us : 0;
    m->most_partitions = options ? options->most_partitions : 0;
    m->armed_us = INT64_MAX;
    m->timer = timer_new(loop, turn, m);
    TAILQ_INIT(&m->ops);
    TAILQ_INIT(&m->ready);
    TAILQ_INIT(&m->dirty);
    LIST_INIT(&m->shares);
    LIST_INIT(&m->groups);
    LIST_INIT(&m->follows);
    return &m->bus;
}
