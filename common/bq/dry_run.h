#ifndef BQF_BQ_DRY_RUN_H
#define BQF_BQ_DRY_RUN_H

#include "common/bq/job.h"

/* A query that BigQuery only looks at: nothing runs, nothing is billed, no job comes of it. */
struct bq_dry_result {
    const struct error *err;   /* what is wrong with the statement or the request; NULL: it could be run */
    bool known;                /* the service says that it was a dry run; emulators may not know what that is */
    const char *statement;     /* "SELECT", "MERGE", "SCRIPT", ...; "" when it is not said */
    const doc *fields;         /* of its result: {"fields":[...]}; NULL when it is not said */
    int64_t bytes;             /* that it would read at most; -1: not said */
};
typedef void bq_dry_cb(void *arg, const struct bq_dry_result *); /* valid during the call */

/* configuration: of bq_query_config(). location: NULL or "" when it is not known. To be cancelled by bq_call_cancel(). */
struct bq_call *bq_dry_run(struct bq *, const doc *configuration, const char *location, bq_dry_cb *, void *arg);

#endif
