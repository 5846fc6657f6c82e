#include "coordinator/local_internal.h"

#include "common/base/log.h"

/* A run that was begun before, by a process that is gone: BigQuery is asked for its cuts' jobs. */

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
int local_look_before(struct local *c)
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
