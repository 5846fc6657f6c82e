#ifndef BQF_BASE_RETRY_H
#define BQF_BASE_RETRY_H

#include "common/base/error.h"
#include "common/base/rnd.h"

/* When to try again: a pure function of the policy, the number of failures so far, the error and a random number. */
struct retry_policy {
    int64_t base_ms, cap_ms; /* full jitter over min(cap, base * 2^failures) */
    int max_tries;           /* 0: no limit */
    int64_t budget_ms;       /* since the first failure; 0: no limit */
};

/* Milliseconds to wait, or -1: no further try. failures counts from 1; elapsed_ms since the first attempt began.
 * Only ERR_RETRY (and ERR_QUOTA with retry_after_ms) is tried again. retry_after_ms is a floor. */
int64_t retry_delay(const struct retry_policy *, int failures, int64_t elapsed_ms, const struct error *, double random01);

#endif
