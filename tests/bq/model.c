#include "tests/bq/internal.h"

static int64_t or_default(int64_t given, int64_t fallback)
{
    return given == 0 ? fallback : given < 0 ? 0 : given;
}

struct bqmodel *bqmodel_new(struct loop *loop, const struct bqmodel_options *o)
{
    static const struct bqmodel_options none;
    struct bqmodel *m = xcalloc(1, sizeof(*m));
    m->loop = loop;
    m->o = o ? *o : none;
    m->o.latency_ms = or_default(m->o.latency_ms, 2);
    m->o.pending_ms = or_default(m->o.pending_ms, 2);
    m->o.load_ms = or_default(m->o.load_ms, 5);
    m->o.dml_ms = or_default(m->o.dml_ms, 10);
    m->o.mutating_at_once = m->o.mutating_at_once ? m->o.mutating_at_once : 2;
    m->o.mutating_queued = m->o.mutating_queued ? m->o.mutating_queued : 20;
    m->o.page_rows = m->o.page_rows ? m->o.page_rows : 10000;
    m->project = xstrdup(m->o.project ? m->o.project : "local");
    m->needs_location = m->o.location != NULL;
    m->location = xstrdup(m->o.location ? m->o.location : "US");
    TAILQ_INIT(&m->jobs);
    TAILQ_INIT(&m->active);
    TAILQ_INIT(&m->faults);
    TAILQ_INIT(&m->exchanges);
    return m;
}

void bqmodel_free(struct bqmodel *m)
{
    if (m == NULL)
        return;
    check_no_violation(m);
    server_close(m);
    inproc_free(m->inproc);
    while (!TAILQ_EMPTY(&m->exchanges))
        exchange_abandon(TAILQ_FIRST(&m->exchanges));
    while (!TAILQ_EMPTY(&m->jobs))
        mjob_free(TAILQ_FIRST(&m->jobs));
    while (m->tables)
        model_table_drop(m, m->tables);
    for (struct mdataset *d = m->datasets, *next; d; d = next) {
        next = d->next;
        free(d);
    }
    for (struct session *s = m->sessions, *next; s; s = next) {
        next = s->next;
        session_free(s);
    }
    bqmodel_clear_faults(m);
    usage_free(m);
    chaos_free(m);
    tokens_free(m);
    front_free(m);
    free(m->project);
    free(m->location);
    free(m->unknown);
    free(m);
}

int64_t model_spread_us(struct bqmodel *m, int64_t ms)
{
    if (m->o.rnd == NULL || ms <= 0)
        return ms * US_PER_MS;
    return (int64_t)((double)(ms * US_PER_MS) * (0.5 + rnd_real(m->o.rnd)));
}

struct bqmodel_options *bqmodel_options(struct bqmodel *m)
{
    return &m->o;
}

const struct bqmodel_counters *bqmodel_counters(const struct bqmodel *m)
{
    return &m->counters;
}

const char *bqmodel_unknown_statement(const struct bqmodel *m)
{
    return m->unknown;
}

doc *bqmodel_job(struct bqmodel *m, const char *job_id)
{
    const struct mjob *j;
    TAILQ_FOREACH(j, &m->jobs, link)
        if (strcmp(j->id, job_id) == 0)
            return mjob_resource(j);
    return NULL;
}

doc *bqmodel_jobs(struct bqmodel *m)
{
    doc *out = doc_array();
    const struct mjob *j;
    TAILQ_FOREACH(j, &m->jobs, link)
        doc_add(out, mjob_resource(j));
    return out;
}
