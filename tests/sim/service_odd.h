#ifndef BQF_TESTS_SIM_SERVICE_ODD_H
#define BQF_TESTS_SIM_SERVICE_ODD_H

#include "tests/sim/check.h"

/* What BigQuery, proxies before it, and people who have access to it can do beside the faults of the plan. Drawn by dice of its own, for some seeds, until the calm. */
void service_odd_open(struct sim *); /* once the model is there */
void service_odd_calm(void);
void service_odd_close(void);
/* What a run's spec may have besides. */
void service_odd_record(struct record *);
/* A process inserts that job: under its id another one may stand already. */
void service_odd_requested(struct sim *, const char *id, size_t id_len, const char *body, size_t len);
/* A process that ends gives back its permits first: whether it has, or has had the time for that. */
bool service_odd_gave_back(struct proc *);
/* Whether what ended the run is what was done to it, and nothing else. */
bool service_odd_explains(const struct ledger *);

/* permits_odd.c: somebody changes the rows of permits, in ways that must not break them. NULL dice: no more. */
void permits_odd_strikes(struct sim *, struct rnd *, const char *target, bool *dropped);

#endif
