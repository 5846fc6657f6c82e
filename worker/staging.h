#ifndef BQF_WORKER_STAGING_H
#define BQF_WORKER_STAGING_H

#include "worker/core.h"

/*
 * Rows on their way to a run's shard. An item's rows are kept apart until it is done, then they join the run's open load; one load runs at a time, and what
 * finishes meanwhile shares the next one. An item whose rows outgrow its share gets a load of its own (stream.h), which is one of the shard's too. What all
 * rows of a worker may take, and who gives way, is in room.h. Loop thread only.
 */
struct load;
struct staging;
struct staging *staging_new(struct run *);
void staging_free(struct staging *); /* loads under way are left to themselves; items are in no list afterwards */

/* A row of a running item, as its handler gave it; a bad one spoils the item. Not for a spoiled item. */
void staging_row(struct item *, const char *row, size_t len);
/* The item is done. */
void staging_join(struct item *);
/* Nothing else of the run is under way: starts what has gathered. */
void staging_idle(struct run *);
/* Starts what has gathered in all runs. True: loads are under way now, whose end makes room. */
bool staging_push(struct worker *);
/* For rows that get into the shard in another way: the next load's id, as an empty load of the caller's; NULL: there are no more, and the run is stopped. */
struct load *staging_load(struct run *);
/* The shard; NULL: it is being created, and ready(arg) comes when it is there. One may wait; ready NULL: nobody does. */
const struct bq_ref *staging_shard(struct run *, void (*ready)(void *arg), void *arg);
bool staging_empty(const struct staging *);
const char *staging_waits_for(struct staging *);

int64_t staging_pace(struct run *);      /* microseconds until the shard may have another load job */
void staging_count_load(struct run *);   /* it has one more, */
void staging_count_tries(struct run *, int tries); /* which took so many jobs */
void staging_count_end(struct run *);    /* and has ended */

/* It has filled its part of the buffer (three quarters; one, when a quota has parked its loads, or they are to be tried again): no further items of it should run, so that
 * those of other runs can. */
bool staging_stuck(const struct run *);

#endif
