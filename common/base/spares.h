#ifndef BQF_BASE_SPARES_H
#define BQF_BASE_SPARES_H

#include "common/base/base.h"

/*
 * Memory of small objects that come and go by the ten thousand, first in, first out: the allocator would merge and split their blocks each time. What is
 * given back is kept for the next one of its size, up to LIMIT_SPARES bytes in all. With AddressSanitizer nothing is kept, so that it sees every object's end.
 */
#define SPARES_STEP 64  /* bytes between two sizes */
#define SPARES_SIZES 16 /* larger ones than all of them go straight to the allocator */
struct spare { struct spare *next; };
struct spares { struct spare *lists[SPARES_SIZES]; size_t kept; /* bytes */ };

void *spares_take(struct spares *, size_t size);      /* uninitialised */
void spares_give(struct spares *, void *, size_t size); /* the size that it was taken with */
void spares_free(struct spares *);

#endif
