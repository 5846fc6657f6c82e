#ifndef BQF_COORDINATOR_JANITOR_H
#define BQF_COORDINATOR_JANITOR_H

#include "common/fleet/catalog.h"
#include "common/fleet/world.h"

/*
 * Drops what runs that are over have left behind: staging tables of a coordinator that was killed between a run's end and its clean-up, of a `cancel` that
 * had no BigQuery, of a worker that woke when all was over and was killed before it knew. Looks where the runs of the last days had their staging, when it
 * begins and every hour. Loop thread only.
 */
struct janitor;
struct janitor *janitor_start(const struct world *, struct catalog *); /* the catalog was read; it outlives the janitor */
void janitor_free(struct janitor *); /* NULL allowed */

#endif
