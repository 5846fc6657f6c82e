#ifndef BQF_FLEET_CONSOLIDATE_H
#define BQF_FLEET_CONSOLIDATE_H

#include "common/bq/permits_set.h"
#include "common/fleet/cut_text.h"
#include "common/fleet/world.h"

/*
 * One cut of a run to its outcome: its accepted loads, minus the exclusions, to the target by one job with a deterministic id. Whoever asked writes the
 * outcome into the log. Safe beside any number of others that do the same. Loop thread only.
 */
struct consolidate;

struct consolidate_options {
    const struct world *world;      /* its bq runs jobs in the record's project */
    struct cut_of of;               /* an open one of the run; its record outlives it, the rest is read at the start only */
    int64_t wait_ms;                /* before the job is asked for: it is another's to insert */
    int first_try;                  /* tries before it are known to have failed */
    struct permit_use *use;         /* a permit that was asked for early for this cut; taken over; NULL: none */
    size_t shards_at_once;          /* shards in one statement; 0: LIMIT_SHARDS_PER_QUERY */
};
/* The message for the run's log, valid during the call; consolidate_stop(.., true) once it is there. NULL: this process cannot settle the cut, and nothing is
 * decided. */
typedef void consolidate_cb(void *arg, struct log_msg *outcome, const struct error *err);
/* The permits of the run's target, NULL: it writes without. */
struct permits *consolidate_permits(const struct world *, const struct record *);
struct consolidate *consolidate_start(const struct consolidate_options *, consolidate_cb *, void *arg);
void consolidate_stop(struct consolidate *, bool settled); /* the job goes on, unless the cut is known to be settled; NULL allowed */
/* It waited for another to insert the job, and there was none. */
bool consolidate_took_over(const struct consolidate *);
/* For progress: "job bqfleet_cut_X_0_t0 is running". */
const char *consolidate_state(const struct consolidate *, char *out, size_t size);

#endif
