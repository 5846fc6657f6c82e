#ifndef BQF_WORKER_RUNS_H
#define BQF_WORKER_RUNS_H

#include "worker/core.h"

/* The runs of the fleet as this worker knows them: follows `batches` from its beginning, makes a struct run for each open one that items
 * come for, stops and forgets those that have ended. Loop thread only. */
struct runs;
struct runs *runs_new(struct worker *, struct error *);
void runs_free(struct runs *); /* with all runs and their items */

enum run_answer { RUN_OPEN, RUN_OVER /* ended, or void from the start */, RUN_UNKNOWN /* also until `batches` was read once */ };
struct run *runs_find(struct runs *, const char *id, size_t len, enum run_answer *);
struct catalog *runs_catalog(const struct runs *);
/* Goes up when a struct run was freed: pointers kept from before must not be used. */
uint64_t runs_version(const struct runs *);

/* An item of an open run that is not here yet. */
void runs_take(struct run *, struct item *);
/* The run cannot go on: says so in its log, once, and stops working on it. Its items wait for the run's end. May be called from anywhere: children and
 * loads are stopped on a later turn. */
void runs_fatal(struct run *, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Stops what runs_fatal left for later; from the dispatcher's own turn. */
void runs_stop_fatal(struct runs *);
const char *runs_waits_for(struct runs *);

#endif
