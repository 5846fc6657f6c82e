#ifndef BQF_COORDINATOR_PLAN_VIEW_H
#define BQF_COORDINATOR_PLAN_VIEW_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/* A target that is to be a view (write.via worker-tables), as it is when a run is planned. Loop thread only. */
struct plan_view;
/* Looks for the view and reads the base behind it, into the record's base and layout; calls back with that table. err 404: there is no view. */
struct plan_view *plan_view_read(const struct world *, struct record *, bq_table_cb *, void *arg);
/* Makes the view and its first base, of the record's schema and layout; then as above. */
struct plan_view *plan_view_make(const struct world *, struct record *, bq_table_cb *, void *arg);
void plan_view_stop(struct plan_view *); /* also after it has called back; NULL allowed */

#endif
