#ifndef BQF_COORDINATOR_RELEASE_H
#define BQF_COORDINATOR_RELEASE_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/*
 * The view of a run in worker tables, after the run's end: what is listed and in no base is compacted, old bases are dropped, and the next run may have the view
 * (common/fleet/worker_tables.h). It goes on trying until that is done, by whomever. Loop thread only.
 */
struct release;
/* The record and the settled fold outlive it. tell: what keeps it from being done, each time; it goes on. */
/* limit: as of tables_plan(). */
struct release *release_start(const struct world *, const struct record *, const struct fold *, size_t limit, void (*done)(void *arg), void (*tell)(void *arg, const struct error *),
                              void *arg);
void release_stop(struct release *); /* NULL allowed */
const char *release_state(const struct release *, char *out, size_t size);

#endif
