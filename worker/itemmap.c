#include "worker/itemmap.h"

#include "worker/core.h"

/* By the golden ratio: indices that follow each other, or each other by a stride, as a partition's do, come to lie as far apart as they can. */
static size_t home(const struct itemmap *m, int64_t index)
{
    return (size_t)((uint64_t)index * UINT64_C(0x9e3779b97f4a7c15) >> m->shift);
}

struct item *itemmap_find(const struct itemmap *m, int64_t index)
{
    if (m->count == 0)
        return NULL;
    for (size_t i = home(m, index);; i = (i + 1) & (m->cap - 1))
        if (m->slots[i] == NULL || m->slots[i]->index == index)
            return m->slots[i];
}

static void put(struct itemmap *m, struct item *item)
{
    size_t i = home(m, item->index);
    while (m->slots[i] != NULL) {
        assert(m->slots[i]->index != item->index);
        i = (i + 1) & (m->cap - 1);
    }
    m->slots[i] = item;
}

static void grow(struct itemmap *m)
{
    struct item **old = m->slots;
    size_t old_cap = m->cap;
    m->cap = old_cap ? old_cap * 2 : 256;
    m->shift = 64 - __builtin_ctzll(m->cap);
    m->slots = xcalloc(m->cap, sizeof(*m->slots));
    for (size_t i = 0; i < old_cap; i++)
        if (old[i] != NULL)
            put(m, old[i]);
    free(old);
}

void itemmap_add(struct itemmap *m, struct item *item)
{
    if (m->count >= m->cap / 2)
        grow(m);
    put(m, item);
    m->count++;
}

void itemmap_remove(struct itemmap *m, struct item *item)
{
    size_t mask = m->cap - 1, i = home(m, item->index);
    while (m->slots[i] != item) {
        assert(m->slots[i] != NULL);
        i = (i + 1) & mask;
    }
    m->count--;
    /* What probed past the hole moves into it, so that searches still end at the first empty slot. */
    for (size_t j = (i + 1) & mask; m->slots[j] != NULL; j = (j + 1) & mask) {
        size_t h = home(m, m->slots[j]->index);
        if (((j - h) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i] = NULL;
}

void itemmap_free(struct itemmap *m)
{
    free(m->slots);
    *m = (struct itemmap){0};
}
