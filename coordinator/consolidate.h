#ifndef BQF_COORDINATOR_CONSOLIDATE_H
#define BQF_COORDINATOR_CONSOLIDATE_H

#include "coordinator/outbox.h"

/*
 * One cut of a run to its outcome: its accepted loads, minus the exclusions, to the target by one job with a deterministic id; then the
 * outcome into the log. Safe beside any number of others that do the same. Loop thread only.
 */
struct consolidate;

struct consolidate_options {
    const struct world *world;      /* its bq runs jobs in the record's project */
    struct outbox *outbox;
    const struct record *record;    /* outlives it */
    const struct fold *fold;        /* read at the start only */
    const struct fold_cut *cut;     /* an open one of the run */
    int64_t wait_ms;                /* before the job is asked for: it is another's to insert */
    int first_try;                  /* tries before it are known to have failed */
};
/* err NULL: an outcome was written. Otherwise this process cannot settle the cut, and nothing is decided. */
typedef void consolidate_cb(void *arg, const struct error *err);
struct consolidate *consolidate_start(const struct consolidate_options *, consolidate_cb *, void *arg);
void consolidate_stop(struct consolidate *); /* the job goes on; NULL allowed */
/* For progress: "job bqfleet_cut_X_0_t0 is running". */
const char *consolidate_state(const struct consolidate *, char *out, size_t size);

/* The statement of a cut and its parameters, the same in every coordinator that folded the same log. shards and loads are gathered from
 * the fold. 0; 1: there is nothing to do; -1: it cannot be done by this version. */
struct cut_text { struct buf sql; doc *params; char digest[41]; int64_t rows; };
int cut_text_make(const struct record *, const struct fold *, const struct fold_cut *, const struct bq_ref *side, struct cut_text *, struct error *);
void cut_text_free(struct cut_text *);

#endif
