#include "tests/unit/support_crew.h"

/*
 * Schedules drawn at random, of rows written directly: two or three workers and two coordinators are stopped for minutes, killed and replaced; replies and
 * acknowledgements are lost, jobs fail or take long, the run is cancelled or accepted at any moment. Whatever happens, at the end the table holds just the rows
 * that the log says, each cut has had one effect, never more statements ran at once than there are permits, and no staging is left.
 */

#define WORKERS 3
#define BOSSES 2
#define ITEMS 240

static struct play {
    struct crew crew;
    struct crewman workers[WORKERS], bosses[BOSSES];
    int64_t published;
    bool sealed, hopeless; /* hopeless: enough jobs may fail for a cut to be given up */
    int names;
    char what[32];
} play;

static int64_t up_to(int64_t n)
{
    return (int64_t)rnd_below(&play.crew.dice, (uint64_t)n);
}

static bool one_in(int64_t n)
{
    return up_to(n) == 0;
}

static void hire(struct crewman *m)
{
    static char names[ARRAY_LEN(play.crew.past)][16]; /* they outlive their workers */
    char *name = names[play.names++ % (int)ARRAY_LEN(names)];
    snprintf(name, sizeof(names[0]), "w%d", play.names);
    crew_worker(&play.crew, m, name);
}

static void say(struct log_msg m)
{
    stage_say(play.crew.stage, play.crew.record, m);
}

/* --- what happens ---------------------------------------------------------------------------------------------------------------------------------- */

static void publish(int64_t most)
{
    int64_t count = i64_min(1 + up_to(most), ITEMS - play.published);
    if (count <= 0)
        return;
    crew_items(&play.crew, play.crew.record, play.published, count);
    play.published += count;
}

static void trouble(void)
{
    static const struct bqmodel_fault kinds[] = {
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_SLOW, .ms = 20000}, {.match = "bqfleet_direct", .kind = BQMODEL_JOB_SLOW, .ms = 200000},
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_PENDING, .ms = 100000}, {.match = "bqfleet_cut", .kind = BQMODEL_JOB_SLOW, .ms = 90000},
        {.match = "", .kind = BQMODEL_LOSE_REPLY, .times = 3}, {.match = "bqfleet_direct", .kind = BQMODEL_LOSE_REPLY, .times = 2},
        {.match = "bqfleet_permit", .kind = BQMODEL_LOSE_REPLY, .times = 3}, {.match = "", .kind = BQMODEL_DROP_BEFORE, .times = 4},
        {.match = "bqfleet_direct", .kind = BQMODEL_DROP_BEFORE, .times = 30}, {.match = "bqfleet_load", .kind = BQMODEL_JOB_SLOW, .ms = 30000},
        {.match = "bqfleet_direct", .kind = BQMODEL_STATUS, .status = 503, .executed = true}, {.match = "", .kind = BQMODEL_STATUS, .status = 500, .times = 5},
        {.match = "bqfleet_permit", .kind = BQMODEL_JOB_SLOW, .ms = 70000}, {.match = "bqfleet_permit", .kind = BQMODEL_JOB_PENDING, .ms = 20000},
        {.match = "bqfleet_permit", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 2},
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 2},
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .message = "bqfleet: the permit is lost1"},
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .message = "Could not serialize access to table t due to concurrent update"},
        {.match = "bqfleet_direct", .kind = BQMODEL_DELAY, .ms = 40000}, {.match = "bqfleet_direct", .kind = BQMODEL_DELAY, .ms = 100000},
        {.match = "bqfleet_direct", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .message = "No matching signature"}};
    bool rare = one_in(20);
    const struct bqmodel_fault *f = &kinds[up_to(ARRAY_LEN(kinds) - (rare ? 0 : 1))];
    play.hopeless = play.hopeless || (f->kind == BQMODEL_JOB_ERROR && strcmp(f->match, "bqfleet_direct") == 0);
    bqmodel_fault(play.crew.stage->model, f);
}

static void upset(struct crewman *m, bool is_worker)
{
    if (m->sleeper == NULL && is_worker)
        hire(m);
    else if (m->sleeper == NULL)
        crew_coordinator(&play.crew, m, play.crew.record, one_in(2) ? TRACK_FIRST : TRACK_SECOND);
    else if (sleeper_stopped(m->sleeper) && !one_in(4))
        sleeper_go_on(m->sleeper);
    else if (one_in(3))
        crew_kill(&play.crew, m);
    else
        sleeper_stop(m->sleeper);
}

static void say_something(void)
{
    static const enum log_type types[] = {LOGM_CANCEL, LOGM_ACCEPT, LOGM_PAUSE, LOGM_RESUME, LOGM_CUT, LOGM_FATAL};
    enum log_type type = types[up_to(ARRAY_LEN(types))];
    if ((type == LOGM_CANCEL || type == LOGM_FATAL) && !one_in(6))
        return;
    say((struct log_msg){.type = type, .text = "said", .cut = up_to(3)});
}

static void step(void)
{
    static const int64_t sleeps_ms[] = {0, 5, 50, 500, 2000, 10000, 40000, 100000};
    if (!play.sealed)
        say((struct log_msg){.type = LOGM_ALIVE});
    switch (up_to(8)) {
    case 0: case 1: case 2: publish(20); break;
    case 3: trouble(); break;
    case 4: case 5: upset(&play.workers[up_to(WORKERS)], true); break;
    case 6: upset(&play.bosses[up_to(BOSSES)], false); break;
    default: say_something();
    }
    stage_sleep(play.crew.stage, up_to(1 + sleeps_ms[up_to(ARRAY_LEN(sleeps_ms))]));
}

/* --- the end ----------------------------------------------------------------------------------------------------------------------------------------- */

static struct track *track(void)
{
    return play.bosses[0].track;
}

static bool at_rest(void *arg)
{
    (void)arg;
    return track_done(track()) || track_fold(track())->phase == RUN_HELD;
}

static bool is_done(void *arg)
{
    (void)arg;
    return track_done(track());
}

static void wait_or_fail(bool (*cond)(void *), const char *for_what)
{
    char waits[512];
    if (!loop_until(play.crew.stage->loop, cond, NULL, 3600 * US_PER_S))
        fail_msg("%s: an hour without %s (%s, %" PRId64 " of %d done: %s)", play.what, for_what, run_phase_name(track_fold(track())->phase),
                 track_fold(track())->done, ITEMS, track_waits_for(track(), waits, sizeof(waits)));
}

static void wake(struct crewman *m)
{
    if (m->sleeper == NULL)
        return;
    sleeper_calm(m->sleeper);
    sleeper_go_on(m->sleeper);
}

/* The faults are over; a worker and a coordinator at least are there. The others wake before or after it is done. */
static void come_to_an_end(void)
{
    bool late = one_in(2);
    bqmodel_clear_faults(play.crew.stage->model);
    crew_kill(&play.crew, &play.bosses[0]);
    crew_kill(&play.crew, &play.workers[0]);
    for (int i = 0; i < WORKERS && !late; i++)
        wake(&play.workers[i]);
    crew_coordinator(&play.crew, &play.bosses[0], play.crew.record, TRACK_SECOND);
    hire(&play.workers[0]);
    sleeper_calm(play.bosses[0].sleeper);
    sleeper_calm(play.workers[0].sleeper);
    say((struct log_msg){.type = LOGM_RESUME});
    while (play.published < ITEMS)
        publish(ITEMS);
    play.sealed = true;
    stage_seal(play.crew.stage, play.crew.record, ITEMS);
    wait_or_fail(at_rest, "an end");
    if (!is_done(NULL))
        say((struct log_msg){.type = one_in(3) ? LOGM_CANCEL : LOGM_ACCEPT});
    wait_or_fail(is_done, "being done");
    for (int i = 0; i < WORKERS; i++)
        wake(&play.workers[i]);
    wake(&play.bosses[1]);
    stage_sleep(play.crew.stage, 300000);
}

static void check(void)
{
    static struct crew_written w;
    const struct fold *f = track_fold(track());
    crew_check(&play.crew, play.crew.record, f, play.what);
    for (size_t i = 0; i < f->cut_count; i++)
        if (f->cuts[i].state != CUT_DONE && !play.hopeless)
            fail_msg("%s: cut %zu was not written: %s", play.what, i, f->end_text);
    crew_by_table(&play.crew, &w);
    for (int64_t i = 0; i < ITEMS; i++)
        if (f->end == END_COMPLETE && w.per_item[i] != 1)
            fail_msg("%s: the run is complete, and item %" PRId64 " is there %" PRId64 " times", play.what, i, w.per_item[i]);
    if (stage_tables(play.crew.stage, "bqf_") != 0)
        fail_msg("%s: %d staging tables are left", play.what, stage_tables(play.crew.stage, "bqf_"));
}

static void one_schedule(uint64_t seed)
{
    void *state;
    memset(&play, 0, sizeof(play));
    crew_open(&play.crew, &state, seed);
    snprintf(play.what, sizeof(play.what), "seed %" PRIu64, seed);
    struct record *r = play.crew.record = crew_record(&play.crew, "run-1");
    bqmodel_options(play.crew.stage->model)->dml_ms = 10 + up_to(3000);
    crew_play.work_ms = 10 + up_to(2000);
    r->permits = 1;
    if (one_in(2)) {
        r->mode = WRITE_APPEND;
        r->key_count = 0;
        r->permits = 1 + (int)up_to(3);
    }
    stage_publish(play.crew.stage, r);
    say((struct log_msg){.type = LOGM_ALIVE});
    for (int i = 0; i < WORKERS; i++)
        hire(&play.workers[i]);
    for (int i = 0; i < BOSSES; i++)
        crew_coordinator(&play.crew, &play.bosses[i], r, i == 0 ? TRACK_FIRST : TRACK_SECOND);
    for (int64_t steps = 20 + up_to(60); steps > 0; steps--)
        step();
    come_to_an_end();
    check();
    for (int i = 0; i < WORKERS; i++)
        crew_kill(&play.crew, &play.workers[i]);
    for (int i = 0; i < BOSSES; i++)
        crew_kill(&play.crew, &play.bosses[i]);
    record_free(r);
    crew_close(&play.crew, &state);
}

static void whatever_happens_the_table_is_what_the_log_says(void **state)
{
    (void)state;
    const char *given = getenv("SEED"), *count = getenv("SCHEDULES"), *from = getenv("FROM");
    if (given != NULL) {
        one_schedule(strtoull(given, NULL, 10));
        return;
    }
    uint64_t first = from ? strtoull(from, NULL, 10) : 1, many = count ? strtoull(count, NULL, 10) : 25;
    for (uint64_t seed = first; seed < first + many; seed++)
        one_schedule(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_happens_the_table_is_what_the_log_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
