#include "worker/itemmap.h"

#include "worker/core.h"

/* Neighbours go to neighbouring slots, as items come in blocks, and so do their lookups; the blocks are spread by the golden ratio. Where two of them, or a
 * partition's stride, meet in a slot, there is only a chain of two. */
static size_t home(const struct itemmap *m, int64_t index)
{
    uint64_t block = (uint64_t)index >> 6;
    return ((size_t)(block * UINT64_C(0x9e3779b97f4a7c15) >> m->shift) + ((size_t)index & 63)) & (m->cap - 1);
}

struct item *itemmap_find(const struct itemmap *m, int64_t index)
{
    struct item *item = m->count > 0 ? m->slots[home(m, index)] : NULL;
    while (item != NULL && item->index != index)
        item = item->map_next;
    return item;
}

static void put(struct itemmap *m, struct item *item)
{
    struct item **slot = &m->slots[home(m, item->index)];
    item->map_next = *slot;
    *slot = item;
}

static void grow(struct itemmap *m)
{
    struct item **old = m->slots;
    size_t old_cap = m->cap;
    m->cap = old_cap ? old_cap * 2 : 256;
    m->shift = 64 - __builtin_ctzll(m->cap);
    m->slots = xcalloc(m->cap, sizeof(*m->slots));
    for (size_t i = 0; i < old_cap; i++) {
        struct item *next;
        for (struct item *item = old[i]; item != NULL; item = next) {
            next = item->map_next;
            put(m, item);
        }
    }
    free(old);
}

void itemmap_add(struct itemmap *m, struct item *item)
{
    assert(itemmap_find(m, item->index) == NULL);
    if (m->count >= m->cap)
        grow(m);
    put(m, item);
    m->count++;
}

void itemmap_remove(struct itemmap *m, struct item *item)
{
    struct item **at = &m->slots[home(m, item->index)];
    while (*at != item) {
        assert(*at != NULL);
        at = &(*at)->map_next;
    }
    *at = item->map_next;
    m->count--;
}

void itemmap_free(struct itemmap *m)
{
    free(m->slots);
    *m = (struct itemmap){0};
}
