#ifndef BQF_BQ_BQ_H
#define BQF_BQ_BQ_H

#include "common/base/doc.h"
#include "common/base/failures.h"
#include "common/base/retry.h"
#include "common/bq/auth.h"
#include "common/net/http.h"

/* BigQuery by its REST API v2: one client a process. Loop thread only; callbacks never come from inside the call. */
struct bq;

struct bq_options {
    struct loop *loop;
    struct http *http;
    struct auth *auth;
    struct rnd *rnd;
    struct metrics *metrics;   /* may be NULL */
    const char *base_url;      /* "https://bigquery.googleapis.com", or BIGQUERY_EMULATOR_HOST (with or without a scheme) */
    const char *project;       /* jobs run and are billed here */
    int requests;              /* at once, as the transport has it; 0: LIMIT_HTTP_REQUESTS */
};
struct bq *bq_new(const struct bq_options *);
/* The same client, but its jobs run in another project: a worker serves runs of many. Freed on its own, before the first one. */
struct bq *bq_new_for(struct bq *, const char *project);
void bq_free(struct bq *);
struct loop *bq_loop(struct bq *);
const char *bq_project(struct bq *);
const char *bq_base_url(struct bq *);

/* --- one request, sent again while that may help ----------------------------------------------------------------------------------- */

struct bq_call;
struct bq_request {
    const char *method;
    const char *path;        /* after /bigquery/v2: "/projects/p/jobs/j", already escaped */
    const char *query;       /* "location=EU&maxResults=0", already escaped; NULL */
    bool upload;             /* under /upload/bigquery/v2 */
    const char *url;         /* instead of path and query: a resumable session */
    const doc *body;         /* JSON; sent as text at once, not kept */
    const char *const *headers;                         /* besides the usual ones; NULL */
    const struct http_slice *media; size_t media_count; /* instead of body; valid until the callback */
    int64_t first_byte_ms;   /* 0: the default */
    bool once;               /* no repeat: the caller decides */
    bool absent_ok;          /* a 404 is an answer too: without a doc, err NULL */
    bool urgent;
    bool again;              /* repeats one that failed (whoever sends with `once` repeats by itself) */
    bool (*sound)(const doc *); /* whether a good answer (308 aside) can be BigQuery's at all: else it is a proxy's, and as one that was lost; NULL: any can */
};
/* status 2xx (and 308): answer (may be NULL when empty), err NULL. Otherwise err, with the kind the service's own words give
 * (bq_classify), its status as code and its reason; status 0: no answer. maybe_executed as in http.h. */
struct bq_answer {
    int status; const doc *doc; const struct error *err; bool maybe_executed; const struct http_response *http;
    const struct failure_row *failure; /* what decided about err, or NULL */
};
typedef void bq_cb(void *arg, const struct bq_answer *);
/* Repeats ERR_RETRY with full jitter (1 s doubling to 32 s, 10 min in all), also when a reply was lost: only for requests that may be
 * repeated, as all of ours may (ids make them so). A 401 refreshes the credentials once. */
struct bq_call *bq_send(struct bq *, const struct bq_request *, bq_cb *, void *arg);
void bq_call_cancel(struct bq_call *); /* NULL allowed; no callback */
/* "", or what all requests wait for, for people (gate.h). Valid until the next call. */
const char *bq_waits_for(struct bq *);

/* What the table of failures says of BigQuery's answer: HTTP status, reason and message give the kind. A pure function. from_job: the error comes
 * from a job's status.errorResult, where status is 0. The row that decided. */
const struct failure_row *bq_classify(int status, const char *reason, const char *message, bool from_job, struct error *);

/* --- names ---------------------------------------------------------------------------------------------------------------------------- */

struct bq_ref { char project[64], dataset[256], table[256]; };
/* "dataset.table" or "project.dataset.table" (also with backquotes or "project:dataset.table"). ERR_USAGE. */
int bq_ref_parse(const char *text, const char *default_project, struct bq_ref *, struct error *);
/* Whether these can be names at all; a statement is made of no others. */
bool bq_ref_ok(const struct bq_ref *);
const char *bq_ref_text(const struct bq_ref *, char *out, size_t size); /* project.dataset.table */
bool bq_ref_equal(const struct bq_ref *, const struct bq_ref *);

#endif
