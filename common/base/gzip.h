#ifndef BQF_BASE_GZIP_H
#define BQF_BASE_GZIP_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* Text as one gzip member that grows piece by piece. Level 1: it is for links slower than that. The same pieces give the same bytes. */
struct gzip;
struct gzip *gzip_new(void);
void gzip_free(struct gzip *); /* NULL allowed */
/* Appends what is ready of the member to out; what a piece adds may come with a later one. Out's ceiling must be above GZIP_MOST(all bytes so far). */
void gzip_add(struct gzip *, const void *data, size_t len, struct buf *out);
void gzip_end(struct gzip *, struct buf *out); /* the rest; nothing may be added afterwards */
#define GZIP_MOST(len) ((len) + (len) / 512 + 2 * 65536) /* bytes, of text that does not compress, and the place that is made at a time */

bool gzip_is(const void *data, size_t len);
/* Appends what is in a member (or in several): 0, -1 with ERR_TASK when it is damaged or out's ceiling is reached. */
int gunzip(const void *data, size_t len, struct buf *out, struct error *) MUST_CHECK;

#endif
