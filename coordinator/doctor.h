#ifndef BQF_COORDINATOR_DOCTOR_H
#define BQF_COORDINATOR_DOCTOR_H

#include "coordinator/command.h"

/*
 * `bqfleet doctor`: looks at what a run will need, one thing after another. A check is a row of the table in commands/doctor.c; it says how things are, and
 * what to do where that is not well. None of them shows a secret, and none changes anything but the probe, which is asked for.
 */
enum verdict { CHECK_OK, CHECK_WARN, CHECK_FAIL, CHECK_SKIPPED };

struct doctor {
    struct command_env *env;
    const char *path;               /* of the spec; NULL: none was given */
    struct spec *spec;              /* NULL: none, or it is wrong */
    struct setup bus, bigquery;     /* world.loop NULL: not open */
    struct error bigquery_error;    /* why it is not */
    struct bq_ref target, staging;  /* staging: its table is of no meaning */
    bool has_target;                /* the spec names one */
    bool target_exists;
    char target_location[64], staging_location[64];
    char table_location[64];
    int64_t skew_ms;                /* our clock less BigQuery's */
    bool skew_known;
    /* what the present check says */
    char text[1024], advice[1024];
};

/* Sets what the present check says, and returns the verdict. */
enum verdict doctor_say(struct doctor *, enum verdict, const char *text, ...) PRINTF_LIKE(3, 4);
void doctor_advise(struct doctor *, const char *text, ...) PRINTF_LIKE(2, 3);

/* doctor_bigquery.c: checks, in the order in which they need one another. */
enum verdict doctor_reach(struct doctor *);
enum verdict doctor_credentials(struct doctor *);
enum verdict doctor_clock(struct doctor *);
enum verdict doctor_project(struct doctor *);
/* doctor_tables.c */
enum verdict doctor_target(struct doctor *);
enum verdict doctor_staging(struct doctor *);
enum verdict doctor_permits(struct doctor *);
enum verdict doctor_limits(struct doctor *);

/* One answer of BigQuery's, waited for. */
struct doctor_answer { struct doctor *doctor; bool done; struct error err; int status; doc *doc; };
void doctor_answered(void *answer, const struct bq_answer *);
/* False with answer->err: there was none in time. The caller frees answer->doc. */
bool doctor_wait(struct doctor_answer *, struct bq_call *);

#endif
