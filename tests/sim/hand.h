#ifndef BQF_TESTS_SIM_HAND_H
#define BQF_TESTS_SIM_HAND_H

#include "tests/sim/check.h"

/* An operator: one process that nothing happens to, which says in runs' logs what commands say: cancel, finish, pause, resume, set parallel, redrive. */
void hand_open(struct sim *);
void hand_close(struct sim *);
void hand_steers(struct sim *);           /* by chance */
void hand_replaces(struct sim *);         /* a run that is being written */
/* Without a look whether somebody else has decided otherwise just now. */
void hand_says_so(struct sim *, const struct ledger *, enum log_type);
void hand_closes(struct sim *, const struct ledger *); /* whose log nobody can fold: as `cancel` does */
bool hand_has_heir(const struct sim *, const struct ledger *);
void hand_decides(struct sim *);          /* what waits for a decision gets it */
const char *hand_says(struct sim *);      /* what coordinators wait for */

#endif
