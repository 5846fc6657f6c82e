#ifndef BQF_TESTS_SUPPORT_BUS_H
#define BQF_TESTS_SUPPORT_BUS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "common/bus/bus.h"

/* What every implementation of the bus has to do, as tests; and what tests of a bus need. */

#define ENV_PARTITIONS 8 /* the most a test's topic has */

struct bus_env {
    struct loop *loop;
    struct bus *bus;
    const char *prefix; /* of topics and groups, so that runs against one broker do not meet */
    int serial;
};

/* The tests of the suite expect a struct bus_env in *state; max_queued of its bus is ENV_QUEUED. */
#define ENV_QUEUED 5000
extern const struct CMUnitTest bus_suite[];
extern const size_t bus_suite_count;
extern const struct CMUnitTest bus_suite_follow[];
extern const size_t bus_suite_follow_count;

/* Fails the test when cond does not hold within 40 s of the loop's time. */
#define WAIT_FOR(env, cond, arg) assert_true(loop_until((env)->loop, (cond), (arg), 40 * US_PER_S))
/* Lets the loop go on for so long, for what should not happen. */
void env_linger(struct bus_env *, int64_t us);

/* A fresh name; valid until the test program ends. */
const char *env_name(struct bus_env *, const char *what);
/* A new topic, created. */
const char *env_topic(struct bus_env *, int32_t partitions);

/* Publishes values "FROM".."FROM+count-1" (as text, no key) and waits until all are acknowledged; partition -1: round about. */
void env_publish(struct bus_env *, const char *topic, int32_t partition, int from, int count);

/* One whose acknowledgement is awaited. */
struct ack { bool done; int32_t partition; int64_t offset; struct error err; };
void ack_take(void *arg, int32_t partition, int64_t offset, const struct error *err);
bool ack_done(void *arg);

struct answer { bool done, failed; int64_t low, high; int64_t offsets[ENV_PARTITIONS]; struct bus_topic topic; struct error err; };
void answer_done(void *arg, const struct error *err);
void answer_marks(void *arg, int64_t low, int64_t high, const struct error *err);
void answer_committed(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err);
void answer_topic(void *arg, const struct bus_topic *topic, const struct error *err);
bool answer_is_there(void *arg);

/* A member of a group that keeps book. */
struct member {
    struct bus_env *env;
    struct bus_group *group;
    const char *topic;
    bool holds[ENV_PARTITIONS];
    int64_t committed[ENV_PARTITIONS]; /* as told at the last assignment */
    int64_t next[ENV_PARTITIONS];      /* one after the last message */
    char *metadata[ENV_PARTITIONS];
    int64_t got, wanted;               /* messages; until member_has_all */
    int assigned, revoked, lost, settled;
    int64_t out_of_order;              /* messages whose offset was not the expected one */
    int64_t pause_every;               /* pauses itself inside each such message */
    bool paused, beyond_pause;         /* a message came after a pause */
    bool commit_in_revoked, left, failed;
    struct member **owners;            /* [partition]: shared by the members of one group, to see who holds what; may be NULL */
    bool overlap;                      /* it was assigned what somebody else still held */
    struct error err;
    void (*on_message)(struct member *, const struct bus_msg *); /* may be NULL */
};
/* name: of a static member, or NULL. m must be zeroed but for the fields that configure it. */
void member_join(struct member *, struct bus_env *, const char *group, const char *topic, const char *name, int64_t session_ms);
void member_leave(struct member *, bool for_good); /* and waits */
int member_holds(const struct member *);
bool member_settled(void *arg);
bool member_has_all(void *arg);
bool member_failed(void *arg);
bool member_left(void *arg);

/* A follower that keeps book. */
struct follower {
    struct bus_follow *follow;
    int64_t got, wanted, first, next, ends, end_at;
    bool failed, out_of_order;
    int64_t stop_after; /* stops itself inside that message */
    struct error err;
};
void follower_start(struct follower *, struct bus_env *, const char *topic, int32_t partition, int64_t from);
void follower_stop(struct follower *);
bool follower_has_all(void *arg);
bool follower_at_end(void *arg);   /* has been told at least once, and again since the last message */
bool follower_failed(void *arg);

#endif
