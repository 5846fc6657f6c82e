#ifndef BQF_TESTS_SIM_HAND_H
#define BQF_TESTS_SIM_HAND_H

#include "tests/sim/sim.h"

/* An operator: one process that nothing happens to, which says in runs' logs what commands say: cancel, finish, pause, resume, set parallel, redrive. */
void hand_open(struct sim *);
void hand_close(struct sim *);
void hand_steers(struct sim *);           /* by chance */
void hand_replaces(struct sim *);         /* a run that is being written */
void hand_decides(struct sim *);          /* what waits for a decision gets it */
const char *hand_says(struct sim *);      /* what coordinators wait for */

#endif
