#ifndef BQF_WORKER_INTAKE_H
#define BQF_WORKER_INTAKE_H

#include "common/base/error.h"

/*
 * Takes messages from the queue and says what is done of it: membership, assignments, acknowledgement maps, commits. Loop thread only.
 * Nothing is taken while LIMIT_UNFINISHED items or LIMIT_TAKEN_BYTES of them are here, until half of that is left.
 */
struct worker;
struct intake;
struct ackmap;

struct intake *intake_new(struct worker *, struct error *);
void intake_free(struct intake *);

/* What that message carried is done: a fact of the log, whichever assignment it was delivered under. Ignored when the partition is not ours now. */
void intake_done(struct intake *, int32_t partition, int64_t offset);
/* What is done of a partition; NULL: it is not ours. */
const struct ackmap *intake_map(const struct intake *, int32_t partition);
/* There is something to say of the partition that others wait for. */
void intake_commit_soon(struct intake *, int32_t partition);
/* Items were finished: takes messages again when there is room. */
void intake_room(struct intake *);
/* The catalog was read up to, not including, this offset: items of runs that are still unknown then belong to none. */
void intake_catalog_at(struct intake *, int64_t next);

/* This worker is about to end, and no item is why: commits that at once. */
void intake_close(struct intake *);
/* Takes no more. */
void intake_stop(struct intake *);
/* Commits what is done and leaves the group; left is called once. for_good: also as a static member. */
void intake_leave(struct intake *, bool for_good, void (*left)(void *), void *arg);
const char *intake_waits_for(const struct intake *);

#endif
