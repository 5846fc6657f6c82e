#ifndef BQF_WORKER_SHARD_H
#define BQF_WORKER_SHARD_H

#include "worker/core.h"

/* The staging table of this worker for one run: created once, when the first load needs it, with an expiry that is put off while the run is open. Its
 * columns are the target's, and bqfleet_item, bqfleet_row, bqfleet_load. Loop thread only. */
struct shard;
/* changed(arg): it is ready now. A failure that lasts is told by runs_fatal. */
struct shard *shard_new(struct run *, void (*changed)(void *), void *arg);
/* The table stays, unless its run is over and this one may have been made after the coordinators had cleaned up: then the shard stays, too, among the worker's
 * leavers, until it has dropped its table. */
void shard_free(struct shard *);
void shards_forget(struct worker *); /* the leavers: their tables stay */
bool shard_ready(const struct shard *);
bool shard_want(struct shard *); /* creates it; false: that is under way, or done */
bool shard_wanted(const struct shard *); /* that is under way */
const struct bq_ref *shard_ref(const struct shard *);
const char *shard_waits_for(const struct shard *);

#endif
