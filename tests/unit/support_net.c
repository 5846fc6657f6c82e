#include "tests/unit/support_net.h"

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
