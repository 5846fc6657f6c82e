#ifndef BQF_TESTS_SUPPORT_QUERY_H
#define BQF_TESTS_SUPPORT_QUERY_H

#include "tests/unit/support_worker.h"

/* A worker whose handler is a SELECT, on the model of BigQuery. Items are numbered from 0, with payload {"n":N}. */

/* v: the item's number. */
#define NUMBERS "SELECT i.item, i.key AS k, CAST(JSON_VALUE(i.payload, '$.n') AS INT64) AS v FROM UNNEST(@items) AS i -- all of them"

void query_open(struct kit *, const char *sql, int64_t window); /* kit_open() with such a handler */
void query_begin(struct kit *, int items);                      /* the run, its items, the worker */
bool query_fatal(struct kit *);                                 /* a condition: the run cannot go on */
/* Job ids that begin so. */
int64_t query_jobs(struct kit *, const char *beginning);
/* What will be consolidated: of each item the sum of `v` and the number of rows in its first load. Fails when an accepted load has not the rows of its manifest,
 * or two rows of an item have one number. values, rows: of next_item elements, zeroed. */
void query_written(struct kit *, int64_t *values, int64_t *rows);
/* The same for items 0 to count - 1 that have one row each with v = n, but for those that failed. */
void query_assert_numbers(struct kit *, int64_t count);

#endif
