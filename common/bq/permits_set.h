#ifndef BQF_BQ_PERMITS_SET_H
#define BQF_BQ_PERMITS_SET_H

#include "common/bq/permits.h"

/* The permits of one process: one struct permits for each target, shared by all of its runs. Loop thread only. */
struct permits_set;
/* holder: for people. The client is the one whose credentials and address are used; the project of the statements is each caller's. */
struct permits_set *permits_set_new(struct bq *, struct rnd *, const char *holder, int64_t lease_ms);
void permits_set_free(struct permits_set *); /* NULL allowed */
/* The target's, made when it is asked for first; the greatest number of slots that was asked for counts. */
struct permits *permits_set_get(struct permits_set *, const struct bq_ref *table, const char *project, const char *location, int slots);
/* All of them: permits_given_back. */
bool permits_set_given_back(void *set);

#endif
