#ifndef BQF_NET_LOOP_H
#define BQF_NET_LOOP_H

#include "common/base/error.h"

/*
 * The one event loop of a process, and its only clock. Everything runs on its thread; callbacks may free the object they belong to.
 * loop_new() is libevent with precise timers; loop_new_virtual() has no file descriptors and its time stands still until
 * loop_step() jumps to the next timer: for tests and simulations. Code that takes a loop cannot tell which it has.
 * A loop is freed after everything that was made on it. loop_new() ignores SIGPIPE in the whole process: writing to a closed pipe or
 * socket is an error like others.
 */
struct loop;

struct loop *loop_new(void);
struct loop *loop_new_virtual(int64_t wall_us_at_start);
void loop_free(struct loop *);

int64_t loop_now_us(struct loop *);  /* monotonic, microseconds; cached for one turn of the loop */
int64_t loop_wall_us(struct loop *); /* microseconds since 1970-01-01 UTC; likewise */
/* Works for so long, doing nothing: a callback that is slow. Virtual: that much time passes. */
void loop_spend(struct loop *, int64_t us);
static inline int64_t loop_now_ms(struct loop *l) { return loop_now_us(l) / US_PER_MS; }
static inline int64_t loop_wall_ms(struct loop *l) { return loop_wall_us(l) / US_PER_MS; }

/* Until loop_stop() (one that came before counts), or until nothing is left to wait for. */
void loop_run(struct loop *);
void loop_stop(struct loop *);
/* Runs what is due (real: waits at most max_wait_us for it; virtual: jumps to the next timer if nothing is due and it is at most
 * max_wait_us away, else advances by max_wait_us). False when nothing ran. */
bool loop_step(struct loop *, int64_t max_wait_us);
/* Runs until cond(arg), at most for `timeout_us` of the loop's own time. True when cond held. For tests and short
 * commands; does not heed loop_stop(). */
bool loop_until(struct loop *, bool (*cond)(void *), void *arg, int64_t timeout_us);

/* Timers fire once; setting a set timer moves it. */
struct timer;
struct timer *timer_new(struct loop *, void (*fn)(void *), void *arg);
void timer_set(struct timer *, int64_t delay_us);
void timer_stop(struct timer *);
bool timer_is_set(const struct timer *);
void timer_free(struct timer *); /* NULL allowed; stops it */
DEFINE_AUTO(timer_free, struct timer *)

/* Calls fn(arg) once on the next turn, in order of these calls. Not cancellable: use a timer with delay 0 where that matters. */
void loop_defer(struct loop *, void (*fn)(void *), void *arg);

/* File descriptors (real loop only; the virtual one aborts). Level-triggered. */
struct watch;
enum { WATCH_READ = 1, WATCH_WRITE = 2 };
struct watch *watch_new(struct loop *, int fd, void (*fn)(void *, int events), void *arg);
void watch_set(struct watch *, int events); /* 0: none */
void watch_free(struct watch *);

/* Signals (real loop only; one loop of a process): fn is called on the loop. One handler a signal. */
struct sigwatch;
struct sigwatch *sigwatch_new(struct loop *, int signo, void (*fn)(void *, int signo), void *arg);
void sigwatch_free(struct sigwatch *);

/* The libevent base of a real loop, for common/net only; NULL on a virtual one. */
struct event_base *loop_base(struct loop *);

#endif
