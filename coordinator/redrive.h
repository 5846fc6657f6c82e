#ifndef BQF_COORDINATOR_REDRIVE_H
#define BQF_COORDINATOR_REDRIVE_H

#include "coordinator/catalog_watch.h"
#include "coordinator/dead_filter.h"
#include "coordinator/itemset.h"
#include "coordinator/items.h"
#include "coordinator/outbox.h"
#include "coordinator/runlog.h"

/*
 * What a redrive of a run is: which of its failed items, by which record, from where. Pure but for the source.
 *
 * A failed item of a run that was written is redriven once: what an earlier redrive took (its record says which, by a filter over the same log) is not
 * taken again when that one was written, or may have been. A held run is redriven as often as wanted: its heir takes it over, or has written nothing.
 */
struct redrive_choice {
    struct dead_filter filter, before[32]; size_t before_count; /* what is wanted; what other redrives have taken */
    struct itemset selected;
    int64_t taken_before, never_queued;    /* not selected: of an earlier redrive; too large for the queue, so that there is nothing to run again */
};
void redrive_choose(struct redrive_choice *, struct catalog *, const char *run, const struct dead_filter *);
/* One item that failed, as the log tells it. */
void redrive_failure(struct redrive_choice *, const struct item_failure *, int64_t time_ms);

/* Whether the run can be redriven as its log stands, by the choice. 0; -1 with why, and what to do. flags: for advice. */
int redrive_judge(struct catalog *, const struct catalog_run *, const struct fold *, const struct redrive_choice *, bool accept_rest, const char *flags,
                  struct error *);
/* The new run's record, but for its places; run_id NULL: a fresh one. NULL with err. */
struct record *redrive_record(const struct world *, const struct record *of, const struct fold *, const struct redrive_choice *, bool accept_rest,
                              const char *run_id, struct error *);

/* The selected items from the queue's topic; per_s: at most so many a second, 0: as fast as they go. ready: as items_open's. */
struct redrive_source;
struct redrive_source *redrive_source_open(const struct world *, struct outbox *, const struct record *of, const struct fold *, struct redrive_choice *,
                                           double per_s, void (*ready)(void *), void *arg);
/* As items_next. An item whose message is gone is an error that names it, once all others were given. */
int redrive_source_next(void *source, struct item *, struct error *);
void redrive_source_close(struct redrive_source *); /* NULL allowed */

#endif
