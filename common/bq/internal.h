#ifndef BQF_BQ_INTERNAL_H
#define BQF_BQ_INTERNAL_H

#include "common/bq/feed.h"
#include "common/bq/gate.h"
#include "common/bq/quota.h"
#include "common/bq/job.h"

#include <sys/queue.h>

/* What the files of this folder share. Loop thread only. */

LIST_HEAD(bq_calls, bq_call);

struct bq {
    struct loop *loop;
    struct http *http;
    struct auth *auth;
    struct rnd *rnd;
    struct metrics *metrics;
    char *base_url;  /* with a scheme, without a trailing slash */
    char *project;
    struct gate *gate; /* the root's, which frees it */
    struct quotas *quotas; /* likewise */
    struct bq *root; /* NULL, or whose copy for another project this is: it is there for longer, and so has the requests that nobody waits for */
    int64_t usual_load_ms; /* of the root: what loads took of late; 0: none has ended yet */
    struct bq_calls calls; /* all of them: bq_free ends those whose owners forgot them (cancellations) */
};

static inline struct bq *bq_root(struct bq *bq) { return bq->root ? bq->root : bq; }

/* A call that owns its arg, for functions whose callers hold nothing but the call. more: looks at an answer first; when it returns true, having
 * called bq_call_redirect, the same call goes on with another request (pages). release: once, when the call ends or is cancelled. */
struct bq_hooks {
    bool (*more)(struct bq_call *, void *arg, const struct bq_answer *); /* may be NULL */
    void (*release)(void *arg);
};
struct bq_call *bq_send_owned(struct bq *, const struct bq_request *, bq_cb *, void *arg, const struct bq_hooks *);
void bq_call_redirect(struct bq_call *, const char *path, const char *query);

#define BQ_PATH_MAX 2048 /* bytes of a path or query: names and ids of at most a thousand */

/* "/projects/P/jobs/ID", escaped; suffix may be "". */
void bq_job_path(const char *project, const char *job_id, const char *suffix, struct buf *out);
/* "/projects/P/datasets/D/tables/T", escaped; without the last part when table is "". */
void bq_table_path(const struct bq_ref *, const char *suffix, struct buf *out);
/* A request to that path, which is filled in; what the request points to lives until this returns. */
struct bq_call *bq_table_send(struct bq *, const struct bq_ref *, struct bq_request, bq_cb *, void *arg);
/* The same to the collection that the table is in, or is to be. */
struct bq_call *bq_tables_send(struct bq *, const struct bq_ref *, struct bq_request, bq_cb *, void *arg);
/* "location=EU&" or nothing. */
void bq_location_query(const char *location, struct buf *out);
/* {"jobReference":..., "configuration":...} */
doc *bq_job_resource(const struct bq *, const char *job_id, const char *location, const doc *configuration);

/* Whether it can be a job's resource. */
bool bq_is_job(const doc *);
/* jobs.insert without media. */
struct bq_call *bq_job_post(struct bq *, const doc *resource, bq_cb *, void *arg);
/* Waits for a query's end, for BQ_RESULTS_WAIT_MS at most. A failed job is an error of this request. */
#define BQ_RESULTS_WAIT_MS 10000 /* the server's part of the long poll */
struct bq_call *bq_job_results(struct bq *, const char *job_id, const char *location, bq_cb *, void *arg);
/* The job that does nothing but fail, for this reason. */
doc *bq_give_up_config(const struct error *, const char *digest);

/* Asks, and waits for no answer. */
void bq_job_cancel(struct bq *, const char *job_id, const char *location);

/* --- sending a load's bytes with its job: one request, or a resumable session ------------------------------------------------------------ */

struct bq_upload;
/* As bq_cb: 2xx with the job; or an error, where 409 means that a job of that id exists already. media stays valid until then. */
struct bq_upload *bq_upload_start(struct bq *, const char *job_id, const char *location, const doc *job, const struct http_slice *media,
                                  size_t media_count, bq_cb *, void *arg);
/* The same for bytes that come while they are sent; the feed outlives it. ERR_RETRY with the reason "sessionLost": nothing is there under the id, and bytes
 * that the feed has let go would have to be sent again. */
struct bq_upload *bq_upload_start_feed(struct bq *, const char *job_id, const char *location, const doc *job, struct bq_feed *, bq_cb *, void *arg);
void bq_upload_stop(struct bq_upload *); /* NULL allowed; no callback */
/* "", or why its bytes do not get through just now. */
const char *bq_upload_trouble(const struct bq_upload *);
/* Likewise, and asks the service to forget the session. */
void bq_upload_abandon(struct bq_upload *);

/* An upload's side of a feed. */
void feed_attach(struct bq_feed *, void (*wake)(void *), void *arg); /* wake: bytes were added, or the end; NULL: nobody */
struct feed_state { int64_t from, to, chunk; bool ended; };          /* the bytes from..to are here */
struct feed_state feed_state(const struct bq_feed *);
/* The pieces of len bytes from `from`, in an array that is made larger; valid until they are let go. Their number. */
size_t feed_slices(const struct bq_feed *, int64_t from, int64_t len, struct http_slice **);
void feed_let_go(struct bq_feed *, int64_t to);

#endif
