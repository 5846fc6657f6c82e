#include "common/fleet/consolidate.h"

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/fleet/cut_view.h"
#include "common/fleet/foldshards.h"
#include "common/fleet/side.h"

/*
 * Races, for two coordinators A and B at one cut:
 *   1. A inserts the job, B inserts the same id: B gets 409 and reads A's job. One effect.
 *   2. A inserts and dies: B, after its wait, finds the job and writes the outcome.
 *   3. A's try 0 fails and both know: both insert try 1, one gets 409. Nobody inserts try 1 before try 0 is known to have failed.
 *   4. A cannot insert (a 403 of A's own): nothing is decided, B goes on. Only a job that failed decides, and giving up is one.
 *   5. Both write the outcome: the first in the log wins, they say the same.
 *   6. A cannot do it at all (its text is too long, a staging table it folds is gone) and B, of another version, could: A gives up by a job under the cut's id,
 *      and what stands there counts for both.
 */
enum step { STEP_WAIT, STEP_LOOK, STEP_VIEW, STEP_FOLD, STEP_SIDE, STEP_PERMIT, STEP_JOB, STEP_PAUSE, STEP_SAY };

struct consolidate {
    struct world world;
    const struct record *record;
    int64_t cut;
    char shard[INCARNATION_LEN + 1], base[JOB_BASE_SIZE]; /* shard: "" for a cut of the run */
    bool last;
    enum step step;
    int first_try, failures;
    bool nothing;            /* no job: the outcome is written at once */
    struct cut_text text;
    struct error impossible; /* it cannot be done: to be given up */
    bool folded, beside;     /* the tables that the statement reads are filled */
    struct cut_view *view;   /* of a run in worker tables; NULL */
    bool view_ready, compacted; /* for the job; the job is done, and the view is to show what it made */
    size_t shards_at_once;
    struct foldshards *foldshards;
    struct side *side;
    struct permits *permits; /* NULL: it runs without */
    struct permit_use *use;
    const struct permit_grant *grant; /* NULL: not yet; valid while use is */
    bool found;              /* the job is there: it is only read */
    bool undecided;          /* it may be at work, and this process could not find out */
    struct bq_call *call;
    struct bq_job *job;
    struct timer *timer;
    char job_id[JOB_BASE_SIZE + 16], meaning[41];
    int64_t until_ms;        /* wall clock: so long it is left to another; 0: not at all */
    bool took_over;
    char why[160];           /* of a pause */
    consolidate_cb *cb;
    void *arg;
};

/* This process's own trouble: again for as long as it may pass. */
static const struct retry_policy patience = {.base_ms = 1000, .cap_ms = 60000};
enum { LOOK_EVERY_MS = 5000 };

static void give_up_here(struct consolidate *c, const struct error *err)
{
    struct error told = *err;
    c->cb(c->arg, NULL, &told);
}

static void pause_after(struct consolidate *c, const struct error *err)
{
    int64_t delay = retry_delay(&patience, ++c->failures, 0, err, rnd_real(c->world.rnd));
    if (delay < 0) {
        give_up_here(c, err);
        return;
    }
    snprintf(c->why, sizeof(c->why), "%.150s", err->text);
    c->step = STEP_PAUSE;
    timer_set(c->timer, delay * US_PER_MS);
}

/* --- the outcome -------------------------------------------------------------------------------------------------------------------------- */

static void say(struct consolidate *c, struct log_msg *m)
{
    m->type = LOGM_OUTCOME;
    m->cut = c->cut;
    m->shard = c->shard;
    c->step = STEP_SAY;
    c->cb(c->arg, m, NULL);
}

static void say_failed(struct consolidate *c, const char *why)
{
    char text[LIMIT_FAILURE_TEXT];
    snprintf(text, sizeof(text), "%.*s", (int)sizeof(text) - 1, why);
    struct log_msg m = {.ok = false, .job = c->job_id, .text = text};
    say(c, &m);
}

/* Nobody has decided, which time could mend; but a refusal of this process's own it will not: others may have the permission. */
static bool for_good(const struct error *err)
{
    struct error plain = ERROR_INIT;
    if (err->code != 401 && err->code != 403)
        return false;
    bq_classify(err->code, err->reason, "", false, &plain);
    return plain.kind == ERR_FATAL;
}

static void give_back(struct consolidate *c, bool lost)
{
    permit_end(c->use, lost);
    c->use = NULL;
    c->grant = NULL;
}

static void run_job(struct consolidate *c);

/* A job of a run in worker tables is done. Rows are counted as they were loaded: which of them replace others is seen by who reads the view. */
static void show(struct consolidate *c)
{
    struct log_msg m = {.ok = true, .job = c->job_id, .inserted = c->text.rows, .rows = c->text.rows};
    c->step = STEP_VIEW;
    if (c->compacted)
        cut_view_after(c->view);
    else
        say(c, &m);
}

static void on_job(void *arg, const struct bq_job_result *r)
{
    struct consolidate *c = arg;
    c->job = NULL;
    c->undecided = r->err != NULL && !r->decided;
    if (r->err != NULL && strcmp(r->err->reason, PERMIT_LOST) == 0) { /* nothing was written: the next try, under another permit */
        give_back(c, true);
        c->first_try = r->tries;
        c->found = false;
        run_job(c);
        return;
    }
    snprintf(c->job_id, sizeof(c->job_id), "%s", r->job_id ? r->job_id : "");
    struct log_ctx ctx = {.run = c->record->run, .job = c->job_id};
    if (r->err != NULL && !r->decided) {
        struct error err = *r->err;
        if (for_good(&err))
            err.kind = ERR_FATAL;
        log_line(LOG_WARN, &ctx, "the consolidation cannot be run from here: %s", err.text);
        pause_after(c, &err);
        return;
    }
    if (r->err != NULL) {
        say_failed(c, r->err->text);
        return;
    }
    if (c->view != NULL) {
        c->compacted = cut_view_compacts(c->view);
        show(c);
        return;
    }
    log_line(LOG_DEBUG, &ctx, "cut %" PRId64 "%s%s is consolidated", c->cut, c->shard[0] ? " of shard " : "", c->shard);
    struct log_msg m = {.ok = true, .job = c->job_id, .inserted = r->inserted, .updated = r->updated, .deleted = r->deleted, .rows = c->text.rows};
    /* Where the answer has only a total. */
    if (r->inserted == 0 && c->record->mode == WRITE_APPEND)
        m.inserted = r->affected;
    say(c, &m);
}

/* --- the job ------------------------------------------------------------------------------------------------------------------------------ */

static void on_inserted(void *arg, const char *job_id)
{
    struct consolidate *c = arg;
    snprintf(c->job_id, sizeof(c->job_id), "%s", job_id);
    permit_at_work(c->use);
}

static size_t labels_of(const struct consolidate *c, struct bq_label *v, size_t max)
{
    size_t n = 0;
    v[n++] = (struct bq_label){"bqfleet_run", c->record->run};
    v[n++] = (struct bq_label){"bqfleet_kind", c->shard[0] ? "direct" : c->view && !cut_view_compacts(c->view) ? "list" : "cut"};
    v[n++] = (struct bq_label){"bqfleet_last", c->last ? "yes" : "no"};
    v[n++] = (struct bq_label){"bqfleet_meaning", c->meaning};
    const doc *own = doc_get(c->record->spec, "write.labels");
    for (void *it = doc_type(own) == DOC_OBJECT ? doc_first(own) : NULL; it != NULL && n < max; it = doc_next(own, it))
        v[n++] = (struct bq_label){doc_key(it), doc_str(doc_value(it), NULL, "")};
    return n;
}

static void on_permit(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct consolidate *c = arg;
    c->grant = grant;
    if (grant != NULL) {
        run_job(c);
        return;
    }
    struct error copy = *err;
    c->use = NULL;
    if (for_good(&copy))
        copy.kind = ERR_FATAL;
    pause_after(c, &copy);
}

/* Permits are for what changes the target; a job that is there is only read, and one that gives up changes nothing. */
static bool wants_permit(struct consolidate *c)
{
    if (c->permits == NULL || c->found || !c->text.fenced || c->impossible.kind != ERR_NONE || c->grant != NULL)
        return false;
    c->step = STEP_PERMIT;
    if (c->use != NULL) {
        c->grant = permit_hand_over(c->use, on_permit, c);
        return c->grant == NULL;
    }
    char purpose[CUT_PURPOSE_SIZE];
    cut_purpose(purpose, c->record, c->shard, c->cut);
    c->use = permits_want(c->permits, c->base, purpose, on_permit, c);
    return true;
}

/* The statement, or what stands in its place when there can be none. */
static void run_job(struct consolidate *c)
{
    if (wants_permit(c))
        return;
    struct bq_label labels[64];
    size_t label_count = labels_of(c, labels, ARRAY_LEN(labels));
    if (c->view != NULL && c->found) /* it is only read: what was to be said in it can no longer be told */
        error_set(&c->impossible, ERR_FATAL, 0, "the view is beyond this cut, whose job is not there");
    bool lists = c->view != NULL && !cut_view_compacts(c->view), gives_up = c->impossible.kind != ERR_NONE;
    AUTO(free_ptr) char *sql = gives_up || lists ? NULL : xstrndup(c->text.sql.data, c->text.sql.len);
    doc *params = gives_up || c->text.params == NULL ? NULL : doc_copy(c->text.params);
    if (params != NULL && c->text.fenced)
        permits_fence_params(params, c->grant ? c->grant : &(struct permit_grant){.slot = -1, .token = "none"});
    AUTO(doc_free_auto) doc *configuration = gives_up || lists ? NULL : bq_query_config(sql, params, c->record->max_bytes_billed);
    struct bq_job_spec spec = {.id_base = c->base, .location = c->record->location[0] ? c->record->location : NULL, .configuration = configuration,
                               .labels = labels, .label_count = label_count, .digest = c->text.digest, .not_before_ms = c->record->created_ms,
                               .first_try = c->first_try, .max_tries = c->first_try + LIMIT_TRIES, .patient = true, .give_up_by_job = true, .give_up = gives_up ? &c->impossible : NULL,
                               .target = c->record->has_target ? &c->record->target : NULL, .on_inserted = on_inserted};
    if (lists && !gives_up && cut_view_list(c->view, &spec, &c->impossible) != 0)
        spec.give_up = &c->impossible;
    c->step = STEP_JOB;
    c->job = bq_job_start(c->world.bq, &spec, on_job, c);
}

static void go_on(struct consolidate *c);

/* The tables that the statement reads beside or in place of the shards: err as of their jobs. */
static void prepared(struct consolidate *c, struct error err, bool decided, const char *what)
{
    if (err.kind != ERR_NONE)
        error_prefix(&err, "%s", what);
    if (err.kind != ERR_NONE && !decided) {
        if (for_good(&err))
            err.kind = ERR_FATAL;
        pause_after(c, &err);
        return;
    }
    c->impossible = err;
    go_on(c);
}

static void on_side(void *arg, const struct error *err, bool decided)
{
    struct consolidate *c = arg;
    c->beside = err == NULL;
    prepared(c, err ? *err : ERROR_INIT, decided, "the list of loads cannot be written");
}

static void on_folded(void *arg, const struct error *err, bool decided)
{
    struct consolidate *c = arg;
    struct error copy = err ? *err : ERROR_INIT;
    foldshards_stop(c->foldshards);
    c->foldshards = NULL;
    c->folded = err == NULL;
    prepared(c, copy, decided, "the staging tables cannot be folded");
}

/* Nobody can show the run's rows any more, so it fails: by a job under the cut's id, as whatever cannot be done; or, where that has been at work already, by its
 * outcome. */
static void view_gone(struct consolidate *c, const struct error *err)
{
    if (c->compacted) {
        say_failed(c, err->text);
        return;
    }
    c->impossible = *err;
    go_on(c);
}

static void on_view(void *arg, enum cut_view_end how, const struct error *err)
{
    struct consolidate *c = arg;
    struct error copy = err ? *err : ERROR_INIT;
    if (how == CUT_VIEW_BUSY) {
        snprintf(c->why, sizeof(c->why), "%.150s", copy.text);
        c->step = STEP_PAUSE;
        timer_set(c->timer, LOOK_EVERY_MS * US_PER_MS);
    } else if (how == CUT_VIEW_GONE) {
        log_line(LOG_ERROR, &(struct log_ctx){.run = c->record->run}, "%s", copy.text);
        view_gone(c, &copy);
    } else if (how == CUT_VIEW_FAILED) {
        if (for_good(&copy))
            copy.kind = ERR_FATAL;
        pause_after(c, &copy);
    } else if (c->compacted) {
        c->compacted = false;
        show(c);
    } else {
        c->view_ready = true;
        c->found = c->found || how == CUT_VIEW_PAST;
        if (!c->found && cut_view_compacts(c->view)) {
            const struct cut_of *of = cut_view_of(c->view);
            cut_text_free(&c->text);
            if (cut_text_make(of, c->shards_at_once, &c->text, &c->impossible) == 0 && c->text.beside)
                c->side = side_new(&c->world, of, &c->text, on_side, c);
        }
        go_on(c);
    }
}

/* What is not there yet, in its order. */
static void go_on(struct consolidate *c)
{
    if (c->compacted) {
        show(c);
        return;
    }
    if (c->view != NULL && !c->view_ready && c->impossible.kind == ERR_NONE) {
        c->step = STEP_VIEW;
        cut_view_before(c->view);
        return;
    }
    if (c->impossible.kind == ERR_NONE && c->text.fold_count > 0 && !c->folded) {
        c->step = STEP_FOLD;
        give_back(c, false); /* it may take long, and changes nothing of the target: others write meanwhile */
        c->foldshards = foldshards_start(&c->world, c->record, &c->text, on_folded, c);
    } else if (c->impossible.kind == ERR_NONE && c->side != NULL && !c->beside) {
        c->step = STEP_SIDE;
        side_write(c->side);
    } else {
        run_job(c);
    }
}

static void look(struct consolidate *c);

/* It failed because its permit was lost: nothing was written, and it decides nothing. */
static bool was_fenced(const doc *job)
{
    struct error err = ERROR_INIT;
    bq_classify(0, doc_str(job, "status.errorResult.reason", ""), doc_str(job, "status.errorResult.message", ""), true, &err);
    return strcmp(err.reason, PERMIT_LOST) == 0;
}

/* A job that is there and has not failed needs nothing made ready. */
static void on_look(void *arg, const struct bq_answer *a)
{
    struct consolidate *c = arg;
    c->call = NULL;
    c->took_over = c->until_ms > 0 && a->err == NULL && a->doc == NULL;
    const doc *job = a->err == NULL ? a->doc : NULL;
    bool done = strcmp(doc_str(job, "status.state", ""), "DONE") == 0;
    if (job != NULL && !done) { /* whoever inserted it will say how it ended, unless it is gone by then */
        timer_set(c->timer, LOOK_EVERY_MS * US_PER_MS);
    } else if (done && doc_type(doc_get(job, "status.errorResult")) != DOC_OBJECT) {
        c->found = true;
        run_job(c);
    } else if (done && was_fenced(job)) {
        c->first_try++;
        look(c);
    } else {
        go_on(c);
    }
}

static void look(struct consolidate *c)
{
    char id[JOB_BASE_SIZE + 16];
    snprintf(id, sizeof(id), "%s_t%d", c->base, c->first_try);
    c->step = STEP_LOOK;
    c->call = bq_job_get(c->world.bq, id, c->record->location[0] ? c->record->location : NULL, on_look, c);
}

static void turn(void *arg)
{
    struct consolidate *c = arg;
    if (c->nothing) {
        struct log_msg m = {.ok = true, .rows = c->text.rows, .text = "nothing to write"};
        say(c, &m);
    } else if (c->step == STEP_WAIT || c->step == STEP_LOOK) {
        look(c);
    } else {
        go_on(c);
    }
}

/* Folding costs more than a look whether it is needed. */
static void prepare(struct consolidate *c, const struct consolidate_options *o)
{
    c->shards_at_once = o->shards_at_once ? o->shards_at_once : LIMIT_SHARDS_PER_QUERY;
    if (c->record->via == VIA_WORKER_TABLES)
        c->view = cut_view_new(&c->world, &o->of, o->shards_at_once, on_view, c);
    int rc = cut_text_make(c->view ? cut_view_of(c->view) : &o->of, c->shards_at_once, &c->text, &c->impossible);
    c->nothing = rc == 1;
    if (rc == 0 && c->text.beside)
        c->side = side_new(&c->world, &o->of, &c->text, on_side, c);
    bool waits = rc != 1 && o->wait_ms > 0;
    bool costly = c->text.fold_count > 0 || (c->view && cut_view_compacts(c->view));
    c->step = waits ? STEP_WAIT : costly ? STEP_LOOK : STEP_JOB;
    timer_set(c->timer, waits ? o->wait_ms * US_PER_MS : 0);
}

struct permits *consolidate_permits(const struct world *w, const struct record *r)
{
    struct bq_ref table;
    if (w->permits == NULL || r->permits == 0)
        return NULL;
    record_permits_ref(r, &table);
    return permits_set_get(w->permits, &table, r->project, r->location, r->permits);
}

struct consolidate *consolidate_start(const struct consolidate_options *o, consolidate_cb *cb, void *arg)
{
    struct consolidate *c = xcalloc(1, sizeof(*c));
    *c = (struct consolidate){.world = *o->world, .record = o->of.record, .cut = o->of.cut->number,
                              .last = o->of.cut->last, .first_try = o->first_try, .use = o->use, .cb = cb, .arg = arg};
    cut_job_base(c->base, &o->of);
    if (o->of.cut->shard >= 0)
        snprintf(c->shard, sizeof(c->shard), "%s", o->of.fold->shards[o->of.cut->shard].incarnation);
    c->permits = consolidate_permits(o->world, c->record);
    record_meaning(c->record, c->meaning);
    c->until_ms = o->wait_ms > 0 ? loop_wall_ms(c->world.loop) + o->wait_ms : 0;
    c->timer = timer_new(c->world.loop, turn, c);
    prepare(c, o);
    return c;
}

bool consolidate_took_over(const struct consolidate *c)
{
    return c->took_over;
}

void consolidate_stop(struct consolidate *c, bool settled)
{
    if (c == NULL)
        return;
    if (settled || (c->job == NULL && !c->undecided))
        permit_end(c->use, false);
    else
        permit_leave(c->use);
    foldshards_stop(c->foldshards);
    side_stop(c->side);
    cut_view_free(c->view);
    bq_call_cancel(c->call);
    bq_job_stop(c->job, false);
    timer_free(c->timer);
    cut_text_free(&c->text);
    free(c);
}

const char *consolidate_state(const struct consolidate *c, char *out, size_t size)
{
    char until[32];
    switch (c->step) {
    case STEP_WAIT:
        units_show_time(c->until_ms, until, sizeof(until));
        if (c->shard[0]) {
            snprintf(out, size, "an increment of shard %s: left to its worker until %s, then done here", c->shard, until);
            break;
        }
        snprintf(out, size, "consolidation: left to its first coordinator (%s) until %s, then done here", c->record->by, until);
        break;
    case STEP_LOOK:
        snprintf(out, size, "consolidation: another coordinator's job is running");
        break;
    case STEP_VIEW:
        snprintf(out, size, "consolidation: changing the view");
        break;
    case STEP_FOLD:
        foldshards_state(c->foldshards, out, size);
        break;
    case STEP_SIDE:
        snprintf(out, size, "consolidation: writing the list of loads");
        break;
    case STEP_PERMIT:
        snprintf(out, size, "consolidation: %s", c->permits ? permits_waits_for(c->permits) : "");
        break;
    case STEP_JOB:
        snprintf(out, size, "consolidation: %s%s%s", c->job_id[0] ? c->job_id : "its job", " is ", c->job ? bq_job_state(c->job) : "starting");
        break;
    case STEP_PAUSE:
        snprintf(out, size, "BigQuery: %s", c->why);
        break;
    case STEP_SAY:
        snprintf(out, size, "consolidation: writing its outcome to the log");
        break;
    }
    return out;
}
