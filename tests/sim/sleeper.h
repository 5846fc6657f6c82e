#ifndef BQF_TESTS_SIM_SLEEPER_H
#define BQF_TESTS_SIM_SLEEPER_H

#include "common/bus/bus.h"
#include "common/net/http.h"

/*
 * A process's view of the world that can be stopped as SIGSTOP does, and killed: a loop, a bus and a transport before the real (virtual) ones. While it is
 * stopped its timers do not fire and nothing reaches it; what it had sent is on its way all the same, or leaves only when it goes on, by chance. Then
 * what it missed comes in the worst order: its own timers and answers first, the log last (or the other way round, by chance). Acknowledgements
 * can be told as lost, as a producer does whose time is over.
 */
struct sleeper;
struct sleeper *sleeper_new(struct loop *, struct bus *, struct http *, struct rnd *);
struct loop *sleeper_loop(struct sleeper *);
struct bus *sleeper_bus(struct sleeper *);   /* what processes use of it: publishing, following, groups, questions */
struct http *sleeper_http(struct sleeper *);
void sleeper_stop(struct sleeper *);
void sleeper_go_on(struct sleeper *);
bool sleeper_stopped(const struct sleeper *);
/* Nothing reaches it any more, and what has not left it never does. What stands on it may then be freed in any order. */
void sleeper_kill(struct sleeper *);
/* It is cut off from the bus in one direction: what it publishes waits. */
void sleeper_mute(struct sleeper *, bool mute);
/* Acknowledgements are told even when it is dead, to what is left of it: a worker's messages are freed then. Before it is killed. */
void sleeper_tells_the_dead(struct sleeper *);
/* What goes wrong with it by chance, until it is calm. */
struct sleeper_faults {
    double lose_ack;        /* an acknowledgement is told as lost: 0.05 */
    double refuse_commit;   /* a commit is refused, as in a rebalance: 0 */
    int64_t delay_us;       /* of what is on its way out, at most: 3,000 */
    double fetch;           /* after a message that is followed the next ones come only with another fetch, up to a second later: 0 */
};
void sleeper_faults(struct sleeper *, const struct sleeper_faults *);
void sleeper_calm(struct sleeper *);
/* Its wall clock is so far ahead of the world's, from now on. */
void sleeper_skew(struct sleeper *, int64_t us);
/* Its network, in each direction. What it asks of BigQuery ends in an error then, executed or not; what it publishes waits; a group whose session passes
 * without a word of it goes on without it, and it learns that when it is back. CUT_LOG: runs' logs alone come late, whatever else it asks is answered. CUT_UNKNOWN,
 * CUT_DENIED: BigQuery does not take its credentials (401, 403), with CUT_WRITES only those of jobs that write into targets, and of their permits, with
 * CUT_PERMITS only those, with CUT_TABLES only to make tables. CUT_RUNS: the
 * topic of runs comes late, as CUT_LOG. CUT_ASKS: questions to the bus are answered by an error, after up to a minute. CUT_TOPICS: the bus does not let it write into
 * runs' logs and the topic of runs; CUT_READS: nor read logs, which whoever followed them learns once and for all. */
enum { CUT_BUS_OUT = 1, CUT_BUS_IN = 2, CUT_HTTP_OUT = 4, CUT_HTTP_IN = 8, CUT_LOG = 16, CUT_UNKNOWN = 32, CUT_DENIED = 64, CUT_WRITES = 128, CUT_RUNS = 256, CUT_ASKS = 512,
       CUT_TOPICS = 1024, CUT_READS = 2048, CUT_PERMITS = 4096, CUT_TABLES = 8192, CUT_BUS = CUT_BUS_OUT | CUT_BUS_IN, CUT_HTTP = CUT_HTTP_OUT | CUT_HTTP_IN };
void sleeper_cut(struct sleeper *, unsigned directions);
/* Its groups throw it out, as over a poll that came too late; it joins again some seconds later. */
void sleeper_expel(struct sleeper *);
/* What a broker denies it for good: to write failed items' entries, to join a group. */
enum { REFUSE_DEAD = 1, REFUSE_GROUP = 2 };
void sleeper_refuse(struct sleeper *, unsigned what);
/* Its memberships end for good: another process has its name. */
void sleeper_fence(struct sleeper *);
/* Sees what leaves it, as the world has it: before the process knows. Any may be NULL. */
struct sleeper_observer {
    void (*acked)(void *arg, const struct bus_out *, int32_t partition, int64_t offset);
    void (*committed)(void *arg, const char *topic, const struct bus_commit *);
    void (*refused)(void *arg); /* a commit of it */
    void (*requested)(void *arg, const struct http_request *);
};
void sleeper_observe(struct sleeper *, const struct sleeper_observer *, void *arg);
void sleeper_free(struct sleeper *); /* when everything that it asked for is answered: at the end */

#endif
