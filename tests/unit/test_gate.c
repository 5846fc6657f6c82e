#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/bq/bq.h"
#include "common/bq/gate.h"

/* What all requests of a process pass through, with a service that can be away, or say that there are too many at once. Virtual time. */

#define LATENCY_US (100 * US_PER_MS)
#define SECONDS 2000

struct service {
    struct http http;
    struct loop *loop;
    struct rnd rnd;
    struct auth *auth;
    struct bq *bq;
    int64_t away_from_us, away_until_us;   /* 503 in between */
    int at_once_most, per_second_most;     /* 0: any number; beyond, 403 rateLimitExceeded */
    int now, at_once;
    int arrived[SECONDS], refused[SECONDS], served[SECONDS];
    int64_t begin_us;
    struct flight { struct flight *next; } *flights;
};

struct http_call { struct flight flight; struct service *s; struct timer *timer; http_cb *cb; void *arg; int status; };

static int second(const struct service *s)
{
    int64_t at = (loop_now_us(s->loop) - s->begin_us) / US_PER_S;
    assert_true(at < SECONDS);
    return (int)at;
}

static void land(struct http_call *c)
{
    for (struct flight **f = &c->s->flights; *f != NULL; f = &(*f)->next)
        if (*f == &c->flight) {
            *f = c->flight.next;
            break;
        }
    timer_free(c->timer);
    c->s->now--;
}

static void answer(void *arg)
{
    struct http_call *c = arg;
    static const char ok[] = "{}", crowded[] = "{\"error\":{\"message\":\"Exceeded rate limits: too many concurrent requests\",\"errors\":[{\"reason\":\"rateLimitExceeded\"}]}}";
    struct buf body = BUF_INIT(4096);
    buf_xputs(&body, c->status == 200 ? ok : c->status == 403 ? crowded : "<html>busy</html>");
    struct http_response r = {.status = c->status, .body = &body};
    land(c);
    if (c->status == 200)
        c->s->served[second(c->s)]++;
    c->cb(c->arg, &r);
    buf_free(&body);
    free(c);
}

static struct http_call *send(struct http *http, const struct http_request *r, http_cb *cb, void *arg)
{
    (void)r;
    struct service *s = (struct service *)http;
    struct http_call *c = xcalloc(1, sizeof(*c));
    int64_t now = loop_now_us(s->loop);
    int at = second(s);
    bool away = now >= s->away_from_us && now < s->away_until_us;
    bool many = (s->at_once_most > 0 && s->now >= s->at_once_most) || (s->per_second_most > 0 && s->arrived[at] - s->refused[at] >= s->per_second_most);
    *c = (struct http_call){.s = s, .cb = cb, .arg = arg, .status = away ? 503 : many ? 403 : 200};
    s->arrived[at]++;
    s->refused[at] += c->status != 200;
    s->now++;
    s->at_once = s->now > s->at_once ? s->now : s->at_once;
    c->flight.next = s->flights;
    s->flights = &c->flight;
    c->timer = timer_new(s->loop, answer, c);
    timer_set(c->timer, c->status == 403 ? LATENCY_US / 10 : LATENCY_US);
    return c;
}

static void cancel(struct http *http, struct http_call *c)
{
    (void)http;
    land(c);
    free(c);
}

static void open_service(struct service *s, int requests, unsigned seed)
{
    static const struct http_ops ops = {.send = send, .cancel = cancel};
    memset(s, 0, sizeof(*s));
    s->http.ops = &ops;
    s->loop = loop_new_virtual(INT64_C(1700000000000000));
    s->begin_us = loop_now_us(s->loop);
    s->auth = auth_anonymous();
    rnd_seeded(&s->rnd, seed);
    s->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = &s->http, .auth = s->auth, .rnd = &s->rnd, .base_url = "http://bq", .project = "p",
                                        .requests = requests});
}

static void close_service(struct service *s)
{
    bq_free(s->bq);
    auth_free(s->auth);
    loop_free(s->loop);
}

/* Callers that always have one request under way, and begin another one when it has ended. */
struct caller { struct service *s; struct bq_call *call; int well, failed; bool again; };

static void ask(struct caller *c);

static void ended(void *arg, const struct bq_answer *a)
{
    struct caller *c = arg;
    c->call = NULL;
    c->well += a->err == NULL;
    c->failed += a->err != NULL;
    if (a->err != NULL)
        assert_int_equal(a->err->kind, ERR_RETRY);
    if (c->again || a->err != NULL)
        ask(c);
}

static void ask(struct caller *c)
{
    c->call = bq_send(c->s->bq, &(struct bq_request){.method = "GET", .path = "/projects/p/jobs"}, ended, c);
}

static void pass(struct service *s, int64_t us)
{
    int64_t until = loop_now_us(s->loop) + us;
    while (loop_now_us(s->loop) < until)
        loop_step(s->loop, until - loop_now_us(s->loop));
}

static void begin(struct service *s, struct caller *callers, int count, bool again)
{
    for (int i = 0; i < count; i++) {
        callers[i] = (struct caller){.s = s, .again = again};
        ask(&callers[i]);
    }
}

static int total(const struct caller *c, int count, bool failed)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += failed ? c[i].failed : c[i].well;
    return n;
}

static int most_of(const int *v, int from, int to)
{
    int most = 0;
    for (int i = from; i < to; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

static int sum_of(const int *v, int from, int to)
{
    int n = 0;
    for (int i = from; i < to; i++)
        n += v[i];
    return n;
}

#define OUTSTANDING 200
/* Two hundred that are under way when the service goes away. */
static void outage(int away_s, int a_second, int at_once, int drained_s)
{
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct service s;
        struct caller callers[OUTSTANDING];
        open_service(&s, 300, seed);
        s.away_from_us = s.begin_us;
        s.away_until_us = s.begin_us + away_s * US_PER_S;
        begin(&s, callers, OUTSTANDING, false);
        pass(&s, away_s * US_PER_S);
        s.at_once = 0;
        pass(&s, 900 * US_PER_S);
        int first = away_s;
        while (s.served[first] == 0)
            first++;
        int last = first, in_outage = sum_of(s.arrived, 2, away_s);
        for (int i = first; i < SECONDS; i++)
            last = s.served[i] > 0 ? i : last;
        print_message("%d s away, seed %u: %d requests at once before anybody knows, then %d, at most %d a second; back after %d s more, then at most %d a "
                      "second and %d at once, all done %d s later\n", away_s, seed, s.arrived[0] + s.arrived[1], in_outage, most_of(s.arrived, 2, away_s), first - away_s,
                      most_of(s.arrived, away_s, SECONDS), s.at_once, last - first);
        assert_true(s.arrived[0] + s.arrived[1] <= OUTSTANDING + 4); /* nobody knows yet */
        assert_true(in_outage < 45);
        assert_true(most_of(s.arrived, 2, away_s) <= 2);
        assert_true(first - away_s <= 31);
        assert_true(most_of(s.arrived, away_s, SECONDS) <= a_second);
        assert_true(s.at_once <= at_once);
        assert_int_equal(total(callers, OUTSTANDING, false), OUTSTANDING);
        assert_true(last - first <= drained_s);
        close_service(&s);
    }
}

/* Its requests are repeats: one after the other, and one besides for every ten. */
static void no_storm_follows_an_outage(void **state)
{
    (void)state;
    outage(300, 15, 4, 30);
}

/* These have ended meanwhile, and their callers ask anew: a few at once, and with each answer a few more. */
static void nor_one_that_is_longer_than_requests_wait(void **state)
{
    (void)state;
    outage(600, OUTSTANDING, OUTSTANDING / 3, 30);
}

/* With others that have never failed, a repeat goes for every ten of them. */
static void what_has_failed_is_repeated_once_for_ten_that_succeed(void **state)
{
    (void)state;
    struct service s;
    static struct caller callers[OUTSTANDING], busy[20];
    open_service(&s, 300, 7);
    s.away_from_us = s.begin_us;
    s.away_until_us = s.begin_us + 60 * US_PER_S;
    begin(&s, callers, OUTSTANDING, false);
    pass(&s, 30 * US_PER_S);
    begin(&s, busy, ARRAY_LEN(busy), true); /* these come while it is away, and wait */
    pass(&s, 30 * US_PER_S);
    while (total(busy, ARRAY_LEN(busy), false) + total(callers, OUTSTANDING, false) == 0)
        pass(&s, LATENCY_US);
    int repeats = total(callers, OUTSTANDING, false), fresh = total(busy, ARRAY_LEN(busy), false);
    pass(&s, 5 * US_PER_S);
    repeats = total(callers, OUTSTANDING, false) - repeats;
    fresh = total(busy, ARRAY_LEN(busy), false) - fresh;
    print_message("beside %d others, %d repeats in 5 s\n", fresh, repeats);
    assert_true(fresh > 400);
    assert_true(repeats >= fresh / 12 && repeats <= fresh / 10 + fresh / 100 + 10);
    pass(&s, 60 * US_PER_S);
    assert_int_equal(total(callers, OUTSTANDING, false), OUTSTANDING);
    for (size_t i = 0; i < ARRAY_LEN(busy); i++)
        bq_call_cancel(busy[i].call);
    close_service(&s);
}

/* One caller whose request the service cannot bear is no outage. */
static void one_that_always_fails_holds_nobody_up(void **state)
{
    (void)state;
    struct service s;
    struct gate *g;
    open_service(&s, 10, 1);
    g = gate_new(s.loop, &s.rnd, 4);
    struct gate_pass bad = {0}, good = {0};
    for (int i = 0; i < 100; i++) {
        assert_true(gate_enter(g, &bad));
        gate_leave(g, &bad, GATE_SILENT, "boom");
        assert_false(gate_is_down(g));
    }
    for (int i = 0; i < 100; i++) {
        assert_true(gate_enter(g, &bad));
        gate_leave(g, &bad, GATE_SILENT, "boom");
        assert_true(gate_enter(g, &good));
        gate_leave(g, &good, GATE_WELL, NULL);
    }
    assert_int_equal(gate_limit(g), 4);
    gate_forget(g, &bad);
    gate_forget(g, &good);
    gate_free(g);
    close_service(&s);
}

static void note_gone(void *arg) { ++*(int *)arg; }

/* One that failed waits no longer than ten others, however many there are. */
static void who_has_failed_is_not_starved_by_those_who_have_not(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, 10, 1);
    struct gate *g = gate_new(s.loop, &s.rnd, 1);
    int bad_gone = 0, gone[2] = {1, 0}, rounds = 0;
    struct gate_pass bad = {.go = note_gone, .arg = &bad_gone, .failed = true};
    struct gate_pass others[2] = {{.go = note_gone, .arg = &gone[0]}, {.go = note_gone, .arg = &gone[1]}};
    assert_true(gate_enter(g, &others[0]));
    assert_false(gate_enter(g, &others[1]));
    assert_false(gate_enter(g, &bad));
    while (bad_gone == 0) {
        assert_true(rounds++ < 12);
        int in = gone[0] ? 0 : 1;
        gone[in] = 0;
        gate_leave(g, &others[in], GATE_WELL, NULL);
        assert_false(gate_enter(g, &others[in]));
        pass(&s, 1000);
        assert_int_equal(gone[0] + gone[1] + bad_gone, 1);
    }
    gate_forget(g, &bad);
    gate_forget(g, &others[0]);
    gate_forget(g, &others[1]);
    gate_free(g);
    close_service(&s);
}

/* "Slow down" is an answer, too. */
static void a_service_that_says_slow_down_is_there_again(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, 10, 1);
    struct gate *g = gate_new(s.loop, &s.rnd, 8);
    int gone = 0;
    struct gate_pass callers[GATE_SILENT_MOST];
    for (int i = 0; i < GATE_SILENT_MOST; i++) {
        callers[i] = (struct gate_pass){.go = note_gone, .arg = &gone};
        assert_true(gate_enter(g, &callers[i]));
    }
    for (int i = 0; i < GATE_SILENT_MOST; i++)
        gate_leave(g, &callers[i], GATE_SILENT, "boom");
    assert_true(gate_is_down(g));
    assert_false(gate_enter(g, &callers[0]));
    pass(&s, 2 * US_PER_S);
    assert_int_equal(gone, 1);
    gate_leave(g, &callers[0], GATE_CROWDED, "slow down");
    assert_false(gate_is_down(g));
    for (int i = 0; i < GATE_SILENT_MOST; i++)
        gate_forget(g, &callers[i]);
    assert_true(gate_enter(g, &callers[0]));
    gate_forget(g, &callers[0]);
    gate_free(g);
    close_service(&s);
}

static void callers_who_leave_while_they_wait_take_their_place_with_them(void **state)
{
    (void)state;
    struct service s;
    struct caller callers[50];
    open_service(&s, 300, 3);
    s.away_until_us = s.begin_us + 100 * US_PER_S;
    begin(&s, callers, 50, false);
    pass(&s, 20 * US_PER_S);
    assert_non_null(strstr(bq_waits_for(s.bq), "BigQuery, which has not answered for 1"));
    assert_non_null(strstr(bq_waits_for(s.bq), "503"));
    for (int i = 0; i < 49; i++)
        bq_call_cancel(callers[i].call);
    pass(&s, 200 * US_PER_S);
    assert_int_equal(callers[49].well, 1);
    assert_string_equal(bq_waits_for(s.bq), "");
    close_service(&s);
}

/* Who waits at the gate ends in his own time, and hears why. */
static void nobody_waits_for_ever(void **state)
{
    (void)state;
    struct service s;
    struct caller callers[20];
    open_service(&s, 300, 3);
    s.away_until_us = INT64_MAX;
    begin(&s, callers, 20, false);
    pass(&s, 610 * US_PER_S);
    for (int i = 0; i < 20; i++)
        assert_int_equal(callers[i].failed, 1);
    for (int i = 0; i < 20; i++)
        bq_call_cancel(callers[i].call);
    close_service(&s);
}

/* --- slow down --------------------------------------------------------------------------------------------------------------------------------- */

static void run_crowd(struct service *s, int most, int callers_count, int64_t us, double least, double refused_most)
{
    static struct caller callers[1000];
    begin(s, callers, callers_count, true);
    pass(s, 30 * US_PER_S);
    int from = second(s);
    pass(s, us);
    int to = second(s);
    int served = sum_of(s->served, from, to), refused = sum_of(s->refused, from, to), possible = most * (to - from);
    print_message("%d of %d possible a second, %.1f%% refused, %d failed\n", served / (to - from), possible / (to - from),
                  100.0 * refused / (served + refused), total(callers, callers_count, true));
    assert_int_equal(total(callers, callers_count, true), 0);
    assert_true((double)served >= least * (double)possible);
    assert_true(refused <= refused_most * served);
    for (int i = 0; i < callers_count; i++)
        bq_call_cancel(callers[i].call);
}

/* 300 at once for this process alone, which could have 900 under way. */
static void as_many_at_once_as_the_service_takes(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, 900, 1);
    s.at_once_most = 300;
    run_crowd(&s, 3000, 900, 60 * US_PER_S, 0.8, 0.01);
    close_service(&s);
}

/* A rate of 100 a second, which ten at once would keep, with 64 that want to. */
static void as_many_a_second_as_the_service_takes(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, 64, 1);
    s.per_second_most = 100;
    run_crowd(&s, 100, 64, 120 * US_PER_S, 0.9, 0.3);
    close_service(&s);
}

static void nothing_is_held_back_while_nobody_says_slow_down(void **state)
{
    (void)state;
    struct service s;
    static struct caller callers[200];
    open_service(&s, 64, 1);
    begin(&s, callers, 200, true);
    pass(&s, 10 * US_PER_S);
    assert_int_equal(s.at_once, 64);
    assert_true(total(callers, 200, false) >= 64 * 10 * 10 * 95 / 100);
    for (int i = 0; i < 200; i++)
        bq_call_cancel(callers[i].call);
    close_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_storm_follows_an_outage),
        cmocka_unit_test(nor_one_that_is_longer_than_requests_wait),
        cmocka_unit_test(what_has_failed_is_repeated_once_for_ten_that_succeed),
        cmocka_unit_test(one_that_always_fails_holds_nobody_up),
        cmocka_unit_test(who_has_failed_is_not_starved_by_those_who_have_not),
        cmocka_unit_test(a_service_that_says_slow_down_is_there_again),
        cmocka_unit_test(callers_who_leave_while_they_wait_take_their_place_with_them),
        cmocka_unit_test(nobody_waits_for_ever),
        cmocka_unit_test(as_many_at_once_as_the_service_takes),
        cmocka_unit_test(as_many_a_second_as_the_service_takes),
        cmocka_unit_test(nothing_is_held_back_while_nobody_says_slow_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
