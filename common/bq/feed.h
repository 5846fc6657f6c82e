#ifndef BQF_BQ_FEED_H
#define BQF_BQ_FEED_H

#include "common/base/base.h"

/*
 * The bytes of a load that is sent while they come (bq_job_spec.feed): what its maker adds stays here until the service says that it has it. They go in
 * chunks of one size; one is sent while the next gathers, so a maker that waits while bq_feed_held() is two chunks or more keeps no more than that, and
 * always waits for the service alone: beyond one chunk there is something to send. Loop thread only.
 */
struct bq_feed;
/* chunk: bytes, a multiple of UPLOAD_UNIT. kept(arg): some bytes were let go; never from inside a call of the maker's. */
struct bq_feed *bq_feed_new(size_t chunk, void (*kept)(void *), void *arg);
void bq_feed_free(struct bq_feed *); /* after its job's end. NULL allowed */
void bq_feed_add(struct bq_feed *, const void *, size_t);
void bq_feed_end(struct bq_feed *);  /* that was all: the last chunk goes, and with it the job begins. At least one byte was added */
size_t bq_feed_held(const struct bq_feed *);  /* bytes that are here */
bool bq_feed_whole(const struct bq_feed *);   /* none was let go: the load can still be begun anew */
bool bq_feed_ended(const struct bq_feed *);

#endif
