#include "tests/unit/support_query.h"

#include "common/base/log.h"

/* Schedules drawn at random: replies are lost, statements fail, run long or are refused, workers die, leave, and have a twin. In the end each item has its row
 * exactly once, or has failed because of its own data. */

#define ITEMS 150

static int64_t below(struct kit *k, int64_t n)
{
    return (int64_t)(rnd_real(&k->rnd) * (double)n);
}

static void draw_faults(struct kit *k)
{
    static const struct bqmodel_fault kinds[] = {
        {.match = "bqfleet_query", .kind = BQMODEL_LOSE_REPLY},
        {.match = "bqfleet_query", .kind = BQMODEL_DROP_BEFORE},
        {.match = "bqfleet_query", .kind = BQMODEL_STATUS, .status = 503},
        {.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 8000},
        {.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 90000},
        {.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "busy"},
        {.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .reason = "resourcesExceeded", .message = "Resources exceeded during query execution"},
        {.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .reason = "quotaExceeded", .message = "Quota exceeded"},
        {.match = "/tables", .kind = BQMODEL_LOSE_REPLY},
        {.match = "/cancel", .kind = BQMODEL_DROP_BEFORE, .times = -1},
    };
    for (int i = 0; i < 8; i++) {
        struct bqmodel_fault f = kinds[below(k, ARRAY_LEN(kinds))];
        f.skip = (int)below(k, 6);
        bqmodel_fault(k->model, &f);
    }
}

static void twin(struct kit *k)
{
    if (k->second != NULL) {
        worker_free(k->second);
        k->second = NULL;
        return;
    }
    struct error err = ERROR_INIT;
    struct worker_options o = k->options;
    o.name = "w2";
    k->second = worker_start(&o, &err);
    assert_non_null(k->second);
}

static void act(struct kit *k)
{
    switch (below(k, 6)) {
    case 0: /* killed, and started anew */
        worker_free(k->worker);
        kit_start(k);
        break;
    case 1:
        kit_drain(k, below(k, 10) * 1000);
        kit_start(k);
        break;
    case 2:
        twin(k);
        break;
    default:
        break;
    }
}

static void play(uint64_t seed)
{
    struct kit k;
    query_open(&k, NUMBERS, 5);
    k.defs.v[0].window = 5 + (int64_t)(seed % 40);
    rnd_seeded(&k.rnd, seed);
    draw_faults(&k);
    kit_run(&k, kit_record(&k));
    int64_t bad = below(&k, ITEMS);
    kit_publish(&k, (int)bad);
    kit_publish_item(&k, k.next_item++, 0, "{\"n\":\"many\"}");
    kit_publish(&k, ITEMS - 1 - (int)bad);
    kit_start(&k);
    for (int i = 0; i < 12 && !all_done(&k); i++) {
        kit_pass(&k, below(&k, 9000));
        int64_t committed = kit_committed(&k);
        kit_pass(&k, 20); /* what was acknowledged is in the fold by then */
        assert_true(committed <= k.fold->done);
        act(&k);
    }
    if (!kit_wait(&k, all_done, 7200))
        fail_msg("seed %" PRIu64 ": %" PRId64 " of %d items", seed, k.fold->done, ITEMS);
    assert_string_equal(k.fatal, "");
    assert_true(fold_is_failed(k.fold, bad));
    query_assert_numbers(&k, ITEMS);
    if (!kit_wait(&k, all_committed, 3600)) /* a worker may wait for a quota with items that another one has done meanwhile */
        fail_msg("seed %" PRIu64 ": %" PRId64 " of %d messages are committed", seed, kit_committed(&k), ITEMS);
    kit_close(&k);
}

static void whatever_happens_each_item_has_its_row_once(void **state)
{
    (void)state;
    const char *count = getenv("SCHEDULES");
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : 25); seed++)
        play(seed);
}

int main(void)
{
    log_setup(LOG_ERROR, LOG_PLAIN, NULL, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_happens_each_item_has_its_row_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
