#ifndef BQF_COORDINATOR_PLAN_H
#define BQF_COORDINATOR_PLAN_H

#include "common/bq/table.h"
#include "coordinator/items.h"

/* Spec and target together make a run's record: names resolved, schema and partitioning read, columns checked; the target is created
 * when the spec says so and it does not exist. Places on the bus are left for the submitter. */
typedef void plan_cb(void *arg, struct record *record /* the callee's to free; NULL with err */, const struct error *err);
struct plan;
struct plan_options {
    const struct world *world;
    const struct spec *spec;
    const char *run_id;       /* NULL: a new one */
    const char *project, *location; /* settings that fill what the spec leaves out; may be NULL */
    bool dry;                 /* create nothing */
    bool fleet;               /* the run is not the only one that this process could know to write to the target */
    bool *creates;            /* set to whether the target did not exist; may be NULL, valid until the callback */
};
/* Calls back once, never from inside; the plan is gone then. plan_stop is for before that; NULL allowed. */
struct plan *plan_start(const struct plan_options *, plan_cb *, void *arg);
void plan_stop(struct plan *);

/* Statements at once on the target: on a fleet, or where one process is all there is. 0: no permit is taken. */
int plan_permits(const struct spec *, bool fleet);

#endif
