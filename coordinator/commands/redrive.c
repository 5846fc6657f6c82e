#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/live.h"
#include "coordinator/redrive.h"

/* `redrive RUN`: a new run over a run's failed items. */
struct redriving {
    struct live live; /* first: callbacks get this */
    struct record *of;
    const struct catalog_run *known;
    struct redrive_choice choice;
    struct runlog *log;
    struct redrive_source *source;
    bool read;
    struct error err;
    double per_s;
    int64_t found, missing;
};

static struct redriving *redriving_of(struct live *l)
{
    return (struct redriving *)(void *)l;
}

/* "20/s", "100/m", "5000/h": a second. */
static int read_rate(const char *text, double *per_s, struct error *err)
{
    *per_s = 0;
    if (text == NULL)
        return 0;
    char *end = NULL;
    double n = strtod(text, &end), seconds = 0;
    if (end != text && *end == '/' && end[1] != '\0' && end[2] == '\0')
        seconds = end[1] == 's' ? 1 : end[1] == 'm' ? 60 : end[1] == 'h' ? 3600 : 0;
    if (seconds <= 0 || !(n > 0) || n > 1e9)
        return error_set(err, ERR_USAGE, 0, "--rate %s: a number of items a second, minute or hour: 20/s, 100/m, 5000/h", text);
    *per_s = n / seconds;
    return 0;
}

/* --- the run that is redriven ----------------------------------------------------------------------------------------------------------------- */

static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    struct redriving *r = arg;
    redrive_failure(&r->choice, f, time_ms);
}

static void on_log(void *arg, const struct error *err)
{
    struct redriving *r = arg;
    r->read = true;
    if (err != NULL)
        r->err = *err;
}

static bool log_read(void *arg)
{
    return redriving_of(arg)->read;
}

/* -1, or an exit code. */
static int read_log(struct redriving *r, const struct dead_filter *filter)
{
    static const struct runlog_events events = {.failure = on_failure, .done = on_log};
    redrive_choose(&r->choice, catalog_watch_runs(coordinator_watch(r->live.coordinator)), r->of->run, filter);
    r->log = runlog_start(&r->live.setup.world, r->of, &events, r, &r->err);
    int code = r->log ? live_until(&r->live, log_read, 0, "the run's log") : -1;
    if (code >= 0)
        return code;
    return r->err.kind != ERR_NONE ? command_fail(&r->err) : -1;
}

/* The run is not in a state that can be redriven (1), or another redrive of it is open (5). */
static int refuse(const struct error *err)
{
    command_fail(err);
    return strcmp(err->reason, "open") == 0 ? EXIT_ENDED : EXIT_NO;
}

/* --- a dry run ----------------------------------------------------------------------------------------------------------------------------------- */

static void on_ready(void *arg)
{
    struct redriving *r = arg;
    if (r->live.submit)
        submit_ready(r->live.submit);
}

/* Counts what the source has. */
static bool counted(void *arg)
{
    struct redriving *r = redriving_of(arg);
    struct item item;
    int rc;
    while ((rc = redrive_source_next(r->source, &item, &r->err)) == 1)
        r->found++;
    return rc != 2;
}

static int say_dry(struct redriving *r)
{
    const struct record *n = r->live.record;
    r->missing = r->choice.selected.count;
    doc *d = doc_object();
    doc_set_str(d, "redrives", r->of->run);
    doc_set_bool(d, "adopts", n->adopts[0] != '\0');
    doc_set_int(d, "failed", runlog_fold(r->log)->failed);
    doc_set_int(d, "selected", r->found + r->missing);
    doc_set_int(d, "expired", r->missing);
    doc_set_int(d, "left", n->left);
    doc_set_int(d, "tolerated", n->finish.tolerate_count);
    if (live_json(&r->live)) {
        AUTO(free_ptr) char *text = doc_text(d);
        printf("%s\n", text);
    } else {
        printf("Would redrive %" PRId64 " of the %" PRId64 " failed items of run %s (%s)\n", r->found + r->missing, runlog_fold(r->log)->failed, r->of->run,
               n->adopts[0] ? "held: its rows are written with theirs" : "written: theirs are added");
        if (n->left > 0)
            printf("  %" PRId64 " others stay failed\n", n->left);
        printf("  %" PRId64 " failures of the new run are tolerated\n", n->finish.tolerate_count);
    }
    doc_free(d);
    if (r->missing == 0)
        return EXIT_WRITTEN;
    fprintf(stderr, "bqfleet: %s\n", r->err.text);
    return EXIT_NO;
}

/* --- the new run --------------------------------------------------------------------------------------------------------------------------------- */

static int go(struct redriving *r, const struct dead_filter *filter)
{
    const struct settings *s = r->live.env->settings;
    struct catalog *runs = catalog_watch_runs(coordinator_watch(r->live.coordinator));
    const struct catalog_run *same = s->run_id ? catalog_find(runs, s->run_id) : NULL;
    int code = read_log(r, filter);
    if (code >= 0)
        return code;
    const struct fold *f = runlog_fold(r->log);
    if (same != NULL && strcmp(same->record->redrives, r->of->run) == 0) { /* attached to: the submission finds it */
        live_take_record(&r->live, same->record);
    } else {
        if (redrive_judge(runs, r->known, f, &r->choice, s->accept_rest, r->live.flags, &r->err) != 0)
            return refuse(&r->err);
        struct record *n = redrive_record(&r->live.setup.world, r->of, f, &r->choice, s->accept_rest, s->run_id, &r->err);
        if (n == NULL)
            return command_fail(&r->err);
        record_free(r->live.record);
        r->live.record = n;
    }
    r->source = redrive_source_open(&r->live.setup.world, r->live.outbox, r->of, f, &r->choice, s->dry_run ? 0 : r->per_s, on_ready, r);
    if (s->dry_run) {
        code = live_until(&r->live, counted, 0, "the queue's topic");
        return code >= 0 ? code : say_dry(r);
    }
    r->live.source = (struct submit_source){.next = redrive_source_next, .arg = r->source};
    r->live.expected = r->choice.selected.count;
    live_submit_and_stay(&r->live);
    return -1;
}

int command_redrive(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct redriving r = {.live = {.past_held = false}};
    struct dead_filter filter;
    struct error err = ERROR_INIT;
    struct catalog_run *run = NULL;
    if (dead_filter_read(&filter, env->settings, 0, &err) != 0 || read_rate(env->settings->rate, &r.per_s, &err) != 0)
        return command_fail(&err);
    int code = live_open_named(&r.live, env, SETUP_BUS | SETUP_BIGQUERY, live_any_project(env), args[0], &run);
    if (code >= 0)
        return code;
    dead_filter_read(&filter, env->settings, loop_wall_ms(r.live.setup.world.loop), &err); /* checked above: only what time it is was not known */
    r.known = run;
    r.of = track_copy_record(run->record, &err);
    code = r.of ? go(&r, &filter) : command_fail(&err);
    if (code < 0) {
        loop_run(r.live.setup.world.loop);
        code = r.live.code;
    }
    submit_free(r.live.submit); /* before what it reads from */
    r.live.submit = NULL;
    redrive_source_close(r.source);
    runlog_free(r.log);
    itemset_free(&r.choice.selected);
    code = live_close(&r.live, code);
    record_free(r.of);
    return code;
}
