#ifndef BQF_WORKER_POOL_H
#define BQF_WORKER_POOL_H

#include "worker/handlers/handler.h"

/*
 * The handlers of one run: as many as `parallel` needs, started when there is work, closed when there is none. A program that dies before it has answered
 * anything puts the pool on probation: one start at a time, and no item for a child before it is proved or has lived longer than its predecessor did, so
 * that a program that cannot start is told from an item that kills it. LIMIT_STARTS such starts in a row end the run, if the program never worked. Loop thread only.
 */
struct pool;
struct pool *pool_new(struct run *);
void pool_free(struct pool *); /* children are killed; their items are left without handler */

/* A handler with room for the item, started if need be; NULL: not now (dispatch_kick comes when that may have changed). */
struct handler *pool_take(struct pool *, struct item *);
void pool_released(struct handler *);  /* it answered an item */
void pool_proved(struct handler *);    /* its program works */
/* START_OK: the program had worked. START_UNSURE: it died before it answered anything, of its start or of an item that it had; the next one will tell.
 * START_FAILED: certainly of its start. */
enum pool_start { START_OK, START_UNSURE, START_FAILED };
/* The child is gone, its items were answered: frees the handler. how: "exit status 3"; last_words: the end of its stderr. */
void pool_ended(struct handler *, enum pool_start, const char *how, const char *last_words);
void pool_resume(struct pool *);       /* reads pipes again */
const char *pool_waits_for(struct pool *);

/* For the kinds of handlers: fills in what they have in common. */
void handler_init(struct handler *, const struct handler_ops *, struct run *, int64_t window);

#endif
