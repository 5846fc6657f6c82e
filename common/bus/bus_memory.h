#ifndef BQF_BUS_BUS_MEMORY_H
#define BQF_BUS_BUS_MEMORY_H

#include <sys/queue.h>
#include <uthash.h>

#include "common/bus/bus_ops.h"

/*
 * Inside the bus in memory. One timer drives it: its turn first runs what was asked (`ops`, in order), then acknowledges publishes, which
 * makes their messages visible, then delivers to the readers that have something to read, and last frees what nobody needs any more.
 * Only that last step frees messages, so that a delivery can point into the log.
 */

/* --- the log of a partition (bus_memory_log.c) ---------------------------------------------------------------------------------- */

struct mem_seg;
TAILQ_HEAD(mem_segs, mem_seg);

struct mem_topic;
struct mem_reader;

struct mem_part {
    struct mem_topic *topic;
    int32_t index;
    bool dirty;              /* in bus_memory.dirty: a commit may allow its prefix to go */
    struct mem_segs segs;
    int64_t low;             /* the first offset that is kept */
    int64_t visible;         /* the end of what is acknowledged */
    int64_t end;             /* what the next message gets */
    TAILQ_HEAD(, mem_reader) readers;
    TAILQ_ENTRY(mem_part) dirty_link;
};

struct mem_cursor {
    struct mem_seg *seg; /* NULL: to be looked up */
    size_t pos;
    int64_t next;        /* the offset it stands before */
};

void mem_part_init(struct mem_part *, struct mem_topic *, int32_t index);
void mem_part_fini(struct mem_part *);
/* The offset of the message. */
int64_t mem_part_append(struct mem_part *, const struct bus_out *, int64_t time_ms);
/* The message at the cursor, which moves on. Something must be there. */
void mem_part_read(struct mem_part *, struct mem_cursor *, struct bus_msg *);
/* The first visible offset with at least that time, or the visible end. */
int64_t mem_part_at_time(struct mem_part *, int64_t time_ms);
/* Forgets whole blocks of messages below `offset`. */
void mem_part_trim(struct mem_part *, int64_t offset);

/* --- topics, readers, the turn (bus_memory.c) ------------------------------------------------------------------------------------ */

struct mem_topic {
    struct bus_topic info;   /* info.name is ours */
    struct mem_part *parts;
    int32_t room;            /* partitions there may be */
    uint32_t round;          /* of messages without a key */
    UT_hash_handle hh;
};

/* One who reads a partition: a follower or a member of a group. */
struct mem_reader {
    struct mem_part *part;
    struct mem_cursor cursor;
    const bool *halt;        /* nothing is delivered while it is true */
    void (*message)(void *arg, const struct bus_msg *);
    void (*at_end)(void *arg, int64_t next); /* may be NULL */
    void *arg;
    bool end_told, queued;
    TAILQ_ENTRY(mem_reader) part_link, ready_link;
};

struct mem_ack {
    struct mem_part *part;   /* NULL: the topic or partition is unknown, see error */
    int64_t offset, due_us;
    bus_ack_cb *cb;
    void *arg;
    struct error *error;
};

struct bus_memory;
/* Something to do or to answer on a later turn. */
struct mem_op {
    void (*run)(struct bus_memory *, struct mem_op *);
    void *subject;           /* whose it is, for mem_ops_cancel */
    union { bus_done_cb *done; bus_marks_cb *marks; bus_committed_cb *committed; bus_topic_cb *topic; void (*left)(void *); } cb;
    void *arg;
    int64_t due_us, number[2];
    char *name[2];
    bool flag;
    struct error err;
    TAILQ_ENTRY(mem_op) link;
};
TAILQ_HEAD(mem_ops, mem_op);

struct mem_share;

struct bus_memory {
    struct bus bus;
    struct loop *loop;
    struct timer *timer;
    int64_t armed_us;        /* when the timer is due; INT64_MAX: it is not set */
    bool in_turn;
    int64_t max_message, max_queued, delay_us;
    int32_t most_partitions;
    struct mem_topic *topics, *recent;
    struct mem_ack *acks;    /* a ring, its size a power of two */
    size_t ack_first, ack_count, ack_size;
    struct mem_ops ops;
    struct bus_space space;
    TAILQ_HEAD(, mem_reader) ready;
    TAILQ_HEAD(, mem_part) dirty;
    struct mem_reader *current; /* being delivered to */
    bool current_gone;          /* and freed meanwhile */
    LIST_HEAD(, mem_share) shares;
    LIST_HEAD(, mem_group) groups;
    LIST_HEAD(, mem_follow) follows;
};

static inline struct bus_memory *bus_memory_of(struct bus *b) { return (struct bus_memory *)b; }

/* NULL when it does not exist. */
struct mem_topic *mem_topic_find(struct bus_memory *, const char *name);
/* An operation for the turn after the bus's delay; fill in the rest. */
struct mem_op *mem_op_new(struct bus_memory *, void (*run)(struct bus_memory *, struct mem_op *), void *subject, void *arg);
void mem_op_free(struct mem_op *);
void mem_ops_cancel(struct bus_memory *, const void *subject);
void mem_reader_attach(struct mem_reader *, struct mem_part *, int64_t next);
void mem_reader_detach(struct bus_memory *, struct mem_reader *);
/* Lets it be delivered to if it has anything to read or to be told. */
void mem_reader_wake(struct bus_memory *, struct mem_reader *);
void mem_part_dirty(struct bus_memory *, struct mem_part *);

/* --- groups (bus_memory_group.c) --------------------------------------------------------------------------------------------------- */

struct bus_group *mem_join(struct bus *, const struct bus_group_config *, const struct bus_group_events *, void *arg, struct error *);
void mem_group_pause(struct bus_group *);
void mem_group_resume(struct bus_group *);
void mem_group_commit(struct bus_group *, const struct bus_commit *, size_t count, bus_done_cb *, void *arg);
void mem_group_leave(struct bus_group *, bool for_good, void (*left)(void *), void *arg);
/* -1 when nothing is committed or the group is unknown. */
int64_t mem_group_committed(struct bus_memory *, const char *group, const struct mem_topic *, int32_t partition);
void mem_groups_deal(struct bus_memory *, const struct mem_topic *); /* anew */
/* The offset below which no group of the topic needs its messages; -1: keep all. */
int64_t mem_groups_low(struct bus_memory *, const struct mem_part *);
void mem_groups_free(struct bus_memory *);

/* --- following, questions (bus_memory_ask.c) ---------------------------------------------------------------------------------------- */

struct bus_follow *mem_follow(struct bus *, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *, void *arg,
                              struct error *);
void mem_follow_stop(struct bus_follow *);
void mem_follows_free(struct bus_memory *);
void mem_watermarks(struct bus *, const char *topic, int32_t partition, bus_marks_cb *, void *arg);
void mem_offset_at(struct bus *, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *, void *arg);
void mem_committed(struct bus *, const char *group, const char *topic, int32_t partitions, bus_committed_cb *, void *arg);
void mem_topic_describe(struct bus *, const char *name, bus_topic_cb *, void *arg);
void mem_topic_create(struct bus *, const struct bus_topic *, bus_done_cb *, void *arg);
void mem_ping(struct bus *, int64_t wait_ms, bus_done_cb *, void *arg);

#endif
