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
void raw_each(struct raw *, const char *text); /* to every open connection */
void raw_close(struct raw_conn *);
void raw_reset(struct raw_conn *); /* the peer sees ECONNRESET */

/* A loop, such a server and a client of at most four requests at once, for cmocka's set-up and tear-down. */
struct raw_world {
    struct loop *loop;
    struct raw *raw;
    struct http *http;
    struct metrics metrics;
    char url[128], where[64]; /* where: "127.0.0.1:port" */
    char last[1024];          /* the request that came last, */
    struct raw_conn *conn;    /* its connection, */
    int seen;                 /* and how many came */
    void (*script)(struct raw_world *, struct raw_conn *);
};
#define WORLD_WAIT (20 * US_PER_S)
#define WORLD_OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
int world_set_up(void **state);
int world_tear_down(void **state);
void world_on_request(void *arg, struct raw_conn *); /* the server's callback */
/* Sends and waits; method and URL may be left out. */
struct reply world_ask(struct raw_world *, struct http_request);
/* Scripts. */
void world_say_ok(struct raw_world *, struct raw_conn *);
void world_silence(struct raw_world *, struct raw_conn *);
/* There was no answer, it is retryable, the text contains this and the server's place. Frees the reply. */
void assert_no_answer(struct raw_world *, struct reply *, const char *text, bool maybe_executed);

#endif
