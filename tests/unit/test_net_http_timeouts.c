#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support_net.h"

static size_t read_x(void *arg, char *out, size_t max)
{
    int *left = arg;
    size_t n = size_min((size_t)*left, max);
    memset(out, 'x', n);
    *left -= (int)n;
    return n;
}

/* Time-outs. Each is short while the others are at their long defaults. */

static void connecting_has_a_time_out(void **state)
{
    struct raw_world *w = *state;
    int fds[4] = {socket(AF_INET, SOCK_STREAM, 0)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    assert_int_equal(bind(fds[0], (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fds[0], 0), 0);
    assert_int_equal(getsockname(fds[0], (struct sockaddr *)&at, &len), 0);
    for (int i = 1; i < 4; i++) { /* these fill the queue of the listener: the kernel ignores who comes next */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fds[i], (struct sockaddr *)&at, len);
    }
    char url[128];
    snprintf(w->where, sizeof(w->where), "127.0.0.1:%d", ntohs(at.sin_port));
    snprintf(url, sizeof(url), "http://%s/", w->where);
    struct reply r = world_ask(w, (struct http_request){.url = url, .connect_ms = 120});
    assert_string_equal(r.err.reason, "timeout");
    assert_no_answer(w, &r, "could not connect within 120 ms", false);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

static void the_first_byte_has_a_time_out(void **state)
{
    struct raw_world *w = *state;
    w->script = world_silence;
    struct reply r = world_ask(w, (struct http_request){.first_byte_ms = 60});
    assert_string_equal(r.err.reason, "timeout");
    assert_no_answer(w, &r, "no answer within 60 ms", true);
}

static void some_of_it(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
}

static void an_answer_that_stalls_has_a_time_out(void **state)
{
    struct raw_world *w = *state;
    w->script = some_of_it;
    struct reply r = world_ask(w, (struct http_request){.stall_ms = 60});
    assert_no_answer(w, &r, "stalled: nothing more of the answer came for 60 ms", true);
}

static void an_upload_that_stalls_has_a_time_out(void **state)
{
    struct raw_world *w = *state;
    raw_hold_reading(w->raw);
    int left = 64 * 1024 * 1024;
    struct reply r = world_ask(w, (struct http_request){.method = "PUT", .read = read_x, .read_arg = &left, .read_len = left, .stall_ms = 100});
    assert_no_answer(w, &r, "stalled: it took nothing of the request for 100 ms", true);
    assert_true(left > 0);
}

static struct timer *drip_timer;

static void on_drip(void *arg)
{
    struct raw_world *w = arg;
    raw_send(w->conn, ".");
    timer_set(drip_timer, 5 * US_PER_MS);
}

static void drip(struct raw_world *w, struct raw_conn *c)
{
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    w->conn = c;
    timer_set(drip_timer, 0);
}

static void an_answer_that_drips_ends_at_the_limit_for_the_whole_and_not_before(void **state)
{
    struct raw_world *w = *state;
    w->script = drip;
    drip_timer = timer_new(w->loop, on_drip, w);
    int64_t start = loop_now_us(w->loop);
    struct reply r = world_ask(w, (struct http_request){.stall_ms = 300, .first_byte_ms = 300, .whole_ms = 700});
    timer_free(drip_timer);
    assert_no_answer(w, &r, "not finished within 700 ms", true);
    assert_true(loop_now_us(w->loop) - start >= 700 * US_PER_MS);
}

static void waiting_for_a_place_is_not_counted(void **state)
{
    struct raw_world *w = *state;
    w->script = world_silence;
    enum { LONG_MS = 1500 }; /* what a slow machine needs for the answer; waited for in vain first */
    struct reply held[4] = {0}, late = {0};
    struct http_call *calls[4];
    for (int i = 0; i < 4; i++)
        calls[i] = http_send(w->http, &(struct http_request){.method = "GET", .url = w->url}, reply_cb, &held[i]);
    http_send(w->http, &(struct http_request){.method = "GET", .url = w->url, .whole_ms = LONG_MS, .first_byte_ms = LONG_MS}, reply_cb, &late);
    assert_false(loop_until(w->loop, reply_came, &late, (LONG_MS + 100) * US_PER_MS));
    w->script = world_say_ok;
    http_cancel(w->http, calls[0]);
    assert_true(loop_until(w->loop, reply_came, &late, WORLD_WAIT));
    assert_int_equal(late.status, 200);
    reply_free(&late);
}

static bool three_accepted(void *arg)
{
    return raw_accepted(((struct raw_world *)arg)->raw) == 3;
}

static void everything_can_be_freed_in_mid_flight(void **state)
{
    struct raw_world *w = *state;
    w->script = some_of_it;
    int left = 64 * 1024 * 1024;
    struct reply never[7] = {0};
    for (int i = 0; i < 2; i++)
        http_send(w->http, &(struct http_request){.method = "GET", .url = w->url}, reply_cb, &never[i]);
    http_send(w->http, &(struct http_request){.method = "PUT", .url = w->url, .read = read_x, .read_arg = &left, .read_len = -1}, reply_cb,
              &never[2]);
    http_send(w->http, &(struct http_request){.method = "GET", .url = "http://no-such-host.invalid/"}, reply_cb, &never[3]);
    for (int i = 4; i < 6; i++) /* these wait */
        http_send(w->http, &(struct http_request){.method = "GET", .url = w->url}, reply_cb, &never[i]);
    assert_true(loop_until(w->loop, three_accepted, w, WORLD_WAIT));
    http_send(w->http, &(struct http_request){.method = "GET", .url = "nonsense"}, reply_cb, &never[6]); /* its callback is due */
    http_free(w->http);
    w->http = NULL;
    loop_step(w->loop, 20 * US_PER_MS);
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        assert_true(i == 3 || never[i].calls == 0);
        reply_free(&never[i]);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(connecting_has_a_time_out),
        CASE(the_first_byte_has_a_time_out),
        CASE(an_answer_that_stalls_has_a_time_out),
        CASE(an_upload_that_stalls_has_a_time_out),
        CASE(an_answer_that_drips_ends_at_the_limit_for_the_whole_and_not_before),
        CASE(waiting_for_a_place_is_not_counted),
        CASE(everything_can_be_freed_in_mid_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
