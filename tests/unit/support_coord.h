#ifndef BQF_TESTS_SUPPORT_COORD_H
#define BQF_TESTS_SUPPORT_COORD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "coordinator/coordinator.h"
#include "coordinator/submit.h"
#include "tests/bq/bqmodel.h"

/*
 * A fleet's bus and BigQuery on a virtual loop, for coordinators: the bus in memory, the model, and a hand that writes into logs what workers would.
 */
#define STAGE_PARTITIONS 4
extern int32_t stage_partitions;  /* of the work topic, when the next stage opens: STAGE_PARTITIONS, unless a test says more */
#define STAGE_TARGET "local.ds.t"

struct stage {
    struct loop *loop;
    struct rnd rnd;
    struct bus *bus;
    struct bqmodel *model;
    struct auth *auth;
    struct bq *bq;
    struct metrics metrics;
    struct world world;
    struct outbox *outbox;        /* of the hand that plays workers and submitters */
    int shards;                   /* made so far */
    int living;                   /* processes: of a test that failed, they stay */
};
int stage_open(void **state);     /* with target ds.t of k:STRING REQUIRED, v:INT64 */
int stage_close(void **state);
void stage_sleep(struct stage *, int64_t ms);
#define STAGE_WAIT(stage, cond, arg) assert_true(loop_until((stage)->loop, (cond), (arg), 600 * US_PER_S))

/* A record with its places on the bus, as a submitter would fill them in; merge on k. Not published. */
struct record *stage_record(struct stage *, const char *run, const char *batch);
/* Publishes it to batches and waits. */
void stage_publish(struct stage *, const struct record *);
/* A message into its log; waits for its acknowledgement. Returns its offset. */
int64_t stage_say(struct stage *, const struct record *, struct log_msg);
/* A load of items first..first+count-1 with one row each ({"k":"kN","v":V}) in a shard of its own, and its manifest in the log. */
void stage_load(struct stage *, const struct record *, int64_t first, int64_t count, int v);
void stage_fail(struct stage *, const struct record *, int64_t item);
void stage_seal(struct stage *, const struct record *, int64_t items);
/* Messages of that type in the run's log. */
int stage_logged(struct stage *, const struct record *, enum log_type);
int stage_tables(struct stage *, const char *prefix); /* staging tables: "bqf_" */
/* Work messages: decoded, how often each item is there. */
struct tally { int per_item[4096]; int per_partition[STAGE_PARTITIONS]; int total; };
void stage_tally(struct stage *, const char *run, struct tally *);

/* A coordinator process: its own outbox, the shared world. */
struct process {
    struct stage *stage;
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct track *track;          /* of the run that was asked for */
    struct error trouble;
};
void process_start(struct process *, struct stage *, const struct record *, enum track_role);
void process_kill(struct process *);
bool process_done(void *process); /* its run is settled, and it has nothing more to do */
bool process_held(void *process);

#endif
