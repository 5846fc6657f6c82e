#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/base/rnd.h"
#include "worker/ackmap.h"

static struct marks taken; /* that were loaded last */

static void deliver_all(struct ackmap *m, int64_t from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        assert_true(ackmap_deliver(m, from + i));
}

static char *metadata_of(const struct ackmap *m)
{
    struct buf b = BUF_INIT(LIMIT_COMMIT_METADATA);
    struct marks none;
    marks_init(&none);
    ackmap_metadata(m, &none, &b);
    return buf_steal(&b);
}

static void shuffle(struct rnd *rnd, int64_t *v, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rnd_below(rnd, i);
        int64_t t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

static void commit_stops_at_the_first_gap(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(100);
    deliver_all(m, 100, 5);
    ackmap_done(m, 100);
    ackmap_done(m, 101);
    ackmap_done(m, 103);
    assert_int_equal(ackmap_next(m), 102);
    ackmap_done(m, 102);
    assert_int_equal(ackmap_next(m), 104);
    ackmap_free(m);
}

static void nothing_is_committed_before_the_partition_is_known(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(-1);
    ackmap_done(m, 20); /* of an assignment before, which is forgotten */
    char *text = metadata_of(m);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(ackmap_next(m), -1);
    assert_true(ackmap_deliver(m, 17));
    assert_int_equal(ackmap_next(m), 17);
    ackmap_done(m, 17);
    assert_int_equal(ackmap_next(m), 18);
    ackmap_free(m);
}

/* Delivered under an earlier assignment, done under this one, delivered again only then. */
static void what_is_done_before_it_is_delivered_again_is_skipped(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(10);
    ackmap_done(m, 12);
    assert_true(ackmap_deliver(m, 10));
    assert_true(ackmap_deliver(m, 11));
    assert_false(ackmap_deliver(m, 12));
    assert_true(ackmap_deliver(m, 13));
    ackmap_done(m, 10);
    ackmap_done(m, 11);
    assert_int_equal(ackmap_next(m), 13);
    ackmap_free(m);
}

/* Retention and markers leave holes: they hold nobody back. */
static void offsets_that_do_not_exist_are_passed(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(0);
    assert_true(ackmap_deliver(m, 10));
    assert_true(ackmap_deliver(m, 20000));
    ackmap_done(m, 20000);
    assert_int_equal(ackmap_next(m), 10);
    ackmap_done(m, 10);
    assert_int_equal(ackmap_next(m), 20001);
    ackmap_free(m);
}

static void any_order_of_completion_ends_at_the_end(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 1);
    enum { N = 9000 };
    static int64_t order[N];
    static bool done[N];
    for (int round = 0; round < 20; round++) {
        int64_t base = (int64_t)rnd_below(&rnd, 100000);
        struct ackmap *m = ackmap_new(base);
        deliver_all(m, base, N);
        memset(done, 0, sizeof(done));
        for (int64_t i = 0; i < N; i++)
            order[i] = i;
        shuffle(&rnd, order, N);
        int64_t first = 0;
        for (int64_t i = 0; i < N; i++) {
            ackmap_done(m, base + order[i]);
            done[order[i]] = true;
            while (first < N && done[first])
                first++;
            assert_int_equal(ackmap_next(m), base + first); /* never past one that is not done, never short of it */
        }
        assert_int_equal(ackmap_span(m), 0);
        ackmap_free(m);
    }
}

static void what_was_done_survives_a_commit_and_an_assignment(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 2);
    for (int round = 0; round < 200; round++) {
        int64_t base = (int64_t)rnd_below(&rnd, 1000000), n = 1 + (int64_t)rnd_below(&rnd, 3000);
        uint64_t share = 1 + rnd_below(&rnd, 40);
        struct ackmap *m = ackmap_new(base);
        deliver_all(m, base, n);
        for (int64_t i = 0; i < n; i++)
            if (rnd_below(&rnd, share) != 0)
                ackmap_done(m, base + i);
        char *text = metadata_of(m);
        assert_true(strlen(text) <= LIMIT_COMMIT_METADATA);
        struct ackmap *again = ackmap_new(ackmap_next(m));
        struct error err = ERROR_INIT;
        assert_int_equal(ackmap_load(again, text, &taken, &err), 0);
        for (int64_t i = ackmap_next(m); i < base + n; i++)
            assert_int_equal(ackmap_deliver(again, i), text[0] ? !ackmap_is_done(m, i) : true);
        for (int64_t i = ackmap_next(m); i < base + n; i++)
            if (!ackmap_is_done(again, i))
                ackmap_done(again, i);
        assert_int_equal(ackmap_next(again), base + n);
        free(text);
        ackmap_free(m);
        ackmap_free(again);
    }
}

static void a_long_backlog_behind_one_item_fits(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(5);
    deliver_all(m, 5, 300000);
    for (int64_t i = 6; i < 300005; i++)
        ackmap_done(m, i);
    char *text = metadata_of(m);
    assert_true(text[0] != '\0');
    assert_true(strlen(text) < 100);
    struct ackmap *again = ackmap_new(5);
    assert_int_equal(ackmap_load(again, text, &taken, NULL), 0);
    assert_true(ackmap_deliver(again, 5));
    assert_false(ackmap_deliver(again, 6));
    assert_false(ackmap_deliver(again, 300004));
    assert_true(ackmap_deliver(again, 300005));
    free(text);
    ackmap_free(m);
    ackmap_free(again);
}

/* Random gaps do not compress: then everything above the offset is simply done again. */
static void what_does_not_fit_is_dropped(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 3);
    struct ackmap *m = ackmap_new(0);
    deliver_all(m, 0, 400000);
    for (int64_t i = 1; i < 400000; i++)
        if (rnd_below(&rnd, 2) == 0)
            ackmap_done(m, i);
    char *text = metadata_of(m);
    assert_string_equal(text, "");
    free(text);
    ackmap_free(m);
}

/* Every second one: so many lengths that nobody packs them. */
static void more_gaps_than_are_kept_are_dropped(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(0);
    deliver_all(m, 0, 2 * LIMIT_ACK_RUNS);
    for (int64_t i = 1; i < 2 * LIMIT_ACK_RUNS; i += 2)
        ackmap_done(m, i);
    char *text = metadata_of(m);
    assert_string_equal(text, "");
    free(text);
    ackmap_free(m);
}

/* What is done and what is not meet just where the map's own pieces do. */
static void borders_at_any_power_of_two_survive(void **state)
{
    (void)state;
    for (int64_t gap = 1; gap <= 65536; gap *= 2) {
        struct ackmap *m = ackmap_new(0), *next = ackmap_new(0);
        struct error err = ERROR_INIT;
        deliver_all(m, 0, gap);
        assert_true(ackmap_deliver(m, 2 * gap)); /* those between are no messages */
        for (int64_t i = 2 * gap + 1; i <= 3 * gap; i++)
            assert_true(ackmap_deliver(m, i));
        for (int64_t i = 2 * gap; i < 3 * gap; i++)
            ackmap_done(m, i);
        char *text = metadata_of(m);
        assert_int_equal(ackmap_load(next, text, &taken, &err), 0);
        for (int64_t i = 0; i <= 3 * gap; i++) {
            assert_int_equal(ackmap_is_done(m, i), i >= gap && i < 3 * gap);
            assert_int_equal(ackmap_is_done(next, i), i >= gap && i < 3 * gap);
        }
        free(text);
        ackmap_free(m);
        ackmap_free(next);
    }
}

/* The gap begins in the midst of a piece that is done as a whole. */
static void a_gap_that_is_known_to_be_done_is_passed_again(void **state)
{
    (void)state;
    struct ackmap *m = ackmap_new(0), *next = ackmap_new(0);
    struct error err = ERROR_INIT;
    deliver_all(m, 0, 5000);
    assert_true(ackmap_deliver(m, 20000));
    for (int64_t i = 1; i < 5000; i++)
        ackmap_done(m, i);
    char *text = metadata_of(m);
    assert_int_equal(ackmap_load(next, text, &taken, &err), 0);
    for (int64_t i = 0; i < 5000; i++)
        assert_int_equal(ackmap_deliver(next, i), i == 0);
    assert_true(ackmap_deliver(next, 20000));
    ackmap_done(next, 0);
    assert_int_equal(ackmap_next(next), 20000);
    free(text);
    ackmap_free(m);
    ackmap_free(next);
}

static void longer_metadata_than_is_ever_sent_is_ignored(void **state)
{
    (void)state;
    char text[2 * LIMIT_COMMIT_METADATA + 2] = "1";
    struct ackmap *m = ackmap_new(7);
    struct error err = ERROR_INIT;
    memset(text + 1, 'A', 2 * LIMIT_COMMIT_METADATA);
    assert_int_equal(ackmap_load(m, text, &taken, &err), -1);
    assert_int_equal(ackmap_next(m), 7);
    ackmap_free(m);
}

static void metadata_that_makes_no_sense_is_ignored_as_a_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {"x", "1", "1!!!!", "1AAAA", "2AAAA", "1KLUv/SAC", "1KLUv/SAFKQAACgP/////"};
    struct ackmap *good = ackmap_new(0);
    deliver_all(good, 0, 100);
    for (int64_t i = 50; i < 100; i++)
        ackmap_done(good, i);
    char *text = metadata_of(good);
    for (size_t i = 0; i < ARRAY_LEN(bad) + strlen(text); i++) {
        AUTO(free_ptr) char *cut = i < ARRAY_LEN(bad) ? xstrdup(bad[i]) : xstrndup(text, i - ARRAY_LEN(bad));
        struct ackmap *m = ackmap_new(7);
        struct error err = ERROR_INIT;
        int rc = ackmap_load(m, cut, &taken, &err);
        if (cut[0] != '\0') {
            assert_int_equal(rc, -1);
            assert_int_equal(err.kind, ERR_TASK);
        }
        assert_int_equal(ackmap_next(m), 7);
        for (int64_t o = 7; o < 200; o++)
            assert_true(ackmap_deliver(m, o));
        ackmap_free(m);
    }
    free(text);
    ackmap_free(good);
}

static void random_bytes_never_harm(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 4);
    struct ackmap *good = ackmap_new(0);
    deliver_all(good, 0, 1000);
    for (int64_t i = 1; i < 1000; i += 3)
        ackmap_done(good, i);
    char *text = metadata_of(good);
    for (int i = 0; i < 5000; i++) {
        AUTO(free_ptr) char *changed = xstrdup(text);
        for (uint64_t k = rnd_below(&rnd, 4) + 1; k > 0; k--)
            changed[rnd_below(&rnd, strlen(text))] = (char)(33 + rnd_below(&rnd, 90));
        struct ackmap *m = ackmap_new(3);
        (void)ackmap_load(m, changed, &taken, NULL);
        assert_true(ackmap_next(m) >= 3);
        ackmap_free(m);
    }
    free(text);
    ackmap_free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_stops_at_the_first_gap),
        cmocka_unit_test(nothing_is_committed_before_the_partition_is_known),
        cmocka_unit_test(what_is_done_before_it_is_delivered_again_is_skipped),
        cmocka_unit_test(offsets_that_do_not_exist_are_passed),
        cmocka_unit_test(any_order_of_completion_ends_at_the_end),
        cmocka_unit_test(what_was_done_survives_a_commit_and_an_assignment),
        cmocka_unit_test(a_long_backlog_behind_one_item_fits),
        cmocka_unit_test(what_does_not_fit_is_dropped),
        cmocka_unit_test(more_gaps_than_are_kept_are_dropped),
        cmocka_unit_test(borders_at_any_power_of_two_survive),
        cmocka_unit_test(a_gap_that_is_known_to_be_done_is_passed_again),
        cmocka_unit_test(longer_metadata_than_is_ever_sent_is_ignored),
        cmocka_unit_test(metadata_that_makes_no_sense_is_ignored_as_a_whole),
        cmocka_unit_test(random_bytes_never_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
