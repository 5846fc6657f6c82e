#include "common/bus/bus_kafka.h"

#include "common/base/log.h"

/*
 * Following. One client serves all followed partitions by librdkafka's plain consumer, which knows no groups and so needs no rights on
 * any; all partitions share its queue. A partition that this process follows twice gets another client, as one client reads it once.
 */

#define MESSAGES_A_WAKE 1000

struct kafka_reader {
    struct kafka_handle handle;
    TAILQ_HEAD(, kafka_follow) follows;
    bool asks;                   /* follows nothing */
    LIST_ENTRY(kafka_reader) link;
};

struct kafka_follow {
    struct bus_follow base;
    struct kafka_reader *reader;
    rd_kafka_topic_t *topic;
    char *name;
    int32_t partition;
    int64_t from, next;       /* next: what comes before it was seen */
    struct bus_follow_events events;
    void *arg;
    bool failed, heard;
    struct timer *grace;      /* until the first message or end: librdkafka does not say that a topic is missing */
    TAILQ_ENTRY(kafka_follow) link;
};

/* --- what comes -------------------------------------------------------------------------------------------------------------------------- */

static struct kafka_follow *follow_of(struct kafka_reader *r, const rd_kafka_message_t *m)
{
    struct kafka_follow *f;
    TAILQ_FOREACH(f, &r->follows, link)
        if (f->partition == m->partition && m->rkt != NULL && strcmp(f->name, rd_kafka_topic_name(m->rkt)) == 0)
            return f;
    return NULL;
}

static void fail(struct kafka_follow *f, const struct error *err)
{
    f->failed = true;
    timer_stop(f->grace);
    if (f->events.failed != NULL)
        f->events.failed(f->arg, err);
}

static void on_described(void *arg, const struct bus_topic *topic, const struct error *err)
{
    struct kafka_follow *f = arg;
    if (f->heard)
        return;
    if (err != NULL) {
        timer_set(f->grace, KAFKA_GRACE_MS * US_PER_MS);
        return;
    }
    struct error why = ERROR_INIT;
    if (topic->partitions == 0)
        (void)bus_error_topic(&why, f->name);
    else if (f->partition >= topic->partitions)
        (void)bus_error_partition(&why, f->name, f->partition);
    else
        return;
    fail(f, &why);
}

static void on_grace(void *arg)
{
    struct kafka_follow *f = arg;
    kafka_topic_describe(f->base.bus, f->name, on_described, f);
}

static void hear(struct kafka_follow *f)
{
    if (f->heard)
        return;
    f->heard = true;
    timer_stop(f->grace);
}

static void on_partition_error(struct kafka_follow *f, const rd_kafka_message_t *m)
{
    struct error err = ERROR_INIT;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        f->next = i64_max(f->next, m->offset);
        hear(f);
        if (f->events.at_end != NULL)
            f->events.at_end(f->arg, m->offset);
    } else if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
        (void)bus_error_range(&err, f->name, f->partition, i64_max(f->from, f->next));
        fail(f, &err);
    } else if (!kafka_is_unknown(m->err)) { /* unknown: for a moment, or the grace ends */
        (void)kafka_error(&err, m->err, "reading topic %s, partition %" PRId32, f->name, f->partition);
        log_debug("%s", err.text);
        if (err.kind == ERR_FATAL)
            fail(f, &err);
    }
}

static void on_message(struct kafka_follow *f, const rd_kafka_message_t *m)
{
    if (m->offset < f->next)
        return; /* seen before a connection broke */
    f->next = m->offset + 1;
    hear(f);
    struct bus_msg msg = {
        .topic = f->name, .partition = m->partition, .offset = m->offset, .time_ms = rd_kafka_message_timestamp(m, NULL),
        .key = m->key, .key_len = m->key_len, .value = m->payload, .value_len = m->len,
    };
    f->events.message(f->arg, &msg);
}

static bool reader_drain(struct kafka_handle *h)
{
    struct kafka_reader *r = (struct kafka_reader *)h;
    for (int n = 0; n < MESSAGES_A_WAKE; n++) {
        rd_kafka_message_t *m = rd_kafka_consume_queue(h->queue, 0);
        if (m == NULL)
            return false;
        struct kafka_follow *f = follow_of(r, m);
        if (f != NULL && !f->failed) {
            if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
                on_message(f, m);
            else
                on_partition_error(f, m);
        }
        rd_kafka_message_destroy(m);
    }
    return true;
}

/* --- readers -------------------------------------------------------------------------------------------------------------------------------- */

static struct kafka_reader *reader_new(struct bus_kafka *k, struct error *err)
{
    struct kafka_reader *r = xcalloc(1, sizeof(*r));
    r->handle.drain = reader_drain;
    TAILQ_INIT(&r->follows);
    if (kafka_handle_open(&r->handle, k, KAFKA_READER, NULL, err) < 0) {
        free(r);
        return NULL;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(r->handle.rk);
    rd_kafka_queue_t *main_queue = rd_kafka_queue_get_main(r->handle.rk);
    rd_kafka_queue_forward(main_queue, queue);
    rd_kafka_queue_destroy(main_queue);
    kafka_handle_watch(&r->handle, queue, 0);
    struct kafka_reader *first = LIST_FIRST(&k->readers);
    if (first == NULL)
        LIST_INSERT_HEAD(&k->readers, r, link);
    else
        LIST_INSERT_AFTER(first, r, link);
    return r;
}

rd_kafka_t *kafka_reader_client(struct bus_kafka *k, struct error *err)
{
    struct kafka_reader *r = LIST_FIRST(&k->readers);
    if (r == NULL)
        r = reader_new(k, err);
    return r ? r->handle.rk : NULL;
}

/* Brokers answer a connection's requests in their order, so that a question behind a fetch waits for the whole of fetch.wait.max.ms. */
rd_kafka_t *kafka_asking_client(struct bus_kafka *k, struct error *err)
{
    struct kafka_reader *r;
    LIST_FOREACH(r, &k->readers, link)
        if (r->asks || TAILQ_EMPTY(&r->follows))
            break;
    if (r == NULL)
        r = reader_new(k, err);
    if (r == NULL)
        return NULL;
    r->asks = true;
    return r->handle.rk;
}

static bool reads(const struct kafka_reader *r, const char *topic, int32_t partition)
{
    struct kafka_follow *f;
    TAILQ_FOREACH(f, &r->follows, link)
        if (f->partition == partition && strcmp(f->name, topic) == 0)
            return true;
    return false;
}

static struct kafka_reader *reader_for(struct bus_kafka *k, const char *topic, int32_t partition, struct error *err)
{
    struct kafka_reader *r;
    LIST_FOREACH(r, &k->readers, link)
        if (!r->asks && !reads(r, topic, partition))
            return r;
    return reader_new(k, err);
}

struct bus_follow *kafka_follow(struct bus *b, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *events,
                                void *arg, struct error *err)
{
    struct bus_kafka *k = bus_kafka_of(b);
    struct kafka_reader *r = reader_for(k, topic, partition, err);
    if (r == NULL)
        return NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(r->handle.rk, topic, NULL);
    if (t == NULL || rd_kafka_consume_start_queue(t, partition, from, r->handle.queue) < 0) {
        (void)kafka_error(err, rd_kafka_last_error(), "following topic %s, partition %" PRId32, topic, partition);
        if (t != NULL)
            rd_kafka_topic_destroy(t);
        return NULL;
    }
    struct kafka_follow *f = xcalloc(1, sizeof(*f));
    *f = (struct kafka_follow){.base = {.bus = b}, .reader = r, .topic = t, .name = xstrdup(topic), .partition = partition, .from = from,
                               .next = i64_max(from, 0), .events = *events, .arg = arg};
    f->grace = timer_new(k->loop, on_grace, f);
    timer_set(f->grace, KAFKA_GRACE_MS * US_PER_MS);
    TAILQ_INSERT_TAIL(&r->follows, f, link);
    return &f->base;
}

void kafka_follow_stop(struct bus_follow *base)
{
    struct kafka_follow *f = (struct kafka_follow *)base;
    struct bus_kafka *k = bus_kafka_of(base->bus);
    (void)rd_kafka_consume_stop(f->topic, f->partition); /* what is queued of it is void from here on */
    rd_kafka_topic_destroy(f->topic);
    kafka_asks_cancel(k, f);
    TAILQ_REMOVE(&f->reader->follows, f, link);
    timer_free(f->grace);
    free(f->name);
    free(f);
}

void kafka_readers_free(struct bus_kafka *k)
{
    struct kafka_reader *r;
    while ((r = LIST_FIRST(&k->readers)) != NULL) {
        LIST_REMOVE(r, link);
        struct kafka_follow *f;
        while ((f = TAILQ_FIRST(&r->follows)) != NULL)
            kafka_follow_stop(&f->base);
        kafka_handle_unwatch(&r->handle);
        kafka_handle_destroy(&r->handle);
        free(r);
    }
}
