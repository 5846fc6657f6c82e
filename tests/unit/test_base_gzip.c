#include "common/base/gzip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define MOST (8 * 1024 * 1024)

/* As a load's body is: pieces of any size, also none. */
static void pack(const char *data, size_t len, size_t piece, struct buf *out)
{
    struct gzip *g = gzip_new();
    for (size_t at = 0; at < len; at += piece)
        gzip_add(g, data + at, size_min(piece, len - at), out);
    gzip_end(g, out);
    gzip_free(g);
}

static struct buf rows(size_t len)
{
    struct buf b = BUF_INIT(MOST);
    for (int64_t i = 0; b.len < len; i++)
        buf_xprintf(&b, "{\"k\":\"key-%" PRId64 "\",\"v\":%" PRId64 "}\n", i, i * 7919 % 1000);
    return b;
}

static void what_was_packed_in_pieces_comes_out_whole(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t len = 0; len < 3000000; len = len * 3 + 1) {
        struct buf text = rows(len), packed = BUF_INIT(GZIP_MOST(MOST)), again = BUF_INIT(GZIP_MOST(MOST)), back = BUF_INIT(text.len + 1);
        pack(text.data, text.len, 1 + len / 7, &packed);
        pack(text.data, text.len, 1 + len / 7, &again);
        assert_int_equal(packed.len, again.len);
        assert_memory_equal(packed.data, again.data, packed.len);
        assert_true(gzip_is(packed.data, packed.len));
        assert_int_equal(gunzip(packed.data, packed.len, &back, &err), 0);
        assert_int_equal(back.len, text.len);
        if (text.len > 0)
            assert_memory_equal(back.data, text.data, text.len);
        if (text.len > 10000)
            assert_true(packed.len < text.len / 3);
        buf_free(&text);
        buf_free(&packed);
        buf_free(&again);
        buf_free(&back);
    }
}

static void noise_stays_below_the_promised_ceiling(void **state)
{
    (void)state;
    struct buf noise = BUF_INIT(MOST), packed = BUF_INIT(GZIP_MOST(1000000)), back = BUF_INIT(MOST);
    struct error err = ERROR_INIT;
    for (uint32_t r = 1, i = 0; i < 250000; i++) {
        r = r * 1664525U + 1013904223U;
        uint32_t mixed = r ^ r >> 15;
        buf_xadd(&noise, &mixed, sizeof(mixed));
    }
    pack(noise.data, noise.len, 1, &packed);
    assert_int_equal(gunzip(packed.data, packed.len, &back, &err), 0);
    assert_memory_equal(back.data, noise.data, noise.len);
    buf_free(&noise);
    buf_free(&packed);
    buf_free(&back);
}

static void members_one_behind_the_other_are_one_text(void **state)
{
    (void)state;
    struct buf packed = BUF_INIT(GZIP_MOST(MOST)), back = BUF_INIT(100);
    struct error err = ERROR_INIT;
    pack("one\n", 4, 4, &packed);
    pack("two\n", 4, 1, &packed);
    assert_int_equal(gunzip(packed.data, packed.len, &back, &err), 0);
    assert_string_equal(back.data, "one\ntwo\n");
    buf_free(&packed);
    buf_free(&back);
}

static void what_is_damaged_is_an_error(void **state)
{
    (void)state;
    struct buf text = rows(100000), packed = BUF_INIT(GZIP_MOST(MOST)), back = BUF_INIT(MOST), small = BUF_INIT(text.len / 2);
    struct error err = ERROR_INIT;
    pack(text.data, text.len, 1000, &packed);
    for (size_t cut = 1; cut < packed.len; cut += 997) {
        buf_clear(&back);
        assert_int_equal(gunzip(packed.data, packed.len - cut, &back, &err), -1);
    }
    assert_int_equal(gunzip(packed.data, packed.len, &small, &err), -1); /* beyond its ceiling */
    packed.data[packed.len / 2] ^= 0x55;
    buf_clear(&back);
    assert_int_equal(gunzip(packed.data, packed.len, &back, &err), -1);
    assert_false(gzip_is("{\"k\":1}", 7));
    assert_false(gzip_is("\x1f", 1));
    buf_free(&text);
    buf_free(&packed);
    buf_free(&back);
    buf_free(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_in_pieces_comes_out_whole),
        cmocka_unit_test(noise_stays_below_the_promised_ceiling),
        cmocka_unit_test(members_one_behind_the_other_are_one_text),
        cmocka_unit_test(what_is_damaged_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
