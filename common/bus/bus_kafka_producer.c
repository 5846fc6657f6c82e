#include "common/bus/bus_kafka.h"

#include "common/base/log.h"

/*
 * The producer. Idempotence keeps a partition's messages in order and single across retries, at the price that librdkafka may declare the
 * client broken for ever. Then the next publish makes a new one, and what the broken one had not got acknowledged is given back to its
 * callers as ERR_RETRY: it may be in the log or not, which is what they have to expect of any lost reply.
 */

#define ACKS_A_WAKE 2000
#define REBUILD_PAUSE_US US_PER_S   /* between two producers */
#define REAP_EVERY_US 50000
#define REAP_US (10 * US_PER_S)     /* longest wait for a broken producer to give its messages back */
#define LOOK_UP_MS 2000             /* longest wait for the partitions of a topic that is new to a producer */

/* A message that has no acknowledgement yet. */
struct kafka_wait {
    bus_ack_cb *cb;
    void *arg;
    union { LIST_ENTRY(kafka_wait) link; struct kafka_wait *spare; } u;
};

/* A topic that this producer has published to. */
struct topic_used {
    char *name;
    rd_kafka_topic_t *topic;
    SLIST_ENTRY(topic_used) link;
};

struct kafka_producer {
    struct kafka_handle handle; /* first: librdkafka's opaque is both */
    SLIST_HEAD(, topic_used) topics; /* a handful; the last one first */
    LIST_HEAD(, kafka_wait) waits;
    int64_t count;              /* of waits */
    int acked;                  /* in this wake */
    bool broken;
    struct error why;           /* of a broken one */
    int64_t reap_until_us;
    struct timer *reaper;
    LIST_ENTRY(kafka_producer) link;
};

static void wait_end(struct kafka_producer *p, struct kafka_wait *w, int32_t partition, int64_t offset, const struct error *err)
{
    struct bus_kafka *k = p->handle.kafka;
    bus_ack_cb *cb = w->cb;
    void *arg = w->arg;
    LIST_REMOVE(w, u.link);
    w->u.spare = k->spare_waits;
    k->spare_waits = w;
    p->count--;
    k->unacked--;
    if (cb != NULL && !k->freeing)
        cb(arg, partition, offset, err);
}

static void message_error(struct kafka_producer *p, const rd_kafka_message_t *m, struct error *err)
{
    const char *topic = rd_kafka_topic_name(m->rkt);
    if (p->broken)
        *err = p->why;
    else if (m->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || m->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        (void)bus_error_topic(err, topic);
    else if (m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || m->err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE)
        (void)bus_error_too_large(err, topic, (int64_t)(m->len + m->key_len), 0);
    else
        (void)kafka_error(err, m->err, "publishing to topic %s", topic);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct kafka_producer *p = opaque;
    struct error err = ERROR_INIT;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        message_error(p, m, &err);
    wait_end(p, m->_private, m->partition, m->offset, m->err ? &err : NULL);
    if (++p->acked == ACKS_A_WAKE)
        rd_kafka_yield(rk);
}

void kafka_producer_conf(rd_kafka_conf_t *conf)
{
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
}

static bool producer_drain(struct kafka_handle *h)
{
    struct kafka_producer *p = (struct kafka_producer *)h;
    struct bus_kafka *k = h->kafka;
    p->acked = 0;
    rd_kafka_queue_poll_callback(h->queue, 0);
    if (k->space.wanted && (k->producer == NULL || k->producer == p) && loop_now_us(k->loop) >= k->produce_after_us) {
        char text[32];
        size_t size = sizeof(text);
        (void)rd_kafka_conf_get(rd_kafka_conf(h->rk), "queue.buffering.max.messages", text, &size);
        if (p->count <= strtoll(text, NULL, 10) / 2)
            bus_space_tell(&k->space);
    }
    return p->acked >= ACKS_A_WAKE;
}

/* --- topics ---------------------------------------------------------------------------------------------------------------------------- */

/*
 * By itself librdkafka looks a new topic's partitions up at the next tick of a timer of a second, and the first message waits for that; so the helper
 * asks at once.
 */
struct look_up_job { struct kafka_job job; rd_kafka_t *rk; rd_kafka_topic_t *topic; };

static void run_look_up(struct kafka_job *base)
{
    struct look_up_job *job = (struct look_up_job *)base;
    const struct rd_kafka_metadata *found = NULL;
    if (rd_kafka_metadata(job->rk, 0, job->topic, &found, LOOK_UP_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(found);
}

static void end_look_up(struct kafka_job *base)
{
    free(base);
}

/* NULL: librdkafka does not take the name. */
static rd_kafka_topic_t *topic_of(struct kafka_producer *p, const char *name)
{
    struct topic_used *t = SLIST_FIRST(&p->topics);
    if (t != NULL && strcmp(t->name, name) == 0)
        return t->topic;
    SLIST_FOREACH(t, &p->topics, link)
        if (strcmp(t->name, name) == 0)
            break;
    if (t != NULL) {
        SLIST_REMOVE(&p->topics, t, topic_used, link);
    } else {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(p->handle.rk, name, NULL);
        if (topic == NULL)
            return NULL;
        t = xcalloc(1, sizeof(*t));
        *t = (struct topic_used){.name = xstrdup(name), .topic = topic};
        struct look_up_job *job = xcalloc(1, sizeof(*job));
        *job = (struct look_up_job){.job = {.run = run_look_up, .done = end_look_up, .drop = end_look_up}, .rk = p->handle.rk, .topic = topic};
        kafka_helper_give(p->handle.kafka, &job->job, false);
    }
    SLIST_INSERT_HEAD(&p->topics, t, link);
    return t->topic;
}

/* With the client's own end: the helper may be looking one up until then. */
static void handle_end(struct kafka_producer *p)
{
    struct topic_used *t;
    while ((t = SLIST_FIRST(&p->topics)) != NULL) {
        SLIST_REMOVE_HEAD(&p->topics, link);
        rd_kafka_topic_destroy(t->topic);
        free(t->name);
        free(t);
    }
    kafka_handle_destroy(&p->handle);
}

/* --- a broken one ------------------------------------------------------------------------------------------------------------------------ */

struct destroy_job { struct kafka_job job; struct kafka_producer *producer; };

static void run_destroy(struct kafka_job *job)
{
    handle_end(((struct destroy_job *)job)->producer);
}

static void end_destroy(struct kafka_job *job)
{
    free(((struct destroy_job *)job)->producer);
    free(job);
}

static void give_back_rest(struct kafka_producer *p)
{
    struct kafka_wait *w;
    while ((w = LIST_FIRST(&p->waits)) != NULL)
        wait_end(p, w, -1, -1, &p->why);
}

static void on_reap(void *arg)
{
    struct kafka_producer *p = arg;
    struct bus_kafka *k = p->handle.kafka;
    if (p->count > 0 && loop_now_us(k->loop) < p->reap_until_us) {
        timer_set(p->reaper, REAP_EVERY_US);
        return;
    }
    if (loop_now_us(k->loop) < k->produce_after_us && k->producer == NULL) { /* stays to tell those who wait for room */
        timer_set(p->reaper, k->produce_after_us - loop_now_us(k->loop));
        return;
    }
    kafka_handle_unwatch(&p->handle);
    /* From here on its callbacks cannot come: the messages it still has are ours to answer. */
    give_back_rest(p);
    LIST_REMOVE(p, link);
    timer_free(p->reaper);
    struct destroy_job *job = xcalloc(1, sizeof(*job));
    *job = (struct destroy_job){.job = {.run = run_destroy, .done = end_destroy, .drop = end_destroy, .always = true}, .producer = p};
    kafka_helper_give(k, &job->job, false);
    if (k->space.wanted)
        bus_space_tell(&k->space);
}

static void producer_fatal(struct kafka_handle *h, rd_kafka_resp_err_t code, const char *reason)
{
    struct kafka_producer *p = (struct kafka_producer *)h;
    struct bus_kafka *k = h->kafka;
    if (p->broken)
        return;
    log_warn("kafka producer broken (%s: %s); a new one takes over, %" PRId64 " messages are given back", rd_kafka_err2name(code), reason,
             p->count);
    p->broken = true;
    (void)kafka_error(&p->why, code, "publishing: %s", reason);
    if (k->producer == p)
        k->producer = NULL;
    LIST_INSERT_HEAD(&k->broken, p, link);
    k->produce_after_us = loop_now_us(k->loop) + REBUILD_PAUSE_US;
    p->reap_until_us = loop_now_us(k->loop) + REAP_US;
    p->reaper = timer_new(k->loop, on_reap, p);
    timer_set(p->reaper, REAP_EVERY_US);
    (void)rd_kafka_purge(h->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

/* --- publishing --------------------------------------------------------------------------------------------------------------------------- */

static int producer_make(struct bus_kafka *k, struct error *err)
{
    struct kafka_producer *p = xcalloc(1, sizeof(*p));
    p->handle.drain = producer_drain;
    p->handle.fatal = producer_fatal;
    LIST_INIT(&p->waits);
    SLIST_INIT(&p->topics);
    if (kafka_handle_open(&p->handle, k, KAFKA_PRODUCER, NULL, err) < 0) {
        free(p);
        return -1;
    }
    kafka_handle_watch(&p->handle, rd_kafka_queue_get_main(p->handle.rk), 0);
    k->producer = p;
    return 0;
}

static struct kafka_wait *wait_new(struct kafka_producer *p, bus_ack_cb *cb, void *arg)
{
    struct bus_kafka *k = p->handle.kafka;
    struct kafka_wait *w = k->spare_waits;
    if (w != NULL)
        k->spare_waits = w->u.spare;
    else
        w = xmalloc(sizeof(*w));
    w->cb = cb;
    w->arg = arg;
    LIST_INSERT_HEAD(&p->waits, w, u.link);
    p->count++;
    k->unacked++;
    return w;
}

static rd_kafka_resp_err_t produce(struct kafka_producer *p, const struct bus_out *out, void *opaque)
{
    rd_kafka_topic_t *topic = topic_of(p, out->topic);
    if (topic == NULL)
        return rd_kafka_last_error();
    rd_kafka_vu_t vus[7] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = out->partition < 0 ? RD_KAFKA_PARTITION_UA : out->partition},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)out->value, out->value_len}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)out->key, out->key_len}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque},
    };
    size_t count = 6;
    rd_kafka_headers_t *headers = NULL;
    if (out->header_count > 0) {
        headers = rd_kafka_headers_new(out->header_count);
        for (size_t i = 0; i < out->header_count; i++)
            (void)rd_kafka_header_add(headers, out->headers[i].name, -1, out->headers[i].value, (ssize_t)out->headers[i].len);
        vus[count].vtype = RD_KAFKA_VTYPE_HEADERS;
        vus[count++].u.headers = headers;
    }
    rd_kafka_error_t *error = rd_kafka_produceva(p->handle.rk, vus, count);
    if (error == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return code;
}

/* What librdkafka refuses at once for a lasting reason is told as an answer, as if the broker had refused it. */
static void refuse(struct bus_kafka *k, const struct bus_out *out, rd_kafka_resp_err_t code, bus_ack_cb *cb, void *arg)
{
    struct error err = ERROR_INIT;
    if (code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
        (void)bus_error_partition(&err, out->topic, out->partition);
    else if (kafka_is_unknown(code))
        (void)bus_error_topic(&err, out->topic);
    else
        (void)kafka_error(&err, code, "publishing to topic %s", out->topic);
    kafka_late_ack(k, cb, arg, &err);
}

int kafka_publish(struct bus *b, const struct bus_out *out, bus_ack_cb *cb, void *arg, struct error *err)
{
    struct bus_kafka *k = bus_kafka_of(b);
    int64_t size = bus_out_size(out);
    if (size > k->max_message)
        return bus_error_too_large(err, out->topic, size, k->max_message);
    if (k->producer == NULL && loop_now_us(k->loop) < k->produce_after_us) {
        k->space.wanted = true;
        return bus_error_full(err);
    }
    if (k->producer == NULL && producer_make(k, err) < 0)
        return -1;
    struct kafka_producer *p = k->producer;
    struct kafka_wait *w = wait_new(p, cb, arg);
    rd_kafka_resp_err_t code = produce(p, out, w);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    w->cb = NULL;
    wait_end(p, w, -1, -1, NULL);
    switch (code) {
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        k->space.wanted = true;
        return bus_error_full(err);
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return bus_error_too_large(err, out->topic, size, k->max_message);
    default:
        refuse(k, out, code, cb, arg);
        return 0;
    }
}

rd_kafka_t *kafka_producer_client(struct bus_kafka *k)
{
    return k->producer ? k->producer->handle.rk : NULL;
}

static void producer_free(struct kafka_producer *p)
{
    if (!p->broken)
        (void)rd_kafka_flush(p->handle.rk, KAFKA_FLUSH_MS);
    kafka_handle_unwatch(&p->handle);
    give_back_rest(p);
    timer_free(p->reaper);
    handle_end(p);
    free(p);
}

void kafka_producers_free(struct bus_kafka *k)
{
    if (k->producer != NULL)
        producer_free(k->producer);
    struct kafka_producer *p;
    while ((p = LIST_FIRST(&k->broken)) != NULL) {
        LIST_REMOVE(p, link);
        producer_free(p);
    }
    struct kafka_wait *w;
    while ((w = k->spare_waits) != NULL) {
        k->spare_waits = w->u.spare;
        free(w);
    }
}
