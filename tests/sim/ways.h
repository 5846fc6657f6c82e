#ifndef BQF_TESTS_SIM_WAYS_H
#define BQF_TESTS_SIM_WAYS_H

#include "tests/sim/sim.h"

/*
 * The ways of writing beside one statement at the end, increments and direct ones: rows shown by a view (worker tables), whole partitions replaced, rows to nobody,
 * targets with partitions; and several batches that write into one target. Dice of their own draw them, for seeds with seed % 4 == 1; the others stay as they are.
 */
void ways_draw(struct plan *);
void ways_text(const struct plan *, struct buf *out);
/* The targets of all batches, and what is in them before the first run. */
void ways_make_targets(struct sim *);
/* The record of a run of that batch, as the plan of its spec would have it; the caller frees. */
struct record *ways_record(const struct batch_plan *, const char *run);
/* The value of the column that partitions the target, and where it lies, for a row with that key; lot: of the row, whatever its key. */
void ways_place(const struct batch_plan *, uint64_t lot, struct row_fact *);
/* Its own place among the targets: the first batch that writes there checks them all. */
bool ways_is_first(const struct sim *, const struct batch_plan *);
/* Rows that were there before: what number `at` has in its columns. False: there is none, or its key was had by one before. */
bool ways_old_row(const struct sim *, const struct batch_plan *, int64_t at, struct row_fact *);
enum { WAYS_OLD_ROWS = 12, WAYS_LONG_MS = 1000000 /* a seed that goes on beyond it has an outage longer than what requests wait for */ };

static inline bool way_shows(const struct batch_plan *b) { return b->via == VIA_WORKER_TABLES; }
/* Its rows are one of each key, at least within a run. */
static inline bool way_keyed(const struct batch_plan *b) { return b->mode == WRITE_MERGE || b->keyed; }
/* It may write a part of a run before its end. */
static inline bool way_cuts(const struct batch_plan *b) { return b->mode == WRITE_MERGE || b->mode == WRITE_APPEND; }

#endif
