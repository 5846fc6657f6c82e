#ifndef BQF_WORKER_PACE_H
#define BQF_WORKER_PACE_H

#include "common/base/base.h"

/*
 * When a staging table may have another load, so that no limit of BigQuery is met: the fewer are left of a budget, the longer the next load lingers, and grows. Values in,
 * values out; times are microseconds of the loop.
 *
 *   per table and day     1,500 loads, failed ones too. A shard is one process's own, so its own count is all there is: 500 at once and one more every 96 s, 1,400 a day.
 *   per project and day   100,000 loads, of which a process sees only its own. A fleet of more than 64 processes could pass that with what each table may have: so each has
 *                         its part of 90,000, by the number of workers that live in the topic `workers`. It is read only when a process has used half of what it may load at once:
 *                         before, 200 of them have made 50,000 at most. What other programs load in the project is not seen; BigQuery's refusal then parks all loads (quota.h).
 *   per table and 10 s    5 updates; making the table is one. Counted by when a load ended, which is after BigQuery has counted it. Only with BigQuery itself: an emulator has no such limit.
 *   requests              100 a second for each method and user: a load is one jobs.insert and some jobs.get, so 5 loads in 10 s of 200 processes are 100 a second. Their number cannot
 *                         be seen from here; "slow down" makes them fewer (gate.h).
 */
#define PACE_UPDATES 5

struct pace {
    bool updates;            /* that limit is heeded */
    double spare;            /* loads that may start at once */
    int64_t spared_us;       /* when some were last added to them */
    int64_t last_us;         /* when the last load started */
    int64_t ended_us[PACE_UPDATES]; int ended; /* the last updates, in a ring: how many there were */
    int running;
};
void pace_init(struct pace *, int64_t now_us, bool updates);

/* hurry: the buffer is full. leaving: the process is on its way out, and has few left. workers: that live, this one too. */
struct pace_view { int64_t now_us; bool hurry, leaving; int64_t workers; };
int64_t pace_wait_us(struct pace *, const struct pace_view *);
/* So much is used up that the number of workers matters. */
bool pace_is_short(const struct pace *);
void pace_begins(struct pace *, int64_t now_us);
void pace_tries(struct pace *, int more); /* a load needed so many jobs more than one */
void pace_ends(struct pace *, int64_t now_us);
void pace_updated(struct pace *, int64_t now_us); /* the table was changed otherwise */

#endif
