#ifndef BQF_WORKER_STREAM_H
#define BQF_WORKER_STREAM_H

#include "worker/core.h"

/*
 * A load of its own for an item whose rows outgrow its share of the buffer: they are sealed with the load's id at once and sent as they come (bq_feed), beside
 * the shard's one group load. The job begins with the last byte, and that goes only once the item is done: an item that fails, crashes or is cancelled before
 * leaves an upload without an end, which BigQuery never looks at. When bytes are lost that were let go here, the item runs again under another load's id, at no
 * cost in attempts; the load it leaves is in no manifest. Loop thread only.
 *
 * A stream holds one of worker->places_most places, from the moment it opens (or its item starts, see room.h) until its job has ended.
 */
struct stream;

/* The item's rows so far become a stream's, and further ones follow. False: it has no place and there is none, or the run stops. */
bool stream_open(struct item *);
/* As rowcheck_add: 0, or -1 with err. Its handler stalls when the window is full. */
int stream_row(struct item *, const char *row, size_t len, struct error *);
/* The item is done. */
void stream_done(struct item *);
/* It is forgotten, and what was sent of it. By item_drop_rows(). */
void stream_abandon(struct stream *);
/* No more rows should come now: two chunks are here, so one is being sent. */
bool stream_full(const struct stream *);

bool streams_none(const struct run *);
/* The shard is ready, or another load may start now: those that wait for it go on. */
void streams_poke(struct run *);
/* There are bytes that BigQuery is about to take: waiting makes room. */
bool streams_flow(const struct worker *);
/* A place will come free without any further row. */
bool streams_end(const struct worker *);
void streams_free(struct run *); /* with the places and bytes; their items are in no list afterwards */
const char *streams_waits_for(struct run *); /* valid until the next call */

#endif
