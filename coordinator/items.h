#ifndef BQF_COORDINATOR_ITEMS_H
#define BQF_COORDINATOR_ITEMS_H

#include "common/fleet/world.h"
#include "coordinator/spec.h"

/*
 * The items of a spec, streamed: never all in memory. A pull source: the reader asks for the next item and may be told to wait (queries
 * read pages over the loop).
 */
struct items;
struct item { int64_t index; const char *key; size_t key_len; const char *payload; size_t payload_len; }; /* payload: JSON text, "" for none */

/* run: names the job of `query`; NULL for plan and try. ready(arg) is called when a source that had to wait can go on.
 * unique keys are checked up to LIMIT_UNIQUE_KEYS items. */
struct items *items_open(const struct spec *, const struct world *, const char *run, void (*ready)(void *), void *arg, struct error *);
/* 1: an item, valid until the next call. 0: the end. 2: not yet, wait for ready. -1: ERR_USAGE with file and line ("players.ndjson:17: ...") for what does
 * not parse, lacks its key, repeats a key; ERR_FATAL and others for queries. An item over LIMIT_PAYLOAD or LIMIT_KEY is given with payload NULL
 * and err (ERR_TASK) set: that item fails, the others go on. */
int items_next(struct items *, struct item *, struct error *);
bool items_keys_checked(const struct items *); /* false once the limit was passed */
/* How many there will be, where that is known beforehand; else -1. */
int64_t items_expected(const struct items *);
void items_close(struct items *);

#endif
