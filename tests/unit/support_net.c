#include "tests/unit/support_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

void reply_cb(void *arg, struct http_response *r)
{
    struct reply *to = arg;
    to->calls++;
    to->status = r->status;
    to->maybe_executed = r->maybe_executed;
    to->err = *r->err;
    to->len = r->body->len;
    free(to->body);
    to->body = buf_steal(r->body);
    const char *etag = http_header(r, "etag");
    snprintf(to->etag, sizeof(to->etag), "%s", etag ? etag : "");
}

bool reply_came(void *arg)
{
    return ((struct reply *)arg)->calls > 0;
}

void reply_free(struct reply *r)
{
    free(r->body);
    *r = (struct reply){0};
}

struct raw {
    struct loop *loop;
    int fd, port, accepted;
    bool hold;
    raw_cb *cb;
    void *arg;
    struct watch *watch;
    struct raw_conn *conns;
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

/* The request's length when all of it is there, else 0. */
static size_t complete_request(const struct buf *in)
{
    const char *end = in->len > 0 ? strstr(in->data, "\r\n\r\n") : NULL;
    if (end == NULL)
        return 0;
    size_t need = (size_t)(end - in->data) + 4;
    const char *length = strcasestr(in->data, "\r\nContent-Length: ");
    if (length != NULL && length < end)
        need += strtoul(length + 18, NULL, 10);
    return in->len >= need ? need : 0;
}

static void on_conn(void *arg, int events)
{
    (void)events;
    struct raw_conn *c = arg;
    char *at = buf_reserve(&c->in, 65536);
    must(at != NULL, "raw server: request too large");
    ssize_t n = read(c->fd, at, 65536);
    if (n <= 0) {
        raw_close(c);
        return;
    }
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = '\0';
    for (size_t len; c->fd >= 0 && (len = complete_request(&c->in)) > 0;) {
        c->requests++;
        c->server->cb(c->server->arg, c);
        if (c->fd >= 0)
            buf_consume(&c->in, len);
    }
}

static void on_accept(void *arg, int events)
{
    (void)events;
    struct raw *s = arg;
    struct raw_conn *c = xcalloc(1, sizeof(*c));
    c->server = s;
    c->fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
    must(c->fd >= 0, "accept");
    c->number = ++s->accepted;
    c->in = BUF_INIT(16 * 1024 * 1024);
    c->next = s->conns;
    s->conns = c;
    c->watch = watch_new(s->loop, c->fd, on_conn, c);
    watch_set(c->watch, s->hold ? 0 : WATCH_READ);
}

struct raw *raw_new(struct loop *l, raw_cb *cb, void *arg)
{
    struct raw *s = xcalloc(1, sizeof(*s));
    *s = (struct raw){.loop = l, .cb = cb, .arg = arg};
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int small = 4096;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    must(bind(s->fd, (struct sockaddr *)&at, len) == 0, "bind");
    must(listen(s->fd, 64) == 0, "listen");
    must(getsockname(s->fd, (struct sockaddr *)&at, &len) == 0, "getsockname");
    s->port = ntohs(at.sin_port);
    s->watch = watch_new(l, s->fd, on_accept, s);
    watch_set(s->watch, WATCH_READ);
    return s;
}

void raw_free(struct raw *s)
{
    for (struct raw_conn *c = s->conns, *next; c != NULL; c = next) {
        next = c->next;
        raw_close(c);
        buf_free(&c->in);
        free(c);
    }
    watch_free(s->watch);
    close(s->fd);
    free(s);
}

int raw_port(const struct raw *s)
{
    return s->port;
}

int raw_accepted(const struct raw *s)
{
    return s->accepted;
}

void raw_hold_reading(struct raw *s)
{
    s->hold = true;
}

void raw_send_bytes(struct raw_conn *c, const void *data, size_t len)
{
    must(send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len, "send");
}

void raw_send(struct raw_conn *c, const char *text)
{
    raw_send_bytes(c, text, strlen(text));
}

void raw_each(struct raw *s, const char *text)
{
    for (struct raw_conn *c = s->conns; c != NULL; c = c->next)
        if (c->fd >= 0)
            raw_send(c, text);
}

void raw_close(struct raw_conn *c)
{
    if (c->fd < 0)
        return;
    watch_free(c->watch);
    c->watch = NULL;
    close(c->fd);
    c->fd = -1;
}

void raw_reset(struct raw_conn *c)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    raw_close(c);
}

void world_on_request(void *arg, struct raw_conn *c)
{
    struct raw_world *w = arg;
    w->seen++;
    w->conn = c;
    snprintf(w->last, sizeof(w->last), "%s", c->in.data);
    w->script(w, c);
}

int world_set_up(void **state)
{
    struct raw_world *w = xcalloc(1, sizeof(*w));
    w->loop = loop_new();
    w->raw = raw_new(w->loop, world_on_request, w);
    w->http = http_curl(w->loop, &(struct http_options){.max_requests = 4, .metrics = &w->metrics});
    w->script = world_silence;
    snprintf(w->where, sizeof(w->where), "127.0.0.1:%d", raw_port(w->raw));
    snprintf(w->url, sizeof(w->url), "http://%s/x", w->where);
    *state = w;
    return 0;
}

int world_tear_down(void **state)
{
    struct raw_world *w = *state;
    http_free(w->http);
    raw_free(w->raw);
    loop_free(w->loop);
    free(w);
    return 0;
}

struct reply world_ask(struct raw_world *w, struct http_request r)
{
    struct reply reply = {0};
    r.url = r.url ? r.url : w->url;
    r.method = r.method ? r.method : "GET";
    http_send(w->http, &r, reply_cb, &reply);
    assert_true(loop_until(w->loop, reply_came, &reply, WORLD_WAIT));
    assert_int_equal(reply.calls, 1);
    return reply;
}

void world_say_ok(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    raw_send(c, WORLD_OK);
}

void world_silence(struct raw_world *w, struct raw_conn *c)
{
    (void)w;
    (void)c;
}

void assert_no_answer(struct raw_world *w, struct reply *r, const char *text, bool maybe_executed)
{
    assert_int_equal(r->status, 0);
    assert_int_equal(r->err.kind, ERR_RETRY);
    if (strstr(r->err.text, text) == NULL || strstr(r->err.text, w->where) == NULL)
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", r->err.text, text, w->where);
    assert_int_equal(r->maybe_executed, maybe_executed);
    reply_free(r);
}
