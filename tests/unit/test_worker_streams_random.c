#include "tests/unit/support_streams.h"

/* Schedules drawn at random: items of all sizes in few children or many, that end well and badly; uploads whose replies, bytes and sessions are lost; workers that
 * are gone and come back. Whatever comes of it: every item ends once, each of its rows is accepted once, and memory stays in its bounds. */

static struct rnd dice;

static int64_t up_to(int64_t n)
{
    return (int64_t)(rnd_real(&dice) * (double)n);
}

static void by_chance(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    int64_t item = doc_int(msg, "item", -1), rows = streams_rows[item], end = up_to(60);
    if (end < 5)
        rows = up_to(rows + 1);
    for (int64_t row = 0; row < rows; row++)
        streams_say_row(f, item, row);
    switch (end) {
    case 0: fake_exit(f, 9, "killed by signal 9 (Killed)"); break;
    case 1: fake_say(f, "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"retry\",\"message\":\"later\"}}\n", item); break;
    case 2: fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":\"none\"}}\n", item); streams_say_done(f, item); break;
    case 3: break; /* hangs */
    case 4: fake_say(f, "{\"item\":%" PRId64 ",\"error\":\"no\"}\n", item); break;
    default: streams_say_done(f, item);
    }
}

static void trouble(struct kit *k)
{
    static const struct bqmodel_fault faults[] = {
        {.match = "PUT", .kind = BQMODEL_SESSION_GONE}, {.match = "PUT", .kind = BQMODEL_KEEP_FEWER}, {.match = "PUT", .kind = BQMODEL_CUT_CHUNK},
        {.match = "upload", .kind = BQMODEL_LOSE_REPLY}, {.match = "upload", .kind = BQMODEL_DROP_BEFORE}, {.match = "upload", .kind = BQMODEL_STATUS, .status = 503},
        {.match = "upload", .kind = BQMODEL_DELAY}, {.match = "LOAD", .kind = BQMODEL_JOB_SLOW}, {.match = "PUT", .kind = BQMODEL_SESSION_GONE, .executed = true},
        {.match = "LOAD", .kind = BQMODEL_JOB_ERROR, .reason = "backendError"}};
    struct bqmodel_fault f = faults[up_to(ARRAY_LEN(faults))];
    f.skip = (int)up_to(4);
    f.times = 1 + (int)up_to(3);
    f.bytes = up_to(300000);
    f.ms = up_to(20000);
    bqmodel_fault(k->model, &f);
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

#define RANDOM_ITEMS 40
static void one_schedule(uint64_t seed)
{
    struct kit k;
    rnd_seeded(&dice, seed);
    streams_open(&k, LIMIT_BUFFER_LEAST + up_to(3 << 20), 0, 0);
    for (int i = 0; i < RANDOM_ITEMS; i++)
        streams_rows[i] = up_to(4) == 0 ? 20 + up_to(80) : up_to(8);
    k.defs.v[0].window = 1 + up_to(12);
    k.options.parallel = 1 + up_to(20);
    k.options.streams = 1 + up_to(8);
    k.options.load_size = 1000 + up_to(1 << 20);
    streams_begin(&k, by_chance, RANDOM_ITEMS, 2 + up_to(3));
    for (int step = 0; step < 12 && !all_done(&k); step++) {
        int64_t until = loop_now_ms(k.loop) + up_to(8000);
        while (loop_now_ms(k.loop) < until) {
            kit_pass(&k, 10);
            streams_watch(&k);
        }
        trouble(&k);
        if (up_to(4) == 0)
            restart(&k, &k.second, "w2");
        if (up_to(6) == 0)
            restart(&k, &k.worker, "w1");
    }
    bqmodel_clear_faults(k.model);
    if (!kit_wait(&k, streams_all_done, 6 * 3600) || !kit_wait(&k, all_committed, 600))
        fail_msg("seed %" PRIu64 ": %" PRId64 " of %d items done", seed, k.fold->done, RANDOM_ITEMS);
    if (k.fatal[0] || streams_most_held > k.options.buffer + WIDTH + 200)
        fail_msg("seed %" PRIu64 ": %" PRId64 " bytes held of %" PRId64 " %s", seed, streams_most_held, k.options.buffer, k.fatal);
    streams_assert_rows(&k);
    streams_close(&k);
}

static void whatever_happens_each_row_is_there_once(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    if (given != NULL) {
        one_schedule(strtoull(given, NULL, 10));
        return;
    }
    const char *count = getenv("SCHEDULES");
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : 10); seed++)
        one_schedule(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_happens_each_row_is_there_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
