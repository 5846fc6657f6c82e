#include "worker/itemmap.h"

#include "worker/core.h"

/* Neighbouring indices go to neighbouring slots: items come in blocks, and so do their lookups. */
static size_t home(const struct itemmap *m, int64_t index)
{
    uint64_t block = (uint64_t)index >> 6;
    return (size_t)((block * UINT64_C(0x9e3779b97f4a7c15) >> 20) + ((uint64_t)index & 63)) & (m->cap - 1);
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
