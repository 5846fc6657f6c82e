#include "coordinator/track_internal.h"

/* Copies of what a run's log says, for those who follow `batches` only: whether it is paused, how much of it may run at once, how it ended. */

/* The bus does not take it: others may be allowed to, and this one later. */
static void copied(struct track *t, const struct error *err, const char *what)
{
    t->copy = NULL;
    track_moved(t);
    if (err == NULL)
        return;
    struct error told = *err;
    t->copy_again_us = loop_now_us(t->loop) + TRACK_TROUBLE_AGAIN_MS * US_PER_MS;
    error_prefix(&told, "run %s: its %s could not be written to topic batches", t->record->run, what);
    track_tell_trouble(t, &told);
}

static void on_state_copied(void *arg, int64_t offset, const struct error *err)
{
    struct track *t = arg;
    t->state_offset = offset;
    copied(t, err, "state");
}

/* Until it is there the batch's name is not free, and there may be nobody else who writes it. */
static void on_end_copied(void *arg, int64_t offset, const struct error *err)
{
    struct track *t = arg;
    (void)offset;
    t->end_copied = err == NULL;
    copied(t, err, "end");
}

static bool may_copy(const struct track *t)
{
    return t->copy == NULL && loop_now_us(t->loop) >= t->copy_again_us;
}

/* Whoever sees that the copy is not what the log says mends it: its writer may have read less of the log, and be gone. */
void track_copy_state(struct track *t)
{
    const struct fold *f = t->fold;
    const struct catalog_run *known = catalog_find(catalog_watch_runs(t->o.watch), t->record->run);
    if (!may_copy(t) || known == NULL || catalog_state_is(known, f))
        return;
    if (catalog_watch_next(t->o.watch) <= t->state_offset) /* ours was not read back yet */
        return;
    t->copy = outbox_batches(t->o.outbox, catalog_state_key(t->record->run), catalog_state_value(f), on_state_copied, t);
}

void track_copy_end(struct track *t)
{
    const struct catalog_run *known = catalog_find(catalog_watch_runs(t->o.watch), t->record->run);
    if (t->end_copied || t->copy != NULL)
        return;
    if (known != NULL && known->end != NULL) { /* another coordinator did */
        t->end_copied = true;
        return;
    }
    if (may_copy(t))
        t->copy = outbox_batches(t->o.outbox, catalog_end_key(t->record->run), catalog_end_value(t->fold, loop_wall_ms(t->loop)), on_end_copied, t);
}
