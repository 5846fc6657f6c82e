#ifndef BQF_FLEET_CUT_VIEW_H
#define BQF_FLEET_CUT_VIEW_H

#include "common/fleet/cut_text.h"
#include "common/fleet/worker_tables.h"
#include "common/fleet/world.h"

/* What a cut does to the view that its run's rows are shown by, before its job and behind it (worker_tables.h). Loop thread only. */
struct cut_view;
enum cut_view_end {
    CUT_VIEW_READY,           /* for the job; or, behind it, for the outcome */
    CUT_VIEW_PAST,            /* the view is beyond this cut: its job is there, or it will have none */
    CUT_VIEW_BUSY,            /* it is another run's at this moment, says err */
    CUT_VIEW_GONE,            /* somebody dropped or replaced it, or a table that it is to show, for everybody: err */
    CUT_VIEW_FAILED           /* here, which decides nothing: err */
};
typedef void cut_view_cb(void *arg, enum cut_view_end, const struct error *err);
/* The record and the folds outlive it. limit: as of tables_plan(). */
struct cut_view *cut_view_new(const struct world *, const struct cut_of *, size_t limit, cut_view_cb *, void *arg);
void cut_view_free(struct cut_view *); /* NULL allowed */
/* The cut as the texts want it; with its tables, once the view is ready. Valid until the next call. */
const struct cut_of *cut_view_of(struct cut_view *);
bool cut_view_compacts(const struct cut_view *);
void cut_view_before(struct cut_view *);
void cut_view_after(struct cut_view *); /* its job has compacted */
/* The job of a cut that does not compact: adds a load into the list. Its parts live as long as the cut's view. -1: too many (ERR_FATAL). */
int cut_view_list(struct cut_view *, struct bq_job_spec *, struct error *);

#endif
