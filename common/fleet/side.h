#ifndef BQF_FLEET_SIDE_H
#define BQF_FLEET_SIDE_H

#include "common/fleet/cut_text.h"
#include "common/fleet/world.h"

/*
 * A cut with more loads or exclusions than parameters can carry has them in a table beside the shards, written by one load job with a
 * deterministic id: however many coordinators make it, its rows are in it once, and the statement counts them. Loop thread only.
 */
struct side;
/* err as of bq_job_result; decided: for every coordinator. */
typedef void side_cb(void *arg, const struct error *err, bool decided);
/* The rows of a cut's list. -1: they do not fit. */
int side_rows(const struct cut_of *, struct buf *);
/* An empty one; expires_ms 0: never. */
struct bq_call *side_table(const struct world *, const struct record *, const struct bq_ref *, int64_t expires_ms, bq_cb *, void *arg);
/* Its rows, from the folds as they are now; side_write() puts them into the table. The text outlives it. */
struct side *side_new(const struct world *, const struct cut_of *, const struct cut_text *, side_cb *, void *arg);
void side_write(struct side *);
void side_stop(struct side *); /* NULL allowed */

#endif
