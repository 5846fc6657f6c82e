#ifndef BQF_WORKER_WORKER_H
#define BQF_WORKER_WORKER_H

#include "common/fleet/handler_def.h"
#include "common/fleet/world.h"

/* One worker: consumes a queue, runs handlers, lands rows, writes manifests. Loop thread only. */
struct worker;

struct worker_options {
    const struct world *world;
    const char *name;                   /* of this worker; unique among live ones if static_member */
    const char *queue;
    const struct handler_defs *handlers;
    int64_t parallel;                   /* items with handlers at once */
    int64_t buffer;                     /* bytes of rows held, in all */
    int64_t streams;                    /* items at once whose rows are loaded while they come; 0: LIMIT_STREAMS */
    int64_t load_size;                  /* bytes at which a load starts */
    bool compress;                      /* loads, but for streams, are sent as gzip */
    int64_t linger_ms;                  /* longest wait before a load starts */
    bool paced;                         /* loads keep to BigQuery's limits on updates of a table */
    bool static_member; int64_t session_ms;
    bool inside;                        /* part of another program: its comings and goings are for the debug log */
    /* Mode none (embedded only): rows of an item that is done, as NDJSON lines of the user's columns; NULL elsewhere. */
    void (*rows)(void *arg, int64_t item, const char *lines, size_t len);
    /* This worker cannot go on (fenced by a twin, ...). */
    void (*failed)(void *arg, const struct error *);
    void *arg;
};
struct worker *worker_start(const struct worker_options *, struct error *);

/* Takes no more items; finishes or hands back those in flight within grace_ms, lands and reports what is done, commits, leaves; then calls
 * drained. for_good: leaves the group even as a static member. A second call with grace 0 hurries. */
void worker_drain(struct worker *, int64_t grace_ms, bool for_good, void (*drained)(void *), void *arg);
void worker_free(struct worker *);

/* For progress and `status`. */
struct worker_state {
    int64_t in_flight, waiting, unfinished;    /* items: with a handler; taken, without one yet; taken and not done */
    int64_t oldest_item, oldest_age_ms; char oldest_key[128];
    int64_t buffered, loads_running;
    char waits_for[320];                       /* "", or e.g. "BigQuery: backend busy, next try in 4 s" */
};
void worker_state(const struct worker *, struct worker_state *);

#endif
