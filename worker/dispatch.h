#ifndef BQF_WORKER_DISPATCH_H
#define BQF_WORKER_DISPATCH_H

#include "common/base/failures.h"
#include "worker/core.h"

/*
 * Which item runs next, and what becomes of it afterwards. At most `parallel` items are with handlers, those of statements aside; runs take turns; suspects go first, each alone
 * in its child; items that need a stream start with a place for it (room.h), those that nothing may run beside when nothing else does. All of it happens on a turn of its own (dispatch_kick), never inside
 * somebody's callback. Loop thread only.
 */
struct dispatch;
struct dispatch *dispatch_new(struct worker *);
void dispatch_free(struct dispatch *);

void dispatch_add(struct item *);      /* waits for a handler from now on */
void dispatch_add_later(struct item *, int64_t delay_ms); /* likewise, but not before; a minute at most */
void dispatch_queue(struct item *);    /* a waiting one, wherever it is: into its run's queue, or to the quarantine */
void dispatch_withdraw(struct item *); /* a waiting one: forgotten, somebody else will have it */
/* A waiting one has failed for good. */
void dispatch_fail(struct item *, const char *reason, const char *text);
void dispatch_forget(struct run *);    /* its running and waiting items are with nobody any more; their owner deals with them */
/* Its running items lost their handlers: they wait again, at no cost. */
void dispatch_reclaim(struct run *);
void dispatch_kick(struct dispatch *);
/* The exception: fills free places at once, from inside a handler's output, so that its child need not stand still meanwhile. Nothing is freed in it. */
void dispatch_refill(struct dispatch *);

void dispatch_untouch(struct dispatch *, struct handler *); /* it is about to go */

/* How an attempt ended. */
enum outcome {
    OUT_DONE,    /* the handler said so */
    OUT_TASK,    /* this attempt failed */
    OUT_RETRY,   /* likewise, and it should wait before the next one */
    OUT_FATAL,   /* the run must stop */
    OUT_FAILED,  /* this attempt failed, and another one would in the same way */
    OUT_LOADED,  /* done, and its rows are in the shard already: in verdict.load, which takes it */
    OUT_BACK,    /* again, at no cost: the item had no part in it */
    OUT_SUSPECT, /* again, at no cost, but alone: it was in flight when its child died */
    OUT_FRESH,   /* likewise, in a child that nobody used: it was alone, but those before it may have left something behind */
    OUT_SOLO,    /* again, at no cost, with nothing beside it */
    OUT_LARGE    /* again, at no cost, with a place for the stream that its rows need */
};
struct load;
struct verdict { enum outcome outcome; const char *reason, *text; size_t len; struct load *load; };
/* What the table of failures makes of it: OUT_TASK, OUT_RETRY or OUT_FATAL. reason and text stay the caller's. */
struct verdict verdict_of(enum failure_origin, int status, const char *reason, const char *text, size_t len);
/* The item's handler is done with it. */
void dispatch_answer(struct item *, const struct verdict *);
/* We fail its attempt while the handler still works on it: what comes of it is dropped, and this verdict stands once the handler has answered. */
void dispatch_spoil(struct item *, const struct verdict *);

/* Items of the run may be given to handlers, were there room. */
bool dispatch_may_run(const struct run *);
/* Nothing of the run is with a handler or could be. */
bool dispatch_idle(const struct run *);

#endif
