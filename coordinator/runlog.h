#ifndef BQF_COORDINATOR_RUNLOG_H
#define BQF_COORDINATOR_RUNLOG_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/* A run's log, read once from the run's beginning to the end it has, and folded. Loop thread only; callbacks never come from inside the start; not to be
 * freed inside them. */
struct runlog;
struct runlog_events {
    void (*failure)(void *arg, const struct item_failure *, int64_t time_ms); /* each item that failed for good, once, in the log's order; may be NULL */
    void (*done)(void *arg, const struct error *);                            /* err NULL: the fold is as of the log's end */
};
struct runlog *runlog_start(const struct world *, const struct record *, const struct runlog_events *, void *arg, struct error *);
const struct fold *runlog_fold(const struct runlog *);
void runlog_free(struct runlog *); /* NULL allowed */

#endif
