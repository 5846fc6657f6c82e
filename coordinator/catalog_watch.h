#ifndef BQF_COORDINATOR_CATALOG_WATCH_H
#define BQF_COORDINATOR_CATALOG_WATCH_H

#include "common/fleet/catalog.h"
#include "common/fleet/world.h"

/* Follows `batches` from its beginning, for as long as it lives. Loop thread only. Not to be freed inside its callbacks. */
struct catalog_watch;
struct catalog_watch_events {
    void (*changed)(void *arg, struct catalog_run *); /* after a message that concerned a run; may be NULL */
    void (*read)(void *arg);                          /* read to its end: first, and again after further messages; may be NULL */
    void (*failed)(void *arg, const struct error *);  /* it cannot be read; last call */
};
struct catalog_watch *catalog_watch_start(const struct world *, const struct catalog_watch_events *, void *arg, struct error *);
void catalog_watch_free(struct catalog_watch *);
struct catalog *catalog_watch_runs(struct catalog_watch *);
bool catalog_watch_ready(const struct catalog_watch *);   /* it was read to its end once */
int64_t catalog_watch_next(const struct catalog_watch *); /* everything below this offset is folded */

/* The run that a user means: its id, a prefix of exactly one id, or a batch's name (its last run). NULL with ERR_USAGE. */
struct catalog_run *catalog_watch_named(struct catalog_watch *, const char *text, struct error *);

#endif
