#include "common/fleet/logmsg.h"
#include "common/fleet/wire.h"

void ranges_add(struct ranges *r, int64_t item)
{
    if (r->count > 0) {
        struct item_range *last = &r->v[r->count - 1];
        if (item == last->first + last->count) {
            last->count++;
            return;
        }
    }
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->v = xreallocarray(r->v, r->cap, sizeof(*r->v));
    }
    r->v[r->count++] = (struct item_range){.first = item, .count = 1};
}

static int by_first(const void *a, const void *b)
{
    const struct item_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

void ranges_sort(struct ranges *r)
{
    if (r->count == 0)
        return;
    qsort(r->v, r->count, sizeof(*r->v), by_first);
    size_t n = 0;
    for (size_t i = 1; i < r->count; i++) {
        struct item_range *last = &r->v[n];
        int64_t end = last->first + last->count;
        if (r->v[i].first > end)
            r->v[++n] = r->v[i];
        else
            last->count = i64_max(end, r->v[i].first + r->v[i].count) - last->first;
    }
    r->count = n + 1;
}

int64_t ranges_items(const struct item_range *v, size_t count)
{
    int64_t items = 0;
    for (size_t i = 0; i < count; i++)
        items += v[i].count;
    return items;
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

size_t ranges_encoded_size(const struct item_range *v, size_t count)
{
    size_t size = 0;
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size += varint_size((uint64_t)(v[i].first - at)) + varint_size((uint64_t)v[i].count);
        at = v[i].first + v[i].count;
    }
    return size;
}

void ranges_free(struct ranges *r)
{
    free(r->v);
    *r = (struct ranges){.v = NULL};
}
