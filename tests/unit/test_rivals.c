#include "tests/unit/support_coord.h"

#include "common/bq/permits_set.h"
#include "tests/sim/sleeper.h"
#include "tests/unit/support_tables.h"

/*
 * Schedules drawn at random, of two or three coordinators at one run: they are stopped for minutes, killed and replaced, replies are lost, jobs fail or take long,
 * cuts, cancel and accept come at any moment. Whatever happens, at the end the target holds just the rows that the log says, each cut has had one effect,
 * all say the same of the run, and no staging is left.
 */

#define RIVALS 3
#define ITEMS 60

static struct rnd dice;

static int64_t up_to(int64_t n)
{
    return (int64_t)rnd_below(&dice, (uint64_t)n);
}

static bool one_in(int64_t n)
{
    return up_to(n) == 0;
}

/* --- a process that can be stopped -------------------------------------------------------------------------------------------------------------- */

struct rival {
    struct sleeper *sleeper; /* NULL: it does not live */
    struct world world;
    struct metrics metrics;
    struct rnd rnd;
    struct permits_set *permits; /* who holds one may be stopped or killed with it */
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct track *track;
};

struct theatre {
    struct stage *stage;
    struct record *record;
    struct rival rivals[RIVALS];
    struct sleeper *past[64]; int past_count;
    size_t shards_at_once, params_at_once; /* 0: as many as there are */
    bool talks;              /* its submitter is alive until it has sealed */
    bool sealed;
    bool hopeless;           /* enough jobs may fail for a cut to be given up */
    bool shown;              /* its rows are shown by a view (write.via worker-tables) */
    struct { int64_t first, count; } made[4096]; /* loads, by the number of their shard */
    int64_t next_fresh;      /* items below it were loaded at least once */
    uint64_t seed, looked;
};

static void look_at_the_view(struct theatre *h);

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    (void)arg, (void)t, (void)err; /* it goes on trying */
}

static void rival_start(struct theatre *h, struct rival *v, enum track_role role)
{
    static const struct coordinator_events events = {.trouble = on_trouble};
    struct stage *s = h->stage;
    struct error err = ERROR_INIT;
    *v = (struct rival){.sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &dice)};
    rnd_seeded(&v->rnd, rnd_u64(&dice));
    struct loop *loop = sleeper_loop(v->sleeper);
    struct bq *bq = bq_new(&(struct bq_options){.loop = loop, .http = sleeper_http(v->sleeper), .auth = s->auth, .rnd = &v->rnd,
                                                .base_url = "http://model", .project = "local"});
    v->world = (struct world){.loop = loop, .rnd = &v->rnd, .bus = sleeper_bus(v->sleeper), .bq = bq, .metrics = &v->metrics, .prefix = s->world.prefix};
    v->world.permits = v->permits = permits_set_new(bq, &v->rnd, "rival", 0);
    v->outbox = outbox_new(&v->world, "rival");
    struct coordinator_options o = {.world = &v->world, .outbox = v->outbox, .shards_at_once = h->shards_at_once, .params_at_once = h->params_at_once};
    v->coordinator = coordinator_start(&o, &events, v, &err);
    assert_non_null(v->coordinator);
    v->track = coordinator_track(v->coordinator, h->record, role, &err);
    assert_non_null(v->track);
}

static void rival_kill(struct theatre *h, struct rival *v)
{
    sleeper_kill(v->sleeper);
    coordinator_free(v->coordinator);
    outbox_stop(v->outbox);
    outbox_free(v->outbox);
    permits_set_free(v->permits);
    bq_free(v->world.bq);
    assert_true(h->past_count < (int)ARRAY_LEN(h->past));
    h->past[h->past_count++] = v->sleeper;
    *v = (struct rival){.sleeper = NULL};
}

/* --- what happens ---------------------------------------------------------------------------------------------------------------------------------- */

static void load_some(struct theatre *h)
{
    int64_t first = h->next_fresh, count = 1 + up_to(6);
    if (h->next_fresh > 0 && one_in(3)) /* again, by somebody who came late */
        first = up_to(h->next_fresh);
    count = i64_min(count, ITEMS - first);
    if (count <= 0)
        return;
    int number = h->stage->shards;
    h->made[number].first = first;
    h->made[number].count = count;
    stage_load(h->stage, h->record, first, count, number);
    h->next_fresh = i64_max(h->next_fresh, first + count);
}

static void seal(struct theatre *h)
{
    if (h->sealed)
        return;
    h->sealed = true;
    stage_seal(h->stage, h->record, ITEMS);
}

static void publish_rest(struct theatre *h)
{
    while (h->next_fresh < ITEMS)
        load_some(h);
    seal(h);
}

static void say_something(struct theatre *h)
{
    static const enum log_type types[] = {LOGM_CANCEL, LOGM_ACCEPT, LOGM_ALIVE, LOGM_PAUSE, LOGM_RESUME, LOGM_CUT, LOGM_FATAL};
    enum log_type type = types[up_to(ARRAY_LEN(types))];
    if ((type == LOGM_CANCEL || type == LOGM_FATAL) && !one_in(6))
        return;
    stage_say(h->stage, h->record, (struct log_msg){.type = type, .text = "said", .cut = up_to(4)});
}

static void trouble(struct theatre *h)
{
    static const struct bqmodel_fault kinds[] = {
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_SLOW, .ms = 20000}, {.match = "bqfleet_cut", .kind = BQMODEL_JOB_SLOW, .ms = 200000},
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_PENDING, .ms = 50000}, {.match = "", .kind = BQMODEL_LOSE_REPLY, .times = 2},
        {.match = "bqfleet_cut", .kind = BQMODEL_LOSE_REPLY}, {.match = "", .kind = BQMODEL_DROP_BEFORE, .times = 3},
        {.match = "bqfleet_cut", .kind = BQMODEL_STATUS, .status = 503, .executed = true}, {.match = "", .kind = BQMODEL_STATUS, .status = 500, .times = 4},
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."},
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 3},
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 12},
        {.match = "bqfleet_cut", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .message = "No matching signature"},
        {.match = "POST /bigquery/v2/projects/local/jobs", .kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied", .message = "not you"},
        {.match = "bqfleet_cut", .kind = BQMODEL_DELAY, .ms = 40000}, {.match = "/tables?", .kind = BQMODEL_DELAY, .ms = 40000},
        {.match = "bqfleet_side", .kind = BQMODEL_JOB_SLOW, .ms = 60000}, {.match = "bqfleet_fold", .kind = BQMODEL_JOB_SLOW, .ms = 60000},
        {.match = "bqfleet_permit", .kind = BQMODEL_LOSE_REPLY, .times = 2}, {.match = "bqfleet_permit", .kind = BQMODEL_JOB_PENDING, .ms = 70000},
        {.match = "bqfleet_permit", .kind = BQMODEL_DROP_BEFORE, .times = 4}, {.match = "bqfleet_permit", .kind = BQMODEL_JOB_SLOW, .ms = 30000},
        {.match = "bqfleet_permit", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."},
        {.match = "bqfleet_fold", .kind = BQMODEL_LOSE_REPLY}, {.match = "bqfleet_side", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."},
        {.match = "bqfleet_fold", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 2}};
    static const struct bqmodel_fault of_views[] = {
        {.match = "/tables/t", .kind = BQMODEL_LOSE_REPLY, .times = 2}, {.match = "/tables/t", .kind = BQMODEL_DELAY, .ms = 50000},
        {.match = "PATCH", .kind = BQMODEL_LOSE_REPLY}, {.match = "PATCH", .kind = BQMODEL_STATUS, .status = 503, .executed = true},
        {.match = "PATCH", .kind = BQMODEL_DELAY, .ms = 100000}, {.match = "PATCH", .kind = BQMODEL_STATUS, .status = 500, .times = 8},
        {.match = "GET /bigquery/v2/projects/local/datasets", .kind = BQMODEL_DELAY, .ms = 90000}, {.match = "bqfleet_end", .kind = BQMODEL_JOB_SLOW, .ms = 90000},
        {.match = "bqfleet_end", .kind = BQMODEL_LOSE_REPLY, .times = 2}, {.match = "DELETE", .kind = BQMODEL_STATUS, .status = 500, .times = 6}};
    bool view = h->shown && one_in(2);
    const struct bqmodel_fault *f = view ? &of_views[up_to(ARRAY_LEN(of_views))] : &kinds[up_to(ARRAY_LEN(kinds))];
    h->hopeless = h->hopeless || f->kind == BQMODEL_JOB_ERROR;
    bqmodel_fault(h->stage->model, f);
}

static void upset(struct theatre *h)
{
    struct rival *v = &h->rivals[up_to(RIVALS)];
    if (v->sleeper == NULL)
        rival_start(h, v, one_in(2) ? TRACK_FIRST : TRACK_SECOND);
    else if (sleeper_stopped(v->sleeper) && !one_in(4))
        sleeper_go_on(v->sleeper);
    else if (one_in(3) && h->past_count < (int)ARRAY_LEN(h->past) - RIVALS)
        rival_kill(h, v);
    else
        sleeper_stop(v->sleeper);
}

static void step(struct theatre *h)
{
    if (h->talks && !h->sealed)
        stage_say(h->stage, h->record, (struct log_msg){.type = LOGM_ALIVE});
    switch (up_to(8)) {
    case 0: case 1: load_some(h); break;
    case 2: trouble(h); break;
    case 3: case 4: upset(h); break;
    case 5: say_something(h); break;
    case 6:
        if (one_in(12))
            stage_fail(h->stage, h->record, up_to(ITEMS));
        break;
    default:
        if (one_in(6))
            publish_rest(h);
    }
    static const int64_t sleeps_ms[] = {0, 1, 5, 20, 100, 1000, 10000, 40000, 200000};
    stage_sleep(h->stage, up_to(1 + sleeps_ms[up_to(ARRAY_LEN(sleeps_ms))]));
    if (h->shown)
        look_at_the_view(h);
}

/* --- what must be true ----------------------------------------------------------------------------------------------------------------------------- */

/* A row is an item and the load that brought it, which is its v. */
struct pair { int64_t item, load; };
struct pairs { struct pair v[4096]; size_t count; };

static int by_pair(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return x->item != y->item ? (x->item < y->item ? -1 : 1) : x->load < y->load ? -1 : x->load > y->load;
}

static void add(struct pairs *p, int64_t item, int64_t load)
{
    assert_true(p->count < ARRAY_LEN(p->v));
    p->v[p->count++] = (struct pair){item, load};
}

static bool excluded(const struct fold *f, const struct fold_load *l, int64_t item)
{
    for (size_t x = 0; x < l->exclusion_count; x++)
        if (f->exclusions[l->first_exclusion + x].item == item)
            return true;
    return false;
}

static void rows_of_the_log(const struct theatre *h, const struct fold *f, struct pairs *out)
{
    out->count = 0;
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        int64_t number = strtol(l->id + strlen("shard"), NULL, 10);
        if (l->cut < 0 || f->cuts[l->cut].state != CUT_DONE)
            continue;
        for (int64_t item = h->made[number].first; item < h->made[number].first + h->made[number].count; item++)
            if (!excluded(f, l, item))
                add(out, item, number);
    }
    qsort(out->v, out->count, sizeof(out->v[0]), by_pair);
}

static void rows_of_the_target(struct stage *s, struct pairs *out)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    out->count = 0;
    for (size_t i = 0; i < doc_len(rows); i++)
        add(out, strtol(doc_str(doc_at(rows, i), "k", "k-1") + 1, NULL, 10), doc_int(doc_at(rows, i), "v", -1));
    qsort(out->v, out->count, sizeof(out->v[0]), by_pair);
}

/* Jobs of that cut that ended well. */
static int effects_of(struct stage *s, const char *run, int64_t cut)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(s->model);
    char begin[JOB_BASE_SIZE];
    int n = 0;
    snprintf(begin, sizeof(begin), "bqfleet_cut_%s_%" PRId64 "_t", run, cut);
    for (size_t i = 0; i < doc_len(jobs); i++) {
        const doc *job = doc_at(jobs, i);
        n += strncmp(doc_str(job, "jobReference.jobId", ""), begin, strlen(begin)) == 0 && doc_get(job, "status.errorResult") == NULL;
    }
    return n;
}

/* At any time: no item twice, and what was there once stays. */
static void look_at_the_view(struct theatre *h)
{
    static struct pairs before, now;
    rows_of_the_target(h->stage, &now);
    for (size_t i = 1; i < now.count; i++)
        if (now.v[i].item == now.v[i - 1].item)
            fail_msg("seed %" PRIu64 ": the view shows item %" PRId64 " twice", h->seed, now.v[i].item);
    if (h->seed != h->looked)
        before.count = 0;
    for (size_t i = 0, k = 0; i < before.count; i++) {
        while (k < now.count && by_pair(&now.v[k], &before.v[i]) < 0)
            k++;
        if (k == now.count || by_pair(&now.v[k], &before.v[i]) != 0)
            fail_msg("seed %" PRIu64 ": item %" PRId64 " of load %" PRId64 " was in the view and is not any more", h->seed, before.v[i].item, before.v[i].load);
    }
    h->looked = h->seed;
    before = now;
}

static void check_all(struct theatre *h)
{
    static struct pairs want, have;
    struct stage *s = h->stage;
    const struct fold *f = track_fold(h->rivals[0].track);
    char first[65], other[65];
    fold_digest(f, first);
    for (int i = 1; i < RIVALS; i++) {
        if (h->rivals[i].sleeper == NULL)
            continue;
        fold_digest(track_fold(h->rivals[i].track), other);
        if (strcmp(first, other) != 0)
            fail_msg("seed %" PRIu64 ": two coordinators differ", h->seed);
    }
    rows_of_the_log(h, f, &want);
    rows_of_the_target(s, &have);
    if (want.count != have.count || memcmp(want.v, have.v, want.count * sizeof(want.v[0])) != 0)
        fail_msg("seed %" PRIu64 ": %zu rows in the target, %zu by the log", h->seed, have.count, want.count);
    for (size_t i = 0; i < f->cut_count; i++) {
        int n = effects_of(s, h->record->run, f->cuts[i].number);
        if (f->cuts[i].state != CUT_DONE && !h->hopeless)
            fail_msg("seed %" PRIu64 ": cut %" PRId64 " was not written: %s", h->seed, f->cuts[i].number, f->end_text);
        if (n != (f->cuts[i].state == CUT_DONE && f->cuts[i].loads > 0) && !(n <= 1 && f->cuts[i].loads == 0))
            fail_msg("seed %" PRIu64 ": cut %" PRId64 " (state %d) had %d effects", h->seed, f->cuts[i].number, f->cuts[i].state, n);
    }
    if (h->shown)
        look_at_the_view(h);
    if (h->shown && stage_tables(s, "t_bqfleet_") != 1)
        fail_msg("seed %" PRIu64 ": %d tables are behind the view", h->seed, stage_tables(s, "t_bqfleet_"));
    if (stage_tables(s, "bqf_") != 0)
        fail_msg("seed %" PRIu64 ": %d staging tables are left", h->seed, stage_tables(s, "bqf_"));
}

/* --- a schedule -------------------------------------------------------------------------------------------------------------------------------------- */

static bool first_is_done(void *arg)
{
    return track_done(((struct theatre *)arg)->rivals[0].track);
}

static bool all_are_done(void *arg)
{
    struct theatre *h = arg;
    for (int i = 0; i < RIVALS; i++)
        if (h->rivals[i].sleeper != NULL && !track_done(h->rivals[i].track))
            return false;
    return true;
}

static bool at_rest(void *arg)
{
    struct theatre *h = arg;
    return track_done(h->rivals[0].track) || track_fold(h->rivals[0].track)->phase == RUN_HELD;
}

static void wait_or_fail(struct theatre *h, bool (*cond)(void *), const char *what)
{
    char waits[512];
    if (!loop_until(h->stage->loop, cond, h, 1800 * US_PER_S))
        fail_msg("seed %" PRIu64 ": half an hour without %s (%s: %s)", h->seed, what, run_phase_name(track_fold(h->rivals[0].track)->phase),
                 track_waits_for(h->rivals[0].track, waits, sizeof(waits)));
}

/* The faults are over, and one coordinator at least is there: it brings the run to its end, whatever the others are at. Those who slept wake after that. */
static void come_to_an_end(struct theatre *h)
{
    struct stage *s = h->stage;
    bqmodel_clear_faults(s->model);
    if (h->rivals[0].sleeper != NULL)
        rival_kill(h, &h->rivals[0]);
    for (int i = 1; i < RIVALS; i++)
        if (h->rivals[i].sleeper != NULL)
            sleeper_calm(h->rivals[i].sleeper);
    rival_start(h, &h->rivals[0], TRACK_SECOND);
    sleeper_calm(h->rivals[0].sleeper);
    publish_rest(h);
    wait_or_fail(h, at_rest, "an end");
    if (!first_is_done(h))
        stage_say(s, h->record, (struct log_msg){.type = one_in(3) ? LOGM_CANCEL : LOGM_ACCEPT});
    wait_or_fail(h, first_is_done, "the first one done");
    for (int i = 1; i < RIVALS; i++)
        if (h->rivals[i].sleeper != NULL)
            sleeper_go_on(h->rivals[i].sleeper);
    wait_or_fail(h, all_are_done, "all of them done");
    stage_sleep(s, 600000);
}

static void one_schedule(uint64_t seed, bool shown)
{
    void *state;
    rnd_seeded(&dice, seed);
    stage_open(&state);
    struct theatre *h = xcalloc(1, sizeof(*h));
    struct stage *s = h->stage = state;
    static const int64_t everies_ms[] = {0, 2000, 20000, 60000};
    h->seed = seed;
    h->talks = one_in(2);
    h->shown = shown;
    h->shards_at_once = one_in(2) ? 0 : (size_t)(8 + up_to(3)); /* their square is the most */
    h->params_at_once = one_in(2) ? 0 : (size_t)(1 + up_to(3));
    h->record = stage_record(s, "run-1", "batch");
    h->record->every_ms = everies_ms[up_to(ARRAY_LEN(everies_ms))];
    if (one_in(2)) {
        h->record->mode = WRITE_APPEND;
        h->record->key_count = 0;
    }
    if (shown)
        tables_stage(s, h->record);
    if (h->record->via != VIA_WORKER_TABLES)
        h->record->permits = (int)up_to(3); /* 0: they write without */
    stage_publish(s, h->record);
    stage_say(s, h->record, (struct log_msg){.type = LOGM_ALIVE});
    for (int i = 0; i < RIVALS; i++)
        rival_start(h, &h->rivals[i], i == 0 ? TRACK_FIRST : TRACK_SECOND);
    for (int64_t steps = 20 + up_to(60); steps > 0; steps--)
        step(h);
    come_to_an_end(h);
    check_all(h);
    for (int i = 0; i < RIVALS; i++)
        if (h->rivals[i].sleeper != NULL)
            rival_kill(h, &h->rivals[i]);
    stage_sleep(s, 600000);
    for (int i = 0; i < h->past_count; i++)
        sleeper_free(h->past[i]);
    record_free(h->record);
    free(h);
    stage_close(&state);
}

static void schedules(bool shown)
{
    const char *given = getenv("SEED"), *count = getenv("SCHEDULES"), *from = getenv("FROM");
    if (given != NULL) {
        one_schedule(strtoull(given, NULL, 10), shown);
        return;
    }
    uint64_t first = from ? strtoull(from, NULL, 10) : 1, many = count ? strtoull(count, NULL, 10) : shown ? 60 : 150;
    for (uint64_t seed = first; seed < first + many; seed++)
        one_schedule(seed, shown);
}

static void whatever_happens_the_target_is_what_the_log_says(void **state)
{
    (void)state;
    schedules(false);
}

static void whatever_happens_a_view_is_what_the_log_says(void **state)
{
    (void)state;
    schedules(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_happens_the_target_is_what_the_log_says),
                                       cmocka_unit_test(whatever_happens_a_view_is_what_the_log_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
