#include "tests/sim/erosion.h"

/* How much of each kind of erosion a seed has: those with seed % 8 == 2, by dice of their own. */

/* With increments, some of which are still being written when the last item has failed. */
static void will_be_held(struct batch_plan *b)
{
    b->tolerate_count = b->stop_after = 0;
    b->trouble = .3;
    b->attempts = 1;
    b->every_ms = b->mode != WRITE_REPLACE ? 2000 : 0;
}

/* Each kind of seed has more of something: items that are lost while questions are answered late ... */
static void stress_loss(struct oddities *o, struct plan *p)
{
    o->erosion[ERODE_WORK] += .15;
    p->coordinators = SIM_COORDINATORS;
}

/* ... held runs that are redriven and decided about ... */
static void stress_heirs(struct oddities *o, struct plan *p)
{
    o->erosion[ERODE_HASTY] += .15;
    o->erosion[ERODE_RASH] += .08;
    o->erosion[ERODE_LATER] += .01;
    o->erosion[ERODE_LOG] += .02;
    p->delay_us = 300000;
    for (int i = 0; i < p->batch_count; i++)
        will_be_held(&p->batches[i]);
}

/* ... workers that die with an increment begun, which coordinators end ... */
static void stress_shards(struct oddities *o, struct plan *p)
{
    o->erosion[ERODE_DENY] += .15;
    o->erosion[ERODE_SLOW] += .05;
    o->erosion[ERODE_HASTY] += .05;
    o->erosion[ERODE_LATE_WORD] += .1;
    p->ambush = .7;
    for (int i = 0; i < p->batch_count; i++) {
        struct batch_plan *b = &p->batches[i];
        b->via = b->mode != WRITE_REPLACE && b->items <= 2000 ? VIA_DIRECT : b->via;
        b->permits = b->via == VIA_DIRECT ? (int)i64_max(b->permits, 1) : b->permits;
    }
}

/* ... and staging tables that are folded, some of which go. */
static void stress_folds(struct oddities *o, struct plan *p)
{
    o->erosion[ERODE_SLOW] += .1;
    o->erosion[ERODE_DENY] += .1;
    p->shards_at_once = 4;
    p->drops += .02;
    p->workers = (int)i64_max(p->workers, 6);
    p->parallel = 1;
    for (int i = 0; i < p->batch_count; i++) {
        p->batches[i].via = VIA_STAGING;
        p->batches[i].every_ms = 0;
    }
}

static void (*const stress[])(struct oddities *, struct plan *) = {stress_loss, stress_heirs, stress_shards, stress_folds};

void erosion_draw(struct oddities *o, struct plan *p)
{
    struct rnd rnd;
    rnd_seeded(&rnd, p->seed ^ UINT64_C(0xd6e8feb86659fd93));
    double erodes = rnd_real(&rnd), rate = rnd_real(&rnd), folds = rnd_real(&rnd), held = rnd_real(&rnd), fetch = rnd_real(&rnd);
    if (p->quiet || p->seed % 8 != 2 || erodes < .1)
        return;
    for (size_t i = 0; i < ARRAY_LEN(o->erosion); i++) {
        double chosen = rnd_real(&rnd), part = rnd_real(&rnd);
        o->erosion[i] = chosen < .45 ? (.01 + .2 * rate) * part : 0;
    }
    o->fetch = fetch < .3 ? fetch : 0;
    if (folds < .3) /* few enough tables in a statement that it folds them */
        p->shards_at_once = 5;
    for (int i = 0; i < p->batch_count && held < .3; i++)
        will_be_held(&p->batches[i]);
    stress[p->seed / 8 % ARRAY_LEN(stress)](o, p);
}
