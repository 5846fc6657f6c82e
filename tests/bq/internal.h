#ifndef BQF_TESTS_BQ_INTERNAL_H
#define BQF_TESTS_BQ_INTERNAL_H

#include "common/base/schema.h"
#include "common/net/http_server.h"
#include "tests/bq/bqmodel.h"

#include <sys/queue.h>
#include <uthash.h>

/* What the files of the model share. */

/* --- values ---------------------------------------------------------------------------------------------------------------------------------- */

/* One value of a row, as text in one canonical form for each type, so that equal values have equal texts: NULL; INT64, NUMERIC in decimal;
 * TIMESTAMP in microseconds; BYTES in base64; ARRAY, STRUCT and JSON as JSON. */
struct cell { const char *text; size_t len; }; /* text NULL: NULL */
struct row { size_t count; struct cell cells[]; }; /* the texts follow in the same block */

/* A JSON value as a load takes it, in its canonical form: a new reference, or NULL with `why`. */
doc *value_clean(const struct field *, const doc *in, struct error *why);
/* One element, or a column that is not repeated. */
doc *value_clean_one(const struct field *, const doc *in, struct error *why);
doc *value_clean_time(enum field_type, const char *text, size_t len); /* DATE, DATETIME, TIME, TIMESTAMP; NULL: it is none */
char *value_timestamp_text(int64_t us);                               /* "2024-01-31T00:00:00.5Z"; the caller frees */
/* The canonical text of a clean value; NULL for NULL. The caller frees. */
char *value_text(const struct field *, const doc *clean, size_t *len);
doc *value_doc(const struct field *, const struct cell *);            /* as bqmodel_rows gives it */
doc *value_rest(const struct field *, const struct cell *, bool int64_timestamp); /* {"v":...} */
/* <0, 0, >0 for values of one scalar type that are not NULL. FLOAT64: NaN below everything. */
int value_compare(const struct field *, const struct cell *, const struct cell *);
bool value_is_nan(const struct cell *);

struct row *row_new(const struct cell *cells, size_t count);
/* One JSON object as a load takes it. NULL with `why`. unknown_ok: other names are passed over. */
struct row *row_read(const struct schema *, const doc *object, bool unknown_ok, struct error *why);

/* --- tables ---------------------------------------------------------------------------------------------------------------------------------- */

struct mtable {
    struct mtable *next;
    struct bq_ref ref;
    struct schema *schema;
    doc *body;               /* as it was created: labels, partitioning */
    struct stmt *view;       /* NULL: it is a table */
    struct row **rows;
    size_t count, cap;
    int64_t created_ms, modified_ms, expires_ms; /* wall clock; expires 0: never */
    uint64_t incarnation;    /* another one each time a table of that name is made */
    uint64_t mutations;      /* statements that changed or deleted rows */
    uint64_t emptied_at;     /* of these, the last time it was emptied */
    struct mutated *mutated; /* its partitions that ever were (conflict.c) */
    uint64_t version;        /* of anything: the etag */
};
struct mdataset { struct mdataset *next; char project[64], name[256]; };

struct mdataset *model_dataset(struct bqmodel *, const char *project, const char *name);
struct mdataset *model_dataset_add(struct bqmodel *, const char *project, const char *name);
struct mtable *model_table(struct bqmodel *, const struct bq_ref *); /* NULL when there is none, or it has expired */
/* NULL with an error when the schema is bad. body: a table resource. */
struct mtable *model_table_add(struct bqmodel *, const struct bq_ref *, const doc *body, struct error *);
/* A view: what body.view.query shows from now on; every table in it has to be there. 0, or -1 with an error. */
int mtable_set_view(struct bqmodel *, struct mtable *, const doc *body, struct error *);
doc *mtable_view_rows(struct bqmodel *, const struct mtable *, struct error *); /* as bqmodel_rows gives them; NULL: failed */
void model_table_drop(struct bqmodel *, struct mtable *);
void model_sweep(struct bqmodel *); /* drops what has expired */
void mtable_append(struct mtable *, struct row *); /* takes it over */
void mtable_empty(struct mtable *);
doc *mtable_resource(struct bqmodel *, const struct mtable *);
struct bq_ref model_ref(const struct bqmodel *, const char *text); /* aborts on nonsense */

/* --- statements ------------------------------------------------------------------------------------------------------------------------------ */

struct names { char **at; size_t count; };
void names_add(struct names *, const char *, size_t);
void names_free(struct names *);
bool names_equal(const struct names *, const struct names *);

enum stmt_kind { STMT_MERGE, STMT_REPLACE, STMT_INSERT, STMT_EMPTY, STMT_UPDATE, STMT_NOTHING, STMT_ERROR, STMT_GROUP, STMT_SELECT, STMT_VIEW };
enum update_kind { UPDATE_TAKE, UPDATE_KEEP, UPDATE_CLOSE, UPDATE_RELEASE, UPDATE_FREE }; /* of a table of permits */
enum term_form { TERM_PLAIN, TERM_NOT_NAN, TERM_NUMBER }; /* x; NOT IS_NAN(x); IF(IS_NAN(x), NULL, x) */
struct term { enum term_form form; char *column; };
struct fence { bool present; struct bq_ref table; };

struct stmt {
    enum stmt_kind kind;
    struct bq_ref target;
    struct names columns, types, keys, on, set;
    struct names safe;        /* of on: those where NULL equals NULL */
    struct names apart;       /* of keys: those whose NULL makes a row the only one of its key */
    struct bq_ref *shards; size_t shard_count;
    int *ages;                /* of the shards; NULL: loads are named plainly */
    bool by_side, exclusions, guarded;
    bool folds;               /* an INSERT of shards into a shard: rows with their bookkeeping */
    struct bq_ref side;
    bool has_base; struct bq_ref base; /* rows that rank behind those of the shards */
    struct term *order; size_t order_count;
    char *part_column;        /* NULL: the MERGE is not pruned */
    bool part_range, part_null; /* to a range; to NULL */
    struct mpart *parts;      /* it replaces whole partitions; NULL: it does not */
    struct fence fence;
    enum update_kind update;
    char *error;              /* STMT_ERROR */
    struct group_stmt *group; /* STMT_GROUP, STMT_SELECT */
    struct range_stmt *range; /* STMT_SELECT, instead */
    struct dedupe_stmt *dedupe; /* STMT_SELECT, or STMT_REPLACE of rows by some of them */
};
/* NULL: it is of no shape we know; *at is where it stopped fitting. */
struct stmt *stmt_parse(const char *sql, const char **at);
struct stmt *stmt_parse_view(const char *sql, const char **at); /* likewise */
void stmt_free(struct stmt *);
int64_t stmt_bytes_billed(struct bqmodel *, const struct stmt *); /* billing.c */
const char *stmt_type(const struct stmt *); /* "MERGE" */
static inline bool stmt_mutates(const struct stmt *s)
{
    return s->kind == STMT_MERGE || s->kind == STMT_REPLACE || s->kind == STMT_EMPTY || s->kind == STMT_UPDATE;
}
static inline bool stmt_writes(const struct stmt *s) { return s->kind != STMT_ERROR && s->kind != STMT_SELECT && s->kind != STMT_NOTHING; }
/* A user's SELECT over a group of items (sql_select.h), or our INSERT around it. *at is moved on to where it stops fitting, if that is farther. */
struct group_stmt *stmt_group_parse(const char *sql, struct bq_ref *target, const char **at);
void stmt_group_free(struct group_stmt *);
doc *stmt_group_fields(const struct group_stmt *);                                          /* {"fields":[...]} of the SELECT */
int stmt_group_analyze(struct bqmodel *, const struct stmt *, struct error *);              /* as a dry run does: 0 or -1 */
struct range_stmt *range_parse(const char *sql);
void range_free(struct range_stmt *);
doc *range_fields(void);
bool update_shape(const char *text, enum update_kind *); /* what follows "UPDATE `t` SET " */

/* What a statement will do, computed on a snapshot. */
struct effects {
    uint64_t incarnation, mutations;       /* of the target when it was read */
    size_t *changed; struct row **into; size_t changed_count; /* rows by index, and what they become; NULL: deleted */
    struct row **added; size_t added_count;
    int64_t inserted, updated, deleted;
    struct row **old; struct names partitions; /* of what is changed: the rows in the snapshot, and where they lie */
    doc *result;                           /* SELECT: rows as getQueryResults gives them */
};
/* 0; -1 with an error whose reason is BigQuery's. */
int stmt_run(struct bqmodel *, const struct stmt *, const doc *params, struct effects *, struct error *);
void effects_remember(const struct mtable *, struct effects *);
bool effects_serialize(const struct mtable *, const struct effects *);
void effects_commit(struct mtable *, struct effects *);
void effects_apply(struct mtable *, struct effects *); /* moves the rows */
void mutated_free(struct mtable *);
void effects_free(struct effects *);
void effects_change(struct effects *, size_t index, struct row *into); /* into NULL: deleted */

/* --- jobs ------------------------------------------------------------------------------------------------------------------------------------ */

struct handed;
enum job_state { JOB_PENDING, JOB_RUNNING, JOB_DONE };
struct mjob {
    TAILQ_ENTRY(mjob) link, active; /* active: until it is done */
    UT_hash_handle hh;
    struct bqmodel *model;
    char *id, *project, *name; /* name: "project:id" */
    doc *configuration;
    bool is_load;
    enum job_state state;
    struct timer *timer;
    bool pended;                    /* its pending time is over: it waits for a place */
    enum { FOREIGN_READS, FOREIGN_INSERTS, FOREIGN_MUTATES } foreign; /* behind a front: a statement that we cannot read */
    struct handed *handed;          /* to the emulator; NULL: not yet */
    bool late_insert;               /* an INSERT that is not among the first of its day */
    struct bq_ref target;           /* what it writes; table "" when nothing */
    struct stmt *stmt;              /* queries */
    struct effects effects;
    struct error outcome;           /* kind ERR_NONE: well; reason and text are BigQuery's */
    doc *details;                   /* status.errors, when there are more than the one */
    struct error planned;           /* a fault: what it will end with */
    int64_t slower_ms;
    int reruns;
    int64_t unseen_ms;              /* loop time; until then nobody finds it */
    bool bare;                      /* its end is told without figures, once */
    char *media; size_t media_len;  /* loads */
    int64_t created_ms, started_ms, ended_ms, output_rows, miscounted, input_bytes, bytes_billed;
    TAILQ_HEAD(, waiter) waiters;   /* getQueryResults */
};
TAILQ_HEAD(mjobs, mjob);
static inline bool job_mutates(const struct mjob *j) { return j->stmt ? stmt_mutates(j->stmt) : j->foreign == FOREIGN_MUTATES; }
static inline bool job_writes(const struct mjob *j) { return j->stmt ? stmt_writes(j->stmt) : j->foreign != FOREIGN_READS; }

struct mjob *model_job(struct bqmodel *, const char *project, const char *id);
/* body: {"jobReference","configuration"}. media is copied, gzip unpacked (NULL: none). NULL with an error: code is the HTTP status, reason BigQuery's. */
struct mjob *model_job_insert(struct bqmodel *, const char *project, const doc *body, const char *media, size_t media_len, struct error *);
void model_job_cancel(struct mjob *);
doc *mjob_resource(const struct mjob *);
doc *mjob_without_figures(doc *resource); /* which it takes over */
void mjob_free(struct mjob *);
int http_status_of(const char *reason);
/* A load's work: 0, or -1 with job->outcome and job->details. */
int load_run(struct mjob *);

/* --- requests -------------------------------------------------------------------------------------------------------------------------------- */

struct mrequest {
    const char *method, *path, *query; /* path decoded; query as sent, "" when there is none */
    const char *origin;                /* "http://host:port" */
    const char *(*header)(const struct mrequest *, const char *name);
    void *header_arg;
    const char *body; size_t len;
};
struct mreply {
    int status;      /* 0: the connection drops */
    char *header;    /* "Name: value" besides the usual ones, or NULL */
    char *body;      /* NULL: empty */
};
struct pass;
/* An answer that may come later. The exchange is gone afterwards. */
struct exchange {
    struct bqmodel *model;
    void (*answer)(struct exchange *, struct mreply *); /* by the transport; frees nothing of the reply */
    void (*release)(struct exchange *); /* of what the transport's structure holds; may be NULL */
    TAILQ_ENTRY(exchange) link;
    struct timer *timer;       /* delays the answer */
    struct mreply reply;       /* while it waits */
    int64_t delay_us;
    bool open;                 /* being handled: counted in requests_now */
    int64_t page_rows, page_from; /* of a query's result: what was asked for */
    bool delivering, detached; /* in its own callback; out of all lists */
    const char *answer_schema; /* of a good answer's body, in the discovery document; NULL: it has none */
    bool hasty;                /* a fault: it does not wait */
    bool lose;                 /* a fault: no answer */
    enum { CUT_NOT, CUT_BODY, CUT_CONNECTION } cut; /* a fault: only `kept` bytes of the body, 0: half */
    int64_t kept;
    struct mreply instead;     /* a fault: this answer, when its status is not 0 */
    struct waiter *waiter;
    struct pass *pass;         /* to the emulator */
    char *query;               /* of getQueryResults, for the emulator */
};
struct waiter {
    TAILQ_ENTRY(waiter) link;
    struct mjob *job;
    struct exchange *x;
    struct timer *timer; /* the end of its patience */
};
/* size: of the transport's structure that begins with it. delay_us: of every answer. */
struct exchange *exchange_new(struct bqmodel *, void (*answer)(struct exchange *, struct mreply *), size_t size, int64_t delay_us);
void exchange_abandon(struct exchange *); /* frees it */
void exchange_deliver(void *exchange);    /* its reply, now; frees it */
void model_handle(struct exchange *, const struct mrequest *);

/* By the handlers: each answers exactly once. Takes over the doc. */
void reply_doc(struct exchange *, int status, doc *);
void reply_error(struct exchange *, int status, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);
void reply_raw(struct exchange *, int status, char *header, char *body); /* takes both over */
char *error_body(int status, const char *reason, const char *message);
bool query_value(const struct mrequest *, const char *name, char *out, size_t size); /* decoded */
int64_t query_int(const struct mrequest *, const char *name, int64_t fallback);

/* Against the discovery document; what is wrong is remembered (bqmodel_violation). */
void check_request(struct exchange *, const struct mrequest *);
void check_answer(struct exchange *, int status, const doc *body);
void check_length(struct bqmodel *, const struct mrequest *); /* on a socket */
void check_no_violation(const struct bqmodel *); /* aborts */

/* Each counts one more, or fills in the error (its code is the HTTP status, its reason BigQuery's) and is false. */
bool limit_dml(struct bqmodel *, const struct bq_ref *table, struct error *);
bool limit_load(struct bqmodel *, const struct bq_ref *table, struct error *);
bool limit_update(struct bqmodel *, const struct bq_ref *table, bool by_dml, struct error *);
bool limit_project_loads(struct bqmodel *, const char *project, struct error *);
/* Whether it is one of those that come after a day's first. */
bool limit_insert(struct bqmodel *, const struct bq_ref *table);
bool limit_wall(struct bqmodel *, bool load, struct error *);
bool limit_outstanding(struct bqmodel *, struct error *); /* false, always */
int64_t california_day(int64_t wall_ms); /* the number of the day there */
bool limit_requests(struct exchange *); /* false: answered */
void usage_free(struct bqmodel *);

/* segs: the path behind /projects/, in pieces. */
#define SEGMENTS_MAX 8
struct route { const struct mrequest *r; char *copy; const char *seg[SEGMENTS_MAX]; size_t count; };
void rest_tables(struct exchange *, const struct route *);  /* P/datasets... */
void rest_jobs(struct exchange *, const struct route *);    /* P/jobs..., P/queries... */
void rest_upload(struct exchange *, const struct route *);  /* P/jobs below /upload */
void reply_job(struct exchange *, const struct mjob *);
void waiters_wake(struct mjob *);
void waiter_free(struct waiter *);

/* The JSON part of a multipart body, and the other; false: it is no such body. */
bool multipart_split(const char *content_type, const char *body, size_t len, struct cell *json, struct cell *media);
/* The id of the job a request concerns ("" when it concerns none). */
void request_job_id(struct bqmodel *, const struct mrequest *, char *out, size_t size);

struct session {
    struct session *next;
    uint64_t id;
    char *project;
    doc *job;
    char *data; size_t len, cap;
    int64_t total;     /* -1: unknown */
    char *answer;      /* once it is finished */
    int status;
    int64_t used_ms;   /* loop time of its last request */
};
void session_free(struct session *);

/* --- faults ---------------------------------------------------------------------------------------------------------------------------------- */

struct fault {
    TAILQ_ENTRY(fault) link;
    struct bqmodel_fault f; /* its texts are owned */
};
TAILQ_HEAD(faults, fault);
enum fault_group { FAULT_REQUEST, FAULT_JOB, FAULT_KEEP, FAULT_GONE };
/* The fault that strikes now, or NULL; counted. Valid until the next call. */
const struct bqmodel_fault *fault_take(struct bqmodel *, enum fault_group, const char *subject, const char *job_id);
/* The next one behind *last (NULL at first), for what several may strike at once. */
const struct bqmodel_fault *fault_next(struct bqmodel *, enum fault_group, const char *subject, const char *job_id, struct fault **last);

/* By seed (chaos.c): the fault that strikes now, or NULL; counted. Valid until the next call. */
const struct bqmodel_fault *chaos_request(struct bqmodel *, const struct mrequest *);
const struct bqmodel_fault *chaos_chunk(struct bqmodel *, int64_t len);
void chaos_job(struct mjob *, int64_t *pending_ms);
void chaos_free(struct bqmodel *);
struct peace { /* of a token */
    UT_hash_handle hh;
    uint64_t stamp;
    int64_t until_us;
};

/* A front for an emulator (front.c). */
void front_pass(struct exchange *, const struct mrequest *);
void front_results(struct exchange *, const struct mjob *); /* of a query that is done */
void front_read(struct mjob *, const char *sql); /* which table a user's statement writes into, by its first words */
void front_job(struct mjob *);       /* its next step; its timer brings it back */
void model_job_finish(struct mjob *);
void front_free(struct bqmodel *);
void pass_free(struct pass *);
void handed_free(struct handed *);

/* Credentials (tokens.c). */
bool tokens_path(const struct bqmodel *, const struct mrequest *); /* where they are had */
void tokens_answer(struct exchange *, const struct mrequest *);
bool tokens_check(struct exchange *, const struct mrequest *);    /* false: answered */
void tokens_free(struct bqmodel *);

/* --- the model ------------------------------------------------------------------------------------------------------------------------------- */

struct inproc;
struct usage;
struct bqmodel {
    struct loop *loop;
    struct bqmodel_options o;
    char *project, *location;
    bool needs_location;
    struct mdataset *datasets;
    struct mtable *tables;
    struct mjobs jobs, active;
    struct mjob *index;      /* by name */
    struct session *sessions;
    struct faults faults;
    struct rnd chaos_rnd;    /* of bqmodel_chaos_doc */
    struct bqmodel_fault chaos_fault; /* the last one; its texts are constants */
    struct peace *peace;
    struct front *front;     /* NULL: the model does all of it itself */
    struct tokens *tokens;   /* NULL: nobody needs one */
    struct { int of; int64_t from_us, until_us; } wall;
    struct bqmodel_counters counters;
    int64_t requests_now;
    uint64_t next_id;
    struct usage *usage;     /* by the name of a table */
    char *unknown, *violation;
    bool tell;               /* of both, on stderr */
    TAILQ_HEAD(, exchange) exchanges; /* with an answer to come */
    struct inproc *inproc;
    struct http_server *server;
    int port;
};
int64_t model_spread_us(struct bqmodel *, int64_t ms); /* milliseconds, spread by the options' rnd */
void inproc_free(struct inproc *);
void server_close(struct bqmodel *);
bool control_handle(struct exchange *, const struct mrequest *); /* false: not one of its paths */

#endif
