#ifndef BQF_COORDINATOR_LOCAL_INTERNAL_H
#define BQF_COORDINATOR_LOCAL_INTERNAL_H

#include "coordinator/live.h"
#include "coordinator/local.h"

/* Shared by local*.c: a run in this process. */
struct worker;

struct local {
    struct live live; /* first: callbacks get this */
    struct spec *spec;
    struct worker *worker;
    FILE *rows;          /* mode none: where they go; NULL otherwise */
    bool rows_failed;
    /* try */
    bool trying;
    const char *only;    /* a key */
    int64_t limit, given;
    /* what was read from the source */
    struct submit_source source;
    int64_t read, read_bytes;
    bool source_waits;
    struct timer *patience; /* after a signal; NULL before */
    /* a repeated run */
    bool probed; struct probe_result found; struct error probe_error;
};

static inline struct local *local_of(struct live *l)
{
    return (struct local *)(void *)l;
}

/* What a spec's run needs of the world: SETUP_ bits. */
unsigned local_wants(const struct spec *);
/* Starts the worker, submits, runs to the end; an exit code. */
int local_work(struct local *);
/* Whether the run was begun before, by a process that is gone. -1: go on. Otherwise an exit code. */
int local_look_before(struct local *);

#endif
