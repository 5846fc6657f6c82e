#ifndef BQF_COORDINATOR_ITEMSET_H
#define BQF_COORDINATOR_ITEMSET_H

#include "common/base/base.h"

/* A set of items, one bit each up to the highest. {0} is the empty one. */
struct itemset { uint64_t *v; int64_t len /* in bits */, count; };

static inline bool itemset_has(const struct itemset *s, int64_t item)
{
    return item >= 0 && item < s->len && (s->v[item / 64] >> (item % 64) & 1) != 0;
}

static inline void itemset_add(struct itemset *s, int64_t item)
{
    assert(item >= 0);
    if (item >= s->len) {
        int64_t words = i64_max(item / 64 + 1, s->len / 64 * 2);
        s->v = xreallocarray(s->v, (size_t)words, sizeof(*s->v));
        memset(s->v + s->len / 64, 0, (size_t)(words - s->len / 64) * sizeof(*s->v));
        s->len = words * 64;
    }
    s->count += !itemset_has(s, item);
    s->v[item / 64] |= UINT64_C(1) << (item % 64);
}

static inline void itemset_remove(struct itemset *s, int64_t item)
{
    if (!itemset_has(s, item))
        return;
    s->v[item / 64] &= ~(UINT64_C(1) << (item % 64));
    s->count--;
}

/* The first one; -1: it is empty. */
static inline int64_t itemset_first(const struct itemset *s)
{
    for (int64_t i = 0; i < s->len / 64; i++)
        if (s->v[i] != 0)
            return i * 64 + __builtin_ctzll(s->v[i]);
    return -1;
}

static inline void itemset_free(struct itemset *s)
{
    free(s->v);
    *s = (struct itemset){0};
}

#endif
