#ifndef BQF_TESTS_SUPPORT_DIRECT_H
#define BQF_TESTS_SUPPORT_DIRECT_H

#include "tests/unit/support_crew.h"

/* One run whose rows are written directly: a coordinator, and two workers at most. Nothing is lost unless the test says so. */
extern struct crew crew;
extern struct crewman boss, worker, other;
extern int64_t wanted; /* of so_many_... */

struct record *direct_open(void **state);             /* the stage, and a record to be changed */
void direct_begin(void **state, struct record *);     /* the run is open; the coordinator is there */
void direct_hire(struct crewman *, const char *name);
const struct fold *direct_fold(void);                 /* the coordinator's */
/* Checks what must be true of every run at its end, and ends all. */
void direct_end(void **state);
void direct_wait_done(int64_t items);
void direct_work_one(int64_t item);                   /* the next one, until its row is written */
void direct_seal(int64_t items);                      /* and waits until everything is done */
int64_t direct_now_ms(void);
void direct_all_items_are_there_once(int64_t items);

#define DIRECT_WAIT(cond) STAGE_WAIT(crew.stage, (cond), NULL)
bool so_many_are_done(void *);
bool so_many_written(void *);
bool nothing_waits(void *);       /* every load is in a cut that has its outcome */
bool a_cut_stands(void *);        /* of a shard, and has no outcome */
bool its_job_is_there(void *);
bool is_settled(void *);
bool is_done(void *);
bool is_held(void *);

#endif
