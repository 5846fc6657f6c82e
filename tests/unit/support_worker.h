#ifndef BQF_TESTS_SUPPORT_WORKER_H
#define BQF_TESTS_SUPPORT_WORKER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "common/fleet/fold.h"
#include "common/fleet/record.h"
#include "tests/bq/bqmodel.h"
#include "worker/worker.h"

/*
 * A worker on a virtual loop (or a real one): the bus in memory, the model of BigQuery, children that play a script. Runs are opened and items published as a submitter
 * does; what the worker says in the log is folded as a coordinator does.
 */
struct fake_child {
    struct child child;       /* first */
    struct kit *kit;
    struct child_events events;
    void *arg;
    struct timer *timer;
    struct buf in, out, err;
    size_t told;              /* bytes of in that the script has seen */
    size_t heard;             /* bytes of out that the worker has taken */
    bool stopped;             /* out() took less: wait for resume */
    bool exits, stdin_closed;
    int status;
    char how[64];
    int serial;               /* from 1, in order of starts */
    int items;                /* it was given */
    char argv1[64];
    struct fake_child *next;
};
/* A line that the child was sent, as JSON (hello has "hello"). NULL msg: its stdin was closed (command: in holds the payload). */
typedef void fake_script(struct fake_child *, const doc *msg);
void fake_say(struct fake_child *, const char *fmt, ...) PRINTF_LIKE(2, 3); /* to stdout, as it is */
void fake_cry(struct fake_child *, const char *text);                      /* to stderr */
void fake_exit(struct fake_child *, int status, const char *how);          /* status as of waitpid */

#define KIT_PARTITIONS 4
struct kit {
    struct loop *loop;
    struct rnd rnd;
    struct bus *bus;
    struct bqmodel *model;
    struct auth *auth;
    struct bq *bq;
    struct metrics metrics;
    struct world world;
    struct children children, *real;
    struct fake_child *fakes;
    fake_script *script;
    bool refuse_start;        /* there is no such program */
    int started;
    int mode;                 /* for scripts */
    struct handler_defs defs;
    struct worker_options options;
    struct worker *worker, *second;
    bool drained, ended;
    struct error failed;
    struct fold *fold;        /* of run "r1" */
    int64_t manifests;
    char fatal[600];
    struct bus_follow *log, *letters;
    doc *dead;                /* array of entries */
    int64_t next_item;
};
void kit_open(struct kit *, enum handler_kind);
void kit_open_real(struct kit *, enum handler_kind); /* a real loop and real children */
void kit_close(struct kit *);
void kit_start(struct kit *);                  /* the worker */
void kit_drain(struct kit *, int64_t grace_ms);/* and frees it */
/* Opens run "r1" with schema "k:STRING,v:INT64"; change what is needed in between. */
struct record *kit_record(struct kit *);
void kit_run(struct kit *, struct record *);   /* publishes it, frees it */
void kit_end(struct kit *);                    /* the run is over */
void kit_state(struct kit *, bool paused);
void kit_publish(struct kit *, int count);     /* items with keys "kN" and payloads {"n":N}, over all partitions */
void kit_publish_item(struct kit *, int64_t item, int32_t partition, const char *payload);
/* What the group has committed, of all partitions together: messages below the offsets. */
int64_t kit_committed(struct kit *);
bool kit_wait(struct kit *, bool (*cond)(struct kit *), int64_t seconds);
void kit_pass(struct kit *, int64_t ms);
int64_t kit_rows(struct kit *);                /* in all shards of the model */
/* Conditions */
bool all_done(struct kit *);                   /* every published item is done in the log */
bool all_committed(struct kit *);
bool worker_idle(struct kit *);

#endif
