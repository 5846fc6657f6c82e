#ifndef BQF_TESTS_SIM_CHECK_ROWS_H
#define BQF_TESTS_SIM_CHECK_ROWS_H

#include "tests/bq/internal.h"
#include "common/fleet/worker_tables.h"
#include "tests/sim/check.h"
#include "tests/sim/ways.h"

/* What a job has written: a cut, and of a run in worker tables those before it, from index `since` on, that were only listed. ends: the release's job, which has no
 * cut of its own, and takes none over from others. */
struct written { struct ledger *l; const struct lcut *c; size_t since; bool ends; int64_t started_ms, ended_ms; const struct mjob *job; };
struct writes { struct written *v; size_t count, cap; };
void writes_add(struct writes *, struct written);
void writes_sort(struct writes *); /* in the order in which they were done */

/* The job of that purpose that did well; *count: how many there are. */
const struct mjob *effect_find(const struct sim *, const char *base, int *count);
/* Rows (an array of objects) are just what these have written, one after the other, over what was there before. where: for people. */
void rows_check(struct sim *, const struct batch_plan *, const doc *rows, const struct writes *, const char *where);

/* check_view.c: what runs that are shown by a view have written into the tables behind it. */
void view_gather(struct sim *, const struct batch_plan *, struct writes *);
void view_check_end(struct sim *, const struct batch_plan *);

#endif
