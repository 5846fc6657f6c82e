#include "tests/sim/check_rows.h"

#include <math.h>

#include "tests/sim/dice.h"

/*
 * What people and BigQuery do to targets while runs write: a view's description is changed, which changes its etag; requests about views fail, or are answered late;
 * a coordinator is killed or stopped just when it has asked for a view's change, or has its credentials refused there; a table gets one more column; and a view is
 * dropped, or another table takes its name, of which the README says that a run that is to show rows fails. In seeds with seed % 4 == 1, by dice of its own.
 */
static struct tamper { struct sim *sim; struct rnd rnd; struct timer *timer; double rate, ambush; bool drops, columns; } tamper;

static double real(void)
{
    return rnd_real(&tamper.rnd);
}

static size_t below(size_t n)
{
    return (size_t)rnd_below(&tamper.rnd, n);
}

static const struct batch_plan *any_target(bool shown)
{
    const struct sim *s = tamper.sim;
    const struct batch_plan *found = NULL;
    size_t count = 0;
    for (int i = 0; i < s->plan.batch_count; i++) {
        const struct batch_plan *b = &s->plan.batches[i];
        if (b->mode != WRITE_NONE && way_shows(b) == shown && !check_target_gone(s->check, b->target) && below(++count) == 0)
            found = b;
    }
    return found;
}

static void touch(const struct batch_plan *b)
{
    struct bq_ref ref = model_ref(tamper.sim->model, b->target);
    struct mtable *t = model_table(tamper.sim->model, &ref);
    sim_did(tamper.sim, DEED_TAMPER, "somebody", "describes %s anew", b->target);
    doc_set_str(t->body, "description", "What people ask for.");
    t->version++;
}

static void trouble(void)
{
    static const struct bqmodel_fault kinds[] = {
        {.match = "PATCH", .kind = BQMODEL_LOSE_REPLY}, {.match = "PATCH", .kind = BQMODEL_STATUS, .status = 503, .executed = true},
        {.match = "PATCH", .kind = BQMODEL_DELAY, .ms = 100000}, {.match = "PATCH", .kind = BQMODEL_STATUS, .status = 500, .times = 8},
        {.match = "PATCH", .kind = BQMODEL_DROP_BEFORE, .times = 2}, {.match = "/tables/target_", .kind = BQMODEL_LOSE_REPLY, .times = 2},
        {.match = "/tables/target_", .kind = BQMODEL_DELAY, .ms = 50000}, {.match = "GET /bigquery/v2/projects/local/datasets", .kind = BQMODEL_DELAY, .ms = 90000},
        {.match = "GET /bigquery/v2/projects/local/datasets", .kind = BQMODEL_STATUS, .status = 500, .times = 6},
        {.match = "POST /bigquery/v2/projects/local/datasets", .kind = BQMODEL_STATUS, .status = 503, .times = 8},
        {.match = "PATCH", .kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied", .message = "Access Denied: the simulation says so"},
        {.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/target_", .kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied", .message = "Access Denied: the simulation says so"},
        {.match = "bqfleet_end", .kind = BQMODEL_JOB_SLOW, .ms = 90000}, {.match = "bqfleet_end", .kind = BQMODEL_LOSE_REPLY, .times = 2},
        {.match = "bqfleet_end", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."},
        {.match = "DELETE", .kind = BQMODEL_STATUS, .status = 500, .times = 6}};
    struct sim *s = tamper.sim;
    const struct bqmodel_fault *f = &kinds[below(ARRAY_LEN(kinds))];
    s->slowed_ms += f->kind == BQMODEL_JOB_SLOW ? f->ms : 0;
    sim_did(s, DEED_SERVICE, "service", "fault %d for %s, status %d, %d times, %" PRId64 " ms", f->kind, f->match, f->status, f->times, f->ms);
    bqmodel_fault(s->model, f);
}

/* Who wants rows of its runs has lost them with it; the table behind it stays. */
static void drop_view(const struct batch_plan *b)
{
    struct sim *s = tamper.sim;
    bool replaces = below(3) == 0;
    tamper.drops = false;
    check_gone(s->check, b->target);
    sim_did(s, DEED_TAMPER, "somebody", "drops %s%s", b->target, replaces ? ", and makes a table of that name" : "");
    bqmodel_drop_table(s->model, b->target);
    if (replaces)
        bqmodel_add_table(s->model, b->target, "a:STRING");
}

static void add_column(const struct batch_plan *b)
{
    static int number;
    char name[16];
    snprintf(name, sizeof(name), "x%d", ++number);
    if (bqmodel_add_column(tamper.sim->model, b->target, name, "STRING"))
        sim_did(tamper.sim, DEED_TAMPER, "somebody", "adds column %s to %s", name, b->target);
}

static void again(void)
{
    dice_again(tamper.timer, &tamper.rnd, tamper.rate);
}

static void on_time(void *arg)
{
    const struct batch_plan *b = any_target(true), *table = any_target(false);
    size_t what = below(20);
    (void)arg;
    if (b != NULL && what < 8)
        touch(b);
    else if (b != NULL && what < 15)
        trouble();
    else if (b != NULL && what == 15 && tamper.drops)
        drop_view(b);
    else if (table != NULL && tamper.columns)
        add_column(table);
    again();
}

/* Its credentials are not taken just now. A worker's would end its run, as they must. */
static void refuse(struct proc *p)
{
    int64_t ms = (int64_t)(200 * pow(600, real())); /* to two minutes */
    unsigned way = below(2) ? CUT_UNKNOWN : CUT_DENIED;
    if (p->kind == PROC_WORKER || p->paused || p->again_us != 0)
        return;
    sim_did(tamper.sim, DEED_REFUSE, p->name, "has its credentials refused (%u) for %" PRId64 " ms", way, ms);
    proc_cut(p, way, ms);
}

/* Between two things that belong together: what a step in the middle of a view's change finds, or its next process. */
static void strike(struct proc *p, bool compacts)
{
    const struct batch_plan *b = any_target(true);
    size_t what = below(8);
    if (compacts && tamper.drops && b != NULL)
        drop_view(b);
    else if (what < 5)
        chaos_ambush(p, 400 * US_PER_MS);
    else if (what < 6)
        chaos_ambush(p, 4 * US_PER_S);
    else
        refuse(p);
}

void tamper_asked(struct proc *p, const struct http_request *r)
{
    static const char view[] = "/tables/target_";
    struct sim *s = p->sim;
    if (tamper.sim == NULL || s->calm || p->sleeper == NULL)
        return;
    const char *body = r->body_count > 0 ? r->body->data : NULL, *into = body ? memmem(body, r->body->len, "INSERT INTO", 11) : NULL;
    bool compacts = into != NULL && memmem(into, size_min(r->body->len - (size_t)(into - body), 100), "_bqfleet_", 9) != NULL;
    bool change = strstr(r->url, view) != NULL || (strcmp(r->method, "POST") == 0 && strstr(r->url, "/tables?") != NULL);
    if ((change || compacts) && real() < (compacts && tamper.drops ? .5 : tamper.ambush))
        strike(p, compacts);
}

/* Longer than anybody goes on asking at once. */
static void begin_outage(void)
{
    static const char *const matches[] = {"PATCH", "/tables/target_", "bqfleet_cut", "bqfleet_end"};
    bqmodel_fault(tamper.sim->model, &(struct bqmodel_fault){.match = matches[below(ARRAY_LEN(matches))], .kind = BQMODEL_STATUS, .status = 503,
                                                            .skip = (int)below(8), .times = 70});
}

void tamper_open(struct sim *s)
{
    memset(&tamper, 0, sizeof(tamper));
    if (s->plan.seed % 4 != 1 || s->plan.quiet)
        return;
    tamper.sim = s;
    rnd_seeded(&tamper.rnd, s->plan.seed ^ UINT64_C(0x9fb21c651e98df25));
    double rate = real(), ambush = real(), drops = real(), columns = real();
    tamper.rate = rate < .7 ? .01 + .3 * rate * rate : 0;
    tamper.ambush = ambush < .6 ? .7 * ambush : 0;
    tamper.drops = drops < .15;
    tamper.columns = columns < .5;
    tamper.timer = timer_new(s->loop, on_time, s);
    if (tamper.rate > 0)
        again();
    if (s->plan.calm_ms > WAYS_LONG_MS)
        begin_outage();
}

void tamper_calm(void)
{
    timer_free(tamper.timer);
    tamper.timer = NULL;
}
