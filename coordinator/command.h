#ifndef BQF_COORDINATOR_COMMAND_H
#define BQF_COORDINATOR_COMMAND_H

#include "common/fleet/settings.h"
#include "common/fleet/world.h"
#include "coordinator/spec.h"

struct command_env {
    const struct settings *settings;
    const struct config *config;         /* for `config show` */
    const char *(*env)(const char *);
};

/* A command of `bqfleet`: one row in the table of main.c, one file (or few) in coordinator/commands/. */
struct command {
    const char *name;
    const char *args;        /* "SPEC", "[RUN]", "" */
    const char *help;        /* one sentence */
    unsigned who;            /* bits of settings.h: which settings it takes */
    int min_args, max_args;
    int (*run)(struct command_env *, char *const *args, int count); /* an exit code; has printed its error */
};

/* Prints "bqfleet: TEXT" on stderr and returns the exit code that the error's kind asks for: usage 2, else 4. */
int command_fail(const struct error *);

/* setup.c: makes the world that settings ask for. What is not wanted stays NULL. */
enum { SETUP_BUS = 1, SETUP_BIGQUERY = 2, SETUP_CHILDREN = 4 };
struct setup { struct world world; struct rnd rnd; struct metrics metrics; struct http *http; struct auth *auth; struct permits_set *permits; };
/* SETUP_BUS: Kafka when settings->brokers, else a memory bus with the topics a run of the spec's queue needs. SETUP_BIGQUERY: the project is
 * --project, else the spec's, else GOOGLE_CLOUD_PROJECT. Waits (bounded, settings->wait_ms) for each of them to answer. spec may be NULL.
 * On failure everything is closed again. */
int setup_open(struct setup *, const struct command_env *, unsigned wants, const struct spec *, struct error *);
void setup_close(struct setup *);

int command_run(struct command_env *, char *const *args, int count);
int command_submit(struct command_env *, char *const *args, int count);
int command_watch(struct command_env *, char *const *args, int count);
int command_status(struct command_env *, char *const *args, int count);
int command_pause(struct command_env *, char *const *args, int count);
int command_resume(struct command_env *, char *const *args, int count);
int command_set(struct command_env *, char *const *args, int count);
int command_cancel(struct command_env *, char *const *args, int count);
int command_finish(struct command_env *, char *const *args, int count);
int command_dead(struct command_env *, char *const *args, int count);
int command_redrive(struct command_env *, char *const *args, int count);
int command_serve(struct command_env *, char *const *args, int count);
int command_try(struct command_env *, char *const *args, int count);
int command_plan(struct command_env *, char *const *args, int count);
int command_init(struct command_env *, char *const *args, int count);
int command_dedupe(struct command_env *, char *const *args, int count);
int command_permits(struct command_env *, char *const *args, int count);
int command_topics(struct command_env *, char *const *args, int count);
int command_doctor(struct command_env *, char *const *args, int count);
int command_config(struct command_env *, char *const *args, int count);
int command_version(struct command_env *, char *const *args, int count);

#endif
