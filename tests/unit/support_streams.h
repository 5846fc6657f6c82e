#ifndef BQF_TESTS_SUPPORT_STREAMS_H
#define BQF_TESTS_SUPPORT_STREAMS_H

#include "tests/unit/support_worker.h"
#include "worker/core.h"

/* Items with many rows, of which every one is known: handlers that make them, and a look at what landed. */
#define WIDTH 20000 /* bytes of a row's text */
#define ROWS_MOST 400
#define ITEMS_MOST 200
extern int64_t streams_rows[ITEMS_MOST]; /* rows that each item has */
extern int64_t streams_most_held, streams_most_places, streams_most_attempt; /* attempt: that a handler was told */

void streams_say_row(struct fake_child *, int64_t item, int64_t row);
void streams_say_done(struct fake_child *, int64_t item);
bool streams_usual(struct fake_child *, const doc *msg); /* false: it was no item */
/* Scripts. */
void streams_one_after_another(struct fake_child *, const doc *msg);
/* The worst for one pipe: a row of each item in turn, and all are done at the end, the oldest last. */
void streams_all_together(struct fake_child *, const doc *msg);

void streams_open(struct kit *, int64_t buffer, int items, int64_t rows);
void streams_begin(struct kit *, fake_script *, int items, int64_t attempts);
void streams_watch(struct kit *);                 /* what the worker holds now goes into most_... */
bool streams_all_done(struct kit *);
void streams_assert_bounded(const struct kit *);
/* What the manifests name is every row of every item that has not failed, once. */
void streams_assert_rows(struct kit *);
void streams_run(struct kit *);
void streams_close(struct kit *);

#endif
