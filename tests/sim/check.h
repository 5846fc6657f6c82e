#ifndef BQF_TESTS_SIM_CHECK_H
#define BQF_TESTS_SIM_CHECK_H

#include <uthash.h>

#include "common/fleet/logmsg.h"
#include "tests/sim/sim.h"

/*
 * What must be true, from outside. The checker sees every message at the moment the bus has it, every commit and every request as it leaves its process, the model's
 * jobs and tables; it folds the logs by rules written here a second time, and shares no more with the product than the formats.
 *
 *   1  every item of a written run is in the target once, or superseded there, or failed within tolerance; of other runs nothing beyond their increments
 *   2  no committed offset, nor any bit of the metadata, passes an item that is not done while its run is open
 *   3  a cut has one effect; one that is void or failed has none
 *   4  never more guarded statements at once on a table than there are permits
 *   5  after the last fault every run ends within its time
 *   6  a worker holds no more rows than its buffer and a stated slack
 *   7  a job's id is used for one purpose
 *   8  BigQuery was asked nothing that it does not know
 *   9  no run ends as fatal, failed, lost or abandoned over what it must survive
 */
enum { INV_ROWS = 1, INV_COMMIT, INV_EFFECT, INV_PERMITS, INV_PROGRESS, INV_MEMORY, INV_JOB_ID, INV_SERVICE, INV_LOUD, INV_CRASH, INV_COUNT };

enum { OWNER_NONE = -1, OWNER_EMPTY = -2, OWNER_FAILED = -3 };
enum ledger_phase { PHASE_PUBLISHING, PHASE_WORKING, PHASE_HELD, PHASE_ENDED };
enum ledger_cut { LCUT_OPEN, LCUT_DONE, LCUT_FAILED, LCUT_VOID };

struct lload { char id[LOAD_ID_LEN + 1], shard[INCARNATION_LEN + 1]; int64_t cut; struct item_range *ranges; size_t range_count; int64_t rows, fresh; UT_hash_handle hh; };
struct lcut { char shard[INCARNATION_LEN + 1]; int64_t number, loads; bool last; enum ledger_cut state; int64_t inserted, updated, deleted; };

/* A run as its log tells it. */
struct ledger {
    int32_t index;
    struct record *record;
    const struct batch_plan *batch;
    bool withdrawn, end_told, paused;
    int64_t told_exit;
    enum ledger_phase phase;
    enum log_type ended_by;    /* LOGM_SEAL: complete */
    bool failed_end;           /* a cut of it failed */
    bool bereft;               /* a staging table of it went */
    bool contradicted;         /* a stranger has sealed it with fewer items than there are, or told of one more */
    bool beyond;               /* not everybody can fold its log: its beginning is gone, or a later version has spoken in it */
    bool closed;               /* a person has closed it for that, as unknown */
    bool robbed;               /* items of it were deleted from the queue before they were done */
    char why[300];             /* what the message says that ended it */
    int64_t *owner, owners;    /* of an item: the load's index, or OWNER_ */
    int64_t *numbers, number_cap; /* of an item: that of its key; -1 */
    int64_t items, done, failed, heard, run_cuts;
    struct lload **loads, *by_id; size_t load_count, load_cap;
    struct lcut *cuts; size_t cut_count, cut_cap;
    char adopted_by[LIMIT_NAME];
    int64_t *seen, *seen_rows, seen_cap; /* of an item, the attempt in the target plus one, and its rows there when it was looked at last */
    struct ledger *next;       /* of all, by index */
    UT_hash_handle hh;
};

struct work { int32_t run; int64_t item; }; /* a message of the work topic */
struct work_log { struct work *v; int64_t count, cap, passed, low; };
struct purpose { char *id; uint64_t digest; bool gives_up; UT_hash_handle hh; };

struct check {
    struct sim *sim;
    struct ledger *ledgers, *last, *by_run;
    int32_t run_count;
    struct work_log work[SIM_PARTITIONS];
    struct purpose *purposes;
    const char *gone;          /* a target that is no more */
    int64_t commits, log_lows[SIM_LOGS], log_ends[SIM_LOGS];
};

void check_open(struct sim *);
void check_close(struct sim *);
void check_observe(struct proc *, struct sleeper *); /* what leaves that process */
struct ledger *check_run(struct check *, const char *run, size_t len);
/* Somebody has dropped a view, or put something else in its place. */
void check_gone(struct check *, const char *target);
bool check_target_gone(const struct check *, const char *target);
/* A staging table, by its name without bqf_, is no more. */
void check_bereft(struct check *, const char *table);
/* Retention has taken what is before that offset of a partition of the logs, or of the queue. */
void check_log_gone(struct check *, int32_t partition, int64_t before);
void check_work_gone(struct check *, int32_t partition, int64_t before);
/* Not everybody can say how it ends. */
bool check_is_beyond(struct check *, const struct ledger *);
struct ledger *check_run_at(struct check *, int32_t index);
/* Every run has ended and is settled, and the queue is worked off; else *what says what is not. */
bool check_settled(const struct check *, char *what, size_t size);
static inline bool ledger_open(const struct ledger *l) { return !l->withdrawn && !l->closed && l->phase != PHASE_ENDED; }
int64_t ledger_exit(const struct ledger *); /* the code that it ends with */
bool ledger_settled(const struct ledger *);
void check_tick(struct sim *);  /* now and then */
/* check_view.c: what views show, now and then, by dice of their own. */
void check_view_tick(struct sim *);
void check_end(struct sim *);   /* at the end: tables, effects, permits */

/* What a stranger has said is there, and mostly means nothing. */
void check_stray(struct check *, const struct bus_out *, int32_t partition, int64_t offset);

/* check_log.c */
void ledger_apply(struct check *, struct ledger *, const struct log_msg *, int64_t offset);
void ledger_free(struct ledger *);

#endif
