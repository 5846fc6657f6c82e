#include "common/net/http_server.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "common/base/limits.h"
#include "common/base/oom.h"
#include "common/net/loop_internal.h"

#define IDLE_SECONDS 120 /* a connection without traffic is closed */

struct http_exchange {
    TAILQ_ENTRY(http_exchange) link;
    struct http_server *server;
    struct evhttp_request *request;
};

struct http_server {
    struct loop *loop;
    struct evhttp *evhttp;
    int port;
    http_server_cb *cb;
    void *arg;
    TAILQ_HEAD(, http_exchange) open;
};

static const struct {
    enum evhttp_cmd_type type;
    const char *name;
} methods[] = {
    {EVHTTP_REQ_GET, "GET"},       {EVHTTP_REQ_HEAD, "HEAD"},       {EVHTTP_REQ_POST, "POST"},
    {EVHTTP_REQ_PUT, "PUT"},       {EVHTTP_REQ_DELETE, "DELETE"},   {EVHTTP_REQ_PATCH, "PATCH"},
    {EVHTTP_REQ_OPTIONS, "OPTIONS"},
};

static const char *method_name(enum evhttp_cmd_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (methods[i].type == type)
            return methods[i].name;
    return "?";
}

static void exchange_free(struct http_exchange *x)
{
    TAILQ_REMOVE(&x->server->open, x, link);
    free(x);
}

static void on_request(struct evhttp_request *request, void *arg)
{
    struct http_server *s = arg;
    loop_ran(s->loop);
    size_t path_len = 0;
    const char *raw = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    AUTO(free_ptr) char *path = evhttp_uridecode(raw ? raw : "/", 0, &path_len);
    if (path == NULL || strlen(path) != path_len) { /* an encoded NUL would cut the path short */
        evhttp_send_reply(request, HTTP_BADREQUEST, NULL, NULL);
        return;
    }
    struct http_exchange *x = xcalloc(1, sizeof(*x));
    x->server = s;
    x->request = request;
    TAILQ_INSERT_TAIL(&s->open, x, link);
    struct evbuffer *in = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(in);
    struct http_server_request r = {
        .method = method_name(evhttp_request_get_command(request)),
        .path = path,
        .target = evhttp_request_get_uri(request),
        .body = len > 0 ? (const char *)evbuffer_pullup(in, -1) : "",
        .body_len = len,
    };
    if (r.body == NULL)
        out_of_memory("an HTTP request's body");
    s->cb(s->arg, x, &r);
}

static int bound_port(struct evhttp_bound_socket *bound)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {.v6 = {0}};
    socklen_t len = sizeof(at);
    if (getsockname(evhttp_bound_socket_get_fd(bound), &at.any, &len) != 0)
        return -1;
    return ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
}

struct http_server *http_server_new(struct loop *loop, const char *address, int port, size_t max_body, http_server_cb *cb, void *arg,
                                    struct error *err)
{
    assert(loop_base(loop) != NULL);
    assert(port >= 0 && port <= 65535);
    struct http_server *s = xcalloc(1, sizeof(*s));
    s->loop = loop;
    s->cb = cb;
    s->arg = arg;
    TAILQ_INIT(&s->open);
    s->evhttp = evhttp_new(loop_base(loop));
    if (s->evhttp == NULL)
        out_of_memory("an HTTP server");
    loop->objects++;
    ev_uint32_t allowed = 0;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        allowed |= (ev_uint32_t)methods[i].type;
    evhttp_set_allowed_methods(s->evhttp, (ev_uint16_t)allowed);
    evhttp_set_max_body_size(s->evhttp, (ev_ssize_t)max_body);
    evhttp_set_max_headers_size(s->evhttp, LIMIT_HTTP_HEADERS);
    evhttp_set_default_content_type(s->evhttp, NULL);
    evhttp_set_timeout(s->evhttp, IDLE_SECONDS);
    evhttp_set_gencb(s->evhttp, on_request, s);
    errno = 0;
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(s->evhttp, address, (ev_uint16_t)port);
    if (bound == NULL) {
        error_set(err, ERR_USAGE, errno, "cannot listen on %s:%d: %s", address, port, errno ? strerror(errno) : "not an address");
        http_server_free(s);
        return NULL;
    }
    s->port = bound_port(bound);
    return s;
}

int http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_free(struct http_server *s)
{
    if (s == NULL)
        return;
    struct http_exchange *x;
    while ((x = TAILQ_FIRST(&s->open)) != NULL) {
        if (evhttp_request_get_connection(x->request) == NULL)
            evhttp_request_free(x->request); /* its client has gone: nobody else frees it */
        exchange_free(x);
    }
    evhttp_free(s->evhttp);
    s->loop->objects--;
    free(s);
}

const char *http_exchange_header(struct http_exchange *x, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(x->request), name);
}

static void add_header(struct evkeyvalq *out, const char *line)
{
    const char *colon = strchr(line, ':');
    assert(colon != NULL);
    AUTO(free_ptr) char *name = xstrndup(line, (size_t)(colon - line));
    const char *value = colon + 1;
    while (*value == ' ')
        value++;
    if (evhttp_add_header(out, name, value) != 0)
        out_of_memory("an HTTP answer's header");
}

void http_exchange_answer(struct http_exchange *x, int status, const char *const *headers, const void *body, size_t len)
{
    struct evhttp_request *request = x->request;
    for (const char *const *line = headers; line != NULL && *line != NULL; line++)
        add_header(evhttp_request_get_output_headers(request), *line);
    struct evbuffer *out = evbuffer_new();
    if (out == NULL || (len > 0 && evbuffer_add(out, body, len) != 0))
        out_of_memory("an HTTP answer");
    exchange_free(x);
    evhttp_send_reply(request, status, NULL, out); /* frees the request, also when its client has gone */
    evbuffer_free(out);
}

void http_exchange_drop(struct http_exchange *x)
{
    struct evhttp_request *request = x->request;
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    exchange_free(x);
    if (connection != NULL)
        evhttp_connection_free(connection); /* and the request with it */
    else
        evhttp_request_free(request);
}
