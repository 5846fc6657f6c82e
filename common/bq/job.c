#include "common/bq/job.h"

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/bq/job_internal.h"
#include "common/bq/permits.h"

/*
 * A job as a list of steps; each sends one request, whose answer chooses the next. Everything can be repeated by anybody, because the
 * id says what is done: an insert that was lost is answered with 409 when repeated, and then the job is read like any other's.
 *
 *   INSERT    try k                   200: ours, look at it      409: READ      an error: GIVE_UP under this id, or the end (always for a 403: ours alone)
 *   READ      jobs.get                DONE: success, the next try, GIVE_UP under the next id, or the end; else wait
 *   RESULTS   a query's long poll     complete, or an error of any kind: READ decides
 *   GIVE_UP   the job that only fails 200: decided   409: READ, whatever stands there counts   an error: nobody has decided
 */

static const char *const step_names[] = {"none", "insert", "read", "results", "give-up", "wait-retry", "wait-poll"};

#define TO(s) (1u << (STEP_##s))
static const unsigned legal[STEP_COUNT] = {
    [STEP_NONE] = TO(INSERT),
    [STEP_INSERT] = TO(READ) | TO(RESULTS) | TO(GIVE_UP) | TO(WAIT_RETRY) | TO(WAIT_POLL),
    [STEP_READ] = TO(RESULTS) | TO(GIVE_UP) | TO(WAIT_RETRY) | TO(WAIT_POLL) | TO(READ),
    [STEP_RESULTS] = TO(READ) | TO(RESULTS) | TO(WAIT_POLL),
    [STEP_GIVE_UP] = TO(READ),
    [STEP_WAIT_RETRY] = TO(INSERT),
    [STEP_WAIT_POLL] = TO(READ) | TO(RESULTS),
};

#define HOUR_MS INT64_C(3600000)
#define MISSING_MAX 5          /* reads of an id that answer 404, before it is inserted again: a new job may take a moment to be seen */
#define REINSERTS_MAX 3

void bq_job_stop(struct bq_job *j, bool remote)
{
    if (j == NULL)
        return;
    bq_call_cancel(j->call);
    bool unsent = j->upload && j->spec.feed && !bq_feed_ended(j->spec.feed); /* so there is no job */
    if (remote && j->upload)
        bq_upload_abandon(j->upload);
    else
        bq_upload_stop(j->upload);
    timer_free(j->timer);
    if (remote && !unsent && j->step != STEP_WAIT_RETRY && j->job_id)
        bq_job_cancel(j->bq, j->job_id, j->location);
    doc_free(j->configuration);
    free((char *)(uintptr_t)j->spec.id_base);
    free((char *)(uintptr_t)j->spec.digest);
    free(j->job_id);
    free(j->location);
    free(j->table);
    free(j);
}

const char *bq_job_state(const struct bq_job *j)
{
    switch (j->step) {
    case STEP_NONE: case STEP_INSERT: return "inserting";
    case STEP_WAIT_RETRY: return j->wait_text;
    case STEP_GIVE_UP: return "giving up";
    default: return j->running ? "running" : "pending";
    }
}

const char *bq_job_trouble(const struct bq_job *j)
{
    return j->upload ? bq_upload_trouble(j->upload) : "";
}

bool bq_job_parked(const struct bq_job *j)
{
    return j->step == STEP_WAIT_RETRY && strncmp(j->wait_text, "waiting for a quota", 19) == 0;
}

static void finish(struct bq_job *j, const struct error *err, bool decided, const doc *job)
{
    AUTO(doc_free_auto) doc *kept = job ? doc_ref((doc *)(uintptr_t)job) : NULL;
    AUTO(free_ptr) char *job_id = xstrdup(j->job_id);
    struct error copy = err ? *err : ERROR_INIT;
    struct bq_job_result r = {
        .job_id = job_id, .tries = j->k + 1, .ours = j->ours, .err = err ? &copy : NULL, .decided = err && decided, .job = kept,
        .output_rows = doc_int(kept, "statistics.load.outputRows", 0),
        .inserted = doc_int(kept, "statistics.query.dmlStats.insertedRowCount", 0),
        .updated = doc_int(kept, "statistics.query.dmlStats.updatedRowCount", 0),
        .deleted = doc_int(kept, "statistics.query.dmlStats.deletedRowCount", 0),
        .affected = doc_int(kept, "statistics.query.numDmlAffectedRows", 0),
        .bytes_billed = doc_int(kept, "statistics.query.totalBytesBilled", 0),
        .created_ms = doc_int(kept, "statistics.creationTime", 0), .ended_ms = doc_int(kept, "statistics.endTime", 0),
    };
    bq_job_cb *cb = j->cb;
    void *arg = j->arg;
    bq_job_stop(j, false);
    cb(arg, &r);
}

/* Its bytes can be sent no more. */
static bool is_spent(const struct bq_job *j)
{
    return j->spec.feed && !bq_feed_whole(j->spec.feed);
}

/* --- what a job's resource says ---------------------------------------------------------------------------------------------------------- */

static void set_try(struct bq_job *j, int k)
{
    free(j->job_id);
    j->job_id = xasprintf("%s_t%d", j->spec.id_base, k);
    j->k = k;
    j->ours = j->announced = j->running = j->results_failed = j->read_again = false;
    j->polls = j->missing = 0;
    j->waits_since_ms = -1;
}

static bool is_give_up(const doc *job)
{
    return strcmp(doc_str(job, "configuration.labels.bqfleet_kind", ""), "giveup") == 0;
}

/* A job that stands under our id and is not what we would have inserted. */
static bool is_foreign(const struct bq_job *j, const doc *job, struct error *err)
{
    const char *digest = doc_str(job, "configuration.labels.bqfleet_digest", "");
    int64_t created_ms = doc_int(job, "statistics.creationTime", 0);
    if (j->spec.digest && strcmp(digest, j->spec.digest) != 0)
        error_set(err, ERR_FATAL, 409, "job %s does something else than was asked for (digest \"%s\", wanted \"%s\"): another program uses "
                  "our ids, or the same id was used for two things; nothing more is tried", j->job_id, digest, j->spec.digest);
    else if (j->spec.not_before_ms > 0 && created_ms > 0 && created_ms < j->spec.not_before_ms - HOUR_MS)
        error_set(err, ERR_FATAL, 409, "job %s was created before the run it should belong to; nothing more is tried", j->job_id);
    else
        return false;
    error_reason(err, "foreignJob");
    return true;
}

/* This try is known to have failed for good: for this process, or, with a job that says so, for everyone. next: its id is the next one's,
 * because this try exists. */
static void fail(struct bq_job *j, const struct error *err, bool next, const doc *job)
{
    if (!j->spec.give_up_by_job) {
        finish(j, err, next, job);
        return;
    }
    j->why = *err;
    if (next)
        set_try(j, j->k + 1);
    job_enter(j, STEP_GIVE_UP);
}

/* What time mends is not counted among the tries, up to a week and to a night. */
static bool may_try_again(struct bq_job *j, const struct error *err)
{
    bool contended = j->spec.patient && err->kind == ERR_RETRY && (strcmp(err->reason, "concurrentUpdate") == 0 || strncmp(err->reason, "dmlQueue", 8) == 0);
    if (err->kind == ERR_QUOTA)
        return ++j->quotas < LIMIT_QUOTA_TRIES;
    if (contended)
        return ++j->contended < LIMIT_CONTENDED_TRIES;
    return err->kind == ERR_RETRY && j->k + 1 - j->quotas - j->contended < (j->spec.max_tries > 0 ? j->spec.max_tries : LIMIT_TRIES);
}

static void done(struct bq_job *j, const doc *job)
{
    const doc *result = doc_get(job, "status.errorResult");
    struct error err = ERROR_INIT;
    if (doc_type(result) != DOC_OBJECT) {
        bool counted = doc_int(job, "statistics.endTime", 0) > 0 &&
                       doc_type(doc_get(job, j->is_query ? "statistics.query" : "statistics.load")) == DOC_OBJECT;
        if (!counted && !j->read_again) { /* an insert's answer may lack the figures */
            j->read_again = true;
            job_enter(j, STEP_READ);
        } else {
            job_let_through(j);
            if (!j->is_query)
                job_note_load(bq_root(j->bq), job);
            finish(j, NULL, false, job);
        }
        return;
    }
    const struct failure_row *row = bq_classify(0, doc_str(result, "reason", ""), doc_str(result, "message", ""), true, &err);
    if (is_give_up(job)) {
        enum error_kind kind = error_kind_parse(doc_str(job, "configuration.labels.bqfleet_error", ""));
        error_set(&err, kind == ERR_NONE ? ERR_FATAL : kind, 0, "%s", doc_str(result, "message", "given up"));
        error_reason(&err, "givenUp");
        finish(j, &err, true, job);
        return;
    }
    if (strcmp(err.reason, PERMIT_LOST) == 0) { /* the next try is another permit's: its holder's to begin */
        finish(j, &err, true, job);
        return;
    }
    bool quota = err.kind == ERR_QUOTA;
    if (quota)
        job_refused(j, &err, row);
    else
        job_let_through(j);
    if (may_try_again(j, &err) && !is_spent(j)) {
        set_try(j, j->k + 1);
        if (!quota || !job_wait_parked(j))
            job_wait_retry(j, j->k, &err);
        return;
    }
    error_prefix(&err, "job %s failed", j->job_id);
    fail(j, &err, true, job);
}

/* The resource of the job that stands under our id. */
static void look(struct bq_job *j, const doc *job)
{
    struct error err = ERROR_INIT;
    const char *state = doc_str(job, "status.state", "");
    if (!j->ours && is_foreign(j, job, &err)) {
        finish(j, &err, true, job);
        return;
    }
    j->missing = 0;
    j->running = strcmp(state, "RUNNING") == 0;
    const char *location = doc_str(job, "jobReference.location", "");
    if (j->location == NULL && *location)
        j->location = xstrdup(location);
    if (!j->announced && !is_give_up(job)) {
        j->announced = true;
        if (j->spec.on_inserted)
            j->spec.on_inserted(j->arg, j->job_id);
    }
    if (strcmp(state, "DONE") == 0)
        done(j, job);
    else if (j->is_query && !j->results_failed)
        job_enter(j, STEP_RESULTS);
    else
        job_wait_poll(j, j->is_query && j->polls % 4 == 3 ? STEP_RESULTS : STEP_READ);
}

/* --- answers ----------------------------------------------------------------------------------------------------------------------------- */

/* It waits under the same id, unless it has for too long, or cannot. */
static bool quota_again(struct bq_job *j, const struct bq_answer *a)
{
    bool unsent = a->failure == NULL && a->err->code == 0; /* all requests are parked: nothing was said of this job */
    if (!unsent)
        job_refused(j, a->err, a->failure);
    if (is_spent(j) || (!unsent && ++j->parked >= LIMIT_TRIES))
        return false;
    j->why = *a->err;
    if (!job_wait_parked(j))
        job_wait_retry(j, (int)i64_max(j->parked, 1), a->err);
    return true;
}

static void inserted(void *arg, const struct bq_answer *a)
{
    struct bq_job *j = arg;
    j->call = NULL;
    j->upload = NULL;
    if (a->err == NULL) {
        metric_add(j->bq->metrics, METRIC_JOBS, 1);
        j->ours = true;
        look(j, a->doc);
    } else if (a->err->code == 409) {
        job_enter(j, STEP_READ);
    } else if (a->err->kind == ERR_QUOTA && quota_again(j, a)) {
    } else if (a->err->kind == ERR_RETRY || a->err->kind == ERR_QUOTA) { /* time may mend it; nobody has decided */
        struct error err = *a->err;
        error_prefix(&err, "job %s", j->job_id);
        finish(j, &err, false, NULL);
    } else if (j->spec.give_up_by_job && (a->err->code == 401 || a->err->code == 403)) { /* what this process may not do, another one may */
        struct error err = *a->err;
        error_prefix(&err, "job %s", j->job_id);
        finish(j, &err, false, NULL);
    } else {
        struct error err = *a->err;
        error_prefix(&err, "job %s", j->job_id);
        fail(j, &err, false, NULL);
    }
}

static void absent(struct bq_job *j)
{
    struct error err = ERROR_INIT;
    if (++j->missing < MISSING_MAX) {
        job_wait_poll(j, STEP_READ);
    } else if (!is_spent(j) && ++j->reinserts <= REINSERTS_MAX) { /* the id makes it harmless if the job is there after all */
        j->missing = 0;
        error_set(&err, ERR_RETRY, 404, "job %s is not found", j->job_id);
        job_wait_retry(j, j->reinserts, &err);
    } else {
        error_set(&err, ERR_RETRY, 404, "job %s exists, says jobs.insert, and is not found by jobs.get (location %s)", j->job_id,
                  j->location ? j->location : "unknown");
        finish(j, &err, false, NULL);
    }
}

static void read_answer(void *arg, const struct bq_answer *a)
{
    struct bq_job *j = arg;
    j->call = NULL;
    if (a->err) {
        struct error err = *a->err;
        error_prefix(&err, "job %s", j->job_id);
        finish(j, &err, false, NULL);
    } else if (a->doc == NULL) {
        absent(j);
    } else {
        look(j, a->doc);
    }
}

static void results_answer(void *arg, const struct bq_answer *a)
{
    struct bq_job *j = arg;
    j->call = NULL;
    j->results_failed = a->err != NULL;
    /* The error of a failed job comes as an error of this request, which is otherwise no different from a failed request. */
    if (a->err || doc_bool(a->doc, "jobComplete", false))
        job_enter(j, STEP_READ);
    else if (loop_now_ms(j->bq->loop) - j->results_at_ms < BQ_RESULTS_WAIT_MS / 10) /* it did not wait, so we do */
        job_wait_poll(j, j->running ? STEP_RESULTS : STEP_READ);
    else
        job_enter(j, j->running ? STEP_RESULTS : STEP_READ); /* only jobs.get tells when it has begun to run */
}

static void give_up_answer(void *arg, const struct bq_answer *a)
{
    struct bq_job *j = arg;
    j->call = NULL;
    struct error err = j->why;
    if (a->err == NULL) {
        finish(j, &err, true, a->doc);
    } else if (a->err->code == 409) { /* somebody was here: a giveup of the same failure, or a try that may yet succeed */
        job_enter(j, STEP_READ);
    } else {
        err.kind = ERR_RETRY;
        error_prefix(&err, "nobody has decided, as the job that gives up could not be inserted (%.200s)", a->err->text);
        finish(j, &err, false, NULL);
    }
}

/* --- requests ---------------------------------------------------------------------------------------------------------------------------- */

static void send_insert(struct bq_job *j)
{
    AUTO(doc_free_auto) doc *resource = bq_job_resource(j->bq, j->job_id, j->location, j->configuration);
    if (j->spec.feed)
        j->upload = bq_upload_start_feed(j->bq, j->job_id, j->location, resource, j->spec.feed, inserted, j);
    else if (j->spec.media_count > 0)
        j->upload = bq_upload_start(j->bq, j->job_id, j->location, resource, j->spec.media, j->spec.media_count, inserted, j);
    else
        j->call = bq_job_post(j->bq, resource, inserted, j);
}

static void send_results(struct bq_job *j)
{
    j->results_at_ms = loop_now_ms(j->bq->loop);
    j->call = bq_job_results(j->bq, j->job_id, j->location, results_answer, j);
}

static void send_give_up(struct bq_job *j)
{
    AUTO(doc_free_auto) doc *configuration = bq_give_up_config(&j->why, j->spec.digest);
    AUTO(doc_free_auto) doc *resource = bq_job_resource(j->bq, j->job_id, j->location, configuration);
    j->call = bq_job_post(j->bq, resource, give_up_answer, j);
}

/* An insert of nothing but a failure. What it meets under its id counts, and once that is known to have failed, the next id is tried, as for any job. */
static void send_given_up(struct bq_job *j)
{
    j->why = j->given_up;
    send_give_up(j);
}

void job_enter(struct bq_job *j, enum step to)
{
    assert(legal[j->step] & (1u << to));
    log_debug("job %s: %s to %s", j->job_id, step_names[j->step], step_names[to]);
    j->step = to;
    switch (to) {
    case STEP_INSERT:
        if (!job_wait_parked(j))
            j->only_gives_up ? send_given_up(j) : send_insert(j);
        break;
    case STEP_READ: j->call = bq_job_get(j->bq, j->job_id, j->location, read_answer, j); break;
    case STEP_RESULTS: send_results(j); break;
    case STEP_GIVE_UP: send_give_up(j); break;
    default: break; /* the waits: their timer is set by who waits */
    }
}

static char *table_of(const struct bq_job_spec *spec)
{
    const doc *to = doc_get(spec->configuration, "load.destinationTable");
    if (to != NULL)
        return xasprintf("%s.%s.%s", doc_str(to, "projectId", ""), doc_str(to, "datasetId", ""), doc_str(to, "tableId", ""));
    return spec->target ? xasprintf("%s.%s.%s", spec->target->project, spec->target->dataset, spec->target->table) : NULL;
}

struct bq_job *bq_job_start(struct bq *bq, const struct bq_job_spec *spec, bq_job_cb *cb, void *arg)
{
    struct bq_job *j = xcalloc(1, sizeof(*j));
    j->bq = bq;
    j->spec = *spec;
    j->spec.id_base = xstrdup(spec->id_base);
    j->spec.digest = spec->digest ? xstrdup(spec->digest) : NULL;
    j->location = spec->location && *spec->location ? xstrdup(spec->location) : NULL;
    j->only_gives_up = spec->give_up != NULL;
    j->given_up = spec->give_up ? *spec->give_up : ERROR_INIT;
    j->is_query = j->only_gives_up || doc_get(spec->configuration, "query") != NULL;
    j->cb = cb;
    j->arg = arg;
    j->timer = timer_new(bq->loop, job_waited, j);
    j->table = table_of(spec);
    j->configuration = j->only_gives_up ? doc_object() : doc_copy_top(spec->configuration); /* parameters may be large */
    doc *labels = doc_object();
    for (size_t i = 0; i < spec->label_count; i++)
        doc_set_str(labels, spec->labels[i].name, spec->labels[i].value);
    doc_set_str(labels, "bqfleet_digest", spec->digest);
    doc_set(j->configuration, "labels", labels);
    if (spec->timeout_ms > 0)
        doc_set_int_text(j->configuration, "jobTimeoutMs", spec->timeout_ms);
    set_try(j, spec->first_try);
    job_enter(j, STEP_INSERT);
    return j;
}
