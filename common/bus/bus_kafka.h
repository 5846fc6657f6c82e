#ifndef BQF_BUS_BUS_KAFKA_H
#define BQF_BUS_BUS_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <sys/queue.h>

#include "common/bus/bus_ops.h"

/*
 * Inside the bus on Kafka. Every client of librdkafka is a `handle`: its queue signals an eventfd, and the loop drains it with librdkafka's
 * callbacks, so that they all run on the loop. Handles are made when first needed: one producer, one reader for all followed partitions and
 * all questions, one for each membership. Calls that block run in the helper, the only thread of ours; see bus_kafka_helper.c.
 */

#define KAFKA_ASK_MS 10000      /* longest wait for the answer to a question */
#define KAFKA_COMMIT_MS 5000    /* longest wait for the last commits before a partition is given up, and for committed offsets */
#define KAFKA_CLOSE_MS 8000     /* longest wait for a member to leave */
#define KAFKA_GRACE_MS 5000     /* a topic unknown for so long does not exist: news of a new topic takes a moment to reach every broker */
#define KAFKA_FLUSH_MS 10000    /* for unacknowledged messages when the bus is freed */

struct bus_kafka;

/* --- one client of librdkafka (bus_kafka_handle.c) -------------------------------------------------------------------------------- */

struct kafka_handle {
    struct bus_kafka *kafka;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int fd;
    struct watch *watch;
    struct timer *timer;
    int64_t every_us;                       /* drained at least so often; 0: only when signalled */
    bool (*drain)(struct kafka_handle *);   /* a bounded amount; true: more may be there */
    void (*fatal)(struct kafka_handle *, rd_kafka_resp_err_t, const char *reason);
};

enum kafka_role { KAFKA_PRODUCER, KAFKA_MEMBER, KAFKA_READER, KAFKA_ROLES };
struct kafka_pair { const char *key, *value; }; /* a list ends with a NULL key */

/* h->drain and h->fatal are set by the caller. */
int kafka_handle_open(struct kafka_handle *, struct bus_kafka *, enum kafka_role, const struct kafka_pair *more, struct error *) MUST_CHECK;
/* Watches the queue, which the handle then owns. */
void kafka_handle_watch(struct kafka_handle *, rd_kafka_queue_t *, int64_t every_us);
/* Another queue that is drained with it. */
void kafka_handle_signal(struct kafka_handle *, rd_kafka_queue_t *);
/* No more callbacks on the loop; the client lives on. */
void kafka_handle_unwatch(struct kafka_handle *);
void kafka_handle_soon(struct kafka_handle *);
/* The client is destroyed: blocks for some milliseconds. Any thread, once unwatched. */
void kafka_handle_destroy(struct kafka_handle *);

/* --- the helper (bus_kafka_helper.c) ------------------------------------------------------------------------------------------------- */

struct kafka_job {
    void (*run)(struct kafka_job *);  /* in the helper: touches nothing but the job and librdkafka */
    void (*done)(struct kafka_job *); /* on the loop; frees it */
    void (*drop)(struct kafka_job *); /* instead of done when the bus is freed; not to tell anybody */
    bool always;                      /* run even when the bus is freed before its turn */
    TAILQ_ENTRY(kafka_job) link;
};
TAILQ_HEAD(kafka_jobs, kafka_job);

struct kafka_helper {
    bool started, stop;
    pthread_t thread;
    pthread_mutex_t lock;    /* guards stop, waiting and finished */
    pthread_cond_t wake;
    struct kafka_jobs waiting, finished;
    int fd;
    struct watch *watch;
};
/* urgent: before those that wait. */
void kafka_helper_give(struct bus_kafka *, struct kafka_job *, bool urgent);
/* Waits for what runs and what must run. */
void kafka_helper_stop(struct bus_kafka *);

/* --- the bus -------------------------------------------------------------------------------------------------------------------------- */

/* A callback that is due on the next turn. */
struct kafka_late {
    bus_done_cb *done;
    bus_ack_cb *ack;
    void *arg;
    bool failed;
    struct error err;
    TAILQ_ENTRY(kafka_late) link;
};

/* Whether the brokers answer: logged when it changes, and found out by asking, not by guessing from closed connections. */
struct kafka_link {
    bool away, asking;
    struct timer *timer;
    rd_kafka_resp_err_t code;
    char text[512];          /* of the last failure */
};

struct kafka_producer;
struct kafka_reader;
struct kafka_wait;
struct bus_kafka {
    struct bus bus;
    struct loop *loop;
    struct metrics *metrics;
    pthread_t loop_thread;
    char *brokers, *client_id, *description;
    struct kafka_pair *properties;
    int64_t prefetch_bytes, max_message;
    bool fetch_backoff_known;                /* librdkafka takes fetch.queue.backoff.ms */
    bool freeing;                            /* nobody is called back any more */
    struct kafka_helper helper;
    struct kafka_link link;
    struct bus_space space;
    int64_t unacked;
    struct kafka_producer *producer;         /* NULL: none yet, or broken */
    LIST_HEAD(, kafka_producer) broken;      /* those whose last messages are being given back */
    int64_t produce_after_us;                /* no new producer before */
    struct kafka_wait *spare_waits;
    LIST_HEAD(, kafka_reader) readers;       /* the first one also asks */
    LIST_HEAD(, kafka_group) groups;
    LIST_HEAD(, kafka_ask) asks;
    rd_kafka_t *asker;                       /* asks what asker_group has committed; the helper's alone while that runs */
    char *asker_group;
    TAILQ_HEAD(kafka_lates, kafka_late) late;
    struct timer *late_timer;
};

static inline struct bus_kafka *bus_kafka_of(struct bus *b) { return (struct bus_kafka *)b; }
/* False in the helper while it closes a client, whose callbacks then come there. */
static inline bool kafka_on_loop(const struct bus_kafka *k) { return pthread_equal(pthread_self(), k->loop_thread); }

void kafka_late_done(struct bus_kafka *, bus_done_cb *, void *arg, const struct error *err);
void kafka_late_ack(struct bus_kafka *, bus_ack_cb *, void *arg, const struct error *err);
/* The error of a resp_err about `what`, with its kind; always -1. */
int kafka_error(struct error *, rd_kafka_resp_err_t, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool kafka_is_unknown(rd_kafka_resp_err_t);

/* --- settings (bus_kafka_conf.c) ---------------------------------------------------------------------------------------------------------- */

int kafka_version_check(int version, struct error *) MUST_CHECK;
int kafka_properties_read(struct bus_kafka *, const char *const *properties, struct error *) MUST_CHECK;
void kafka_properties_free(struct bus_kafka *);
/* NULL with an error. */
rd_kafka_conf_t *kafka_conf(struct bus_kafka *, enum kafka_role, const struct kafka_pair *more, struct error *);

/* --- the link (bus_kafka_link.c) ------------------------------------------------------------------------------------------------------------ */

void kafka_link_init(struct bus_kafka *);
void kafka_link_fini(struct bus_kafka *);
/* An error that speaks of a connection. */
void kafka_link_doubt(struct bus_kafka *, rd_kafka_resp_err_t, const char *text);
void kafka_ping(struct bus *, int64_t wait_ms, bus_done_cb *, void *arg);

/* --- producer, members, readers, questions --------------------------------------------------------------------------------------------------- */

/* The callbacks that only a producer or a member has. */
void kafka_producer_conf(rd_kafka_conf_t *);
void kafka_group_conf(rd_kafka_conf_t *);

int kafka_publish(struct bus *, const struct bus_out *, bus_ack_cb *, void *arg, struct error *);
rd_kafka_t *kafka_producer_client(struct bus_kafka *); /* NULL when there is none; for tests */
void kafka_producers_free(struct bus_kafka *);

struct bus_group *kafka_join(struct bus *, const struct bus_group_config *, const struct bus_group_events *, void *arg, struct error *);
void kafka_group_pause(struct bus_group *);
void kafka_group_resume(struct bus_group *);
void kafka_group_commit(struct bus_group *, const struct bus_commit *, size_t count, bus_done_cb *, void *arg);
void kafka_group_leave(struct bus_group *, bool for_good, void (*left)(void *), void *arg);
void kafka_groups_free(struct bus_kafka *);

struct bus_follow *kafka_follow(struct bus *, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *,
                                void *arg, struct error *);
void kafka_follow_stop(struct bus_follow *);
void kafka_readers_free(struct bus_kafka *);
/* Some client that reads; NULL with an error. */
rd_kafka_t *kafka_reader_client(struct bus_kafka *, struct error *);
/* One that follows nothing and never will; NULL with an error. */
rd_kafka_t *kafka_asking_client(struct bus_kafka *, struct error *);

/* Once the helper has stopped. */
void kafka_asker_free(struct bus_kafka *);
/* Whatever was asked with that arg is not answered. */
void kafka_asks_cancel(struct bus_kafka *, const void *arg);
void kafka_watermarks(struct bus *, const char *topic, int32_t partition, bus_marks_cb *, void *arg);
void kafka_offset_at(struct bus *, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *, void *arg);
void kafka_committed(struct bus *, const char *group, const char *topic, int32_t partitions, bus_committed_cb *, void *arg);
void kafka_topic_describe(struct bus *, const char *name, bus_topic_cb *, void *arg);
void kafka_topic_create(struct bus *, const struct bus_topic *, bus_done_cb *, void *arg);

#endif
