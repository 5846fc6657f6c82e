#ifndef BQF_BUS_BUS_H
#define BQF_BUS_BUS_H

#include "common/base/metrics.h"
#include "common/base/rnd.h"
#include "common/net/loop.h"

/*
 * The message log: topics of partitions of messages with offsets, and groups that share a topic. bus_kafka is Kafka; bus_memory is the
 * same in one process; both pass tests/unit/test_bus_*. Loop thread only. Callbacks never come from inside the call that asks for them
 * unless a line says so. Messages are valid during the callback only: copy what lives longer.
 */
struct bus;

struct bus_header { const char *name; const void *value; size_t len; };

struct bus_msg {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t time_ms;          /* as stamped by producer or broker */
    const void *key;   size_t key_len;
    const void *value; size_t value_len; /* NULL: a tombstone */
};

/* --- publishing ------------------------------------------------------------------------------------------------------------- */

struct bus_out {
    const char *topic;
    int32_t partition;        /* -1: by the key's hash, or any when there is no key */
    const void *key;   size_t key_len;
    const void *value; size_t value_len; /* copied */
    const struct bus_header *headers; size_t header_count;
};
/* err NULL: acknowledged by all in-sync replicas, at that place. Otherwise it may or may not be in the log (ERR_RETRY), or certainly
 * is not (ERR_TASK "too large", ERR_FATAL unknown topic, not authorised). */
typedef void bus_ack_cb(void *arg, int32_t partition, int64_t offset, const struct error *err);
/* 0: queued, cb will come. -1: nothing was queued: ERR_RETRY with reason "full" (wait for bus_on_space), ERR_TASK with reason "too large". */
int bus_publish(struct bus *, const struct bus_out *, bus_ack_cb *, void *arg, struct error *) MUST_CHECK;
/* Called when a full queue has room again. One listener each; several may be set (fn, arg identify one; fn NULL removes arg's). */
void bus_on_space(struct bus *, void (*fn)(void *), void *arg);
/* Publishes that have no acknowledgement yet. */
int64_t bus_unacked(struct bus *);

/* --- a group ---------------------------------------------------------------------------------------------------------------- */

struct bus_group;
struct bus_group_config {
    const char *group, *topic;
    const char *member;       /* static membership: group.instance.id; NULL: dynamic */
    int64_t session_ms;       /* 0: the default, 45 s */
};
struct bus_group_events {
    /* The partition is ours. committed: -1 when there is none (reading begins at the start); metadata "" when there is none. */
    void (*assigned)(void *arg, int32_t partition, int64_t committed, const char *metadata);
    /* About to be given up. lost: it is gone already, commits are refused. A bus_group_commit made inside still goes out when not lost. */
    void (*revoked)(void *arg, int32_t partition, bool lost);
    void (*message)(void *arg, const struct bus_msg *);
    void (*settled)(void *arg);                       /* a rebalance is over (all assigned/revoked were told); may be NULL */
    void (*failed)(void *arg, const struct error *);  /* fatal for this membership, e.g. fenced by a twin of the same name; last call but left: leave it */
};
/* NULL with an error when the configuration is wrong; a broker that is away is waited for (failed is not called for that). */
struct bus_group *bus_join(struct bus *, const struct bus_group_config *, const struct bus_group_events *, void *arg, struct error *);
/* No messages until resumed; membership goes on. Cheap: what was fetched is kept. May be called from inside message(): that call is the
 * last one. New assignments while paused start paused. */
void bus_group_pause(struct bus_group *);
void bus_group_resume(struct bus_group *);

struct bus_commit { int32_t partition; int64_t offset; const char *metadata; };
typedef void bus_done_cb(void *arg, const struct error *err);
/* offset: the next one to read. metadata at most LIMIT_COMMIT_METADATA bytes. cb may be NULL. Partitions not ours are left out. */
void bus_group_commit(struct bus_group *, const struct bus_commit *, size_t count, bus_done_cb *, void *arg);
/* Calls revoked for what it holds, sends pending commits, leaves (a static member only when for_good), frees, then calls left. No other
 * callbacks afterwards. */
void bus_group_leave(struct bus_group *, bool for_good, void (*left)(void *), void *arg);

/* --- following one partition without a group ---------------------------------------------------------------------------------- */

struct bus_follow;
enum { BUS_BEGIN = -2, BUS_END = -1 }; /* as offsets */
struct bus_follow_events {
    void (*message)(void *arg, const struct bus_msg *);
    /* All there was has been delivered; next is the offset after the last message (or of the end). Again after further messages. */
    void (*at_end)(void *arg, int64_t next);
    /* Last call; stop it then or later. reason "out of range": the log no longer reaches back to where we asked to begin. */
    void (*failed)(void *arg, const struct error *);
};
struct bus_follow *bus_follow(struct bus *, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *, void *arg, struct error *);
void bus_follow_stop(struct bus_follow *); /* frees; allowed inside its callbacks */

/* --- questions; each answered by one callback, within a bounded time ------------------------------------------------------------ */

typedef void bus_marks_cb(void *arg, int64_t low, int64_t high, const struct error *err); /* high: the offset the next message gets */
void bus_watermarks(struct bus *, const char *topic, int32_t partition, bus_marks_cb *, void *arg);
/* The first offset with a time of at least time_ms; the end when there is none (both in high). */
void bus_offset_at(struct bus *, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *, void *arg);

/* offsets[p]: what the group has committed of partition p, -1 for nothing. */
typedef void bus_committed_cb(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err);
void bus_committed(struct bus *, const char *group, const char *topic, int32_t partitions, bus_committed_cb *, void *arg);

struct bus_topic {
    const char *name;
    int32_t partitions;      /* 0: it does not exist */
    int16_t replication;
    bool compact;            /* cleanup.policy */
    int64_t retention_ms;    /* -1: unlimited */
    int64_t max_message;     /* bytes */
    int min_insync;
    bool unclean_election;
    int64_t segment_ms;
};
typedef void bus_topic_cb(void *arg, const struct bus_topic *, const struct error *err);
void bus_topic_describe(struct bus *, const char *name, bus_topic_cb *, void *arg);
/* Fields used: name, partitions, replication (0: the broker's default), compact, retention_ms (0: the broker's). "exists" is reason of the error
 * when it is there already. */
void bus_topic_create(struct bus *, const struct bus_topic *, bus_done_cb *, void *arg);

/* Whether the broker has answered within wait_ms: NULL err when it has. The text names the address. */
void bus_ping(struct bus *, int64_t wait_ms, bus_done_cb *, void *arg);
const char *bus_describe(struct bus *); /* "kafka 127.0.0.1:9092" or "memory" */
/* Flushes for at most 10 s. Calls nobody back: whoever wants to know waits for bus_unacked() to be 0 and leaves its groups first. */
void bus_free(struct bus *);

/* --- making one ---------------------------------------------------------------------------------------------------------------- */

struct bus_kafka_options {
    const char *brokers;
    const char *const *properties; /* NULL-terminated "key=value" for librdkafka, applied last; may be NULL */
    const char *client_id;
    int64_t prefetch_bytes;        /* of the group's local queue; 0: 8 MiB */
    struct metrics *metrics;
};
/* NULL with ERR_USAGE for unknown properties (names the key) and for librdkafka versions that are known to break. */
struct bus *bus_kafka(struct loop *, const struct bus_kafka_options *, struct error *);

struct bus_memory_options {
    int64_t max_message;           /* bytes; 0: 1,048,576 */
    int64_t max_queued;            /* unacknowledged publishes before "full"; 0: 100,000 */
    int64_t delay_us;              /* before an acknowledgement and a delivery; 0: the next turn of the loop */
    int32_t most_partitions;       /* that a topic can be widened to; 0: to none more than it has */
};
/* options may be NULL. Topics exist once created. One that is neither compact nor unlimited (retention_ms -1) forgets what every group that ever
 * joined it has committed past and no reader still needs; otherwise everything is kept, and nothing is compacted. Headers are not kept. */
struct bus *bus_memory(struct loop *, const struct bus_memory_options *);
/* The topic has so many partitions from now on, if that is more; its groups deal them out anew. */
void bus_memory_widen(struct bus *, const char *topic, int32_t partitions);
/* The partition has no message before that offset any more, as after its retention or `kafka-delete-records`. Not from the bus's own callbacks. */
void bus_memory_delete(struct bus *, const char *topic, int32_t partition, int64_t before);
/* So many of the partition's next offsets are no messages, as those of transactions' markers and of what was aborted. */
void bus_memory_skip(struct bus *, const char *topic, int32_t partition, int64_t count);

#endif
