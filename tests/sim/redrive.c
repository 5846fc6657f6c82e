#include "tests/sim/check.h"

#include "coordinator/redrive.h"
#include "coordinator/runlog.h"

/* `redrive RUN` as a process: reads the run's log, judges, and submits the failed items as a new run, taking a held one over. */
struct redriving {
    struct proc *proc;
    char run[LIMIT_NAME], fresh[LIMIT_NAME]; /* the run, and the id of the new one */
    struct record *of;
    const struct catalog_run *known;
    struct redrive_choice choice;
    struct runlog *log;
    struct redrive_source *source;
    bool begun;
};

static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    redrive_failure(&((struct redriving *)arg)->choice, f, time_ms);
}

static void on_source(void *arg)
{
    struct redriving *r = arg;
    if (r->proc->submit)
        submit_ready(r->proc->submit);
}

static void on_log(void *arg, const struct error *err)
{
    struct redriving *r = arg;
    struct proc *p = r->proc;
    struct error why = ERROR_INIT;
    struct catalog *runs = catalog_watch_runs(coordinator_watch(p->coordinator));
    const struct fold *f = runlog_fold(r->log);
    if (err != NULL || redrive_judge(runs, r->known, f, &r->choice, false, "", &why) != 0) {
        trace(p->name, "does not redrive %s: %s", r->run, err ? err->text : why.text);
        p->leaves = true;
        return;
    }
    p->record = redrive_record(&p->world, r->of, f, &r->choice, false, r->fresh, &why);
    if (p->record == NULL) {
        trace(p->name, "does not redrive %s: %s", r->run, why.text);
        p->leaves = true;
        return;
    }
    r->source = redrive_source_open(&p->world, p->outbox, r->of, f, &r->choice, 0, on_source, r);
    proc_submit_from(p, (struct submit_source){.next = redrive_source_next, .arg = r->source});
}

void redriving_ready(struct redriving *r)
{
    static const struct runlog_events events = {.failure = on_failure, .done = on_log};
    struct proc *p = r->proc;
    struct error err = ERROR_INIT;
    if (r->begun)
        return;
    r->begun = true;
    struct catalog *runs = catalog_watch_runs(coordinator_watch(p->coordinator));
    r->known = catalog_find(runs, r->run);
    r->of = r->known ? track_copy_record(r->known->record, &err) : NULL;
    if (r->of == NULL) {
        p->leaves = true;
        return;
    }
    redrive_choose(&r->choice, runs, r->run, &(struct dead_filter){.item = -1});
    r->log = runlog_start(&p->world, r->of, &events, r, &err);
    p->leaves = r->log == NULL;
}

void redriving_free(struct redriving *r)
{
    if (r == NULL)
        return;
    redrive_source_close(r->source);
    runlog_free(r->log);
    itemset_free(&r->choice.selected);
    record_free(r->of);
    free(r);
}

struct redriving *redriving_new(struct proc *p, const char *run, const char *fresh)
{
    struct redriving *r = xcalloc(1, sizeof(*r));
    r->proc = p;
    snprintf(r->run, sizeof(r->run), "%s", run);
    snprintf(r->fresh, sizeof(r->fresh), "%s", fresh);
    return r;
}
