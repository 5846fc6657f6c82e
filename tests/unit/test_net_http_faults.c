#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/net/http.h"
#include "tests/unit/support_net.h"

/* The client against a server that misbehaves on purpose. */

#define WAIT (20 * US_PER_S)
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

struct world {
    struct loop *loop;
    struct raw *raw;
    struct http *http;
    struct metrics metrics;
    char url[128], where[64];
    char last[1024]; /* the request that came last */
    void (*script)(struct world *, struct raw_conn *);
    struct raw_conn *conn;
    struct timer *drip;
};

static void on_raw(void *arg, struct raw_conn *c)
{
    struct world *w = arg;
    w->conn = c;
    snprintf(w->last, sizeof(w->last), "%s", c->in.data);
    w->script(w, c);
}

static void on_drip(void *arg)
{
    struct world *w = arg;
    raw_send(w->conn, ".");
    timer_set(w->drip, 5 * US_PER_MS);
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    w->loop = loop_new();
    w->raw = raw_new(w->loop, on_raw, w);
    w->http = http_curl(w->loop, &(struct http_options){.max_requests = 4, .metrics = &w->metrics});
    w->drip = timer_new(w->loop, on_drip, w);
    snprintf(w->where, sizeof(w->where), "127.0.0.1:%d", raw_port(w->raw));
    snprintf(w->url, sizeof(w->url), "http://%s/x", w->where);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    http_free(w->http);
    raw_free(w->raw);
    timer_free(w->drip);
    loop_free(w->loop);
    free(w);
    return 0;
}

static struct reply ask(struct world *w, struct http_request r)
{
    struct reply reply = {0};
    r.url = r.url ? r.url : w->url;
    r.method = r.method ? r.method : "GET";
    http_send(w->http, &r, reply_cb, &reply);
    assert_true(loop_until(w->loop, reply_came, &reply, WAIT));
    assert_int_equal(reply.calls, 1);
    return reply;
}

/* No answer; retryable; the text has both; whether it may have been executed. */
static void assert_failed(struct world *w, struct reply *r, const char *text, bool maybe_executed)
{
    assert_int_equal(r->status, 0);
    assert_int_equal(r->err.kind, ERR_RETRY);
    if (strstr(r->err.text, text) == NULL || strstr(r->err.text, w->where) == NULL)
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", r->err.text, text, w->where);
    assert_int_equal(r->maybe_executed, maybe_executed);
    reply_free(r);
}

static void say_ok(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, OK);
}

static void a_refused_connection_names_host_port_and_reason(void **state)
{
    struct world *w = *state;
    raw_free(w->raw);
    struct reply r = ask(w, (struct http_request){0});
    assert_int_equal(r.err.code, ECONNREFUSED);
    assert_failed(w, &r, "could not connect: Connection refused", false);
    assert_int_equal(w->metrics.value[METRIC_HTTP_FAILURES], 1);
    w->raw = raw_new(w->loop, on_raw, w);
}

static void a_name_that_does_not_exist_is_retryable_and_named(void **state)
{
    struct world *w = *state;
    struct reply r = ask(w, (struct http_request){.url = "http://no-such-host.invalid:81/"});
    snprintf(w->where, sizeof(w->where), "no-such-host.invalid:81");
    assert_failed(w, &r, "cannot be resolved", false);
}

static void connections_are_kept_and_reused(void **state)
{
    struct world *w = *state;
    w->script = say_ok;
    for (int i = 0; i < 5; i++) {
        struct reply r = ask(w, (struct http_request){0});
        assert_int_equal(r.status, 200);
        reply_free(&r);
    }
    assert_int_equal(raw_accepted(w->raw), 1);
    assert_int_equal(w->conn->requests, 5);
}

/* The first connection answers once and then does the given thing instead of a second answer; later connections answer. */
static void close_second(struct world *w, struct raw_conn *c)
{
    if (c->number == 1 && c->requests == 2)
        raw_close(c);
    else
        say_ok(w, c);
}

static void reset_second(struct world *w, struct raw_conn *c)
{
    if (c->number == 1 && c->requests == 2)
        raw_reset(c);
    else
        say_ok(w, c);
}

static void assert_replaced(struct world *w, struct http_request second)
{
    struct reply r = ask(w, (struct http_request){0});
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = ask(w, second);
    assert_string_equal(r.err.text, "");
    assert_int_equal(r.status, 200);
    assert_int_equal(raw_accepted(w->raw), 2);
    reply_free(&r);
}

static void a_kept_connection_that_the_server_closes_is_replaced(void **state)
{
    struct world *w = *state;
    w->script = close_second;
    assert_replaced(w, (struct http_request){.method = "DELETE"});
}

static void a_kept_connection_that_the_server_resets_is_replaced_and_the_body_sent_again(void **state)
{
    struct world *w = *state;
    w->script = reset_second;
    const struct http_slice body[] = {{"abc", 3}, {"defg", 4}};
    assert_replaced(w, (struct http_request){.method = "POST", .body = body, .body_count = 2});
    assert_non_null(strstr(w->last, "\r\n\r\nabcdefg"));
    assert_int_equal(w->conn->number, 2);
}

static void answer_then_close(struct world *w, struct raw_conn *c)
{
    say_ok(w, c);
    if (c->number == 1)
        raw_close(c); /* before the client thinks of using it again */
}

static void a_kept_connection_that_was_closed_meanwhile_is_not_an_error(void **state)
{
    struct world *w = *state;
    w->script = answer_then_close;
    assert_replaced(w, (struct http_request){.method = "POST"});
}

static void reset_first_half(struct world *w, struct raw_conn *c)
{
    say_ok(w, c);
    if (c->number == 1)
        watch_set(c->watch, 0); /* the second request will fill the pipe and stay there */
}

static void on_reset_due(void *arg)
{
    struct world *w = arg;
    raw_reset(w->conn);
}

static void a_large_body_cut_off_on_a_kept_connection_is_sent_again(void **state)
{
    struct world *w = *state;
    enum { LEN = 6 * 1024 * 1024 };
    char *big = xmalloc(LEN);
    memset(big, 'b', LEN);
    w->script = reset_first_half;
    struct reply r = ask(w, (struct http_request){0}), second = {0};
    reply_free(&r);
    const struct http_slice body = {big, LEN};
    http_send(w->http, &(struct http_request){.method = "PUT", .url = w->url, .body = &body, .body_count = 1}, reply_cb, &second);
    struct timer *t = timer_new(w->loop, on_reset_due, w);
    timer_set(t, 30 * US_PER_MS);
    assert_true(loop_until(w->loop, reply_came, &second, WAIT));
    assert_string_equal(second.err.text, "");
    assert_int_equal(second.status, 200);
    assert_int_equal(raw_accepted(w->raw), 2);
    timer_free(t);
    reply_free(&second);
    free(big);
}

static size_t read_x(void *arg, char *out, size_t max)
{
    int *left = arg;
    size_t n = size_min((size_t)*left, max);
    memset(out, 'x', n);
    *left -= (int)n;
    return n;
}

static void a_body_that_cannot_be_made_twice_is_not_sent_twice(void **state)
{
    struct world *w = *state;
    w->script = reset_second;
    struct reply r = ask(w, (struct http_request){0});
    reply_free(&r);
    int left = 100;
    r = ask(w, (struct http_request){.method = "PUT", .read = read_x, .read_arg = &left, .read_len = 100});
    assert_failed(w, &r, "without an answer", true);
    assert_int_equal(w->conn->number, 1); /* no second connection brought a whole request */
}

static void just_close(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_close(c);
}

static void just_reset(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_reset(c);
}

static void a_fresh_connection_that_breaks_is_the_callers_affair(void **state)
{
    struct world *w = *state;
    w->script = just_close;
    struct reply r = ask(w, (struct http_request){0});
    assert_failed(w, &r, "closed the connection without an answer", true);
    assert_int_equal(raw_accepted(w->raw), 1);
    w->script = just_reset;
    r = ask(w, (struct http_request){0});
    assert_failed(w, &r, "Connection reset by peer", true);
    assert_int_equal(raw_accepted(w->raw), 2);
    assert_int_equal(w->metrics.value[METRIC_HTTP_RETRIES], 0);
}

static void half_an_answer(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    raw_close(c);
}

static void half_an_answer_is_none(void **state)
{
    struct world *w = *state;
    w->script = half_an_answer;
    struct reply r = ask(w, (struct http_request){0});
    assert_failed(w, &r, "in the middle of its answer", true);
}

static void no_http(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "SSH-2.0-OpenSSH_9.2\r\n");
    raw_close(c);
}

static void a_server_that_speaks_something_else_is_said_to(void **state)
{
    struct world *w = *state;
    w->script = no_http;
    struct reply r = ask(w, (struct http_request){0});
    assert_failed(w, &r, "does not answer in HTTP", true);
}

static void header_flood(struct world *w, struct raw_conn *c)
{
    (void)w;
    char line[1024];
    memset(line, 'h', sizeof(line));
    memcpy(line, "X: ", 3);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    raw_send(c, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 70; i++)
        raw_send_bytes(c, line, sizeof(line));
    raw_send(c, "Content-Length: 0\r\n\r\n");
}

static void header_swarm(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i <= LIMIT_HTTP_HEADER_COUNT; i++)
        raw_send(c, "X: y\r\n");
    raw_send(c, "Content-Length: 0\r\n\r\n");
}

static void headers_are_bounded_in_bytes_and_in_number(void **state)
{
    struct world *w = *state;
    void (*scripts[])(struct world *, struct raw_conn *) = {header_flood, header_swarm};
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        w->script = scripts[i];
        struct reply r = ask(w, (struct http_request){0});
        assert_int_equal(r.status, 0);
        assert_int_equal(r.err.kind, ERR_FATAL);
        assert_non_null(strstr(r.err.text, "headers are too large"));
        reply_free(&r);
    }
}

static void interim_then_ok(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 102 Processing\r\nETag: early\r\n\r\nHTTP/1.1 200 OK\r\nETag: \t late \r\nContent-Length: 2\r\n\r\nok");
}

static void an_interim_answer_is_not_the_answer(void **state)
{
    struct world *w = *state;
    w->script = interim_then_ok;
    struct reply r = ask(w, (struct http_request){0});
    assert_int_equal(r.status, 200);
    assert_string_equal(r.etag, "late");
    reply_free(&r);
}

/* Time-outs. Each is short while the others are at their long defaults. */

static void silence(struct world *w, struct raw_conn *c)
{
    (void)w;
    (void)c;
}

static void connecting_has_a_time_out(void **state)
{
    struct world *w = *state;
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
    struct reply r = ask(w, (struct http_request){.url = url, .connect_ms = 120});
    assert_string_equal(r.err.reason, "timeout");
    assert_failed(w, &r, "could not connect within 120 ms", false);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

static void the_first_byte_has_a_time_out(void **state)
{
    struct world *w = *state;
    w->script = silence;
    struct reply r = ask(w, (struct http_request){.first_byte_ms = 60});
    assert_string_equal(r.err.reason, "timeout");
    assert_failed(w, &r, "no answer within 60 ms", true);
}

static void some_of_it(struct world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
}

static void an_answer_that_stalls_has_a_time_out(void **state)
{
    struct world *w = *state;
    w->script = some_of_it;
    struct reply r = ask(w, (struct http_request){.stall_ms = 60});
    assert_failed(w, &r, "stalled: nothing more of the answer came for 60 ms", true);
}

static void an_upload_that_stalls_has_a_time_out(void **state)
{
    struct world *w = *state;
    raw_hold_reading(w->raw);
    int left = 64 * 1024 * 1024;
    struct reply r = ask(w, (struct http_request){.method = "PUT", .read = read_x, .read_arg = &left, .read_len = left, .stall_ms = 100});
    assert_failed(w, &r, "stalled: it took nothing of the request for 100 ms", true);
    assert_true(left > 0);
}

static void drip(struct world *w, struct raw_conn *c)
{
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    w->conn = c;
    timer_set(w->drip, 0);
}

static void an_answer_that_drips_ends_at_the_limit_for_the_whole_and_not_before(void **state)
{
    struct world *w = *state;
    w->script = drip;
    int64_t start = loop_now_us(w->loop);
    struct reply r = ask(w, (struct http_request){.stall_ms = 100, .first_byte_ms = 100, .whole_ms = 400});
    timer_stop(w->drip);
    assert_failed(w, &r, "not finished within 400 ms", true);
    assert_true(loop_now_us(w->loop) - start >= 400 * US_PER_MS);
}

static void waiting_for_a_place_is_not_counted(void **state)
{
    struct world *w = *state;
    w->script = silence;
    struct reply held[4] = {0}, late = {0};
    struct http_call *calls[4];
    for (int i = 0; i < 4; i++)
        calls[i] = http_send(w->http, &(struct http_request){.method = "GET", .url = w->url}, reply_cb, &held[i]);
    http_send(w->http, &(struct http_request){.method = "GET", .url = w->url, .whole_ms = 50, .first_byte_ms = 50}, reply_cb, &late);
    assert_false(loop_until(w->loop, reply_came, &late, 150 * US_PER_MS));
    w->script = say_ok;
    http_cancel(w->http, calls[0]);
    assert_true(loop_until(w->loop, reply_came, &late, WAIT));
    assert_int_equal(late.status, 200);
    reply_free(&late);
}

static bool three_accepted(void *arg)
{
    return raw_accepted(((struct world *)arg)->raw) == 3;
}

static void everything_can_be_freed_in_mid_flight(void **state)
{
    struct world *w = *state;
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
    assert_true(loop_until(w->loop, three_accepted, w, WAIT));
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
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_refused_connection_names_host_port_and_reason),
        CASE(a_name_that_does_not_exist_is_retryable_and_named),
        CASE(connections_are_kept_and_reused),
        CASE(a_kept_connection_that_the_server_closes_is_replaced),
        CASE(a_kept_connection_that_the_server_resets_is_replaced_and_the_body_sent_again),
        CASE(a_kept_connection_that_was_closed_meanwhile_is_not_an_error),
        CASE(a_large_body_cut_off_on_a_kept_connection_is_sent_again),
        CASE(a_body_that_cannot_be_made_twice_is_not_sent_twice),
        CASE(a_fresh_connection_that_breaks_is_the_callers_affair),
        CASE(half_an_answer_is_none),
        CASE(a_server_that_speaks_something_else_is_said_to),
        CASE(headers_are_bounded_in_bytes_and_in_number),
        CASE(an_interim_answer_is_not_the_answer),
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
