#ifndef BQF_NET_HTTP_CURL_H
#define BQF_NET_HTTP_CURL_H

#include <curl/curl.h>
#include <sys/queue.h>

#include "common/base/limits.h"
#include "common/net/http.h"

/* Inside the curl transport: http_curl.c queues, starts and ends calls; http_call.c is one call on its easy handle. */

enum call_state {
    CALL_WAITING,   /* for a place below the ceiling */
    CALL_ACTIVE,    /* its easy handle is in the multi handle */
    CALL_ENDED,     /* its callback is due */
    CALL_CALLING,   /* its callback runs: it is in no list */
    CALL_CANCELLED  /* active, but cancelled while curl was at work: freed when curl returns */
};

enum call_phase { PHASE_CONNECT, PHASE_SEND, PHASE_WAIT, PHASE_RECEIVE };

/* Why our own callbacks made curl fail a transfer. */
enum call_refusal { REFUSED_NOT, REFUSED_BODY, REFUSED_HEADERS, REFUSED_READER };

TAILQ_HEAD(http_calls, http_call);

struct http_call {
    TAILQ_ENTRY(http_call) link;
    struct http_curl *owner;
    enum call_state state;
    http_cb *cb;
    void *arg;

    struct http_request request; /* strings and slices are ours */
    char *url, *method, *where;  /* where: "host:port" */
    struct http_slice *slices;
    struct curl_slist *header_lines;
    int64_t body_len;            /* -1: chunked */
    bool has_body;

    CURL *easy;
    struct timer *deadline;
    enum call_phase phase;
    int64_t started_us;          /* the first attempt */
    int64_t attempt_us;          /* this attempt */
    int64_t moved_us;            /* the last byte in either direction */
    curl_off_t up, down;         /* bytes as of then */
    int64_t given;               /* bytes of the body given to curl */
    size_t slice, slice_at;
    bool was_sent;               /* some attempt had a connection: the server may have acted on it */
    bool answered;               /* a line of an answer came in this attempt */
    bool retried;
    enum call_refusal refusal;

    struct buf headers;          /* "name\0value\0" one after another */
    size_t header_count;
    struct buf body;
    int status;
    struct error err;
    char curl_text[CURL_ERROR_SIZE];
};

struct http_curl {
    struct http http;
    struct loop *loop;
    CURLM *multi;
    struct timer *timer; /* curl's own */
    struct timer *kick;  /* on the next turn: start what may start, call back what has ended */
    struct http_calls urgent, waiting, active, ended;
    int active_count, max_requests;
    bool in_curl;        /* curl is on the stack: it must not be entered again */
    bool calling;        /* a callback runs, */
    bool closed;         /* and has freed the transport: the memory goes when it returns */
    char *user_agent, *ca_file, *proxy;
    struct metrics *metrics;
};

/* A call with copies of the request; when the URL is bad, err is set. Owned by nobody's list yet. */
struct http_call *call_new(struct http_curl *, const struct http_request *, http_cb *, void *arg);
void call_free(struct http_call *);
/* The easy handle and the timer go as soon as the transfer is over: the call's callback may free the transport. */
void call_release_easy(struct http_call *);
/* Makes or remakes the easy handle ready for curl_multi_add_handle. */
void call_prepare(struct http_call *, bool fresh_connection);
/* When the present phase, or the whole, is over. Loop time. */
int64_t call_deadline_us(const struct http_call *);
void call_arm(struct http_call *);
/* Fills err for the deadline that has passed. */
void call_explain_timeout(struct http_call *);
/* Takes status or error from a transfer that curl has ended. */
void call_take_result(struct http_call *, CURLcode);
/* A kept-alive connection died under it before a byte came back, and its body can be sent once more. */
bool call_can_retry(const struct http_call *, CURLcode);

#endif
