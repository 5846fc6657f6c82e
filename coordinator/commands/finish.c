#include "common/base/log.h"
#include "coordinator/live.h"

/* `finish RUN --accept-failed`: writes a held run without its failed items, and waits for the outcome. */

static void on_written(void *arg, int64_t offset, const struct error *err)
{
    struct live *l = arg;
    (void)offset;
    if (err != NULL)
        live_fail(l, EXIT_UNFINISHED, err);
}

static void refuse(struct live *l, const struct fold *f)
{
    progress_free(l->progress);
    l->progress = NULL;
    if (f->phase == RUN_ENDED)
        fprintf(stderr, "bqfleet: run %s is not held: it has ended (%s)\n", l->record->run, run_end_name(f->end));
    else
        fprintf(stderr, "bqfleet: run %s is not held: it is still %s (%" PRId64 " of %" PRId64 " items done, %" PRId64 " failed); only a run that is "
                "through with more failures than it tolerates waits for this\n", l->record->run, run_phase_name(f->phase), f->done,
                i64_max(f->items, f->published), f->failed);
    live_end(l, EXIT_NO);
}

/* Decided once, on what the log says at its end; whether the accept came in time is again the log's word. */
static void changed(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (!track_live(l->track) || l->ended)
        return;
    l->changed = NULL;
    if (f->phase != RUN_HELD) {
        l->over = true;
        refuse(l, f);
        return;
    }
    log_info("run %s is written without its %" PRId64 " failed items", l->record->run, f->failed);
    struct log_msg m = {.type = LOGM_ACCEPT, .text = "by `bqfleet finish --accept-failed`"};
    outbox_log(l->outbox, l->record, &m, on_written, l);
}

int command_finish(struct command_env *env, char *const *args, int count)
{
    (void)count;
    if (!env->settings->accept_failed) {
        AUTO(free_ptr) char *flags = live_flags(env->settings);
        fprintf(stderr, "bqfleet: finish needs a decision: --accept-failed writes the run without its failed items (to drop it: bqfleet cancel %s%s)\n", args[0],
                flags);
        return EXIT_USAGE;
    }
    struct live l = {.changed = changed, .past_held = true};
    struct catalog_run *run = NULL;
    int code = live_open_named(&l, env, SETUP_BUS | SETUP_BIGQUERY, live_any_project(env), args[0], &run);
    if (code >= 0)
        return code;
    if (run->standing != STANDING_OPEN) {
        report_print_one(l.out, report_of_end(run), live_json(&l));
        fprintf(stderr, "bqfleet: run %s is not held: it has ended\n", run->run);
        return live_close(&l, EXIT_NO);
    }
    if (live_has_heir(&l, run))
        return live_close(&l, EXIT_NO);
    live_show_progress(&l);
    live_track(&l, TRACK_FIRST); /* whoever decides acts at once */
    return live_run(&l);
}
