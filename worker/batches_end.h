#ifndef BQF_WORKER_BATCHES_END_H
#define BQF_WORKER_BATCHES_END_H

#include "worker/core.h"

/*
 * Asks where `batches` ends at this moment, again after a second for as long as the bus does not say. A question to the bus cannot be taken back:
 * it may outlive its asker, who is then not called. Loop thread only.
 */
struct batches_end;
struct batches_end *batches_end_ask(struct worker *, void (*answered)(void *arg, int64_t next), void *arg); /* gone once it has answered */
void batches_end_forget(struct batches_end *); /* NULL allowed */

#endif
