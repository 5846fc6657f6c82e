#include "coordinator/local.h"

#include <errno.h>

#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/local_internal.h"
#include "worker/worker.h"

/*
 * Coordinator and worker in one process, on a bus in memory: the one file that knows both. What a fleet keeps in Kafka is gone with the
 * process, so a run repeated under its id asks BigQuery for its cuts' jobs first.
 */

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
    struct bq *bq = c->live.setup.world.bq;
    struct worker_options o = {.world = &c->live.setup.world, .name = "local", .queue = c->live.record->queue, .handlers = &c->spec->handlers,
                               .parallel = s->parallel, .buffer = s->buffer, .streams = s->streams, .load_size = s->load_size, .linger_ms = c->trying ? 0 : s->linger_ms,
                               .paced = bq != NULL && !c->trying && settings_paced(s, bq_base_url(bq)),
                               .compress = strcmp(s->compress, "gzip") == 0, .rows = none ? on_rows : NULL, .failed = on_worker_failed, .arg = c, .inside = true};
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
    error_set(&err, ERR_FATAL, 0, "interrupted");
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

int local_work(struct local *c)
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

/* --- run ------------------------------------------------------------------------------------------------------------------------------ */

unsigned local_wants(const struct spec *s)
{
    bool bigquery = s->write.mode != WRITE_NONE || spec_reads_bigquery(s);
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
        code = local_look_before(c);
    if (code < 0)
        code = live_open_items(l, c->spec);
    if (code < 0)
        code = live_read_runs(l);
    return live_close(l, code < 0 ? local_work(c) : code);
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
        code = live_open(&c.live, env, local_wants(spec), spec);
    if (code < 0)
        code = run_opened(&c);
    if (c.rows != NULL && c.rows != stdout)
        fclose(c.rows);
    return code;
}
