#include "tests/unit/support_crew.h"
#include "tests/unit/support_tables.h"

#include "common/bq/sql.h"

/*
 * The case that bqfleet was made for, on virtual time: 158 items of 25 rows, 100 at once, 250 ms of work each, loads and DML of a second each, BigQuery's limits;
 * and what may come on top: a second coordinator, 200 workers, a foreign writer, a quota that is used up, faults of every kind. Nothing is lost, and nothing there twice.
 */

#define ITEMS 158
#define WORK_MS 250
#define STEP_MS 1000
#define WORKERS_MAX 200
#define PATH_MS (2 * WORK_MS + STEP_MS) /* two waves of work and a load */
#define LONGEST_S (8 * 3600)

struct kase {
    enum write_via via;
    enum write_mode mode;
    int permits, workers, coordinators;
    bool foreign;                 /* somebody else updates the table all the time */
    int chaos;                    /* of a thousand requests, jobs, chunks: of each kind of fault */
    int64_t items, work_ms, window; /* 0: the case's */
    bool loads_are_free;          /* they take 50 ms, as many as anybody wants */
    enum bqmodel_wall wall;       /* a quota that is used up in the middle, for two hours */
    uint64_t seed;
};
struct told { int64_t took_ms, busy_ms, span_ms; int increments, cuts; struct bqmodel_counters n; };

static struct crew crew;
static struct crewman workers[WORKERS_MAX], bosses[2];

static bool is_settled(void *arg)
{
    (void)arg;
    return fold_settled(track_fold(bosses[0].track));
}

static bool all_done(void *arg)
{
    const int *coordinators = arg;
    for (int i = 0; i < *coordinators; i++)
        if (!track_done(bosses[i].track))
            return false;
    return true;
}

static void on_made(void *arg, const struct error *err)
{
    assert_null(err);
    *(bool *)arg = true;
}

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

/* The target had its permits before. */
static void make_permits(int slots)
{
    struct bq_ref table;
    bool made = false;
    permits_table(&crew.record->target, &table);
    permits_make_start(crew.stage->bq, &table, NULL, slots, on_made, &made);
    STAGE_WAIT(crew.stage, is_true, &made);
}

/* --- a foreign writer: one row of the same table, again and again, each time with a greater number --------------------------------------------------- */

static struct { bool stops; int64_t number, written; struct bq_job *job; doc *configuration; struct timer *timer; } foreign;

static void on_foreign(void *arg, const struct bq_job_result *r)
{
    (void)arg;
    foreign.job = NULL;
    doc_free(foreign.configuration);
    if (r->err != NULL)
        fail_msg("the foreign writer: %s", r->err->text);
    assert_int_equal(r->updated, 1);
    foreign.written = foreign.number;
    if (!foreign.stops)
        timer_set(foreign.timer, (int64_t)rnd_below(&crew.dice, STEP_MS / 10) * US_PER_MS); /* hardly any pause */
}

static void foreign_goes_on(void *arg)
{
    (void)arg;
    static const char *const keys[] = {"k"};
    char row[256], load[32], base[64];
    struct buf sql = BUF_INIT(1 << 16);
    doc *params = NULL;
    struct error err = ERROR_INIT;
    snprintf(load, sizeof(load), "foreign-%" PRId64, ++foreign.number);
    snprintf(base, sizeof(base), "foreign_%" PRId64, foreign.number);
    snprintf(row, sizeof(row), "[{\"k\":\"f\",\"v\":%" PRId64 ",\"bqfleet_item\":0,\"bqfleet_row\":0,\"bqfleet_load\":\"%s\"}]", foreign.number, load);
    bqmodel_insert(crew.stage->model, "ds.foreign", row);
    struct bq_ref shard = {"local", "ds", "foreign"};
    struct sql_load one = {load, 1, 0};
    struct sql_cut cut = {.target = &crew.record->target, .schema = crew.record->schema, .mode = WRITE_MERGE, .keys = keys, .key_count = 1,
                          .null_keys = NULL_KEYS_EQUAL, .shards = &shard, .shard_count = 1, .loads = &one, .load_count = 1};
    if (sql_consolidate(&cut, &sql, &params, &err) != 0)
        fail_msg("%s", err.text);
    foreign.configuration = bq_query_config(sql.data, params, 0);
    foreign.job = bq_job_start(crew.stage->bq, &(struct bq_job_spec){.id_base = base, .configuration = foreign.configuration, .digest = "d", .max_tries = 1000},
                               on_foreign, NULL);
    buf_free(&sql);
}

/* Rows of all items are there before, so that ours are updates, too, and conflict with his. */
static void foreign_begins(const struct kase *k)
{
    struct buf rows = BUF_INIT(1 << 20);
    memset(&foreign, 0, sizeof(foreign));
    buf_xputs(&rows, "[{\"k\":\"f\",\"v\":0}");
    for (int64_t item = 0; k->mode == WRITE_MERGE && item < ITEMS; item++)
        for (int n = 0; n < crew_play.rows; n++) {
            buf_xprintf(&rows, n ? ",{\"k\":\"k%" PRId64 ".%d\",\"v\":-1}" : ",{\"k\":\"k%" PRId64 "\",\"v\":-1}", item, n);
        }
    buf_xputs(&rows, "]");
    bqmodel_insert(crew.stage->model, STAGE_TARGET, rows.data);
    bqmodel_add_table(crew.stage->model, "ds.foreign", "k:STRING REQUIRED, v:INT64, bqfleet_item:INT64, bqfleet_row:INT64, bqfleet_load:STRING");
    buf_free(&rows);
    foreign.timer = timer_new(crew.stage->loop, foreign_goes_on, NULL);
    foreign_goes_on(NULL);
}

static bool foreign_rests(void *arg)
{
    (void)arg;
    return foreign.job == NULL;
}

/* His last word is what is there, and nothing of what was there before ours came. */
static void foreign_ends(void)
{
    foreign.stops = true;
    timer_stop(foreign.timer);
    assert_true(loop_until(crew.stage->loop, foreign_rests, NULL, LONGEST_S * US_PER_S));
    timer_free(foreign.timer);
    assert_true(foreign.written >= 1);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(crew.stage->model, STAGE_TARGET);
    for (size_t i = 0; i < doc_len(rows); i++) {
        bool his = strcmp(doc_str(doc_at(rows, i), "k", ""), "f") == 0;
        int64_t v = doc_int(doc_at(rows, i), "v", -2);
        assert_true(his ? v == foreign.written : v >= 0);
    }
}

/* --- one run ------------------------------------------------------------------------------------------------------------------------------------------ */

static void open_all(const struct kase *k, void **state, char (*names)[16])
{
    stage_partitions = k->workers > STAGE_PARTITIONS ? WORKERS_MAX : STAGE_PARTITIONS;
    crew_open(&crew, state, k->seed + 1);
    crew_play.work_ms = k->work_ms ? k->work_ms : WORK_MS;
    crew_play.rows = k->items ? 1 : 25;
    crew_play.parallel = k->window ? k->window : k->workers > 100 ? 1 : 100 / k->workers;
    crew_play.linger_ms = 2000;
    struct bqmodel_options *o = bqmodel_options(crew.stage->model);
    bqmodel_documented_limits(o);
    o->load_ms = o->dml_ms = STEP_MS;
    if (k->loads_are_free) {
        o->load_ms = 50;
        o->updates_per_10s = 0;
        crew_play.linger_ms = 100;
    }
    struct record *r = crew.record = crew_record(&crew, "run-1");
    r->via = k->via;
    r->mode = k->mode;
    r->permits = k->permits;
    if (k->mode != WRITE_MERGE)
        r->key_count = 0;
    if (k->via == VIA_WORKER_TABLES) {
        r->every_ms = 10000;
        tables_stage(crew.stage, r);
    } else {
        make_permits(k->permits);
    }
    for (int i = 0; i < k->workers; i++) {
        snprintf(names[i], sizeof(names[i]), "w%d", i);
        crew_worker(&crew, &workers[i], names[i]);
        sleeper_calm(workers[i].sleeper);
    }
    stage_sleep(crew.stage, 5000);
}

static void play(const struct kase *k)
{
    struct record *r = crew.record;
    int64_t items = k->items ? k->items : ITEMS;
    stage_publish(crew.stage, r);
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
    for (int i = 0; i < k->coordinators; i++) {
        crew_coordinator(&crew, &bosses[i], r, i == 0 ? TRACK_FIRST : TRACK_SECOND);
        sleeper_calm(bosses[i].sleeper);
    }
    if (k->foreign) {
        bqmodel_options(crew.stage->model)->rnd = &crew.dice;
        foreign_begins(k);
    }
    bqmodel_chaos_all(&bqmodel_options(crew.stage->model)->chaos, k->chaos ? &crew.dice : NULL, k->chaos);
    int64_t after_ms = k->wall == BQMODEL_WALL_LOADS ? WORK_MS : STEP_MS, now = loop_now_us(crew.stage->loop);
    if (k->wall)
        bqmodel_wall(crew.stage->model, k->wall, now + after_ms * US_PER_MS, now + 2 * 3600 * US_PER_S);
    crew_items(&crew, r, 0, items);
    stage_seal(crew.stage, r, items);
    if (!loop_until(crew.stage->loop, is_settled, NULL, LONGEST_S * US_PER_S)) {
        char waits[512];
        fail_msg("%d hours, and it waits for %s", LONGEST_S / 3600, track_waits_for(bosses[0].track, waits, sizeof(waits)));
    }
}

/* How long statements on the target ran, and from the first one's beginning to the last one's end. */
static void tell_busy(struct told *t)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(crew.stage->model);
    int64_t from = INT64_MAX, to = 0;
    for (size_t i = 0; i < doc_len(jobs); i++) {
        const doc *job = doc_at(jobs, i);
        int64_t begin = doc_int(job, "statistics.startTime", 0), end = doc_int(job, "statistics.endTime", 0);
        if (strncmp(doc_str(job, "jobReference.jobId", ""), "bqfleet_direct_", 15) != 0)
            continue;
        t->busy_ms += end - begin;
        from = i64_min(from, begin);
        to = i64_max(to, end);
    }
    t->span_ms = i64_max(to - from, 0);
}

static void check(const struct kase *k, const char *what)
{
    static struct crew_written w;
    int64_t items = k->items ? k->items : ITEMS;
    const struct fold *f = track_fold(bosses[0].track);
    assert_int_equal(fold_exit_code(f), EXIT_WRITTEN);
    crew_check(&crew, crew.record, f, what);
    crew_by_table(&crew, &w);
    assert_int_equal(w.total, items * crew_play.rows);
    for (int64_t i = 0; i < items; i++)
        assert_int_equal(w.per_item[i], crew_play.rows);
    assert_int_equal(stage_tables(crew.stage, "bqf_"), 0);
}

static struct told run(const char *what, struct kase k)
{
    void *state = NULL;
    static char names[WORKERS_MAX][16];
    struct told t = {0};
    open_all(&k, &state, names);
    int64_t from_us = loop_now_us(crew.stage->loop);
    play(&k);
    t.took_ms = (loop_now_us(crew.stage->loop) - from_us) / US_PER_MS;
    t.n = *bqmodel_counters(crew.stage->model);
    t.increments = crew_jobs(&crew, "bqfleet_direct_");
    t.cuts = crew_jobs(&crew, "bqfleet_cut_");
    tell_busy(&t);
    print_message("%-34s %3d workers: %7.2f s, %2d increments, %d last, %3" PRId64 " permit statements, %3" PRId64 " loads, %" PRId64 " failed, %" PRId64
                  " refused, %" PRId64 " MiB billed\n", what, k.workers, (double)t.took_ms / 1000, t.increments, t.cuts, t.n.updates, t.n.loads, t.n.failed,
                  t.n.limited, t.n.bytes_billed >> 20);
    bqmodel_options(crew.stage->model)->chaos.rnd = NULL;
    if (k.foreign)
        foreign_ends();
    assert_true(loop_until(crew.stage->loop, all_done, &k.coordinators, 3600 * US_PER_S));
    stage_sleep(crew.stage, 20000);
    check(&k, what);
    for (int i = 0; i < k.workers; i++)
        crew_kill(&crew, &workers[i]);
    for (int i = 0; i < k.coordinators; i++)
        crew_kill(&crew, &bosses[i]);
    record_free(crew.record);
    crew_close(&crew, &state);
    stage_partitions = STAGE_PARTITIONS;
    return t;
}

/* --- the case ------------------------------------------------------------------------------------------------------------------------------------------- */

/* What there is to write with; also under trouble. */
static const struct { const char *name; struct kase k; } ways[] = {
    {"staging merge", {.via = VIA_STAGING, .mode = WRITE_MERGE, .permits = 1, .workers = 4, .coordinators = 1}},
    {"staging append", {.via = VIA_STAGING, .mode = WRITE_APPEND, .permits = 2, .workers = 4, .coordinators = 1}},
    {"staging replace", {.via = VIA_STAGING, .mode = WRITE_REPLACE, .permits = 1, .workers = 4, .coordinators = 1}},
    {"direct merge", {.via = VIA_DIRECT, .mode = WRITE_MERGE, .permits = 1, .workers = 4, .coordinators = 1}},
    {"direct merge, disjoint", {.via = VIA_DIRECT, .mode = WRITE_MERGE, .permits = 2, .workers = 4, .coordinators = 1}},
    {"direct append", {.via = VIA_DIRECT, .mode = WRITE_APPEND, .permits = 2, .workers = 4, .coordinators = 1}},
    {"worker-tables merge", {.via = VIA_WORKER_TABLES, .mode = WRITE_MERGE, .workers = 4, .coordinators = 1}},
    {"worker-tables append", {.via = VIA_WORKER_TABLES, .mode = WRITE_APPEND, .workers = 4, .coordinators = 1}},
};

static void nothing_is_lost_or_refused_and_staging_writes_by_one_statement(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct told t = run(ways[i].name, ways[i].k);
        assert_int_equal(t.n.failed + t.n.limited, 0);
        assert_true(t.cuts <= 1);
        if (ways[i].k.via != VIA_DIRECT) {
            assert_int_equal(t.cuts, 1);
            assert_true(t.took_ms <= (PATH_MS + STEP_MS) * 12 / 10);
        } else if (ways[i].k.permits == 2) { /* one statement of each worker, two at once */
            assert_true(t.took_ms <= (PATH_MS + 2 * STEP_MS) * 15 / 10);
        }
    }
}

/* Four workers, rows all the time, for two minutes: a take and a release for a statement or two would leave the permits unused for two thirds of the time. */
static void two_permits_change_hands_quickly(void **state)
{
    (void)state;
    struct told t = run("direct append, two minutes", (struct kase){.via = VIA_DIRECT, .mode = WRITE_APPEND, .permits = 2, .workers = 4, .coordinators = 1,
                                                                    .items = 4000, .work_ms = 1000, .window = 8, .loads_are_free = true});
    print_message("%.1f s of statements in %.1f s with two permits: %.2f times the ideal\n", (double)t.busy_ms / 1000, (double)t.span_ms / 1000,
                  2 * (double)t.span_ms / (double)t.busy_ms);
    assert_true(t.span_ms > 90000);
    assert_true(2 * t.span_ms * 10 <= t.busy_ms * 25);
}

static void two_coordinators_and_two_hundred_workers_are_no_different(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct kase two = ways[i].k, many = ways[i].k;
        two.coordinators = 2;
        many.workers = 200;
        struct told t = run(ways[i].name, two);
        assert_int_equal(t.n.failed + t.n.limited, 0);
        assert_true(t.cuts <= 1);
        if (i % 4 != 0 && i != 6) /* staging merge; direct merge, disjoint; worker-tables merge */
            continue;
        t = run(ways[i].name, many);
        assert_int_equal(t.n.limited, 0);
        assert_true(t.cuts <= 1);
    }
}

static void a_foreign_writer_of_the_same_table_loses_nothing_either(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct kase k = ways[i].k;
        k.foreign = true;
        if (k.mode != WRITE_REPLACE && k.via != VIA_WORKER_TABLES) /* which would take his row away, or is no table to write to */
            run(ways[i].name, k);
    }
}

static void a_quota_that_is_used_up_for_hours_is_waited_for(void **state)
{
    (void)state;
    for (int wall = BQMODEL_WALL_LOADS; wall <= BQMODEL_WALL_JOBS; wall++)
        for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
            struct kase k = ways[i].k;
            k.wall = (enum bqmodel_wall)wall;
            run(ways[i].name, k);
        }
}

static void every_fault_at_five_percent_loses_nothing(void **state)
{
    (void)state;
    const char *given = getenv("SEED"), *count = getenv("SCHEDULES");
    uint64_t first = given ? strtoull(given, NULL, 10) : 1, many = given ? 1 : count ? strtoull(count, NULL, 10) : 3;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        for (uint64_t seed = first; seed < first + many; seed++) {
            struct kase k = ways[i].k;
            k.chaos = 50;
            k.coordinators = 2;
            k.seed = seed;
            run(ways[i].name, k);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_or_refused_and_staging_writes_by_one_statement), cmocka_unit_test(two_permits_change_hands_quickly),
        cmocka_unit_test(two_coordinators_and_two_hundred_workers_are_no_different), cmocka_unit_test(a_foreign_writer_of_the_same_table_loses_nothing_either),
        cmocka_unit_test(a_quota_that_is_used_up_for_hours_is_waited_for), cmocka_unit_test(every_fault_at_five_percent_loses_nothing),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
