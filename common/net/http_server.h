#ifndef BQF_NET_HTTP_SERVER_H
#define BQF_NET_HTTP_SERVER_H

#include "common/base/buf.h"
#include "common/net/loop.h"

/* A small HTTP/1.1 server on libevent's evhttp: metrics and health of daemons, and the tests' model of BigQuery on a socket. */
struct http_server;
struct http_exchange; /* one request that waits for its answer; answer it once, now or later */

struct http_server_request {
    const char *method;  /* "GET" */
    const char *path;    /* decoded, without the query */
    const char *target;  /* as sent, with the query */
    const char *body; size_t body_len;
};
typedef void http_server_cb(void *arg, struct http_exchange *, const struct http_server_request *);

/* port 0: any; http_server_port says which. max_body in bytes. NULL with ERR_USAGE when it cannot bind. */
struct http_server *http_server_new(struct loop *, const char *address, int port, size_t max_body, http_server_cb *, void *arg, struct error *);
int http_server_port(const struct http_server *);
void http_server_free(struct http_server *); /* closes everything; exchanges without an answer are gone and must not be touched */

const char *http_exchange_header(struct http_exchange *, const char *name); /* of the request; NULL when absent */
/* headers: NULL-terminated "Name: value", may be NULL. */
void http_exchange_answer(struct http_exchange *, int status, const char *const *headers, const void *body, size_t len);
void http_exchange_drop(struct http_exchange *); /* closes the connection without an answer */

#endif
