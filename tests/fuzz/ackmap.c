#include "worker/ackmap.h"

#include <openssl/evp.h>
#include <zstd.h>

#include "tests/fuzz/fuzz.h"

/*
 * The metadata of commits: as text, or as fields that are packed here as the product packs them (no mutation gets through a compressor and base64).
 * What was taken over is said again by the next commit, and read back is the same; then items are delivered and done, against a naive account.
 */

enum { OFFSETS = 512 };
#define BASE INT64_C(1000)

static char *pack(const uint8_t *p, size_t n)
{
    size_t bound = ZSTD_compressBound(n);
    AUTO(free_ptr) unsigned char *small = xmalloc(bound);
    size_t len = ZSTD_compress(small, bound, p, n, 1);
    CHECK(!ZSTD_isError(len));
    char *text = xmalloc(2 + (len + 2) / 3 * 4);
    text[0] = '1';
    text[1] = '\0';
    if (len > 0)
        CHECK(EVP_EncodeBlock((unsigned char *)text + 1, small, (int)len) > 0);
    return text;
}

/* A commit made now, read by the next holder: it knows the same. */
static void hand_over(const struct ackmap *m, const struct marks *marks)
{
    struct buf out = BUF_INIT(LIMIT_COMMIT_METADATA), again = BUF_INIT(LIMIT_COMMIT_METADATA);
    struct error err = ERROR_INIT;
    struct marks read;
    marks_init(&read);
    ackmap_metadata(m, marks, &out);
    CHECK(out.len <= LIMIT_COMMIT_METADATA);
    struct ackmap *next = ackmap_new(ackmap_next(m));
    CHECK(ackmap_load(next, out.len > 0 ? out.data : "", &read, &err) == 0);
    for (int64_t i = 0; i < OFFSETS; i++)
        CHECK(!ackmap_is_done(next, BASE + i) || ackmap_is_done(m, BASE + i)); /* a map that does not fit is left out */
    ackmap_metadata(next, &read, &again);
    CHECK(again.len == out.len && (out.len == 0 || memcmp(again.data, out.data, out.len) == 0));
    CHECK(read.takeovers == (marks->until > ackmap_next(m) ? marks->takeovers : 0) && strcmp(read.holder, marks->holder) == 0);
    ackmap_free(next);
    buf_free(&out);
    buf_free(&again);
}

static void work(struct ackmap *m, struct marks *marks, struct input *in)
{
    bool delivered[OFFSETS] = {false}, done[OFFSETS] = {false};
    int64_t at = 0;
    while (input_left(in) > 0 && at < OFFSETS - 1) {
        unsigned op = input_byte(in);
        int64_t k = input_small(in, OFFSETS);
        if (op % 4 == 0) {
            at = i64_min(at + (k < 32 ? k : 0), OFFSETS - 1); /* a gap: these do not exist */
            bool before = ackmap_is_done(m, BASE + at);
            CHECK(ackmap_deliver(m, BASE + at) == !before);
            delivered[at++] = true;
        } else if (op % 4 == 1 && delivered[k]) {
            ackmap_done(m, BASE + k);
            done[k] = true;
        } else if (op % 16 == 2) {
            (void)marks_take_over(marks, "abcdefghij", i64_max(ackmap_next(m), 0), BASE + at);
        } else if (op % 16 == 3) {
            marks_pass(marks, i64_max(ackmap_next(m), 0));
        }
    }
    for (int64_t i = 0; i < OFFSETS; i++)
        CHECK(!done[i] || ackmap_is_done(m, BASE + i));
}

FUZZ(ackmap)
{
    struct input in = input_of(data, size);
    unsigned how = input_byte(&in);
    size_t len = size_min(input_byte(&in), input_left(&in));
    AUTO(free_ptr) char *text = how & 1 ? pack(in.p, len) : xstrndup(len > 0 ? (const char *)in.p : "", len);
    in.p += len;
    struct error err = ERROR_INIT;
    struct marks marks;
    marks_init(&marks);
    struct ackmap *m = ackmap_new(how & 2 ? -1 : BASE);
    if (ackmap_load(m, text, &marks, &err) != 0)
        CHECK(err.text[0] != '\0' && !ackmap_is_done(m, BASE + 1) && marks.takeovers == 0 && marks.suspects.count == 0);
    if (!(how & 2))
        hand_over(m, &marks);
    work(m, &marks, &in);
    if (ackmap_next(m) >= 0)
        hand_over(m, &marks);
    ackmap_free(m);
}
