#include "coordinator/live.h"

/* `cancel`: writes a cancel into a run's log, and says what became of it. It has no BigQuery: what is to be done there is left to coordinators. */

/* What those have still to do before the batch's name is free again; "" for nothing. */
static const char *left_to_others(const struct live *l, char *out, size_t size)
{
    const struct record *r = l->record;
    char name[1024];
    out[0] = '\0';
    if (track_done(l->track))
        return out;
    if (!fold_settled(track_fold(l->track)))
        snprintf(out, size, "increments that were begun before are still written");
    else if (r->via == VIA_WORKER_TABLES)
        snprintf(out, size, "the view %s is not given free yet, with what it has shown", bq_ref_text(&r->target, name, sizeof(name)));
    return out;
}

static void over(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    bool ours = f->end == END_CANCEL;
    char left[1200];
    if (f->phase != RUN_ENDED) { /* held: the cancel is on its way */
        l->over = false;
        return;
    }
    if (left_to_others(l, left, sizeof(left))[0]) {
        AUTO(free_ptr) char *watch = live_advice(l, "watch");
        fprintf(stderr, "bqfleet: %s; any coordinator with access to BigQuery does that (`serve`, or %s), and then the batch's name is free\n", left, watch);
    }
    report_print_one(l->out, report_of_fold(l->record, f, loop_wall_ms(l->setup.world.loop)), live_json(l));
    if (!ours)
        fprintf(stderr, "bqfleet: the run had ended before: %s\n", run_end_name(f->end));
    live_end(l, ours ? EXIT_WRITTEN : EXIT_NO);
}

/* The end is copied to `batches`, so that the batch's name is free again, if there is nothing left to consolidate; else a coordinator has that to do
 * first, and need not be waited for. One that is there gives a view free within seconds: so long it is. */
static void changed(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (!track_live(l->track) || f->phase != RUN_ENDED || fold_settled(f) || l->over)
        return;
    l->over = true;
    over(l);
}

static void on_closed(void *arg, int64_t offset, const struct error *err)
{
    struct live *l = arg;
    (void)offset;
    if (err != NULL) {
        live_fail(l, EXIT_UNFINISHED, err);
        return;
    }
    char id[JOB_BASE_SIZE];
    struct error told;
    job_base_cut(id, l->record->run, 0);
    error_set(&told, ERR_FATAL, 0, "run %s is closed and its batch's name is free, but its outcome is unknown: its log no longer reaches back to its beginning. Whether "
              "it was written is what BigQuery says of job %s_t0 (none: it was not)", l->record->run, id);
    live_fail(l, EXIT_UNFINISHED, &told);
}

/* Nobody who reads the log now can tell how the run ended, so nobody would ever close it. The cancel is in the log as well: a coordinator that
 * folded it while that was possible ends by it, and its word comes first if it was first. */
static void unknown(struct live *l)
{
    doc *end = doc_object();
    doc_set_str(end, "end", "unknown");
    doc_set_int(end, "exit", EXIT_UNFINISHED);
    doc_set_str(end, "text", "cancelled when its log no longer reached back to its beginning");
    doc_set_int(end, "time_ms", loop_wall_ms(l->setup.world.loop));
    outbox_batches(l->outbox, catalog_end_key(l->record->run), end, on_closed, l);
}

static bool has_ended(void *arg)
{
    return ((struct live *)arg)->ended;
}

static bool is_decided(void *arg)
{
    const struct live *l = arg;
    return l->ended || (l->record->via == VIA_WORKER_TABLES && track_live(l->track) && fold_settled(track_fold(l->track)));
}

static void on_written(void *arg, int64_t offset, const struct error *err)
{
    struct live *l = arg;
    (void)offset;
    if (err != NULL)
        live_fail(l, EXIT_UNFINISHED, err);
}

enum { RELEASED_SOON_MS = 5000 };

int command_cancel(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct live l = {.settled = over, .unknown = unknown, .changed = changed, .past_held = true};
    struct catalog_run *run = NULL;
    int code = live_open_named(&l, env, SETUP_BUS, NULL, args[0], &run);
    if (code >= 0)
        return code;
    if (run->standing != STANDING_OPEN) {
        report_print_one(l.out, report_of_end(run), live_json(&l));
        fprintf(stderr, "bqfleet: the run had ended before\n");
        return live_close(&l, EXIT_NO);
    }
    if (live_has_heir(&l, run))
        return live_close(&l, EXIT_NO);
    char text[LIMIT_FAILURE_TEXT];
    snprintf(text, sizeof(text), "%s", env->settings->text ? env->settings->text : "by `bqfleet cancel`");
    struct log_msg m = {.type = LOGM_CANCEL, .text = text};
    outbox_log(l.outbox, l.record, &m, on_written, &l);
    live_track(&l, TRACK_SECOND);
    loop_until(l.setup.world.loop, is_decided, &l, INT64_MAX / 4);
    if (l.record->via == VIA_WORKER_TABLES)
        loop_until(l.setup.world.loop, has_ended, &l, RELEASED_SOON_MS * US_PER_MS);
    if (!l.ended && is_decided(&l)) {
        l.over = true;
        over(&l);
    }
    return live_run(&l);
}
