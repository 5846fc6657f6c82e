#ifndef BQF_NET_HTTP_H
#define BQF_NET_HTTP_H

#include "common/base/buf.h"
#include "common/base/metrics.h"
#include "common/net/loop.h"

/*
 * HTTP requests behind a seam: http_curl() is curl multi inside the loop; the model of BigQuery and the simulator are other transports.
 * A transport does not retry, but for one case: a kept-alive connection that the server closed before a byte of the answer came is
 * replaced by a fresh one. Redirects are not followed (308 is an answer of resumable uploads).
 */
struct http;
struct http_call;

struct http_slice { const void *data; size_t len; };

struct http_request {
    const char *method;              /* "GET", "POST", "PUT", "DELETE", "PATCH" */
    const char *url;
    const char *const *headers;      /* NULL-terminated "Name: value"; may be NULL */
    /* The body: slices that stay valid until the callback (or cancel); or a reader, for bodies made while they are sent. */
    const struct http_slice *body; size_t body_count;
    size_t (*read)(void *arg, char *out, size_t max); /* 0 at the end; used when body is NULL */
    void *read_arg;
    int64_t read_len;                /* bytes the reader will give, or -1: chunked */
    /* Milliseconds; 0: the transport's default (10 s, 60 s, 30 s, 300 s). */
    int64_t connect_ms, first_byte_ms, stall_ms, whole_ms;
    size_t max_body;                 /* bytes of the answer; 0: LIMIT_HTTP_BODY. Beyond it the call fails (ERR_FATAL, "too large"). */
    bool direct;                     /* past any proxy */
    bool urgent;                     /* ahead of waiting requests: lease renewals, cancellations */
};

struct http_header { const char *name, *value; };
struct http_response {
    int status;                      /* 100..599; 0: no answer, see err */
    struct buf *body;                /* decompressed; buf_steal it to keep it */
    const struct http_header *headers; size_t header_count;
    const struct error *err;         /* when status is 0: ERR_RETRY (refused, reset, time-out: the text says which, with host and port),
                                        ERR_FATAL (bad URL, certificate) */
    bool maybe_executed;             /* status 0, and the request may have reached the server all the same */
};
typedef void http_cb(void *arg, struct http_response *);
/* The value of a header (any case), or NULL. */
const char *http_header(const struct http_response *, const char *name);
/* When the server answered, by its own clock (Date): wall clock, to the second; 0: it does not say. */
int64_t http_date_ms(const struct http_response *);

struct http_ops {
    struct http_call *(*send)(struct http *, const struct http_request *, http_cb *, void *arg);
    void (*cancel)(struct http *, struct http_call *);
    void (*free)(struct http *);
};
struct http { const struct http_ops *ops; }; /* first member of every transport */

/* Calls back exactly once, never from inside; url, method, headers and the array of slices (not the bytes) are copied. After
 * http_cancel no callback comes; nor after http_free, which drops what is under way (not to be called by a request's reader). The call is
 * gone when its callback returns. */
static inline struct http_call *http_send(struct http *h, const struct http_request *r, http_cb *cb, void *arg) { return h->ops->send(h, r, cb, arg); }
static inline void http_cancel(struct http *h, struct http_call *c) { if (c) h->ops->cancel(h, c); }
static inline void http_free(struct http *h) { if (h) h->ops->free(h); }

struct http_options {
    int max_requests;        /* at once; the rest wait in order. 0: LIMIT_HTTP_REQUESTS */
    const char *user_agent;  /* must contain "gzip" for Google to compress; NULL: "bqfleet/VERSION (gzip)" */
    const char *ca_file;     /* NULL: the system's */
    const char *proxy;       /* NULL: from the environment, as curl does */
    struct metrics *metrics; /* may be NULL */
};
struct http *http_curl(struct loop *, const struct http_options *);

/* Percent-encodes for a path segment or a query value. Appends. */
void http_escape(struct buf *, const char *text);

#endif
