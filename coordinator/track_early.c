#include "coordinator/track_internal.h"

#define SOON_MS 10000      /* to the run's end, as far as its rate tells */
#define KEPT_MS 15000      /* without a cut: others wait for the target, too */
#define SMALL 10000        /* items: a run of so few may end at any moment, before anything is known of its rate */
#define DIRECT_SOON_MS 3000 /* of a run whose workers need the target's permits, too: a look and a take */
#define DIRECT_KEPT_MS 5000
#define LOOK_MS 1000
#define NO_HURRY_MS 60000

static void on_grant(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct track *t = arg;
    (void)err; /* the cut will ask again, and tell */
    if (grant == NULL)
        t->early = NULL;
}

/* Its workers need permits to the end, so the only one is not taken before there are items done to go by. What they have not written then is the last cut's, all in
 * one statement, which must not wait for a permit behind workers that have nothing left to do with theirs. */
static bool soon_direct(const struct track *t)
{
    const struct fold *f = t->fold;
    if (f->done == 0)
        return f->items <= SMALL && t->record->permits > 1;
    int64_t passed_ms = i64_max(loop_wall_ms(t->loop) - t->record->created_ms, 0);
    return (double)passed_ms * (double)(f->items - f->done) / (double)f->done <= DIRECT_SOON_MS;
}

static bool soon(const struct track *t)
{
    const struct fold *f = t->fold;
    if (t->record->via == VIA_DIRECT)
        return soon_direct(t);
    int64_t left = f->items - f->done, passed_ms = (loop_now_us(t->loop) - t->first_done_us) / US_PER_MS;
    if (f->done == 0 || t->first_done_us == 0)
        return f->items <= SMALL;
    return (double)passed_ms * (double)left / (double)f->done <= SOON_MS;
}

struct permit_use *track_early_use(struct track *t, const struct fold_cut *cut)
{
    struct permit_use *use = t->early;
    t->early = NULL;
    if (use == NULL || t->early_cut == cut->number)
        return use;
    permit_end(use, false);
    return NULL;
}

int64_t track_early(struct track *t)
{
    const struct fold *f = t->fold;
    int64_t now = loop_now_us(t->loop);
    if (f->done > 0 && t->first_done_us == 0)
        t->first_done_us = now;
    if (t->early != NULL && (f->phase != RUN_WORKING || now > t->early_until_us)) {
        permit_end(t->early, false);
        t->early = NULL;
    }
    struct permits *permits = f->phase == RUN_WORKING && t->o.role == TRACK_FIRST && t->consolidate == NULL ? consolidate_permits(&t->world, t->record) : NULL;
    if (permits == NULL)
        return NO_HURRY_MS;
    bool spent = t->early_until_us > 0 && f->done == 0; /* it was kept once for a run that is slower than it is small */
    if (t->early != NULL || spent || !soon(t))
        return LOOK_MS;
    char base[JOB_BASE_SIZE], purpose[CUT_PURPOSE_SIZE];
    job_base_cut(base, t->record->run, f->run_cuts);
    cut_purpose(purpose, t->record, "", f->run_cuts);
    t->early_cut = f->run_cuts;
    t->early_until_us = now + (t->record->via == VIA_DIRECT ? DIRECT_KEPT_MS : KEPT_MS) * US_PER_MS;
    t->early = permits_want(permits, base, purpose, on_grant, t);
    return LOOK_MS;
}
