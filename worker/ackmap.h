#ifndef BQF_WORKER_ACKMAP_H
#define BQF_WORKER_ACKMAP_H

#include "worker/marks.h"

/*
 * What is done of one partition while it is ours. Items finish in any order, but a group commits one offset: everything below it must be
 * done. What is done above it goes along as the commit's metadata, so that whoever has the partition next need not do it again. Pure.
 *
 * The metadata: one character of version ('1'), then base64 of zstd of fields (wire.h):
 *   field 1   bytes: varints, the lengths of runs from the committed offset on: not done, done, not done, done, ...
 *   field 2 and up: about workers that died with the partition (marks.h)
 * Unknown fields are skipped.
 */
struct ackmap;

/* committed: the offset that was committed, -1 for none (the first delivery then says where the partition begins). */
struct ackmap *ackmap_new(int64_t committed);
void ackmap_free(struct ackmap *);

/* Takes over what metadata says is done, and the marks; call it before the first delivery. -1 when the text makes no sense: then nothing is taken
 * over, and what was done is done again. "" is no metadata. */
int ackmap_load(struct ackmap *, const char *metadata, struct marks *, struct error *);

/* The offset was delivered; delivered in order, those left out do not exist. False: it is done already, skip it. */
bool ackmap_deliver(struct ackmap *, int64_t offset);
/* The offset is done; again is fine, and so is one that was delivered under an earlier assignment and not yet under this one. Before anything is known of
 * the partition it is forgotten. */
void ackmap_done(struct ackmap *, int64_t offset);

/* The offset to commit: all below are done. -1: not known yet. */
int64_t ackmap_next(const struct ackmap *);
/* Offsets from there to the last one delivered. */
int64_t ackmap_span(const struct ackmap *);
bool ackmap_is_done(const struct ackmap *, int64_t offset);

/* Metadata for a commit of ackmap_next(): at most LIMIT_COMMIT_METADATA bytes; "" when there is nothing to say. When not all fits, the marks stay and
 * what is done above the offset is left out. */
void ackmap_metadata(const struct ackmap *, const struct marks *, struct buf *out);

#endif
