#ifndef BQF_WORKER_HANDLERS_QUERY_INTERNAL_H
#define BQF_WORKER_HANDLERS_QUERY_INTERNAL_H

#include "common/bq/sql_group.h"
#include "worker/handlers/handler.h"
#include "worker/load.h"

/* Between the parts of the query handler: what is known of its SELECT (query_look.c), one group (query_group.c), which groups there are (query.c). */

/* --- the SELECT, looked at once for each run ----------------------------------------------------------------------------------------------- */

struct query_look;
struct query_plan {
    struct schema *result; /* its columns */
    char *sql;             /* what each group runs: our INSERT around it, or itself, where rows are only read */
};
/* Dry runs; waits for the shard in between. err NULL: the plan is made. Otherwise the run cannot go on. Not from inside. */
typedef void query_look_cb(void *arg, const struct error *err);
struct query_look *query_look_start(struct run *, struct query_plan *, query_look_cb *, void *arg);
void query_look_stop(struct query_look *); /* NULL allowed */
const char *query_look_waits_for(const struct query_look *);
void query_plan_free(struct query_plan *);

/* --- where a group's rows lie ------------------------------------------------------------------------------------------------------------------ */

struct query_range;
/* range NULL: it is not known. Not from inside. NULL: the target has no column that prunes. */
struct query_range *query_range_start(const struct load *, void (*cb)(void *arg, const struct row_range *), void *arg);
void query_range_stop(struct query_range *); /* NULL allowed */

/* --- one group ----------------------------------------------------------------------------------------------------------------------------- */

enum group_how {
    GROUP_LANDED,  /* its rows are in the shard, or with their items */
    GROUP_DATA,    /* an item of it makes the statement fail */
    GROUP_TOO_MUCH,/* it takes too long or too much memory for BigQuery */
    GROUP_FATAL    /* no group will fare better */
};
struct group_end { enum group_how how; const char *reason, *text; int64_t rows; };

TAILQ_HEAD(group_list, group);
struct group {
    TAILQ_ENTRY(group) link;
    struct run *run;
    const struct query_plan *plan;
    struct item **items; size_t count, cap; /* all with our handler */
    size_t bytes;              /* of them as parameters */
    struct load *load;         /* once it is at work; its items are taken at the end */
    struct query_range *range; /* its rows are written, and are asked where they lie */
    int64_t written;
    struct bq_query *rows;     /* where rows are only read */
    struct schema *columns;
    bool paused;               /* its rows are not read for want of room */
    struct timer *timer;       /* its time-out; or, waiting, the next try */
    bool waiting, stray;
    int64_t started_us;
    char trouble[200];         /* what it waits for; stray: what row it was */
    char said[400];
    void (*ended)(void *arg, struct group *, const struct group_end *); /* last; may free it */
    void *arg;
};
struct group *group_new(struct run *, const struct query_plan *, void (*ended)(void *, struct group *, const struct group_end *), void *arg);
void group_free(struct group *, bool remote); /* remote: its job is cancelled at BigQuery too. The items are the caller's */
/* Bytes of an item as a parameter, in JSON. */
size_t group_item_bytes(const struct item *);
void group_add(struct group *, struct item *);
void group_start(struct group *);
void group_resume(struct group *);
const char *group_waits_for(struct group *); /* "" when there is nothing to say */

#endif
