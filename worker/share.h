#ifndef BQF_WORKER_SHARE_H
#define BQF_WORKER_SHARE_H

#include "worker/core.h"

/*
 * A run's cap across the fleet: how many of the run's items may be with handlers here. Loop thread only.
 *
 * Workers divide a cap among themselves by what each says in the topic `workers`, one partition, which all read in the same order: of each capped run that it
 * has items of, since when, how many it could use, and how many it holds.
 *   1. Who wants more says so first, and may use it only when it has read its own line back, as far as the lines of the others that are alive leave room for
 *      it there. Of two that took the same room at once, the later one in the log sees the other's line before its own, and takes back what it said.
 *   2. Each aims at its fair part: what all can use, filled up evenly; what is left over goes to those that came first, so that a newcomer moves nothing. Who
 *      holds more starts nothing, and says how many it still holds as its items end.
 *   3. With fewer places than workers, those that came first have one; who has nothing left to run says so, and the next one has it.
 *   4. Who is silent for SHARE_SILENT_MS holds nothing any more for the others, and starts nothing itself well before that: so only a handler of a process that
 *      was cut off or stopped can be one too many.
 * Items that were with handlers before the cap, or when it is lowered, go on to their end.
 */
struct shares;
struct shares *shares_new(struct worker *);
void shares_free(struct shares *);
/* How many items of the run may be with handlers here; INT64_MAX: there is no cap. */
int64_t shares_limit(struct run *);
/* For this worker's line: {RUN: {"holds","wants","since_ms"}}; NULL: there is nothing to say. */
doc *shares_line(struct shares *);
/* How many workers live, this one too; 1 as long as that is not known. Who asks has `workers` read from now on. */
int64_t shares_live(struct shares *);
/* "" or which run's items wait for a place. */
const char *shares_waits_for(struct shares *);

/* The fair part of each: pure. v in order of seniority; sets part. */
struct share_claim { int64_t wants, part; };
void shares_divide(struct share_claim *v, size_t count, int64_t cap);

#endif
