#include "common/net/loop_internal.h"

#include <event2/event.h>
#include <signal.h>
#include <time.h>

#include "common/base/log.h"

/* The real loop: libevent with microsecond timers. */

#define LONGEST_WAIT_US (INT64_C(365) * 86400 * US_PER_S)

struct loop_event {
    struct loop loop;
    struct event *wake; /* ends a turn that has a limit */
    int64_t now_us;     /* valid for the callbacks of one turn: the wait is over when the first of them asks */
    int64_t wall_us; /* likewise */
    bool now_valid, wall_valid, dispatching;
    bool woken; /* by `wake`: nothing else ended the wait */
};

struct watch {
    struct loop *loop;
    struct event *event;
    int fd, events;
    void (*fn)(void *, int events);
    void *arg;
};

struct sigwatch {
    struct loop *loop;
    struct event *event;
    void (*fn)(void *, int signo);
    void *arg;
};

static struct loop_event *of(struct loop *l)
{
    return (struct loop_event *)l;
}

static int64_t clock_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

static int64_t event_now_us(struct loop *l)
{
    struct loop_event *e = of(l);
    if (e->dispatching && e->now_valid)
        return e->now_us;
    e->now_us = i64_max(e->now_us, clock_us(CLOCK_MONOTONIC));
    e->now_valid = true;
    return e->now_us;
}

static int64_t event_wall_us(struct loop *l)
{
    struct loop_event *e = of(l);
    if (!e->dispatching || !e->wall_valid)
        e->wall_us = clock_us(CLOCK_REALTIME);
    e->wall_valid = true;
    return e->wall_us;
}

static void event_spend(struct loop *l, int64_t us)
{
    (void)l;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * INT64_C(1000000000) + now.tv_nsec - start.tv_nsec < us * 1000);
}

static struct timeval timeval_of(int64_t us)
{
    us = i64_min(us, LONGEST_WAIT_US);
    return (struct timeval){.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};
}

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "bqfleet: libevent failed: %s\n", what);
        abort();
    }
}

static void *made(void *p, const char *what)
{
    must(p == NULL, what);
    return p;
}

static enum turn event_turn(struct loop *l, int64_t max_wait_us)
{
    struct loop_event *e = of(l);
    if (max_wait_us > 0) {
        struct timeval tv = timeval_of(max_wait_us);
        must(event_add(e->wake, &tv), "event_add");
    }
    e->now_valid = e->wall_valid = e->woken = false;
    e->dispatching = true;
    int rc = event_base_loop(l->base, max_wait_us == 0 ? EVLOOP_NONBLOCK : EVLOOP_ONCE);
    e->dispatching = false;
    if (max_wait_us > 0) {
        event_del(e->wake);
        if (!e->woken)
            loop_ran(l); /* perhaps only what libevent does for itself, as between two parts of a request to http_server */
    }
    return rc == 1 ? TURN_EMPTY : TURN_WENT;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct timer *t = arg;
    struct loop_event *e = of(t->loop);
    /* libevent counts from the time it had cached, so it may be early by our clock. What a timer calls never sees a time before the one it was set for:
     * it would find nothing due yet, and wait for ever. */
    if (event_now_us(t->loop) < t->due_us)
        e->now_us = t->due_us;
    timer_fire(t);
}

static void event_timer_init(struct timer *t)
{
    t->event = made(evtimer_new(t->loop->base, on_timer, t), "evtimer_new");
}

static void event_timer_arm(struct timer *t, int64_t delay_us)
{
    struct timeval tv = timeval_of(delay_us);
    t->due_us = event_now_us(t->loop) + i64_min(delay_us, LONGEST_WAIT_US);
    must(evtimer_add(t->event, &tv), "evtimer_add");
}

static void event_timer_disarm(struct timer *t)
{
    evtimer_del(t->event);
}

static void event_timer_fini(struct timer *t)
{
    event_free(t->event);
}

static void event_loop_free(struct loop *l)
{
    event_free(of(l)->wake);
    event_base_free(l->base);
    free(l);
}

static const struct loop_ops event_ops = {
    .free = event_loop_free,
    .now_us = event_now_us,
    .wall_us = event_wall_us,
    .spend = event_spend,
    .turn = event_turn,
    .timer_init = event_timer_init,
    .timer_arm = event_timer_arm,
    .timer_disarm = event_timer_disarm,
    .timer_fini = event_timer_fini,
};

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ((struct loop_event *)arg)->woken = true;
}

/* libevent's own complaints, which it would print on stderr as they come. */
static void on_libevent_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        log_warn("libevent: %s", text);
    else
        log_debug("libevent: %s", text);
}

struct loop *loop_new(void)
{
    event_set_mem_functions(xmalloc, xrealloc, free); /* without memory for a connection's name, libevent 2.1 would follow a null pointer */
    event_set_log_callback(on_libevent_log);
    signal(SIGPIPE, SIG_IGN);
    struct event_config *config = made(event_config_new(), "event_config_new");
    must(event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER), "precise timers");
    struct loop_event *e = xcalloc(1, sizeof(*e));
    e->loop.ops = &event_ops;
    e->loop.base = made(event_base_new_with_config(config), "event_base_new");
    e->wake = made(evtimer_new(e->loop.base, on_wake, e), "evtimer_new");
    event_config_free(config);
    return &e->loop;
}

static void must_be_real(const struct loop *l, const char *what)
{
    if (l->base == NULL) {
        fprintf(stderr, "bqfleet: a virtual loop has no %s: this is a bug\n", what);
        abort();
    }
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct watch *w = arg;
    int events = (what & EV_READ ? WATCH_READ : 0) | (what & EV_WRITE ? WATCH_WRITE : 0);
    loop_ran(w->loop);
    w->fn(w->arg, events);
}

struct watch *watch_new(struct loop *l, int fd, void (*fn)(void *, int events), void *arg)
{
    must_be_real(l, "descriptors");
    struct watch *w = xcalloc(1, sizeof(*w));
    *w = (struct watch){.loop = l, .fd = fd, .fn = fn, .arg = arg};
    w->event = made(event_new(l->base, fd, EV_READ | EV_PERSIST, on_watch, w), "event_new");
    l->objects++;
    return w;
}

void watch_set(struct watch *w, int events)
{
    if (w->events == events)
        return;
    event_del(w->event);
    w->events = events;
    if (events == 0)
        return;
    int what = EV_PERSIST | (events & WATCH_READ ? EV_READ : 0) | (events & WATCH_WRITE ? EV_WRITE : 0);
    must(event_assign(w->event, w->loop->base, w->fd, (short)what, on_watch, w), "event_assign");
    must(event_add(w->event, NULL), "event_add");
}

void watch_free(struct watch *w)
{
    if (w == NULL)
        return;
    event_free(w->event);
    w->loop->objects--;
    free(w);
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    (void)what;
    struct sigwatch *s = arg;
    loop_ran(s->loop);
    s->fn(s->arg, (int)signo);
}

struct sigwatch *sigwatch_new(struct loop *l, int signo, void (*fn)(void *, int signo), void *arg)
{
    must_be_real(l, "signals");
    struct sigwatch *s = xcalloc(1, sizeof(*s));
    *s = (struct sigwatch){.loop = l, .fn = fn, .arg = arg};
    s->event = made(evsignal_new(l->base, signo, on_signal, s), "evsignal_new");
    must(evsignal_add(s->event, NULL), "evsignal_add");
    l->objects++;
    return s;
}

void sigwatch_free(struct sigwatch *s)
{
    if (s == NULL)
        return;
    event_free(s->event);
    s->loop->objects--;
    free(s);
}
