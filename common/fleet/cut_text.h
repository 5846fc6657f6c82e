#ifndef BQF_FLEET_CUT_TEXT_H
#define BQF_FLEET_CUT_TEXT_H

#include "common/fleet/record.h"

/* What has to be said to BigQuery to consolidate a cut: pure, and the same in every coordinator that folded the same log. */

/* A run that was held and whose log says that another one adopted it: its loads that no increment took are in that one's last cut. */
struct adopted { const struct record *record; const struct fold *fold; };
/* Of a run in worker tables: a cut that is only listed has no statement; one that compacts takes its base's rows and all loads since the cut of index `from` into
 * a new base. ends: it is none of the log's, but the release's, behind the last one that was written. */
struct cut_shown { bool compacts, ends; int64_t from; struct bq_ref base, into; };
/* A cut, and what is in it: its own loads and, of a last one, those of the runs it adopts, the nearest first. */
struct cut_of {
    const struct record *record;
    const struct fold *fold;
    const struct fold_cut *cut;
    const struct adopted *adopted; size_t adopted_count;
    const struct cut_shown *shown; /* NULL: the run writes into its target */
    size_t params_at_once; /* loads or exclusions as parameters, beyond it they stand in a table; 0: LIMIT_PARAM_LOADS */
};
/* Part 0 is the run itself, part i its adopted one i - 1. A later run's rows win where order_by does not decide: age, the run itself having the greatest. */
struct cut_part { const struct record *record; const struct fold *fold; int64_t from, cut; int age; }; /* indexes of its first cut and its last */
struct cut_part cut_part(const struct cut_of *, size_t i);
bool cut_part_has(const struct cut_part *, const struct fold_load *);
/* Of its job's ids: the run's cuts have theirs, those of a shard another kind. */
void cut_job_base(char out[JOB_BASE_SIZE], const struct cut_of *);
/* What its permit is for, for people. shard: "" for a cut of the run. */
#define CUT_PURPOSE_SIZE (LIMIT_NAME + 64)
void cut_purpose(char out[CUT_PURPOSE_SIZE], const struct record *, const char *shard, int64_t cut);
/* The load as the statement knows it: its id, after "AGE/" where runs are adopted, since a worker of two runs gives the same ids in both. */
#define CUT_LOAD_SIZE (LOAD_ID_LEN + 12)
void cut_load_name(char out[CUT_LOAD_SIZE], const struct cut_of *, const struct cut_part *, const struct fold_load *);

/* Shards that are copied into one staging table first, because there are more than one statement can read, or than its text can name. */
struct cut_fold { struct bq_ref into; char base[JOB_BASE_SIZE], digest[41]; struct buf sql; doc *params; size_t shards; };

/* The statement and its parameters; the folded tables that it reads in place of shards; where its loads and exclusions stand, if they are too many for
 * parameters. The digest is of what it does, so it is there for a statement that cannot be made, too. */
struct cut_text {
    struct buf sql; doc *params;
    bool fenced;              /* it wants a permit: permits_fence_params() complete the parameters */
    char digest[41];
    int64_t rows;             /* of the cut's own loads */
    struct cut_fold *folds; size_t fold_count;
    bool beside; struct bq_ref side; char side_base[JOB_BASE_SIZE];
};
/* shards_at_once: in one statement. 0; 1: there is nothing to do; -1: no version of ours can do it. */
int cut_text_make(const struct cut_of *, size_t shards_at_once, struct cut_text *, struct error *);
void cut_text_free(struct cut_text *);

#endif
