#ifndef BQF_TESTS_SUPPORT_PERMITS_H
#define BQF_TESTS_SUPPORT_PERMITS_H

#include "common/bq/permits.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "tests/bq/bqmodel.h"

/* Clients of one table of permits, each as a process of its own would be: on the model of BigQuery and one virtual clock. */

#define CLIENTS_MAX 100
#define PERMITS "ds.bqfleet_permits_t_"
struct site;
struct client {
    struct site *site;
    struct bq *bq;
    struct permits *permits;
    struct permit_use *use;
    struct bq_job *job;
    struct timer *timer;
    doc *configuration;
    int number, left, done, tries;
    bool refused, lost, stay;     /* stay: what it holds it keeps, and does nothing */
    int64_t asked_us, longest_us, work_ms;
    char token[64];
};
struct site {
    struct loop *loop;
    struct bqmodel *model;
    struct rnd rnd;
    struct auth *auth;
    struct bq_ref table;
    int slots, at_once, most_at_once;
    int64_t quantum_ms;           /* 0: the usual one */
    struct client clients[CLIENTS_MAX];
    size_t count;
};

/* For cmocka, around each test. */
int site_open(void **state);
int site_close(void **state);
struct client *site_client(struct site *);
struct client *site_client_of(struct site *, const char *project); /* where its statements run */
/* The process is gone: nothing of it acts any more, and nothing is said. */
void client_kill(struct client *);
/* A wish for the job work_NUMBER_TRY. Granted, it is guarded work: a stretch of time in which at most `slots` clients may be; then the next one, as many as are left. */
void client_want(struct client *);
void site_run_all(struct site *, int each);
/* The row of a slot; the caller's. */
doc *site_row(struct site *, size_t slot);

/* A wish of that process beside its own, for that job. */
struct wisher { struct permit_use *use; bool granted, refused; };
void wisher_want(struct wisher *, struct client *, const char *job);

/* What may be waited for. */
bool wisher_has_one(void *wisher);
bool site_done(void *site);
bool client_has_one(void *client);
bool client_rests(void *client);
bool client_gave_back(void *client);
bool site_never(void *site);
#define UNTIL(s, cond, arg) assert_true(loop_until((s)->loop, cond, arg, INT64_C(7200) * US_PER_S))

#endif
