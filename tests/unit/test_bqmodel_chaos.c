#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/bq/job.h"

/* The model's chaos: the same for the same seed, as often as its rates say, and nothing that the product's client does not get through. */

#define ASKED 1000

static void chaotic(struct world *w, struct rnd *rnd, uint64_t seed)
{
    world_begin(w, NULL);
    rnd_seeded(rnd, seed);
    bqmodel_add_table(w->m, "ds.t", TARGET);
    bqmodel_add_table(w->m, "ds.s", SHARD);
    bqmodel_options(w->m)->chaos.rnd = rnd;
}

/* What came of some loads and some reads: every status, every body, every time. */
static char *story(uint64_t seed)
{
    struct world w;
    struct rnd rnd;
    struct buf text = BUF_INIT(1 << 20);
    chaotic(&w, &rnd, seed);
    bqmodel_chaos_all(&bqmodel_options(w.m)->chaos, &rnd, 50);
    for (int i = 0; i < 60; i++) {
        char id[32];
        snprintf(id, sizeof(id), "l%d", i);
        int put = insert_load(&w, id, "s", PLAIN("a", 1, 0, "l1")), got = ask(&w, "GET", "/datasets/ds/tables/s", NULL);
        buf_xprintf(&text, "%d %d %" PRId64 " %zu\n", put, got, loop_now_us(w.loop), w.last.len);
    }
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(w.m);
    AUTO(free_ptr) char *whole = doc_text(jobs);
    buf_xputs(&text, whole);
    assert_true(bqmodel_counters(w.m)->faults > 10);
    world_end(&w);
    return buf_steal(&text);
}

static void the_same_seed_tells_the_same_story(void **state)
{
    (void)state;
    AUTO(free_ptr) char *first = story(1), *again = story(1), *other = story(2);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
}

static void a_kind_strikes_as_often_as_its_rate_says_and_no_other_does(void **state)
{
    static const struct { enum bqmodel_chaos_kind kind; int status; } kinds[] = {
        {BQMODEL_CHAOS_LOSE_REPLY, 0}, {BQMODEL_CHAOS_DROP_BEFORE, 0}, {BQMODEL_CHAOS_TOO_MANY, 429}, {BQMODEL_CHAOS_RATE_LIMIT, 403}, {BQMODEL_CHAOS_DENIED, 403},
    };
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct world w;
        struct rnd rnd;
        int struck = 0;
        chaotic(&w, &rnd, 7);
        bqmodel_options(w.m)->chaos.per_mille[kinds[k].kind] = 100;
        for (int i = 0; i < ASKED; i++) {
            int status = ask(&w, "GET", "/datasets/ds/tables/s", NULL);
            assert_true(status == 200 || status == kinds[k].status);
            struck += status != 200;
        }
        assert_in_range(struck, 70, 130);
        assert_int_equal(bqmodel_counters(w.m)->chaos[kinds[k].kind], struck);
        assert_int_equal(bqmodel_counters(w.m)->faults, struck);
        world_end(&w);
    }
}

static void servers_fail_in_words_and_in_pages_having_done_it_or_not(void **state)
{
    struct world w;
    struct rnd rnd;
    (void)state;
    for (int html = 0; html < 2; html++) {
        int struck = 0, done = 0;
        chaotic(&w, &rnd, 3);
        bqmodel_options(w.m)->chaos.per_mille[html ? BQMODEL_CHAOS_5XX_HTML : BQMODEL_CHAOS_5XX_JSON] = 300;
        for (int i = 0; i < 100; i++) {
            AUTO(free_ptr) char *body = xasprintf("{\"tableReference\":{\"projectId\":\"local\",\"datasetId\":\"ds\",\"tableId\":\"new%d\"},"
                                              "\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"}]}}", i);
            AUTO(free_ptr) char *name = xasprintf("ds.new%d", i);
            int status = ask(&w, "POST", "/datasets/ds/tables", body);
            if (status == 200)
                continue;
            assert_in_range(status, 500, 504);
            assert_int_equal(strstr(w.last.body, "<html") != NULL, html);
            struck++;
            done += bqmodel_has_table(w.m, name);
        }
        assert_in_range(struck, 15, 45);
        assert_in_range(done, 1, struck - 1);
        world_end(&w);
    }
}

static void a_cut_answer_is_no_json_or_no_answer(void **state)
{
    struct world w;
    struct rnd rnd;
    int none = 0, half = 0;
    (void)state;
    chaotic(&w, &rnd, 5);
    bqmodel_options(w.m)->chaos.per_mille[BQMODEL_CHAOS_CUT_REPLY] = 500;
    for (int i = 0; i < 100; i++) {
        int status = ask(&w, "GET", "/datasets/ds/tables/s", NULL);
        none += status == 0;
        half += status == 200 && w.doc == NULL;
    }
    assert_in_range(none, 10, 40);
    assert_in_range(half, 10, 40);
    world_end(&w);
}

static void a_token_is_refused_once_and_then_left_in_peace_for_a_minute(void **state)
{
    struct world w;
    struct rnd rnd;
    (void)state;
    chaotic(&w, &rnd, 5);
    bqmodel_options(w.m)->chaos.per_mille[BQMODEL_CHAOS_TOKEN] = 900;
    while (ask(&w, "GET", "/datasets/ds/tables/s", NULL) == 200)
        ;
    assert_int_equal(w.last.status, 401);
    assert_answer(&w, "error.errors.0.reason", "authError");
    for (int i = 0; i < 50; i++)
        assert_int_equal(ask(&w, "GET", "/datasets/ds/tables/s", NULL), 200);
    world_sleep(&w, 60000);
    while (ask(&w, "GET", "/datasets/ds/tables/s", NULL) == 200)
        ;
    assert_int_equal(bqmodel_counters(w.m)->chaos[BQMODEL_CHAOS_TOKEN], 2);
    world_end(&w);
}

static void jobs_are_late_with_a_heavy_tail_and_fail_having_done_nothing(void **state)
{
    struct world w;
    struct rnd rnd;
    int well = 0, late = 0, very = 0;
    (void)state;
    chaotic(&w, &rnd, 11);
    bqmodel_options(w.m)->chaos.per_mille[BQMODEL_CHAOS_JOB_SLOW] = 500;
    bqmodel_options(w.m)->chaos.per_mille[BQMODEL_CHAOS_JOB_BACKEND] = 200;
    for (int i = 0; i < 200; i++) {
        char id[32];
        snprintf(id, sizeof(id), "l%d", i);
        int64_t before = bqmodel_count(w.m, "ds.s");
        assert_int_equal(insert_load(&w, id, "s", PLAIN("a", 1, 0, "l1")), 200);
        world_sleep(&w, 200000);
        get_job(&w, id);
        assert_answer(&w, "status.state", "DONE");
        bool good = doc_get(w.doc, "status.errorResult") == NULL;
        assert_int_equal(bqmodel_count(w.m, "ds.s"), before + good);
        int64_t took = doc_int(w.doc, "statistics.endTime", 0) - doc_int(w.doc, "statistics.startTime", 0);
        well += good;
        late += took > 400;
        very += took > 5000;
        assert_true(took < 151000);
    }
    assert_in_range(well, 130, 190);
    assert_in_range(late, 60, 140);
    assert_in_range(very, 2, 40);
    world_end(&w);
}

static void it_ends_when_its_time_is_over(void **state)
{
    struct world w;
    struct rnd rnd;
    (void)state;
    chaotic(&w, &rnd, 5);
    bqmodel_chaos_all(&bqmodel_options(w.m)->chaos, &rnd, 90);
    bqmodel_options(w.m)->chaos.until_us = loop_now_us(w.loop) + 1000 * US_PER_MS;
    while (loop_now_us(w.loop) < bqmodel_options(w.m)->chaos.until_us)
        ask(&w, "GET", "/datasets/ds/tables/s", NULL);
    assert_true(bqmodel_counters(w.m)->faults > 0);
    int64_t before = bqmodel_counters(w.m)->faults;
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(&w, "GET", "/datasets/ds/tables/s", NULL), 200);
    assert_int_equal(bqmodel_counters(w.m)->faults, before);
    world_end(&w);
}

static void what_is_no_chaos_is_refused(void **state)
{
    static const char *const bad[] = {"{\"all\":2}", "{\"weather\":0.1}", "{\"slow_reply\":\"often\"}", "{\"all\":0.2}", "{\"lose_reply\":-0.1}"};
    struct world w;
    struct error err = ERROR_INIT;
    (void)state;
    world_begin(&w, NULL);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(doc_free_auto) doc *d = doc_parse(bad[i], strlen(bad[i]), "chaos", NULL);
        assert_int_equal(bqmodel_chaos_doc(w.m, d, &err), -1);
        assert_null(bqmodel_options(w.m)->chaos.rnd);
    }
    static const char good[] = "{\"all\":0.05,\"lose_reply\":0.2,\"denied\":0.001,\"seed\":4,\"slow_ms\":10}";
    AUTO(doc_free_auto) doc *d = doc_parse(good, strlen(good), "chaos", NULL);
    assert_int_equal(bqmodel_chaos_doc(w.m, d, &err), 0);
    const struct bqmodel_chaos *c = &bqmodel_options(w.m)->chaos;
    assert_int_equal(c->per_mille[BQMODEL_CHAOS_LOSE_REPLY], 200);
    assert_int_equal(c->per_mille[BQMODEL_CHAOS_KEEP_FEWER], 50);
    assert_int_equal(c->per_mille[BQMODEL_CHAOS_JOB_QUOTA], 0);
    assert_int_equal(c->per_mille[BQMODEL_CHAOS_DENIED], 1);
    world_end(&w);
}

/* --- the product's client ------------------------------------------------------------------------------------------------------------------ */

#define JOBS 40
#define BIG (5 * 1024 * 1024) /* bytes: by a resumable session */

struct outcome { bool over; int64_t rows; struct error err; };

static void on_end(void *arg, const struct bq_job_result *r)
{
    struct outcome *o = arg;
    *o = (struct outcome){.over = true, .rows = r->output_rows};
    if (r->err)
        o->err = *r->err;
}

static bool all_over(void *arg)
{
    const struct outcome *o = arg;
    bool all = true;
    for (int i = 0; i < JOBS; i++)
        all &= o[i].over;
    return all;
}

static void loads_come_through_every_fault_at_five_percent_exactly_once(void **state)
{
    struct world w;
    struct rnd faults, own;
    struct outcome ends[JOBS] = {{0}};
    (void)state;
    static const struct bq_ref table = {"local", "ds", "s"};
    chaotic(&w, &faults, 42);
    bqmodel_chaos_all(&bqmodel_options(w.m)->chaos, &faults, 50);
    for (int k = BQMODEL_CHAOS_KEEP_FEWER; k < BQMODEL_CHAOS_KINDS; k++) /* there are only some tens of chunks */
        bqmodel_options(w.m)->chaos.per_mille[k] = 200;
    rnd_seeded(&own, 1);
    struct auth *auth = auth_anonymous();
    struct bq *bq = bq_new(&(struct bq_options){.loop = w.loop, .http = w.http, .auth = auth, .rnd = &own, .base_url = "http://model", .project = "local"});
    AUTO(doc_free_auto) doc *config = bq_load_config(&table);
    struct buf big = BUF_INIT(2 * BIG);
    int64_t rows = 0;
    for (; big.len < BIG; rows++)
        buf_xprintf(&big, "{\"k\":\"%09000" PRId64 "\",\"bqfleet_item\":%" PRId64 "}\n", rows, rows);
    struct http_slice small = {"{\"k\":\"a\",\"bqfleet_item\":1}\n", 27}, whole = {big.data, big.len};
    for (int i = 0; i < JOBS; i++) {
        char id[32];
        snprintf(id, sizeof(id), "load_%d", i);
        struct bq_job_spec spec = {.id_base = id, .configuration = config, .digest = "d", .media = i % 8 ? &small : &whole, .media_count = 1};
        bq_job_start(bq, &spec, on_end, &ends[i]);
    }
    assert_true(loop_until(w.loop, all_over, ends, 3600 * US_PER_S));
    for (int i = 0; i < JOBS; i++) {
        if (ends[i].err.kind != ERR_NONE)
            fail_msg("load %d: %s", i, ends[i].err.text);
        assert_int_equal(ends[i].rows, i % 8 ? 1 : rows);
    }
    assert_int_equal(bqmodel_count(w.m, "ds.s"), JOBS / 8 * rows + JOBS - JOBS / 8);
    for (int k = 0; k < BQMODEL_CHAOS_KINDS; k++)
        if (k != BQMODEL_CHAOS_DENIED && k != BQMODEL_CHAOS_JOB_QUOTA && k != BQMODEL_CHAOS_JOB_CONFLICT)
            assert_true(bqmodel_counters(w.m)->chaos[k] > 0);
    bq_free(bq);
    auth_free(auth);
    buf_free(&big);
    world_end(&w);
}

#define TEST(f) cmocka_unit_test(f)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_same_seed_tells_the_same_story), TEST(a_kind_strikes_as_often_as_its_rate_says_and_no_other_does),
        TEST(servers_fail_in_words_and_in_pages_having_done_it_or_not), TEST(a_cut_answer_is_no_json_or_no_answer),
        TEST(a_token_is_refused_once_and_then_left_in_peace_for_a_minute), TEST(jobs_are_late_with_a_heavy_tail_and_fail_having_done_nothing),
        TEST(it_ends_when_its_time_is_over), TEST(what_is_no_chaos_is_refused), TEST(loads_come_through_every_fault_at_five_percent_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
