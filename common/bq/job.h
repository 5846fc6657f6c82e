#ifndef BQF_BQ_JOB_H
#define BQF_BQ_JOB_H

#include "common/bq/bq.h"

/*
 * A job with a deterministic id, run to its end whatever happens to replies and processes. For try k its id is BASE_t<k>:
 *   insert it; a 409, or a lost reply that is repeated into a 409, means: read that job. Wait until it is DONE. Without errorResult it is
 *   the result. With a retryable errorResult: try k+1 (never before k is known to have failed). Else: failed.
 * A job found under our id whose digest label differs, or that is older than it can be, is somebody else's: ERR_FATAL, reason "foreignJob".
 */
struct bq_job;
struct bq_feed;

struct bq_label { const char *name, *value; };     /* [a-z0-9_-], at most 63 characters */

struct bq_job_spec {
    const char *id_base;                /* unique for what the job does */
    const char *location;               /* always sent; NULL: none known (then left out) */
    const doc *configuration;           /* {"query":{...}} or {"load":{...}}; kept by reference */
    const struct bq_label *labels; size_t label_count; /* added, with bqfleet_digest */
    const char *digest;                 /* what must never differ under this id, at most 63 characters of [a-z0-9_-] */
    int64_t not_before_ms;              /* no honest job under this id is older (wall clock; an hour of skew is allowed) */
    const struct http_slice *media; size_t media_count; /* a load's NDJSON; stays valid until the callback; multipart below 4 MiB, else resumable */
    /* Instead of media: a load whose bytes come while they are sent. The job begins with the last of them. Once bytes were let go (bq_feed_whole() is false)
     * they cannot be sent again: then what would be another insert or another try is the end, with ERR_RETRY or ERR_QUOTA, and the load is to be made anew under
     * another id. The digest, which cannot be of the bytes, names the one maker that knows them. Outlives the job. */
    struct bq_feed *feed;
    int max_tries;                      /* 0: LIMIT_TRIES */
    int first_try;                      /* where to begin looking */
    bool patient;                       /* tries that failed for others' statements on the same table do not count: those end some day */
    /* Giving up is a job too (consolidations). When set: a failure is final for everyone only once a job that does nothing but fail stands under
     * the next try's id (or under this try's, when this one could not be inserted). Whoever meets such a job (label bqfleet_kind=giveup) fails the same
     * way. When that job cannot be inserted either, the result is ERR_RETRY: nobody has decided. Nor does a refusal of this process's credentials (401, 403)
     * decide for everyone: the result is that error. */
    bool give_up_by_job;
    const struct error *give_up;        /* nothing is done but that: there is no configuration. A job that stands under the id counts all the same */
    int64_t timeout_ms;                 /* jobTimeoutMs; 0: none */
    const struct bq_ref *target;        /* of a statement: what it writes into, for what a quota parks (quota.h); NULL: nothing */
    void (*on_inserted)(void *arg, const char *job_id); /* once a try is known to exist; may be NULL; must not stop the job */
};

struct bq_job_result {
    const char *job_id;                 /* of the last try */
    int tries;                          /* how many tries there are now: k + 1 */
    const struct error *err;            /* NULL: DONE without errorResult */
    bool ours;                          /* this process has inserted the last try, and knows it */
    bool decided;                       /* with err: the job (or a giveup job) says so, rather than this process's own trouble */
    const doc *job;                     /* the job resource, when there is one */
    int64_t output_rows;                /* loads */
    int64_t inserted, updated, deleted; /* dmlStats; numDmlAffectedRows goes to `affected` */
    int64_t affected;
    int64_t bytes_billed, created_ms, ended_ms;
};
typedef void bq_job_cb(void *arg, const struct bq_job_result *); /* valid during the call */

struct bq_job *bq_job_start(struct bq *, const struct bq_job_spec *, bq_job_cb *, void *arg);
const char *bq_job_state(const struct bq_job *); /* "inserting", "pending", "running", "waiting for a quota until <time> (...)": for progress; valid until the next event */
/* "", or why its bytes do not get through just now; valid until the next event. */
/* It waits for a quota. */
bool bq_job_parked(const struct bq_job *);
const char *bq_job_trouble(const struct bq_job *);
/* No callback any more. remote: also ask BigQuery to cancel it, and to forget what was sent of it. NULL allowed. */
void bq_job_stop(struct bq_job *, bool remote);
/* Reads one job: status 404 is not an error (job NULL in the answer's doc). */
struct bq_call *bq_job_get(struct bq *, const char *job_id, const char *location, bq_cb *, void *arg);

/* Parts of configurations. */
struct bq_ref;
doc *bq_load_config(const struct bq_ref *table);   /* NDJSON, WRITE_APPEND, CREATE_NEVER, no bad rows */
/* Standard SQL; params may be NULL (a list made by bq_param_*; taken over); default limits none. */
doc *bq_query_config(const char *sql, doc *params, int64_t max_bytes_billed);

/* Named query parameters: an array that the functions append to and return. type is the SQL type: "STRING", "INT64", "DATE"... Values as text, as the REST API
 * takes them; NULL: a NULL of that type. */
doc *bq_params(void);
doc *bq_param(doc *params, const char *name, const char *type, const char *value);
doc *bq_param_int(doc *params, const char *name, int64_t value);
doc *bq_param_array(doc *params, const char *name, const char *type, const char *const *values, size_t count);
/* ARRAY<STRUCT<...>>: field names and types once, then count * fields texts, row by row. */
doc *bq_param_structs(doc *params, const char *name, const char *const *fields, const char *const *types, size_t field_count,
                      const char *const *values, size_t count);

/* --- a query for its rows ------------------------------------------------------------------------------------------------------------------ */

struct bq_query;
/* Rows as the REST API gives them ({"f":[{"v":..}]}), page by page; schema once first. Return false from row() to pause: bq_query_resume() goes on with the next row. */
struct bq_query_events {
    void (*schema)(void *arg, const doc *fields);
    bool (*row)(void *arg, const doc *row);
    void (*end)(void *arg, const struct error *err, int64_t total_rows); /* last call */
};
/* id_base as above; page_rows 0: 10,000. Timestamps come as integers of microseconds. */
struct bq_query *bq_query_start(struct bq *, const struct bq_job_spec *, int page_rows, const struct bq_query_events *, void *arg);
void bq_query_resume(struct bq_query *);
void bq_query_stop(struct bq_query *);
/* As bq_job_state(); "reading rows" when it is done. */
const char *bq_query_state(const struct bq_query *);

#endif
