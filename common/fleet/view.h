#ifndef BQF_FLEET_VIEW_H
#define BQF_FLEET_VIEW_H

#include "common/bq/view.h"
#include "common/fleet/worker_tables.h"
#include "common/fleet/world.h"

/* A target that is a view: what its labels say, and how they are changed. Loop thread only. */
struct view_state {
    bool there;
    bool ours;                     /* a view of ours, whoever's run */
    bool mine;                     /* the run's that asks; else `run` says whose, "" for nobody's yet */
    bool open;                     /* it is that run's to change */
    char run[LIMIT_NAME];
    int64_t cut;                   /* up to which its text reaches; -1 */
    char base[BASE_SUFFIX_SIZE], was[BASE_SUFFIX_SIZE]; /* was: before that run */
    char etag[256], type[32];
};
/* From tables.get; NULL: there is nothing. */
void view_read(const doc *resource, const struct record *, struct view_state *);

struct view_labels { const struct record *record; bool open; int64_t cut; const char *base, *was; };
/* sql NULL: it stays. As bq_view_change(). */
struct bq_call *view_set(const struct world *, const struct view_labels *, const char *sql, const char *etag, bq_cb *, void *arg);
/* A new one over its first base. */
struct bq_call *view_make(const struct world *, const struct record *, const char *base, bq_cb *, void *arg);
/* An empty base. */
struct bq_call *view_make_base(const struct world *, const struct record *, const char *suffix, bq_cb *, void *arg);
/* Of a base, what the next one takes over beside its columns: partitioning, clustering. */
doc *view_layout(const doc *base_resource);

#endif
