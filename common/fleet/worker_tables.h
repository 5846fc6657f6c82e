#ifndef BQF_FLEET_WORKER_TABLES_H
#define BQF_FLEET_WORKER_TABLES_H

#include "common/fleet/record.h"

/*
 * write.via worker-tables: the target is a view, and what it shows is a base table and the workers' own tables (shards), as far as a small table, the list,
 * names their loads. What must be said for it: pure functions, the same in every coordinator that folded the same log.
 *
 * Who may change what. Workers load into their shards and know of nothing else. Coordinators alone change the view, the list and the bases; any number of them
 * may be at it.
 *
 *   1. The first cut that has loads *takes* the view: its labels then say whose it is (`bqfleet_run`, `bqfleet_nonce`), that it is open, what its base was. All
 *      changes of a view are made under If-Match with the etag of what was looked at. A view that is another run's is waited for. A run takes a view only when it
 *      has looked, after the view, for the job of that first cut, and there is none: a coordinator that slept through its run's whole life finds the job.
 *   2. A cut in mid-run *lists*: the view is made to name the shards that come with it, as yet without any of their rows; then the job of the cut, a load under the
 *      deterministic id of every cut, appends the cut's loads and exclusions to the list. That is the moment in which its rows are seen, all at once. The label
 *      `bqfleet_cut` says up to which cut the view's text reaches; a text of an earlier cut never replaces one of a later. Two coordinators at one cut write the
 *      same text.
 *   3. The last cut *compacts*: one INSERT ... SELECT under the cut's id, from the base and all loads that no base holds, into a new base table that is named by run and
 *      cut. It fails unless every load has exactly its manifest's rows. Then the view is pointed at the new base, and only then the outcome is written. So does
 *      a cut in mid-run that would make the view name too many shards; the cuts after it have a list of their own.
 *   4. When the run has ended and all its outcomes are in the log, it *releases* the view, before its end is copied to `batches` and its shards are dropped: cuts
 *      that were listed and never compacted (the run was cancelled, failed, adopted...) are compacted under a job of their own, so what could be seen stays to be
 *      seen; the bases before the last are dropped; the labels say that it is free. Should that job fail for good (a shard is gone), the view goes back to the
 *      last base: a view that no longer can be read helps nobody.
 *
 * Exactly once: a load that no manifest named is in no list and no compaction; exclusions are listed in the same job as their load; the list's job and the
 * compaction's run once, by their ids; a load is either in the list that the view reads or in the base that it reads, and both change in one request.
 *
 * Shards, lists and bases have no expiry: nothing that a view names may go away by itself. None of it needs a permit: no statement changes a table that another
 * one reads or writes. Of equal keys the greatest order_by is shown, then a row of the run rather than one of the base, the greater item, the later row; whatever
 * the cuts were, as if there had been one at the end; except that a cut that compacts in mid-run makes its rows the base's.
 */

#define BASE_SUFFIX_SIZE 64
struct tables_plan {
    int64_t number;           /* of the cut; at the end, one greater than all */
    bool takes;               /* no cut before it has loads */
    bool widens;              /* its loads lie in shards that the view does not name yet */
    bool compacts;
    int64_t from;             /* index of the first cut whose loads no base holds */
    int64_t compacted;        /* the cut that made the base; -1: the base is what it was before the run */
    int64_t loads;            /* that no base holds, with this cut's */
};
/* For the cut of that index, cut_count: for the release. limit: shards in the view, 0: as many as its text may name. */
void tables_plan(const struct record *, const struct fold *, int64_t cut, size_t limit, struct tables_plan *);

/* Bases: TARGET_bqfleet_SUFFIX beside the target. */
void tables_base_first(char out[BASE_SUFFIX_SIZE], const struct record *);               /* made with the view */
void tables_base_cut(char out[BASE_SUFFIX_SIZE], const struct record *, int64_t number);
void tables_base_end(char out[BASE_SUFFIX_SIZE], const struct record *);                 /* made by the release */
void tables_base_ref(const struct record *, const char *suffix, struct bq_ref *);
/* The list that follows that compaction, among the staging tables. */
void tables_list_ref(const struct record *, int64_t compacted, struct bq_ref *);
/* What the view shows: the base, and cuts from..upto (indexes) by the list; upto < from: the base alone. 0, or -1 (ERR_USAGE). */
int tables_view_text(const struct record *, const struct fold *, const struct bq_ref *base, const struct bq_ref *list, int64_t from, int64_t upto, struct buf *,
                     struct error *);

#endif
