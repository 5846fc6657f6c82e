#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/base/rnd.h"
#include "common/fleet/envelope.h"

static void round_trip(const char *run, int64_t item, const char *key, const char *payload, size_t len)
{
    struct buf b = BUF_INIT(2 << 20), scratch = BUF_INIT(2 << 20);
    struct error err = ERROR_INIT;
    struct envelope in = {.run = run, .run_len = strlen(run), .item = item, .key = key, .key_len = strlen(key), .payload = payload, .payload_len = len};
    struct envelope out;
    assert_int_equal(envelope_encode(&in, &b, &err), 0);
    assert_int_equal(envelope_decode(b.data, b.len, &scratch, &out, &err), 0);
    assert_int_equal(out.item, item);
    assert_int_equal(out.run_len, in.run_len);
    assert_memory_equal(out.run, run, in.run_len);
    assert_int_equal(out.key_len, in.key_len);
    assert_memory_equal(out.key, key, in.key_len);
    assert_int_equal(out.payload_len, len);
    assert_memory_equal(out.payload, payload, len);
    buf_free(&b);
    buf_free(&scratch);
}

static void what_was_put_in_comes_out(void **state)
{
    (void)state;
    round_trip("r", 0, "", "", 0);
    round_trip("01hzx", 999999999, "player-7", "{\"a\":1}", 7);
    AUTO(free_ptr) char *big = xmalloc(LIMIT_PAYLOAD);
    memset(big, 'x', LIMIT_PAYLOAD);
    round_trip("run", 5, "k", big, LIMIT_PAYLOAD);
    struct rnd rnd;
    rnd_seeded(&rnd, 7);
    rnd.fill(&rnd, big, 5000); /* does not compress */
    round_trip("run", 5, "k", big, 5000);
}

static void a_compressible_payload_is_stored_smaller(void **state)
{
    (void)state;
    char payload[2000];
    memset(payload, 'a', sizeof(payload));
    struct buf b = BUF_INIT(1 << 20);
    struct envelope e = {.run = "r", .run_len = 1, .payload = payload, .payload_len = sizeof(payload)};
    assert_int_equal(envelope_encode(&e, &b, NULL), 0);
    assert_true(b.len < 200);
    buf_free(&b);
}

static void an_item_over_a_limit_is_refused_with_its_size(void **state)
{
    (void)state;
    AUTO(free_ptr) char *big = xcalloc(1, LIMIT_PAYLOAD + 1);
    struct buf b = BUF_INIT(4 << 20);
    struct error err = ERROR_INIT;
    struct envelope e = {.run = "r", .run_len = 1, .payload = big, .payload_len = LIMIT_PAYLOAD + 1};
    assert_int_equal(envelope_encode(&e, &b, &err), -1);
    assert_int_equal(err.kind, ERR_TASK);
    assert_string_equal(err.reason, "size");
    assert_non_null(strstr(err.text, "921601 bytes"));
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void bytes_of_any_kind_never_crash_the_decoder(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 42);
    char payload[600];
    memset(payload, 'z', sizeof(payload));
    struct buf b = BUF_INIT(1 << 20), scratch = BUF_INIT(1 << 20);
    struct envelope e = {.run = "run-1", .run_len = 5, .item = 77, .key = "key", .key_len = 3, .payload = payload, .payload_len = sizeof(payload)};
    assert_int_equal(envelope_encode(&e, &b, NULL), 0);
    for (int i = 0; i < 20000; i++) {
        AUTO(free_ptr) unsigned char *copy = xmemdup(b.data, b.len);
        size_t len = (size_t)rnd_below(&rnd, b.len + 1);
        for (uint64_t k = rnd_below(&rnd, 4); k > 0 && len > 0; k--)
            copy[rnd_below(&rnd, len)] = (unsigned char)rnd_u64(&rnd);
        AUTO(free_ptr) unsigned char *exact = xmemdup(copy, len); /* so that reading past the end is seen */
        struct envelope out;
        struct error err = ERROR_INIT;
        if (envelope_decode(exact, len, &scratch, &out, &err) != 0)
            assert_int_equal(err.kind, ERR_TASK);
    }
    buf_free(&b);
    buf_free(&scratch);
}

static void another_version_is_named(void **state)
{
    (void)state;
    struct buf scratch = BUF_INIT(1000);
    struct envelope out;
    struct error err = ERROR_INIT;
    assert_int_equal(envelope_decode("\x09\x00\x01\x01r\x00", 6, &scratch, &out, &err), -1);
    assert_string_equal(err.reason, "version");
    assert_non_null(strstr(err.text, "version 9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_in_comes_out),
        cmocka_unit_test(a_compressible_payload_is_stored_smaller),
        cmocka_unit_test(an_item_over_a_limit_is_refused_with_its_size),
        cmocka_unit_test(bytes_of_any_kind_never_crash_the_decoder),
        cmocka_unit_test(another_version_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
