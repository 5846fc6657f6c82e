#include "common/base/retry.h"

static int64_t widest(const struct retry_policy *p, int failures)
{
    int64_t width = p->base_ms;
    for (int i = 0; i < failures && width < p->cap_ms; i++)
        width = width > INT64_MAX / 2 ? INT64_MAX : width * 2;
    return i64_min(width, p->cap_ms);
}

int64_t retry_delay(const struct retry_policy *p, int failures, int64_t elapsed_ms, const struct error *err, double random01)
{
    assert(failures >= 1 && random01 >= 0 && random01 < 1);
    int64_t floor_ms = i64_max(err->retry_after_ms, 0);
    if (err->kind != ERR_RETRY && !(err->kind == ERR_QUOTA && floor_ms > 0))
        return -1;
    if (p->max_tries > 0 && failures >= p->max_tries)
        return -1;
    int64_t jitter = (int64_t)(random01 * (double)i64_max(widest(p, failures), 0));
    /* The jitter comes on top of the service's wish: else everybody it turned away would return in the same instant. */
    int64_t delay = floor_ms > INT64_MAX - jitter ? INT64_MAX : floor_ms + jitter;
    if (p->budget_ms <= 0)
        return delay;
    int64_t left = p->budget_ms - i64_max(elapsed_ms, 0);
    if (left <= 0 || floor_ms > left)
        return -1;
    return i64_min(delay, left); /* the last try is made when the budget ends, not given away */
}
