#ifndef BQF_COORDINATOR_CONSOLIDATE_H
#define BQF_COORDINATOR_CONSOLIDATE_H

#include "coordinator/outbox.h"

/*
 * One cut of a run to its outcome: its accepted loads, minus the exclusions, to the target by one job with a deterministic id; then the
 * outcome into the log. Safe beside any number of others that do the same. Loop thread only.
 */
struct consolidate;

/* A run that was held and whose log says that another one adopted it: its loads that no increment took are in that one's last cut. */
struct adopted { const struct record *record; const struct fold *fold; };
/* A cut, and what is in it: its own loads and, of a last one, those of the runs it adopts, the nearest first. */
struct cut_of {
    const struct record *record;
    const struct fold *fold;
    const struct fold_cut *cut;
    const struct adopted *adopted; size_t adopted_count;
};
/* Part 0 is the run itself, part i its adopted one i - 1. A later run's rows win where order_by does not decide: age, the run itself having the greatest. */
struct cut_part { const struct record *record; const struct fold *fold; int64_t cut; int age; };
struct cut_part cut_part(const struct cut_of *, size_t i);
/* The load as the statement knows it: its id, after "AGE/" where runs are adopted, since a worker of two runs gives the same ids in both. */
#define CUT_LOAD_SIZE (LOAD_ID_LEN + 12)
void cut_load_name(char out[CUT_LOAD_SIZE], const struct cut_of *, const struct cut_part *, const struct fold_load *);

struct consolidate_options {
    const struct world *world;      /* its bq runs jobs in the record's project */
    struct outbox *outbox;
    struct cut_of of;               /* an open one of the run; its record outlives it, the rest is read at the start only */
    int64_t wait_ms;                /* before the job is asked for: it is another's to insert */
    int first_try;                  /* tries before it are known to have failed */
};
/* err NULL: an outcome was written. Otherwise this process cannot settle the cut, and nothing is decided. */
typedef void consolidate_cb(void *arg, const struct error *err);
struct consolidate *consolidate_start(const struct consolidate_options *, consolidate_cb *, void *arg);
void consolidate_stop(struct consolidate *); /* the job goes on; NULL allowed */
/* It waited for another to insert the job, and there was none. */
bool consolidate_took_over(const struct consolidate *);
/* For progress: "job bqfleet_cut_X_0_t0 is running". */
const char *consolidate_state(const struct consolidate *, char *out, size_t size);

/* The statement of a cut and its parameters, the same in every coordinator that folded the same log. shards and loads are gathered from
 * the fold. 0; 1: there is nothing to do; -1: it cannot be done by this version. */
struct cut_text { struct buf sql; doc *params; char digest[41]; int64_t rows; };
int cut_text_make(const struct cut_of *, const struct bq_ref *side, struct cut_text *, struct error *);
void cut_text_free(struct cut_text *);

#endif
