#ifndef BQF_NET_LOOP_INTERNAL_H
#define BQF_NET_LOOP_INTERNAL_H

#include "common/net/loop.h"

/* What the two kinds of loop share. Only for loop.c, loop_event.c, loop_virtual.c and the rest of common/net. */

struct event;

struct timer {
    struct loop *loop;
    void (*fn)(void *);
    void *arg;
    bool set;
    struct event *event; /* real loop */
    int64_t due_us;      /* when */
    uint64_t order;      /* virtual loop: the how-manieth timer_set it was (equal times fire in this order), */
    size_t at;           /* and the place in the heap */
};

enum turn {
    TURN_WENT, /* something ran, or the time was up */
    TURN_EMPTY /* there is nothing to wait for; no time has passed */
};

struct loop_ops {
    void (*free)(struct loop *);
    int64_t (*now_us)(struct loop *);
    int64_t (*wall_us)(struct loop *);
    void (*spend)(struct loop *, int64_t us);
    /* Waits for what comes first, at most max_wait_us (TURN_FOREVER: without limit), and runs all that is due. */
    enum turn (*turn)(struct loop *, int64_t max_wait_us);
    void (*timer_init)(struct timer *);
    void (*timer_arm)(struct timer *, int64_t delay_us);
    void (*timer_disarm)(struct timer *);
    void (*timer_fini)(struct timer *);
};

#define TURN_FOREVER INT64_C(-1)

struct deferred {
    void (*fn)(void *);
    void *arg;
};

struct deferred_list {
    struct deferred *items;
    size_t count, cap;
};

struct loop { /* first member of both kinds */
    const struct loop_ops *ops;
    struct event_base *base;      /* NULL: virtual */
    struct deferred_list waiting; /* for the next turn */
    struct deferred_list running; /* of this turn */
    uint64_t ran;                 /* callbacks so far: loop_step tells by it whether anything happened */
    size_t objects;               /* timers, watches and signals that are not freed yet */
    bool in_turn, stop;
};

/* For callbacks that libevent makes without passing through this module. */
static inline void loop_ran(struct loop *l) { l->ran++; }
/* Takes the timer as fired and calls it, which may free it. */
void timer_fire(struct timer *);

#endif
