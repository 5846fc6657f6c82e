#ifndef BQF_COORDINATOR_SUBMIT_H
#define BQF_COORDINATOR_SUBMIT_H

#include "coordinator/catalog_watch.h"
#include "coordinator/items.h"
#include "coordinator/outbox.h"

/*
 * Opens a run and publishes its items: places on the bus, the record, the look at what was there first, the items, the seal. Loop thread
 * only; callbacks never come from inside a call, but may not free it.
 */
struct submit;

/* Where items come from: items_next behind a pointer, so that tests and `try` give their own. */
struct submit_source {
    int (*next)(void *arg, struct item *, struct error *); /* as items_next */
    void *arg;
};

struct submit_events {
    /* The run is there. attached: it was before, and nothing is published. */
    void (*opened)(void *arg, bool attached);
    /* All items are in the work topic, and the seal is in the log. */
    void (*sealed)(void *arg, int64_t items);
    /* Nothing more is published. code: an exit code. What was already published is void: the run was not opened, or has ended. */
    void (*failed)(void *arg, const struct error *, int code);
};

struct submit_options {
    const struct world *world;
    struct outbox *outbox;
    struct catalog_watch *watch;
    struct record *record;          /* from the plan; not taken over; its places are filled in */
    struct submit_source source;
    bool replace;                   /* an open run of the batch is cancelled */
    bool leaves;                    /* this process does not stay to consolidate: the first coordinator that is there does */
    const char *command;            /* "bqfleet watch", with what it needs to find the fleet: for advice */
};
struct submit *submit_start(const struct submit_options *, const struct submit_events *, void *arg);
void submit_free(struct submit *); /* NULL allowed. Before the outbox is freed. */
/* The source said "not yet" (2) and can go on. */
void submit_ready(struct submit *);
/* The run has ended in its log while items were still published: no more are. */
void submit_ended(struct submit *, enum run_end, const char *text);
/* Stops: the run is cancelled in its log if it may have been opened, then `failed` is called. Not after the seal. */
void submit_abort(struct submit *, int code, const struct error *);
/* The catalog was read further. */
void submit_catalog_read(struct submit *);

struct submit_state { int64_t published, acknowledged, failed; bool sealed; const char *waits_for; };
void submit_state(const struct submit *, struct submit_state *);

/* Whether the record's submitter went away once it had sealed: nobody consolidates by right of being first. */
bool submit_left(const struct record *);

#endif
