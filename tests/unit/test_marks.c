#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "common/base/rnd.h"
#include "worker/ackmap.h"

/* What commits say of workers that died: through the metadata and back, and what their successors make of it. */

#define ME "me00000000"
#define OTHER "other00000"

static struct marks none(void)
{
    struct marks m;
    marks_init(&m);
    return m;
}

static void assert_same(const struct marks *a, const struct marks *b)
{
    assert_string_equal(a->holder, b->holder);
    assert_int_equal(a->takeovers, b->takeovers);
    assert_int_equal(a->until, b->until);
    assert_int_equal(a->alone, b->alone);
    assert_int_equal(a->killed, b->killed);
    assert_int_equal(a->kills, b->kills);
    assert_int_equal(a->suspects.count, b->suspects.count);
    assert_int_equal(a->out.count, b->out.count);
    assert_memory_equal(a->suspects.v, b->suspects.v, a->suspects.count * sizeof(int64_t));
    assert_memory_equal(a->out.v, b->out.v, a->out.count * sizeof(int64_t));
}

/* A commit of the map with the marks, read by the next one. */
static struct ackmap *pass_on(const struct ackmap *map, const struct marks *m, struct marks *out)
{
    struct buf text = BUF_INIT(LIMIT_COMMIT_METADATA);
    struct error err = ERROR_INIT;
    ackmap_metadata(map, m, &text);
    assert_true(text.len <= LIMIT_COMMIT_METADATA);
    struct ackmap *next = ackmap_new(ackmap_next(map));
    assert_int_equal(ackmap_load(next, text.data, out, &err), 0);
    buf_free(&text);
    return next;
}

static void random_offsets(struct rnd *rnd, struct offsets *o, int64_t base)
{
    *o = (struct offsets){0};
    for (uint64_t n = rnd_below(rnd, LIMIT_SUSPECTS + 1); n > 0; n--)
        (void)offsets_add(o, base + (int64_t)rnd_below(rnd, UINT64_C(1) << rnd_below(rnd, 34)));
}

static void marks_survive_a_commit_whatever_is_done_above_it(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 7);
    for (int round = 0; round < 300; round++) {
        int64_t base = (int64_t)rnd_below(&rnd, 1000000), n = round % 100 == 0 ? 400000 : (int64_t)rnd_below(&rnd, 2000); /* some do not fit */
        struct ackmap *map = ackmap_new(base);
        for (int64_t i = 0; i < n; i++) {
            assert_true(ackmap_deliver(map, base + i));
            if (i > 0 && rnd_below(&rnd, 2) == 0)
                ackmap_done(map, base + i);
        }
        struct marks m = none(), out;
        if (rnd_below(&rnd, 3) > 0)
            snprintf(m.holder, sizeof(m.holder), OTHER);
        m.takeovers = (int64_t)rnd_below(&rnd, 6);
        m.until = m.takeovers > 0 ? base + 1 + (int64_t)rnd_below(&rnd, 100000) : 0;
        random_offsets(&rnd, &m.suspects, base);
        random_offsets(&rnd, &m.out, base);
        if (rnd_below(&rnd, 2) == 0)
            m.alone = base + (int64_t)rnd_below(&rnd, 1000);
        if (rnd_below(&rnd, 2) == 0) {
            m.killed = base + (int64_t)rnd_below(&rnd, 1000);
            m.kills = 1;
        }
        struct ackmap *next = pass_on(map, &m, &out);
        assert_same(&m, &out);
        ackmap_free(next);
        ackmap_free(map);
    }
}

static void what_lies_below_the_committed_offset_is_left_out(void **state)
{
    (void)state;
    struct ackmap *map = ackmap_new(50);
    struct marks m = none(), out;
    m.takeovers = 3;
    m.until = 50;
    m.killed = 49;
    m.kills = 1;
    (void)offsets_add(&m.suspects, 40);
    (void)offsets_add(&m.suspects, 60);
    struct ackmap *next = pass_on(map, &m, &out);
    assert_int_equal(out.takeovers, 0);
    assert_int_equal(out.killed, -1);
    assert_int_equal(out.suspects.count, 1);
    assert_int_equal(out.suspects.v[0], 60);
    ackmap_free(next);
    ackmap_free(map);
}

/* --- the policy ------------------------------------------------------------------------------------------------------------------------- */

static void a_partition_given_up_in_order_counts_nothing(void **state)
{
    (void)state;
    struct marks m = none();
    for (int i = 0; i < 20; i++)
        assert_false(marks_take_over(&m, ME, 10, 10));
    assert_int_equal(m.takeovers, 0);
    snprintf(m.holder, sizeof(m.holder), ME); /* expelled, and back: nobody died */
    assert_false(marks_take_over(&m, ME, 10, 10));
    assert_int_equal(m.takeovers, 0);
}

static void deaths_are_counted_until_what_was_in_doubt_is_done(void **state)
{
    (void)state;
    struct marks m = none();
    for (int i = 1; i <= LIMIT_TAKEOVERS; i++) {
        snprintf(m.holder, sizeof(m.holder), OTHER);
        assert_true(marks_take_over(&m, ME, 10, 500));
        assert_int_equal(m.takeovers, i);
        assert_int_equal(m.until, 500 + LIMIT_DOUBT);
        assert_string_equal(m.holder, "");
    }
    assert_true(marks_careful(&m));
    marks_pass(&m, 500 + LIMIT_DOUBT - 1);
    assert_true(marks_careful(&m));
    marks_pass(&m, 500 + LIMIT_DOUBT);
    assert_int_equal(m.takeovers, 0);
}

static void the_death_of_a_careful_worker_without_items_is_nobodys_fault(void **state)
{
    (void)state;
    struct marks m = none();
    m.takeovers = LIMIT_TAKEOVERS;
    m.until = 1000;
    snprintf(m.holder, sizeof(m.holder), OTHER);
    assert_true(marks_take_over(&m, ME, 10, 10));
    assert_int_equal(m.takeovers, LIMIT_TAKEOVERS);
    assert_int_equal(m.suspects.count, 0);
}

static void who_was_with_handlers_last_is_suspected_before_older_suspects(void **state)
{
    (void)state;
    struct marks m = none();
    m.takeovers = LIMIT_TAKEOVERS;
    m.until = 1000;
    for (int64_t i = 0; i < LIMIT_SUSPECTS; i++)
        (void)offsets_add(&m.suspects, 100 + i);
    for (int64_t i = 0; i < LIMIT_CAREFUL; i++)
        (void)offsets_add(&m.out, 500 + i);
    snprintf(m.holder, sizeof(m.holder), OTHER);
    assert_true(marks_take_over(&m, ME, 10, 10));
    assert_int_equal(m.suspects.count, LIMIT_SUSPECTS);
    for (int64_t i = 0; i < LIMIT_CAREFUL; i++)
        assert_true(offsets_has(&m.suspects, 500 + i));
}

static void only_deaths_in_a_row_while_it_was_alone_make_one_guilty(void **state)
{
    (void)state;
    struct marks m = none();
    for (int i = 0; i < LIMIT_KILLS; i++) {
        assert_false(marks_guilty(&m, 70));
        snprintf(m.holder, sizeof(m.holder), OTHER);
        m.alone = 70;
        assert_true(marks_take_over(&m, ME, 10, 10));
        assert_int_equal(m.alone, -1);
        assert_true(offsets_has(&m.suspects, 70));
    }
    assert_true(marks_guilty(&m, 70));
    assert_false(marks_guilty(&m, 71));
    marks_clear(&m, 70);
    assert_false(marks_guilty(&m, 70));
    snprintf(m.holder, sizeof(m.holder), OTHER);
    m.alone = 70;
    assert_true(marks_take_over(&m, ME, 10, 10));
    snprintf(m.holder, sizeof(m.holder), OTHER);
    m.alone = 80; /* another one: not in a row */
    assert_true(marks_take_over(&m, ME, 10, 10));
    assert_false(marks_guilty(&m, 70));
    assert_false(marks_guilty(&m, 80));
}

/* --- schedules drawn at random ------------------------------------------------------------------------------------------------------------- */

#define N 300
struct life {
    struct rnd rnd;
    struct ackmap *map;
    struct marks m;
    bool deadly[N], failed[N];
    int alone_deaths[N];  /* in a row */
    int deaths;
};

static int64_t first_open(const struct life *l, int64_t from)
{
    while (from < N && ackmap_is_done(l->map, from))
        from++;
    return from;
}

/* Runs the offsets together. True: the worker lives. */
static bool together(struct life *l, const int64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (l->deadly[v[i]])
            return false;
    for (size_t i = 0; i < n; i++)
        if (rnd_below(&l->rnd, 10) > 0) /* else its rows were not in a load yet */
            ackmap_done(l->map, v[i]);
    return true;
}

/* One worker, from its take-over to its death or to the end. what: what it had committed when it died. */
static bool lives(struct life *l, struct marks *what)
{
    struct marks *m = &l->m;
    for (;;) {
        marks_pass(m, ackmap_next(l->map));
        struct offsets suspects = m->suspects;
        for (size_t i = 0; i < suspects.count; i++)
            if (ackmap_is_done(l->map, suspects.v[i]))
                marks_clear(m, suspects.v[i]);
        int64_t v[LIMIT_CAREFUL], at = first_open(l, 0);
        size_t n = 0;
        if (at == N)
            return true;
        *what = *m;
        snprintf(what->holder, sizeof(what->holder), OTHER);
        if (m->suspects.count > 0) {
            v[n++] = m->suspects.v[rnd_below(&l->rnd, m->suspects.count)];
            if (m->killed >= 0)
                v[0] = m->killed;
            if (marks_guilty(m, v[0])) {
                assert_true(l->alone_deaths[v[0]] >= LIMIT_KILLS);
                l->failed[v[0]] = true;
                ackmap_done(l->map, v[0]);
                continue;
            }
            what->alone = v[0];
        } else {
            for (; n < LIMIT_CAREFUL && at < N; at = first_open(l, at + 1))
                v[n++] = at;
            for (size_t i = 0; i < n && marks_careful(m); i++)
                (void)offsets_add(&what->out, v[i]);
        }
        bool survived = together(l, v, n), killed_from_outside = rnd_below(&l->rnd, 200) == 0;
        if (what->alone >= 0)
            l->alone_deaths[v[0]] = survived && !killed_from_outside ? 0 : l->alone_deaths[v[0]] + 1;
        if (!survived || killed_from_outside)
            return false;
        if (what->alone >= 0)
            marks_clear(m, v[0]);
    }
}

static void one_life(uint64_t seed)
{
    struct life l = {.deaths = 0};
    rnd_seeded(&l.rnd, seed);
    l.map = ackmap_new(0);
    l.m = none();
    int deadly = 0;
    for (int i = 0; i < N; i++) {
        l.deadly[i] = rnd_below(&l.rnd, 60) == 0;
        deadly += l.deadly[i];
        assert_true(ackmap_deliver(l.map, i));
    }
    struct marks what;
    while (!lives(&l, &what)) {
        struct ackmap *next = pass_on(l.map, &what, &l.m);
        for (int64_t i = ackmap_next(next); i < N; i++)
            (void)ackmap_deliver(next, i);
        ackmap_free(l.map);
        l.map = next;
        marks_take_over(&l.m, ME, ackmap_next(next), N);
        assert_true(++l.deaths < 20 + 6 * deadly);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(l.failed[i], l.deadly[i]);
    ackmap_free(l.map);
}

static void those_that_kill_are_found_soon_and_nobody_else_fails(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++)
        one_life(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_survive_a_commit_whatever_is_done_above_it),
        cmocka_unit_test(what_lies_below_the_committed_offset_is_left_out),
        cmocka_unit_test(a_partition_given_up_in_order_counts_nothing),
        cmocka_unit_test(deaths_are_counted_until_what_was_in_doubt_is_done),
        cmocka_unit_test(the_death_of_a_careful_worker_without_items_is_nobodys_fault),
        cmocka_unit_test(who_was_with_handlers_last_is_suspected_before_older_suspects),
        cmocka_unit_test(only_deaths_in_a_row_while_it_was_alone_make_one_guilty),
        cmocka_unit_test(those_that_kill_are_found_soon_and_nobody_else_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
