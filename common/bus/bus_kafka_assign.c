#include "common/bus/bus_kafka_group.h"

#include "common/base/log.h"

/*
 * Rebalances (eager). What is assigned is first an offer: the helper reads its committed offsets and metadata, and only with these is it
 * assigned in librdkafka; its heartbeats go on meanwhile. An offer that cannot be read is asked for again until it can be, or is
 * withdrawn: started without them, a partition would be read from the wrong place.
 */

#define RETRY_US (500 * US_PER_MS)

struct offer_job {
    struct kafka_job job;
    struct kafka_group *group; /* outlives it: closing goes through the same helper, behind it */
    rd_kafka_t *rk;
    rd_kafka_topic_partition_list_t *list;
    uint64_t number;
    rd_kafka_resp_err_t code;
};

static void run_offer(struct kafka_job *base)
{
    struct offer_job *job = (struct offer_job *)base;
    job->code = rd_kafka_committed(job->rk, job->list, KAFKA_COMMIT_MS);
    for (int i = 0; job->code == RD_KAFKA_RESP_ERR_NO_ERROR && i < job->list->cnt; i++)
        job->code = job->list->elems[i].err;
}

static void offer_free(struct kafka_job *base)
{
    rd_kafka_topic_partition_list_destroy(((struct offer_job *)base)->list);
    free(base);
}

static void slots_reserve(struct kafka_group *g, int32_t partition)
{
    if (partition < g->slot_count)
        return;
    int32_t count = partition + 1;
    g->slots = xreallocarray(g->slots, (size_t)count, sizeof(*g->slots));
    memset(g->slots + g->slot_count, 0, (size_t)(count - g->slot_count) * sizeof(*g->slots));
    g->slot_count = count;
}

/* Before the assignment: from then on messages may come. */
static void route(struct kafka_group *g, int32_t partition)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_partition(g->handle.rk, g->topic, partition);
    if (queue == NULL)
        return;
    rd_kafka_queue_forward(queue, g->messages);
    rd_kafka_queue_destroy(queue);
}

/* list carries the committed offsets, or -1001 for none. */
static void take_over(struct kafka_group *g, rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_topic_partition_list_t *start = rd_kafka_topic_partition_list_copy(list);
    for (int i = 0; i < start->cnt; i++) {
        if (start->elems[i].offset < 0)
            start->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
        route(g, start->elems[i].partition);
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(g->handle.rk, start);
    rd_kafka_topic_partition_list_destroy(start);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        log_warn("group %s: an assignment was not taken: %s", g->name, rd_kafka_err2str(code));
        return;
    }
    for (int i = 0; i < list->cnt; i++) {
        slots_reserve(g, list->elems[i].partition);
        g->slots[list->elems[i].partition] = (struct kafka_slot){.held = true, .next = i64_max(0, list->elems[i].offset)};
    }
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *t = &list->elems[i];
        AUTO(free_ptr) char *metadata = t->metadata ? xstrndup(t->metadata, t->metadata_size) : xstrdup("");
        g->events.assigned(g->arg, t->partition, i64_max(-1, t->offset), metadata);
    }
    if (list->cnt > 0)
        timer_stop(g->grace);
    if (g->events.settled != NULL)
        g->events.settled(g->arg);
    kafka_handle_soon(&g->handle);
}

static void done_offer(struct kafka_job *base)
{
    struct offer_job *job = (struct offer_job *)base;
    struct kafka_group *g = job->group;
    if (!g->closing && g->offer != NULL && job->number == g->offer_number) {
        if (job->code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            kafka_offer_drop(g);
            if (!g->leaving && !g->failed)
                take_over(g, job->list);
            else
                (void)rd_kafka_assign(g->handle.rk, NULL);
        } else {
            log_debug("group %s: committed offsets cannot be read yet: %s", g->name, rd_kafka_err2str(job->code));
            timer_set(g->retry, RETRY_US);
        }
    }
    offer_free(base);
}

void kafka_offer_drop(struct kafka_group *g)
{
    timer_stop(g->retry);
    if (g->offer != NULL)
        rd_kafka_topic_partition_list_destroy(g->offer);
    g->offer = NULL;
    g->offer_number++;
}

void kafka_offer_retry(void *arg)
{
    struct kafka_group *g = arg;
    struct offer_job *job = xcalloc(1, sizeof(*job));
    *job = (struct offer_job){.job = {.run = run_offer, .done = done_offer, .drop = offer_free}, .group = g, .rk = g->handle.rk,
                              .list = rd_kafka_topic_partition_list_copy(g->offer), .number = g->offer_number};
    kafka_helper_give(g->handle.kafka, &job->job, true);
}

void kafka_group_give_up(struct kafka_group *g, bool lost)
{
    kafka_batch_drop(g);
    g->revoking = true;
    g->revoke_lost = lost;
    for (int32_t p = 0; p < g->slot_count; p++)
        if (g->slots[p].held)
            g->events.revoked(g->arg, p, lost);
    g->revoking = false;
    for (int32_t p = 0; p < g->slot_count; p++)
        g->slots[p] = (struct kafka_slot){0};
}

static void on_assigned(struct kafka_group *g, const rd_kafka_topic_partition_list_t *list)
{
    metric_add(g->handle.kafka->metrics, METRIC_REBALANCES, 1);
    kafka_offer_drop(g);
    if (g->leaving || g->failed) {
        (void)rd_kafka_assign(g->handle.rk, NULL);
        return;
    }
    g->offer = rd_kafka_topic_partition_list_copy(list);
    if (list->cnt > 0) {
        kafka_offer_retry(g);
        return;
    }
    rd_kafka_topic_partition_list_t *none = g->offer;
    g->offer = NULL;
    take_over(g, none);
    rd_kafka_topic_partition_list_destroy(none);
}

/* Called while the member is polled, on the loop; or in the helper while it closes, when everything has been told already. */
void kafka_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_group *g = opaque;
    if (!kafka_on_loop(g->handle.kafka) || g->closing) {
        (void)rd_kafka_assign(rk, NULL);
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        on_assigned(g, list);
        return;
    }
    if (code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
        log_warn("group %s: rebalance failed: %s", g->name, rd_kafka_err2str(code));
    kafka_offer_drop(g);
    if (!g->leaving) { /* who leaves gives up by itself, and waits for its last commits without blocking */
        kafka_group_give_up(g, rd_kafka_assignment_lost(rk));
        kafka_commit_last_now(g);
    }
    (void)rd_kafka_assign(rk, NULL);
}
