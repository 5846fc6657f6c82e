#include "tests/sim/check.h"

#include "tests/sim/hand.h"
#include "tests/sim/service_odd.h"
#include "tests/sim/toil.h"
#include "tests/sim/ways.h"

/* One fleet, from its first process to the last check. */

#define WALL_AT_START_US (INT64_C(1767225600) * US_PER_S)
#define TICK_US US_PER_S
#define STEERED_EVERY 30 /* ticks after the calm: whoever waits for a decision gets it */

static void on_created(void *arg, const struct error *err)
{
    assert(err == NULL);
    (*(int *)arg)--;
}

static bool is_zero(void *arg)
{
    return *(int *)arg == 0;
}

/* Those from the first to the last of them. */
static void make_some(struct sim *s, size_t first, size_t last)
{
    const struct { const char *name; int32_t partitions; bool compact; } topics[] = {
        {SIM_PREFIX "work." SIM_QUEUE, s->plan.partitions, false}, {SIM_PREFIX "results", SIM_LOGS, false}, {SIM_PREFIX "dead", SIM_LOGS, false},
        {SIM_PREFIX "batches", 1, true}, {SIM_PREFIX "workers", 1, true}};
    int left = (int)(last - first) + 1;
    for (size_t i = first; i <= last; i++) {
        struct bus_topic t = {.name = topics[i].name, .partitions = topics[i].partitions, .replication = 1, .compact = topics[i].compact, .retention_ms = -1};
        bus_topic_create(s->bus, &t, on_created, &left);
    }
    loop_until(s->loop, is_zero, &left, US_PER_S);
}

static void make_work(struct sim *s)
{
    make_some(s, 0, 0);
}

static void make_topics(struct sim *s)
{
    make_some(s, s->toil.late_topic ? 1 : 0, 4);
}

static void make_service(struct sim *s)
{
    const struct plan *p = &s->plan;
    struct bqmodel_options o = {.latency_ms = p->latency_ms, .pending_ms = p->pending_ms, .load_ms = p->load_ms, .dml_ms = p->dml_ms, .rnd = &s->net,
                                .endless_jobs = p->endless};
    if (p->limits)
        bqmodel_documented_limits(&o);
    rnd_seeded(&s->chaos, p->seed ^ UINT64_C(0x2545f4914f6cdd1d));
    if (p->chaos_per_mille > 0)
        bqmodel_chaos_all(&o.chaos, &s->chaos, p->chaos_per_mille);
    s->model = bqmodel_new(s->loop, &o);
}

static void open_world(struct sim *s, uint64_t seed, struct report *report)
{
    s->report = report;
    plan_draw(&s->plan, seed);
    ways_draw(&s->plan);
    odd_draw(&s->odd, &s->plan);
    erosion_draw(&s->odd, &s->plan);
    looker_draw(&s->odd, &s->plan);
    toil_draw(&s->toil, &s->plan);
    rnd_seeded(&s->dice, seed ^ UINT64_C(0x5deece66d));
    rnd_seeded(&s->net, seed ^ UINT64_C(0xda942042e4dd58b5));
    rnd_seeded(&s->views, seed ^ UINT64_C(0x2127599bf4325c37));
    s->loop = loop_new_virtual(WALL_AT_START_US);
    s->began_us = loop_now_us(s->loop);
    s->bus = bus_memory(s->loop, &(struct bus_memory_options){.delay_us = 200, .most_partitions = SIM_PARTITIONS});
    make_service(s);
    s->auth = auth_anonymous();
    ways_make_targets(s);
    make_topics(s);
    check_open(s);
    hand_open(s);
    stranger_open(s);
    service_odd_open(s);
    tamper_open(s);
    erosion_open(s);
    looker_open(s);
    leaver_open(s);
    poison_open(s);
    meddler_open(s);
    report->seed = seed;
    report->workers = s->plan.workers;
}

static void sleep_ms(struct sim *s, int64_t ms)
{
    int64_t until = loop_now_us(s->loop) + ms * US_PER_MS;
    while (loop_now_us(s->loop) < until)
        loop_step(s->loop, until - loop_now_us(s->loop));
}

static void each_proc(struct sim *s, void (*fn)(struct proc *))
{
    for (int i = 0; i < s->plan.workers; i++)
        fn(&s->workers[i]);
    for (int i = 0; i < s->plan.coordinators; i++)
        fn(&s->coordinators[i]);
    for (int i = 0; i < s->submitter_count; i++)
        fn(&s->submitters[i]);
}

static void feel_broker(struct proc *p)
{
    if (proc_lives(p) && p->again_us == 0)
        sleeper_cut(p->sleeper, p->sim->broker_away ? CUT_BUS : 0);
}

void world_broker(struct sim *s, int64_t ms)
{
    bool was = s->broker_away;
    s->broker_away = ms > 0;
    s->broker_back_us = loop_now_us(s->loop) + ms * US_PER_MS;
    if (!was && s->broker_away)
        each_proc(s, poison_harm);
    if (was != s->broker_away)
        each_proc(s, feel_broker);
}

static void kill_living(struct proc *p)
{
    if (proc_lives(p))
        proc_kill(p);
}

static void close_world(struct sim *s)
{
    chaos_stop(s);
    stranger_close(s);
    service_odd_close();
    leaver_close();
    meddler_close();
    erosion_close();
    looker_close(s);
    each_proc(s, kill_living);
    poison_close();
    hand_close(s);
    sleep_ms(s, 900000); /* what was sent is answered */
    for (size_t i = 0; i < s->past_count; i++)
        sleeper_free(s->past[i]);
    free(s->past);
    check_close(s);
    bus_free(s->bus);
    auth_free(s->auth);
    bqmodel_forgive(s->model);
    bqmodel_free(s->model);
    loop_free(s->loop);
    free(s->handlers.v);
}

/* --- its course ------------------------------------------------------------------------------------------------------------------------------------- */

/* After the calm: an hour, for what waits longest (an abandoned submission, backoffs, leases, a job that was lost sight of), what jobs were slowed down for, and all the work there is
 * done one item after the other. */
static int64_t bound_ms(const struct sim *s)
{
    int64_t ms = 3600000 + s->slowed_ms;
    for (int i = 0; i < s->plan.batch_count; i++) {
        const struct batch_plan *b = &s->plan.batches[i];
        ms += s->plan.limits || s->toil.paced || b->items > 200 ? b->items * 60000 : 0; /* a load a minute is what BigQuery takes in a day, and workers keep to that */
        ms += b->deadly * 1800000; /* each death is waited for, and each suspect runs alone */
        ms += b->items * b->work_ms + (int64_t)((double)b->items * b->trouble * (double)(b->timeout_ms * b->attempts)) + b->every_ms * 10;
    }
    return ms;
}

static bool gone(const struct sim *s)
{
    for (int i = 0; i < s->submitter_count; i++)
        if (proc_lives(&s->submitters[i]))
            return false;
    return true;
}

static void start_all(struct sim *s)
{
    if (s->toil.late_topic)
        leaver_start_early(s, make_work);
    for (int i = 0; i < s->plan.coordinators; i++)
        proc_coordinator(s, i);
    for (int i = 0; i < s->plan.workers; i++)
        proc_worker(s, i);
}

static void submit_due(struct sim *s, bool *submitted)
{
    for (int i = 0; i < s->plan.batch_count; i++)
        if (!submitted[i] && sim_ms(s) >= s->plan.batches[i].start_ms) {
            submitted[i] = true;
            chaos_submits(s, proc_submit(s, &s->plan.batches[i], NULL, false));
        }
}

static void until_the_end(struct sim *s)
{
    bool submitted[SIM_BATCHES] = {false};
    char what[512] = "a submitter";
    int64_t calm_at = 0;
    for (int ticks = 0;; ticks++) {
        submit_due(s, submitted);
        if (s->broker_away && loop_now_us(s->loop) >= s->broker_back_us)
            world_broker(s, 0);
        leaver_tick(s);
        each_proc(s, proc_tick);
        check_tick(s);
        check_view_tick(s);
        if (!s->calm && sim_ms(s) >= s->plan.calm_ms) {
            chaos_calm(s);
            calm_at = sim_ms(s);
        }
        if (s->calm && ticks % STEERED_EVERY == 0) {
            hand_decides(s);
            erosion_after();
        }
        if (s->calm && check_settled(s->check, what, sizeof(what)) && gone(s))
            break;
        if (s->calm && sim_ms(s) > calm_at + bound_ms(s))
            sim_violated(s, INV_PROGRESS, "%" PRId64 " s after the last fault there is still %s; %s", (sim_ms(s) - calm_at) / 1000, what, hand_says(s));
        sleep_ms(s, TICK_US / US_PER_MS);
    }
    s->report->wait_ms = sim_ms(s) - calm_at;
    trace("world", "all is settled %" PRId64 " ms after the calm", s->report->wait_ms);
}

static void tell(struct sim *s)
{
    const struct bqmodel_counters *c = bqmodel_counters(s->model);
    s->report->statements = c->queries;
    s->report->loads = c->loads;
    s->report->requests = c->requests;
    s->report->faults = c->faults;
    for (int i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        s->report->chaos[i] = c->chaos[i];
    s->report->virtual_ms = sim_ms(s);
    s->report->commits = s->check->commits;
}

void sim_run(uint64_t seed, struct report *report)
{
    struct sim *s = xcalloc(1, sizeof(*s));
    if (trace_on())
        trace_to(s, stdout);
    open_world(s, seed, report);
    if (trace_on()) {
        struct buf text = BUF_INIT(1 << 16);
        plan_text(&s->plan, &text);
        ways_text(&s->plan, &text);
        toil_text(&s->toil, &text);
        trace("plan", "%s", text.data);
        trace("plan", "strange words %.3f, refused credentials %.3f /s%s%s", s->odd.words, s->odd.refusals, s->odd.plain_coordinators ? ", coordinators without BigQuery" : "",
              s->odd.plain_submitters ? ", submitters without BigQuery" : "");
        buf_free(&text);
    }
    start_all(s);
    chaos_start(s);
    until_the_end(s);
    sleep_ms(s, 20000);
    tell(s);
    check_end(s);
    close_world(s);
    free(s);
}
