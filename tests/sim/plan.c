#include "tests/sim/sim.h"

#include <math.h>

/* What a seed draws: mostly small things, and now and then a large one. */

struct draw { struct rnd rnd; };

static double real(struct draw *d)
{
    return rnd_real(&d->rnd);
}

static int64_t below(struct draw *d, int64_t n)
{
    return (int64_t)rnd_below(&d->rnd, (uint64_t)n);
}

static bool chance(struct draw *d, double p)
{
    return real(d) < p;
}

/* From..to, each order of magnitude as likely as the other. */
static int64_t spread(struct draw *d, int64_t from, int64_t to)
{
    return (int64_t)((double)from * pow((double)(to + 1) / (double)from, real(d)));
}

struct band { double part; int64_t from, to; };

static int64_t banded(struct draw *d, const struct band *b)
{
    double p = real(d);
    for (; p >= b->part && b[1].part > 0; b++)
        p -= b->part;
    return spread(d, b->from, b->to);
}

/* Median some 20, mean below 200. */
static int64_t draw_items(struct draw *d, uint64_t seed)
{
    static const struct band bands[] = {{.50, 3, 20}, {.35, 20, 100}, {.12, 100, 600}, {.028, 600, 3000}, {.002, 3000, 15000}, {0, 0, 0}};
    int64_t items = banded(d, bands);
    return seed % 5000 == 4999 ? 50000 : seed % 5000 == 2499 ? 4000 : items;
}

static int draw_workers(struct draw *d, uint64_t seed)
{
    static const struct band bands[] = {{.65, 1, 3}, {.28, 3, 8}, {.063, 8, 25}, {.007, 25, 100}, {0, 0, 0}};
    return seed % 5000 == 2499 ? SIM_WORKERS : (int)banded(d, bands);
}

static void draw_write(struct draw *d, struct batch_plan *b)
{
    static const int64_t everies_ms[] = {0, 0, 0, 2000, 10000, 60000};
    double mode = real(d);
    b->mode = mode < .35 ? WRITE_APPEND : mode < .82 ? WRITE_MERGE : WRITE_REPLACE;
    b->via = b->mode != WRITE_REPLACE && chance(d, .4) ? VIA_DIRECT : VIA_STAGING;
    b->every_ms = b->mode == WRITE_REPLACE ? 0 : everies_ms[below(d, ARRAY_LEN(everies_ms))];
    b->keys = b->mode == WRITE_MERGE && chance(d, .4) ? KEYS_SHARED : KEYS_OWN;
    b->order = b->mode == WRITE_MERGE && chance(d, .4);
    b->insert_only = b->mode == WRITE_MERGE && chance(d, .2);
    b->second_key = b->mode == WRITE_MERGE && chance(d, .25);
    b->null_keys = b->second_key ? (enum null_keys)(chance(d, .5) ? NULL_KEYS_EQUAL : NULL_KEYS_DISTINCT) : NULL_KEYS_REFUSE;
    b->permits = b->via == VIA_DIRECT || chance(d, .5) ? 1 : 0;
    if (b->permits > 0 && b->mode == WRITE_APPEND)
        b->permits = 1 + (int)below(d, 2);
}

static void draw_batch(struct draw *d, struct batch_plan *b, int i, int64_t items)
{
    memset(b, 0, sizeof(*b));
    snprintf(b->name, sizeof(b->name), "batch-%d", i);
    snprintf(b->target, sizeof(b->target), "ds.target_%d", i);
    b->items = items;
    draw_write(d, b);
    b->stays = chance(d, .6);
    b->timeout_ms = spread(d, 2000, 60000);
    b->attempts = 1 + below(d, 5);
    b->trouble = chance(d, .4) ? 0 : real(d) * real(d) * .4;
    b->tolerate_count = chance(d, .3) ? 0 : chance(d, .7) ? items : 1 + below(d, 5);
    if (chance(d, .15)) {
        b->tolerate_count = -1;
        b->tolerate_percent = (double)below(d, 101);
    }
    b->stop_after = chance(d, .9) ? 0 : 1 + below(d, 20);
    b->parallel = chance(d, .85) ? 0 : 1 + below(d, 8);
    b->start_ms = chance(d, .5) ? 0 : below(d, 20000);
    b->work_ms = items > 1000 ? spread(d, 1, 50) : spread(d, 10, 10000);
    b->rows_most = chance(d, .7) ? 1 : spread(d, 2, items > 1000 ? 4 : 40);
    if (items > 2000) { /* each statement looks at all that is there: a few of them are enough */
        b->every_ms = b->every_ms > 0 ? 60000 : 0;
        b->via = VIA_STAGING;
        b->rows_most = 1;
    }
    b->big = items < 200 && chance(d, .04) ? spread(d, 10000, 300000) : 0;
}

static void draw_faults(struct draw *d, struct plan *p)
{
    p->quiet = chance(d, .08);
    if (p->quiet)
        return;
    double each = .8 / (1 + (double)p->workers / 8); /* of a process, so that many of them get somewhere too */
    double *const rates[] = {&p->kills, &p->pauses, &p->cuts, &p->expels, &p->skews};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++)
        *rates[i] = chance(d, .45) ? 0 : each * real(d) * real(d) * (1 + (double)p->workers / 4);
    p->service = chance(d, .3) ? 0 : real(d) * real(d);
    p->chaos_per_mille = chance(d, .4) ? 0 : (int)spread(d, 1, 30);
    p->steers = chance(d, .6) ? 0 : .1 * real(d);
    p->dies_publishing = chance(d, .15);
    p->lose_ack = chance(d, .4) ? 0 : .1 * real(d);
    p->refuse_commit = chance(d, .6) ? 0 : .3 * real(d);
}

void plan_draw(struct plan *p, uint64_t seed)
{
    struct draw d;
    memset(p, 0, sizeof(*p));
    rnd_seeded(&d.rnd, seed);
    p->seed = seed;
    int64_t items = draw_items(&d, seed);
    p->workers = draw_workers(&d, seed);
    p->coordinators = p->workers == SIM_WORKERS ? SIM_COORDINATORS : 1 + (int)below(&d, SIM_COORDINATORS);
    p->partitions = 1 + (int32_t)below(&d, 8);
    p->widened = chance(&d, .08) ? 1 + (int32_t)below(&d, SIM_PARTITIONS - p->partitions) : 0;
    static const int counts[] = {1, 1, 1, 1, 1, 1, 1, 2, 2, 3};
    p->batch_count = chance(&d, .03) ? SIM_BATCHES : counts[below(&d, ARRAY_LEN(counts))];
    for (int i = 0; i < p->batch_count; i++)
        draw_batch(&d, &p->batches[i], i, i64_max(items / p->batch_count, 3));
    p->delay_us = spread(&d, 1000, 300000);
    draw_faults(&d, p);
    p->calm_ms = spread(&d, 15000, 600000);
    p->parallel = spread(&d, 1, 16);
    p->buffer = spread(&d, 1 << 20, 8 << 20);
    p->load_size = spread(&d, items > 2000 ? 50000 : 200, 1 << 19);
    p->linger_ms = spread(&d, 10, 5000);
    p->streams = 1 + below(&d, 4);
    p->compress = chance(&d, .2);
    p->shards_at_once = chance(&d, .8) ? 0 : (size_t)(8 + below(&d, 4));
    p->params_at_once = chance(&d, .8) ? 0 : (size_t)(1 + below(&d, 4));
    p->latency_ms = spread(&d, 2, 300);
    p->pending_ms = spread(&d, 2, 2000);
    p->load_ms = spread(&d, 5, 5000);
    p->dml_ms = spread(&d, 10, 8000);
    p->limits = chance(&d, .3);
    p->endless = chance(&d, .05);
    p->lease_ms = chance(&d, .25) ? 0 : spread(&d, 5000, 60000);
    if (p->lease_ms > 0 && p->lease_ms < 2 * p->dml_ms) /* a lease outlives the statement that takes it, or nobody ever has it */
        p->lease_ms = 3 * p->dml_ms;
    p->drops = p->quiet || chance(&d, .85) ? 0 : .1 * real(&d);
    p->replaces = p->quiet || items > 1000 || chance(&d, .8) ? 0 : .05 * real(&d);
    p->ambush = p->quiet || chance(&d, .75) ? 0 : .7 * real(&d);
}

void plan_text(const struct plan *p, struct buf *out)
{
    buf_xprintf(out, "seed %" PRIu64 ": %d workers, %d coordinators, %d partitions (+%d), calm after %" PRId64 " ms; kills %.3f pauses %.3f cuts %.3f expels %.3f skews %.3f "
                "service %.3f (chaos %d) steers %.3f drops %.3f replaces %.3f /s, ambushes %.2f, lease %" PRId64 " ms, lost acknowledgements %.3f, refused commits %.3f, delays to %" PRId64 " us; parallel %" PRId64 ", buffer %" PRId64
                ", load_size %" PRId64 ", linger %" PRId64 " ms; dml %" PRId64 " ms, load %" PRId64 " ms%s%s", p->seed, p->workers, p->coordinators, p->partitions, p->widened,
                p->calm_ms, p->kills, p->pauses, p->cuts, p->expels, p->skews, p->service, p->chaos_per_mille, p->steers, p->drops, p->replaces, p->ambush, p->lease_ms, p->lose_ack, p->refuse_commit, p->delay_us, p->parallel, p->buffer,
                p->load_size, p->linger_ms, p->dml_ms, p->load_ms, p->limits ? ", limits" : "", p->endless ? ", endless jobs" : "");
    for (int i = 0; i < p->batch_count; i++) {
        const struct batch_plan *b = &p->batches[i];
        buf_xprintf(out, "\n  %s: %" PRId64 " items, %s%s%s%s%s%s%s, permits %d, every %" PRId64 " ms, tolerate %" PRId64 " (%.0f %%), stop after %" PRId64 ", attempts %" PRId64
                    ", timeout %" PRId64 " ms, parallel %" PRId64 ", trouble %.2f, work %" PRId64 " ms, rows %" PRId64 ", big %" PRId64, b->name, b->items,
                    write_mode_name(b->mode), b->via == VIA_DIRECT ? " directly" : "", b->keys == KEYS_SHARED ? ", shared keys" : "", b->order ? ", ordered" : "",
                    b->insert_only ? ", insert_only" : "", b->second_key ? ", second key" : "", b->stays ? ", stays" : "", b->permits, b->every_ms, b->tolerate_count,
                    b->tolerate_percent, b->stop_after, b->attempts, b->timeout_ms, b->parallel, b->trouble, b->work_ms, b->rows_most, b->big);
    }
}
