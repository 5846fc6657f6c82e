#ifndef BQF_BQ_PERMITS_H
#define BQF_BQ_PERMITS_H

#include "common/bq/table.h"

/*
 * The DML semaphore. A permit is the right to run one mutating statement at a time on one table; it is a row of another table in BigQuery, `slot`, and
 * there are as many rows as statements may run. One struct permits stands for one target in one process: all of its items and runs share the one permit
 * that it holds at most. Loop thread only; callbacks never come from inside a call.
 *
 *   take     one UPDATE of one row, as it was read and past its expiry by BigQuery's clock: holder, a fresh token, a new expiry. It is held when one row was
 *            updated. The id of the job is made of the row's old token, so that of all processes that see a free row only one has its UPDATE run: the
 *            others' inserts are answered by 409 and have cost no statement.
 *   settle   a row that was not released names the job that its last holder guarded. That job has to be over, or unknown, before anything else runs.
 *   name     the row says which job is guarded before that job is inserted; only then is the wish granted. The next one's name is added meanwhile.
 *   renew    the same UPDATE again, until the guarded job is over, however long it is pending.
 *   fence    the guarded statement fails unless the row still carries the token and has not expired. So a holder that was stopped changes nothing.
 *   release  at the end of the work that waits here.
 *   close    at the end of a quantum of time, if there is more work here: others wait too. While the last job is at work the row says that nobody holds it
 *            but that job. Who waits looks at the job, and takes the row when it is over: no statement lies between the two but the take.
 *
 * What can go wrong at each step: a reply that was lost is settled by the job, and if that cannot be asked, by the row, which has our token or not. A process
 * that dies leaves a row that expires; who takes it over settles. At most one permit statement of this process is under way. Waiting reads the rows
 * by tabledata.list, which costs nothing, the less often the shorter it has waited, and issues no statement.
 */
struct permits;

struct permits_options {
    struct bq *bq;             /* its project runs the statements */
    struct rnd *rnd;
    struct bq_ref table;       /* permits_table() */
    const char *location;      /* NULL: none known */
    const char *holder;        /* for people: "worker pod-3" */
    int slots;                 /* of its rows, the first so many may be used, and are made where they do not exist */
    int64_t lease_ms;          /* 0: WAIT_PERMIT_LEASE */
    int64_t quantum_ms;        /* 0: WAIT_PERMIT_QUANTUM */
};
struct permits *permits_new(const struct permits_options *);
/* From now on so many slots may be used, if that is more. */
void permits_widen(struct permits *, int slots);
/* No callbacks any more. What it holds runs out by itself, unless permits_rest was true. NULL allowed. */
void permits_free(struct permits *);
/* The table of a target's permits, beside it: whoever writes to the target uses the same, wherever its staging lies. */
void permits_table(const struct bq_ref *target, struct bq_ref *out);

/* A wish, and then the use of a permit for one guarded job. */
struct permit_use;
struct permit_grant { int slot; const char *token; }; /* for permits_fence's parameters; valid until the use ends */
/* grant NULL: there will be none (err says why): the use is over. */
typedef void permit_cb(void *arg, const struct permit_grant *, const struct error *err);
/* job_base: of the guarded job's ids, in this bq's project and location; all its tries count as it. purpose: for people. */
struct permit_use *permits_want(struct permits *, const char *job_base, const char *purpose, permit_cb *, void *arg);
/* Whoever asked before somebody else took the matter over: from now on he is called. The grant, if it was given already. */
const struct permit_grant *permit_hand_over(struct permit_use *, permit_cb *, void *arg);
/* BigQuery has the guarded job: whoever asks for it will find it. NULL allowed. */
void permit_at_work(struct permit_use *);
/* The guarded job is over, or is not wanted any more. lost: it failed by its fence. NULL allowed. */
void permit_end(struct permit_use *, bool lost);
/* The guarded job may still be at work, and nobody here will know: the permit is not released, and not renewed any more. Who takes it over finds the job
 * in its row. NULL allowed. */
void permit_leave(struct permit_use *);

/* Nothing is held, wanted or under way. */
bool permits_rest(const struct permits *);
/* Nothing is, but for a release that BigQuery has as a job: it needs nobody here any more. */
bool permits_given_back(const struct permits *);
/* "" or what the oldest wish waits for: "a permit on shop.sales: held by worker a for job ..., until 12:00:05". Valid until the next call. */
const char *permits_waits_for(struct permits *);

/* --- the text of the fence ------------------------------------------------------------------------------------------------------------------ */

/* A condition for a statement's source, with the parameters @permit_slot and @permit_token. */
void permits_fence(const struct bq_ref *table, struct buf *out);
void permits_fence_params(doc *params, const struct permit_grant *);
/* The reason of a statement's error when its fence made it fail. */
#define PERMIT_LOST "permitLost"

/* --- the table: for `bqfleet permits` too ---------------------------------------------------------------------------------------------------- */

#define PERMIT_JOBS 1200 /* bytes of a row's job: "PROJECT/LOCATION/BASE", several with spaces between */
struct permit_row {
    int slot;
    char holder[160], token[40], job[PERMIT_JOBS], purpose[160];
    int64_t expires_us;        /* 0: released */
    bool closing;              /* it is free when its job is over */
    int64_t released_us;       /* when; 0: not known, or never used */
};
#define PERMIT_SLOTS_MAX 64
struct permit_rows {
    struct permit_row v[PERMIT_SLOTS_MAX]; size_t count;   /* by slot */
    bool absent;               /* there is no such table */
    int64_t server_ms;         /* BigQuery's clock when it answered; 0: it did not say */
};
struct bq_call *permits_read(struct bq *, const struct bq_ref *table, bq_cb *, void *arg);
/* What the answer says; -1: an error. */
int permits_rows(const struct bq_answer *, struct permit_rows *, struct error *);

/* Makes the table and its rows 0..slots-1, as far as they are missing. Any number of processes may do it at once. */
struct permits_make;
struct permits_make *permits_make_start(struct bq *, const struct bq_ref *table, const char *location, int slots, void (*made)(void *, const struct error *), void *arg);
void permits_make_stop(struct permits_make *); /* NULL allowed */

/* The statements. Each is one UPDATE of the one row of a slot; parameters in the same order. */
enum permit_statement { PERMIT_TAKE, PERMIT_KEEP /* name and renew */, PERMIT_CLOSE, PERMIT_RELEASE, PERMIT_FREE /* by an operator: the lease ends now */ };
struct permit_change { int slot; const char *seen_token, *seen_job; const char *token, *holder, *job, *purpose; int64_t lease_ms; };
/* {"query":...}: a job's configuration. */
doc *permits_statement(enum permit_statement, const struct bq_ref *table, const struct permit_change *);
/* bqfleet_permit_KIND_HASH_SLOT_TOKEN[_SEQ] */
#define PERMIT_BASE_SIZE 160
void permits_job_base(char out[PERMIT_BASE_SIZE], const char *kind, const struct bq_ref *table, int slot, const char *token, int64_t seq);

#endif
