#include "common/bus/bus_kafka_group.h"

#include "common/base/log.h"

/* A member of a group: one client of its own, joining, messages, pausing, leaving. */

#define MESSAGES_A_WAKE 1000
#define BATCH_BYTES (256 * 1024)
#define POLL_EVERY_US US_PER_S /* polled even when nothing comes: a member that is paused must not pass for a stuck one */
#define MEMBER_POLL_MS 100
#define HEARTBEAT_MS 1000     /* a rebalance is noticed with the next one */

/* --- what it holds --------------------------------------------------------------------------------------------------------------------- */

bool kafka_group_holds(const struct kafka_group *g, int32_t partition)
{
    return partition >= 0 && partition < g->slot_count && g->slots[partition].held;
}

void kafka_group_pause(struct bus_group *base)
{
    kafka_group_of(base)->paused = true;
}

void kafka_group_resume(struct bus_group *base)
{
    struct kafka_group *g = kafka_group_of(base);
    g->paused = false;
    kafka_handle_soon(&g->handle);
}

/* --- what comes -------------------------------------------------------------------------------------------------------------------------- */

void kafka_group_fail(struct kafka_group *g, const struct error *err)
{
    if (g->failed || g->leaving)
        return;
    kafka_offer_drop(g);
    kafka_group_give_up(g, true);
    g->failed = true;
    timer_stop(g->grace);
    if (g->events.failed != NULL)
        g->events.failed(g->arg, err);
}

static void group_fatal(struct kafka_handle *h, rd_kafka_resp_err_t code, const char *reason)
{
    struct kafka_group *g = (struct kafka_group *)h;
    struct error err = ERROR_INIT;
    (void)kafka_error(&err, code, "group %s: %s", g->name, reason);
    err.kind = ERR_FATAL;
    kafka_group_fail(g, &err);
}

static void on_described(void *arg, const struct bus_topic *topic, const struct error *err)
{
    struct kafka_group *g = arg;
    g->asking = false;
    if (err != NULL)
        timer_set(g->grace, KAFKA_GRACE_MS * US_PER_MS);
    else if (topic->partitions == 0) {
        struct error why = ERROR_INIT;
        (void)bus_error_topic(&why, g->topic);
        kafka_group_fail(g, &why);
    }
}

static void on_grace(void *arg)
{
    struct kafka_group *g = arg;
    g->asking = true;
    kafka_topic_describe(g->base.bus, g->topic, on_described, g);
}

static void on_member_error(struct kafka_group *g, const rd_kafka_message_t *m)
{
    struct error err = ERROR_INIT;
    char why[512] = "";
    (void)kafka_error(&err, m->err, "group %s, topic %s", g->name, g->topic);
    if (m->err == RD_KAFKA_RESP_ERR__FATAL) { /* a consumer's comes as a message */
        rd_kafka_resp_err_t code = rd_kafka_fatal_error(g->handle.rk, why, sizeof(why));
        group_fatal(&g->handle, code, why);
    } else if (m->err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED)
        log_warn("group %s: this process did not look for messages for so long that its partitions went to others", g->name);
    else if (kafka_is_unknown(m->err)) {
        if (!timer_is_set(g->grace) && !g->asking)
            timer_set(g->grace, KAFKA_GRACE_MS * US_PER_MS);
    } else if (err.kind == ERR_FATAL)
        kafka_group_fail(g, &err);
    else
        log_debug("%s", err.text);
}

static void on_message(struct kafka_group *g, const rd_kafka_message_t *m)
{
    if (!kafka_group_holds(g, m->partition) || m->offset < g->slots[m->partition].next)
        return; /* given up, or seen before a connection broke */
    g->slots[m->partition].next = m->offset + 1;
    kafka_nudge_look(g);
    struct bus_msg msg = {
        .topic = g->topic, .partition = m->partition, .offset = m->offset, .time_ms = rd_kafka_message_timestamp(m, NULL),
        .key = m->key, .key_len = m->key_len, .value = m->payload, .value_len = m->len,
    };
    g->events.message(g->arg, &msg);
}

static bool on_polled(struct kafka_group *g, rd_kafka_message_t *m)
{
    if (m == NULL)
        return false;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        on_member_error(g, m);
    else if (!g->leaving && !g->failed)
        on_message(g, m);
    rd_kafka_message_destroy(m);
    return true;
}

/*
 * What librdkafka 2.0.2 gets wrong about batches (offsets skipped after a pause or a resume) does not concern us: we pause by leaving messages where
 * they are. They are taken and told by the same thread that gives partitions up, which drops the rest of a batch.
 */
static bool take_batch(struct kafka_group *g)
{
    struct kafka_batch *b = &g->batch;
    /* What is taken no longer counts as prefetched: of large messages only a few. */
    size_t most = (size_t)i64_max(1, i64_min(KAFKA_BATCH, BATCH_BYTES / (b->average + 1)));
    b->at = 0;
    b->end = rd_kafka_consume_batch_queue(g->messages, 0, b->v, most);
    if (b->end <= 0) {
        b->end = 0;
        return false;
    }
    int64_t bytes = 0;
    for (ssize_t i = 0; i < b->end; i++)
        bytes += (int64_t)b->v[i]->len;
    b->average = bytes / b->end;
    return true;
}

static rd_kafka_message_t *next_message(struct kafka_group *g)
{
    struct kafka_batch *b = &g->batch;
    return b->at < b->end || take_batch(g) ? b->v[b->at++] : NULL;
}

void kafka_batch_drop(struct kafka_group *g)
{
    struct kafka_batch *b = &g->batch;
    while (b->at < b->end)
        rd_kafka_message_destroy(b->v[b->at++]);
}

/*
 * Rebalances, answers to commits and errors first, then messages: one at a time, as each may pause. Pausing in librdkafka itself would throw
 * away what was fetched, and resuming would wait for the fetch that is under way: up to half a second each time.
 */
static bool group_drain(struct kafka_handle *h)
{
    struct kafka_group *g = (struct kafka_group *)h;
    while (on_polled(g, rd_kafka_consumer_poll(h->rk, 0)))
        continue;
    for (int n = 0; n < MESSAGES_A_WAKE; n++)
        if (g->paused || !on_polled(g, next_message(g)))
            return false;
    return true;
}

/* --- joining ------------------------------------------------------------------------------------------------------------------------------ */

void kafka_group_conf(rd_kafka_conf_t *conf)
{
    rd_kafka_conf_set_rebalance_cb(conf, kafka_on_rebalance);
}

static void group_free(struct kafka_group *g)
{
    kafka_offer_drop(g);
    kafka_commits_end(g, NULL);
    if (g->last != NULL)
        rd_kafka_topic_partition_list_destroy(g->last);
    timer_free(g->retry);
    timer_free(g->grace);
    timer_free(g->leave_timer);
    free(g->slots);
    free(g->name);
    free(g->topic);
    free(g);
}

static int group_open(struct kafka_group *g, struct bus_kafka *k, const struct bus_group_config *config, struct error *err)
{
    char session[32], heartbeat[32];
    int64_t session_ms = config->session_ms ? config->session_ms : BUS_SESSION_MS;
    snprintf(session, sizeof(session), "%" PRId64, session_ms);
    snprintf(heartbeat, sizeof(heartbeat), "%" PRId64, i64_max(1, i64_min(HEARTBEAT_MS, session_ms / 3)));
    const struct kafka_pair more[] = {
        {"group.id", config->group}, {"session.timeout.ms", session}, {"heartbeat.interval.ms", heartbeat},
        {config->member ? "group.instance.id" : NULL, config->member}, {NULL, NULL},
    };
    if (kafka_handle_open(&g->handle, k, KAFKA_MEMBER, more, err) < 0)
        return -1;
    rd_kafka_poll_set_consumer(g->handle.rk);
    kafka_handle_watch(&g->handle, rd_kafka_queue_get_consumer(g->handle.rk), POLL_EVERY_US);
    g->messages = rd_kafka_queue_new(g->handle.rk);
    kafka_handle_signal(&g->handle, g->messages);
    kafka_nudge_init(g);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, config->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(g->handle.rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    kafka_handle_unwatch(&g->handle);
    rd_kafka_queue_destroy(g->messages);
    kafka_handle_destroy(&g->handle);
    return kafka_error(err, code, "group %s cannot be joined", config->group);
}

static void leave_step(void *arg);

struct bus_group *kafka_join(struct bus *b, const struct bus_group_config *config, const struct bus_group_events *events, void *arg,
                             struct error *err)
{
    struct bus_kafka *k = bus_kafka_of(b);
    struct kafka_group *g = xcalloc(1, sizeof(*g));
    g->handle.drain = group_drain;
    g->handle.fatal = group_fatal;
    g->base.bus = b;
    g->events = *events;
    g->arg = arg;
    g->name = xstrdup(config->group);
    g->topic = xstrdup(config->topic);
    g->is_static = config->member != NULL;
    g->retry = timer_new(k->loop, kafka_offer_retry, g);
    g->grace = timer_new(k->loop, on_grace, g);
    g->leave_timer = timer_new(k->loop, leave_step, g);
    LIST_INIT(&g->commits);
    if (group_open(g, k, config, err) < 0) {
        group_free(g);
        return NULL;
    }
    LIST_INSERT_HEAD(&k->groups, g, link);
    return &g->base;
}

/* --- leaving: give up, wait for the last commits, close in the helper ------------------------------------------------------------------ */

struct close_job { struct kafka_job job; struct kafka_group *group; };

/* librdkafka never says goodbye for a static member that closes, but it does for one that unsubscribes; done when its id is gone. */
static void say_goodbye(rd_kafka_t *rk)
{
    (void)rd_kafka_unsubscribe(rk);
    for (int waited_ms = 0; waited_ms < KAFKA_CLOSE_MS; waited_ms += MEMBER_POLL_MS) {
        char *id = rd_kafka_memberid(rk);
        bool gone = id == NULL || id[0] == '\0';
        if (id != NULL)
            rd_kafka_mem_free(rk, id);
        if (gone)
            return;
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, MEMBER_POLL_MS);
        if (m != NULL)
            rd_kafka_message_destroy(m);
    }
}

static void close_member(struct kafka_group *g)
{
    rd_kafka_t *rk = g->handle.rk;
    if (g->is_static && g->for_good && !g->failed)
        say_goodbye(rk);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(rk, queue);
    for (int waited_ms = 0; error == NULL && !rd_kafka_consumer_closed(rk) && waited_ms < KAFKA_CLOSE_MS; waited_ms += MEMBER_POLL_MS)
        rd_kafka_queue_poll_callback(queue, MEMBER_POLL_MS);
    if (error != NULL)
        rd_kafka_error_destroy(error);
    rd_kafka_queue_destroy(queue);
    rd_kafka_queue_io_event_enable(g->messages, -1, NULL, 0);
    rd_kafka_queue_destroy(g->messages);
    kafka_handle_destroy(&g->handle);
}

static void run_close(struct kafka_job *job)
{
    close_member(((struct close_job *)job)->group);
}

static void drop_close(struct kafka_job *job)
{
    group_free(((struct close_job *)job)->group);
    free(job);
}

static void done_close(struct kafka_job *job)
{
    struct kafka_group *g = ((struct close_job *)job)->group;
    void (*left)(void *) = g->left;
    void *arg = g->left_arg;
    drop_close(job);
    if (left != NULL)
        left(arg);
}

static void leave_close(struct kafka_group *g)
{
    struct error err = ERROR_INIT;
    error_set(&err, ERR_RETRY, 0, "group %s was left before the broker had answered a commit", g->name);
    kafka_commits_end(g, &err);
    if (g->offer != NULL) /* librdkafka waits for an answer to it before it lets the member go */
        (void)rd_kafka_assign(g->handle.rk, NULL);
    kafka_offer_drop(g);
    timer_stop(g->grace);
    kafka_asks_cancel(g->handle.kafka, g);
    kafka_handle_unwatch(&g->handle);
    kafka_batch_drop(g);
    g->closing = true;
    LIST_REMOVE(g, link);
    struct close_job *job = xcalloc(1, sizeof(*job));
    *job = (struct close_job){.job = {.run = run_close, .done = done_close, .drop = drop_close, .always = true}, .group = g};
    kafka_helper_give(g->handle.kafka, &job->job, false);
}

static void leave_step(void *arg)
{
    struct kafka_group *g = arg;
    struct bus_kafka *k = g->handle.kafka;
    if (!g->gave_up) {
        g->gave_up = true;
        kafka_group_give_up(g, false);
        kafka_commit_last(g);
        g->leave_until_us = loop_now_us(k->loop) + KAFKA_COMMIT_MS * US_PER_MS;
    }
    if (LIST_EMPTY(&g->commits) || loop_now_us(k->loop) >= g->leave_until_us)
        leave_close(g);
    else
        timer_set(g->leave_timer, US_PER_MS);
}

void kafka_group_leave(struct bus_group *base, bool for_good, void (*left)(void *), void *arg)
{
    struct kafka_group *g = kafka_group_of(base);
    assert(!g->leaving);
    g->leaving = true;
    g->for_good = for_good;
    g->left = left;
    g->left_arg = arg;
    timer_set(g->leave_timer, 0);
}

void kafka_groups_free(struct bus_kafka *k)
{
    struct kafka_group *g;
    while ((g = LIST_FIRST(&k->groups)) != NULL) {
        LIST_REMOVE(g, link);
        g->closing = true;
        kafka_commits_end(g, NULL);
        kafka_handle_unwatch(&g->handle);
        kafka_batch_drop(g);
        struct close_job *job = xcalloc(1, sizeof(*job));
        *job = (struct close_job){.job = {.run = run_close, .done = drop_close, .drop = drop_close, .always = true}, .group = g};
        kafka_helper_give(k, &job->job, false);
    }
}
