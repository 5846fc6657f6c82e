#ifndef BQF_COORDINATOR_FAILED_H
#define BQF_COORDINATOR_FAILED_H

#include "coordinator/itemset.h"
#include "coordinator/outbox.h"

/*
 * A run's failed items as objects that are valid in items.file again: each the item's payload with "_bqfleet":{"run","item","error","reason","attempts",
 * "time_ms"}. That an item failed is the log's word (the fold); its payload and whole error are looked up in `dead`, which may lack some and has items
 * that succeeded after all. Where it lacks one the payload comes from the queue's topic and the error from the fold; where that has none either, the object
 * has the key's field (items.key, else "key") and "_bqfleet" only. Memory: a bit an item, and what the fold keeps. Loop thread only.
 */
struct failed;
struct failed_options {
    const struct world *world;
    struct outbox *outbox;
    const struct record *record;
    const struct fold *fold;
    const struct itemset *only;              /* those of the failed ones; NULL: all. Outlives it. */
    void (*line)(void *arg, const doc *);    /* one object; NULL: into the file at path, as NDJSON */
    const char *path;
    void *arg;
    /* err NULL: all were given, that many. */
    void (*done)(void *arg, int64_t items, const struct error *err);
};
/* Whether such a file can be written at all, to be known before the run that it is about: 0, or -1 with ERR_USAGE. Nothing is made. */
int failed_check(const char *path, struct error *) MUST_CHECK;
struct failed *failed_start(const struct failed_options *);
void failed_stop(struct failed *); /* NULL allowed */

#endif
