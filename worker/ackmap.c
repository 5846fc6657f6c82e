#include "worker/ackmap.h"

#include <openssl/evp.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/limits.h"
#include "common/base/oom.h"
#include "common/fleet/wire.h"

/*
 * A bit an offset, in chunks; a chunk that is done as a whole is one shared mark. So the memory is a chunk for each unfinished item at worst (these are
 * bounded by the intake) and a pointer for each CHUNK_BITS offsets of a backlog behind a slow item.
 */
#define CHUNK_BITS 4096
#define CHUNK_WORDS (CHUNK_BITS / 64)
#define FORMAT_VERSION '1'
#define FIELD_RUNS 1
#define FIELDS_MOST (LIMIT_ACK_RUNS + 32 + MARKS_MOST)

struct chunk {
    uint64_t bits[CHUNK_WORDS];
    int done;
};
static struct chunk all_done; /* stands for any chunk without a gap */

struct ackmap {
    int64_t base;  /* all below are done; -1: not known */
    int64_t end;   /* the next offset that is expected */
    int64_t first; /* of the offset that chunks[head] begins with */
    int64_t top;   /* above the highest offset that was ever marked */
    struct chunk **chunks; /* NULL: nothing in it is done */
    size_t head, count, cap;
};

struct ackmap *ackmap_new(int64_t committed)
{
    struct ackmap *m = xcalloc(1, sizeof(*m));
    m->base = m->end = m->top = committed;
    m->first = committed < 0 ? 0 : committed - committed % CHUNK_BITS;
    return m;
}

static void chunk_free(struct chunk *c)
{
    if (c != &all_done)
        free(c);
}

void ackmap_free(struct ackmap *m)
{
    if (m == NULL)
        return;
    for (size_t i = m->head; i < m->count; i++)
        chunk_free(m->chunks[i]);
    free(m->chunks);
    free(m);
}

/* The slot of the chunk that holds the offset; the list grows to it. */
static struct chunk **slot_of(struct ackmap *m, int64_t offset)
{
    size_t at = m->head + (size_t)((offset - m->first) / CHUNK_BITS);
    if (at >= m->cap) {
        size_t kept = m->count - m->head, need = at - m->head + 1;
        if (m->head > 0 && kept > 0)
            memmove(m->chunks, m->chunks + m->head, kept * sizeof(*m->chunks));
        at -= m->head;
        m->head = 0;
        m->count = kept;
        if (need > m->cap) {
            m->cap = size_max(need, m->cap * 2);
            m->chunks = xreallocarray(m->chunks, m->cap, sizeof(*m->chunks));
        }
    }
    while (m->count <= at)
        m->chunks[m->count++] = NULL;
    return &m->chunks[at];
}

static const struct chunk *chunk_of(const struct ackmap *m, int64_t offset)
{
    size_t at = m->head + (size_t)((offset - m->first) / CHUNK_BITS);
    return at < m->count ? m->chunks[at] : NULL;
}

static bool bit_of(const struct ackmap *m, int64_t offset)
{
    const struct chunk *c = chunk_of(m, offset);
    if (c == NULL || c == &all_done)
        return c != NULL;
    size_t bit = (size_t)(offset - m->first) % CHUNK_BITS;
    return (c->bits[bit / 64] >> (bit % 64) & 1) != 0;
}

bool ackmap_is_done(const struct ackmap *m, int64_t offset)
{
    return m->base >= 0 && (offset < m->base || bit_of(m, offset));
}

static void mark_one(struct ackmap *m, int64_t offset)
{
    struct chunk **slot = slot_of(m, offset);
    if (*slot == &all_done)
        return;
    if (*slot == NULL)
        *slot = xcalloc(1, sizeof(**slot));
    size_t bit = (size_t)(offset - m->first) % CHUNK_BITS;
    uint64_t mask = UINT64_C(1) << (bit % 64);
    if ((*slot)->bits[bit / 64] & mask)
        return;
    (*slot)->bits[bit / 64] |= mask;
    if (++(*slot)->done == CHUNK_BITS) {
        free(*slot);
        *slot = &all_done;
    }
}

static void mark_range(struct ackmap *m, int64_t from, int64_t to)
{
    if (from < to && to > m->top)
        m->top = to;
    while (from < to) {
        if (from % CHUNK_BITS == 0 && to - from >= CHUNK_BITS) {
            struct chunk **slot = slot_of(m, from);
            chunk_free(*slot);
            *slot = &all_done;
            from += CHUNK_BITS;
        } else {
            mark_one(m, from++);
        }
    }
}

/* Where the run of equal bits that holds the offset ends, at most at limit. */
static int64_t run_end(const struct ackmap *m, int64_t offset, bool done, int64_t limit)
{
    while (offset < limit) {
        const struct chunk *c = chunk_of(m, offset);
        size_t bit = (size_t)(offset - m->first) % CHUNK_BITS;
        if (c == NULL || c == &all_done) {
            if ((c != NULL) != done)
                return offset;
            offset += CHUNK_BITS - (int64_t)bit;
            continue;
        }
        uint64_t word = (done ? ~c->bits[bit / 64] : c->bits[bit / 64]) >> (bit % 64);
        if (word != 0)
            return i64_min(offset + __builtin_ctzll(word), limit);
        offset += 64 - (int64_t)(bit % 64);
    }
    return limit;
}

static void advance(struct ackmap *m)
{
    m->base = run_end(m, m->base, true, m->top > m->base ? m->top : m->base);
    if (m->end < m->base)
        m->end = m->base;
    while (m->base - m->first >= CHUNK_BITS && m->head < m->count) {
        chunk_free(m->chunks[m->head]);
        m->head++;
        m->first += CHUNK_BITS;
    }
    if (m->head == m->count) {
        m->head = m->count = 0;
        m->first = m->base - m->base % CHUNK_BITS;
    }
}

bool ackmap_deliver(struct ackmap *m, int64_t offset)
{
    assert(offset >= 0);
    if (m->base < 0) {
        m->base = m->end = m->top = offset;
        m->first = offset - offset % CHUNK_BITS;
    }
    if (offset < m->base)
        return false;
    if (offset > m->end) { /* left out: deleted by retention, or no message at all */
        mark_range(m, m->end, offset);
        advance(m);
    }
    if (offset >= m->end)
        m->end = offset + 1;
    return !ackmap_is_done(m, offset);
}

void ackmap_done(struct ackmap *m, int64_t offset)
{
    if (m->base < 0 || offset < m->base)
        return;
    mark_range(m, offset, offset + 1);
    if (offset == m->base)
        advance(m);
}

int64_t ackmap_next(const struct ackmap *m)
{
    return m->base;
}

int64_t ackmap_span(const struct ackmap *m)
{
    return m->base < 0 ? 0 : i64_max(m->end, m->top) - m->base;
}

/* --- the metadata ------------------------------------------------------------------------------------------------------------- */

static int encode_runs(const struct ackmap *m, struct buf *out)
{
    bool done = false;
    for (int64_t at = m->base; at < m->top; done = !done) {
        int64_t to = run_end(m, at, done, m->top);
        if (out->len + 10 > out->max)
            return -1;
        wire_varint(out, (uint64_t)(to - at));
        at = to;
    }
    return 0;
}

static int put_runs(const struct ackmap *m, struct buf *fields)
{
    struct buf runs = BUF_INIT(LIMIT_ACK_RUNS);
    int rc = encode_runs(m, &runs);
    if (rc == 0)
        wire_put_bytes(fields, FIELD_RUNS, runs.data, runs.len);
    buf_free(&runs);
    return rc;
}

static int pack(const struct buf *fields, struct buf *out)
{
    unsigned char packed[LIMIT_COMMIT_METADATA];
    size_t n = ZSTD_compress(packed, (LIMIT_COMMIT_METADATA - 1) / 4 * 3, fields->data, fields->len, 3);
    if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
        out_of_memory("a commit's metadata");
    if (ZSTD_isError(n))
        return -1;
    unsigned char text[LIMIT_COMMIT_METADATA + 4];
    int len = EVP_EncodeBlock(text, packed, (int)n);
    buf_xprintf(out, "%c%.*s", FORMAT_VERSION, len, (const char *)text);
    return 0;
}

void ackmap_metadata(const struct ackmap *m, const struct marks *marks, struct buf *out)
{
    buf_clear(out);
    buf_xputs(out, "");
    if (m->base < 0)
        return;
    struct buf fields = BUF_INIT(FIELDS_MOST);
    marks_put(marks, m->base, &fields);
    size_t marks_len = fields.len;
    bool fits = m->top > m->base && put_runs(m, &fields) == 0 && pack(&fields, out) == 0;
    if (!fits && marks_len > 0) {
        fields.len = marks_len;
        int rc = pack(&fields, out);
        assert(rc == 0); /* they are a few hundred bytes */
        (void)rc;
    }
    buf_free(&fields);
    assert(out->len <= LIMIT_COMMIT_METADATA);
}

static int bad(struct error *err, const char *what)
{
    return error_set(err, ERR_TASK, 0, "the commit's metadata %s: what was done above the committed offset is done again", what);
}

/* Adds up the lengths first, so that nothing of a text that makes no sense is taken over. */
static int take_runs(struct ackmap *m, const unsigned char *data, size_t len, bool mark, struct error *err)
{
    struct wire w = {.p = data, .end = data + len};
    int64_t at = m->base;
    for (bool done = false; w.p < w.end; done = !done) {
        uint64_t n;
        if (wire_get_varint(&w, &n) != 0 || n > (uint64_t)LIMIT_ACK_SPAN || at - m->base + (int64_t)n > LIMIT_ACK_SPAN)
            return bad(err, "has lengths that cannot be");
        if (mark && done)
            mark_range(m, at, at + (int64_t)n);
        at += (int64_t)n;
    }
    return 0;
}

static int take_fields(struct ackmap *m, const struct buf *fields, bool mark, struct marks *marks, struct error *err)
{
    struct wire w = {.p = (const unsigned char *)fields->data, .end = (const unsigned char *)fields->data + fields->len};
    struct wire_field f;
    int rc;
    while ((rc = wire_next(&w, &f)) == 1) {
        if (f.field == FIELD_RUNS && f.is_bytes && take_runs(m, f.data, f.len, mark, err) != 0)
            return -1;
        if (marks_take(marks, &f, m->base) != 0)
            return bad(err, "says of workers that died what cannot be");
    }
    return rc == 0 ? 0 : bad(err, "is malformed");
}

static int unpack(const char *text, struct buf *fields, struct error *err)
{
    size_t len = strlen(text);
    if (len > LIMIT_COMMIT_METADATA || len % 4 != 0 || len == 0)
        return bad(err, "is no base64");
    unsigned char packed[LIMIT_COMMIT_METADATA];
    int n = EVP_DecodeBlock(packed, (const unsigned char *)text, (int)len);
    for (size_t i = len; n > 0 && i-- > len - 2 && text[i] == '=';)
        n--; /* the decoder counts the padding */
    if (n <= 0)
        return bad(err, "is no base64");
    char *room = buf_reserve(fields, FIELDS_MOST);
    assert(room != NULL);
    size_t plain = ZSTD_decompress(room, FIELDS_MOST, packed, (size_t)n);
    if (ZSTD_getErrorCode(plain) == ZSTD_error_memory_allocation)
        out_of_memory("a commit's metadata"); /* and not malformed: deaths that were counted would be forgotten */
    if (ZSTD_isError(plain))
        return bad(err, "does not unpack");
    fields->len = plain;
    return 0;
}

int ackmap_load(struct ackmap *m, const char *metadata, struct marks *marks, struct error *err)
{
    assert(m->count == 0 && m->end == m->base);
    marks_init(marks);
    if (metadata == NULL || metadata[0] == '\0' || m->base < 0)
        return 0;
    if (metadata[0] != FORMAT_VERSION)
        return bad(err, "is of a version that is not known here");
    struct buf fields = BUF_INIT(FIELDS_MOST + 64);
    int rc = unpack(metadata + 1, &fields, err);
    if (rc == 0)
        rc = take_fields(m, &fields, false, marks, err);
    if (rc == 0)
        rc = take_fields(m, &fields, true, marks, err);
    buf_free(&fields);
    if (rc != 0)
        marks_init(marks);
    else
        advance(m);
    return rc;
}
