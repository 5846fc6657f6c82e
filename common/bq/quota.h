#ifndef BQF_BQ_QUOTA_H
#define BQF_BQ_QUOTA_H

#include "common/base/failures.h"
#include "common/base/rnd.h"
#include "common/net/loop.h"

/*
 * Work that BigQuery's quotas have parked, of a process: loads into one table, loads of a project, statements that write into one table, queries of a project, or all
 * requests. A class is parked for as long as the table of failures says, then one of it goes first, to see; the others wait for how that ends. Refused again, it is
 * parked for twice as long, half an hour at most. So a quota is asked about by one job of a process at a time, a new process asks once, and what is not of the class goes on.
 * Loop thread only.
 */
struct quotas;
struct quotas *quotas_new(struct loop *, struct rnd *);
void quotas_free(struct quotas *); /* NULL allowed */

/* What a job is, for that: where a load goes, or a statement writes (NULL: nowhere), and the project that it runs in. */
struct quota_claim { bool load; const char *table, *project; };

/* Milliseconds until work of the claim may go; 0: it goes now. */
int64_t quotas_wait_ms(struct quotas *, const struct quota_claim *);
/* It was refused: the row says for what class and how long (NULL: as for any quota). */
void quotas_park(struct quotas *, const struct quota_claim *, const struct failure_row *, const char *text);
/* It was let through. */
void quotas_passed(struct quotas *, const struct quota_claim *);
/* Likewise for any request: WORK_REQUESTS. */
int64_t quotas_requests_wait_ms(struct quotas *);
void quotas_requests_passed(struct quotas *);
/* "" or, for people, what of the claim's is parked, until when and why; claim NULL: whatever is parked. Valid until the next call. */
const char *quotas_text(struct quotas *, const struct quota_claim *);

#endif
