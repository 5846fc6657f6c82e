#include "coordinator/track_internal.h"

#define SOON_MS 10000      /* to the run's end, as far as its rate tells */
#define KEPT_MS 15000      /* without a cut: others wait for the target, too */
#define SMALL 10000        /* items: a run of so few may end at any moment, before anything is known of its rate */
#define DIRECT_SOON_MS 3000 /* of a run whose workers need the target's permits, too: a look and a take */
#define DIRECT_KEPT_MS 5000
#define LOOK_MS 1000
#define NO_HURRY_MS 60000
#define PAUSE_MOST_US (600 * US_PER_S)

static void on_grant(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct track *t = arg;
    (void)err; /* the cut will ask again, and tell */
    t->early_held = grant != NULL;
    if (grant == NULL)
        t->early = NULL;
}

static int64_t kept_us(const struct track *t)
{
    return (t->record->via == VIA_DIRECT ? DIRECT_KEPT_MS : KEPT_MS) * US_PER_MS;
}

/* A last item that takes long makes a run look as if it ended any moment: the longer it does, the less of the time its coordinator has the table for nothing. */
static void kept_in_vain(struct track *t, int64_t now)
{
    t->early_pause_us = i64_min(i64_max(2 * t->early_pause_us, kept_us(t)), PAUSE_MOST_US);
    t->early_next_us = now + t->early_pause_us;
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
    t->early_pause_us = 0;
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
        if (t->early_held)
            kept_in_vain(t, now);
        permit_end(t->early, false);
        t->early = NULL;
    }
    struct permits *permits = f->phase == RUN_WORKING && t->o.role == TRACK_FIRST && t->consolidate == NULL ? consolidate_permits(&t->world, t->record) : NULL;
    if (permits == NULL)
        return NO_HURRY_MS;
    bool spent = t->early_until_us > 0 && f->done == 0; /* it was kept once for a run that is slower than it is small */
    if (t->early != NULL || spent || now < t->early_next_us || !soon(t))
        return LOOK_MS;
    char base[JOB_BASE_SIZE], purpose[CUT_PURPOSE_SIZE];
    job_base_cut(base, t->record->run, f->run_cuts);
    cut_purpose(purpose, t->record, "", f->run_cuts);
    t->early_cut = f->run_cuts;
    t->early_until_us = now + kept_us(t);
    t->early_held = false;
    t->early = permits_want(permits, base, purpose, on_grant, t);
    return LOOK_MS;
}
