#include "common/bus/bus_kafka.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/log.h"

/* One client of librdkafka and how the loop hears from it. */

static bool of_connections(const char *facility)
{
    static const char *const quiet[] = {"FAIL", "ERROR", "CONFWARN", "CONNECT", "PROTOERR", "REQTMOUT", "MAXPOLL", "GETPID", "FATAL"};
    for (size_t i = 0; i < ARRAY_LEN(quiet); i++)
        if (strcmp(facility, quiet[i]) == 0)
            return true;
    return false;
}

/* What is said of connections comes as an error as well, and is told by the link. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    struct kafka_handle *h = rk ? rd_kafka_opaque(rk) : NULL;
    if (h == NULL || !kafka_on_loop(h->kafka) || h->kafka->freeing)
        return;
    if (level <= 4 && !of_connections(facility))
        log_warn("kafka %s: %s", facility, text);
    else
        log_debug("kafka %s: %s", facility, text);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct kafka_handle *h = opaque;
    if (!kafka_on_loop(h->kafka) || h->kafka->freeing)
        return;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        char why[512] = "";
        rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(rk, why, sizeof(why));
        if (h->fatal != NULL)
            h->fatal(h, fatal, why);
        return;
    }
    kafka_link_doubt(h->kafka, (rd_kafka_resp_err_t)code, reason);
}

int kafka_handle_open(struct kafka_handle *h, struct bus_kafka *k, enum kafka_role role, const struct kafka_pair *more, struct error *err)
{
    h->kafka = k;
    h->fd = -1;
    rd_kafka_conf_t *conf = kafka_conf(k, role, more, err);
    if (conf == NULL)
        return -1;
    rd_kafka_conf_set_opaque(conf, h);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    if (role == KAFKA_PRODUCER)
        kafka_producer_conf(conf);
    else if (role == KAFKA_MEMBER)
        kafka_group_conf(conf);
    char why[512];
    h->rk = rd_kafka_new(role == KAFKA_PRODUCER ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (h->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, ERR_FATAL, (int)rd_kafka_last_error(), "a client for Kafka at %s cannot be made: %s", k->brokers, why);
    }
    (void)rd_kafka_set_log_queue(h->rk, NULL);
    return 0;
}

/* An eventfd fires when the queue stops being empty: it is drained until empty, or again on the next turn. */
static void drain(void *arg)
{
    struct kafka_handle *h = arg;
    if (h->drain(h))
        timer_set(h->timer, 0);
    else if (h->every_us > 0)
        timer_set(h->timer, h->every_us);
}

static void on_signal(void *arg, int events)
{
    (void)events;
    struct kafka_handle *h = arg;
    uint64_t count;
    if (read(h->fd, &count, sizeof(count)) < 0)
        return;
    drain(h);
}

void kafka_handle_signal(struct kafka_handle *h, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(queue, h->fd, &one, sizeof(one));
}

void kafka_handle_watch(struct kafka_handle *h, rd_kafka_queue_t *queue, int64_t every_us)
{
    h->queue = queue;
    h->every_us = every_us;
    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->fd < 0)
        abort(); /* out of descriptors: as bad as out of memory */
    h->watch = watch_new(h->kafka->loop, h->fd, on_signal, h);
    watch_set(h->watch, WATCH_READ);
    h->timer = timer_new(h->kafka->loop, drain, h);
    kafka_handle_signal(h, queue);
    timer_set(h->timer, 0);
}

void kafka_handle_soon(struct kafka_handle *h)
{
    if (h->timer != NULL)
        timer_set(h->timer, 0);
}

void kafka_handle_unwatch(struct kafka_handle *h)
{
    if (h->watch == NULL)
        return;
    rd_kafka_queue_io_event_enable(h->queue, -1, NULL, 0);
    watch_free(h->watch);
    timer_free(h->timer);
    h->watch = NULL;
    h->timer = NULL;
}

void kafka_handle_destroy(struct kafka_handle *h)
{
    assert(h->watch == NULL);
    if (h->queue != NULL)
        rd_kafka_queue_destroy(h->queue);
    if (h->rk != NULL)
        rd_kafka_destroy_flags(h->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (h->fd >= 0)
        close(h->fd); /* after librdkafka can no longer write to it */
    h->queue = NULL;
    h->rk = NULL;
    h->fd = -1;
}
