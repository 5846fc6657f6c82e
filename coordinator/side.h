#ifndef BQF_COORDINATOR_SIDE_H
#define BQF_COORDINATOR_SIDE_H

#include "coordinator/consolidate.h"

/*
 * A cut with more loads or exclusions than parameters can carry has them in a table beside the shards, written by one load job with a
 * deterministic id: however many coordinators make it, its rows are in it once, and the statement counts them. Loop thread only.
 */
struct side;
bool side_needed(const struct cut_of *);
void side_ref(const struct record *, int64_t cut, struct bq_ref *);
/* err as of bq_job_result; decided: for every coordinator. */
typedef void side_cb(void *arg, const struct error *err, bool decided);
struct side *side_start(const struct world *, const struct cut_of *, side_cb *, void *arg);
void side_stop(struct side *); /* NULL allowed */

#endif
