#ifndef BQF_WORKER_PARKED_H
#define BQF_WORKER_PARKED_H

#include "common/base/base.h"

/*
 * Items of runs that are not known here. A run's record is written before its items, so an item of a run that is still unknown once
 * `batches` was read to the end it had after the item arrived belongs to none, and is done. Bounded by the intake: parked items are unfinished
 * ones. Loop thread only.
 */
struct worker;
struct item;
struct parked;

struct parked *parked_new(struct worker *);
void parked_free(struct parked *); /* forgets the items */
void parked_add(struct parked *, struct item *, const char *run, size_t run_len);
void parked_catalog_at(struct parked *, int64_t next);

#endif
