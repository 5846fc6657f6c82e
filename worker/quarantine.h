#ifndef BQF_WORKER_QUARANTINE_H
#define BQF_WORKER_QUARANTINE_H

#include "worker/ackmap.h"
#include "worker/core.h"

/*
 * Items that take their whole worker down. What is known of earlier workers' deaths comes and goes with the commits of each partition (marks.h). Here is
 * decided which items may go to handlers, given what is known to be committed:
 * - A partition is opened, by a commit, before the first of its items runs, and closed when nothing of it is left to do for a second, or it is given up.
 * - On a partition whose holders have died LIMIT_TAKEOVERS times, an item runs only once a commit says so; LIMIT_CAREFUL of them at once.
 * - Suspects run first, one at a time, with no other item of this process at a handler, each named in a commit before. The other partitions are closed
 *   meanwhile: the death of this process would be no reason to suspect their items. A suspect that this process survives is as good as any other item.
 * Loop thread only. In the common case it costs an item one look at worker->guarded.
 */
struct quarantine;
struct quarantine *quarantine_new(struct worker *);
void quarantine_free(struct quarantine *);

/* For the intake. */
void quarantine_assigned(struct quarantine *, int32_t partition, const struct marks *); /* as they were read; the map is there */
void quarantine_revoked(struct quarantine *, int32_t partition);
void quarantine_delivered(struct quarantine *, int32_t partition); /* a message, with the partition closed */
/* Looked at four times a second, with nothing of the partition left to do or not. False: it is closed. */
bool quarantine_tick(struct quarantine *, int32_t partition, bool idle);
/* The partition is marked as ours and has to be given up in order. */
bool quarantine_open(const struct quarantine *, int32_t partition);
/* What a commit made now says. The last one: before the partition is given up. */
const struct marks *quarantine_marks(struct quarantine *, int32_t partition, bool last);
/* The commit is made. Not 0: the number to give to answered() with its answer. */
uint64_t quarantine_sent(struct quarantine *, int32_t partition);
void quarantine_answered(struct quarantine *, uint64_t number, bool ok);
/* The worker ends by its own or its operator's will: from now on all partitions are closed. */
void quarantine_leave(struct quarantine *);

/* For the dispatcher. */
bool quarantine_keeps(struct item *);     /* is about to be queued: true if it was put aside here, until it may run */
void quarantine_returned(struct item *);  /* its handler is done with it */
void quarantine_forget(struct item *);    /* it will be no more */
void quarantine_turn(struct quarantine *);
/* Nothing may start, except *alone if that is not NULL. */
bool quarantine_holds(const struct quarantine *, struct item **alone);
/* Whether the run has nothing else to do, given what the dispatcher thinks. */
bool quarantine_idle(const struct quarantine *, const struct run *, bool idle);
/* The item that is run alone, or is about to be; NULL. */
const struct item *quarantine_runs(const struct quarantine *);
const char *quarantine_waits_for(struct quarantine *);

#endif
