#ifndef BQF_COORDINATOR_RENEW_H
#define BQF_COORDINATOR_RENEW_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/*
 * Keeps a run's staging tables from expiring while it is open, held, or adopted by a run that is. Workers renew the shards they still load into; this is
 * for those whose worker is gone. Any number of coordinators may do it at once. Loop thread only.
 */
struct renew;
struct renew *renew_start(const struct world *, const struct record *, const struct fold *); /* both outlive it */
void renew_stop(struct renew *);                                                             /* NULL allowed */

#endif
