#include "common/bus/bus_kafka_group.h"

/*
 * Before it knew fetch.queue.backoff.ms, librdkafka slept for up to a second after its local queue had been full, even when the queue ran
 * empty meanwhile: a consumer a little slower than the broker then got one queue a second. Any request wakes the sleeping thread of a
 * broker, so when the queue has fallen to half of its height since the last look, the helper asks the brokers of our partitions for
 * the ends of their logs and throws the answer away. A fast consumer's queue is never high, a slow one's never falls so far.
 */

#define LOOK_EVERY 64              /* messages */
#define HIGH 1000                  /* messages in the queue that are worth it */
#define NUDGE_EVERY_US 10000
#define NUDGE_MS 1000              /* longest wait for the answer */

struct nudge_job {
    struct kafka_job job;
    struct kafka_group *group;     /* outlives it: closing goes through the same helper, behind it */
    rd_kafka_t *rk;
    rd_kafka_topic_partition_list_t *list;
};

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

void kafka_nudge_look(struct kafka_group *g)
{
    struct kafka_nudge *n = &g->nudge;
    if (g->handle.kafka->fetch_backoff_known || ++n->seen % LOOK_EVERY != 0)
        return;
    size_t length = rd_kafka_queue_length(g->messages);
    n->height = size_max(n->height, length);
    int64_t now_us = loop_now_us(g->handle.kafka->loop);
    if (n->height < HIGH || length > n->height / 2 || n->running || now_us - n->last_us < NUDGE_EVERY_US)
        return;
    n->last_us = now_us;
    n->height = length;
    nudge(g);
}
