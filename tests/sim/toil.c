#include "tests/sim/toil.h"

/* What a seed draws of a worker's toil, and what that makes of its plan. */

static bool chance(struct rnd *r, double p)
{
    return rnd_real(r) < p;
}

/* One of them at most, since each makes a batch of its own kind. */
static void draw_kind(struct rnd *r, struct toil *t, struct plan *p)
{
    struct batch_plan *b = &p->batches[0];
    double kind = rnd_real(r), a = rnd_real(r), c = rnd_real(r);
    if (kind < .12 && b->items <= 150) {
        b->deadly = 1 + (int64_t)(a * 3);
        t->deadly = true;
    } else if (kind < .16 && b->items <= 600) { /* nothing of it works, and handlers say a lot about it */
        b->items = 250 + (int64_t)(a * 100);
        b->hopeless = true;
        b->work_ms = 1 + (int64_t)(c * 4);
        b->attempts = 1;
        b->stop_after = 0;
        t->rates[TOIL_STRAIN] = .1;
        t->leaves = .1;
    } else if (kind < .24) {
        b->items = 20 + (int64_t)(a * 30);
        b->payload = 250000 + (int64_t)(c * 400000);
    } else if (kind < .31 && b->items <= 200) { /* a row alone is longer than the buffer */
        b->items = i64_min(b->items, 20);
        b->big = 1100000 + (int64_t)(a * 500000);
        p->buffer = LIMIT_BUFFER_LEAST;
        p->parallel = i64_min(p->parallel, 6);
    } else if (kind < .33 && b->items <= 200) {
        b->too_long = true;
        b->attempts = i64_min(b->attempts, 2);
    } else if (kind < .44) {
        t->rates[TOIL_GAP] = .3;
        b->trouble = b->trouble < .15 ? .15 : b->trouble;
    } else if (kind < .52 && b->items <= 600) { /* rows come faster than they are loaded */
        b->items = 60 + (int64_t)(a * 40);
        b->heavy = true;
        b->big = 20000 + (int64_t)(c * 30000);
        b->work_ms = i64_min(b->work_ms, 200);
        p->buffer = LIMIT_BUFFER_LEAST;
        t->rates[TOIL_LOADS] = .05;
        t->rates[TOIL_UNFIT] = a < .3 ? .02 : 0;
        t->rates[TOIL_MISCOUNT] = p->batch_count > 1 ? .05 : 0;
    } else if (kind < .56) {
        t->outage = true;
        t->rates[TOIL_NO_TABLES] = .05;
        p->calm_ms = i64_max(p->calm_ms, 900000 + (int64_t)(a * 300000));
    }
}

void toil_draw(struct toil *t, struct plan *p)
{
    struct rnd rnd;
    rnd_seeded(&rnd, p->seed ^ UINT64_C(0xe7037ed1a0b428db));
    if (p->quiet || p->seed % 4 != 3)
        return;
    t->any = true;
    double leaves = rnd_real(&rnd), rate = rnd_real(&rnd);
    t->leaves = leaves < .5 ? .01 + .2 * rate * rate : 0;
    for (size_t i = 0; i < TOILS; i++) {
        double chosen = rnd_real(&rnd), part = rnd_real(&rnd);
        t->rates[i] = chosen < .2 && i != TOIL_GAP && i != TOIL_STRAIN ? .005 + .1 * rate * part : 0;
    }
    t->late_topic = chance(&rnd, .08);
    t->refused = chance(&rnd, .3) ? .1 : 0;
    t->paced = chance(&rnd, .3);
    for (int i = 0; i < p->batch_count; i++)
        if (p->batches[i].via == VIA_DIRECT && p->batches[i].mode == WRITE_APPEND && chance(&rnd, .3))
            p->batches[i].permits = 0; /* as an embedded run's */
    draw_kind(&rnd, t, p);
    if (p->batches[0].via == VIA_DIRECT && chance(&rnd, .4)) { /* what a worker that writes itself says in the log, and reads there */
        t->rates[TOIL_DENY] = t->rates[TOIL_BLIND] = .04;
        t->leaves = .05;
    }
}

void toil_text(const struct toil *t, struct buf *out)
{
    if (!t->any)
        return;
    buf_xprintf(out, "\n  toil: leaves %.3f /s, refused %.2f%s%s; rates", t->leaves, t->refused, t->late_topic ? ", a late topic" : "", t->deadly ? ", deadly items" : "");
    buf_xprintf(out, "%s%s", t->paced ? ", paced" : "", t->outage ? ", an outage" : "");
    for (size_t i = 0; i < TOILS; i++)
        buf_xprintf(out, " %.3f", t->rates[i]);
}

const char *toil_payload(const struct batch_plan *b, size_t *len)
{
    static char *text;
    static int64_t made;
    *len = (size_t)b->payload;
    if (made < b->payload) { /* a text in JSON that packs badly, as what is packed already does */
        struct rnd rnd;
        rnd_seeded(&rnd, 1);
        text = xreallocarray(text, (size_t)b->payload + 1, 1);
        rnd_text(&rnd, text, (size_t)b->payload);
        text[0] = text[b->payload - 1] = '"';
        made = b->payload;
    }
    return text;
}
