#include "coordinator/submit.h"

#include "common/base/log.h"
#include "coordinator/live.h"

/* `submit`: publishes a batch and leaves once it is sealed. */

static void say_submitted(struct live *l, int64_t items, const char *state)
{
    AUTO(free_ptr) char *watch = live_advice(l, "watch");
    progress_free(l->progress);
    l->progress = NULL;
    if (live_json(l)) {
        doc *d = doc_object();
        doc_set_str(d, "run", l->record->run);
        doc_set_str(d, "batch", l->record->batch);
        doc_set_str(d, "state", state);
        doc_set(d, "items", items >= 0 ? doc_integer(items) : doc_null());
        report_print_one(stdout, d, true);
    } else {
        printf("%s\n", l->record->run);
        fflush(stdout);
        fprintf(stderr, "Run %s of batch %s is %s. To watch it, and have its result written: %s\n", l->record->run, l->record->batch, state, watch);
    }
}

/* Another process published, or publishes, this run: it is submitted once that one has sealed it. */
static void sealed_by_another(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (f->items < 0 || l->ended)
        return;
    say_submitted(l, f->items, "submitted already");
    live_end(l, EXIT_WRITTEN);
}

static void attached_to(struct live *l)
{
    struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(l->coordinator)), l->record->run);
    if (!live_same_meaning(l, known->record))
        return;
    if (known->standing != STANDING_OPEN) { /* withdrawn ones too: nothing was ever published, and nothing will be */
        report_print_one(stdout, report_of_end(known), live_json(l));
        live_end(l, known->end ? (int)doc_int(known->end, "exit", EXIT_UNFINISHED) : EXIT_ENDED);
        return;
    }
    live_take_record(l, known->record);
    l->interrupted = NULL;
    l->changed = sealed_by_another;
    l->settled = NULL;
    live_track(l, TRACK_SECOND);
}

static void opened(void *arg, bool attached)
{
    struct live *l = arg;
    if (attached)
        attached_to(l);
    else
        live_track(l, TRACK_SECOND); /* should the submission fail, the run is settled before this process leaves */
}

static void leave(struct live *l)
{
    struct submit_state s;
    submit_state(l->submit, &s);
    say_submitted(l, s.published, "submitted");
    live_end(l, EXIT_WRITTEN);
}

/* Not before the user was told of missing workers. */
static void sealed(void *arg, int64_t items)
{
    struct live *l = arg;
    (void)items;
    l->interrupted = NULL; /* there is nothing to undo any more */
    if (l->presence == NULL || presence_ready(l->presence))
        leave(l);
    else
        l->workers_known = leave;
}

static void failed(void *arg, const struct error *err, int code)
{
    struct live *l = arg;
    live_submit_failed(l, code, err);
}

static void interrupted(struct live *l)
{
    struct error err;
    error_set(&err, ERR_FATAL, 0, "interrupted while publishing");
    submit_abort(l->submit, 128 + l->signal, &err);
}

/* The run is over before its seal was acknowledged: the submission says how it ended. */
static void over(struct live *l)
{
    struct submit_state s;
    submit_state(l->submit, &s);
    if (l->failed_code != 0)
        live_finish(l);
    else if (!s.sealed)
        l->over = false; /* the seal's acknowledgement comes yet */
}

int command_submit(struct command_env *env, char *const *args, int count)
{
    static const struct submit_events events = {.opened = opened, .sealed = sealed, .failed = failed};
    (void)count;
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *spec = spec_load(args[0], env->settings->set, env->env, false, &err);
    if (spec != NULL && spec->write.mode == WRITE_NONE)
        error_set(&err, ERR_USAGE, 0, "%s: write.mode none has nowhere to put a fleet's rows; `bqfleet run` without --brokers prints them", args[0]);
    if (err.kind != ERR_NONE)
        return command_fail(&err);
    struct live l = {.settled = over};
    int code = live_open(&l, env, SETUP_BUS | SETUP_BIGQUERY, spec);
    if (code >= 0)
        return code;
    if ((code = live_plan(&l, spec, false)) < 0 && (code = live_open_items(&l, spec)) < 0)
        code = live_read_runs(&l);
    if (code >= 0)
        return live_close(&l, code);
    l.interrupted = interrupted;
    live_show_progress(&l);
    live_submit(&l, &events, true);
    return live_run(&l);
}
