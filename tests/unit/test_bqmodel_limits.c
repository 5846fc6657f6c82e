#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

/* The model's limits: as many as BigQuery's pages say, and no more; and which statements conflict. */

static void limited(struct world *w)
{
    struct bqmodel_options o = {0};
    bqmodel_documented_limits(&o);
    world_begin(w, &o);
    bqmodel_add_table(w->m, "ds.t", TARGET);
    bqmodel_add_table(w->m, "ds.s", SHARD);
}

/* So many loads, each to its end; how many of them went well. The answer of the last one stays. */
static int loads(struct world *w, int from, int count)
{
    int well = 0;
    for (int i = from; i < from + count; i++) {
        char id[32];
        snprintf(id, sizeof(id), "l%d", i);
        load(w, id, "s", PLAIN("a", 1, 0, "l"));
        well += doc_get(w->doc, "status.errorResult") == NULL;
    }
    return well;
}

static void a_table_takes_five_updates_in_ten_seconds(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    assert_int_equal(loads(&w, 0, 6), 5);
    assert_answer(&w, "status.errorResult.reason", "rateLimitExceeded");
    assert_answer(&w, "status.errorResult.location", "table.write");
    assert_answer(&w, "status.errorResult.message", "Exceeded rate limits: too many table update operations for this table");
    assert_int_equal(ask(&w, "PATCH", "/datasets/ds/tables/s", "{\"expirationTime\":\"1999999999999\"}"), 403);
    assert_answer(&w, "error.errors.0.reason", "rateLimitExceeded");
    assert_int_equal(bqmodel_count(w.m, "ds.s"), 5);
    world_sleep(&w, 10000);
    assert_int_equal(loads(&w, 6, 6), 5);
    assert_int_equal(bqmodel_counters(w.m)->limited, 3);
    world_end(&w);
}

static void a_table_takes_1500_loads_a_day_whatever_becomes_of_them(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    bqmodel_options(w.m)->updates_per_10s = 0;
    load(&w, "bad", "s", "{\"k\":5x}\n");
    assert_int_equal(loads(&w, 0, 1500), 1499);
    assert_answer(&w, "status.errorResult.reason", "quotaExceeded");
    bqmodel_drop_table(w.m, "ds.s"); /* the limit is the name's */
    bqmodel_add_table(w.m, "ds.s", SHARD);
    assert_int_equal(loads(&w, 1500, 1), 0);
    world_sleep(&w, 86400 * 1000);
    assert_int_equal(loads(&w, 1501, 2), 2);
    world_end(&w);
}

static void a_table_takes_25_statements_in_ten_seconds(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    bqmodel_options(w.m)->dml_ms = 1;
    load(&w, "l1", "s", PLAIN("a", 1, 0, "l1"));
    for (int i = 0; i < 26; i++) {
        run_cut(&w, &(struct cut){.key = "k"});
        if (i < 25)
            assert_good(&w);
    }
    assert_answer(&w, "status.errorResult.reason", "rateLimitExceeded");
    world_sleep(&w, 10000);
    run_cut(&w, &(struct cut){.key = "k"});
    assert_good(&w);
    world_end(&w);
}

static void the_301st_request_at_once_is_refused(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    bqmodel_options(w.m)->pending_ms = 1000; /* so that the long polls stay */
    load(&w, "l1", "s", PLAIN("a", 1, 0, "l1"));
    assert_int_equal(insert_cut(&w, "slow", &(struct cut){.key = "k"}), 200);
    static struct reply polls[300];
    for (size_t i = 0; i < ARRAY_LEN(polls); i++) {
        polls[i] = (struct reply){0};
        http_send(w.http, &(struct http_request){.method = "GET", .url = URL "/queries/slow?maxResults=0&timeoutMs=10000"}, reply_cb, &polls[i]);
    }
    assert_int_equal(ask(&w, "GET", "/jobs/slow", NULL), 403);
    assert_answer(&w, "error.errors.0.reason", "rateLimitExceeded");
    assert_true(loop_until(w.loop, reply_came, &polls[299], 60 * US_PER_S));
    assert_int_equal(ask(&w, "GET", "/jobs/slow", NULL), 200);
    assert_int_equal(bqmodel_counters(w.m)->limited, 1);
    for (size_t i = 0; i < ARRAY_LEN(polls); i++) {
        assert_int_equal(polls[i].status, 200);
        reply_free(&polls[i]);
    }
    world_end(&w);
}

static void what_a_day_takes_begins_anew_at_midnight_in_california(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    struct bqmodel_options *o = bqmodel_options(w.m);
    o->updates_per_10s = 0;
    o->loads_per_day = 3;
    o->calendar_days = true;
    assert_int_equal(loads(&w, 0, 4), 3); /* after midnight UTC; there it is four in the afternoon of the day before */
    world_sleep(&w, (8 * 3600 - 60) * 1000);
    assert_int_equal(loads(&w, 4, 1), 0);
    world_sleep(&w, 60 * 1000);
    assert_int_equal(loads(&w, 5, 4), 3);
    world_end(&w);
}

static void a_project_takes_so_many_loads_a_day_into_all_tables_together(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    assert_int_equal(bqmodel_options(w.m)->project_loads_per_day, 100000);
    bqmodel_options(w.m)->project_loads_per_day = 2;
    bqmodel_add_table(w.m, "ds.s2", SHARD);
    load(&w, "other", "s2", PLAIN("a", 1, 0, "l"));
    assert_int_equal(loads(&w, 0, 2), 1);
    assert_answer(&w, "status.errorResult.reason", "quotaExceeded");
    assert_answer(&w, "status.errorResult.message", "Your project exceeded quota for imports per project.");
    world_end(&w);
}

static int append(struct world *w, int number)
{
    char id[32];
    snprintf(id, sizeof(id), "i%d", number);
    return insert_cut(w, id, &(struct cut){.mode = WRITE_APPEND});
}

static void inserts_beyond_the_first_of_a_day_run_some_at_once_and_wait(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    struct bqmodel_options *o = bqmodel_options(w.m);
    assert_int_equal(o->inserts_per_day, 1500);
    assert_int_equal(o->inserts_at_once, 10);
    assert_int_equal(o->inserts_queued, 100);
    o->dml_per_10s = 0;
    o->inserts_per_day = 5;
    o->inserts_at_once = 2;
    o->inserts_queued = 3;
    o->dml_ms = 1000;
    load(&w, "l1", "s", PLAIN("a", 1, 0, "l1"));
    for (int i = 0; i < 5; i++)
        assert_int_equal(append(&w, i), 200);
    for (int i = 0; i < 5; i++) {
        char id[32];
        snprintf(id, sizeof(id), "i%d", i);
        wait_job(&w, id);
    }
    assert_int_equal(bqmodel_counters(w.m)->dml_at_once, 5);
    for (int i = 5; i < 11; i++)
        assert_int_equal(append(&w, i), 200);
    assert_answer(&w, "status.errorResult.reason", "quotaExceeded");
    assert_answer(&w, "status.errorResult.message", "total number of DML jobs writing to a table, pending + running.");
    world_sleep(&w, 900);
    int running = 0;
    for (int i = 5; i < 10; i++) {
        char id[32];
        snprintf(id, sizeof(id), "i%d", i);
        get_job(&w, id);
        running += strcmp(doc_str(w.doc, "status.state", ""), "RUNNING") == 0;
    }
    assert_int_equal(running, 2);
    wait_job(&w, "i9");
    assert_good(&w);
    assert_int_equal(bqmodel_count(w.m, "ds.t"), 10);
    world_end(&w);
}

static void statements_of_all_kinds_that_are_outstanding_have_a_limit_together(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    bqmodel_options(w.m)->dml_outstanding = 3;
    load(&w, "l1", "s", PLAIN("a", 1, 0, "l1"));
    assert_int_equal(insert_cut(&w, "m1", &(struct cut){.key = "k"}), 200);
    assert_int_equal(append(&w, 1), 200);
    assert_int_equal(append(&w, 2), 200);
    assert_int_equal(insert_cut(&w, "m2", &(struct cut){.key = "k"}), 200);
    assert_answer(&w, "status.errorResult.message", "pending + running.");
    wait_job(&w, "m1");
    assert_int_equal(insert_cut(&w, "m3", &(struct cut){.key = "k"}), 200);
    assert_null(doc_get(w.doc, "status.errorResult"));
    wait_job(&w, "m3");
    world_end(&w);
}

static void a_quota_of_the_project_is_used_up_from_one_time_to_another(void **state)
{
    (void)state;
    struct world w;
    limited(&w);
    int64_t now = loop_now_us(w.loop);
    bqmodel_wall(w.m, BQMODEL_WALL_LOADS, now + 1000 * US_PER_MS, now + 2000 * US_PER_MS);
    assert_int_equal(loads(&w, 0, 1), 1);
    world_sleep(&w, 1000);
    assert_int_equal(insert_load(&w, "during", "s", PLAIN("a", 1, 0, "l1")), 403);
    assert_answer(&w, "error.errors.0.reason", "quotaExceeded");
    run_cut(&w, &(struct cut){.mode = WRITE_APPEND}); /* it is not of them */
    world_sleep(&w, 1000);
    load(&w, "during", "s", PLAIN("a", 1, 0, "l1")); /* its id was not used */
    assert_good(&w);
    world_end(&w);
}

/* --- conflicts ------------------------------------------------------------------------------------------------------------------------------ */

#define FIELDS(part) \
    "{\"tableReference\":{\"projectId\":\"local\",\"datasetId\":\"ds\",\"tableId\":\"t\"}," part "\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"}," \
    "{\"name\":\"v\",\"type\":\"INT64\"},{\"name\":\"at\",\"type\":\"TIMESTAMP\"},{\"name\":\"x\",\"type\":\"FLOAT64\"}]}}"
#define A_ROW(k, v, at, load) ROW("\"" k "\"", v, "\"" at "\"", "null", 0, 0, load)

/* Two MERGEs at once, of a row each; how often one of them had to begin anew. */
static int64_t reruns(const char *table, const char *first, const char *second)
{
    struct world w;
    world_begin(&w, NULL);
    bqmodel_add_table(w.m, "ds.s", SHARD);
    assert_int_equal(ask(&w, "POST", "/datasets/ds/tables", table), 200);
    bqmodel_insert(w.m, "ds.t", "[{\"k\":\"a\",\"v\":1,\"at\":\"2026-01-31T10:00:00Z\"},{\"k\":\"b\",\"v\":1,\"at\":\"2026-02-01T10:00:00Z\"},"
                                "{\"k\":\"c\",\"v\":100,\"at\":\"2026-01-31T23:00:00Z\"},{\"k\":\"n\",\"v\":null}]");
    load(&w, "a", "s", first);
    load(&w, "b", "s", second);
    assert_int_equal(insert_cut(&w, "m1", &(struct cut){.key = "k", .loads = {{"l1", 1, 0}}}), 200);
    assert_int_equal(insert_cut(&w, "m2", &(struct cut){.key = "k", .loads = {{"l2", 1, 0}}}), 200);
    wait_job(&w, "m1");
    assert_counts(&w, 0, 1, 0);
    wait_job(&w, "m2");
    assert_counts(&w, 0, 1, 0);
    int64_t n = bqmodel_counters(w.m)->reruns;
    world_end(&w);
    return n;
}

static void statements_conflict_that_change_rows_of_one_partition(void **state)
{
    static const char plain[] = FIELDS(""), days[] = FIELDS("\"timePartitioning\":{\"type\":\"DAY\",\"field\":\"at\"},"),
                      hours[] = FIELDS("\"timePartitioning\":{\"type\":\"HOUR\",\"field\":\"at\"},"),
                      years[] = FIELDS("\"timePartitioning\":{\"type\":\"YEAR\",\"field\":\"at\"},"),
                      arrival[] = FIELDS("\"timePartitioning\":{\"type\":\"DAY\"},"),
                      tens[] = FIELDS("\"rangePartitioning\":{\"field\":\"v\",\"range\":{\"start\":\"0\",\"end\":\"50\",\"interval\":\"10\"}},");
    static const char a[] = A_ROW("a", 2, "2026-01-31T10:30:00Z", "l1"), b[] = A_ROW("b", 2, "2026-02-01T11:00:00Z", "l2"),
                      c[] = A_ROW("c", 101, "2026-01-31T23:30:00Z", "l2"), moved[] = A_ROW("b", 2, "2026-01-31T11:00:00Z", "l2"),
                      n[] = ROW("\"n\"", null, "null", "1", 0, 0, "l2");
    (void)state;
    assert_int_equal(reruns(plain, a, b), 1);
    assert_int_equal(reruns(arrival, a, b), 1);
    assert_int_equal(reruns(days, a, b), 0);
    assert_int_equal(reruns(days, a, c), 1);
    assert_int_equal(reruns(days, a, moved), 0); /* it comes into the other's partition: an insertion there */
    assert_int_equal(reruns(days, a, n), 0);
    assert_int_equal(reruns(hours, a, c), 0);
    assert_int_equal(reruns(years, a, b), 1);
    assert_int_equal(reruns(tens, a, b), 1);
    assert_int_equal(reruns(tens, a, c), 0); /* 101 is in no range */
    assert_int_equal(reruns(tens, a, n), 0);
}

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_table_takes_five_updates_in_ten_seconds), TEST(a_table_takes_1500_loads_a_day_whatever_becomes_of_them),
        TEST(a_table_takes_25_statements_in_ten_seconds), TEST(the_301st_request_at_once_is_refused),
        TEST(what_a_day_takes_begins_anew_at_midnight_in_california), TEST(a_project_takes_so_many_loads_a_day_into_all_tables_together),
        TEST(inserts_beyond_the_first_of_a_day_run_some_at_once_and_wait), TEST(statements_of_all_kinds_that_are_outstanding_have_a_limit_together),
        TEST(a_quota_of_the_project_is_used_up_from_one_time_to_another), TEST(statements_conflict_that_change_rows_of_one_partition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
