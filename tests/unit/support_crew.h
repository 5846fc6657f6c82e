#ifndef BQF_TESTS_SUPPORT_CREW_H
#define BQF_TESTS_SUPPORT_CREW_H

#include "common/bq/permits_set.h"
#include "tests/unit/support_coord.h"
#include "tests/sim/sleeper.h"
#include "worker/worker.h"

/*
 * Whole processes on a stage, workers and coordinators, each with a loop, a bus and a transport of its own, so that it can be stopped and killed. Items get one row
 * or more: {"k": its key, "v": a number that no other attempt has}.
 */
#define CREW_ITEMS 4096

struct crewman {
    struct stage *stage;
    struct sleeper *sleeper;     /* NULL: it does not live */
    struct rnd rnd;
    struct metrics metrics;
    struct world world;
    struct permits_set *permits;
    /* a worker */
    struct children children;
    struct handler_defs defs;
    struct worker *worker;
    bool drained;
    /* a coordinator */
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct track *track;
    struct error trouble;
};

/* How its handlers work. */
struct crew_play {
    int64_t work_ms;             /* an item */
    int rows;                    /* of an item; the first one's key is "kN", the others' "kN.1"... */
    int64_t parallel, linger_ms; /* of a worker that comes */
    int64_t attempts;            /* so far: the next one's v */
    int64_t first_bad;           /* items from there on fail; 0: none */
    bool one_key;                /* all rows have the same key */
};
extern struct crew_play crew_play; /* reset by crew_open() */

struct crew {
    struct stage *stage;
    struct rnd dice;
    struct sleeper *past[256]; int past_count; /* of those that were killed */
    struct record *record;
};
void crew_open(struct crew *, void **state, uint64_t seed);
/* Everybody must have been killed. */
void crew_close(struct crew *, void **state);
/* A run's record with rows written directly: merge on k, one permit. */
struct record *crew_record(struct crew *, const char *run);
void crew_items(struct crew *, const struct record *, int64_t first, int64_t count);

void crew_worker(struct crew *, struct crewman *, const char *name);
void crew_coordinator(struct crew *, struct crewman *, const struct record *, enum track_role);
void crew_kill(struct crew *, struct crewman *);
/* Kills them, too. Items that are handled are handed back. */
void crew_drain(struct crew *, struct crewman *, int64_t grace_ms);

/* --- what is true ------------------------------------------------------------------------------------------------------------------------------- */

/* What a run's log says is in the target: how often each item. */
struct crew_written { int64_t per_item[CREW_ITEMS], total; };
void crew_by_log(struct crew *, const struct record *, struct crew_written *);
void crew_by_table(struct crew *, struct crew_written *); /* keys "kN"; others are not ours */
/* Jobs with ids that begin so: that ended well, and the most that ran at once. */
int crew_jobs(struct crew *, const char *begin);
int crew_at_once(struct crew *, const char *const *begins, size_t count);
/* Every cut that stands had one effect, and every other none; the table holds what the log says; never more than `permits` statements at once. Fails with
 * `what` in front. */
void crew_check(struct crew *, const struct record *, const struct fold *, const char *what);

#endif
