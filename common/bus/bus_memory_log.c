#include "common/bus/bus_memory.h"

/*
 * Messages lie one after another in blocks that never move, so that a delivery is a pointer and publishing is a copy; a block is freed as
 * a whole. A partition's blocks grow from small to large: most topics hold a handful of messages, a work topic holds a million.
 */

#define SEG_FIRST 4096          /* bytes of a partition's first block */
#define SEG_LARGEST (256 * 1024)/* and of a usual later one; a larger message gets a block of its own */
#define NO_BYTES UINT32_MAX     /* as a length: NULL, which is not the same as empty */

struct mem_seg {
    int64_t base, end;  /* offsets */
    int64_t newest_ms;  /* the greatest time of its messages */
    size_t used, size;
    TAILQ_ENTRY(mem_seg) link;
    _Alignas(16) char data[];
};

struct mem_entry {
    int64_t time_ms;
    uint32_t key_len, value_len;
    char data[];
};

void mem_part_init(struct mem_part *p, struct mem_topic *topic, int32_t index)
{
    *p = (struct mem_part){.topic = topic, .index = index};
    TAILQ_INIT(&p->segs);
    TAILQ_INIT(&p->readers);
}

void mem_part_fini(struct mem_part *p)
{
    struct mem_seg *seg;
    while ((seg = TAILQ_FIRST(&p->segs)) != NULL) {
        TAILQ_REMOVE(&p->segs, seg, link);
        free(seg);
    }
}

static struct mem_seg *seg_with_room(struct mem_part *p, size_t need)
{
    struct mem_seg *last = TAILQ_LAST(&p->segs, mem_segs);
    if (last != NULL && last->end == p->end && last->size - last->used >= need)
        return last;
    size_t size = last == NULL ? SEG_FIRST : size_min(SEG_LARGEST, last->size * 2);
    size = size_max(size, need);
    struct mem_seg *seg = xmalloc(sizeof(*seg) + size);
    *seg = (struct mem_seg){.base = p->end, .end = p->end, .newest_ms = INT64_MIN, .size = size};
    TAILQ_INSERT_TAIL(&p->segs, seg, link);
    return seg;
}

static size_t entry_size(uint32_t key_len, uint32_t value_len)
{
    size_t bytes = (key_len == NO_BYTES ? 0 : key_len) + (size_t)(value_len == NO_BYTES ? 0 : value_len);
    return (sizeof(struct mem_entry) + bytes + 7) & ~(size_t)7;
}

int64_t mem_part_append(struct mem_part *p, const struct bus_out *out, int64_t time_ms)
{
    uint32_t key_len = out->key ? (uint32_t)out->key_len : NO_BYTES;
    uint32_t value_len = out->value ? (uint32_t)out->value_len : NO_BYTES;
    size_t size = entry_size(key_len, value_len);
    struct mem_seg *seg = seg_with_room(p, size);
    struct mem_entry *e = (struct mem_entry *)(void *)(seg->data + seg->used);
    *e = (struct mem_entry){.time_ms = time_ms, .key_len = key_len, .value_len = value_len};
    size_t at = 0;
    if (out->key != NULL && out->key_len > 0) {
        memcpy(e->data, out->key, out->key_len);
        at = out->key_len;
    }
    if (out->value != NULL && out->value_len > 0)
        memcpy(e->data + at, out->value, out->value_len);
    seg->used += size;
    seg->newest_ms = i64_max(seg->newest_ms, time_ms);
    seg->end = ++p->end;
    return p->end - 1;
}

static const struct mem_entry *entry_at(const struct mem_seg *seg, size_t pos)
{
    return (const struct mem_entry *)(const void *)(seg->data + pos);
}

/* Finds the block of the cursor's offset and walks to its place in it. */
static void cursor_find(struct mem_part *p, struct mem_cursor *c)
{
    struct mem_seg *seg = TAILQ_FIRST(&p->segs);
    while (seg != NULL && seg->end <= c->next)
        seg = TAILQ_NEXT(seg, link);
    assert(seg != NULL);
    c->seg = seg;
    c->pos = 0;
    for (int64_t offset = seg->base; offset < c->next; offset++) {
        const struct mem_entry *e = entry_at(seg, c->pos);
        c->pos += entry_size(e->key_len, e->value_len);
    }
}

void mem_part_read(struct mem_part *p, struct mem_cursor *c, struct bus_msg *msg)
{
    assert(c->next >= p->low && c->next < p->end);
    if (c->seg != NULL && c->next >= c->seg->end) {
        c->seg = TAILQ_NEXT(c->seg, link);
        c->pos = 0;
    }
    if (c->seg == NULL)
        cursor_find(p, c);
    c->next = i64_max(c->next, c->seg->base); /* offsets before it are no messages */
    const struct mem_entry *e = entry_at(c->seg, c->pos);
    size_t key_len = e->key_len == NO_BYTES ? 0 : e->key_len;
    *msg = (struct bus_msg){
        .topic = p->topic->info.name, .partition = p->index, .offset = c->next, .time_ms = e->time_ms,
        .key = e->key_len == NO_BYTES ? NULL : e->data, .key_len = key_len,
        .value = e->value_len == NO_BYTES ? NULL : e->data + key_len, .value_len = e->value_len == NO_BYTES ? 0 : e->value_len,
    };
    c->pos += entry_size(e->key_len, e->value_len);
    c->next++;
}

int64_t mem_part_at_time(struct mem_part *p, int64_t time_ms)
{
    struct mem_seg *seg;
    TAILQ_FOREACH(seg, &p->segs, link) {
        if (seg->newest_ms < time_ms)
            continue;
        size_t pos = 0;
        for (int64_t offset = seg->base; offset < i64_min(seg->end, p->visible); offset++) {
            const struct mem_entry *e = entry_at(seg, pos);
            if (e->time_ms >= time_ms)
                return offset;
            pos += entry_size(e->key_len, e->value_len);
        }
    }
    return p->visible;
}

void mem_part_trim(struct mem_part *p, int64_t offset)
{
    struct mem_seg *seg;
    while ((seg = TAILQ_FIRST(&p->segs)) != NULL && seg->end <= offset && TAILQ_NEXT(seg, link) != NULL) {
        struct mem_reader *r;
        TAILQ_FOREACH(r, &p->readers, part_link)
            if (r->cursor.seg == seg)
                r->cursor.seg = NULL;
        TAILQ_REMOVE(&p->segs, seg, link);
        p->low = i64_max(p->low, seg->end);
        free(seg);
    }
}
