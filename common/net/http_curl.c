#include "common/net/http_curl.h"

#include "common/base/oom.h"

/* The transport: which call is active when, and curl's sockets and timer on the loop. */

#define KEEPALIVE_CONNECTIONS 64

struct sock {
    struct http_curl *owner;
    curl_socket_t fd;
    struct watch *watch;
};

static void collect(struct http_curl *);
static void start_waiting(struct http_curl *);
static void deliver(struct http_curl *);

static struct http_curl *of(struct http *h)
{
    return (struct http_curl *)h;
}

/* After every visit to curl. The last step may free h: nobody touches it afterwards. */
static void settle(struct http_curl *h)
{
    collect(h);
    start_waiting(h);
    deliver(h);
}

static void visit_curl(struct http_curl *h, curl_socket_t fd, int what)
{
    int running = 0;
    h->in_curl = true;
    curl_multi_socket_action(h->multi, fd, what, &running);
    h->in_curl = false;
    settle(h);
}

static void on_socket(void *arg, int events)
{
    const struct sock *s = arg;
    int what = (events & WATCH_READ ? CURL_CSELECT_IN : 0) | (events & WATCH_WRITE ? CURL_CSELECT_OUT : 0);
    visit_curl(s->owner, s->fd, what);
}

static void on_curl_timer(void *arg)
{
    visit_curl(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(void *arg)
{
    settle(arg);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
    (void)easy;
    struct http_curl *h = arg;
    struct sock *s = assigned;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL) {
            curl_multi_assign(h->multi, fd, NULL);
            watch_free(s->watch);
            free(s);
        }
        return 0;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        *s = (struct sock){.owner = h, .fd = fd};
        s->watch = watch_new(h->loop, fd, on_socket, s);
        curl_multi_assign(h->multi, fd, s);
    }
    watch_set(s->watch, (what & CURL_POLL_IN ? WATCH_READ : 0) | (what & CURL_POLL_OUT ? WATCH_WRITE : 0));
    return 0;
}

static int want_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct http_curl *h = arg;
    if (timeout_ms < 0)
        timer_stop(h->timer);
    else
        timer_set(h->timer, timeout_ms * US_PER_MS);
    return 0;
}

/* The one place where a call changes its state, and with it its list. */
static void call_move(struct http_call *c, enum call_state to)
{
    struct http_curl *h = c->owner;
    switch (c->state) {
    case CALL_WAITING:
        TAILQ_REMOVE(c->request.urgent ? &h->urgent : &h->waiting, c, link);
        break;
    case CALL_ACTIVE:
        if (to == CALL_CANCELLED)
            break; /* stays among the active ones until curl returns */
        /* fall through */
    case CALL_CANCELLED:
        TAILQ_REMOVE(&h->active, c, link);
        h->active_count--;
        break;
    case CALL_ENDED:
        TAILQ_REMOVE(&h->ended, c, link);
        break;
    case CALL_CALLING:
        assert(false && "a call whose callback runs has no next state");
    }
    c->state = to;
    if (to == CALL_ACTIVE) {
        TAILQ_INSERT_TAIL(&h->active, c, link);
        h->active_count++;
    } else if (to == CALL_ENDED) {
        call_release_easy(c);
        TAILQ_INSERT_TAIL(&h->ended, c, link);
    }
}

/* Out of all lists and out of curl, without a callback. */
static void discard(struct http_call *c)
{
    struct http_curl *h = c->owner;
    if (c->state == CALL_ACTIVE || c->state == CALL_CANCELLED)
        curl_multi_remove_handle(h->multi, c->easy);
    call_move(c, CALL_CALLING);
    call_free(c);
}

static void on_deadline(void *arg)
{
    struct http_call *c = arg;
    struct http_curl *h = c->owner;
    if (c->state != CALL_ACTIVE)
        return;
    if (loop_now_us(h->loop) < call_deadline_us(c)) {
        call_arm(c); /* bytes have moved since it was set */
        return;
    }
    curl_multi_remove_handle(h->multi, c->easy);
    call_explain_timeout(c);
    call_move(c, CALL_ENDED);
    settle(h);
}

static void start(struct http_call *c)
{
    struct http_curl *h = c->owner;
    call_move(c, CALL_ACTIVE);
    metric_add(h->metrics, METRIC_HTTP_REQUESTS, 1);
    c->deadline = timer_new(h->loop, on_deadline, c);
    c->started_us = loop_now_us(h->loop);
    call_prepare(c, false);
    if (curl_multi_add_handle(h->multi, c->easy) != CURLM_OK) {
        call_take_result(c, CURLE_FAILED_INIT);
        call_move(c, CALL_ENDED);
    }
}

static void start_waiting(struct http_curl *h)
{
    while (h->active_count < h->max_requests) {
        struct http_call *c = TAILQ_FIRST(&h->urgent);
        if (c == NULL)
            c = TAILQ_FIRST(&h->waiting);
        if (c == NULL)
            return;
        start(c);
    }
}

static void transfer_over(struct http_curl *h, struct http_call *c, CURLcode code)
{
    bool again = c->state == CALL_ACTIVE && call_can_retry(c, code);
    curl_multi_remove_handle(h->multi, c->easy);
    if (c->state == CALL_CANCELLED) {
        call_move(c, CALL_CALLING);
        call_free(c);
        return;
    }
    if (again) {
        metric_add(h->metrics, METRIC_HTTP_RETRIES, 1);
        c->retried = true;
        call_prepare(c, true);
        if (curl_multi_add_handle(h->multi, c->easy) == CURLM_OK)
            return;
        code = CURLE_FAILED_INIT;
    }
    call_take_result(c, code);
    call_move(c, CALL_ENDED);
}

static void collect(struct http_curl *h)
{
    for (struct http_call *c = TAILQ_FIRST(&h->active), *next; c != NULL; c = next) {
        next = TAILQ_NEXT(c, link);
        if (c->state == CALL_CANCELLED)
            discard(c);
    }
    int left = 0;
    for (CURLMsg *m = NULL; (m = curl_multi_info_read(h->multi, &left)) != NULL;) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result; /* m is gone once the handle is removed */
        char *private = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        transfer_over(h, (struct http_call *)(void *)private, code);
    }
}

static void call_back(struct http_call *c)
{
    struct http_header headers[LIMIT_HTTP_HEADER_COUNT];
    const char *p = c->headers.data;
    for (size_t i = 0; i < c->header_count; i++) {
        headers[i].name = p;
        headers[i].value = p + strlen(p) + 1;
        p = headers[i].value + strlen(headers[i].value) + 1;
    }
    struct http_response r = {
        .status = c->status,
        .body = &c->body,
        .headers = headers,
        .header_count = c->header_count,
        .err = &c->err,
        .maybe_executed = c->status == 0 && c->was_sent,
    };
    if (c->status == 0)
        metric_add(c->owner->metrics, METRIC_HTTP_FAILURES, 1);
    c->cb(c->arg, &r);
}

static void deliver(struct http_curl *h)
{
    h->calling = true;
    struct http_call *c;
    while ((c = TAILQ_FIRST(&h->ended)) != NULL) { /* empty once the transport is closed */
        call_move(c, CALL_CALLING);
        call_back(c);
        call_free(c);
    }
    h->calling = false;
    if (h->closed)
        free(h);
}

static struct http_call *curl_send(struct http *http, const struct http_request *r, http_cb *cb, void *arg)
{
    struct http_curl *h = of(http);
    struct http_call *c = call_new(h, r, cb, arg);
    if (c->err.kind != ERR_NONE) {
        c->state = CALL_ENDED;
        TAILQ_INSERT_TAIL(&h->ended, c, link);
    } else {
        c->state = CALL_WAITING;
        TAILQ_INSERT_TAIL(r->urgent ? &h->urgent : &h->waiting, c, link);
    }
    if (!timer_is_set(h->kick))
        timer_set(h->kick, 0);
    return c;
}

static void curl_cancel(struct http *http, struct http_call *c)
{
    struct http_curl *h = of(http);
    assert(c->owner == h);
    if (c->state == CALL_CALLING)
        return;
    if (c->state == CALL_ACTIVE && h->in_curl)
        call_move(c, CALL_CANCELLED);
    else
        discard(c);
    if (!timer_is_set(h->kick))
        timer_set(h->kick, 0); /* its place is free */
}

static void discard_all(struct http_calls *calls)
{
    struct http_call *c;
    while ((c = TAILQ_FIRST(calls)) != NULL)
        discard(c);
}

static void curl_free_transport(struct http *http)
{
    struct http_curl *h = of(http);
    assert(!h->in_curl && !h->closed);
    discard_all(&h->active);
    discard_all(&h->urgent);
    discard_all(&h->waiting);
    discard_all(&h->ended);
    curl_multi_cleanup(h->multi); /* gives back its sockets through want_socket */
    timer_free(h->timer);
    timer_free(h->kick);
    free(h->user_agent);
    free(h->ca_file);
    free(h->proxy);
    curl_global_cleanup();
    h->closed = true;
    if (!h->calling)
        free(h);
}

static const struct http_ops curl_ops = {.send = curl_send, .cancel = curl_cancel, .free = curl_free_transport};

struct http *http_curl(struct loop *loop, const struct http_options *o)
{
    static const struct http_options defaults;
    o = o ? o : &defaults;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        fprintf(stderr, "bqfleet: libcurl cannot start\n");
        abort();
    }
    struct http_curl *h = xcalloc(1, sizeof(*h));
    h->http.ops = &curl_ops;
    h->loop = loop;
    h->max_requests = o->max_requests > 0 ? o->max_requests : LIMIT_HTTP_REQUESTS;
    h->user_agent = xstrdup(o->user_agent ? o->user_agent : "bqfleet/" BQF_VERSION " (gzip)");
    h->ca_file = o->ca_file ? xstrdup(o->ca_file) : NULL;
    h->proxy = o->proxy ? xstrdup(o->proxy) : NULL;
    h->metrics = o->metrics;
    TAILQ_INIT(&h->urgent);
    TAILQ_INIT(&h->waiting);
    TAILQ_INIT(&h->active);
    TAILQ_INIT(&h->ended);
    h->timer = timer_new(loop, on_curl_timer, h);
    h->kick = timer_new(loop, on_kick, h);
    h->multi = curl_multi_init();
    if (h->multi == NULL)
        out_of_memory("libcurl");
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)KEEPALIVE_CONNECTIONS);
    return &h->http;
}
