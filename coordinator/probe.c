#include "coordinator/probe.h"

#include "common/base/log.h"

enum { ASK_AGAIN_MS = 2000 };

struct probe {
    struct world world;
    char *run, *location;
    bool wait;
    int64_t cut;
    int try;
    struct probe_result r;
    struct bq_call *call;
    struct timer *timer;
    void (*on_wait)(void *, const char *);
    probe_cb *cb;
    void *arg;
};

static void ask(void *arg);

static void finish(struct probe *p, const struct error *err)
{
    struct error copy = err ? *err : ERROR_INIT;
    struct probe_result r = p->r;
    p->cb(p->arg, &r, err ? &copy : NULL);
}

static void next(struct probe *p, int64_t cut, int try)
{
    p->cut = cut;
    p->try = try;
    ask(p);
}

static void look_at(struct probe *p, const char *id, const doc *job)
{
    struct probe_result *r = &p->r;
    r->cuts = p->cut + 1;
    r->tries = p->try + 1;
    r->last = strcmp(doc_str(job, "configuration.labels.bqfleet_last", ""), "yes") == 0;
    snprintf(r->meaning, sizeof(r->meaning), "%s", doc_str(job, "configuration.labels.bqfleet_meaning", ""));
    snprintf(r->job, sizeof(r->job), "%s", id);
    if (strcmp(doc_str(job, "status.state", ""), "DONE") != 0) {
        r->state = PROBE_RUNNING;
        if (!p->wait) {
            finish(p, NULL);
            return;
        }
        if (p->on_wait)
            p->on_wait(p->arg, id);
        timer_set(p->timer, ASK_AGAIN_MS * US_PER_MS);
    } else if (doc_get(job, "status.errorResult") != NULL) {
        r->state = PROBE_FAILED;
        snprintf(r->text, sizeof(r->text), "%s", doc_str(job, "status.errorResult.message", "it failed"));
        next(p, p->cut, p->try + 1);
    } else {
        r->state = PROBE_WRITTEN;
        r->written++;
        r->inserted += doc_int(job, "statistics.query.dmlStats.insertedRowCount", 0);
        r->updated += doc_int(job, "statistics.query.dmlStats.updatedRowCount", 0);
        r->deleted += doc_int(job, "statistics.query.dmlStats.deletedRowCount", 0);
        if (r->last)
            finish(p, NULL);
        else
            next(p, p->cut + 1, 0);
    }
}

static void job_name(const struct probe *p, char *out, size_t size)
{
    char base[JOB_BASE_SIZE];
    job_base_cut(base, p->run, p->cut);
    snprintf(out, size, "%s_t%d", base, p->try);
}

static void end_of_jobs(struct probe *p, const char *id)
{
    if (p->r.state == PROBE_NONE) /* the one that there would be */
        snprintf(p->r.job, sizeof(p->r.job), "%s", id);
    finish(p, NULL);
}

static void on_answer(void *arg, const struct bq_answer *a)
{
    struct probe *p = arg;
    char id[JOB_BASE_SIZE + 16];
    p->call = NULL;
    job_name(p, id, sizeof(id));
    if (a->err != NULL)
        finish(p, a->err);
    else if (a->doc != NULL)
        look_at(p, id, a->doc);
    else
        end_of_jobs(p, id);
}

static void ask(void *arg)
{
    struct probe *p = arg;
    char id[JOB_BASE_SIZE + 16];
    job_name(p, id, sizeof(id));
    p->call = bq_job_get(p->world.bq, id, p->location, on_answer, p);
}

struct probe *probe_start(const struct world *world, const char *run, const char *location, bool wait, void (*on_wait)(void *, const char *),
                          probe_cb *cb, void *arg)
{
    struct probe *p = xcalloc(1, sizeof(*p));
    *p = (struct probe){.world = *world, .run = xstrdup(run), .location = location && *location ? xstrdup(location) : NULL, .wait = wait,
                        .on_wait = on_wait, .cb = cb, .arg = arg};
    p->timer = timer_new(world->loop, ask, p);
    ask(p);
    return p;
}

void probe_stop(struct probe *p)
{
    if (p == NULL)
        return;
    bq_call_cancel(p->call);
    timer_free(p->timer);
    free(p->run);
    free(p->location);
    free(p);
}

const char *probe_sentence(const struct probe_result *r, char *out, size_t size)
{
    switch (r->state) {
    case PROBE_NONE:
        if (r->direct)
            snprintf(out, size, "BigQuery has no job %s of it: the increments of its workers may be written (jobs bqfleet_direct_...), and the rest is not", r->job);
        else
            snprintf(out, size, "BigQuery has no job %s of it, so nothing was written", r->job);
        break;
    case PROBE_RUNNING:
        snprintf(out, size, "its job %s is still running: look at how it ends", r->job);
        break;
    case PROBE_WRITTEN:
        if (r->last)
            snprintf(out, size, "job %s has written it (%" PRId64 " inserted, %" PRId64 " updated, %" PRId64 " deleted)", r->job, r->inserted, r->updated,
                     r->deleted);
        else
            snprintf(out, size, "increments 0 to %" PRId64 " are written (the last by job %s), later ones are not", r->cuts - 1, r->job);
        break;
    case PROBE_FAILED:
        snprintf(out, size, "its job %s failed (%.200s); %" PRId64 " earlier increments are written", r->job, r->text, r->written);
        break;
    }
    return out;
}
