#include "common/base/log.h"
#include "coordinator/track_internal.h"

/*
 * A worker that writes directly makes cuts of its own shard, and their jobs. What is left of it when it dies, any coordinator ends:
 *   1. It died between its cut and the job: the cut stands, and nobody has inserted the job. After the take-over wait it is inserted here, under a permit of this
 *      process; the statement is the same but for its token.
 *   2. It died between the job and the outcome: the job is found, waited for, and its outcome written here.
 *   3. It was only stopped, and goes on: it finds the job under its own id, and both say the same.
 *   4. It lost its permit, and waits for another one while the same is done here: both insert the same try, and one gets 409.
 * Loads that it had not cut yet wait for the run's last cut.
 */
enum { AT_ONCE = 16, NO_HURRY_MS = 60000 };

struct shard_cut {
    LIST_ENTRY(shard_cut) link;
    struct track *track;
    int64_t at;                /* of fold->cuts */
    int64_t due_us;            /* until then it is its worker's */
    int64_t again_us;          /* not before, after this process's own trouble */
    struct consolidate *consolidate;
    struct letter *outcome;
};

static void stop(struct shard_cut *s, bool settled)
{
    letter_forget(s->outcome);
    s->outcome = NULL;
    consolidate_stop(s->consolidate, settled);
    s->consolidate = NULL;
}

static void drop(struct shard_cut *s, bool settled)
{
    stop(s, settled);
    LIST_REMOVE(s, link);
    free(s);
}

static void cannot(struct shard_cut *s, const struct error *err)
{
    struct error copy = *err;
    stop(s, false);
    s->again_us = loop_now_us(s->track->loop) + TRACK_TROUBLE_AGAIN_MS * US_PER_MS;
    track_cannot_consolidate(s->track, &copy);
}

static void on_said(void *arg, int64_t offset, const struct error *err)
{
    struct shard_cut *s = arg;
    (void)offset;
    s->outcome = NULL;
    if (err != NULL) {
        cannot(s, err);
        return;
    }
    stop(s, true);
    s->again_us = INT64_MAX; /* it will be read */
    s->track->trouble[0] = '\0';
    track_moved(s->track);
}

static void on_consolidated(void *arg, struct log_msg *outcome, const struct error *err)
{
    struct shard_cut *s = arg;
    if (outcome != NULL)
        s->outcome = outbox_log(s->track->o.outbox, s->track->record, outcome, on_said, s);
    else
        cannot(s, err);
}

static void start(struct shard_cut *s, const struct fold_cut *cut)
{
    struct track *t = s->track;
    int64_t left_ms = (s->due_us - loop_now_us(t->loop)) / US_PER_MS;
    struct consolidate_options o = {.world = &t->world, .of = {.record = t->record, .fold = t->fold, .cut = cut}, .wait_ms = i64_max(left_ms, 1)};
    s->consolidate = consolidate_start(&o, on_consolidated, s);
}

static struct shard_cut *find(const struct track *t, int64_t at)
{
    struct shard_cut *s;
    LIST_FOREACH(s, &t->shard_cuts, link)
        if (s->at == at)
            return s;
    return NULL;
}

static struct shard_cut *add(struct track *t, int64_t at)
{
    struct shard_cut *s = xcalloc(1, sizeof(*s));
    int64_t wait_ms = t->o.takeover_ms + (int64_t)rnd_below(t->world.rnd, (uint64_t)t->o.takeover_ms / 3 + 1);
    *s = (struct shard_cut){.track = t, .at = at, .due_us = loop_now_us(t->loop) + wait_ms * US_PER_MS};
    LIST_INSERT_HEAD(&t->shard_cuts, s, link);
    return s;
}

static int drop_settled(struct track *t)
{
    struct shard_cut *s, *next;
    int left = 0;
    for (s = LIST_FIRST(&t->shard_cuts); s != NULL; s = next) {
        next = LIST_NEXT(s, link);
        if (t->fold->cuts[s->at].state != CUT_OPEN)
            drop(s, true);
        else
            left++;
    }
    return left;
}

int64_t track_shards(struct track *t)
{
    const struct fold *f = t->fold;
    int64_t again_ms = NO_HURRY_MS, now = loop_now_us(t->loop);
    int count = drop_settled(t);
    if (t->world.bq == NULL)
        return NO_HURRY_MS;
    for (const struct fold_cut *c = fold_open_cut(f); c != NULL; c = fold_next_open(f, c)) {
        struct shard_cut *s = c->shard < 0 ? NULL : find(t, c - f->cuts);
        if (s == NULL && c->shard >= 0 && count < AT_ONCE) {
            s = add(t, c - f->cuts);
            count++;
        }
        if (s == NULL || s->consolidate != NULL || !fold_cut_ready(f, c))
            continue;
        if (catalog_older_open(catalog_watch_runs(t->o.watch), t->record))
            again_ms = 1000;
        else if (s->again_us <= now)
            start(s, c);
        else if (s->again_us != INT64_MAX)
            again_ms = i64_min(again_ms, (s->again_us - now) / US_PER_MS + 1);
    }
    return again_ms;
}

const char *track_shards_waits_for(const struct track *t, char *out, size_t size)
{
    const struct fold *f = t->fold;
    const struct fold_cut *c = fold_open_cut(f);
    const struct shard_cut *s;
    out[0] = '\0';
    LIST_FOREACH(s, &t->shard_cuts, link)
        if (s->consolidate != NULL && s->due_us <= loop_now_us(t->loop))
            return consolidate_state(s->consolidate, out, size);
    if (c != NULL && c->shard >= 0 && f->phase == RUN_ENDED)
        snprintf(out, size, "the increment of shard %s, which its worker writes", f->shards[c->shard].incarnation);
    return out;
}

void track_shards_stop(struct track *t)
{
    struct shard_cut *s;
    while ((s = LIST_FIRST(&t->shard_cuts)) != NULL)
        drop(s, false);
}
