#ifndef BQF_TESTS_BQMODEL_H
#define BQF_TESTS_BQMODEL_H

#include "common/base/rnd.h"
#include "common/bq/bq.h"

/*
 * A model of BigQuery for tests: tables and rows, atomic loads, jobs whose ids are used once and whose states take time, and of SQL exactly
 * the statements the product emits, and a little of what a user may write (sql_select.h). It stands on a loop, real or virtual, and is reached in process (bqmodel_http) or on a socket
 * (bqmodel_serve). What it does not know, it refuses: a statement of another shape fails its job and is remembered. Loop thread only.
 *
 * A statement reads one snapshot when it begins to run and writes when it ends. Two that change or delete rows of one partition conflict: the one that
 * ends later runs anew, three times at most. Those that only insert never conflict, as in BigQuery.
 */
struct bqmodel;

/*
 * Chaos: faults by seed, beside those that are asked for one by one (below). Each request, job and chunk of a resumable session draws once among the
 * kinds of its stage, so that the rates of a stage add up; the same seed and the same requests in the same order give the same faults. None of it is
 * what a client that does as BigQuery's pages say could not survive, except the two kinds whose rate is 0 unless they are named.
 */
enum bqmodel_chaos_kind {
    /* requests */
    BQMODEL_CHAOS_LOSE_REPLY,   /* executed, then the connection drops */
    BQMODEL_CHAOS_DROP_BEFORE,  /* the connection drops before anything was executed */
    BQMODEL_CHAOS_CUT_REPLY,    /* executed; half of the answer comes, and then the connection ends, or the text is cut as if it were whole */
    BQMODEL_CHAOS_SLOW_REPLY,   /* executed at once; the answer takes its time: with a heavy tail, up to 100 times slow_ms */
    BQMODEL_CHAOS_TOO_MANY,     /* 429, every other one with a Retry-After of a second */
    BQMODEL_CHAOS_RATE_LIMIT,   /* 403 rateLimitExceeded */
    BQMODEL_CHAOS_5XX_HTML,     /* 500, 502, 503 or 504 with a balancer's page, executed or not */
    BQMODEL_CHAOS_5XX_JSON,     /* the same in BigQuery's words */
    BQMODEL_CHAOS_TOKEN,        /* 401 on one request; then that token, or going without, has peace for a minute */
    BQMODEL_CHAOS_DENIED,       /* 403 accessDenied; deadly: 0 unless named */
    /* jobs */
    BQMODEL_CHAOS_JOB_BACKEND,  /* DONE with backendError, jobBackendError, jobInternalError or jobRateLimitExceeded, having done nothing */
    BQMODEL_CHAOS_JOB_CONFLICT, /* DONE with "Could not serialize access"; UPDATE, DELETE and MERGE only */
    BQMODEL_CHAOS_JOB_QUOTA,    /* DONE with quotaExceeded; parks a client for long: 0 unless named */
    BQMODEL_CHAOS_JOB_PENDING,  /* PENDING for longer, with a heavy tail: up to 100 times long_ms */
    BQMODEL_CHAOS_JOB_SLOW,     /* RUNNING for longer, likewise */
    /* chunks of resumable sessions */
    BQMODEL_CHAOS_KEEP_FEWER,   /* fewer bytes are kept than were sent, and the answer says so */
    BQMODEL_CHAOS_CUT_CHUNK,    /* the connection drops within the chunk; what came before stays */
    BQMODEL_CHAOS_SESSION_GONE, /* 404 (expired) or 410, before or after the chunk was taken */
    BQMODEL_CHAOS_KINDS
};
struct bqmodel_chaos {
    struct rnd *rnd;                      /* NULL: no chaos */
    int per_mille[BQMODEL_CHAOS_KINDS];   /* of the requests, jobs or chunks */
    int64_t until_us;                     /* by the loop's clock, none afterwards; 0: for ever */
    int64_t slow_ms, long_ms;             /* 0: 200 and 1,000 */
};
/* Every kind at this rate, but the deadly ones. rnd must outlive the model. */
void bqmodel_chaos_all(struct bqmodel_chaos *, struct rnd *, int per_mille);
const char *bqmodel_chaos_name(enum bqmodel_chaos_kind); /* "lose_reply" */

struct bqmodel_options {
    const char *project;   /* of names given as "dataset.table"; NULL: "local" */
    const char *location;  /* NULL: "US", and jobs are found without naming it; else only with it */
    /* Milliseconds; 0: the default; negative: none. */
    int64_t latency_ms;    /* of a request, both ways together: 2 */
    int64_t pending_ms;    /* of a job before it may run: 2 */
    int64_t load_ms;       /* a load's run: 5 */
    int64_t dml_ms;        /* a statement's run: 10 */
    struct rnd *rnd;       /* spreads all of these from half to one and a half; NULL: they are exact */
    int mutating_at_once;  /* UPDATE, DELETE, MERGE running on one table: 2 */
    int mutating_queued;   /* pending besides; the next one fails at once: 20 */
    /* Limits over time; 0: none. What BigQuery's pages say: bqmodel_documented_limits. */
    int dml_per_10s;       /* statements that write into one table: 25 */
    int updates_per_10s;   /* of one table, by loads and patches; DML counts and is not refused: 5, with partitions ten times as many */
    int loads_per_day;     /* into one table, failed ones too: 1,500 */
    int project_loads_per_day; /* of all of a project's loads: 100,000 */
    int inserts_per_day;   /* INSERTs into one table that begin at once: 1,500; those that come after them: */
    int inserts_at_once, inserts_queued; /* 10 run, 100 wait, the next one fails at once */
    int dml_outstanding;   /* statements of every kind on one table, pending and running; BigQuery has this one and does not say how many: 0 */
    bool calendar_days;    /* a day of these limits ends at midnight in California, rather than 24 hours after each load or statement */
    int requests_most;     /* at once: 300 */
    int page_rows;         /* rows of one answer at most: 10,000 */
    bool endless_jobs;     /* jobTimeoutMs is not heeded, as by a busy service */
    bool dateless;         /* in process: answers without a Date */
    bool float_timestamps; /* of tabledata.list, whatever was asked for, as some servers do */
    int64_t session_ms;    /* a resumable session that nobody has used for so long is gone; 0: never */
    /* Rows that pass every check of ours and that BigQuery refuses all the same. NULL: those whose text contains "bqmodel-reject". */
    bool (*reject)(void *arg, const char *table, const char *line, size_t len);
    void *reject_arg;
    struct bqmodel_chaos chaos;
};
void bqmodel_documented_limits(struct bqmodel_options *);
/* A quota of the project that is used up, from one time of the loop's clock to another: jobs.insert is refused by 403 quotaExceeded. The last call counts. */
enum bqmodel_wall { BQMODEL_WALL_LOADS = 1, BQMODEL_WALL_QUERIES = 2, BQMODEL_WALL_JOBS = 3 };
void bqmodel_wall(struct bqmodel *, enum bqmodel_wall, int64_t from_us, int64_t until_us);
struct bqmodel *bqmodel_new(struct loop *, const struct bqmodel_options *); /* options may be NULL */
void bqmodel_free(struct bqmodel *);

struct bqmodel_options *bqmodel_options(struct bqmodel *); /* may be changed at any time */

/* The model as a transport, for any host. Freed with the model, not by http_free (which only drops what is under way). */
struct http *bqmodel_http(struct bqmodel *);
/* On a socket, with control endpoints (below). port 0: any. Real loops only. The port, or -1. */
int bqmodel_serve(struct bqmodel *, const char *address, int port, struct error *);

/* A front for the emulator there, which does the jobs' work and has the tables; on a socket only (front.c). Before it serves. */
void bqmodel_front(struct bqmodel *, const char *url);

/* --- credentials ------------------------------------------------------------------------------------------------------------------------------- */

/* From now on every request needs a token that the model has given out, and that is neither revoked nor past its end: else 401. They are had, at any
 * host: at /token for an assertion signed by RS256 (signature, iss, aud, scope, iat, exp are checked) or a refresh token, at /v1/token for a subject
 * token, at .../serviceAccounts/EMAIL:generateAccessToken for such a token, at /computeMetadata/v1/ for the header Metadata-Flavor (the project, too).
 * What is NULL is never right. */
struct bqmodel_credentials {
    const char *email, *public_key;             /* of a service account; PEM */
    const char *client_secret, *refresh_token;  /* of a login */
    const char *subject_token;                  /* of federation */
    const char *impersonated;                   /* the account that is to be asked for then; NULL: the federated token is good by itself */
    const char *project;                        /* the metadata server's; NULL: "local" */
    int64_t life_s;                             /* of tokens; 0: 3,600 */
};
void bqmodel_demand_tokens(struct bqmodel *, const struct bqmodel_credentials *);
int bqmodel_credentials_doc(struct bqmodel *, const doc *, struct error *); /* the same from {"email",...}: 0, or -1 with ERR_USAGE */
void bqmodel_revoke_tokens(struct bqmodel *); /* all that were given out */

/* --- tables. Names: "dataset.table" or "project.dataset.table" ----------------------------------------------------------------------------- */

void bqmodel_add_dataset(struct bqmodel *, const char *name); /* "dataset" or "project.dataset"; one that exists is left alone */
/* fields: as schema_parse takes them, e.g. "k:STRING REQUIRED, v:INT64". Makes the dataset too. A bad schema or an existing table aborts. */
void bqmodel_add_table(struct bqmodel *, const char *table, const char *fields);
/* rows: a JSON array of objects, checked as a load checks them; a bad one aborts, saying why. */
void bqmodel_insert(struct bqmodel *, const char *table, const char *rows);
/* The rows in the order they came, as an array of objects (the caller frees); NULL: no such table. INT64, FLOAT64, BOOL and JSON are
 * values of JSON, NaN and infinities their names; the others are texts: "2024-01-31", "2024-01-31T12:00:00.5", TIMESTAMP with a Z, NUMERIC "1.5". */
doc *bqmodel_rows(struct bqmodel *, const char *table);
int64_t bqmodel_count(struct bqmodel *, const char *table); /* rows; -1: no such table */
bool bqmodel_has_table(struct bqmodel *, const char *table);
doc *bqmodel_tables(struct bqmodel *); /* all "project.dataset.table", sorted; the caller frees */
/* One more column, behind the others, NULL in all rows. False, and nothing has changed: a job that writes there is not done yet. */
bool bqmodel_add_column(struct bqmodel *, const char *table, const char *name, const char *type);
void bqmodel_drop_table(struct bqmodel *, const char *table);
void bqmodel_expire(struct bqmodel *, const char *table); /* its time is over now */

/* --- jobs ------------------------------------------------------------------------------------------------------------------------------------ */

/* The job's resource, as jobs.get gives it (the caller frees); NULL: none. */
doc *bqmodel_job(struct bqmodel *, const char *job_id);
doc *bqmodel_jobs(struct bqmodel *); /* all of them, in the order of their creation; the caller frees */
/* The first statement that was of no shape the product emits, or NULL: tests assert NULL. */
const char *bqmodel_unknown_statement(const struct bqmodel *);
/* The first request or answer that is not as BigQuery's discovery document says (discovery.h), or NULL. bqmodel_free aborts over one that no test
 * has asked to forgive, so that every test of anything checks the requests it makes. */
const char *bqmodel_violation(const struct bqmodel *);
void bqmodel_forgive(struct bqmodel *);

struct bqmodel_counters {
    int64_t requests;        /* that arrived */
    int64_t requests_at_once;/* the most */
    int64_t loads, queries;  /* jobs inserted */
    int64_t merges, inserts, deletes, updates, gives_up; /* of the queries: MERGE (replace too), INSERT, DELETE, UPDATE of permits, SELECT ERROR */
    int64_t groups;          /* of the queries: INSERTs of the rows of a user's SELECT */
    int64_t dry_runs;
    int64_t failed;          /* jobs that ended with an error */
    int64_t duplicates;      /* jobs.insert under an id that is taken */
    int64_t loads_at_once, dml_at_once; /* running, the most on one table */
    int64_t reruns;          /* of statements that lost a conflict */
    int64_t sessions, sessions_deleted; /* resumable ones: begun, and ended by their owner's DELETE */
    int64_t faults;          /* that struck, chaos included */
    int64_t bytes_billed;    /* of every table that a statement concerns, 10 MiB at least */
    int64_t chaos[BQMODEL_CHAOS_KINDS];
    int64_t tokens, grants_refused; /* given out; and asked for in vain */
    int64_t turned_away;     /* requests with a token that is not good, or none */
    int64_t limited;         /* requests and jobs that a limit over time refused */
};
const struct bqmodel_counters *bqmodel_counters(const struct bqmodel *);

/* --- faults ---------------------------------------------------------------------------------------------------------------------------------- */

enum bqmodel_fault_kind {
    BQMODEL_LOSE_REPLY,   /* executed, then the connection drops */
    BQMODEL_DROP_BEFORE,  /* the connection drops, nothing was executed */
    BQMODEL_STATUS,       /* answers status, reason, message (or body as it is) */
    BQMODEL_CUT_REPLY,    /* executed; the connection ends after `bytes` of the answer's body (0: half of it), which its length says is longer */
    BQMODEL_CUT_BODY,     /* the same, but the length says that this was all */
    BQMODEL_DELAY,        /* the answer comes ms later; the request was executed at once */
    BQMODEL_JOB_ERROR,    /* the job ends with this reason and message, having done nothing */
    BQMODEL_JOB_SLOW,     /* the job runs ms longer */
    BQMODEL_JOB_PENDING,  /* the job is pending ms longer */
    BQMODEL_JOB_MISCOUNT, /* a load says that it has written `bytes` rows more than it has */
    BQMODEL_JOB_UNSEEN,   /* the job is there, and for ms nobody who asks for it finds it */
    BQMODEL_JOB_BARE,     /* the first answer that says that the job is done has no figures */
    BQMODEL_HASTY,        /* jobs.getQueryResults answers at once, whatever it was to wait for */
    BQMODEL_KEEP_FEWER,   /* a resumable PUT: only `bytes` of its chunk are kept */
    BQMODEL_CUT_CHUNK,    /* a resumable PUT: the connection drops after `bytes` of its chunk, which are kept */
    BQMODEL_SESSION_GONE, /* a resumable PUT, also one that only asks: its session is no more; status 404 or 410. executed: what came was taken before */
};
struct bqmodel_fault {
    /* A piece of the id of the job concerned, or: for requests, of "METHOD path?query"; for jobs, of "LOAD p.d.t", "MERGE p.d.t"... "": all. */
    const char *match;
    enum bqmodel_fault_kind kind;
    int skip;              /* so many that match are spared first */
    int times;             /* 0: once; negative: for ever */
    int status;            /* STATUS: 503; SESSION_GONE: 404 */
    const char *reason, *message;
    const char *body;      /* STATUS: instead of BigQuery's JSON: a proxy's page */
    bool executed;         /* STATUS, SESSION_GONE: the request was executed all the same */
    int retry_after_s;     /* STATUS without a body of its own: a Retry-After of so many seconds; 0: none */
    int64_t ms, bytes;
};
/* Texts are copied. The first that matches and is not spent or sparing strikes a request; kinds of jobs and of requests are looked for apart. */
void bqmodel_fault(struct bqmodel *, const struct bqmodel_fault *);
/* From JSON: {"match","kind":"lose_reply","skip","times",...}: 0, or -1 with ERR_USAGE. */
int bqmodel_fault_doc(struct bqmodel *, const doc *, struct error *);
void bqmodel_clear_faults(struct bqmodel *);
/* Chaos from JSON: {"all":0.05,"lose_reply":0.2,...,"seed":1,"slow_ms","long_ms","for_ms"}: rates from 0 to 1 by the kinds' names; what is not named is
 * as "all" says (0), the deadly kinds 0. The model keeps the seeded generator. {}: no more of it. 0, or -1 with ERR_USAGE. */
int bqmodel_chaos_doc(struct bqmodel *, const doc *, struct error *);

/* Control endpoints of the socket: POST /control/table {"ref","schema":{"fields"},"rows"}, GET /control/rows?table=, POST /control/fault,
 * POST /control/clear-faults, POST /control/chaos (as bqmodel_chaos_doc takes it),
 * POST /control/revoke-tokens, POST /control/wall {"of":"loads"|"queries"|"jobs","after_ms","for_ms"}, GET /control/counters, POST /control/expire?table=. */

#endif
