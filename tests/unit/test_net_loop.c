#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "common/net/loop.h"

#define WALL_AT_START INT64_C(1750000000000000)

/* What ran, in order. */
struct trace {
    struct loop *loop;
    char text[256];
    int64_t at_us[64];
    size_t count;
};

struct mark {
    struct trace *trace;
    char name;
    struct timer *timer;
    int again; /* so many times set again, after again_us */
    int64_t again_us;
};

static void note(struct trace *t, char name)
{
    assert_true(t->count < ARRAY_LEN(t->at_us));
    t->at_us[t->count] = loop_now_us(t->loop);
    t->text[t->count++] = name;
}

static void on_mark(void *arg)
{
    struct mark *m = arg;
    note(m->trace, m->name);
    if (m->again-- > 0)
        timer_set(m->timer, m->again_us);
}

static void mark_init(struct mark *m, struct trace *t, char name)
{
    *m = (struct mark){.trace = t, .name = name};
    m->timer = timer_new(t->loop, on_mark, m);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

static void timers_fire_by_time_and_then_by_order_of_setting(void **state)
{
    (void)state;
    struct trace t = {.loop = loop_new_virtual(WALL_AT_START)};
    struct mark m[26];
    for (int i = 0; i < 26; i++)
        mark_init(&m[i], &t, (char)('a' + i));
    for (int i = 25; i >= 0; i--)
        timer_set(m[i].timer, (i % 3) * 1000);
    timer_stop(m[4].timer);
    timer_set(m[25].timer, 5000); /* moved behind all others */
    int64_t start = loop_now_us(t.loop);
    loop_run(t.loop);
    char expected[27] = "";
    size_t n = 0;
    for (int rest = 0; rest < 3; rest++)
        for (int i = 24; i >= 0; i--)
            if (i % 3 == rest && i != 4)
                expected[n++] = (char)('a' + i);
    expected[n] = 'z';
    assert_string_equal(t.text, expected);
    assert_int_equal(t.at_us[n] - start, 5000);
    for (int i = 0; i < 26; i++)
        timer_free(m[i].timer);
    loop_free(t.loop);
}

static void a_heap_of_many_timers_keeps_its_order_under_stops_and_moves(void **state)
{
    (void)state;
    enum { N = 2000 };
    struct loop *l = loop_new_virtual(0);
    static struct mark m[N];
    static struct trace t[N];
    uint32_t x = 12345;
    for (int i = 0; i < N; i++) {
        t[i].loop = l;
        mark_init(&m[i], &t[i], 'x');
    }
    int64_t due[N];
    for (int round = 0; round < 5 * N; round++) {
        x = x * 1664525u + 1013904223u;
        int i = (int)(x >> 8) % N;
        due[i] = (x >> 4) % 1000000;
        if (round > 2 * N && x % 3 == 0)
            timer_stop(m[i].timer);
        else
            timer_set(m[i].timer, due[i]);
    }
    bool set[N];
    for (int i = 0; i < N; i++)
        set[i] = timer_is_set(m[i].timer);
    int64_t start = loop_now_us(l);
    loop_run(l);
    for (int i = 0; i < N; i++) {
        assert_int_equal(t[i].count, set[i] ? 1 : 0);
        if (set[i])
            assert_int_equal(t[i].at_us[0] - start, due[i]);
        timer_free(m[i].timer);
    }
    loop_free(l);
}

static void virtual_time_jumps_to_the_next_timer_and_stands_still_otherwise(void **state)
{
    (void)state;
    struct trace t = {.loop = loop_new_virtual(WALL_AT_START)};
    struct mark a;
    mark_init(&a, &t, 'a');
    assert_int_equal(loop_wall_us(t.loop), WALL_AT_START);
    timer_set(a.timer, 3600 * US_PER_S);
    assert_false(loop_step(t.loop, 10 * US_PER_S)); /* too far away: time advances by what was allowed */
    assert_int_equal(loop_wall_us(t.loop), WALL_AT_START + 10 * US_PER_S);
    assert_false(loop_step(t.loop, 0));
    assert_int_equal(loop_wall_us(t.loop), WALL_AT_START + 10 * US_PER_S);
    assert_true(loop_step(t.loop, 3600 * US_PER_S));
    assert_int_equal(loop_wall_us(t.loop), WALL_AT_START + 3600 * US_PER_S);
    assert_false(timer_is_set(a.timer));
    timer_free(a.timer);
    loop_free(t.loop);
}

static void a_timer_set_without_delay_waits_for_the_next_turn(void **state)
{
    (void)state;
    struct loop *loops[] = {loop_new_virtual(0), loop_new()};
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        struct trace t = {.loop = loops[i]};
        struct mark a;
        mark_init(&a, &t, 'a');
        a.again = 2;
        timer_set(a.timer, 0);
        for (size_t turn = 1; turn <= 3; turn++) {
            assert_true(loop_step(t.loop, US_PER_S));
            assert_int_equal(t.count, turn);
        }
        assert_false(loop_step(t.loop, 0));
        timer_free(a.timer);
        loop_free(t.loop);
    }
}

static void loop_until_ends_at_its_bound(void **state)
{
    (void)state;
    struct trace t = {.loop = loop_new_virtual(0)};
    struct mark tick;
    mark_init(&tick, &t, 't');
    tick.again = 50;
    tick.again_us = 300 * US_PER_MS;
    timer_set(tick.timer, 300 * US_PER_MS);
    int64_t start = loop_now_us(t.loop);
    assert_false(loop_until(t.loop, never, NULL, US_PER_S));
    assert_int_equal(loop_now_us(t.loop) - start, US_PER_S);
    assert_string_equal(t.text, "ttt");
    timer_free(tick.timer);
    assert_false(loop_until(t.loop, never, NULL, 5 * US_PER_S)); /* with nothing to wait for, too */
    assert_int_equal(loop_now_us(t.loop) - start, 6 * US_PER_S);
    loop_free(t.loop);

    struct loop *real = loop_new();
    start = loop_now_us(real);
    assert_false(loop_until(real, never, NULL, 20 * US_PER_MS));
    assert_in_range(loop_now_us(real) - start, 20 * US_PER_MS, 5 * US_PER_S);
    loop_free(real);
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static void loop_until_ends_as_soon_as_its_condition_holds(void **state)
{
    (void)state;
    struct loop *l = loop_new_virtual(0);
    bool done = false;
    struct timer *t = timer_new(l, set_true, &done);
    timer_set(t, 2 * US_PER_S);
    int64_t start = loop_now_us(l);
    assert_true(loop_until(l, is_true, &done, 60 * US_PER_S));
    assert_int_equal(loop_now_us(l) - start, 2 * US_PER_S);
    done = false;
    timer_set(t, US_PER_S); /* exactly at the bound counts */
    assert_true(loop_until(l, is_true, &done, US_PER_S));
    timer_free(t);
    loop_free(l);
}

struct deferring {
    struct trace *trace;
    char name;
    int again;
};

static void on_deferred(void *arg)
{
    struct deferring *d = arg;
    note(d->trace, d->name);
    if (d->again-- > 0)
        loop_defer(d->trace->loop, on_deferred, d);
}

static void deferred_calls_run_once_in_order_and_before_time_passes(void **state)
{
    (void)state;
    struct loop *loops[] = {loop_new_virtual(0), loop_new()};
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        struct trace t = {.loop = loops[i]};
        struct mark late;
        mark_init(&late, &t, 'z');
        timer_set(late.timer, 5 * US_PER_MS);
        struct deferring d[3] = {{&t, 'a', 1}, {&t, 'b', 0}, {&t, 'c', 0}};
        for (int k = 0; k < 3; k++)
            loop_defer(t.loop, on_deferred, &d[k]);
        assert_int_equal(t.count, 0);
        loop_run(t.loop); /* ends by itself */
        assert_string_equal(t.text, "abcaz");
        timer_free(late.timer);
        loop_free(t.loop);
    }
}

static void free_own_timer(void *arg)
{
    struct timer **t = arg;
    timer_free(*t);
    *t = NULL;
}

static void a_timer_may_free_itself_and_its_neighbour(void **state)
{
    (void)state;
    struct loop *loops[] = {loop_new_virtual(0), loop_new()};
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        struct timer *self = NULL, *neighbour = NULL;
        bool touched = false;
        self = timer_new(loops[i], free_own_timer, &self);
        neighbour = timer_new(loops[i], set_true, &touched);
        struct timer *killer = timer_new(loops[i], free_own_timer, &neighbour);
        timer_set(self, 0);
        timer_set(killer, 0);
        timer_set(neighbour, US_PER_MS);
        loop_run(loops[i]);
        assert_null(self);
        assert_null(neighbour);
        assert_false(touched);
        timer_free(killer);
        loop_free(loops[i]);
    }
}

static void stop_from_timer(void *arg)
{
    loop_stop(arg);
}

static void stop_ends_the_run_although_timers_are_left(void **state)
{
    (void)state;
    struct loop *loops[] = {loop_new_virtual(0), loop_new()};
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        struct loop *l = loops[i];
        bool late = false;
        struct timer *stop = timer_new(l, stop_from_timer, l);
        struct timer *t = timer_new(l, set_true, &late);
        timer_set(stop, US_PER_MS);
        timer_set(t, 3600 * US_PER_S);
        loop_run(l);
        assert_false(late);
        loop_stop(l); /* before the run: ends it at once */
        loop_run(l);
        assert_false(late);
        timer_free(stop);
        timer_free(t);
        loop_free(l);
    }
}

struct pipe_end {
    int fd;
    struct watch *watch;
    char got[64];
    size_t len;
    bool eof;
};

static void on_readable(void *arg, int events)
{
    struct pipe_end *p = arg;
    assert_int_equal(events, WATCH_READ);
    ssize_t n = read(p->fd, p->got + p->len, sizeof(p->got) - 1 - p->len);
    assert_true(n >= 0);
    p->len += (size_t)n;
    if (n == 0) {
        p->eof = true;
        watch_free(p->watch); /* its own */
        p->watch = NULL;
    }
}

static bool at_eof(void *arg)
{
    return ((struct pipe_end *)arg)->eof;
}

static bool has_text(void *arg)
{
    return ((struct pipe_end *)arg)->len > 0;
}

static void a_watch_reports_what_it_is_set_to_and_nothing_else(void **state)
{
    (void)state;
    struct loop *l = loop_new();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct pipe_end p = {.fd = fds[0]};
    p.watch = watch_new(l, fds[0], on_readable, &p);
    assert_int_equal(write(fds[1], "one", 3), 3);
    assert_false(loop_step(l, 10 * US_PER_MS)); /* not set: silent */
    watch_set(p.watch, WATCH_READ);
    assert_true(loop_until(l, has_text, &p, 5 * US_PER_S));
    watch_set(p.watch, 0);
    close(fds[1]);
    assert_false(loop_step(l, 10 * US_PER_MS));
    watch_set(p.watch, WATCH_READ);
    assert_true(loop_until(l, at_eof, &p, 5 * US_PER_S));
    assert_string_equal(p.got, "one");
    close(fds[0]);
    loop_free(l);
}

static void on_usr1(void *arg, int signo)
{
    assert_int_equal(signo, SIGUSR1);
    *(bool *)arg = true;
}

static void a_signal_arrives_on_the_loop(void **state)
{
    (void)state;
    struct loop *l = loop_new();
    bool got = false;
    struct sigwatch *s = sigwatch_new(l, SIGUSR1, on_usr1, &got);
    kill(getpid(), SIGUSR1);
    assert_true(loop_until(l, is_true, &got, 5 * US_PER_S));
    sigwatch_free(s);
    loop_free(l);
}

static void real_timers_are_precise_to_the_millisecond(void **state)
{
    (void)state;
    struct trace t = {.loop = loop_new()};
    struct mark a;
    mark_init(&a, &t, 'a');
    a.again = 9;
    a.again_us = 700;
    int64_t start = loop_now_us(t.loop);
    timer_set(a.timer, 700);
    loop_run(t.loop);
    assert_int_equal(t.count, 10);
    for (size_t i = 0; i < t.count; i++)
        assert_true(t.at_us[i] - start >= 700 * (int64_t)(i + 1)); /* never early */
    timer_free(a.timer);
    loop_free(t.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_by_time_and_then_by_order_of_setting),
        cmocka_unit_test(a_heap_of_many_timers_keeps_its_order_under_stops_and_moves),
        cmocka_unit_test(virtual_time_jumps_to_the_next_timer_and_stands_still_otherwise),
        cmocka_unit_test(a_timer_set_without_delay_waits_for_the_next_turn),
        cmocka_unit_test(loop_until_ends_at_its_bound),
        cmocka_unit_test(loop_until_ends_as_soon_as_its_condition_holds),
        cmocka_unit_test(deferred_calls_run_once_in_order_and_before_time_passes),
        cmocka_unit_test(a_timer_may_free_itself_and_its_neighbour),
        cmocka_unit_test(stop_ends_the_run_although_timers_are_left),
        cmocka_unit_test(a_watch_reports_what_it_is_set_to_and_nothing_else),
        cmocka_unit_test(a_signal_arrives_on_the_loop),
        cmocka_unit_test(real_timers_are_precise_to_the_millisecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
