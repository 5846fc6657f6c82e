#ifndef BQF_COORDINATOR_CLEANUP_H
#define BQF_COORDINATOR_CLEANUP_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/*
 * Drops a settled run's staging tables: the shards of its accepted loads and whatever else bears its name. Never before the run's last
 * outcome is in its log. A late worker's shard that appears afterwards expires by itself. Failures are logged, and left to the expiry.
 * Loop thread only; `done` never comes from inside the start.
 */
struct cleanup;
struct cleanup *cleanup_start(const struct world *, const struct record *, const struct fold *, void (*done)(void *arg, int dropped), void *arg);
void cleanup_stop(struct cleanup *); /* NULL allowed */

#endif
