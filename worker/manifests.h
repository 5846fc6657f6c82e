#ifndef BQF_WORKER_MANIFESTS_H
#define BQF_WORKER_MANIFESTS_H

#include "worker/core.h"

/*
 * What a run's log is told. A load that is done gets its manifest at once, and items without rows or failed for good that wait go along; alone they wait
 * for company for WAIT_MANIFEST at most. Once the bus has acknowledged a manifest, all deliveries of its items are done, and not earlier. Loop thread only.
 *
 * An item that failed for good has an entry in `dead` first (waited for WAIT_DEAD at most: what decides is the log). Entry: key RUN/ITEM;
 * {"run","batch","item","key","payload","attempts","reason","text","time_ms","by"}; payload is JSON as it was, or null when it does not fit.
 */
struct load;
struct manifests;
struct manifests *manifests_new(struct run *);
void manifests_free(struct manifests *); /* items are in no list afterwards */

void manifests_empty(struct item *);       /* done without rows */
void manifests_fail(struct item *);        /* failed for good, as item->reason and text say */
void manifests_load(const struct load *);  /* done: takes its items */
void manifests_idle(struct run *);         /* nothing else of the run is under way */
bool manifests_none(const struct manifests *); /* nothing waits, nothing is unacknowledged */

#endif
