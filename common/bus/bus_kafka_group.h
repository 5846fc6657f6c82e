#ifndef BQF_BUS_BUS_KAFKA_GROUP_H
#define BQF_BUS_BUS_KAFKA_GROUP_H

#include "common/bus/bus_kafka.h"

/* A membership, shared by bus_kafka_group.c (joining, messages, pausing, leaving), bus_kafka_assign.c (rebalances) and bus_kafka_commit.c. */

struct kafka_slot {
    bool held;
    int64_t next;       /* what comes before it was seen since the assignment */
};

/* Whether the fetcher sleeps over a queue that runs empty; see bus_kafka_nudge.c. */
struct kafka_nudge {
    int64_t full_messages, full_bytes; /* of the local queue: it may have been full from here on; 0: librdkafka needs no nudges */
    int64_t height;                    /* of the local queue since the last nudge, in messages */
    int64_t last_us;
    int until_look;                    /* messages */
    bool running;
};

/* Taken from the local queue many at a time, and told one at a time. */
#define KAFKA_BATCH 256
struct kafka_batch {
    rd_kafka_message_t *v[KAFKA_BATCH];
    ssize_t at, end;
    int64_t average; /* bytes of a message's value, lately */
};

struct kafka_group {
    struct kafka_handle handle; /* first: librdkafka's opaque is both */
    struct bus_group base;
    /* All partitions' messages: apart from the client's own queue, so that a pause need only leave them there, while the member is polled on. */
    rd_kafka_queue_t *messages;
    struct bus_group_events events;
    void *arg;
    char *name, *topic;
    bool is_static;
    struct kafka_slot *slots;   /* by partition */
    int32_t slot_count;
    bool paused, failed;

    /* An assignment whose committed offsets are being read; NULL: none. */
    rd_kafka_topic_partition_list_t *offer;
    uint64_t offer_number;      /* an answer that is about another one is old */
    struct timer *retry;

    LIST_HEAD(, kafka_commit) commits; /* not answered */
    bool revoking, revoke_lost;        /* inside revoked(): */
    rd_kafka_topic_partition_list_t *last; /* what is committed there goes out together */
    struct kafka_commit *last_waits;

    struct kafka_batch batch;
    struct kafka_nudge nudge;

    struct timer *grace;        /* set when the topic was said not to exist */
    bool asking;

    bool leaving, for_good, closing; /* closing: in the helper's hands */
    bool gave_up;                    /* leaving has told revoked */
    int64_t leave_until_us;
    struct timer *leave_timer;
    void (*left)(void *);
    void *left_arg;
    LIST_ENTRY(kafka_group) link;
};

static inline struct kafka_group *kafka_group_of(struct bus_group *g)
{
    return (struct kafka_group *)(void *)((char *)g - offsetof(struct kafka_group, base));
}

bool kafka_group_holds(const struct kafka_group *, int32_t partition);
/* Fatal for this membership. */
void kafka_group_fail(struct kafka_group *, const struct error *);

void kafka_on_rebalance(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *opaque);
/* Tells revoked for all it holds and forgets them; commits made there are in last and last_waits. */
void kafka_group_give_up(struct kafka_group *, bool lost);
void kafka_offer_drop(struct kafka_group *);
void kafka_offer_retry(void *group);

/* Messages that were taken and not told are forgotten. */
void kafka_batch_drop(struct kafka_group *);

void kafka_nudge_init(struct kafka_group *);
/* To be called with every message. */
void kafka_nudge_look(struct kafka_group *);

/* Sends what give_up gathered; not waited for. */
void kafka_commit_last(struct kafka_group *);
/* The same, and waits for the answer, within a bound. */
void kafka_commit_last_now(struct kafka_group *);
/* Those without an answer get err; without err they are only freed. */
void kafka_commits_end(struct kafka_group *, const struct error *);

#endif
