#ifndef BQF_WORKER_HANDLERS_HANDLER_H
#define BQF_WORKER_HANDLERS_HANDLER_H

#include "worker/core.h"

/*
 * A handler at work for one run: a child that takes up to `window` items, or none at all (noop). The pool makes and frees them; the dispatcher hands
 * out items. Kinds: exec.c, command.c, noop.c, query.c. Loop thread only.
 *
 * What a handler calls: staging_row() for each row; dispatch_answer() once for every item it was given, unless it is freed before; pool_proved() when its
 * program works; pool_ended() as its very last act when its child is gone.
 */
struct handler_ops {
    /* Whether it would take the item now; it kicks the dispatcher when that may have changed. NULL: its window says that. */
    bool (*room)(struct handler *, const struct item *);
    /* The item is at the end of h->items. */
    void (*start)(struct handler *, struct item *);
    /* Sends what start() gathered; noop answers here. May be NULL. */
    void (*flush)(struct handler *);
    /* There is room for rows again. May be NULL. */
    void (*resume)(struct handler *);
    /* No further calls: its stdin is closed, and it is killed when it stays (now: at once). Its items are the caller's. */
    void (*close)(struct handler *, bool now);
    /* What it waits for, for people; "": nothing. May be NULL. */
    const char *(*waits_for)(struct handler *);
};

struct handler {
    const struct handler_ops *ops;
    struct run *run;
    TAILQ_ENTRY(handler) link;   /* in its pool */
    TAILQ_ENTRY(handler) touched;/* in the dispatcher's list of those to flush */
    struct item_list items;      /* with it, the oldest first */
    int64_t window, busy;
    int64_t born_us;
    bool flush_due;
    bool full;                   /* in its pool's list of those without room */
    bool alone;                  /* works on one item at a time, whatever its window: it has, or may have, a suspect */
    bool probation;              /* gets no item before it is proved, or has stayed alive for a while */
    bool cleared;                /* has stayed alive for that while: what kills it now is its item */
    int64_t given;               /* items it was given */
    bool proved;                 /* has answered anything */
    bool blocked;                /* its pipe is not read */
    bool stalled;                /* for want of room in the stream of one of its items */
};

/* Whether a line that has `have` bytes may grow by `more`, although its end has not come: all such lines of a worker have one buffer between them, short
 * ones aside. What runs with nothing beside it always may. */
static inline bool handler_line_fits(const struct worker *w, size_t have, size_t more)
{
    return have + more <= 65536 || w->lines + (int64_t)more <= w->o.buffer || w->in_flight <= 1;
}

/* Its pipe is not to be read further now. */
static inline bool handler_must_wait(const struct handler *h, const struct worker *w) { return h->stalled || worker_full(w); }

/* NULL: it cannot be started (err says why). h->run is set; nothing is called back from inside. */
struct handler *handler_exec(struct run *, struct error *);
struct handler *handler_command(struct run *, struct error *);
struct handler *handler_noop(struct run *, struct error *);
struct handler *handler_query(struct run *, struct error *);

#endif
