#include "tests/bq/internal.h"

#include <strings.h>

#include "common/base/gzip.h"

/*
 * Jobs: PENDING -> RUNNING -> DONE by timers. A job waits for a place when two mutating statements run on its table already. Limits that
 * BigQuery has on inserting and starting jobs belong into may_insert() and may_start().
 */

#define RERUNS_MAX 3 /* of a statement that lost a conflict */

static void try_start(struct mjob *);

struct mjob *model_job(struct bqmodel *m, const char *project, const char *id)
{
    struct mjob *j = NULL;
    AUTO(free_ptr) char *name = xasprintf("%s:%s", project, id);
    HASH_FIND(hh, m->index, name, strlen(name), j);
    return j;
}

void mjob_free(struct mjob *j)
{
    struct bqmodel *m = j->model;
    while (!TAILQ_EMPTY(&j->waiters)) {
        struct exchange *x = TAILQ_FIRST(&j->waiters)->x;
        exchange_abandon(x);
    }
    if (j->state != JOB_DONE)
        TAILQ_REMOVE(&m->active, j, active);
    TAILQ_REMOVE(&m->jobs, j, link);
    HASH_DEL(m->index, j);
    timer_free(j->timer);
    stmt_free(j->stmt);
    effects_free(&j->effects);
    doc_free(j->configuration);
    doc_free(j->details);
    handed_free(j->handed);
    free(j->media);
    free(j->id);
    free(j->project);
    free(j->name);
    free(j);
}

/* Jobs like this one on its table, not done: running ones, or all. */
static int64_t others(const struct mjob *j, bool running)
{
    int64_t n = 0;
    const struct mjob *o;
    TAILQ_FOREACH(o, &j->model->active, active)
        n += o != j && o->is_load == j->is_load && job_mutates(o) == job_mutates(j) && bq_ref_equal(&o->target, &j->target) &&
             (o->state == JOB_RUNNING || !running);
    return n;
}

/* That write into its table and are not done, itself among them. */
static int64_t statements(const struct mjob *j)
{
    int64_t n = 0;
    const struct mjob *o;
    TAILQ_FOREACH(o, &j->model->active, active)
        n += job_writes(o) && bq_ref_equal(&o->target, &j->target);
    return n;
}

/* --- the end --------------------------------------------------------------------------------------------------------------------------------- */

static void set_state(struct mjob *j, enum job_state to)
{
    assert(j->state < to);
    j->state = to;
    if (to == JOB_RUNNING)
        j->started_ms = loop_wall_ms(j->model->loop);
    if (to != JOB_DONE)
        return;
    j->ended_ms = loop_wall_ms(j->model->loop);
    timer_stop(j->timer);
    TAILQ_REMOVE(&j->model->active, j, active);
    free(j->media);
    j->media = NULL;
    j->model->counters.failed += j->outcome.kind != ERR_NONE;
}

void model_job_finish(struct mjob *j)
{
    struct bqmodel *m = j->model;
    if (j->stmt != NULL && j->outcome.kind == ERR_NONE && m->front == NULL) {
        j->bytes_billed = stmt_bytes_billed(m, j->stmt);
        m->counters.bytes_billed += j->bytes_billed;
    }
    set_state(j, JOB_DONE);
    waiters_wake(j);
    struct mjob *o, *next;
    for (o = TAILQ_FIRST(&m->active); o; o = next) {
        next = TAILQ_NEXT(o, active);
        if (o->pended && o->state == JOB_PENDING)
            try_start(o);
    }
}

static void run_statement(struct mjob *j)
{
    effects_free(&j->effects);
    if (stmt_run(j->model, j->stmt, doc_get(j->configuration, "query.queryParameters"), &j->effects, &j->outcome) == 0 && stmt_writes(j->stmt))
        effects_remember(model_table(j->model, &j->target), &j->effects);
}

/* Writes what the statement has computed; false: it begins anew. */
static bool commit(struct mjob *j)
{
    struct mtable *t = model_table(j->model, &j->target);
    struct effects *e = &j->effects;
    if (t == NULL || t->incarnation != e->incarnation) {
        error_set(&j->outcome, ERR_TASK, 0, "Not found: Table %s:%s.%s was not found in location %s", j->target.project, j->target.dataset,
                  j->target.table, j->model->location);
        error_reason(&j->outcome, "notFound");
        return true;
    }
    if (effects_serialize(t, e)) {
        effects_commit(t, e);
        limit_update(j->model, &j->target, true, &j->outcome); /* counted only */
        t->modified_ms = loop_wall_ms(j->model->loop);
        return true;
    }
    if (j->reruns == RERUNS_MAX) {
        error_set(&j->outcome, ERR_TASK, 0, "Could not serialize access to table %s:%s.%s due to concurrent update", j->target.project,
                  j->target.dataset, j->target.table);
        error_reason(&j->outcome, "invalidQuery");
        return true;
    }
    j->reruns++;
    j->model->counters.reruns++;
    return false;
}

static void ended(struct mjob *j)
{
    if (j->planned.kind != ERR_NONE) {
        j->outcome = j->planned;
    } else if (j->is_load && j->handed == NULL && !limit_update(j->model, &j->target, false, &j->outcome)) {
        model_job_finish(j);
        return;
    } else if (j->model->front) {
        front_job(j);
        return;
    } else if (j->is_load) {
        load_run(j);
    } else if (j->outcome.kind == ERR_NONE && stmt_writes(j->stmt) && !commit(j)) {
        run_statement(j);
        timer_set(j->timer, model_spread_us(j->model, j->model->o.dml_ms));
        return;
    }
    model_job_finish(j);
}

/* --- the beginning --------------------------------------------------------------------------------------------------------------------------- */

static bool may_start(const struct mjob *j)
{
    if (j->late_insert && others(j, true) >= j->model->o.inserts_at_once)
        return false;
    return !job_mutates(j) || others(j, true) < j->model->o.mutating_at_once;
}

static void try_start(struct mjob *j)
{
    struct bqmodel *m = j->model;
    if (!may_start(j))
        return;
    set_state(j, JOB_RUNNING);
    int64_t *most = j->is_load ? &m->counters.loads_at_once : &m->counters.dml_at_once;
    *most = i64_max(*most, others(j, true) + 1);
    if (!j->is_load && j->planned.kind == ERR_NONE && m->front == NULL)
        run_statement(j);
    int64_t takes_us = model_spread_us(m, j->is_load ? m->o.load_ms : m->o.dml_ms) + j->slower_ms * US_PER_MS;
    int64_t most_us = doc_int(j->configuration, "jobTimeoutMs", 0) * US_PER_MS;
    if (most_us > 0 && takes_us > most_us && !m->o.endless_jobs) {
        takes_us = most_us;
        error_set(&j->planned, ERR_TASK, 0, "Job execution was cancelled: Job timed out after %" PRId64 " sec", most_us / US_PER_S);
        error_reason(&j->planned, "stopped");
    }
    timer_set(j->timer, takes_us);
}

static void on_timer(void *arg)
{
    struct mjob *j = arg;
    if (j->state == JOB_RUNNING) {
        ended(j);
        return;
    }
    j->pended = true;
    try_start(j);
}

/* Whether one more job may come, and one more statement wait for its table; else it fails at once. */
static void may_insert(struct mjob *j)
{
    const struct bqmodel_options *o = &j->model->o;
    bool writes = job_writes(j);
    if (j->is_load ? !limit_load(j->model, &j->target, &j->outcome) || !limit_project_loads(j->model, j->project, &j->outcome)
                   : writes && !limit_dml(j->model, &j->target, &j->outcome))
        return;
    j->late_insert = writes && !job_mutates(j) && limit_insert(j->model, &j->target);
    if ((j->late_insert && others(j, false) >= o->inserts_at_once + o->inserts_queued) ||
        (writes && o->dml_outstanding > 0 && statements(j) > o->dml_outstanding)) {
        limit_outstanding(j->model, &j->outcome);
        return;
    }
    if (!job_mutates(j) || others(j, false) < o->mutating_at_once + o->mutating_queued)
        return;
    error_set(&j->outcome, ERR_TASK, 0,
              "Resources exceeded during query execution: Too many DML statements outstanding against table %s:%s.%s, limit is %d.",
              j->target.project, j->target.dataset, j->target.table, o->mutating_queued);
    error_reason(&j->outcome, "resourcesExceeded");
}

static void read_query(struct mjob *j)
{
    struct bqmodel *m = j->model;
    const char *sql = doc_str(j->configuration, "query.query", ""), *at = sql;
    bool standard = !doc_bool(j->configuration, "query.useLegacySql", true);
    j->stmt = standard ? stmt_parse(sql, &at) : NULL;
    m->counters.queries++;
    if (j->stmt == NULL && m->front) {
        front_read(j, sql);
        return;
    }
    if (j->stmt == NULL) {
        if (m->unknown == NULL)
            m->unknown = xasprintf("%s%.*s<<<HERE>>>%s", standard ? "" : "(legacy SQL) ", (int)(at - sql), sql, at);
        if (m->tell)
            fprintf(stderr, "bqmodel: unknown statement: %s%.*s<<<HERE>>>%s\n", standard ? "" : "(legacy SQL) ", (int)(at - sql), sql, at);
        error_set(&j->planned, ERR_TASK, 0, "Syntax error: the model does not know this statement, from byte %d on", (int)(at - sql));
        error_reason(&j->planned, "invalidQuery");
        return;
    }
    j->target = j->stmt->target;
    m->counters.merges += j->stmt->kind == STMT_MERGE || j->stmt->kind == STMT_REPLACE;
    m->counters.inserts += j->stmt->kind == STMT_INSERT;
    m->counters.deletes += j->stmt->kind == STMT_EMPTY;
    m->counters.updates += j->stmt->kind == STMT_UPDATE;
    m->counters.gives_up += j->stmt->kind == STMT_ERROR;
    m->counters.groups += j->stmt->kind == STMT_GROUP;
}

static void plan_faults(struct mjob *j, int64_t *pending_ms)
{
    const struct bqmodel_fault *f;
    struct fault *last = NULL;
    char subject[700], table[640];
    snprintf(subject, sizeof(subject), "%s %s", j->is_load ? "LOAD" : j->stmt ? stmt_type(j->stmt) : "?", bq_ref_text(&j->target, table, sizeof(table)));
    while ((f = fault_next(j->model, FAULT_JOB, subject, j->id, &last)) != NULL) {
        if (f->kind == BQMODEL_JOB_SLOW) {
            j->slower_ms += f->ms;
        } else if (f->kind == BQMODEL_JOB_PENDING) {
            *pending_ms += f->ms;
        } else if (f->kind == BQMODEL_JOB_MISCOUNT) {
            j->miscounted += f->bytes;
        } else if (f->kind == BQMODEL_JOB_UNSEEN) {
            j->unseen_ms = loop_now_ms(j->model->loop) + f->ms;
        } else if (f->kind == BQMODEL_JOB_BARE) {
            j->bare = true;
        } else {
            error_set(&j->planned, ERR_TASK, 0, "%s", f->message);
            error_reason(&j->planned, f->reason);
        }
    }
    chaos_job(j, pending_ms);
}

/* --- what an insert must look like ----------------------------------------------------------------------------------------------------------- */

static int refuse(struct error *err, int status, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int refuse(struct error *err, int status, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, ERR_FATAL, status, fmt, ap);
    va_end(ap);
    error_reason(err, reason);
    return -1;
}

static bool made_of(const char *text, size_t max, const char *also)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    while (text[n] && strchr(also, text[n]))
        n += 1 + strspn(text + n + 1, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return text[n] == '\0' && n <= max;
}

static int check_labels(const doc *labels, struct error *err)
{
    if (doc_len(labels) > 64)
        return refuse(err, 400, "invalid", "Too many labels");
    for (void *it = doc_first(labels); it; it = doc_next(labels, it)) {
        const char *key = doc_key(it), *value = doc_str(doc_value(it), NULL, "?");
        if (!(key[0] >= 'a' && key[0] <= 'z') || !made_of(key, 63, "") || !made_of(value, 63, ""))
            return refuse(err, 400, "invalid", "Invalid label: %s=%s", key, value);
    }
    return 0;
}

static int check_insert(struct bqmodel *m, const char *project, const doc *body, const char *id, bool has_media, struct error *err)
{
    const doc *load = doc_get(body, "configuration.load"), *query = doc_get(body, "configuration.query");
    const char *location = doc_str(body, "jobReference.location", m->location);
    if (!made_of(id, 1024, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        return refuse(err, 400, "invalid", "Invalid job ID \"%.100s\"", id);
    if (strcmp(doc_str(body, "jobReference.projectId", project), project) != 0)
        return refuse(err, 400, "invalid", "Value for field projectId in jobReference does not match the request's");
    if ((load == NULL) == (query == NULL))
        return refuse(err, 400, "required", "Job configuration must contain exactly one job-specific configuration object (e.g., query, load)");
    if (load && !has_media)
        return refuse(err, 400, "required", "Load configuration must specify at least one source URI");
    if (m->needs_location && strcasecmp(location, m->location) != 0)
        return refuse(err, 404, "notFound", "Not found: Dataset was not found in location %s", location);
    if (model_job(m, project, id)) {
        m->counters.duplicates++;
        return refuse(err, 409, "duplicate", "Already Exists: Job %s:%s.%s", project, m->location, id);
    }
    if (check_labels(doc_get(body, "configuration.labels"), err))
        return -1;
    return limit_wall(m, load != NULL, err) ? 0 : -1;
}

static void read_target(struct mjob *j)
{
    const doc *to = doc_get(j->configuration, "load.destinationTable");
    snprintf(j->target.project, sizeof(j->target.project), "%s", doc_str(to, "projectId", j->project));
    snprintf(j->target.dataset, sizeof(j->target.dataset), "%s", doc_str(to, "datasetId", ""));
    snprintf(j->target.table, sizeof(j->target.table), "%s", doc_str(to, "tableId", ""));
}

/* BigQuery sees for itself whether it is gzip. What is damaged stays as it is: no row is read out of it. */
static void take_media(struct mjob *j, const char *media, size_t len)
{
    struct buf plain = BUF_INIT(SIZE_MAX / 4);
    struct error err = ERROR_INIT;
    if (media == NULL)
        return;
    if (!gzip_is(media, len) || gunzip(media, len, &plain, &err) != 0) {
        buf_free(&plain);
        buf_xadd(&plain, media, len);
    }
    j->media_len = plain.len;
    j->media = buf_steal(&plain);
}

/* As the service keeps what it was sent: a field that is null is none. */
static doc *without_nulls(const doc *d)
{
    doc *out = doc_type(d) == DOC_OBJECT ? doc_object() : doc_type(d) == DOC_ARRAY ? doc_array() : doc_copy(d);
    for (void *it = doc_type(d) == DOC_OBJECT ? doc_first(d) : NULL; it; it = doc_next(d, it))
        if (doc_type(doc_value(it)) != DOC_NULL)
            doc_set(out, doc_key(it), without_nulls(doc_value(it)));
    for (size_t i = 0; doc_type(d) == DOC_ARRAY && i < doc_len(d); i++)
        doc_add(out, without_nulls(doc_at(d, i)));
    return out;
}

struct mjob *model_job_insert(struct bqmodel *m, const char *project, const doc *body, const char *media, size_t media_len, struct error *err)
{
    AUTO(free_ptr) char *made = xasprintf("job_%" PRIu64, ++m->next_id);
    const char *id = doc_str(body, "jobReference.jobId", made);
    if (check_insert(m, project, body, id, media != NULL, err))
        return NULL;
    struct mjob *j = xcalloc(1, sizeof(*j));
    j->model = m;
    j->id = xstrdup(id);
    j->project = xstrdup(project);
    j->name = xasprintf("%s:%s", project, id);
    j->configuration = without_nulls(doc_get(body, "configuration"));
    j->is_load = media != NULL;
    take_media(j, media, media_len);
    j->input_bytes = (int64_t)media_len;
    j->created_ms = loop_wall_ms(m->loop);
    TAILQ_INIT(&j->waiters);
    j->timer = timer_new(m->loop, on_timer, j);
    TAILQ_INSERT_TAIL(&m->jobs, j, link);
    TAILQ_INSERT_TAIL(&m->active, j, active);
    HASH_ADD_KEYPTR(hh, m->index, j->name, strlen(j->name), j);
    int64_t pending_ms = m->o.pending_ms;
    if (j->is_load) {
        m->counters.loads++;
        read_target(j);
    } else {
        read_query(j);
    }
    plan_faults(j, &pending_ms);
    may_insert(j);
    if (j->outcome.kind != ERR_NONE)
        set_state(j, JOB_DONE);
    else
        timer_set(j->timer, model_spread_us(m, pending_ms));
    return j;
}

void model_job_cancel(struct mjob *j)
{
    if (j->state == JOB_DONE || j->handed) /* what is handed on runs to its end */
        return;
    error_set(&j->planned, ERR_TASK, 0, "Job execution was cancelled: User requested cancellation");
    error_reason(&j->planned, "stopped");
    if (j->state == JOB_PENDING)
        set_state(j, JOB_RUNNING);
    timer_set(j->timer, 0);
}
