#ifndef BQF_COORDINATOR_LIVE_H
#define BQF_COORDINATOR_LIVE_H

#include "coordinator/command.h"
#include "coordinator/coordinator.h"
#include "coordinator/failed.h"
#include "coordinator/items.h"
#include "coordinator/plan.h"
#include "coordinator/presence.h"
#include "coordinator/probe.h"
#include "coordinator/progress.h"
#include "coordinator/report.h"
#include "coordinator/submit.h"

/*
 * What commands that stay for a while have in common: the world, the fleet's runs, one run they are about, progress, signals, the end.
 * One in a process, on the stack of its command.
 */
struct live {
    struct command_env *env;
    struct setup setup;
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct presence *presence;
    struct progress *progress;
    struct sigwatch *on_int, *on_term;
    char *watch_command;         /* "bqfleet watch --brokers X" */
    char *flags;                 /* " --brokers X --prefix Y": for advice */
    int signal;                  /* the first that came; 0 */
    bool ended; int code;
    FILE *out;                   /* what stdout carries goes here: stdout, or stderr where rows have stdout */
    /* the command's part: */
    void (*interrupted)(struct live *);           /* after the first signal; NULL: the command ends */
    void (*settled)(struct live *);               /* the run is over or held; NULL: live_finish */
    void (*unknown)(struct live *);               /* the log no longer reaches back to the run's beginning; NULL: BigQuery is asked, the command fails */
    void (*changed)(struct live *);               /* after each change of the run; NULL: none */
    void (*workers_known)(struct live *);         /* the topic of workers was read; NULL: none */
    bool past_held;              /* a held run is waited for */
    /* of the one run */
    struct record *record;       /* owned; NULL before it is known */
    enum track_role role;
    struct track *track;
    struct submit *submit;
    struct items *items;
    struct submit_source source; /* of items; live_open_items sets it */
    int first_try;               /* of the first cut's job: tries before it are known to have failed */
    bool list_lost;              /* --failed FILE could not be written */
    int failed_code; struct error failed_error; /* why nothing more is published; told once the run is settled */
    int64_t expected;            /* items, where known beforehand; -1 */
    bool over, warned;
    doc *final; int final_code;  /* what is said at the end, where it is not what the log says then; NULL */
    struct failed *failed;
    struct probe *probe;
    struct ticket *knock; int64_t knocked_us; bool bus_silent; /* whether the bus answers, asked when workers fall silent */
    /* Embedded: the worker in this process; local.c says what it does. */
    bool embedded;
    void (*own_worker)(const struct live *, int64_t *in_flight, char *waits_for, size_t size);
};

/* wants: SETUP_ bits; LIVE_ALL_RUNS besides: every open run is tracked. Prints its error; an exit code, or -1 to go on. */
enum { LIVE_ALL_RUNS = 1 << 16 };
int live_open(struct live *, struct command_env *, unsigned wants, const struct spec *);
int live_try_open(struct live *, struct command_env *, unsigned wants, const struct spec *, struct error *); /* 0 or -1; prints nothing */
/* Waits until the fleet's runs are known. -1, or an exit code. */
int live_read_runs(struct live *);
/* Opens, and takes the record of the run that a user's text means. -1, or an exit code: all is closed then. */
int live_open_named(struct live *, struct command_env *, unsigned wants, const struct spec *, const char *text, struct catalog_run **);
/* Runs the loop until the end; closes everything; the exit code. */
int live_run(struct live *);
int live_close(struct live *, int code); /* returns code */

/* From callbacks: */
void live_end(struct live *, int code);
void live_fail(struct live *, int code, const struct error *); /* prints it first */
/* live->record becomes a copy of that one. */
void live_take_record(struct live *, const struct record *);
/* Whether a run that exists under our id is for what live->record is for; else the command has failed. */
bool live_same_meaning(struct live *, const struct record *);
/* Begins to follow the run of live->record. */
void live_track(struct live *, enum track_role);
/* The run that a user's text means, from the catalog: NULL with its error printed. */
struct catalog_run *live_named(struct live *, const char *text);
/* Whether an open run is to adopt that one: then it says so, and that the other is to be cancelled first. */
bool live_has_heir(struct live *, const struct catalog_run *);
/* Prints the summary, writes --failed, ends with the run's code. */
void live_finish(struct live *);
/* The log no longer tells how the run ended: what is known otherwise is printed, and the command ends. err: why. */
void live_ask_bigquery(struct live *, const struct error *);
void live_show_progress(struct live *);
bool live_json(const struct live *);
/* Plans and waits for it: live->record. -1, or an exit code. */
int live_plan(struct live *, const struct spec *, bool dry);
/* The same, its error left to the caller: -1: err; 0: live->record; else an exit code (a signal). */
int live_try_plan(struct live *, const struct spec *, bool dry, struct error *);
/* Opens the items. -1, or an exit code. */
int live_open_items(struct live *, const struct spec *);
/* For submit_events.failed: the run that was opened is settled first, so that its name is free again and its staging gone. */
void live_submit_failed(struct live *, int code, const struct error *);
/* Starts submitting live->record. */
void live_submit(struct live *, const struct submit_events *, bool leaves);
/* The same for a command that stays: with progress, and what an interruption does. */
void live_submit_and_stay(struct live *);
/* Waits for cond, a signal, or the end, at most wait_ms (0: for ever). -1 when cond came true; else an exit code, the error printed. */
int live_until(struct live *, bool (*cond)(void *), int64_t wait_ms, const char *what);
/* Where this process had the first right to consolidate: says in the run's log that it leaves, so that whoever comes need not wait for it. */
void live_say_left(struct live *);
/* "bqfleet watch RUN --brokers X" and so on; the caller frees. */
char *live_advice(const struct live *, const char *command);
/* " --brokers X --prefix Y": what a command line needs to find the same fleet; the caller frees. */
char *live_flags(const struct settings *);
/* What the command line gives for a project where a run's record has its own: a world without one can still be opened. */
const struct spec *live_any_project(const struct command_env *);

#endif
