#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

/* The model's limits over time: as many as BigQuery's pages say, and no more. */

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

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_table_takes_five_updates_in_ten_seconds), TEST(a_table_takes_1500_loads_a_day_whatever_becomes_of_them),
        TEST(a_table_takes_25_statements_in_ten_seconds), TEST(the_301st_request_at_once_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
