#include "coordinator/local.h"

#include <errno.h>

#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/live.h"
#include "worker/worker.h"

/*
 * Coordinator and worker in one process, on a bus in memory: the one file that knows both. What a fleet keeps in Kafka is gone with the
 * process, so a run repeated under its id asks BigQuery for its cuts' jobs first.
 */
struct local {
    struct live live; /* first: callbacks get this */
    struct spec *spec;
    struct worker *worker;
    FILE *rows;          /* mode none: where they go; NULL otherwise */
    bool rows_failed;
    /* try */
    bool trying;
    const char *only;    /* a key */
    int64_t limit, given;
    /* what was read from the source */
    struct submit_source source;
    int64_t read, read_bytes;
    bool source_waits;
    struct timer *patience; /* after a signal; NULL before */
    /* a repeated run */
    bool probed; struct probe_result found; struct error probe_error;
};

static struct local *local_of(struct live *l)
{
    return (struct local *)(void *)l;
}

/* --- the worker ----------------------------------------------------------------------------------------------------------------------- */

static void cancel(struct local *c, const char *why)
{
    struct log_msg m = {.type = LOGM_CANCEL, .text = why};
    outbox_log(c->live.outbox, c->live.record, &m, NULL, NULL);
}

static void on_rows(void *arg, int64_t item, const char *lines, size_t len)
{
    struct local *c = arg;
    (void)item;
    if (c->rows_failed || fwrite(lines, 1, len, c->rows) == len)
        return;
    c->rows_failed = true;
    error_set(&c->live.failed_error, ERR_FATAL, errno, "the rows cannot be written to %s: %s",
              c->rows == stdout ? "stdout" : c->live.env->settings->to, strerror(errno));
    c->live.failed_code = EXIT_UNFINISHED;
    cancel(c, c->live.failed_error.text);
}

static void on_worker_failed(void *arg, const struct error *err)
{
    struct local *c = arg;
    live_fail(&c->live, EXIT_UNFINISHED, err);
}

static void own_worker(const struct live *l, int64_t *in_flight, char *waits_for, size_t size)
{
    const struct local *c = (const struct local *)(const void *)l;
    struct worker_state s = {.in_flight = 0};
    if (c->worker)
        worker_state(c->worker, &s);
    *in_flight = s.in_flight;
    snprintf(waits_for, size, "%s", s.waits_for);
}

static int start_worker(struct local *c)
{
    const struct settings *s = c->live.env->settings;
    struct error err = ERROR_INIT;
    bool none = c->live.record->mode == WRITE_NONE;
    struct worker_options o = {.world = &c->live.setup.world, .name = "local", .queue = c->live.record->queue, .handlers = &c->spec->handlers,
                               .parallel = s->parallel, .buffer = s->buffer, .load_size = s->load_size, .linger_ms = s->linger_ms,
                               .rows = none ? on_rows : NULL, .failed = on_worker_failed, .arg = c, .inside = true};
    c->worker = worker_start(&o, &err);
    if (c->worker == NULL)
        return command_fail(&err);
    return -1;
}

/* --- the end -------------------------------------------------------------------------------------------------------------------------- */

static void end_trying(struct local *c)
{
    const struct fold *f = track_fold(c->live.track);
    if (f->end == END_COMPLETE) {
        doc *d = report_of_fold(c->live.record, f, loop_wall_ms(c->live.setup.world.loop));
        doc_set_str(d, "state", "tried");
        progress_free(c->live.progress);
        c->live.progress = NULL;
        report_print_one(stderr, d, live_json(&c->live));
        live_end(&c->live, c->live.signal ? 128 + c->live.signal : f->failed > 0 ? EXIT_NO : EXIT_WRITTEN);
        return;
    }
    live_finish(&c->live);
}

static void on_drained(void *arg)
{
    struct local *c = arg;
    if (c->rows != NULL && fflush(c->rows) != 0 && !c->rows_failed) {
        struct error err;
        error_set(&err, ERR_FATAL, errno, "the rows cannot be written: %s", strerror(errno));
        live_fail(&c->live, EXIT_UNFINISHED, &err);
    } else if (c->trying) {
        end_trying(c);
    } else {
        live_finish(&c->live);
    }
}

/* The run is over or held. Whatever a handler still works on is of no use any more. Nobody can decide about a held run once this process is gone:
 * so what is to be said of it is kept, and it is cancelled, which takes its staging away. */
static void settled(struct live *l)
{
    const struct fold *f = track_fold(l->track);
    if (f->phase == RUN_HELD) {
        l->over = false;
        if (l->final == NULL) {
            l->final = report_of_fold(l->record, f, loop_wall_ms(l->setup.world.loop));
            l->final_code = EXIT_HELD;
            cancel(local_of(l), "held, in a process that ends");
        }
        return;
    }
    worker_drain(local_of(l)->worker, 0, true, on_drained, local_of(l));
}

static void on_left_behind(void *arg)
{
    struct live *l = arg;
    live_fail(l, 128 + l->signal, &l->failed_error);
}

/* What is left to do needs BigQuery, which may be away for hours. */
static void on_patience_over(void *arg)
{
    struct live *l = arg;
    const struct fold *f = l->track ? track_fold(l->track) : NULL;
    const struct fold_cut *open = f ? fold_open_cut(f) : NULL;
    char waits[512] = "", job[JOB_BASE_SIZE];
    struct error *err = &l->failed_error;
    if (l->track)
        track_waits_for(l->track, waits, sizeof(waits));
    const char *what = waits[0] ? waits : "BigQuery";
    if (open != NULL) {
        job_base_cut(job, l->record->run, open->number);
        error_set(err, ERR_FATAL, 0, "run %s is left before its outcome is known (no longer waiting for %s): whether it is written is what BigQuery says of job "
                  "%s_t0 (none: it is not)", l->record->run, what, job);
    } else {
        bool written = f != NULL && fold_settled(f) && fold_exit_code(f) == EXIT_WRITTEN;
        error_set(err, ERR_FATAL, 0, "run %s is %s; no longer waiting for %s; staging tables that are left expire by themselves", l->record->run,
                  written ? "written" : l->record->every_ms > 0 ? "cancelled, nothing more was written" : "cancelled, nothing was written", what);
    }
    l->failed_code = 128 + l->signal;
    worker_drain(local_of(l)->worker, 0, true, on_left_behind, l);
}

/* The log decides between this cancel and the run's last item: when the consolidation is already due, its outcome is waited for, as the
 * target is written or not, and this process is the only one that can tell. */
static void interrupted(struct live *l)
{
    struct submit_state s;
    submit_state(l->submit, &s);
    char grace[32];
    log_warn("interrupted: cancelling run %s; waits for BigQuery to end what is left there, at most %s (--grace); a second signal leaves at once",
             l->record->run, units_show_ms(l->env->settings->grace_ms, grace, sizeof(grace)));
    local_of(l)->patience = timer_new(l->setup.world.loop, on_patience_over, l);
    timer_set(local_of(l)->patience, l->env->settings->grace_ms * US_PER_MS);
    if (s.sealed) {
        cancel(local_of(l), "interrupted");
        return;
    }
    struct error err;
    error_set(&err, ERR_FATAL, 0, "interrupted: run %s is cancelled, nothing was written%s", l->record->run,
              l->record->every_ms > 0 ? " beyond the increments before" : "");
    submit_abort(l->submit, 128 + l->signal, &err);
}

/* --- submitting ----------------------------------------------------------------------------------------------------------------------- */

/* Items that were read and are not done, and about how many bytes: what the bus in memory holds. It takes everything at once, so the
 * source is what must wait. */
static bool backlog_over(const struct local *c, int64_t part)
{
    int64_t left = c->read - track_fold(c->live.track)->done;
    return left > LIMIT_BACKLOG / part || (c->read > 0 && left * (c->read_bytes / c->read + 1) > LIMIT_BACKLOG_BYTES / part);
}

static int next_bounded(void *arg, struct item *item, struct error *err)
{
    struct local *c = arg;
    if (c->live.track != NULL && backlog_over(c, 1)) {
        c->source_waits = true;
        return 2;
    }
    int rc = c->source.next(c->source.arg, item, err);
    if (rc == 1) {
        c->read++;
        c->read_bytes += (int64_t)(item->key_len + item->payload_len);
    }
    return rc;
}

static void on_moved(struct live *l)
{
    struct local *c = local_of(l);
    if (!c->source_waits || backlog_over(c, 2))
        return;
    c->source_waits = false;
    submit_ready(l->submit);
}

static void opened(void *arg, bool attached)
{
    struct live *l = arg;
    assert(!attached); /* the bus began with this process */
    (void)attached;
    live_track(l, TRACK_FIRST);
}

static void sealed(void *arg, int64_t items)
{
    struct live *l = arg;
    (void)items;
    progress_poke(l->progress);
}

static void failed(void *arg, const struct error *err, int code)
{
    live_submit_failed(arg, code, err);
}

static int work(struct local *c)
{
    static const struct submit_events events = {.opened = opened, .sealed = sealed, .failed = failed};
    struct live *l = &c->live;
    int code = start_worker(c);
    if (code < 0 && !l->ended && l->signal == 0) {
        l->settled = settled;
        l->interrupted = interrupted;
        l->own_worker = own_worker;
        l->changed = on_moved;
        c->source = l->source;
        l->source = (struct submit_source){.next = next_bounded, .arg = c};
        if (!c->trying)
            live_show_progress(l);
        live_submit(l, &events, false);
        loop_run(l->setup.world.loop);
        code = l->code;
    } else if (code < 0) {
        code = l->ended ? l->code : 128 + l->signal;
    }
    timer_free(c->patience);
    worker_free(c->worker);
    c->worker = NULL;
    return code;
}

/* --- a run that was begun before ------------------------------------------------------------------------------------------------------ */

static bool probed(void *arg)
{
    return local_of(arg)->probed;
}

static void on_probed(void *arg, const struct probe_result *r, const struct error *err)
{
    struct local *c = arg;
    c->probed = true;
    c->found = *r;
    if (err)
        c->probe_error = *err;
}

static void on_wait(void *arg, const char *job)
{
    struct local *c = arg;
    if (!c->found.cuts)
        log_info("run %s was begun before: waiting for its job %s", c->live.record->run, job);
    c->found.cuts = 1; /* said once */
}

static int say_written_before(struct local *c)
{
    const struct record *r = c->live.record;
    doc *d = doc_object(), *jobs = doc_array();
    char table[1024];
    doc_set_str(d, "run", r->run);
    doc_set_str(d, "batch", r->batch);
    doc_set_str(d, "state", "written");
    doc_set_str(d, "text", "by an earlier process; nothing was done again");
    doc_set_str(d, "mode", write_mode_name(r->mode));
    doc_set_str(d, "table", bq_ref_text(&r->target, table, sizeof(table)));
    doc_set_int(d, "exit", EXIT_WRITTEN);
    doc_set_int(d, "inserted", c->found.inserted);
    doc_set_int(d, "updated", c->found.updated);
    doc_set_int(d, "deleted", c->found.deleted);
    doc_set(d, "jobs", doc_add(jobs, doc_string(c->found.job)));
    report_print_one(c->live.out, d, live_json(&c->live));
    return EXIT_WRITTEN;
}

/* The id was used before, for something else: whatever came of that says nothing of this run. */
static int say_another(const struct local *c)
{
    const struct record *r = c->live.record;
    char table[1024];
    struct error err;
    error_set(&err, ERR_FATAL, 0, "job %s under this run id belongs to another batch, table, write.mode or write.keys than batch %s, which writes to %s (%s): "
              "nothing was done now; take another --run-id", c->found.job, r->batch, bq_ref_text(&r->target, table, sizeof(table)), write_mode_name(r->mode));
    return command_fail(&err);
}

/* -1: go on. Otherwise an exit code. */
static int look_before(struct local *c)
{
    struct live *l = &c->live;
    if (l->env->settings->run_id == NULL || !l->record->has_target)
        return -1;
    l->probe = probe_start(&l->setup.world, l->record->run, l->record->location, true, on_wait, on_probed, c);
    int code = live_until(l, probed, 0, "BigQuery");
    probe_stop(l->probe);
    l->probe = NULL;
    if (code >= 0)
        return code;
    if (c->probe_error.kind != ERR_NONE) {
        error_prefix(&c->probe_error, "whether run %s was written before is not known", l->record->run);
        return command_fail(&c->probe_error);
    }
    const struct probe_result *r = &c->found;
    if (r->state == PROBE_NONE)
        return -1;
    char meaning[41];
    record_meaning(l->record, meaning);
    if (strcmp(r->meaning, meaning) != 0)
        return say_another(c);
    if (r->state == PROBE_WRITTEN && r->last)
        return say_written_before(c);
    if (r->state == PROBE_FAILED && r->cuts == 1 && l->record->every_ms == 0) {
        log_info("run %s was begun before, and its job %s failed: it is done again", l->record->run, r->job);
        l->first_try = r->tries;
        return -1;
    }
    char sentence[768];
    struct error err;
    error_set(&err, ERR_FATAL, 0, "run %s was begun before by a process that is gone: %s. It cannot be continued; submit the rest under another --run-id",
              l->record->run, probe_sentence(r, sentence, sizeof(sentence)));
    return command_fail(&err);
}

/* --- run ------------------------------------------------------------------------------------------------------------------------------ */

static unsigned wants_of(const struct spec *s)
{
    bool bigquery = s->write.mode != WRITE_NONE || s->items.kind == ITEMS_QUERY;
    return SETUP_BUS | SETUP_CHILDREN | (bigquery ? SETUP_BIGQUERY : 0u);
}

static int open_rows(struct local *c, struct command_env *env)
{
    const char *to = env->settings->to;
    struct error err;
    if (c->spec->write.mode != WRITE_NONE) {
        if (to == NULL)
            return -1;
        error_set(&err, ERR_USAGE, 0, "--to is for write.mode none; this spec writes to %s", c->spec->write.table);
        return command_fail(&err);
    }
    c->rows = to ? fopen(to, "w") : stdout;
    if (c->rows == NULL) {
        error_set(&err, ERR_USAGE, errno, "%s cannot be written: %s", to, strerror(errno));
        return command_fail(&err);
    }
    if (to == NULL)
        c->live.out = stderr; /* stdout is the rows' */
    return -1;
}

static int run_opened(struct local *c)
{
    struct live *l = &c->live;
    int code = live_plan(l, c->spec, false);
    if (code < 0)
        code = look_before(c);
    if (code < 0)
        code = live_open_items(l, c->spec);
    if (code < 0)
        code = live_read_runs(l);
    return live_close(l, code < 0 ? work(c) : code);
}

int local_run(struct command_env *env, const char *path)
{
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *spec = spec_load(path, env->settings->set, env->env, true, &err);
    if (spec == NULL)
        return command_fail(&err);
    struct local c = {.spec = spec, .live = {.embedded = true}};
    int code = open_rows(&c, env);
    if (code < 0)
        code = live_open(&c.live, env, wants_of(spec), spec);
    if (code < 0)
        code = run_opened(&c);
    if (c.rows != NULL && c.rows != stdout)
        fclose(c.rows);
    return code;
}

/* --- try ------------------------------------------------------------------------------------------------------------------------------ */

static int try_next(void *arg, struct item *item, struct error *err)
{
    struct local *c = arg;
    if (c->given == c->limit)
        return 0;
    for (;;) {
        int rc = items_next(c->live.items, item, err);
        if (rc == 0 && c->only != NULL)
            return error_set(err, ERR_USAGE, 0, "no item has the key \"%s\"", c->only);
        if (rc != 1)
            return rc;
        if (c->only == NULL || (item->key_len == strlen(c->only) && memcmp(item->key, c->only, item->key_len) == 0))
            break;
        *err = ERROR_INIT;
    }
    c->given++;
    return 1;
}

/* With the target's schema where it can be read; else the rows are only seen to be rows. */
static int plan_to_try(struct local *c)
{
    struct error err = ERROR_INIT;
    int rc = c->live.setup.world.bq == NULL ? -1 : live_try_plan(&c->live, c->spec, true, &err);
    if (rc > 0)
        return rc;
    if (rc < 0 && err.kind == ERR_USAGE && err.code != 404)
        return command_fail(&err);
    if (rc < 0) {
        if (err.kind != ERR_NONE)
            log_warn("rows are not checked: the target's schema cannot be read: %s", err.text);
        c->spec->write.mode = WRITE_NONE;
        rc = live_plan(&c->live, c->spec, true);
        if (rc >= 0)
            return rc;
    }
    struct record *r = c->live.record;
    r->mode = WRITE_NONE;
    r->has_target = false;
    r->attempts = 1;
    r->every_ms = 0;
    r->finish = (struct fold_config){.tolerate_count = LIMIT_ITEMS};
    return -1;
}

static int open_to_try(struct local *c, struct command_env *env)
{
    struct error err = ERROR_INIT;
    unsigned wants = wants_of(c->spec);
    if (live_try_open(&c->live, env, wants, c->spec, &err) == 0)
        return -1;
    if ((wants & SETUP_BIGQUERY) == 0 || c->spec->items.kind == ITEMS_QUERY || err.kind == ERR_USAGE)
        return command_fail(&err);
    log_warn("rows are not checked against %s: %s", c->spec->write.table, err.text);
    return live_open(&c->live, env, wants & ~(unsigned)SETUP_BIGQUERY, c->spec);
}

int local_try(struct command_env *env, const char *path)
{
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *spec = spec_load(path, env->settings->set, env->env, true, &err);
    if (spec == NULL)
        return command_fail(&err);
    struct local c = {.spec = spec, .rows = stdout, .trying = true, .only = env->settings->item,
                      .limit = env->settings->item ? 1 : env->settings->limit, .live = {.embedded = true, .out = stderr}};
    int code = open_to_try(&c, env);
    if (code >= 0)
        return code;
    code = plan_to_try(&c);
    if (code < 0)
        code = live_open_items(&c.live, spec);
    if (code < 0)
        code = live_read_runs(&c.live);
    if (code < 0) {
        c.live.source = (struct submit_source){.next = try_next, .arg = &c};
        c.live.expected = c.only ? 1 : c.live.expected >= 0 ? i64_min(c.live.expected, c.limit) : -1;
        code = work(&c);
    }
    return live_close(&c.live, code);
}
