#ifndef BQF_SIM_DICE_H
#define BQF_SIM_DICE_H

#include <math.h>

#include "common/base/rnd.h"
#include "common/net/loop.h"

/* When things happen that happen so many times a second, and which of several. */

static inline void dice_again(struct timer *t, struct rnd *rnd, double rate)
{
    timer_set(t, (int64_t)(-log(1 - rnd_real(rnd)) / rate * (double)US_PER_S));
}

/* Of rates. */
static inline double dice_sum(const double *rates, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += rates[i];
    return sum;
}

/* Each as often as its rate says. */
static inline size_t dice_pick(struct rnd *rnd, const double *rates, size_t count)
{
    double at = rnd_real(rnd) * dice_sum(rates, count);
    size_t what = 0;
    while (what + 1 < count && at >= rates[what])
        at -= rates[what++];
    return what;
}

/* From..to, each order of magnitude as likely as the other. */
static inline int64_t dice_spread(struct rnd *rnd, int64_t from, int64_t to)
{
    return (int64_t)((double)from * pow((double)to / (double)from, rnd_real(rnd)));
}

#endif
