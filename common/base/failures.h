#ifndef BQF_BASE_FAILURES_H
#define BQF_BASE_FAILURES_H

#include "common/base/error.h"

/*
 * The one table of failures: where a failure came from, its status, reason and message say what it means for us, how long to wait, what work a limit parks,
 * and what to tell the user. docs/errors.md is printed from the same rows. Pure functions.
 */

/* Where it came from. Bits. */
enum failure_origin {
    FROM_REQUEST = 1, /* an HTTP request: its answer, or that there was none (status 0) */
    FROM_JOB = 2,     /* status.errorResult of a job of BigQuery; status 0 */
    FROM_ROW = 4,     /* a row, or the item it is of, that cannot be taken */
    FROM_HANDLER = 8, /* what a handler said or did; status: its exit status */
    FROM_KAFKA = 16   /* the name of librdkafka's code as reason */
};

/* What a limit parks, and nothing else with it. */
enum work_class {
    WORK_NONE,           /* nothing: only who met it waits */
    WORK_OF_JOB,         /* what the job that met it is: loads into its table, DML on its table, or queries */
    WORK_LOADS_TABLE, WORK_LOADS_PROJECT, WORK_DML_TABLE, WORK_QUERIES,
    WORK_REQUESTS,       /* every request */
    WORK_CLASSES
};

#define FAILURE_5XX 5      /* as status: 500 to 599 */
#define FAILURE_NO_ANSWER (-1) /* as status: only 0 */

struct failure_row {
    unsigned from;
    int status;          /* 0: any */
    const char *reason;  /* NULL: any; case does not matter */
    const char *text;    /* a piece of the message; NULL: any */
    enum error_kind kind;
    const char *name;    /* our reason; NULL: the reason as it came */
    enum work_class parks;
    int64_t wait_ms;     /* before the next try at the least; jitter comes on top */
    bool crowded;        /* there are too many requests at once: fewer from now on */
    const char *advice;  /* added to the text; NULL: none */
};
extern const struct failure_row failure_rows[];
extern const size_t failure_count;

/* The first row that fits. There always is one. NULL strings are as empty ones. */
const struct failure_row *failure_find(enum failure_origin, int status, const char *reason, const char *message);
/* -1, err with the row's kind, reason, wait and advice. The text, which is also what rows are looked for in, is that of fmt. */
int failure_set(struct error *err, enum failure_origin, int status, const char *reason, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* "loads into a table" */
const char *work_class_name(enum work_class);
/* The table as Markdown. The caller frees. */
char *failures_markdown(void);

#endif
