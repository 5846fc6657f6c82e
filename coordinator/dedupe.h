#ifndef BQF_COORDINATOR_DEDUPE_H
#define BQF_COORDINATOR_DEDUPE_H

#include "common/bq/sql_dedupe.h"
#include "common/fleet/world.h"

/*
 * One row of each key in a table that is there: look first, then rewrite the partitions that hold too many, by one statement for each few of them.
 *
 * What can fail, and what a second copy of this does at the same moment:
 *   1. A reply is lost: the job's id is made of what it does and of the table's state just before, so asking again meets the same job.
 *   2. The process dies: what was rewritten is, what was not is not, each partition as a whole. Its last statement may still run. Whoever repeats the command
 *      before that has changed the table finds the job under the same id and waits for it; afterwards he sees a changed table, which has less to do.
 *   3. Two copies at once, with different looks: their statements conflict in BigQuery, where one is run again on what the other has left: nothing to do.
 *   4. Somebody adds rows meanwhile: a row that the statement has not seen it does not delete; a key doubled by it is for the next time.
 * Each of these calls waits, in the world's loop; `signals` counts what has come from the user: with the first one nothing new is begun, with the second one
 * a statement under way is left to itself.
 */
struct dedupe_choice {
    struct bq_ref table;
    const char *location;          /* NULL: the table's */
    const char *const *keys; size_t key_count;
    const char *const *order_by; size_t order_count;
    const char *const *partitions; size_t partition_count; /* as the user wrote them; 0: all */
    enum null_keys null_keys;
    int64_t max_bytes_billed;      /* of each statement; 0: no limit */
};
struct dedupe_part { char id[PARTITION_ID_SIZE]; bool is_null; int64_t lo, hi, rows, repeated, keys, missing; };
/* Neighbours in `parts`, rewritten by one statement. */
struct dedupe_batch { size_t first, count; bool done; int64_t removed, bytes_billed; char job[64 + 64]; };
struct dedupe {
    const struct world *world;
    const struct dedupe_choice *choice;
    const int *signals;
    struct schema *schema;
    struct partition partition;    /* unit PARTITION_NONE: the table has none */
    char location[64], state[512]; /* the table's, when it was looked at last */
    int64_t modified_ms;
    int permits;                   /* rows of the table's permits; 0: there are none, and none is taken */
    char **ids; size_t id_count;   /* of the partitions that are compared; 0: all */
    struct sql_scope compared;
    bool apart;                    /* a key's rows may lie in several partitions */
    struct dedupe_part *parts; size_t part_count; /* those with keys that have several rows, by id; one without a name where there are no partitions */
    struct dedupe_batch *batches; size_t batch_count;
    int64_t too_many, missing;     /* rows, in all: that go; that have NULL in a key which must not be */
    int64_t bytes;                 /* that the statements will read; -1: the service does not say */
    const char *waits;             /* for progress: what a rewrite does just now */
    /* of the call that waits */
    bool answered;
    struct error err;
};
/* choice, world and signals outlive it. */
void dedupe_init(struct dedupe *, const struct world *, const struct dedupe_choice *, const int *signals);
void dedupe_free(struct dedupe *);
/* Changes nothing. 0, or -1: ERR_USAGE; ERR_FATAL, with reason "signal" when the user wants no more. */
int dedupe_look(struct dedupe *, struct error *);
/* One batch: 0 or -1 likewise. */
int dedupe_rewrite(struct dedupe *, struct dedupe_batch *, struct error *);

#endif
