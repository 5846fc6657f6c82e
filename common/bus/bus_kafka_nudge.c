#include "common/bus/bus_kafka_group.h"

/*
 * Before it knew fetch.queue.backoff.ms, librdkafka slept for up to a second after its local queue had been full, even when the queue ran
 * empty meanwhile: a consumer a little slower than the broker then got one queue a second. Any request wakes the sleeping thread of a
 * broker, so when the queue may have been full since the last look and has fallen, the helper asks the brokers of our partitions for
 * the ends of their logs and throws the answer away. A fast consumer's queue is never full; a slow one's falls by an eighth of it at a time.
 */

#define LOOK_EVERY 64              /* messages */
#define LARGE 4096                 /* bytes of messages that are each looked at */
#define NUDGE_EVERY_US 5000
#define NUDGE_MS 1000              /* longest wait for the answer */

struct nudge_job {
    struct kafka_job job;
    struct kafka_group *group;     /* outlives it: closing goes through the same helper, behind it */
    rd_kafka_t *rk;
    rd_kafka_topic_partition_list_t *list;
};

static int64_t number_of(const struct kafka_group *g, const char *property)
{
    char text[32];
    size_t size = sizeof(text);
    return rd_kafka_conf_get(rd_kafka_conf(g->handle.rk), property, text, &size) == RD_KAFKA_CONF_OK ? strtoll(text, NULL, 10) : 0;
}

/* Half of what librdkafka calls full: sizes are estimates. */
void kafka_nudge_init(struct kafka_group *g)
{
    if (g->handle.kafka->fetch_backoff_known)
        return;
    g->nudge.full_messages = i64_max(1, number_of(g, "queued.min.messages") / 2);
    g->nudge.full_bytes = number_of(g, "queued.max.messages.kbytes") * 1024 / 2;
}

static void run_nudge(struct kafka_job *base)
{
    struct nudge_job *job = (struct nudge_job *)base;
    (void)rd_kafka_offsets_for_times(job->rk, job->list, NUDGE_MS);
}

static void nudge_free(struct kafka_job *base)
{
    struct nudge_job *job = (struct nudge_job *)base;
    rd_kafka_topic_partition_list_destroy(job->list);
    free(job);
}

static void nudge_done(struct kafka_job *base)
{
    ((struct nudge_job *)base)->group->nudge.running = false;
    nudge_free(base);
}

static void nudge(struct kafka_group *g)
{
    struct nudge_job *job = xcalloc(1, sizeof(*job));
    *job = (struct nudge_job){.job = {.run = run_nudge, .done = nudge_done, .drop = nudge_free}, .group = g, .rk = g->handle.rk};
    job->list = rd_kafka_topic_partition_list_new(g->slot_count);
    for (int32_t p = 0; p < g->slot_count; p++)
        if (g->slots[p].held)
            rd_kafka_topic_partition_list_add(job->list, g->topic, p)->offset = RD_KAFKA_OFFSET_END;
    g->nudge.running = true;
    kafka_helper_give(g->handle.kafka, &job->job, false);
}

static bool has_been_full(const struct kafka_nudge *n, int64_t average)
{
    return n->height >= n->full_messages || n->height * average >= n->full_bytes;
}

void kafka_nudge_look(struct kafka_group *g)
{
    struct kafka_nudge *n = &g->nudge;
    if (n->full_messages == 0 || (--n->until_look > 0 && g->batch.average < LARGE))
        return;
    n->until_look = LOOK_EVERY;
    int64_t length = (int64_t)rd_kafka_queue_length(g->messages) + (g->batch.end - g->batch.at);
    n->height = i64_max(n->height, length);
    int64_t now_us = loop_now_us(g->handle.kafka->loop);
    if (!has_been_full(n, g->batch.average) || length > n->height - n->height / 8 || n->running || now_us - n->last_us < NUDGE_EVERY_US)
        return;
    n->last_us = now_us;
    n->height = length;
    nudge(g);
}
