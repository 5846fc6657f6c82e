#include "tests/sim/service_odd.h"

#include <math.h>

#include "tests/bq/internal.h"
#include "tests/sim/dice.h"
#include "tests/sim/hand.h"

/*
 * Quotas that are used up, jobs that cannot be seen yet, answers that are not BigQuery's, statements that are forbidden, jobs that somebody else has put under our
 * ids or has cancelled, permits that are refused to one process, and rows of permits that somebody has changed.
 */

enum { RUNS = 256, QUOTAS_MS = 7200000 /* each class of work may be parked for half an hour still, one after the other */ };
/* What was done to a run that may end it. */
enum { FORBIDDEN = 1, CANCELLED = 2, FOREIGN = 4, UNPERMITTED = 8 };
#define LONG "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc"
#define MARK "the simulation forbids it"

static struct odd {
    struct sim *sim;
    struct rnd rnd;
    struct timer *answers, *tampers, *harms, *refusals, *looks;
    double answer_rate, tamper_rate, harm_rate, refusal_rate; /* of each a second */
    double foreign;               /* part of the jobs under whose id another one stands */
    bool labels, capped, located, polite;
    bool quotas;                  /* there was one */
    unsigned done[RUNS];
} odd;

static double real(void)
{
    return rnd_real(&odd.rnd);
}

static size_t below(size_t n)
{
    return (size_t)rnd_below(&odd.rnd, n);
}

static bool chance(double p)
{
    return real() < p;
}

static void again(struct timer *t, double rate)
{
    dice_again(t, &odd.rnd, rate);
}

static struct ledger *any_run(void)
{
    struct check *c = odd.sim->check;
    return c->run_count > 0 ? check_run_at(c, (int32_t)below((size_t)c->run_count)) : NULL;
}

static void mark(const struct ledger *l, unsigned what)
{
    if (l->index < RUNS)
        odd.done[l->index] |= what;
}

/* --- answers ----------------------------------------------------------------------------------------------------------------------------------------------- */

static const char *const kinds[] = {"bqfleet_cut", "bqfleet_direct", "bqfleet_load", "bqfleet_permit", "bqfleet_permit", "bqfleet_side", "bqfleet_fold"};

static void fault(struct bqmodel_fault f, const char *what)
{
    f.match = f.match ? f.match : kinds[below(ARRAY_LEN(kinds))];
    sim_did(odd.sim, DEED_SERVICE, "service", "%s for %s, %d times, %" PRId64 " ms", what, f.match, f.times, f.ms);
    bqmodel_fault(odd.sim->model, &f);
}

static const struct { const char *reason, *message; } quotas[] = {
    {"quotaExceeded", "Quota exceeded: Your table exceeded quota for imports or query appends per table."},
    {"quotaExceeded", "Quota exceeded: Your project exceeded quota for imports per project."},
    {"quotaExceeded", "Quota exceeded: Your project exceeded quota for free query bytes scanned."},
    {"quotaExceeded", "Quota exceeded: Your project exceeded the max number of jobs that can be queued per project."},
    {"quotaExceeded", "Quota exceeded: Your table exceeded quota for number of partition modifications to a column partitioned table."},
    {"quotaExceeded", "Quota exceeded: Your user exceeded quota for something new."},
    {"quotaExceeded", "Quota exceeded for quota metric 'API requests' and limit 'API requests per day'."},
    {"dailyLimitExceeded", "Daily Limit Exceeded."}};

static void note_quota(void)
{
    odd.sim->slowed_ms += odd.quotas ? 0 : QUOTAS_MS;
    odd.quotas = true;
}

static void refuse_requests(void)
{
    size_t at = below(ARRAY_LEN(quotas));
    note_quota();
    fault((struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 403, .reason = quotas[at].reason, .message = quotas[at].message, .times = 1 + (int)below(3)}, "a quota");
}

static void fail_jobs(void)
{
    size_t at = below(ARRAY_LEN(quotas) - 2);
    note_quota();
    fault((struct bqmodel_fault){.kind = BQMODEL_JOB_ERROR, .reason = quotas[at].reason, .message = quotas[at].message, .times = 1 + (int)below(3)}, "a quota of jobs");
}

static void wall_up(void)
{
    int64_t now = loop_now_us(odd.sim->loop), ms = (int64_t)(1000 * pow(300, real()));
    note_quota();
    sim_did(odd.sim, DEED_SERVICE, "service", "takes no jobs for %" PRId64 " ms", ms);
    bqmodel_wall(odd.sim->model, (enum bqmodel_wall)(1 + below(3)), now, now + ms * US_PER_MS);
}

/* Statements of the table that others' are in the way of. */
static void crowd(void)
{
    static const struct { const char *reason, *message; } crowds[] = {
        {"resourcesExceeded", "Resources exceeded during query execution: Too many DML statements outstanding against table local:ds.t, limit is 20."},
        {"invalidQuery", "DML statement has been queued for too long"},
        {"quotaExceeded", "Quota exceeded: Your table exceeded quota for total number of DML jobs writing to a table, pending + running."},
        {"invalidQuery", "Could not serialize access to table local:ds.t due to concurrent update"}};
    static const char *const statements[] = {"bqfleet_cut", "bqfleet_direct", "bqfleet_permit_take", "bqfleet_permit_name", "bqfleet_permit_ahead", "bqfleet_permit_renew",
                                             "bqfleet_permit_close", "bqfleet_permit_release"};
    size_t at = below(ARRAY_LEN(crowds)), of = below(ARRAY_LEN(statements));
    int times = of < 2 ? 1 + (int)below(15) : 1 + (int)below(10);
    fault((struct bqmodel_fault){.match = statements[of], .kind = BQMODEL_JOB_ERROR, .reason = crowds[at].reason, .message = crowds[at].message, .times = times}, "a crowd");
}

/* Not of those that a permit guards: who takes a permit over believes that what cannot be seen long after it was inserted is not there. */
static void hide(void)
{
    static const char *const jobs[] = {"bqfleet_load", "bqfleet_permit", "bqfleet_side", "bqfleet_fold"};
    char match[LIMIT_NAME + 32];
    const struct ledger *l = any_run();
    int64_t ms = (int64_t)(300 * pow(400, real())); /* to two minutes */
    bool cut = l != NULL && l->record->permits == 0 && chance(.7);
    snprintf(match, sizeof(match), "%s%s", cut ? "bqfleet_cut_" : jobs[below(ARRAY_LEN(jobs))], cut ? l->record->run : "");
    ms += cut ? 30000 : 0; /* until it is given up looking for, perhaps */
    odd.sim->slowed_ms += ms;
    fault((struct bqmodel_fault){.match = match, .kind = BQMODEL_JOB_UNSEEN, .ms = ms, .times = 1 + (int)below(2)}, "a job that is not seen");
}

/* A proxy's, a portal's, a balancer's: whatever it says, BigQuery has not said it. */
static void put_page(void)
{
    static const char *const pages[] = {"", "<!DOCTYPE html><html><title>Sign in</title></html>", "{}", "[1,2]", "null", "\"ok\"", "{\"status\":\"DONE\",\"rows\":{}}",
                                        "{\"status\":{\"state\":7},\"jobComplete\":\"true\",\"totalRows\":", "{\"error\":null,\"kind\":\"portal\"}", "{\"status\":{\"sta"};
    static const char *const wheres[] = {"/queries/", "/tables", "/jobs", "bqfleet_permit", "bqfleet_cut", "bqfleet_direct", "bqfleet_load", "/data"};
    struct bqmodel_fault f = {.match = wheres[below(ARRAY_LEN(wheres))], .kind = BQMODEL_STATUS, .status = 200, .body = pages[below(ARRAY_LEN(pages))],
                              .executed = chance(.5), .times = 1 + (int)below(3)};
    if (chance(.15))
        f.status = 404;
    fault(f, f.status == 404 ? "somebody else's 404" : "somebody else's page");
}

/* Whoever asks for a job is told of a quota: it does not know then how the job stands. */
static void refuse_reads(void)
{
    static const char *const beside[] = {"bqfleet_side", "bqfleet_fold"}, *const guarded[] = {"bqfleet_cut", "bqfleet_direct"};
    char match[64];
    bool made_ready = (odd.sim->plan.params_at_once > 0 || odd.sim->plan.shards_at_once > 0) && chance(.5);
    note_quota();
    snprintf(match, sizeof(match), "jobs/%s", made_ready ? beside[below(2)] : chance(.5) ? guarded[below(2)] : kinds[below(ARRAY_LEN(kinds))]);
    fault((struct bqmodel_fault){.match = match, .kind = BQMODEL_STATUS, .status = 403, .reason = "quotaExceeded", .message = "Quota exceeded: Your user exceeded quota for something new.",
                                 .times = 1 + (int)below(4)}, "a quota of reads");
}

/* All requests are refused while some wait to be repeated. */
static void refuse_all(void)
{
    note_quota();
    fault((struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 503, .times = 3 + (int)below(5)}, "a bad minute");
    fault((struct bqmodel_fault){.match = "", .kind = BQMODEL_STATUS, .status = 403, .reason = quotas[6].reason, .message = quotas[6].message, .skip = (int)below(3),
                                 .times = 1 + (int)below(8)}, "a quota of requests");
}

static const char *permit_statement(void)
{
    static const char *const all[] = {"bqfleet_permit_take", "bqfleet_permit_name", "bqfleet_permit_name", "bqfleet_permit_ahead", "bqfleet_permit_ahead", "bqfleet_permit_renew",
                                      "bqfleet_permit_renew", "bqfleet_permit_close", "bqfleet_permit_release"};
    return all[below(ARRAY_LEN(all))];
}

/* So that the lease is over before they begin, perhaps. */
static void delay_permits(void)
{
    int64_t ms = 5000 + (int64_t)below(200000);
    odd.sim->slowed_ms += ms;
    fault((struct bqmodel_fault){.match = permit_statement(), .kind = BQMODEL_JOB_PENDING, .ms = ms, .times = 1 + (int)below(2)}, "a permit that is late");
}

/* A table that was just made may not be found for a while. */
static void lose_permits(void)
{
    fault((struct bqmodel_fault){.match = "/tables/bqfleet_permits_", .kind = BQMODEL_STATUS, .status = 404, .reason = "notFound", .message = "Not found: Table of permits",
                                 .times = 1 + (int)below(5)}, "a table that is not found");
}

static void on_answers(void *arg)
{
    (void)arg;
    switch (below(14)) {
    case 0: refuse_requests(); break;
    case 7: case 12: refuse_reads(); break;
    case 8: refuse_all(); break;
    case 9: case 10: delay_permits(); break;
    case 11: lose_permits(); break;
    case 1: fail_jobs(); break;
    case 2: wall_up(); break;
    case 3: crowd(); break;
    case 4: hide(); break;
    case 5: fault((struct bqmodel_fault){.kind = BQMODEL_JOB_BARE, .times = 1 + (int)below(4)}, "an end without figures"); break;
    case 6: fault((struct bqmodel_fault){.match = "/queries/", .kind = BQMODEL_HASTY, .times = 1 + (int)below(20)}, "an answer at once"); break;
    default: put_page();
    }
    again(odd.answers, odd.answer_rate);
}

/* --- what is done for good ------------------------------------------------------------------------------------------------------------------------------- */

static void forbid(struct ledger *l)
{
    static const char *const what[] = {"cut", "cut", "direct", "direct"}, *const beside[] = {"side", "fold"};
    static const struct { const char *reason, *message; } refusals[] = {
        {"accessDenied", "Access Denied: Table local:ds.target: " MARK}, {"notFound", "Not found: Table local:ds.target was not found in location US, " MARK},
        {"invalidQuery", "Required column c2 must have a value; " MARK}, {"billingNotEnabled", "Billing has not been enabled, " MARK},
        {"resourcesExceeded", "Resources exceeded during query execution: " MARK}, {"invalidQuery", MARK ": " LONG LONG LONG LONG LONG LONG LONG LONG LONG}};
    char match[LIMIT_NAME + 32];
    size_t at = below(ARRAY_LEN(refusals));
    bool made_ready = (odd.sim->plan.params_at_once > 0 || odd.sim->plan.shards_at_once > 0) && chance(.6);
    snprintf(match, sizeof(match), "bqfleet_%s_%s_", made_ready ? beside[below(ARRAY_LEN(beside))] : what[below(ARRAY_LEN(what))], l->record->run);
    mark(l, FORBIDDEN);
    if (chance(.4)) { /* nor can it be given up for everyone at once */
        note_quota();
        fault((struct bqmodel_fault){.match = "_t1", .kind = BQMODEL_STATUS, .status = 403, .reason = quotas[5].reason, .message = quotas[5].message}, "a quota of second tries");
    }
    fault((struct bqmodel_fault){.match = match, .kind = BQMODEL_JOB_ERROR, .reason = refusals[at].reason, .message = refusals[at].message, .times = chance(.5) ? 1 : -1}, MARK);
}

static struct ledger *run_of(const char *job_id)
{
    const char *run = strstr(job_id, "run-"), *end = run ? strchr(run, '_') : NULL;
    return end ? check_run(odd.sim->check, run, (size_t)(end - run)) : NULL;
}

/* Somebody cancels a job that is at work. */
static void cancel(bool permits)
{
    struct mjob *j, *found = NULL;
    size_t count = 0;
    TAILQ_FOREACH(j, &odd.sim->model->active, active)
        if ((strncmp(j->id, "bqfleet_permit", 14) == 0) == permits && below(++count) == 0)
            found = j;
    struct ledger *l = found ? run_of(found->id) : NULL;
    if (found == NULL || (l == NULL && !permits))
        return;
    if (l != NULL)
        mark(l, CANCELLED);
    sim_did(odd.sim, DEED_SERVICE, "service", "job %s is cancelled by somebody", found->id);
    model_job_cancel(found);
}

/* Somebody looks what everybody waits for. */
static void on_looks(void *arg)
{
    hand_says(arg);
    again(odd.looks, 1);
}

static void on_harms(void *arg)
{
    (void)arg;
    struct ledger *l = any_run();
    if (chance(.2))
        fault((struct bqmodel_fault){.match = permit_statement(), .kind = BQMODEL_JOB_ERROR, .reason = "stopped", .message = "Job execution was cancelled: User requested cancellation"},
              "a statement of permits that somebody cancels");
    else if (chance(.3))
        cancel(true);
    else if (chance(.2))
        cancel(false);
    else if (l != NULL && ledger_open(l))
        forbid(l);
    again(odd.harms, odd.harm_rate);
}

/* Another program's, or that of a run of the same id long ago. */
void service_odd_requested(struct sim *s, const char *id, size_t id_len, const char *body, size_t len)
{
    static const char label[] = "\"bqfleet_digest\":\"";
    char job_id[1100], digest[65] = "0123456789";
    struct error err = ERROR_INIT;
    snprintf(job_id, sizeof(job_id), "%.*s", (int)id_len, id);
    if (odd.foreign == 0 || s->calm || !chance(odd.foreign) || model_job(s->model, "local", job_id) != NULL)
        return;
    struct ledger *l = run_of(job_id);
    const char *at = memmem(body, len, label, sizeof(label) - 1);
    bool old = chance(.5);
    if (l == NULL || at == NULL)
        return;
    at += sizeof(label) - 1;
    if (old)
        snprintf(digest, sizeof(digest), "%.*s", (int)strcspn(at, "\""), at);
    doc *query = doc_set_bool(doc_set_str(doc_object(), "query", "SELECT ERROR('it is of another program')"), "useLegacySql", false);
    doc *configuration = doc_set(doc_object(), "query", query);
    doc_set(configuration, "labels", doc_set_str(doc_object(), "bqfleet_digest", digest));
    AUTO(doc_free_auto) doc *job = doc_set(doc_object(), "jobReference", doc_set_str(doc_set_str(doc_object(), "projectId", "local"), "jobId", job_id));
    doc_set(job, "configuration", configuration);
    struct mjob *j = model_job_insert(s->model, "local", job, NULL, 0, &err);
    if (j == NULL) /* the wall is up */
        return;
    j->created_ms -= old ? INT64_C(40) * 86400000 : 0;
    mark(l, FOREIGN);
    sim_did(s, DEED_SERVICE, "service", "%s stands there already, %s", job_id, old ? "for 40 days" : "of somebody else");
}

bool service_odd_explains(const struct ledger *l)
{
    static const struct { unsigned what; const char *text; } reasons[] = {
        {FORBIDDEN, MARK}, {CANCELLED, "somebody cancelled the job"}, {FOREIGN, "does something else than was asked for"},
        {FOREIGN, "was created before the run it should belong to"}, {UNPERMITTED, ".bqfleet_permits_"}};
    for (size_t i = 0; i < ARRAY_LEN(reasons) && l->index < RUNS; i++)
        if ((odd.done[l->index] & reasons[i].what) != 0 && strstr(l->why, reasons[i].text) != NULL)
            return true;
    return false;
}

/* --- permits --------------------------------------------------------------------------------------------------------------------------------------------- */

static void on_tampers(void *arg)
{
    struct sim *s = arg;
    bool dropped = false;
    const struct batch_plan *b = &s->plan.batches[below((size_t)s->plan.batch_count)];
    for (int i = 0; i < s->plan.batch_count && b->permits == 0; i++)
        b = &s->plan.batches[i];
    permits_odd_strikes(s, &odd.rnd, b->target, &dropped);
    for (const struct ledger *l = s->check->ledgers; l && dropped; l = l->next) /* a statement that a permit of the old table was for does not find it */
        if (strcmp(l->batch->target, b->target) == 0)
            mark(l, UNPERMITTED);
    again(odd.tampers, odd.tamper_rate);
}

static void on_refusals(void *arg)
{
    struct sim *s = arg;
    struct proc *all[] = {&s->workers[below((size_t)s->plan.workers)], &s->coordinators[below((size_t)s->plan.coordinators)],
                          s->submitter_count > 0 ? &s->submitters[below((size_t)s->submitter_count)] : NULL};
    struct proc *p = all[below(ARRAY_LEN(all))];
    int64_t ms = (int64_t)(200 * pow(900, real())); /* to three minutes */
    again(odd.refusals, odd.refusal_rate);
    if (p == NULL || !proc_lives(p) || p->paused || p->again_us != 0)
        return;
    unsigned way = (below(2) ? CUT_UNKNOWN : CUT_DENIED) | (p->kind != PROC_WORKER && below(2) ? CUT_TABLES : CUT_PERMITS);
    sim_did(s, DEED_REFUSE, p->name, "may not change %s (%u) for %" PRId64 " ms", (way & CUT_TABLES) != 0 ? "what tables there are" : "permits", way, ms);
    proc_cut(p, way, ms);
}

/* As the commands do: what is held is given back, for three seconds at most, when nothing else is at work any more. */
bool service_odd_gave_back(struct proc *p)
{
    if (!odd.polite)
        return true;
    if (p->left_us == 0) {
        p->left_us = loop_now_us(p->sim->loop);
        submit_free(p->submit);
        redriving_free(p->redriving);
        coordinator_free(p->coordinator);
        p->submit = NULL;
        p->redriving = NULL;
        p->coordinator = NULL;
        p->track = NULL;
    }
    return permits_set_given_back(p->permits) || loop_now_us(p->sim->loop) - p->left_us > 3 * US_PER_S;
}

/* --- life -------------------------------------------------------------------------------------------------------------------------------------------------- */

void service_odd_record(struct record *r)
{
    if (odd.labels && r->spec == NULL)
        r->spec = doc_set(doc_object(), "write", doc_set(doc_object(), "labels", doc_set_str(doc_object(), "team", "players")));
    if (odd.capped)
        r->max_bytes_billed = INT64_C(1) << 50;
    if (odd.located)
        snprintf(r->location, sizeof(r->location), "US");
}

static struct timer *armed(struct sim *s, void (*fn)(void *), double rate)
{
    struct timer *t = rate > 0 ? timer_new(s->loop, fn, s) : NULL;
    if (t != NULL)
        again(t, rate);
    return t;
}

void service_odd_open(struct sim *s)
{
    memset(&odd, 0, sizeof(odd));
    odd.sim = s;
    rnd_seeded(&odd.rnd, s->plan.seed ^ UINT64_C(0xd6e8feb86659fd93));
    if (s->plan.quiet || s->plan.seed % 4 != 3)
        return;
    odd.answer_rate = chance(.6) ? .02 + .3 * real() * real() : 0;
    odd.tamper_rate = chance(.5) ? .05 + .5 * real() : 0;
    odd.harm_rate = chance(.35) ? .01 + .1 * real() * real() : 0;
    odd.refusal_rate = chance(.5) ? .01 + .15 * real() * real() : 0;
    odd.foreign = chance(.12) ? .1 * real() : 0;
    odd.labels = chance(.3);
    odd.capped = chance(.3);
    odd.located = chance(.3);
    odd.polite = chance(.6);
    bqmodel_options(s->model)->dateless = chance(.2);
    bqmodel_options(s->model)->float_timestamps = chance(.2);
    odd.answers = armed(s, on_answers, odd.answer_rate);
    odd.tampers = armed(s, on_tampers, odd.tamper_rate);
    odd.harms = armed(s, on_harms, odd.harm_rate);
    odd.refusals = armed(s, on_refusals, odd.refusal_rate);
    odd.looks = armed(s, on_looks, chance(.4) ? 1 : 0);
}

void service_odd_calm(void)
{
    struct timer **all[] = {&odd.answers, &odd.tampers, &odd.harms, &odd.refusals, &odd.looks};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        timer_free(*all[i]);
        *all[i] = NULL;
    }
    if (odd.sim != NULL)
        bqmodel_wall(odd.sim->model, BQMODEL_WALL_JOBS, 0, 0);
}

void service_odd_close(void)
{
    service_odd_calm();
    odd.sim = NULL;
}
