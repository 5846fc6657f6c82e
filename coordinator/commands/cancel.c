#include "coordinator/live.h"

/* `cancel`: writes a cancel into a run's log, and says what became of it. */

static void over(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    bool ours = f->end == END_CANCEL;
    if (f->phase != RUN_ENDED) { /* held: the cancel is on its way */
        l->over = false;
        return;
    }
    report_print_one(l->out, report_of_fold(l->record, f, loop_wall_ms(l->setup.world.loop)), live_json(l));
    if (!ours)
        fprintf(stderr, "bqfleet: the run had ended before: %s\n", run_end_name(f->end));
    live_end(l, ours ? EXIT_WRITTEN : EXIT_NO);
}

/* The end is copied to `batches`, so that the batch's name is free again, if there is nothing left to consolidate; else a coordinator has that to do
 * first, and need not be waited for. */
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

static void on_written(void *arg, int64_t offset, const struct error *err)
{
    struct live *l = arg;
    (void)offset;
    if (err != NULL)
        live_fail(l, EXIT_UNFINISHED, err);
}

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
    return live_run(&l);
}
