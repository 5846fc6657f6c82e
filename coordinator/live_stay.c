#include "coordinator/live.h"

#include "common/base/log.h"

/* A command that submits a run to the fleet and stays: it publishes, coordinates and watches. */

static void opened(void *arg, bool attached)
{
    struct live *l = arg;
    if (attached) { /* its record, with the places, is the catalog's */
        struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(l->coordinator)), l->record->run);
        if (!live_same_meaning(l, known->record))
            return;
        if (known->standing != STANDING_OPEN) { /* withdrawn ones too: nothing was ever published, and nothing will be */
            int code = known->end ? (int)doc_int(known->end, "exit", EXIT_UNFINISHED) : EXIT_ENDED;
            report_print_one(l->out, report_of_end(known), live_json(l));
            live_end(l, code);
            return;
        }
        live_take_record(l, known->record);
        live_track(l, TRACK_SECOND);
        return;
    }
    log_info("run %s of batch %s is open", l->record->run, l->record->batch);
    live_track(l, TRACK_FIRST);
}

static void sealed(void *arg, int64_t items)
{
    struct live *l = arg;
    log_debug("run %s: all %" PRId64 " items are published", l->record->run, items);
    progress_poke(l->progress);
}

static void failed(void *arg, const struct error *err, int code)
{
    struct live *l = arg;
    live_submit_failed(l, code, err);
}

/* Before the seal nobody else can go on with it, so the run is cancelled; afterwards the fleet goes on alone. */
static void interrupted(struct live *l)
{
    struct submit_state s = {.sealed = true};
    if (l->submit)
        submit_state(l->submit, &s);
    if (!s.sealed && l->submit != NULL) {
        struct error err;
        error_set(&err, ERR_FATAL, 0, "interrupted while publishing");
        submit_abort(l->submit, 128 + l->signal, &err);
        return;
    }
    live_say_left(l);
    progress_free(l->progress);
    l->progress = NULL;
    if (l->record != NULL) {
        AUTO(free_ptr) char *watch = live_advice(l, "watch"), *cancel = live_advice(l, "cancel");
        fprintf(stderr, "bqfleet: detached; run %s goes on\n  to watch it, and have its result written: %s\n  to cancel it: %s\n",
                l->record->run, watch, cancel);
    }
    live_end(l, 128 + l->signal);
}

void live_submit_and_stay(struct live *l)
{
    static const struct submit_events events = {.opened = opened, .sealed = sealed, .failed = failed};
    l->interrupted = interrupted; /* from here on there is something to undo */
    live_show_progress(l);
    live_submit(l, &events, false);
}
