#ifndef BQF_COORDINATOR_COORDINATOR_H
#define BQF_COORDINATOR_COORDINATOR_H

#include "coordinator/track.h"

/*
 * The runs of a fleet, followed: the catalog, and a tracker for each run that is asked for (or for every open one). Loop thread only.
 * Not to be freed inside its callbacks.
 */
struct coordinator;

struct coordinator_events {
    void (*ready)(void *arg);                                          /* `batches` was read: again after further messages; may be NULL */
    void (*changed)(void *arg, struct track *);                        /* may be NULL */
    void (*trouble)(void *arg, struct track *, const struct error *);  /* track NULL: the fleet's runs cannot be followed at all */
};
struct coordinator_options {
    const struct world *world;
    struct http *http; struct auth *auth; /* for jobs in other projects than world->bq's; may be NULL */
    struct outbox *outbox;
    int64_t abandon_ms;                   /* a submitter silent for so long is given up; 0: WAIT_ABANDON */
    size_t shards_at_once, params_at_once;/* in one statement; 0: the limits, all coordinators of a fleet have the same */
    int64_t takeover_ms;                  /* so long a consolidation is left to the run's first coordinator; 0: WAIT_SECOND_COORDINATOR */
    bool all;                             /* a tracker for every open run, as a TRACK_SECOND; forgotten once it is done */
};
struct coordinator *coordinator_start(const struct coordinator_options *, const struct coordinator_events *, void *arg, struct error *);
void coordinator_free(struct coordinator *);

struct catalog_watch *coordinator_watch(struct coordinator *);
/* The run's tracker; made when there is none yet. NULL with err. The run a record replaces gets one too, as a second coordinator. */
struct track *coordinator_track(struct coordinator *, const struct record *, enum track_role, struct error *);
struct track *coordinator_find(struct coordinator *, const char *run); /* NULL: not tracked */
struct track *coordinator_next(struct coordinator *, const struct track *); /* for all; starts at NULL */

#endif
