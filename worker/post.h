#ifndef BQF_WORKER_POST_H
#define BQF_WORKER_POST_H

#include "common/bus/bus.h"
#include "common/base/rnd.h"

/* Messages that must arrive: each is sent again, the same bytes, until the bus has acknowledged it. Loop thread only. */
struct posts;
struct post;

struct posts *posts_new(struct loop *, struct bus *, struct rnd *);
/* Forgets all; what is on its way may still arrive. */
void posts_free(struct posts *);

/* NULL: acknowledged. Otherwise ERR_TASK or ERR_FATAL: it certainly is not there, and will not be. Not from inside post_send. */
typedef void post_cb(void *arg, const struct error *err);
/* Copies. once: not sent again; a failure of any kind is reported. The post is gone when cb is called. */
struct post *post_send(struct posts *, const struct bus_out *, bool once, post_cb *, void *arg);
void post_forget(struct post *); /* no callback any more; it is not sent again. NULL allowed */
int64_t posts_bytes(const struct posts *);   /* of their keys and values */
/* "" or what keeps them: "kafka 127.0.0.1:9092: ..., next try in 2 s". */
const char *posts_waits_for(const struct posts *);

#endif
