#ifndef BQF_COORDINATOR_FAILED_H
#define BQF_COORDINATOR_FAILED_H

#include "coordinator/outbox.h"

/*
 * Writes a run's failed items as NDJSON, valid as items.file again: each the item's payload with "_bqfleet":{"item","error","reason","attempts"}. That
 * an item failed is the log's word; its payload and whole error are looked up in `dead`, and where that has none the line has the key's
 * field (items.key, else "key") and "_bqfleet" only. Loop thread only.
 */
struct failed;
/* err NULL: written, that many. */
typedef void failed_cb(void *arg, int64_t items, const struct error *err);
struct failed *failed_start(const struct world *, struct outbox *, const struct record *, const struct fold *, const char *path, failed_cb *, void *arg);
void failed_stop(struct failed *); /* NULL allowed */

#endif
