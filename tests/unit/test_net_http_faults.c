#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "common/base/limits.h"
#include "tests/unit/support_net.h"

/* The client against a server that misbehaves on purpose. */

static void a_refused_connection_names_host_port_and_reason(void **state)
{
    struct raw_world *w = *state;
    raw_free(w->raw);
    struct reply r = world_ask(w, (struct http_request){0});
    assert_int_equal(r.err.code, ECONNREFUSED);
    assert_no_answer(w, &r, "could not connect: Connection refused", false);
    assert_int_equal(w->metrics.value[METRIC_HTTP_FAILURES], 1);
    w->raw = raw_new(w->loop, world_on_request, w);
}

static void a_proxy_that_is_not_there_is_blamed_rather_than_the_host(void **state)
{
    static const struct { const char *proxy, *says; } bad[] = {
        {"http://127.0.0.1:1", "could not connect by the proxy (--proxy, HTTPS_PROXY): Failed to connect to 127.0.0.1 port 1 "},
        {"no-such-proxy.invalid:81", "the name of the proxy (--proxy, HTTPS_PROXY) cannot be resolved"},
    };
    struct raw_world *w = *state;
    struct http *own = w->http;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        w->http = http_curl(w->loop, &(struct http_options){.proxy = bad[i].proxy});
        struct reply r = world_ask(w, (struct http_request){0});
        assert_no_answer(w, &r, bad[i].says, false);
        http_free(w->http);
    }
    w->http = own;
}

static void a_name_that_does_not_exist_is_retryable_and_named(void **state)
{
    struct raw_world *w = *state;
    struct reply r = world_ask(w, (struct http_request){.url = "http://no-such-host.invalid:81/"});
    snprintf(w->where, sizeof(w->where), "no-such-host.invalid:81");
    assert_no_answer(w, &r, "cannot be resolved", false);
}

static void connections_are_kept_and_reused(void **state)
{
    struct raw_world *w = *state;
    w->script = world_say_ok;
    for (int i = 0; i < 5; i++) {
        struct reply r = world_ask(w, (struct http_request){0});
        assert_int_equal(r.status, 200);
        reply_free(&r);
    }
    assert_int_equal(raw_accepted(w->raw), 1);
    assert_int_equal(w->conn->requests, 5);
}

/* The first connection answers once and then does the given thing instead of a second answer; later connections answer. */
static void close_second(struct raw_world *w, struct raw_conn *c)
{
    if (c->number == 1 && c->requests == 2)
        raw_close(c);
    else
        world_say_ok(w, c);
}

static void reset_second(struct raw_world *w, struct raw_conn *c)
{
    if (c->number == 1 && c->requests == 2)
        raw_reset(c);
    else
        world_say_ok(w, c);
}

static void assert_replaced(struct raw_world *w, struct http_request second)
{
    struct reply r = world_ask(w, (struct http_request){0});
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = world_ask(w, second);
    assert_string_equal(r.err.text, "");
    assert_int_equal(r.status, 200);
    assert_int_equal(raw_accepted(w->raw), 2);
    reply_free(&r);
}

static void a_kept_connection_that_the_server_closes_is_replaced(void **state)
{
    struct raw_world *w = *state;
    w->script = close_second;
    assert_replaced(w, (struct http_request){.method = "DELETE"});
}

static void a_kept_connection_that_the_server_resets_is_replaced_and_the_body_sent_again(void **state)
{
    struct raw_world *w = *state;
    w->script = reset_second;
    const struct http_slice body[] = {{"abc", 3}, {"defg", 4}};
    assert_replaced(w, (struct http_request){.method = "POST", .body = body, .body_count = 2});
    assert_non_null(strstr(w->last, "\r\n\r\nabcdefg"));
    assert_int_equal(w->conn->number, 2);
}

static void answer_then_close(struct raw_world *w, struct raw_conn *c)
{
    world_say_ok(w, c);
    if (c->number == 1)
        raw_close(c); /* before the client thinks of using it again */
}

static void a_kept_connection_that_was_closed_meanwhile_is_not_an_error(void **state)
{
    struct raw_world *w = *state;
    w->script = answer_then_close;
    assert_replaced(w, (struct http_request){.method = "POST"});
}

static void reset_first_half(struct raw_world *w, struct raw_conn *c)
{
    world_say_ok(w, c);
    if (c->number == 1)
        watch_set(c->watch, 0); /* the second request will fill the pipe and stay there */
}

static void on_reset_due(void *arg)
{
    struct raw_world *w = arg;
    raw_reset(w->conn);
}

static void a_large_body_cut_off_on_a_kept_connection_is_sent_again(void **state)
{
    struct raw_world *w = *state;
    enum { LEN = 6 * 1024 * 1024 };
    char *big = xmalloc(LEN);
    memset(big, 'b', LEN);
    w->script = reset_first_half;
    struct reply r = world_ask(w, (struct http_request){0}), second = {0};
    reply_free(&r);
    const struct http_slice body = {big, LEN};
    http_send(w->http, &(struct http_request){.method = "PUT", .url = w->url, .body = &body, .body_count = 1}, reply_cb, &second);
    struct timer *t = timer_new(w->loop, on_reset_due, w);
    timer_set(t, 30 * US_PER_MS);
    assert_true(loop_until(w->loop, reply_came, &second, WORLD_WAIT));
    assert_string_equal(second.err.text, "");
    assert_int_equal(second.status, 200);
    assert_int_equal(raw_accepted(w->raw), 2);
    timer_free(t);
    reply_free(&second);
    free(big);
}

static void eight_die_at_their_second_request(struct raw_world *w, struct raw_conn *c)
{
    if (c->number <= 8 && c->requests == 2)
        raw_close(c);
    else if (c->number > 8)
        world_say_ok(w, c);
}

static bool eight_seen(void *arg)
{
    return ((struct raw_world *)arg)->seen == 8;
}

/* libcurl itself tries the next kept connection, and gives up after five. */
static void a_pool_full_of_dead_connections_is_not_an_error(void **state)
{
    struct raw_world *w = *state;
    w->script = world_silence;
    http_free(w->http);
    w->http = http_curl(w->loop, &(struct http_options){.max_requests = 8, .metrics = &w->metrics});
    struct reply r[8] = {0};
    for (int i = 0; i < 8; i++)
        http_send(w->http, &(struct http_request){.method = "GET", .url = w->url}, reply_cb, &r[i]);
    assert_true(loop_until(w->loop, eight_seen, w, WORLD_WAIT));
    raw_each(w->raw, WORLD_OK);
    for (int i = 0; i < 8; i++) {
        assert_true(loop_until(w->loop, reply_came, &r[i], WORLD_WAIT));
        assert_int_equal(r[i].status, 200);
        reply_free(&r[i]);
    }
    w->script = eight_die_at_their_second_request;
    r[0] = world_ask(w, (struct http_request){.method = "POST"});
    assert_string_equal(r[0].err.text, "");
    assert_int_equal(r[0].status, 200);
    assert_int_equal(w->metrics.value[METRIC_HTTP_RETRIES], 1);
    reply_free(&r[0]);
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
    struct raw_world *w = *state;
    w->script = reset_second;
    struct reply r = world_ask(w, (struct http_request){0});
    reply_free(&r);
    int left = 100;
    r = world_ask(w, (struct http_request){.method = "PUT", .read = read_x, .read_arg = &left, .read_len = 100});
    assert_no_answer(w, &r, "without an answer", true);
    assert_int_equal(w->conn->number, 1); /* no second connection brought a whole request */
}

static void just_close(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_close(c);
}

static void just_reset(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_reset(c);
}

static void a_fresh_connection_that_breaks_is_the_callers_affair(void **state)
{
    struct raw_world *w = *state;
    w->script = just_close;
    struct reply r = world_ask(w, (struct http_request){0});
    assert_no_answer(w, &r, "closed the connection without an answer", true);
    assert_int_equal(raw_accepted(w->raw), 1);
    w->script = just_reset;
    r = world_ask(w, (struct http_request){0});
    assert_no_answer(w, &r, "Connection reset by peer", true);
    assert_int_equal(raw_accepted(w->raw), 2);
    assert_int_equal(w->metrics.value[METRIC_HTTP_RETRIES], 0);
}

static void half_an_answer(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    raw_close(c);
}

static void half_an_answer_is_none(void **state)
{
    struct raw_world *w = *state;
    w->script = half_an_answer;
    struct reply r = world_ask(w, (struct http_request){0});
    assert_no_answer(w, &r, "in the middle of its answer", true);
}

static void no_http(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "SSH-2.0-OpenSSH_9.2\r\n");
    raw_close(c);
}

static void a_server_that_speaks_something_else_is_said_to(void **state)
{
    struct raw_world *w = *state;
    w->script = no_http;
    struct reply r = world_ask(w, (struct http_request){0});
    assert_no_answer(w, &r, "does not answer in HTTP", true);
}

static void header_flood(struct raw_world *w, struct raw_conn *c)
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

static void header_swarm(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i <= LIMIT_HTTP_HEADER_COUNT; i++)
        raw_send(c, "X: y\r\n");
    raw_send(c, "Content-Length: 0\r\n\r\n");
}

static void headers_are_bounded_in_bytes_and_in_number(void **state)
{
    struct raw_world *w = *state;
    void (*scripts[])(struct raw_world *, struct raw_conn *) = {header_flood, header_swarm};
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        w->script = scripts[i];
        struct reply r = world_ask(w, (struct http_request){0});
        assert_int_equal(r.status, 0);
        assert_int_equal(r.err.kind, ERR_FATAL);
        assert_non_null(strstr(r.err.text, "headers are too large"));
        reply_free(&r);
    }
}

static void interim_then_ok(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, "HTTP/1.1 102 Processing\r\nETag: early\r\n\r\nHTTP/1.1 200 OK\r\nETag: \t late \r\nContent-Length: 2\r\n\r\nok");
}

static void an_interim_answer_is_not_the_answer(void **state)
{
    struct raw_world *w = *state;
    w->script = interim_then_ok;
    struct reply r = world_ask(w, (struct http_request){0});
    assert_int_equal(r.status, 200);
    assert_string_equal(r.etag, "late");
    reply_free(&r);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_refused_connection_names_host_port_and_reason),
        CASE(a_proxy_that_is_not_there_is_blamed_rather_than_the_host),
        CASE(a_name_that_does_not_exist_is_retryable_and_named),
        CASE(connections_are_kept_and_reused),
        CASE(a_kept_connection_that_the_server_closes_is_replaced),
        CASE(a_kept_connection_that_the_server_resets_is_replaced_and_the_body_sent_again),
        CASE(a_kept_connection_that_was_closed_meanwhile_is_not_an_error),
        CASE(a_large_body_cut_off_on_a_kept_connection_is_sent_again),
        CASE(a_pool_full_of_dead_connections_is_not_an_error),
        CASE(a_body_that_cannot_be_made_twice_is_not_sent_twice),
        CASE(a_fresh_connection_that_breaks_is_the_callers_affair),
        CASE(half_an_answer_is_none),
        CASE(a_server_that_speaks_something_else_is_said_to),
        CASE(headers_are_bounded_in_bytes_and_in_number),
        CASE(an_interim_answer_is_not_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
