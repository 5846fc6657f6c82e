#ifndef BQF_WORKER_ITEMMAP_H
#define BQF_WORKER_ITEMMAP_H

#include "common/base/base.h"

/* The unfinished items of a run by their index. Items are chained by themselves, so that one costs no allocation here, and leaves without its neighbours. */
struct item;
struct itemmap { struct item **slots; size_t cap, count; int shift; }; /* cap: a power of two, or 0 */

struct item *itemmap_find(const struct itemmap *, int64_t index);
void itemmap_add(struct itemmap *, struct item *); /* none of that index may be in it */
void itemmap_remove(struct itemmap *, struct item *);
void itemmap_free(struct itemmap *);

#endif
