#include "coordinator/track.h"

#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/submit.h"
#include "coordinator/track_internal.h"

enum { LOOK_EVERY_MS = 1000 };

static void turn(void *arg);

void track_moved(struct track *t)
{
    t->moved = true;
    timer_set(t->timer, 0);
}

void track_poke(struct track *t)
{
    if (!track_done(t) && !t->broken)
        timer_set(t->timer, 0);
}

void track_tell_trouble(struct track *t, const struct error *err)
{
    struct error copy = *err;
    t->events.trouble(t->arg, t, &copy);
}

/* --- reading the log ---------------------------------------------------------------------------------------------------------------------- */

static void note_time(struct track *t, const struct log_msg *m)
{
    int64_t now = loop_now_us(t->loop);
    t->news_us = now;
    if (m->type == LOGM_ALIVE || m->type == LOGM_SEAL)
        t->alive_us = now;
    if (m->type == LOGM_CUT)
        t->cut_us = now;
}

static void fold_message(struct track *t, const struct bus_msg *m)
{
    struct log_msg msg;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    struct log_ctx ctx = {.run = t->record->run};
    if (logmsg_decode(m->value, m->value_len, &msg, &memory, &err) != 0) {
        if (err.kind == ERR_FATAL) { /* what a later version decides by it is not known here */
            t->broken = true;
            track_tell_trouble(t, &err);
        } else {
            log_line(LOG_WARN, &ctx, "offset %" PRId64 " of the run's log is skipped: %s", m->offset, err.text);
        }
        return;
    }
    enum run_phase before = t->fold->phase;
    if (fold_apply(t->fold, &msg, m->offset, m->time_ms, &err) != 0) {
        log_line(LOG_ERROR, &ctx, "offset %" PRId64 " of the run's log: %s", m->offset, err.text);
        t->refused = err;
    }
    note_time(t, &msg);
    metric_add(t->world.metrics, METRIC_LOG_MESSAGES, 1);
    if (t->fold->phase != before)
        log_line(LOG_DEBUG, &ctx, "%s%s%s", run_phase_name(t->fold->phase), t->fold->phase == RUN_ENDED ? ": " : "",
                 t->fold->phase == RUN_ENDED ? run_end_name(t->fold->end) : "");
    logmsg_free(memory);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct track *t = arg;
    t->position = m->offset + 1;
    size_t len = strlen(t->record->run);
    if (t->broken || m->key_len != len || memcmp(m->key, t->record->run, len) != 0 || m->value == NULL)
        return; /* another run's: partitions are shared */
    fold_message(t, m);
    track_moved(t);
}

static void on_end(void *arg, int64_t next)
{
    struct track *t = arg;
    t->position = i64_max(t->position, next);
    if (!t->live) {
        t->live = true;
        t->alive_us = t->news_us = t->cut_us = loop_now_us(t->loop);
    }
    track_moved(t);
}

static void on_failed(void *arg, const struct error *err)
{
    struct track *t = arg;
    struct error told = *err;
    bus_follow_stop(t->follow);
    t->follow = NULL;
    t->broken = true;
    if (strcmp(told.reason, "out of range") == 0) {
        t->unknown = true;
        error_set(&told, ERR_FATAL, 0, "the log of run %s no longer reaches back to its beginning (topic results, partition %" PRId32 ", offset %" PRId64
                  "): its outcome is not known from it", t->record->run, t->record->log_partition, t->record->log_offset);
        error_reason(&told, "out of range");
    } else {
        error_prefix(&told, "the log of run %s", t->record->run);
    }
    track_tell_trouble(t, &told);
}

/* --- the turn ------------------------------------------------------------------------------------------------------------------------------ */

static void turn(void *arg)
{
    struct track *t = arg;
    int64_t again_ms = LOOK_EVERY_MS;
    if (t->live && !t->broken && t->o.role != TRACK_LOOKS)
        again_ms = i64_min(again_ms, track_act(t));
    if (!track_done(t) && !t->broken && !timer_is_set(t->timer))
        timer_set(t->timer, again_ms * US_PER_MS);
    if (t->moved) {
        t->moved = false;
        if (t->live || t->broken)
            t->events.changed(t->arg, t);
    }
}

struct record *track_copy_record(const struct record *r, struct error *err)
{
    AUTO(doc_free_auto) doc *d = record_to_doc(r);
    AUTO(free_ptr) char *text = doc_text(d);
    return record_parse(text, strlen(text), err);
}

struct track *track_start(const struct track_options *o, const struct track_events *events, void *arg, struct error *err)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct track *t = xcalloc(1, sizeof(*t));
    t->o = *o;
    t->events = *events;
    t->arg = arg;
    t->world = *o->world;
    t->o.world = &t->world;
    t->loop = t->world.loop;
    t->cut_at = t->state_offset = -1;
    t->o.abandon_ms = o->abandon_ms > 0 ? o->abandon_ms : WAIT_ABANDON;
    t->o.takeover_ms = o->takeover_ms > 0 ? o->takeover_ms : WAIT_SECOND_COORDINATOR;
    t->timer = timer_new(t->loop, turn, t);
    for (int i = 0; i < LOGM_TYPES; i++)
        t->said[i] = (struct said){.track = t, .offset = -1};
    for (size_t i = 0; i < LIMIT_ADOPTED; i++)
        t->claims[i] = (struct said){.track = t, .offset = -1};
    t->record = track_copy_record(o->record, err);
    if (t->record == NULL) {
        track_free(t);
        return NULL;
    }
    t->o.record = t->record;
    t->adopted_gone = t->record->adopts[0] == '\0';
    t->fold = fold_new(&t->record->finish);
    t->position = t->record->log_offset;
    char topic[TOPIC_SIZE];
    topic_results(topic, t->world.prefix);
    t->follow = bus_follow(t->world.bus, topic, t->record->log_partition, t->record->log_offset, &follow, t, err);
    if (t->follow == NULL) {
        track_free(t);
        return NULL;
    }
    return t;
}

void track_free(struct track *t)
{
    if (t == NULL)
        return; /* nothing to free */
    if (t->follow)
        bus_follow_stop(t->follow);
    track_act_stop(t);
    timer_free(t->timer);
    fold_free(t->fold);
    record_free(t->record);
    free(t);
}

/* --- what others see ------------------------------------------------------------------------------------------------------------------------- */

const struct record *track_record(const struct track *t)
{
    return t->record;
}

const struct fold *track_fold(const struct track *t)
{
    return t->fold;
}

void track_first_try(struct track *t, int tries)
{
    t->first_try = tries;
}

bool track_live(const struct track *t)
{
    return t->live;
}

bool track_unknown(const struct track *t)
{
    return t->unknown;
}

bool track_done(const struct track *t)
{
    return t->live && fold_settled(t->fold) && (t->o.role == TRACK_LOOKS || (t->end_copied && t->cleaned && t->adopted_gone));
}

bool track_submitter_left(const struct track *t)
{
    return submit_left(t->record) || t->fold->left;
}

int64_t track_submitter_silent_ms(const struct track *t)
{
    return t->live && t->fold->phase == RUN_PUBLISHING ? (loop_now_us(t->loop) - t->alive_us) / US_PER_MS : 0;
}

static void say_publishing(const struct track *t, char *out, size_t size)
{
    int64_t silent = track_submitter_silent_ms(t);
    char since[32], left[32];
    if (silent < 3 * WAIT_ALIVE_EVERY)
        return;
    snprintf(out, size, "the submitter (%s) has been silent for %s; after %s more the run is abandoned", t->record->by,
             units_show_ms(silent, since, sizeof(since)), units_show_ms(i64_max(t->o.abandon_ms - silent, 0), left, sizeof(left)));
}

const char *track_waits_for(const struct track *t, char *out, size_t size)
{
    const struct fold *f = t->fold;
    out[0] = '\0';
    if (!t->live) {
        snprintf(out, size, "%s", t->unknown ? "nothing: its log is gone" : "its log to be read");
    } else if (f->phase == RUN_HELD) {
        snprintf(out, size, "%s", catalog_heir_of(catalog_watch_runs(t->o.watch), t->record->run)
                                ? "the run that redrives its failed items"
                                : "a decision: redrive runs its failed items again, finish --accept-failed writes it without them, cancel drops it");
    } else if (t->consolidate != NULL) {
        consolidate_state(t->consolidate, out, size);
    } else if (t->release != NULL) {
        release_state(t->release, out, size);
    } else if (fold_settled(f) && !track_released(t)) {
        snprintf(out, size, "a coordinator with BigQuery to keep what its view has shown, and to give the view free: bqfleet watch or serve");
    } else if (t->cleanup != NULL) {
        snprintf(out, size, "BigQuery to drop the run's staging tables");
    } else if (fold_open_cut(f) != NULL && fold_open_cut(f)->shard >= 0) {
        track_shards_waits_for(t, out, size);
    } else if (fold_open_cut(f) != NULL) {
        if (t->waits_for_adopted)
            snprintf(out, size, "%s", t->adopt_why);
        else if (t->waits_for_older)
            snprintf(out, size, "the outcome of run %s, which it replaces", t->record->replaces);
        else if (t->trouble[0])
            snprintf(out, size, "%s", t->trouble);
        else
            snprintf(out, size, "a coordinator to consolidate it: bqfleet watch or serve");
    } else if (f->phase == RUN_PUBLISHING) {
        say_publishing(t, out, size);
    }
    if (out[0] == '\0' && t->live && f->paused && f->phase < RUN_HELD)
        snprintf(out, size, "somebody to resume it: it is paused");
    if (out[0] == '\0' && outbox_waits_for(t->o.outbox)[0] != '\0')
        snprintf(out, size, "%s", outbox_waits_for(t->o.outbox));
    return out;
}
