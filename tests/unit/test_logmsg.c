#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/rnd.h"
#include "common/fleet/logmsg.h"

static struct buf encoded(const struct log_msg *m)
{
    struct buf b = BUF_INIT(4 << 20);
    assert_int_equal(logmsg_encode(m, &b), 0);
    return b;
}

static struct log_msg full_manifest(struct item_range *r, struct item_range *e, struct item_failure *f)
{
    r[0] = (struct item_range){0, 500};
    r[1] = (struct item_range){1000, 1};
    e[0] = (struct item_range){600, 3};
    f[0] = (struct item_failure){.item = 700, .attempts = 5, .key = "key", .reason = "timeout", .text = "took too long"};
    f[1] = (struct item_failure){.item = 701, .attempts = 1, .key = "", .reason = "row", .text = ""};
    return (struct log_msg){.type = LOGM_MANIFEST, .by = "w1",
                            .manifest = {.incarnation = "abcdefghij", .load = "abcdefghij-000003", .rows = 1503, .ranges = r, .range_count = 2, .empty = e,
                                         .empty_count = 1, .failures = f, .failure_count = 2, .has_range = true, .range_lo = -5, .range_hi = 99}};
}

static void a_manifest_survives_the_wire(void **state)
{
    (void)state;
    struct item_range r[2], e[1];
    struct item_failure f[2];
    struct log_msg in = full_manifest(r, e, f), out;
    struct buf b = encoded(&in);
    struct logmsg_memory *mem = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(logmsg_decode(b.data, b.len, &out, &mem, &err), 0);
    assert_int_equal(out.type, LOGM_MANIFEST);
    assert_string_equal(out.by, "w1");
    assert_string_equal(out.manifest.load, "abcdefghij-000003");
    assert_int_equal(out.manifest.rows, 1503);
    assert_int_equal(out.manifest.range_count, 2);
    assert_memory_equal(out.manifest.ranges, r, sizeof(r));
    assert_memory_equal(out.manifest.empty, e, sizeof(e));
    assert_int_equal(out.manifest.failure_count, 2);
    assert_string_equal(out.manifest.failures[0].text, "took too long");
    assert_int_equal(out.manifest.failures[1].item, 701);
    assert_true(out.manifest.has_range && out.manifest.range_lo == -5 && out.manifest.range_hi == 99 && !out.manifest.range_null);
    logmsg_free(mem);
    buf_free(&b);
}

static void every_type_survives_the_wire(void **state)
{
    (void)state;
    struct seal_end ends[] = {{0, 500}, {3, 12345678}};
    const char *loads[] = {"abcdefghij-000001", "abcdefghij-000002"};
    const struct log_msg all[] = {
        {.type = LOGM_ALIVE, .published = 77}, {.type = LOGM_ALIVE, .published = 78, .left = true},
        {.type = LOGM_SEAL, .items = 100, .ends = ends, .end_count = 2},
        {.type = LOGM_CUT, .cut = 4, .shard = "abcdefghij", .loads = loads, .load_count = 2},
        {.type = LOGM_PAUSE}, {.type = LOGM_RESUME}, {.type = LOGM_ACCEPT, .by = "me"},
        {.type = LOGM_PARALLEL, .parallel = 12},
        {.type = LOGM_ADOPTED, .run = "other"},
        {.type = LOGM_CANCEL, .text = "why"}, {.type = LOGM_ABANDON, .text = "silent", .heard = 1234567}, {.type = LOGM_FATAL, .text = "no table"},
        {.type = LOGM_LOST, .missing = 3},
        {.type = LOGM_OUTCOME, .cut = 1, .ok = true, .job = "job", .inserted = 5, .updated = 6, .deleted = 7, .rows = 11},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct buf b = encoded(&all[i]), again;
        struct log_msg out;
        struct logmsg_memory *mem = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(logmsg_decode(b.data, b.len, &out, &mem, &err), 0);
        again = encoded(&out); /* the same bytes: nothing was lost */
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
        logmsg_free(mem);
        buf_free(&b);
        buf_free(&again);
    }
}

static void a_thousand_items_in_blocks_take_few_bytes(void **state)
{
    (void)state;
    struct item_range r[] = {{500000, 500}, {508000, 500}};
    struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.empty = r, .empty_count = 2}};
    struct buf b = encoded(&m);
    assert_true(b.len <= 33);
    buf_free(&b);
}

static void a_later_version_is_fatal_and_a_broken_message_is_not(void **state)
{
    (void)state;
    struct log_msg m;
    struct logmsg_memory *mem = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(logmsg_decode("\x02\x01", 2, &m, &mem, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(logmsg_decode("\x01\x63", 2, &m, &mem, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(logmsg_decode("\x01\x03\x4a\xff", 4, &m, &mem, &err), -1);
    assert_int_equal(err.kind, ERR_TASK);
    assert_null(mem);
}

/* What a statement is made of is what workers call their shards, or the message is malformed. */
static void names_and_counts_that_no_worker_writes_are_refused(void **state)
{
    (void)state;
    struct item_range r = {0, 1};
    const struct log_msg bad[] = {
        {.type = LOGM_MANIFEST, .manifest = {.incarnation = "abc`;drop ", .load = "abc`;drop -000001", .rows = 1, .ranges = &r, .range_count = 1}},
        {.type = LOGM_MANIFEST, .manifest = {.incarnation = "abcdefghij", .load = "abcdefghij-00\"001", .rows = 1, .ranges = &r, .range_count = 1}},
        {.type = LOGM_MANIFEST, .manifest = {.incarnation = "abcdefghij", .load = "abcdefghijx000001", .rows = 1, .ranges = &r, .range_count = 1}},
        {.type = LOGM_MANIFEST, .manifest = {.incarnation = "abcdefghij", .load = "abcdefghij-000001", .rows = INT64_MAX, .ranges = &r, .range_count = 1}},
        {.type = LOGM_CUT, .shard = "abc.efghij"},
        {.type = LOGM_OUTCOME, .inserted = INT64_MIN},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = encoded(&bad[i]);
        struct log_msg out;
        struct logmsg_memory *mem = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(logmsg_decode(b.data, b.len, &out, &mem, &err), -1);
        assert_int_equal(err.kind, ERR_TASK);
        assert_null(mem);
        buf_free(&b);
    }
}

static void unknown_fields_are_skipped(void **state)
{
    (void)state;
    struct buf b = encoded(&(struct log_msg){.type = LOGM_ALIVE, .published = 9});
    const unsigned char more[] = {0xc0, 0x06, 0x08 /* field 104, varint */, 0xca, 0x06, 0x02, 'x', 'y' /* field 105, bytes */};
    buf_xadd(&b, more, sizeof(more));
    struct log_msg m;
    struct logmsg_memory *mem = NULL;
    assert_int_equal(logmsg_decode(b.data, b.len, &m, &mem, NULL), 0);
    assert_int_equal(m.published, 9);
    logmsg_free(mem);
    buf_free(&b);
}

static void bytes_of_any_kind_never_crash_the_decoder(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 1);
    struct item_range r[2], e[1];
    struct item_failure f[2];
    struct log_msg in = full_manifest(r, e, f);
    struct buf b = encoded(&in);
    for (int i = 0; i < 30000; i++) {
        size_t len = (size_t)rnd_below(&rnd, b.len + 1);
        AUTO(free_ptr) unsigned char *copy = xmemdup(b.data, len);
        for (uint64_t k = rnd_below(&rnd, 4); k > 0 && len > 0; k--)
            copy[rnd_below(&rnd, len)] = (unsigned char)rnd_u64(&rnd);
        struct log_msg m;
        struct logmsg_memory *mem = NULL;
        struct error err = ERROR_INIT;
        if (logmsg_decode(copy, len, &m, &mem, &err) == 0) {
            struct buf again = encoded(&m);
            buf_free(&again);
        }
        logmsg_free(mem);
    }
    buf_free(&b);
}

static void ranges_gather_what_was_added_in_any_order(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 3);
    for (int round = 0; round < 200; round++) {
        bool in[300] = {false};
        struct ranges v = {.v = NULL};
        for (int i = 0; i < 200; i++) {
            int64_t item = (int64_t)rnd_below(&rnd, 300);
            in[item] = true;
            ranges_add(&v, item);
        }
        ranges_sort(&v);
        int64_t count = 0, last_end = -1;
        for (size_t i = 0; i < v.count; i++) {
            assert_true(v.v[i].first > last_end); /* sorted, and neighbours are one range */
            for (int64_t k = 0; k < v.v[i].count; k++)
                assert_true(in[v.v[i].first + k]);
            last_end = v.v[i].first + v.v[i].count;
            count += v.v[i].count;
        }
        for (int i = 0; i < 300; i++)
            count -= in[i];
        assert_int_equal(count, 0);
        ranges_free(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_survives_the_wire),
        cmocka_unit_test(every_type_survives_the_wire),
        cmocka_unit_test(a_thousand_items_in_blocks_take_few_bytes),
        cmocka_unit_test(a_later_version_is_fatal_and_a_broken_message_is_not),
        cmocka_unit_test(names_and_counts_that_no_worker_writes_are_refused),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(bytes_of_any_kind_never_crash_the_decoder),
        cmocka_unit_test(ranges_gather_what_was_added_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
