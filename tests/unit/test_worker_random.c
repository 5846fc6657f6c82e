#include "tests/unit/support_worker.h"

/* Schedules drawn at random: handlers that answer, fail, die, talk nonsense or hang, loads that fail or get lost, workers that are killed and come back, small
 * buffers. Whatever comes of it: every item ends once, its row is accepted once, and no offset is committed before its item is done. */

#define ITEMS 120

static struct rnd dice;

static int64_t up_to(int64_t n)
{
    return (int64_t)(rnd_real(&dice) * (double)n);
}

static void answer(struct fake_child *f, int64_t item)
{
    static char text[4000];
    size_t n = (size_t)up_to(sizeof(text) - 1);
    memset(text, 'x', n);
    text[n] = '\0';
    switch (up_to(40)) {
    case 0: fake_exit(f, 9, "killed by signal 9 (Killed)"); break;
    case 1: fake_say(f, "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"retry\",\"message\":\"later\"}}\n", item); break;
    case 2: fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":\"none\"}}\n{\"item\":%" PRId64 ",\"done\":true}\n", item, item); break;
    case 3: fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":1\n{\"item\":%" PRId64 ",\"done\":true}\n", item, item); break;
    case 4: break; /* hangs */
    case 5: fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":1}}\n", item); fake_exit(f, 1 << 8, "exit status 1"); break;
    default: fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":%" PRId64 "}}\n{\"item\":%" PRId64 ",\"done\":true}\n", item, text, item, item);
    }
}

static void by_chance(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        answer(f, doc_int(msg, "item", -1));
}

static void trouble(struct kit *k)
{
    static const enum bqmodel_fault_kind kinds[] = {BQMODEL_JOB_SLOW, BQMODEL_JOB_ERROR, BQMODEL_LOSE_REPLY, BQMODEL_JOB_PENDING, BQMODEL_DROP_BEFORE};
    bqmodel_fault(k->model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = kinds[up_to(ARRAY_LEN(kinds))], .times = 1, .ms = 1000 * (1 + (int)up_to(30)),
                                                    .reason = "backendError", .message = "Error encountered during execution. Retrying may solve the problem."});
}

static void restart(struct kit *k, struct worker **w, const char *name)
{
    struct error err = ERROR_INIT;
    worker_free(*w);
    struct worker_options o = k->options;
    o.name = name;
    *w = worker_start(&o, &err);
    assert_non_null(*w);
}

static void check_commits(struct kit *k)
{
    int64_t committed = kit_committed(k);
    kit_pass(k, 20); /* what was acknowledged is in the fold by then */
    assert_true(committed <= k->fold->done);
}

static void one_schedule(uint64_t seed)
{
    struct kit k;
    rnd_seeded(&dice, seed);
    kit_open(&k, HANDLER_EXEC);
    k.script = by_chance;
    k.defs.v[0].window = 1 + up_to(4);
    k.options.parallel = 1 + up_to(8);
    k.options.buffer = 9000 + up_to(40000);
    k.options.load_size = 2000 + up_to(20000);
    k.options.compress = up_to(3) == 0;
    struct record *r = kit_record(&k);
    r->timeout_ms = 5000;
    r->attempts = 1 + up_to(4);
    kit_run(&k, r);
    kit_publish(&k, ITEMS);
    kit_start(&k);
    for (int step = 0; step < 20 && !all_done(&k); step++) {
        kit_pass(&k, up_to(8000));
        check_commits(&k);
        if (up_to(3) == 0)
            trouble(&k);
        if (up_to(4) == 0)
            restart(&k, &k.second, "w2");
        if (up_to(6) == 0)
            restart(&k, &k.worker, "w1");
    }
    bqmodel_clear_faults(k.model);
    if (!kit_wait(&k, all_done, 6 * 3600) || !kit_wait(&k, all_committed, 600))
        fail_msg("seed %" PRIu64 ": %" PRId64 " of %d items done, %" PRId64 " committed", seed, k.fold->done, ITEMS, kit_committed(&k));
    int64_t rows = k.fold->rows - (int64_t)k.fold->exclusion_count; /* one row an item */
    if (rows != ITEMS - k.fold->failed || k.fatal[0])
        fail_msg("seed %" PRIu64 ": %" PRId64 " rows, %" PRId64 " failed %s", seed, rows, k.fold->failed, k.fatal);
    kit_close(&k);
}

static void whatever_happens_each_item_ends_once(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    if (given != NULL) {
        one_schedule(strtoull(given, NULL, 10));
        return;
    }
    const char *count = getenv("SCHEDULES");
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : 20); seed++)
        one_schedule(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_happens_each_item_ends_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
