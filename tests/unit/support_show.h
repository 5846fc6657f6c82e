#ifndef BQF_TESTS_SUPPORT_SHOW_H
#define BQF_TESTS_SUPPORT_SHOW_H

#include "tests/unit/support_crew.h"
#include "tests/unit/support_tables.h"

/* A run whose rows are shown by a view (write.via worker-tables), and coordinators at it. */
struct show { struct crew crew; struct crewman boss, other; struct record *run; };
extern struct show show;
void show_open(void **state);                  /* the run is not yet published */
void show_publish(struct record *);
void show_begin(void **state);                 /* it is, and the boss is at it, whom nothing happens to */
void show_finish(void **state);                /* all is cleaned up: no staging, one table behind the view, which is free */
void show_wait_rows(int64_t rows);             /* until the view shows so many */
void show_wait_done(struct crewman *);
int64_t show_value_of(int64_t item);           /* a value that is shown under the key of an item; -1: none */
struct record *show_second_run(enum write_mode); /* of another batch, into the same view; the caller frees */

#endif
