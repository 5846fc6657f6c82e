#ifndef BQF_COORDINATOR_WORK_READ_H
#define BQF_COORDINATOR_WORK_READ_H

#include "common/fleet/envelope.h"
#include "coordinator/outbox.h"

/*
 * A run's work messages, read again from the queue's topic without its group: partition after partition, between where the run began and its seal. A
 * message may be there twice. Loop thread only; callbacks never come from inside the start; not to be freed inside them.
 */
struct work_read;
struct work_read_events {
    /* A message of the run; valid during the call, which may pause. */
    void (*item)(void *arg, const struct envelope *);
    void (*done)(void *arg, const struct error *); /* err NULL: all that is still there was given */
};
struct work_read *work_read_start(const struct world *, struct outbox *, const struct record *, const struct fold *, const struct work_read_events *,
                                  void *arg);
void work_read_pause(struct work_read *);  /* no more until resumed */
void work_read_resume(struct work_read *);
void work_read_free(struct work_read *);   /* NULL allowed */

#endif
