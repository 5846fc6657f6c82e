#ifndef BQF_TESTS_SUPPORT_NET_H
#define BQF_TESTS_SUPPORT_NET_H

#include "common/net/http.h"

/* For tests of what talks over sockets: an answer to keep, and a server that misbehaves byte by byte. */

struct reply {
    int calls; /* of the callback */
    int status;
    char *body;
    size_t len;
    bool maybe_executed;
    struct error err;
    char etag[64]; /* the header of that name */
};
void reply_cb(void *arg, struct http_response *); /* arg: struct reply */
bool reply_came(void *arg);
void reply_free(struct reply *);

struct raw;
struct raw_conn {
    struct raw *server;
    int fd;
    int number;   /* connections are counted from 1 */
    int requests; /* complete ones, so far */
    struct buf in; /* what came and was not taken; a complete request lies at its beginning during the callback */
    struct watch *watch;
    struct raw_conn *next;
};
/* Called for each complete request (head and Content-Length bytes). */
typedef void raw_cb(void *arg, struct raw_conn *);
struct raw *raw_new(struct loop *, raw_cb *, void *arg);
void raw_free(struct raw *);
int raw_port(const struct raw *);
int raw_accepted(const struct raw *); /* connections so far */
void raw_hold_reading(struct raw *);  /* from now on nothing is read from connections that come */
void raw_send(struct raw_conn *, const char *text);
void raw_send_bytes(struct raw_conn *, const void *, size_t);
void raw_close(struct raw_conn *);
void raw_reset(struct raw_conn *); /* the peer sees ECONNRESET */

#endif
