#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/submit.h"
#include "coordinator/track_internal.h"

enum { NO_HURRY_MS = 60000, LEFT_JITTER_MS = 1500 };

/* --- deciding: a decision is a message, and takes effect when it is read back ----------------------------------------------------------------- */

void track_on_said(void *arg, int64_t offset, const struct error *err)
{
    struct said *s = arg;
    s->letter = NULL;
    s->offset = offset;
    if (err == NULL)
        return;
    s->again_us = loop_now_us(s->track->loop) + TRACK_TROUBLE_AGAIN_MS * US_PER_MS;
    track_tell_trouble(s->track, err);
}

/* Whether a message may be written: none of ours is on its way or unread in that log, or was just refused. */
bool track_may_say(const struct said *s, int64_t position)
{
    return s->letter == NULL && s->offset < position && loop_now_us(s->track->loop) >= s->again_us;
}

static bool may_say(const struct track *t, enum log_type type)
{
    return track_may_say(&t->said[type], t->position);
}

static void say(struct track *t, struct log_msg *m)
{
    struct said *s = &t->said[m->type];
    s->letter = outbox_log(t->o.outbox, t->record, m, track_on_said, s);
}

/*
 * A submitter that is silent:
 *   1. Its last message was read at 10:00. This coordinator's own clock says 10:05: it writes `abandon`.
 *   2. The submitter was only asleep, and writes its seal. Whichever of the two is first in the log counts; the other is void, for all.
 *   3. A coordinator that starts at 10:04 has not seen the silence itself, and begins to count when it has read the log to its end: clocks
 *      of other machines decide nothing.
 *   4. It was this coordinator that was cut off from the bus, and the submitter spoke meanwhile: what it had heard stands in its message,
 *      which is void then.
 */
static int64_t decide_abandon(struct track *t)
{
    int64_t left = t->o.abandon_ms - track_submitter_silent_ms(t);
    if (t->o.role == TRACK_FIRST) /* the submitter's own, which slept with it when both were stopped: never takes itself for dead */
        return NO_HURRY_MS;
    if (left > 0 || !may_say(t, LOGM_ABANDON))
        return i64_max(left, 1000);
    struct log_msg m = {.type = LOGM_ABANDON, .heard = t->fold->heard, .text = "its submitter fell silent while it published"};
    say(t, &m);
    return NO_HURRY_MS;
}

static void decide_fatal(struct track *t)
{
    char text[512];
    struct log_msg m = {.type = LOGM_FATAL, .text = text};
    const struct fold *f = t->fold;
    if (t->fold->phase == RUN_HELD) /* it would be void, and be written again and again */
        return;
    if (t->refused.kind != ERR_NONE)
        snprintf(text, sizeof(text), "%.250s", t->refused.text);
    else if (fold_must_stop(t->fold))
        snprintf(text, sizeof(text), "stop_after: %" PRId64 " items failed in a row, at last: %.300s", f->in_a_row, f->failures[f->failure_count - 1].text);
    else
        return;
    if (may_say(t, LOGM_FATAL))
        say(t, &m);
}

/* A table takes so many loads a day: a list, one for each cut. So those of a long run come at intervals that the day has room for. */
#define LISTS_AT_ONCE 700
#define LIST_EVERY_MS 120000
static int64_t every_of(const struct track *t)
{
    bool many = t->record->via == VIA_WORKER_TABLES && t->fold->run_cuts > LISTS_AT_ONCE;
    return many ? i64_max(t->record->every_ms, LIST_EVERY_MS) : t->record->every_ms;
}

/* Two coordinators may write cuts of one number at once: the first has it, the other is void and takes nothing. The next waits for this one's outcome,
 * so that a slow target gets few large increments and not a queue. */
static int64_t decide_cut(struct track *t)
{
    const struct fold *f = t->fold;
    if (t->record->every_ms <= 0 || !fold_has_uncut(f) || fold_open_cut(f) != NULL || (f->phase != RUN_WORKING && f->phase != RUN_PUBLISHING))
        return NO_HURRY_MS;
    int64_t left = every_of(t) - (loop_now_us(t->loop) - t->cut_us) / US_PER_MS;
    if (left > 0)
        return left;
    struct log_msg m = {.type = LOGM_CUT, .cut = f->run_cuts};
    if (may_say(t, LOGM_CUT))
        say(t, &m);
    return NO_HURRY_MS;
}

/* What it was to complete is no longer there to be completed. */
static int64_t decide_orphaned(struct track *t)
{
    if (t->record->adopts[0] == '\0' || track_adoption(t, false) != ADOPT_LOST)
        return NO_HURRY_MS;
    struct log_msg m = {.type = LOGM_CANCEL, .text = t->adopt_why};
    if (may_say(t, LOGM_CANCEL))
        say(t, &m);
    return NO_HURRY_MS;
}

/* --- items that nobody will ever report --------------------------------------------------------------------------------------------------------- */

/*
 * Lost items, in this order:
 *   1. A worker commits an offset only when the item's manifest is in the log (or when the run was over or unknown to it).
 *   2. The group has committed past every end that the seal names: so whatever manifest there will be of an item below them was written
 *      before that answer.
 *   3. Asked after that, the log's end lies behind all of them. Read to there, what is missing will never come: `lost`.
 * Were the end asked for before the offsets, a manifest and its commit between the two would be taken for a loss.
 */
static void on_log_end(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct track *t = ticket_take(arg);
    (void)low;
    if (t == NULL)
        return;
    t->lost_ticket = NULL;
    t->lost = err ? LOST_IDLE : LOST_READING;
    t->lost_end = high;
    timer_set(t->timer, 0);
}

/* Whether the group is past the i-th end that the seal names. */
static bool committed(const struct track *t, size_t i)
{
    const struct seal_end *e = &t->fold->ends[i];
    bool none_here = e->partition < t->record->work_partitions && t->record->work_starts[e->partition] >= e->offset;
    return none_here || (e->partition < t->lost_partitions && t->lost_offsets[e->partition] >= e->offset);
}

static void ask_log_end(struct track *t)
{
    char topic[TOPIC_SIZE];
    topic_results(topic, t->world.prefix);
    t->lost = LOST_END;
    t->lost_ticket = ticket_new(t->o.outbox, t);
    bus_watermarks(t->world.bus, topic, t->record->log_partition, on_log_end, t->lost_ticket);
}

static void check_next_end(struct track *t);

static void on_low(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct track *t = ticket_take(arg);
    (void)high;
    if (t == NULL)
        return;
    t->lost_ticket = NULL;
    t->lost = LOST_IDLE;
    if (err != NULL || t->fold->phase != RUN_WORKING || low < t->fold->ends[t->lost_at].offset)
        return;
    t->lost_at++;
    check_next_end(t);
}

/* What was deleted from the queue before it was committed will not be delivered again, and a partition that has nothing left is never committed. But
 * somebody may still work on what was delivered before: hence the long quiet, and no worker that has anything. */
static void check_next_end(struct track *t)
{
    const struct fold *f = t->fold;
    while (t->lost_at < f->end_count && committed(t, t->lost_at))
        t->lost_at++;
    if (t->lost_at == f->end_count) {
        ask_log_end(t);
        return;
    }
    if ((loop_now_us(t->loop) - t->news_us) / US_PER_MS < WAIT_LOST_DELETED || t->o.busy(t->o.busy_arg, t->record->queue))
        return;
    char topic[TOPIC_SIZE];
    topic_work(topic, t->world.prefix, t->record->queue);
    t->lost = LOST_LOWS;
    t->lost_ticket = ticket_new(t->o.outbox, t);
    bus_watermarks(t->world.bus, topic, f->ends[t->lost_at].partition, on_low, t->lost_ticket);
}

static void on_committed(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err)
{
    struct track *t = ticket_take(arg);
    if (t == NULL)
        return;
    t->lost_ticket = NULL;
    t->lost = LOST_IDLE;
    if (err != NULL || t->fold->phase != RUN_WORKING)
        return;
    free(t->lost_offsets);
    t->lost_offsets = xmemdup(offsets, (size_t)partitions * sizeof(*offsets));
    t->lost_partitions = partitions;
    t->lost_at = 0;
    check_next_end(t);
}

static int64_t look_for_lost(struct track *t)
{
    int64_t now = loop_now_us(t->loop), quiet_ms = (now - i64_max(t->news_us, t->lost_asked_us)) / US_PER_MS;
    if (quiet_ms < WAIT_LOST_CHECK)
        return WAIT_LOST_CHECK - quiet_ms;
    char topic[TOPIC_SIZE], group[TOPIC_SIZE];
    topic_work(topic, t->world.prefix, t->record->queue);
    group_of_queue(group, t->world.prefix, t->record->queue);
    t->lost = LOST_OFFSETS;
    t->lost_asked_us = now;
    t->lost_ticket = ticket_new(t->o.outbox, t);
    bus_committed(t->world.bus, group, topic, t->record->work_partitions, on_committed, t->lost_ticket);
    return NO_HURRY_MS;
}

static int64_t decide_lost(struct track *t)
{
    const struct fold *f = t->fold;
    if (f->phase != RUN_WORKING || f->done >= f->items)
        return NO_HURRY_MS;
    if (t->lost == LOST_IDLE)
        return look_for_lost(t);
    if (t->lost != LOST_READING || t->position < t->lost_end)
        return NO_HURRY_MS;
    t->lost = LOST_IDLE;
    char text[256];
    snprintf(text, sizeof(text), "%" PRId64 " items were taken from the queue and never reported; submit the batch again", f->items - f->done);
    struct log_msg m = {.type = LOGM_LOST, .missing = f->items - f->done, .text = text};
    if (may_say(t, LOGM_LOST))
        say(t, &m);
    return NO_HURRY_MS;
}

/* --- consolidating -------------------------------------------------------------------------------------------------------------------------------- */

void track_cannot_consolidate(struct track *t, const struct error *err)
{
    struct error copy = *err;
    snprintf(t->trouble, sizeof(t->trouble), "%.250s", copy.text);
    error_prefix(&copy, "run %s: its rows are staged, but cannot be consolidated from here", t->record->run);
    error_reason(&copy, "consolidate");
    track_moved(t);
    track_tell_trouble(t, &copy);
}

static void stop_consolidating(struct track *t, bool settled)
{
    letter_forget(t->outcome);
    t->outcome = NULL;
    consolidate_stop(t->consolidate, settled);
    t->consolidate = NULL;
}

static void cannot_consolidate(struct track *t, const struct error *err)
{
    struct error copy = *err;
    stop_consolidating(t, false);
    t->again_us = loop_now_us(t->loop) + TRACK_TROUBLE_AGAIN_MS * US_PER_MS;
    track_cannot_consolidate(t, &copy);
}

static void on_outcome_said(void *arg, int64_t offset, const struct error *err)
{
    struct track *t = arg;
    (void)offset;
    t->outcome = NULL;
    if (err != NULL) {
        cannot_consolidate(t, err);
        return;
    }
    stop_consolidating(t, true);
    t->again_us = INT64_MAX; /* it will be read */
    t->trouble[0] = '\0';
    track_moved(t);
}

static void on_consolidated(void *arg, struct log_msg *outcome, const struct error *err)
{
    struct track *t = arg;
    t->took_over = t->took_over || consolidate_took_over(t->consolidate);
    if (outcome != NULL)
        t->outcome = outbox_log(t->o.outbox, t->record, outcome, on_outcome_said, t);
    else
        cannot_consolidate(t, err);
}

/* Nobody has the first right where the submitter has left; nor any longer once it did not make use of it, and this one took over. */
static int64_t wait_of(const struct track *t)
{
    if (t->o.role == TRACK_FIRST)
        return 0;
    if (track_submitter_left(t) || t->took_over)
        return 1 + (int64_t)rnd_below(t->world.rnd, LEFT_JITTER_MS);
    return t->o.takeover_ms + (int64_t)rnd_below(t->world.rnd, (uint64_t)t->o.takeover_ms / 3 + 1);
}

/* A last cut that takes adopted loads: they are its own, or it fails. */
static bool adopted_is_ready(struct track *t, const struct fold_cut *cut)
{
    enum adoption a = track_adoption(t, true);
    t->waits_for_adopted = a == ADOPT_WAITS;
    struct log_msg m = {.type = LOGM_OUTCOME, .cut = cut->number, .ok = false, .text = t->adopt_why};
    if (a == ADOPT_LOST && may_say(t, LOGM_OUTCOME))
        say(t, &m);
    return a == ADOPT_MINE;
}

static int64_t consolidate_next(struct track *t)
{
    const struct fold_cut *cut = fold_open_cut(t->fold);
    if (cut != NULL && cut->shard >= 0) /* those of shards come first */
        cut = NULL;
    int64_t at = cut ? cut - t->fold->cuts : -1, now = loop_now_us(t->loop);
    if (at != t->cut_at) { /* settled by whomever, or a new one */
        stop_consolidating(t, true);
        t->cut_at = at;
        t->again_us = 0;
    }
    t->waits_for_older = cut != NULL && catalog_older_open(catalog_watch_runs(t->o.watch), t->record);
    if (cut == NULL || t->consolidate != NULL)
        return NO_HURRY_MS;
    if (t->waits_for_older)
        return 1000;
    if (t->again_us > now)
        return t->again_us == INT64_MAX ? NO_HURRY_MS : (t->again_us - now) / US_PER_MS + 1;
    if (t->world.bq == NULL && t->record->has_target) /* left to those who have BigQuery */
        return NO_HURRY_MS;
    if (cut->last && !adopted_is_ready(t, cut))
        return NO_HURRY_MS;
    struct consolidate_options o = {.world = &t->world, .of = {.record = t->record, .fold = t->fold, .cut = cut, .adopted = t->adopted,
                                           .adopted_count = cut->last ? t->adopted_count : 0, .params_at_once = t->o.params_at_once},
                                    .shards_at_once = t->o.shards_at_once, .wait_ms = wait_of(t), .first_try = cut->number == 0 ? t->first_try : 0, .use = track_early_use(t, cut)};
    t->consolidate = consolidate_start(&o, on_consolidated, t);
    track_moved(t);
    return NO_HURRY_MS;
}

/* --- after the end ------------------------------------------------------------------------------------------------------------------------------- */

static void on_cleaned(void *arg, int dropped)
{
    struct track *t = arg;
    (void)dropped;
    t->cleaned = true;
    cleanup_stop(t->cleanup);
    t->cleanup = NULL;
    track_moved(t);
}

static void on_released(void *arg)
{
    struct track *t = arg;
    t->released = true;
    release_stop(t->release);
    t->release = NULL;
    track_moved(t);
}

static void on_release_trouble(void *arg, const struct error *err)
{
    track_moved(arg);
    track_tell_trouble(arg, err);
}

bool track_released(const struct track *t)
{
    const struct catalog_run *known = catalog_find(catalog_watch_runs(t->o.watch), t->record->run);
    return t->record->via != VIA_WORKER_TABLES || t->released || (known != NULL && known->end != NULL);
}

/* What the run shows outlives its shards, before anybody learns that it is over and may drop them. Whoever has no BigQuery waits for those who have. */
static bool is_released(struct track *t)
{
    if (track_released(t))
        return true;
    if (t->release == NULL && t->world.bq != NULL)
        t->release = release_start(&t->world, t->record, t->fold, t->o.shards_at_once, on_released, on_release_trouble, t);
    return false;
}

/* The end goes out first: workers still load into the shards of a run that they do not know to be over. An adopted run's shards are its heir's until that
 * one's end is known. */
static void finish(struct track *t)
{
    if (!is_released(t))
        return;
    track_copy_end(t);
    if (!t->adopted_gone && t->cleaned && track_adopted_gone(t)) {
        t->adopted_gone = true;
        track_moved(t);
    }
    if (!t->end_copied || t->cleaned || t->cleanup != NULL || track_heir_open(t))
        return;
    renew_stop(t->renew);
    t->renew = NULL;
    t->cleanup = cleanup_start(&t->world, t->record, t->fold, on_cleaned, t);
}

int64_t track_act(struct track *t)
{
    const struct fold *f = t->fold;
    int64_t again = NO_HURRY_MS;
    if (f->phase != RUN_ENDED) {
        decide_fatal(t);
        if (f->phase == RUN_PUBLISHING)
            again = i64_min(again, decide_abandon(t));
        again = i64_min(again, decide_cut(t));
        again = i64_min(again, decide_orphaned(t));
        again = i64_min(again, decide_lost(t));
    }
    again = i64_min(again, track_shards(t));
    again = i64_min(again, consolidate_next(t));
    again = i64_min(again, track_early(t));
    if (t->renew == NULL && t->record->via != VIA_WORKER_TABLES && !t->cleaned && t->cleanup == NULL && t->world.bq != NULL && t->record->has_target)
        t->renew = renew_start(&t->world, t->record, f);
    track_copy_state(t);
    if (fold_settled(f))
        finish(t);
    return i64_max(again, 0);
}

void track_act_stop(struct track *t)
{
    for (int i = 0; i < LOGM_TYPES; i++)
        letter_forget(t->said[i].letter);
    ticket_forget(t->lost_ticket);
    stop_consolidating(t, false);
    track_shards_stop(t);
    permit_end(t->early, false);
    letter_forget(t->copy);
    free(t->lost_offsets);
    release_stop(t->release);
    cleanup_stop(t->cleanup);
    renew_stop(t->renew);
    track_adopt_stop(t);
}
