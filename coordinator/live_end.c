#include "coordinator/live.h"

#include "common/base/log.h"

/* How a command ends: by what the log says, or by what BigQuery says where that is gone. */

/* --- when the log cannot tell --------------------------------------------------------------------------------------------------------- */

static void on_probed(void *arg, const struct probe_result *r, const struct error *err)
{
    struct live *l = arg;
    struct error told;
    char sentence[768];
    struct probe_result found = *r;
    found.direct = l->record->via == VIA_DIRECT;
    if (err != NULL)
        error_set(&told, ERR_FATAL, 0, "run %s: its outcome is unknown: its log is gone, and BigQuery cannot be asked: %s", l->record->run, err->text);
    else
        error_set(&told, ERR_FATAL, 0, "run %s: its outcome is unknown from its log, which no longer reaches back to its beginning; %s", l->record->run,
                  probe_sentence(&found, sentence, sizeof(sentence)));
    live_fail(l, EXIT_UNFINISHED, &told);
}

void live_ask_bigquery(struct live *l, const struct error *err)
{
    const struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(l->coordinator)), l->record->run);
    if (known != NULL && known->end != NULL) { /* a coordinator noted the end while the log still told it */
        int code = (int)doc_int(known->end, "exit", EXIT_UNFINISHED);
        progress_free(l->progress);
        l->progress = NULL;
        report_print_one(l->out, report_of_end(known), live_json(l));
        live_end(l, code);
        return;
    }
    if (l->setup.world.bq == NULL || !l->record->has_target) {
        char id[JOB_BASE_SIZE];
        struct error told = *err;
        job_base_cut(id, l->record->run, 0);
        snprintf(told.text + strlen(told.text), sizeof(told.text) - strlen(told.text), "; look at BigQuery's job %s_t0", id);
        live_fail(l, EXIT_UNFINISHED, &told);
        return;
    }
    l->probe = probe_start(&l->setup.world, l->record->run, l->record->location, false, NULL, on_probed, l);
}

/* --- the end -------------------------------------------------------------------------------------------------------------------------- */

/* A cancel of our own needs no summary: why it was written is the message. */
static bool failed_first(struct live *l)
{
    return l->failed_code != 0 && track_fold(l->track)->end == END_CANCEL;
}

static bool has_written(const struct fold *f)
{
    for (size_t i = 0; i < f->cut_count; i++)
        if (f->cuts[i].state == CUT_DONE)
            return true;
    return false;
}

static const char *what_stands(const struct fold *f)
{
    return has_written(f) ? "increments before it are written, nothing else" : "nothing was written";
}

static void fail_first(struct live *l)
{
    struct error told = l->failed_error;
    if (l->record->has_target)
        error_prefix(&told, "run %s is cancelled, %s", l->record->run, what_stands(track_fold(l->track)));
    live_fail(l, l->failed_code, &told);
}

/* On stderr, for every end but a written one: what stands, and what can be done. */
static void say_why(const struct live *l, const struct fold *f, int code)
{
    bool written = has_written(f);
    const char *stands = what_stands(f);
    if (code == EXIT_HELD && l->embedded) {
        fprintf(stderr, "bqfleet: held: more items failed than finish.tolerate allows; %s. Raise it, or mend them (--failed FILE lists them)\n", stands);
    } else if (code == EXIT_HELD) {
        const struct catalog_run *heir = catalog_heir_of(catalog_watch_runs(coordinator_watch(l->coordinator)), l->record->run);
        AUTO(free_ptr) char *finish = live_advice(l, "finish"), *cancel = live_advice(l, "cancel"), *redrive = live_advice(l, "redrive");
        if (heir != NULL)
            fprintf(stderr, "bqfleet: held; run %s redrives its failed items, and takes its rows when it is complete: bqfleet watch %s%s\n", heir->run,
                    heir->run, l->flags);
        else
            fprintf(stderr, "bqfleet: held: more items failed than finish.tolerate allows, nothing more is written.\n"
                            "  to run them again: %s\n  to write it without them: %s --accept-failed\n  to drop it: %s\n", redrive, finish, cancel);
    } else {
        const char *why = f->end_text ? f->end_text : "";
        bool said = f->end == END_ADOPTED || (!written && strstr(why, stands) != NULL);
        fprintf(stderr, "bqfleet: run %s: %s%s%s%s%s\n", l->record->run, run_end_name(f->end), why[0] ? ": " : "", why, said ? "" : "; ", said ? "" : stands);
    }
}

static void print_and_end(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (failed_first(l)) {
        fail_first(l);
        return;
    }
    progress_free(l->progress);
    l->progress = NULL;
    int code = l->final ? l->final_code : fold_exit_code(f);
    report_print_one(l->out, l->final ? l->final : report_of_fold(l->record, f, loop_wall_ms(l->setup.world.loop)), live_json(l));
    l->final = NULL;
    if (code != EXIT_WRITTEN)
        say_why(l, f, code);
    if (code == EXIT_WRITTEN && l->list_lost) /* the table has its rows; whoever redrives by the list would take it for all */
        code = EXIT_UNFINISHED;
    live_end(l, l->signal && l->embedded ? 128 + l->signal : code);
}

static void on_failed_written(void *arg, int64_t items, const struct error *err)
{
    struct live *l = arg;
    l->list_lost = err != NULL;
    if (err != NULL)
        fprintf(stderr, "bqfleet: %s\n", err->text);
    else if (items > 0)
        log_info("%" PRId64 " failed items are in %s", items, l->env->settings->failed);
    print_and_end(l);
}

void live_finish(struct live *l)
{
    l->over = true;
    if (l->env->settings->failed != NULL && l->failed == NULL)
        l->failed = failed_start(&(struct failed_options){.world = &l->setup.world, .outbox = l->outbox, .record = l->record, .fold = track_fold(l->track),
                                                          .path = l->env->settings->failed, .done = on_failed_written, .arg = l});
    else
        print_and_end(l);
}
