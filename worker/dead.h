#ifndef BQF_WORKER_DEAD_H
#define BQF_WORKER_DEAD_H

#include "worker/core.h"
#include "worker/post.h"

/* The entry in `dead` of an item that failed for good; its shape is in manifests.h. */
struct post *dead_send(const struct item *, post_cb *, void *arg);

#endif
