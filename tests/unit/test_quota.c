#include "common/bq/quota.h"

#include "tests/unit/support_worker.h"
#include "common/fleet/envelope.h"

/* Work that quotas have parked: the rest goes on, the parked goes on by itself. Virtual time. */

#define WALL "Quota exceeded: Your table exceeded quota for imports or query appends per table. For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas"
#define PROJECT_WALL "Quota exceeded: Your project exceeded quota for imports per project"

/* --- the classes -------------------------------------------------------------------------------------------------------------------------------- */

struct bench { struct loop *loop; struct rnd rnd; struct quotas *q; };

static void open_bench(struct bench *b)
{
    b->loop = loop_new_virtual(INT64_C(1700000000000000));
    rnd_seeded(&b->rnd, 1);
    b->q = quotas_new(b->loop, &b->rnd);
}

static void close_bench(struct bench *b)
{
    quotas_free(b->q);
    loop_free(b->loop);
}

static const struct quota_claim load_a = {.load = true, .table = "p.d.a", .project = "p"}, load_b = {.load = true, .table = "p.d.b", .project = "p"},
                                merge_a = {.table = "p.d.a", .project = "p"}, merge_b = {.table = "p.d.b", .project = "p"}, select_p = {.project = "p"},
                                load_other = {.load = true, .table = "o.d.a", .project = "o"}, select_o = {.project = "o"};

static void each_class_is_parked_by_itself(void **state)
{
    (void)state;
    static const struct quota_claim *const all[] = {&load_a, &load_b, &merge_a, &merge_b, &select_p, &load_other, &select_o};
    static const struct { const struct quota_claim *who; const char *message; const char *waits; } cases[] = {
        {&load_a, WALL, "1000000"},
        {&load_a, PROJECT_WALL, "1100000"},
        {&load_a, "Quota exceeded: something new", "1000000"},
        {&merge_a, "Quota exceeded: something new", "0010000"},
        {&select_p, "Quota exceeded: something new", "0011100"},
        {&merge_a, "Quota exceeded: Your project exceeded quota for free query bytes scanned.", "0011100"},
        {&merge_a, "UPDATE or DELETE statement over table p.d.a would affect rows in the streaming buffer, which is not supported", "0010000"},
        {&load_a, "Quota exceeded for quota metric 'API requests'", "1111111"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench b;
        open_bench(&b);
        quotas_park(b.q, cases[i].who, failure_find(FROM_REQUEST, 403, "quotaExceeded", cases[i].message), cases[i].message);
        for (size_t c = 0; c < ARRAY_LEN(all); c++)
            if ((quotas_wait_ms(b.q, all[c]) > 0) != (cases[i].waits[c] == '1'))
                fail_msg("\"%s\": claim %zu", cases[i].message, c);
        assert_true((quotas_requests_wait_ms(b.q) > 0) == (strstr(cases[i].message, "API") != NULL));
        assert_non_null(strstr(quotas_text(b.q, cases[i].who), "until 2023-11-14T22:23:2"));
        close_bench(&b);
    }
}

static void one_goes_first_and_the_others_wait_for_how_that_ends(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    const struct failure_row *row = failure_find(FROM_JOB, 0, "quotaExceeded", WALL);
    quotas_park(b.q, &load_a, row, WALL);
    int64_t wait = quotas_wait_ms(b.q, &load_a);
    assert_in_range(wait, 600000, 605000);
    quotas_passed(b.q, &load_a);                 /* one that began before */
    quotas_park(b.q, &load_a, row, WALL);        /* likewise: no longer for it */
    assert_int_equal(quotas_wait_ms(b.q, &load_a), wait);
    loop_step(b.loop, wait * US_PER_MS);
    assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
    assert_in_range(quotas_wait_ms(b.q, &load_a), 1, 10000); /* the second one */
    quotas_park(b.q, &load_a, row, WALL);
    wait = quotas_wait_ms(b.q, &load_a);
    assert_in_range(wait, 1200000, 1205000);
    for (int i = 0; i < 3; i++) {
        loop_step(b.loop, quotas_wait_ms(b.q, &load_a) * US_PER_MS);
        assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
        quotas_park(b.q, &load_a, row, WALL);
        assert_in_range(quotas_wait_ms(b.q, &load_a), 1800000, 1805000);
    }
    loop_step(b.loop, quotas_wait_ms(b.q, &load_a) * US_PER_MS);
    assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
    loop_step(b.loop, 121 * US_PER_S);           /* it has died, or its job is pending */
    assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
    quotas_passed(b.q, &load_a);
    assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
    assert_int_equal(quotas_wait_ms(b.q, &load_a), 0);
    assert_string_equal(quotas_text(b.q, NULL), "");
    close_bench(&b);
}

/* --- a worker ----------------------------------------------------------------------------------------------------------------------------------- */

#define BIG 800 /* bytes of a row: those of all items are more than the buffer */

static void one_row(struct fake_child *f, const doc *msg)
{
    static char filler[BIG + 1];
    memset(filler, 'x', BIG);
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1},\"done\":true}\n", doc_int(msg, "item", -1), filler);
}

static void put_item(struct kit *k, const char *run, int64_t item)
{
    char key[32];
    snprintf(key, sizeof(key), "k%" PRId64, item);
    struct envelope e = {.run = run, .run_len = strlen(run), .item = item, .key = key, .key_len = strlen(key), .payload = "{}", .payload_len = 2};
    struct buf b = BUF_INIT(4096);
    struct error err = ERROR_INIT;
    assert_int_equal(envelope_encode(&e, &b, &err), 0);
    struct bus_out out = {.topic = "t.work.default", .partition = (int32_t)(item % KIT_PARTITIONS), .value = b.data, .value_len = b.len};
    assert_int_equal(bus_publish(k->bus, &out, NULL, NULL, &err), 0);
    buf_free(&b);
}

#define ITEMS_1 2000
#define ITEMS_2 300

static int64_t rows_of(struct kit *k, const char *run)
{
    int64_t rows = 0;
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k->model);
    for (size_t i = 0; i < doc_len(tables); i++)
        if (strstr(doc_str(doc_at(tables, i), NULL, ""), run) != NULL)
            rows += bqmodel_count(k->model, doc_str(doc_at(tables, i), NULL, ""));
    return rows;
}

static bool second_landed(struct kit *k) { return rows_of(k, "_r2_") == ITEMS_2; }
static bool first_landed(struct kit *k) { return rows_of(k, "_r1_") == ITEMS_1; }

/* Run r1 cannot load into its shard; r2 can. */
static void open_runs(struct kit *k, int times)
{
    kit_open(k, HANDLER_EXEC);
    k->script = one_row;
    kit_run(k, kit_record(k));
    struct record *r = kit_record(k);
    snprintf(r->run, sizeof(r->run), "r2");
    snprintf(r->batch, sizeof(r->batch), "b2");
    kit_run(k, r);
    bqmodel_fault(k->model, &(struct bqmodel_fault){.match = "_r1_", .kind = BQMODEL_JOB_ERROR, .times = times, .reason = "quotaExceeded", .message = WALL});
    for (int i = 0; i < ITEMS_1; i++)
        put_item(k, "r1", i);
}

static void open_second(struct kit *k)
{
    for (int i = 0; i < ITEMS_2; i++)
        put_item(k, "r2", i);
}

static void a_wall_before_one_runs_loads_stops_no_other_run(void **state)
{
    (void)state;
    struct kit k;
    struct worker_state s;
    open_runs(&k, 3);
    int64_t began_ms = loop_now_ms(k.loop);
    kit_start(&k);
    kit_pass(&k, 30000); /* r1 fills what it may of the buffer */
    open_second(&k);
    assert_true(kit_wait(&k, second_landed, 120));
    int64_t loads = bqmodel_counters(k.model)->loads;
    assert_int_equal(rows_of(&k, "_r1_"), 0);
    kit_pass(&k, 20000);
    worker_state(k.worker, &s);
    if (strstr(s.waits_for, "waiting for a quota until 2023-11-14T22:2") == NULL || strstr(s.waits_for, "loads into a table p.staging.") == NULL)
        fail_msg("it says that it waits for \"%s\"", s.waits_for);
    kit_pass(&k, 300000);
    assert_int_equal(bqmodel_counters(k.model)->loads, loads); /* nobody knocks before the time is over */
    assert_true(kit_wait(&k, first_landed, 4 * 3600));
    assert_true(loop_now_ms(k.loop) - began_ms >= (10 + 20 + 30) * 60000);
    k.next_item = ITEMS_1 + ITEMS_2;
    assert_true(kit_wait(&k, all_committed, 60));
    assert_int_equal(k.fold->failed, 0);
    worker_state(k.worker, &s);
    assert_string_equal(s.waits_for, "");
    kit_close(&k);
}

/* A process that comes later asks once, and waits as long. */
static void a_new_process_asks_once(void **state)
{
    (void)state;
    struct kit k;
    open_runs(&k, -1);
    open_second(&k);
    kit_start(&k);
    assert_true(kit_wait(&k, second_landed, 120));
    kit_pass(&k, 30000);
    worker_free(k.worker);
    bqmodel_clear_faults(k.model);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "_r1_", .kind = BQMODEL_JOB_ERROR, .times = 1, .reason = "quotaExceeded", .message = WALL});
    int64_t loads = bqmodel_counters(k.model)->loads;
    bq_free(k.bq);
    k.bq = bq_new(&(struct bq_options){.loop = k.loop, .http = bqmodel_http(k.model), .auth = k.auth, .rnd = &k.rnd, .base_url = "http://bq", .project = "p"});
    k.world.bq = k.bq;
    kit_start(&k);
    kit_pass(&k, 120000);
    assert_int_equal(bqmodel_counters(k.model)->loads, loads + 1);
    k.next_item = ITEMS_1 + ITEMS_2;
    assert_true(kit_wait(&k, all_committed, 1200));
    assert_int_equal(rows_of(&k, "_r1_"), ITEMS_1);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_class_is_parked_by_itself),
        cmocka_unit_test(one_goes_first_and_the_others_wait_for_how_that_ends),
        cmocka_unit_test(a_wall_before_one_runs_loads_stops_no_other_run),
        cmocka_unit_test(a_new_process_asks_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
