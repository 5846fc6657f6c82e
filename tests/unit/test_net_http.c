#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/net/http_server.h"
#include "tests/unit/support_net.h"

/* The client against our own server: everything that goes well. */
/* 100,000 times 'a', gzip -9 */
static const unsigned char gzip_a[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00, 0x00, 0xc2, 0xa0, 0xac,
    0xeb, 0x5f, 0xc2, 0x1a, 0x1e, 0x40, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0xaf, 0x06, 0x87, 0xfa, 0xe2, 0x1b, 0xa0, 0x86, 0x01, 0x00,
};

struct world {
    struct loop *loop;
    struct http_server *server;
    struct http *http;
    struct metrics metrics;
    char url[64];
    /* what the server saw last */
    char method[16], target[256], path[256], agent[64], encoding[64], type[64], expect[32];
    char *body;
    size_t body_len;
    int seen;
    /* what the server holds */
    struct http_exchange *held[128];
    char held_path[128][16];
    size_t held_count, held_max;
};

static void copy(char *out, size_t size, const char *in)
{
    snprintf(out, size, "%s", in ? in : "");
}

static void on_request(void *arg, struct http_exchange *x, const struct http_server_request *r)
{
    struct world *w = arg;
    w->seen++;
    copy(w->method, sizeof(w->method), r->method);
    copy(w->target, sizeof(w->target), r->target);
    copy(w->path, sizeof(w->path), r->path);
    copy(w->agent, sizeof(w->agent), http_exchange_header(x, "User-Agent"));
    copy(w->encoding, sizeof(w->encoding), http_exchange_header(x, "Accept-Encoding"));
    copy(w->type, sizeof(w->type), http_exchange_header(x, "content-type"));
    copy(w->expect, sizeof(w->expect), http_exchange_header(x, "Expect"));
    free(w->body);
    w->body = xmemdup(r->body, r->body_len);
    w->body_len = r->body_len;
    if (strncmp(r->path, "/hold", 5) == 0) {
        copy(w->held_path[w->held_count], 16, r->path + 5);
        w->held[w->held_count++] = x;
        w->held_max = size_max(w->held_max, w->held_count);
    } else if (strcmp(r->path, "/gzip") == 0) {
        const char *const headers[] = {"Content-Encoding: gzip", NULL};
        http_exchange_answer(x, 200, headers, gzip_a, sizeof(gzip_a));
    } else if (strcmp(r->path, "/drop") == 0) {
        http_exchange_drop(x);
    } else if (strcmp(r->path, "/308") == 0) {
        const char *const headers[] = {"Range: bytes=0-9", "Location: /elsewhere", NULL};
        http_exchange_answer(x, 308, headers, NULL, 0);
    } else {
        const char *const headers[] = {"ETag: v1", "Content-Type: text/plain", NULL};
        http_exchange_answer(x, 200, headers, "hello", 5);
    }
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct error err = ERROR_INIT;
    w->loop = loop_new();
    w->server = http_server_new(w->loop, "127.0.0.1", 0, 8 * 1024 * 1024, on_request, w, &err);
    assert_non_null(w->server);
    w->http = http_curl(w->loop, &(struct http_options){.max_requests = 4, .metrics = &w->metrics});
    snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%d", http_server_port(w->server));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    http_free(w->http);
    http_server_free(w->server);
    loop_free(w->loop);
    free(w->body);
    free(w);
    return 0;
}

static const char *url_of(const struct world *w, const char *path)
{
    static char url[256];
    snprintf(url, sizeof(url), "%s%s", w->url, path);
    return url;
}

static struct reply ask(struct world *w, struct http_request r, const char *path)
{
    struct reply reply = {0};
    r.url = url_of(w, path);
    r.method = r.method ? r.method : "GET";
    http_send(w->http, &r, reply_cb, &reply);
    assert_int_equal(reply.calls, 0); /* never from inside */
    assert_true(loop_until(w->loop, reply_came, &reply, WORLD_WAIT));
    assert_int_equal(reply.calls, 1);
    return reply;
}

static void a_request_and_its_answer_arrive_whole(void **state)
{
    struct world *w = *state;
    const char *const headers[] = {"X-Goog-User-Project: p", "Content-Type: application/json", NULL};
    const struct http_slice body[] = {{"{\"a\":", 5}, {"", 0}, {"1}", 2}};
    struct reply r = ask(w, (struct http_request){.method = "POST", .headers = headers, .body = body, .body_count = 3}, "/a%20b?q=%2F");
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "hello");
    assert_string_equal(r.etag, "v1");
    assert_string_equal(w->method, "POST");
    assert_string_equal(w->path, "/a b");
    assert_string_equal(w->target, "/a%20b?q=%2F");
    assert_int_equal(w->body_len, 7);
    assert_memory_equal(w->body, "{\"a\":1}", 7);
    assert_string_equal(w->type, "application/json");
    assert_string_equal(w->expect, "");
    assert_non_null(strstr(w->agent, "gzip"));
    assert_non_null(strstr(w->encoding, "gzip"));
    reply_free(&r);
}

static void every_method_goes_out_under_its_name_and_without_a_body_too(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct reply r = ask(w, (struct http_request){.method = names[i]}, "/x");
        assert_int_equal(r.status, 200);
        assert_string_equal(w->method, names[i]);
        assert_int_equal(w->body_len, 0);
        reply_free(&r);
    }
    assert_int_equal(w->metrics.value[METRIC_HTTP_REQUESTS], 6);
    assert_int_equal(w->metrics.value[METRIC_HTTP_FAILURES], 0);
}

static void a_redirect_is_an_answer(void **state)
{
    struct world *w = *state;
    struct reply r = ask(w, (struct http_request){.method = "PUT"}, "/308");
    assert_int_equal(r.status, 308);
    assert_int_equal(w->seen, 1);
    reply_free(&r);
}

static void a_gzip_answer_is_unpacked(void **state)
{
    struct world *w = *state;
    struct reply r = ask(w, (struct http_request){0}, "/gzip");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.len, 100000);
    assert_int_equal(strspn(r.body, "a"), 100000);
    reply_free(&r);
}

static void an_answer_beyond_the_ceiling_fails_counted_after_unpacking(void **state)
{
    struct world *w = *state;
    struct reply r = ask(w, (struct http_request){.max_body = 99999}, "/gzip");
    assert_int_equal(r.status, 0);
    assert_int_equal(r.err.kind, ERR_FATAL);
    assert_non_null(strstr(r.err.text, "too large"));
    assert_true(r.maybe_executed);
    reply_free(&r);
    r = ask(w, (struct http_request){.max_body = 100000}, "/gzip");
    assert_int_equal(r.status, 200);
    reply_free(&r);
}

struct source {
    size_t left, asked_max;
    unsigned char next;
};

static size_t read_source(void *arg, char *out, size_t max)
{
    struct source *s = arg;
    size_t n = size_min(size_min(max, s->left), 10007);
    for (size_t i = 0; i < n; i++)
        out[i] = (char)s->next++;
    s->left -= n;
    s->asked_max = size_max(s->asked_max, max);
    return n;
}

static void assert_streamed(struct world *w, size_t len)
{
    assert_int_equal(w->body_len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal((unsigned char)w->body[i], i % 256);
}

static void a_body_is_streamed_from_a_reader_with_and_without_its_length(void **state)
{
    struct world *w = *state;
    const size_t len = 3 * 1024 * 1024 + 17;
    struct source s = {.left = len};
    struct reply r = ask(w, (struct http_request){.method = "PUT", .read = read_source, .read_arg = &s, .read_len = (int64_t)len}, "/up");
    assert_int_equal(r.status, 200);
    assert_streamed(w, len);
    assert_true(s.asked_max <= 256 * 1024);
    reply_free(&r);
    s = (struct source){.left = len};
    r = ask(w, (struct http_request){.method = "POST", .read = read_source, .read_arg = &s, .read_len = -1}, "/up");
    assert_int_equal(r.status, 200);
    assert_streamed(w, len);
    reply_free(&r);
}

static void a_reader_that_ends_early_fails_the_call_and_says_so(void **state)
{
    struct world *w = *state;
    struct source s = {.left = 1000};
    struct reply r = ask(w, (struct http_request){.method = "PUT", .read = read_source, .read_arg = &s, .read_len = 2000}, "/up");
    assert_int_equal(r.status, 0);
    assert_int_equal(r.err.kind, ERR_FATAL);
    assert_non_null(strstr(r.err.text, "after 1000 of 2000 bytes"));
    assert_int_equal(w->seen, 0);
    reply_free(&r);
}

static void a_body_over_the_servers_limit_is_answered_with_413(void **state)
{
    struct world *w = *state;
    struct source s = {.left = 9 * 1024 * 1024};
    struct reply r = ask(w, (struct http_request){.method = "PUT", .read = read_source, .read_arg = &s, .read_len = (int64_t)s.left}, "/up");
    assert_int_equal(w->seen, 0);
    assert_true(r.status == 413 || r.err.kind == ERR_RETRY); /* the close may overtake the answer */
    reply_free(&r);
}

/* Answers everything that is held, the oldest first. */
static void release(struct world *w)
{
    size_t n = w->held_count;
    w->held_count = 0;
    for (size_t i = 0; i < n; i++)
        http_exchange_answer(w->held[i], 200, NULL, "x", 1);
}

struct sum { int done; };

static void on_summed(void *arg, struct http_response *r)
{
    struct sum *s = arg;
    assert_int_equal(r->status, 200);
    s->done++;
}

static bool four_are_held(void *arg)
{
    return ((struct world *)arg)->held_count == 4;
}

static void a_hundred_requests_share_four_places(void **state)
{
    struct world *w = *state;
    struct sum s = {0};
    for (int i = 0; i < 100; i++)
        http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/hold")}, on_summed, &s);
    while (s.done < 100) {
        assert_true(loop_until(w->loop, four_are_held, w, WORLD_WAIT));
        int before = s.done;
        release(w);
        while (s.done < before + 4)
            assert_true(loop_step(w->loop, WORLD_WAIT));
    }
    assert_int_equal(w->held_max, 4);
    assert_int_equal(w->seen, 100);
}

static bool all_seen(void *arg)
{
    return ((struct world *)arg)->seen == 12;
}

static void urgent_requests_overtake_those_that_wait_and_others_keep_their_order(void **state)
{
    struct world *w = *state;
    struct sum s = {0};
    char path[32];
    for (int i = 0; i < 10; i++) {
        snprintf(path, sizeof(path), "/hold%d", i);
        http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, path)}, on_summed, &s);
    }
    assert_true(loop_until(w->loop, four_are_held, w, WORLD_WAIT));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "/holdu%d", i);
        http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, path), .urgent = true}, on_summed, &s);
    }
    char order[64] = "";
    while (!all_seen(w)) {
        http_exchange_answer(w->held[0], 200, NULL, "x", 1);
        strcat(order, w->held_path[0]);
        memmove(w->held, w->held + 1, --w->held_count * sizeof(w->held[0]));
        memmove(w->held_path, w->held_path + 1, w->held_count * sizeof(w->held_path[0]));
        assert_true(loop_until(w->loop, four_are_held, w, WORLD_WAIT));
    }
    for (size_t i = 0; i < w->held_count; i++)
        strcat(order, w->held_path[i]);
    const char *u0 = strstr(order, "u0"), *u1 = strstr(order, "u1"), *five = strchr(order, '5');
    assert_true(u0 != NULL && u1 != NULL && five != NULL);
    assert_true(u0 < five && u1 < five);
    release(w);
    while (s.done < 12)
        assert_true(loop_step(w->loop, WORLD_WAIT));
}

static void a_cancelled_call_never_calls_back_and_frees_its_place(void **state)
{
    struct world *w = *state;
    struct reply dead[8] = {0}, alive = {0};
    struct http_call *calls[8];
    for (int i = 0; i < 8; i++)
        calls[i] = http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/hold")}, reply_cb, &dead[i]);
    assert_true(loop_until(w->loop, four_are_held, w, WORLD_WAIT));
    http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/x")}, reply_cb, &alive);
    for (int i = 0; i < 8; i++)
        http_cancel(w->http, calls[i]); /* active ones and waiting ones */
    assert_true(loop_until(w->loop, reply_came, &alive, WORLD_WAIT));
    for (int i = 0; i < 8; i++)
        assert_int_equal(dead[i].calls, 0);
    assert_int_equal(w->seen, 5); /* the waiting ones never left */
    release(w);                   /* to clients that have gone */
    loop_step(w->loop, 10 * US_PER_MS);
    assert_int_equal(dead[0].calls, 0);
    reply_free(&alive);
}

static void a_bad_url_fails_on_the_next_turn(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"", "nonsense", "ftp://host/x", "http://", "http://host:99999999/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reply r = {0};
        http_send(w->http, &(struct http_request){.method = "GET", .url = bad[i]}, reply_cb, &r);
        assert_int_equal(r.calls, 0);
        assert_true(loop_until(w->loop, reply_came, &r, WORLD_WAIT));
        assert_int_equal(r.status, 0);
        assert_int_equal(r.err.kind, ERR_FATAL);
        assert_non_null(strstr(r.err.text, "URL"));
        assert_false(r.maybe_executed);
        reply_free(&r);
    }
}

struct chain {
    struct world *w;
    int left;
    bool free_at_end, ended;
};

static void on_link(void *arg, struct http_response *r)
{
    struct chain *c = arg;
    assert_int_equal(r->status, 200);
    if (--c->left > 0) {
        http_send(c->w->http, &(struct http_request){.method = "GET", .url = url_of(c->w, "/x")}, on_link, c);
        return;
    }
    if (c->free_at_end) {
        http_free(c->w->http);
        c->w->http = NULL;
    }
    c->ended = true;
}

static bool chain_ended(void *arg)
{
    return ((struct chain *)arg)->ended;
}

static void a_callback_may_send_again_and_free_the_transport(void **state)
{
    struct world *w = *state;
    struct chain c = {.w = w, .left = 5, .free_at_end = true};
    struct reply never[6] = {0};
    http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/x")}, on_link, &c);
    for (int i = 0; i < 6; i++) /* some active, some waiting, when it is freed */
        http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, i < 3 ? "/hold" : "/x")}, reply_cb, &never[i]);
    assert_true(loop_until(w->loop, chain_ended, &c, WORLD_WAIT));
    for (int i = 0; i < 3; i++)
        assert_int_equal(never[i].calls, 0);
    for (int i = 3; i < 6; i++)
        reply_free(&never[i]);
}

struct self_cancel {
    struct world *w;
    struct http_call *self, *other;
    int reads;
};

static size_t cancelling_reader(void *arg, char *out, size_t max)
{
    struct self_cancel *s = arg;
    memset(out, 'x', max);
    if (++s->reads == 2) {
        http_cancel(s->w->http, s->other);
        http_cancel(s->w->http, s->self);
    }
    return max;
}

static void a_reader_may_cancel_its_own_call_and_another(void **state)
{
    struct world *w = *state;
    struct self_cancel s = {.w = w};
    struct reply a = {0}, b = {0}, c = {0};
    s.other = http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/hold")}, reply_cb, &b);
    s.self = http_send(w->http,
                       &(struct http_request){.method = "PUT", .url = url_of(w, "/up"), .read = cancelling_reader, .read_arg = &s,
                                              .read_len = 4 * 1024 * 1024},
                       reply_cb, &a);
    while (s.reads < 2)
        assert_true(loop_step(w->loop, WORLD_WAIT));
    http_send(w->http, &(struct http_request){.method = "GET", .url = url_of(w, "/x")}, reply_cb, &c);
    assert_true(loop_until(w->loop, reply_came, &c, WORLD_WAIT));
    assert_int_equal(c.status, 200);
    assert_int_equal(a.calls + b.calls, 0);
    reply_free(&c);
}

static void a_dropped_exchange_is_no_answer_and_on_a_kept_connection_is_tried_once_more(void **state)
{
    struct world *w = *state;
    for (int fresh = 1; fresh >= 0; fresh--) {
        struct reply r = ask(w, (struct http_request){0}, "/drop");
        assert_int_equal(r.status, 0);
        assert_int_equal(r.err.kind, ERR_RETRY);
        assert_int_equal(w->seen, fresh ? 1 : 4); /* the drop; then an answer, a drop, a drop */
        reply_free(&r);
        r = ask(w, (struct http_request){0}, "/x");
        reply_free(&r);
    }
}

static void text_is_escaped_for_paths_and_queries(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1000);
    http_escape(&b, "a/b c?d=\xc3\xa9&~._-");
    assert_string_equal(b.data, "a%2Fb%20c%3Fd%3D%C3%A9%26~._-");
    buf_free(&b);
}

static void a_server_that_cannot_bind_says_where(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    assert_null(http_server_new(w->loop, "127.0.0.1", http_server_port(w->server), 100, on_request, w, &err));
    assert_int_equal(err.kind, ERR_USAGE);
    assert_non_null(strstr(err.text, "cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(err.text, "in use"));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_request_and_its_answer_arrive_whole),
        CASE(every_method_goes_out_under_its_name_and_without_a_body_too),
        CASE(a_redirect_is_an_answer),
        CASE(a_gzip_answer_is_unpacked),
        CASE(an_answer_beyond_the_ceiling_fails_counted_after_unpacking),
        CASE(a_body_is_streamed_from_a_reader_with_and_without_its_length),
        CASE(a_reader_that_ends_early_fails_the_call_and_says_so),
        CASE(a_body_over_the_servers_limit_is_answered_with_413),
        CASE(a_hundred_requests_share_four_places),
        CASE(urgent_requests_overtake_those_that_wait_and_others_keep_their_order),
        CASE(a_cancelled_call_never_calls_back_and_frees_its_place),
        CASE(a_bad_url_fails_on_the_next_turn),
        CASE(a_callback_may_send_again_and_free_the_transport),
        CASE(a_reader_may_cancel_its_own_call_and_another),
        CASE(a_dropped_exchange_is_no_answer_and_on_a_kept_connection_is_tried_once_more),
        CASE(text_is_escaped_for_paths_and_queries),
        CASE(a_server_that_cannot_bind_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
