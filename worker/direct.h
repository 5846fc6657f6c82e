#ifndef BQF_WORKER_DIRECT_H
#define BQF_WORKER_DIRECT_H

#include "worker/core.h"

/*
 * Rows that become visible as they are made (write.via direct): this worker's loads of a run go to the target by cuts of its own shard. Loop thread only.
 *
 *   1. It follows the run's log. What it knows of its loads is what the log says: accepted, and in no cut.
 *   2. When there is such a load, it asks for a permit, for the job of its next cut, whose number is known. While it waits, more loads gather; so does what is
 *      loaded while a cut's job runs, since the next permit is asked for meanwhile.
 *   3. With the permit it writes a cut that names them all, and reads the log until it finds it: then the cut stands, or it is void (the run was held, or has
 *      ended, before it).
 *   4. One statement writes the loads of a cut that stands, without their exclusions, under an id of its own (consolidate.h), and the outcome goes into the log.
 *
 * If it dies, or is stopped, anywhere: without a cut in the log its loads belong to the run's last cut; with one, any coordinator ends it.
 */
struct direct;
struct direct *direct_new(struct run *); /* NULL: the run does not write so */
void direct_free(struct direct *);       /* a job under way goes on */
/* Nothing is under way, and nothing waits for it. NULL: true. */
bool direct_idle(const struct direct *);
const char *direct_waits_for(struct direct *); /* "" for nothing; valid until the next call */

#endif
