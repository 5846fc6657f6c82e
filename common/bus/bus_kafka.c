#include "common/bus/bus_kafka.h"

#include "common/base/failures.h"

/* The bus on Kafka: making and freeing it, errors, callbacks of the next turn. */

/* --- errors ----------------------------------------------------------------------------------------------------------------------- */

bool kafka_is_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

int kafka_error(struct error *err, rd_kafka_resp_err_t code, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    failure_set(err, FROM_KAFKA, 0, rd_kafka_err2name(code), "%s: %s", what, rd_kafka_err2str(code));
    if (err != NULL)
        err->code = (int)code;
    return -1;
}

/* --- the next turn ------------------------------------------------------------------------------------------------------------------- */

static void run_late(void *arg)
{
    struct bus_kafka *k = arg;
    struct kafka_late *last = TAILQ_LAST(&k->late, kafka_lates), *l;
    for (bool more = last != NULL; more && (l = TAILQ_FIRST(&k->late)) != NULL;) {
        TAILQ_REMOVE(&k->late, l, link);
        more = l != last;
        const struct error *err = l->failed ? &l->err : NULL;
        if (l->done != NULL)
            l->done(l->arg, err);
        if (l->ack != NULL)
            l->ack(l->arg, -1, -1, err);
        free(l);
    }
    if (!TAILQ_EMPTY(&k->late))
        timer_set(k->late_timer, 0);
}

static struct kafka_late *late(struct bus_kafka *k, void *arg, const struct error *err)
{
    struct kafka_late *l = xcalloc(1, sizeof(*l));
    l->arg = arg;
    l->failed = err != NULL;
    if (err != NULL)
        l->err = *err;
    TAILQ_INSERT_TAIL(&k->late, l, link);
    timer_set(k->late_timer, 0);
    return l;
}

void kafka_late_done(struct bus_kafka *k, bus_done_cb *cb, void *arg, const struct error *err)
{
    if (cb != NULL)
        late(k, arg, err)->done = cb;
}

void kafka_late_ack(struct bus_kafka *k, bus_ack_cb *cb, void *arg, const struct error *err)
{
    if (cb != NULL)
        late(k, arg, err)->ack = cb;
}

/* --- making and freeing ---------------------------------------------------------------------------------------------------------------- */

static void kafka_on_space(struct bus *b, void (*fn)(void *), void *arg)
{
    bus_space_set(&bus_kafka_of(b)->space, fn, arg);
}

static int64_t kafka_unacked(struct bus *b)
{
    return bus_kafka_of(b)->unacked;
}

static const char *kafka_describe(struct bus *b)
{
    return bus_kafka_of(b)->description;
}

/* The helper first: what it runs uses the clients. */
static void kafka_free(struct bus *b)
{
    struct bus_kafka *k = bus_kafka_of(b);
    k->freeing = true;
    kafka_groups_free(k);
    kafka_helper_stop(k);
    kafka_asker_free(k);
    kafka_producers_free(k);
    kafka_readers_free(k);
    kafka_link_fini(k);
    struct kafka_late *l;
    while ((l = TAILQ_FIRST(&k->late)) != NULL) {
        TAILQ_REMOVE(&k->late, l, link);
        free(l);
    }
    timer_free(k->late_timer);
    bus_space_free(&k->space);
    kafka_properties_free(k);
    free(k->brokers);
    free(k->client_id);
    free(k->description);
    free(k);
}

static const struct bus_ops kafka_ops = {
    .publish = kafka_publish, .on_space = kafka_on_space, .unacked = kafka_unacked,
    .join = kafka_join, .group_pause = kafka_group_pause, .group_resume = kafka_group_resume,
    .group_commit = kafka_group_commit, .group_leave = kafka_group_leave,
    .follow = kafka_follow, .follow_stop = kafka_follow_stop,
    .watermarks = kafka_watermarks, .offset_at = kafka_offset_at, .committed = kafka_committed,
    .topic_describe = kafka_topic_describe, .topic_create = kafka_topic_create,
    .ping = kafka_ping, .describe = kafka_describe, .free = kafka_free,
};

struct bus *bus_kafka(struct loop *loop, const struct bus_kafka_options *options, struct error *err)
{
    if (kafka_version_check(rd_kafka_version(), err) < 0)
        return NULL;
    if (options->brokers == NULL || options->brokers[0] == '\0') {
        error_set(err, ERR_USAGE, 0, "the address of a Kafka broker is missing");
        return NULL;
    }
    struct bus_kafka *k = xcalloc(1, sizeof(*k));
    k->bus.ops = &kafka_ops;
    k->loop = loop;
    k->loop_thread = pthread_self();
    k->metrics = options->metrics;
    k->prefetch_bytes = options->prefetch_bytes;
    k->brokers = xstrdup(options->brokers);
    k->client_id = xstrdup(options->client_id ? options->client_id : "bqfleet");
    k->description = xasprintf("kafka %s", options->brokers);
    LIST_INIT(&k->broken);
    LIST_INIT(&k->readers);
    LIST_INIT(&k->groups);
    LIST_INIT(&k->asks);
    TAILQ_INIT(&k->late);
    k->late_timer = timer_new(loop, run_late, k);
    kafka_link_init(k);
    if (kafka_properties_read(k, options->properties, err) == 0)
        return &k->bus;
    kafka_free(&k->bus);
    return NULL;
}
