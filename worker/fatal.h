#ifndef BQF_WORKER_FATAL_H
#define BQF_WORKER_FATAL_H

#include "worker/core.h"

/*
 * What a worker says in the log of a run that cannot go on (run->fatal_text). Not at once: a worker that was stopped for a while finds its staging table dropped,
 * because the run is over, and would cry in a log that was closed long ago. So `batches` is read first to the end that it has now; a run that is over by
 * then is gone here, and this with it. Loop thread only.
 */
struct fatal;
struct fatal *fatal_new(struct run *, int64_t catalog_at);
void fatal_free(struct fatal *);                       /* NULL allowed; what is on its way may still arrive */
void fatal_catalog_at(struct fatal *, int64_t next);   /* everything below it was read */
bool fatal_told(const struct fatal *);                 /* it is in the log */

#endif
