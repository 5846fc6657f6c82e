#include "common/bq/feed.h"

#include "common/base/limits.h"
#include "common/bq/internal.h"

/* In blocks that never move, as requests under way point into them. A block begins at a multiple of its size. */
#define BLOCK (64 * 1024)
struct block {
    TAILQ_ENTRY(block) link;
    char data[BLOCK];
};

TAILQ_HEAD(block_list, block);
struct bq_feed {
    struct block_list blocks;
    int64_t from, to;          /* the bytes that are here, counted from the load's first */
    size_t chunk;
    bool ended;
    void (*kept)(void *);
    void *kept_arg;
    void (*wake)(void *);      /* the upload's: there is more */
    void *wake_arg;
};

struct bq_feed *bq_feed_new(size_t chunk, void (*kept)(void *), void *arg)
{
    assert(chunk > 0 && chunk % UPLOAD_UNIT == 0);
    struct bq_feed *f = xcalloc(1, sizeof(*f));
    TAILQ_INIT(&f->blocks);
    f->chunk = chunk;
    f->kept = kept;
    f->kept_arg = arg;
    return f;
}

static void drop_first(struct bq_feed *f)
{
    struct block *b = TAILQ_FIRST(&f->blocks);
    TAILQ_REMOVE(&f->blocks, b, link);
    free(b);
}

void bq_feed_free(struct bq_feed *f)
{
    if (f == NULL)
        return;
    assert(f->wake == NULL);
    while (!TAILQ_EMPTY(&f->blocks))
        drop_first(f);
    free(f);
}

void bq_feed_add(struct bq_feed *f, const void *data, size_t len)
{
    assert(!f->ended);
    for (const char *p = data; len > 0;) {
        size_t at = (size_t)(f->to % BLOCK), n = size_min(len, BLOCK - at);
        struct block *b = TAILQ_LAST(&f->blocks, block_list);
        if (at == 0) {
            b = xmalloc(sizeof(*b));
            TAILQ_INSERT_TAIL(&f->blocks, b, link);
        }
        memcpy(b->data + at, p, n);
        f->to += (int64_t)n;
        p += n;
        len -= n;
    }
    if (f->wake)
        f->wake(f->wake_arg);
}

void bq_feed_end(struct bq_feed *f)
{
    assert(!f->ended && f->to > 0);
    f->ended = true;
    if (f->wake)
        f->wake(f->wake_arg);
}

size_t bq_feed_held(const struct bq_feed *f)
{
    return (size_t)(f->to - f->from);
}

bool bq_feed_whole(const struct bq_feed *f)
{
    return f->from == 0;
}

bool bq_feed_ended(const struct bq_feed *f)
{
    return f->ended;
}

/* --- the upload's side ------------------------------------------------------------------------------------------------------------------- */

void feed_attach(struct bq_feed *f, void (*wake)(void *), void *arg)
{
    f->wake = wake;
    f->wake_arg = arg;
}

struct feed_state feed_state(const struct bq_feed *f)
{
    return (struct feed_state){.from = f->from, .to = f->to, .ended = f->ended, .chunk = (int64_t)f->chunk};
}

size_t feed_slices(const struct bq_feed *f, int64_t from, int64_t len, struct http_slice **slices)
{
    assert(from >= f->from && from + len <= f->to);
    *slices = xreallocarray(*slices, (size_t)len / BLOCK + 2, sizeof(**slices));
    int64_t at = f->from - f->from % BLOCK; /* of the block */
    size_t n = 0;
    const struct block *b;
    TAILQ_FOREACH(b, &f->blocks, link) {
        int64_t first = i64_max(from, at), end = i64_min(from + len, at + BLOCK);
        if (first < end)
            (*slices)[n++] = (struct http_slice){b->data + (first - at), (size_t)(end - first)};
        at += BLOCK;
    }
    return n;
}

void feed_let_go(struct bq_feed *f, int64_t to)
{
    assert(to >= f->from && to <= f->to);
    if (to == f->from)
        return;
    /* A block goes when its last byte does, and the last one when all of it is full, so that the next byte begins another. */
    for (int64_t n = to / BLOCK - f->from / BLOCK; n > 0; n--)
        drop_first(f);
    f->from = to;
    f->kept(f->kept_arg);
}
