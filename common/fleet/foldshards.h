#ifndef BQF_FLEET_FOLDSHARDS_H
#define BQF_FLEET_FOLDSHARDS_H

#include "common/fleet/cut_text.h"
#include "common/fleet/world.h"

/*
 * Copies a cut's shards into the folded tables that its statement reads. Each has a name and a job id of its contents: however many coordinators fold,
 * and begin anew, a table is filled once. A table that is not what it should be (a shard or itself expired, was dropped or made anew) fails either its
 * own statement or the cut's, which both count the rows of every load. Dropped with the run's other staging tables. Loop thread only.
 */
struct foldshards;
/* err NULL: all are filled. decided: no coordinator can fill them. */
typedef void foldshards_cb(void *arg, const struct error *err, bool decided);
/* The record and the folds outlive it. */
struct foldshards *foldshards_start(const struct world *, const struct record *, const struct cut_text *, foldshards_cb *, void *arg);
void foldshards_stop(struct foldshards *); /* the jobs go on; NULL allowed */
const char *foldshards_state(const struct foldshards *, char *out, size_t size);

#endif
