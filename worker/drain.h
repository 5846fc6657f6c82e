#ifndef BQF_WORKER_DRAIN_H
#define BQF_WORKER_DRAIN_H

/* How a worker ends: in order (worker_drain) or because it cannot go on (worker_fail). Loop thread only. */
struct drain;
void drain_free(struct drain *);
/* Timer: tells whoever started the worker that it has failed, on a turn of its own, so that the worker may be freed there. */
void drain_tell_failure(void *worker);

#endif
