#ifndef BQF_COORDINATOR_PROGRESS_H
#define BQF_COORDINATOR_PROGRESS_H

#include "common/base/error.h"
#include "common/net/loop.h"

/*
 * Progress on stderr. auto: one line, drawn again and again, on a terminal; else as plain: a line every 10 s and on each change of phase. json: an object
 * a line. none: nothing. Log lines go above the drawn line, which is wiped at the end. Loop thread only; one in a process.
 */
struct progress;

struct progress_view {
    const char *label;       /* "projections" */
    const char *phase;       /* "publishing", "working", "writing", ... */
    int64_t done, total;     /* items; total -1: not known */
    int64_t failed;
    int64_t in_flight;       /* -1: not known */
    int64_t cap;             /* items at once across the fleet; 0: none */
    char waits_for[320];     /* "" when it simply works */
};

/* view is asked whenever a line is due. */
struct progress *progress_start(struct loop *, const char *mode, const char *(*env)(const char *), void (*view)(void *arg, struct progress_view *), void *arg);
/* Draws soon rather than when the next line is due: the phase may have changed. */
void progress_poke(struct progress *);
void progress_free(struct progress *); /* restores the terminal; NULL allowed */

/* The line itself, at most `columns` wide, without colour: a pure function. rate: items a second, 0: not known yet. Returns out. */
const char *progress_line(const struct progress_view *, double rate, int columns, char *out, size_t size);

#endif
