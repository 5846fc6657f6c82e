#ifndef BQF_TESTS_SIM_SIM_H
#define BQF_TESTS_SIM_SIM_H

#include "common/bq/permits_set.h"
#include "common/fleet/record.h"
#include "coordinator/coordinator.h"
#include "coordinator/submit.h"
#include "tests/bq/bqmodel.h"
#include "tests/sim/sleeper.h"
#include "worker/worker.h"

/*
 * A whole fleet on virtual time in one process: workers, coordinators, submitters and operators as they are in production, each behind a view of the world of
 * its own (sleeper.h), the bus in memory, the model of BigQuery. One seed decides every size, delay, fault and order, and nothing else does: no pointer, no
 * wall clock. What must be true is checked from outside, by what the world saw (check.h).
 */
#define SIM_PREFIX "t."
#define SIM_QUEUE "default"
enum { SIM_WORKERS = 200, SIM_COORDINATORS = 3, SIM_BATCHES = 6, SIM_SUBMITTERS = 64, SIM_PARTITIONS = 16, SIM_LOGS = 3 };

/* --- what a seed draws (plan.c) ------------------------------------------------------------------------------------------------------------------ */

enum keys_kind { KEYS_OWN /* every row its own */, KEYS_SHARED /* rows of different items meet */ };
enum parts_kind { PARTS_NONE, PARTS_DAY, PARTS_MONTH, PARTS_HOUR, PARTS_YEAR, PARTS_RANGE }; /* how the target is partitioned, by its column d */

struct batch_plan {
    char name[16], target[32];
    int64_t items;
    enum write_mode mode;
    enum write_via via;
    enum keys_kind keys;
    bool order, insert_only, stays, parallel_cap;
    enum null_keys null_keys;      /* with a second key that may be NULL */
    bool second_key;
    enum parts_kind parts;
    bool keyed;                    /* replace-partitions: a row of each key */
    int permits;
    int64_t every_ms, timeout_ms, attempts, tolerate_count, stop_after, parallel, start_ms;
    double tolerate_percent;
    double trouble;                /* part of its items that are not just done */
    int64_t work_ms;               /* of an item, at most */
    int64_t rows_most;
    int64_t big;                   /* bytes of a large row; 0: there are none */
    int64_t deadly, payload;       /* items that take their worker down, at most; bytes of an item's payload */
    bool hopeless, too_long;       /* nearly all items fail, with many words; one has a row that is longer than any may be */
    bool heavy;                    /* all rows are large */
};

struct plan {
    uint64_t seed;
    int workers, coordinators, batch_count;
    int32_t partitions, widened;   /* widened: so many are added */
    struct batch_plan batches[SIM_BATCHES];
    int64_t calm_ms;               /* after which nothing goes wrong any more */
    double kills, pauses, cuts, expels, skews, service, steers; /* of each a second, for the whole fleet */
    double lose_ack, refuse_commit;
    int64_t delay_us;
    int chaos_per_mille;           /* of BigQuery's answers and jobs */
    bool dies_publishing;          /* the first submitter */
    bool quiet;                    /* nothing goes wrong at all */
    /* workers */
    int64_t parallel, buffer, load_size, linger_ms, streams;
    bool compress;
    /* coordinators */
    size_t shards_at_once, params_at_once;
    /* the service */
    int64_t latency_ms, pending_ms, load_ms, dml_ms;
    bool limits, endless;
    int64_t lease_ms;              /* of permits; 0: the product's own */
    double drops, replaces;        /* of each a second: staging tables that go; runs that are replaced while they are written */
    double ambush;                 /* part of those that have sent a statement for a target and are killed or stopped then */
};
void plan_draw(struct plan *, uint64_t seed);
void plan_text(const struct plan *, struct buf *out);

/* --- what is told at the end ----------------------------------------------------------------------------------------------------------------------- */

enum deed { DEED_KILL, DEED_RESTART, DEED_PAUSE, DEED_CUT, DEED_EXPEL, DEED_SKEW, DEED_BROKER, DEED_WIDEN, DEED_SERVICE, DEED_STEER, DEED_SUBMIT, DEED_REDRIVE,
            DEED_DROP, DEED_CRASH, DEED_BAD, DEED_REFUSE, DEED_STRANGE, DEED_ERODE, DEED_LOOK, DEED_LEAVE, DEED_MEDDLE, DEED_TAMPER, DEED_COUNT };
const char *deed_name(enum deed);

struct report {
    uint64_t seed;
    int64_t items, workers, deeds[DEED_COUNT], statements, loads, requests, faults, runs, rows, virtual_ms, wait_ms;
    int64_t ends[16], commits, chaos[BQMODEL_CHAOS_KINDS];
    int violation;               /* the invariant's number; 0: none */
    char text[2000];
};

/* --- processes (process.c) ---------------------------------------------------------------------------------------------------------------------------- */

struct sim;
enum proc_kind { PROC_WORKER, PROC_COORDINATOR, PROC_SUBMITTER };
struct proc {
    struct sim *sim;
    enum proc_kind kind;
    int slot, lives;
    char name[32];
    struct sleeper *sleeper;     /* NULL: it does not live */
    bool paused;
    int64_t again_us;            /* when what is wrong with it is over; 0: nothing is */
    int doom;                    /* so many words of it from now */
    void (*doom_fn)(struct proc *);
    struct timer *doom_timer;
    struct rnd rnd;
    struct metrics metrics;
    struct world world;
    struct permits_set *permits;
    /* a worker */
    struct children children;
    struct handler_defs defs;
    struct worker *worker;
    bool failed;                 /* it cannot go on */
    /* the others */
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct track *track;
    /* a submitter */
    const struct batch_plan *batch;
    struct record *record;
    struct submit *submit;
    int64_t next_item;
    char key[32];
    struct redriving *redriving; /* it redrives a run */
    bool sealed, leaves, over, replace;
    int64_t left_us;             /* since when it only gives back its permits */
};
void proc_worker(struct sim *, int slot);
void proc_coordinator(struct sim *, int slot);
/* Opens a run of the batch; run NULL: a fresh one. NULL: there is no room for one more. */
struct proc *proc_submit(struct sim *, const struct batch_plan *, const char *run, bool replace);
/* The failed items of a run, as a new one. */
struct proc *proc_redrive(struct sim *, const struct batch_plan *, const char *run);
void proc_submit_from(struct proc *, struct submit_source);
/* redrive.c */
struct redriving *redriving_new(struct proc *, const char *run, const char *fresh);
void redriving_ready(struct redriving *);
void redriving_free(struct redriving *);
void proc_kill(struct proc *);
void proc_pause(struct proc *, int64_t ms);
void proc_cut(struct proc *, unsigned directions, int64_t ms);
/* fn, once it has said so many words more. */
void proc_doom(struct proc *, int words, void (*fn)(struct proc *));
void proc_word(struct proc *); /* it has said one */
void proc_tick(struct proc *); /* what time has to do with it */
static inline bool proc_lives(const struct proc *p) { return p->sleeper != NULL; }

/* --- handlers (handlers.c) ------------------------------------------------------------------------------------------------------------------------------- */

/* A handler's work on one item. Its number is the column v of its rows. */
struct emission { int32_t run; int64_t item; int64_t rows; bool done; };
struct handlers {
    struct emission *v; size_t count, cap;
};
/* What a row of an item has in its columns, whichever attempt it is of. */
struct row_fact { char key[40], second[16] /* "": NULL */; int64_t order /* INT64_MIN: NULL */; char part[24] /* "": NULL */; int place; /* of its partition */ };
void row_facts(const struct sim *, const struct batch_plan *, int64_t number /* of the item's key */, int64_t row, struct row_fact *);
/* How many it has; another attempt may find another number where the batch is not merged. */
int64_t rows_of(const struct sim *, const struct batch_plan *, int64_t number, int64_t attempt);
const struct child_ops *handler_ops(void); /* self: struct proc */

/* --- oddities (stranger.c) ------------------------------------------------------------------------------------------------------------------------------- */

enum { EROSIONS = 9 };

/* Drawn by dice of their own, so that a seed without them is as it was. */
struct oddities {
    double words, refusals;      /* of each a second: messages of somebody who has no business there; processes whose credentials are refused for a time */
    bool plain_coordinators, plain_submitters; /* without BigQuery: of the coordinators all but the first */
    double erosion[EROSIONS];    /* of each a second: see erosion.c */
    double looks;                /* of each a second, by people who look */
    double fetch;                /* of messages that are followed: the last of what came together */
};
void odd_draw(struct oddities *, const struct plan *);

/* --- the world (world.c) --------------------------------------------------------------------------------------------------------------------------------- */

/* What workers go through (toil.h): of each a second. */
enum { TOIL_OFFSETS, TOIL_FENCE, TOIL_DENY, TOIL_BLIND, TOIL_STRAIN, TOIL_GAP, TOIL_NO_TABLES, TOIL_NO_DROPS, TOIL_UNFIT, TOIL_MISCOUNT, TOIL_STAGING, TOIL_LOADS, TOILS };
struct toil {
    bool any, late_topic, deadly, paced /* workers keep to BigQuery's limits */, outage /* no table is made for very long */;
    double leaves, refused /* part of those that begin */, rates[TOILS];
};

struct check;
struct sim {
    struct plan plan;
    struct report *report;
    struct loop *loop;
    struct rnd dice, net, chaos, views /* when they are looked at */;
    struct bus *bus;
    struct bqmodel *model;
    struct auth *auth;
    struct proc workers[SIM_WORKERS], coordinators[SIM_COORDINATORS], submitters[SIM_SUBMITTERS];
    int submitter_count;
    struct sleeper **past; size_t past_count, past_cap; /* of those that were killed */
    struct handlers handlers;
    struct check *check;
    int64_t began_us;
    bool calm, broker_away, widened;
    bool hard;                   /* jobs were drawn to fail more often than they are tried */
    int64_t broker_back_us;
    int64_t slowed_ms;           /* for which jobs were drawn to take longer: one may get all that */
    struct oddities odd;
    struct toil toil;
    uint64_t runs_named;
};
void sim_run(uint64_t seed, struct report *);
static inline int64_t sim_ms(const struct sim *s) { return (loop_now_us(s->loop) - s->began_us) / US_PER_MS; }
static inline int64_t sim_below(struct sim *s, int64_t n) { return (int64_t)rnd_below(&s->dice, (uint64_t)n); }
static inline bool sim_chance(struct sim *s, double p) { return rnd_real(&s->dice) < p; }
void sim_did(struct sim *, enum deed, const char *who, const char *fmt, ...) PRINTF_LIKE(4, 5);
struct proc *sim_any(struct sim *, enum proc_kind, bool alive); /* NULL: there is none */

/* The broker goes away for so long; 0: it is back. */
void world_broker(struct sim *, int64_t ms);

/* The dice's step: what happens next, and when. */
void chaos_start(struct sim *);
/* A batch is being submitted. */
void chaos_submits(struct sim *, struct proc *);
void chaos_calm(struct sim *);
/* It has sent a statement that writes into a target; kind: how its job's id begins. */
void chaos_wrote(struct proc *, const char *kind);
/* It is killed or stopped in a moment. */
void chaos_ambush(struct proc *, int64_t within_us);
void chaos_stop(struct sim *);

/* What is done to targets while runs write (tamper.c), until the calm. */
void tamper_open(struct sim *);
void tamper_calm(void);
void tamper_asked(struct proc *, const struct http_request *); /* that leaves it */

/* Says what nobody should, and refuses credentials, until the calm. */
void stranger_open(struct sim *);
void stranger_calm(void);
void stranger_close(struct sim *);
struct ledger;
/* In that run's log. */
void stranger_says(const struct ledger *, const void *value, size_t len);
/* A message of a run's log, which may come a second time. */
void stranger_heard(const struct bus_out *);

/* What time and haste do to a fleet, until the calm (erosion.c). */
void erosion_draw(struct oddities *, struct plan *);
void erosion_open(struct sim *);
void erosion_calm(void);
void erosion_heard(const struct ledger *, const struct log_msg *); /* a message of its log, which counts already */
void erosion_after(void); /* now and then after it: what nobody else can end is closed */
void erosion_close(void);

/* People who look at runs, and what they see (looker.c). */
void looker_draw(struct oddities *, const struct plan *);
void looker_open(struct sim *);
void looker_soon(int64_t us); /* somebody looks just then, if anybody does at all */
void looker_close(struct sim *);

/* --- the history (trace.c) -------------------------------------------------------------------------------------------------------------------------------- */

void trace_to(struct sim *, FILE *); /* NULL: no more */
bool trace_on(void);
void trace(const char *who, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* An invariant does not hold: it is told, and the process ends. */
_Noreturn void sim_violated(struct sim *, int invariant, const char *fmt, ...) PRINTF_LIKE(3, 4);
const char *invariant_name(int);

#endif
