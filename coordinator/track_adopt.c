#include "common/base/log.h"
#include "coordinator/track_internal.h"

/*
 * A run that redrives a held one takes its loads into its own last cut. Its record names the held run (and that one's may name another, which it was to
 * adopt itself: a chain). The held run's log decides whose its loads are: `adopted`, the first decision about it.
 *   1. The heir works while the other stays held. Cancelled, failed, abandoned before its end, it leaves everything as it was: the held run can be
 *      redriven, accepted or cancelled as if nothing had been.
 *   2. When the heir is complete (or accepted), so that its last cut stands, any coordinator of it writes `adopted` into the held run's log, and reads it
 *      back. Any number may: the first counts, and they all name the same heir. Killed in between, the next one goes on.
 *   3. Then nothing but that cut can take those loads: the heir's end is decided, and so is the held run's. Every coordinator makes the same statement.
 *   4. If the held run's log says otherwise (accepted, cancelled, failed, adopted by another), the heir has nothing to complete: it is cancelled while that
 *      is possible; its last cut fails otherwise.
 * Were the run adopted at the beginning instead, a redrive that fails would take the held run's finished work with it.
 */

static struct track *find(const struct track *t, const char *run)
{
    return t->o.find(t->o.find_arg, run);
}

static void claim(struct track *t, size_t i, const struct track *h)
{
    struct said *s = &t->claims[i];
    if (!track_may_say(s, h->position))
        return;
    char text[LIMIT_NAME + 64];
    snprintf(text, sizeof(text), "its rows are written with those of run %s", t->record->run);
    struct log_msg m = {.type = LOGM_ADOPTED, .run = t->record->run, .text = text};
    s->track = t;
    s->letter = outbox_log(t->o.outbox, h->record, &m, track_on_said, s);
}

/* What the i-th run's log says of it just now. */
static enum adoption look(struct track *t, size_t i, const char *run, const struct track *h, bool may_claim)
{
    if (h == NULL || !h->live || h->broken) {
        snprintf(t->adopt_why, sizeof(t->adopt_why), h != NULL && h->unknown ? "the log of run %s, which it redrives, and which is gone"
                                                                             : "the log of run %s, which it redrives", run);
        return ADOPT_WAITS;
    }
    const struct fold *f = h->fold;
    if (f->phase == RUN_ENDED && f->end == END_ADOPTED && strcmp(f->adopted_by, t->record->run) == 0)
        return ADOPT_MINE;
    if (f->phase == RUN_ENDED) {
        snprintf(t->adopt_why, sizeof(t->adopt_why), "run %s, whose failed items it redrives, is no longer held: it was decided first (%s)", run,
                 run_end_name(f->end));
        return ADOPT_LOST;
    }
    const bool increments = fold_open_cut(f) != NULL;
    snprintf(t->adopt_why, sizeof(t->adopt_why), increments ? "the outcome of an increment of run %s, which it redrives" : "run %s to become its own", run);
    if (f->phase == RUN_HELD && !increments && may_claim)
        claim(t, i, h);
    return ADOPT_WAITS;
}

enum adoption track_adoption(struct track *t, bool may_claim)
{
    t->adopted_count = 0;
    for (const char *run = t->record->adopts; run[0] != '\0';) {
        if (t->adopted_count == LIMIT_ADOPTED) { /* no redrive opens such a run */
            snprintf(t->adopt_why, sizeof(t->adopt_why), "it is the last of more than %d redrives of redrives", LIMIT_ADOPTED);
            return ADOPT_LOST;
        }
        struct track *h = find(t, run);
        enum adoption a = look(t, t->adopted_count, run, h, may_claim);
        if (a != ADOPT_MINE)
            return a;
        t->adopted[t->adopted_count++] = (struct adopted){.record = h->record, .fold = h->fold};
        run = h->record->adopts;
    }
    return ADOPT_MINE;
}

/* Every one that is this run's by its log has dropped its staging, or is not followed here. */
bool track_adopted_gone(const struct track *t)
{
    int depth = 0;
    for (const char *run = t->record->adopts; run[0] != '\0' && depth < LIMIT_ADOPTED; depth++) {
        const struct track *h = find(t, run);
        if (h == NULL)
            return true;
        if (h->live && h->fold->end == END_ADOPTED && strcmp(h->fold->adopted_by, t->record->run) == 0 && !track_done(h))
            return false;
        run = h->record->adopts;
    }
    return true;
}

bool track_heir_open(const struct track *t)
{
    if (t->fold->end != END_ADOPTED)
        return false;
    const struct catalog_run *heir = catalog_find(catalog_watch_runs(t->o.watch), t->fold->adopted_by);
    return heir != NULL && heir->standing == STANDING_OPEN;
}

void track_adopt_stop(struct track *t)
{
    for (size_t i = 0; i < LIMIT_ADOPTED; i++)
        letter_forget(t->claims[i].letter);
}
