#ifndef BQF_BUS_BUS_OPS_H
#define BQF_BUS_BUS_OPS_H

#include "common/bus/bus.h"

/* What an implementation of the bus provides. struct bus, bus_group and bus_follow are the first member of its own structs. */
struct bus_ops {
    int (*publish)(struct bus *, const struct bus_out *, bus_ack_cb *, void *arg, struct error *);
    void (*on_space)(struct bus *, void (*fn)(void *), void *arg);
    int64_t (*unacked)(struct bus *);
    struct bus_group *(*join)(struct bus *, const struct bus_group_config *, const struct bus_group_events *, void *arg, struct error *);
    void (*group_pause)(struct bus_group *);
    void (*group_resume)(struct bus_group *);
    void (*group_commit)(struct bus_group *, const struct bus_commit *, size_t count, bus_done_cb *, void *arg);
    void (*group_leave)(struct bus_group *, bool for_good, void (*left)(void *), void *arg);
    struct bus_follow *(*follow)(struct bus *, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *,
                                 void *arg, struct error *);
    void (*follow_stop)(struct bus_follow *);
    void (*watermarks)(struct bus *, const char *topic, int32_t partition, bus_marks_cb *, void *arg);
    void (*offset_at)(struct bus *, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *, void *arg);
    void (*committed)(struct bus *, const char *group, const char *topic, int32_t partitions, bus_committed_cb *, void *arg);
    void (*topic_describe)(struct bus *, const char *name, bus_topic_cb *, void *arg);
    void (*topic_create)(struct bus *, const struct bus_topic *, bus_done_cb *, void *arg);
    void (*ping)(struct bus *, int64_t wait_ms, bus_done_cb *, void *arg);
    const char *(*describe)(struct bus *);
    void (*free)(struct bus *);
};

struct bus { const struct bus_ops *ops; };
struct bus_group { struct bus *bus; };
struct bus_follow { struct bus *bus; };

#define BUS_SESSION_MS 45000 /* of a member, when its configuration names none */

/* Those who wait for room in a full queue. A listener may come or go while they are told. */
struct bus_space_item { void (*fn)(void *); void *arg; };
struct bus_space {
    struct bus_space_item *items;
    size_t count, cap;
    bool wanted; /* a publish was refused since they were last told */
};
void bus_space_set(struct bus_space *, void (*fn)(void *), void *arg);
void bus_space_tell(struct bus_space *);
void bus_space_free(struct bus_space *);

/* The errors that every implementation words in the same way; always -1. */
int bus_error_topic(struct error *, const char *topic);
int bus_error_partition(struct error *, const char *topic, int32_t partition);
int bus_error_too_large(struct error *, const char *topic, int64_t size, int64_t max);
int bus_error_full(struct error *);
int bus_error_metadata(struct error *, size_t size);
int bus_error_range(struct error *, const char *topic, int32_t partition, int64_t from);
int bus_error_exists(struct error *, const char *topic);
/* Key, value and headers as they count against the largest message. */
int64_t bus_out_size(const struct bus_out *);
/* Whether the metadata of all commits fits. */
int bus_commits_check(const struct bus_commit *, size_t count, struct error *) MUST_CHECK;

#endif
