#ifndef BQF_BQ_JOB_INTERNAL_H
#define BQF_BQ_JOB_INTERNAL_H

#include "common/bq/internal.h"

/* Inside a job: job.c has its steps and what answers mean, job_wait.c its waits. */

enum step { STEP_NONE, STEP_INSERT, STEP_READ, STEP_RESULTS, STEP_GIVE_UP, STEP_WAIT_RETRY, STEP_WAIT_POLL, STEP_COUNT };

struct bq_job {
    struct bq *bq;
    struct bq_job_spec spec;       /* its strings are copies */
    doc *configuration;            /* with labels and timeout */
    char *job_id, *location;       /* of this try */
    int k;                         /* this try */
    enum step step, after_wait;
    struct bq_call *call;
    struct bq_upload *upload;
    struct timer *timer;
    bool is_query;
    bool ours;                     /* this process's insert of this try was acknowledged */
    bool announced;                /* on_inserted was called for this try */
    bool results_failed, read_again;
    bool running;                  /* as the service said last */
    int polls, missing, reinserts, parked;
    int quotas, contended;         /* tries that a quota refused; that others' statements were in the way of */
    char *table;                   /* that it writes into, or NULL */
    int64_t results_at_ms, waits_since_ms; /* -1: this try is not waited for yet */
    char wait_text[256];           /* what is waited for, and until when */
    struct error why;              /* the failure that is being given up on, or waited for */
    bool only_gives_up;
    struct error given_up;         /* then: why */
    bq_job_cb *cb;
    void *arg;
};

/* The only place where the step changes. */
void job_enter(struct bq_job *, enum step);

/* When it is worth asking again. */
void job_wait_poll(struct bq_job *, enum step then);
/* Then it is inserted. */
void job_wait_retry(struct bq_job *, int failures, const struct error *);
/* What it is of is parked: it is inserted when it may be. False: nothing is parked. */
bool job_wait_parked(struct bq_job *);
/* A quota refused this try, as a request or as a job: the class of work is parked. */
void job_refused(struct bq_job *, const struct error *, const struct failure_row *);
/* No quota did. */
void job_let_through(struct bq_job *);
/* How long a load took. */
void job_note_load(struct bq *, const doc *job);
void job_waited(void *job); /* its timer */

#endif
