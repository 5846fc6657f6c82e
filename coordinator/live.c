#include "coordinator/live.h"

#include <signal.h>
#include <unistd.h>

#include "common/base/log.h"

void live_say_left(struct live *l)
{
    const struct fold *f = l->track ? track_fold(l->track) : NULL;
    if (f == NULL || l->role != TRACK_FIRST || l->embedded || f->items < 0 || fold_settled(f))
        return;
    struct log_msg m = {.type = LOGM_ALIVE, .published = f->items, .left = true};
    outbox_log(l->outbox, l->record, &m, NULL, NULL); /* the bus sends it before it closes */
}

/* --- signals -------------------------------------------------------------------------------------------------------------------------- */

static void on_signal(void *arg, int signo)
{
    struct live *l = arg;
    if (l->signal != 0) { /* the second one: nothing is lost either way, but nobody is waited for */
        progress_free(l->progress);
        fflush(NULL);
        _exit(128 + signo);
    }
    l->signal = signo;
    if (l->interrupted)
        l->interrupted(l);
    else
        live_end(l, 128 + signo);
}

/* --- opening and closing -------------------------------------------------------------------------------------------------------------- */

char *live_flags(const struct settings *s)
{
    if (s->brokers == NULL)
        return xstrdup("");
    bool own_prefix = s->prefix != NULL && strcmp(s->prefix, "bqfleet.") != 0;
    return xasprintf(" --brokers %s%s%s%s%s", s->brokers, own_prefix ? " --prefix " : "", own_prefix ? s->prefix : "",
                     s->kafka_file ? " --kafka-file " : "", s->kafka_file ? s->kafka_file : "");
}

static void on_ready(void *arg)
{
    struct live *l = arg;
    if (l->submit)
        submit_catalog_read(l->submit);
}

static void on_changed(void *arg, struct track *t);
static void on_trouble(void *arg, struct track *t, const struct error *err);

static int start_coordinator(struct live *l, bool all, struct error *err)
{
    static const struct coordinator_events events = {.ready = on_ready, .changed = on_changed, .trouble = on_trouble};
    char host[128] = "?";
    gethostname(host, sizeof(host) - 1);
    AUTO(free_ptr) char *by = xasprintf("%s:%ld", host, (long)getpid());
    l->outbox = outbox_new(&l->setup.world, by);
    struct coordinator_options o = {.world = &l->setup.world, .http = l->setup.http, .auth = l->setup.auth, .outbox = l->outbox,
                                    .all = all, .abandon_ms = l->env->settings->abandon_ms, .takeover_ms = l->env->settings->takeover_ms};
    l->coordinator = coordinator_start(&o, &events, l, err);
    return l->coordinator ? 0 : -1;
}

int live_try_open(struct live *l, struct command_env *env, unsigned wants, const struct spec *spec, struct error *err)
{
    l->env = env;
    l->code = EXIT_UNFINISHED;
    l->expected = -1;
    l->out = l->out ? l->out : stdout;
    if (setup_open(&l->setup, env, wants & ~(unsigned)LIVE_ALL_RUNS, spec, err) != 0)
        return -1;
    l->flags = live_flags(env->settings);
    l->watch_command = xasprintf("bqfleet watch%s", l->flags);
    l->on_int = sigwatch_new(l->setup.world.loop, SIGINT, on_signal, l);
    l->on_term = sigwatch_new(l->setup.world.loop, SIGTERM, on_signal, l);
    if (start_coordinator(l, (wants & LIVE_ALL_RUNS) != 0, err) != 0) {
        live_close(l, -1);
        return -1;
    }
    return 0;
}

int live_open(struct live *l, struct command_env *env, unsigned wants, const struct spec *spec)
{
    struct error err = ERROR_INIT;
    return live_try_open(l, env, wants, spec, &err) == 0 ? -1 : command_fail(&err);
}

/* In an order in which nobody is called back by what is already gone. */
int live_close(struct live *l, int code)
{
    progress_free(l->progress);
    submit_free(l->submit);
    items_close(l->items);
    failed_stop(l->failed);
    probe_stop(l->probe);
    presence_free(l->presence);
    ticket_forget(l->knock);
    coordinator_free(l->coordinator);
    outbox_stop(l->outbox);
    sigwatch_free(l->on_int);
    sigwatch_free(l->on_term);
    if (l->env->settings->stats) {
        AUTO(free_ptr) char *table = metrics_table(&l->setup.metrics);
        fputs(table, stderr);
    }
    setup_close(&l->setup);
    outbox_free(l->outbox);
    record_free(l->record);
    free(l->flags);
    free(l->watch_command);
    doc_free(l->final);
    return code;
}

int live_run(struct live *l)
{
    if (!l->ended)
        loop_run(l->setup.world.loop);
    return live_close(l, l->code);
}

void live_end(struct live *l, int code)
{
    if (l->ended)
        return;
    l->ended = true;
    l->code = code;
    loop_stop(l->setup.world.loop);
}

void live_fail(struct live *l, int code, const struct error *err)
{
    if (l->ended)
        return;
    progress_free(l->progress); /* its line is wiped before the last word */
    l->progress = NULL;
    command_fail(err);
    live_end(l, code);
}

bool live_json(const struct live *l)
{
    return l->env->settings->output != NULL && strcmp(l->env->settings->output, "json") == 0;
}

char *live_advice(const struct live *l, const char *command)
{
    return xasprintf("bqfleet %s %s%s", command, l->record->run, l->flags);
}

/* --- the run -------------------------------------------------------------------------------------------------------------------------- */

static void warn_of_workers(struct live *l)
{
    int offering = 0;
    if (l->warned || l->presence == NULL || !presence_ready(l->presence) || l->record == NULL || l->embedded)
        return;
    l->warned = true;
    int live = presence_live(l->presence, l->record->queue, l->record->handler, &offering);
    if (offering == 0)
        log_warn("no live worker of queue %s offers handler '%s'%s: the run waits until one does (bqfleet-worker --queue %s --handler %s=...)",
                 l->record->queue, l->record->handler, live > 0 ? ", though there are workers" : "", l->record->queue, l->record->handler);
}

static void on_presence(void *arg)
{
    struct live *l = arg;
    warn_of_workers(l);
    if (l->workers_known && presence_ready(l->presence))
        l->workers_known(l);
}

void live_take_record(struct live *l, const struct record *r)
{
    struct error err = ERROR_INIT;
    struct record *copy = track_copy_record(r, &err);
    assert(copy); /* it came from such a text */
    record_free(l->record);
    l->record = copy;
}

bool live_same_meaning(struct live *l, const struct record *known)
{
    char ours[41], theirs[41], table[1024] = "";
    struct error err;
    record_meaning(l->record, ours);
    record_meaning(known, theirs);
    if (strcmp(ours, theirs) == 0)
        return true;
    error_set(&err, ERR_FATAL, 0, "run %s exists, and is for something else: batch %s, which writes to %s (%s); nothing was done now; take another --run-id",
              known->run, known->batch, known->has_target ? bq_ref_text(&known->target, table, sizeof(table)) : "no table", write_mode_name(known->mode));
    live_fail(l, EXIT_UNFINISHED, &err);
    return false;
}

struct catalog_run *live_named(struct live *l, const char *text)
{
    struct error err = ERROR_INIT;
    struct catalog_run *run = catalog_watch_named(coordinator_watch(l->coordinator), text, &err);
    if (run == NULL)
        command_fail(&err);
    return run;
}

int live_open_named(struct live *l, struct command_env *env, unsigned wants, const struct spec *spec, const char *text, struct catalog_run **run)
{
    int code = live_open(l, env, wants, spec);
    if (code >= 0)
        return code;
    if ((code = live_read_runs(l)) >= 0)
        return live_close(l, code);
    *run = live_named(l, text);
    if (*run == NULL)
        return live_close(l, EXIT_USAGE);
    live_take_record(l, (*run)->record);
    return -1;
}

bool live_has_heir(struct live *l, const struct catalog_run *run)
{
    const struct catalog_run *heir = catalog_heir_of(catalog_watch_runs(coordinator_watch(l->coordinator)), run->run);
    if (heir == NULL)
        return false;
    fprintf(stderr, "bqfleet: run %s redrives the failed items of run %s, and takes its rows when it is complete; to decide otherwise, cancel that one first: "
            "bqfleet cancel %s%s\n", heir->run, run->run, heir->run, l->flags);
    return true;
}

const struct spec *live_any_project(const struct command_env *env)
{
    static char name[] = "bqfleet"; /* asked only whether BigQuery is there; jobs run in their records' projects */
    static const struct spec any = {.project = name, .queue = name};
    const char *cloud = env->env("GOOGLE_CLOUD_PROJECT");
    return env->settings->project != NULL || (cloud != NULL && cloud[0]) ? NULL : &any;
}

void live_track(struct live *l, enum track_role role)
{
    struct error err = ERROR_INIT;
    l->role = role;
    l->track = coordinator_track(l->coordinator, l->record, role, &err);
    if (l->track == NULL) {
        live_fail(l, EXIT_UNFINISHED, &err);
        return;
    }
    track_first_try(l->track, l->first_try);
    if (!l->embedded && l->presence == NULL)
        l->presence = presence_start(&l->setup.world, on_presence, l, &err);
}

static void on_changed(void *arg, struct track *t)
{
    struct live *l = arg;
    if (t != l->track || l->over || l->ended)
        return;
    const struct fold *f = track_fold(t);
    progress_poke(l->progress);
    if (l->changed)
        l->changed(l);
    if (l->submit != NULL && f->phase == RUN_ENDED)
        submit_ended(l->submit, f->end, f->end_text);
    bool held = f->phase == RUN_HELD && !l->past_held && track_live(t);
    if (!held && !track_done(t))
        return;
    l->over = true;
    if (l->settled)
        l->settled(l);
    else
        live_finish(l);
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    struct live *l = arg;
    if (t != NULL && t != l->track) {
        log_warn("%s", err->text);
        return;
    }
    if (l->over || l->ended)
        return;
    l->over = true;
    if (t != NULL && track_unknown(t)) {
        if (l->unknown)
            l->unknown(l);
        else
            live_ask_bigquery(l, err);
        return;
    }
    if (strcmp(err->reason, "consolidate") == 0 && !l->embedded)
        log_info("nothing is decided: another coordinator with access can still write the run (bqfleet watch or serve%s)", l->flags);
    live_say_left(l);
    live_fail(l, EXIT_UNFINISHED, err);
}
