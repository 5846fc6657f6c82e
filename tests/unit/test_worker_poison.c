#include "common/bus/bus_ops.h"
#include "tests/unit/support_worker.h"
#include "worker/ackmap.h"

/*
 * Items that take their worker down. A worker that dies here is freed without a word to anybody, and another one begins in its place. Handlers take a
 * tenth of a second for what they have; then all of it is answered, or one of the deadly items is among it.
 */

#define TICK_MS 100
#define ITEMS_MOST 400

static struct play {
    bool deadly[ITEMS_MOST];
    int given[ITEMS_MOST];       /* how often handlers got it */
    int attempt[ITEMS_MOST];     /* the highest that one was told */
    int lone_deaths[ITEMS_MOST]; /* of workers that had only it */
    struct { int serial; int64_t item; } held[256];
    size_t held_count;
    int64_t next_tick_ms;
    int deaths;
    bool no_commits;
    char metadata[KIT_PARTITIONS][LIMIT_COMMIT_METADATA + 1];
    int64_t offsets[KIT_PARTITIONS];
    int naming;                  /* commits that named an item to run alone */
    int open_beside;             /* of these, such as had another partition open at the time */
} play;

static struct marks marks_of(int32_t partition)
{
    struct marks m;
    struct error err = ERROR_INIT;
    struct ackmap *map = ackmap_new(play.offsets[partition]);
    assert_int_equal(ackmap_load(map, play.metadata[partition], &m, &err), 0);
    ackmap_free(map);
    return m;
}

/* --- the bus, with a look at what is committed ------------------------------------------------------------------------------------------ */

static const struct bus_ops *honest;

static void note(const struct bus_commit *c)
{
    snprintf(play.metadata[c->partition], sizeof(play.metadata[0]), "%s", c->metadata);
    play.offsets[c->partition] = c->offset;
}

struct refusal { bus_done_cb *cb; void *arg; };

static void refuse(void *arg, const struct error *unused)
{
    (void)unused;
    struct refusal r = *(struct refusal *)arg;
    free(arg);
    struct error err = ERROR_INIT;
    error_set(&err, ERR_RETRY, 0, "the coordinator of the group moves");
    if (r.cb != NULL)
        r.cb(r.arg, &err);
}

static void watched_commit(struct bus_group *g, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    if (play.no_commits) {
        struct refusal *r = xmalloc(sizeof(*r));
        *r = (struct refusal){.cb = cb, .arg = arg};
        honest->group_commit(g, NULL, 0, refuse, r);
        return;
    }
    for (size_t i = 0; i < count; i++)
        note(&commits[i]);
    honest->group_commit(g, commits, count, cb, arg);
}

/* --- handlers ------------------------------------------------------------------------------------------------------------------------------ */

static void slow(struct fake_child *f, const doc *msg)
{
    int64_t item = msg ? doc_int(msg, "item", -1) : -1;
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    if (item < 0)
        return;
    assert_true(item < ITEMS_MOST && play.held_count < ARRAY_LEN(play.held));
    play.held[play.held_count].serial = f->serial;
    play.held[play.held_count++].item = item;
    play.given[item]++;
    play.attempt[item] = (int)i64_max(play.attempt[item], doc_int(msg, "attempt", 0));
    for (int32_t p = 0; p < KIT_PARTITIONS; p++) {
        struct marks m = marks_of(p);
        play.naming += m.alone >= 0;
        for (int32_t other = 0; other < KIT_PARTITIONS && m.alone >= 0; other++)
            play.open_beside += other != p && marks_of(other).holder[0] != '\0';
    }
}

static struct fake_child *child_of(struct kit *k, int serial)
{
    struct fake_child *f = k->fakes;
    while (f != NULL && f->serial != serial)
        f = f->next;
    return f;
}

static bool die(struct kit *k)
{
    if (play.held_count == 1)
        play.lone_deaths[play.held[0].item]++;
    play.deaths++;
    play.held_count = 0;
    worker_free(k->worker);
    kit_start(k);
    return true;
}

/* Answers what handlers have, unless that kills the worker. */
static void tick(struct kit *k)
{
    for (size_t i = 0; i < play.held_count; i++)
        if (play.deadly[play.held[i].item] && child_of(k, play.held[i].serial) != NULL && die(k))
            return;
    for (size_t i = 0; i < play.held_count; i++) {
        struct fake_child *f = child_of(k, play.held[i].serial);
        int64_t item = play.held[i].item;
        if (f != NULL)
            fake_say(f, "{\"item\":%" PRId64 ",\"rows\":[{\"k\":\"x\",\"v\":%" PRId64 "}],\"done\":true}\n", item, item);
    }
    play.held_count = 0;
}

/* Until the condition is met. */
static bool live(struct kit *k, bool (*cond)(struct kit *), int64_t seconds)
{
    int64_t until_ms = loop_now_ms(k->loop) + seconds * 1000;
    while (!cond(k)) {
        if (loop_now_ms(k->loop) >= until_ms)
            return false;
        loop_step(k->loop, 20 * US_PER_MS);
        if (loop_now_ms(k->loop) >= play.next_tick_ms) {
            play.next_tick_ms = loop_now_ms(k->loop) + TICK_MS;
            tick(k);
        }
    }
    return true;
}

static struct bus_ops watched;

static void open_play(struct kit *k, int items, int64_t window)
{
    memset(&play, 0, sizeof(play));
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        play.offsets[p] = -1;
    kit_open(k, HANDLER_EXEC);
    k->script = slow;
    k->defs.v[0].window = window;
    k->options.parallel = 8;
    honest = k->bus->ops;
    watched = *honest;
    watched.group_commit = watched_commit;
    k->bus->ops = &watched;
    kit_run(k, kit_record(k));
    kit_publish(k, items);
}

static void close_play(struct kit *k)
{
    k->bus->ops = honest;
    kit_close(k);
}

static bool finished(struct kit *k)
{
    return all_done(k) && all_committed(k);
}

static const struct fold_failure *failure_of(struct kit *k, int64_t item)
{
    for (size_t i = 0; i < k->fold->failure_count; i++)
        if (k->fold->failures[i].item == item)
            return &k->fold->failures[i];
    return NULL;
}

/* Exactly the deadly items have failed, by what they did while alone; nobody else lost an attempt. */
static void assert_only_the_deadly_failed(struct kit *k)
{
    int deadly = 0;
    for (int64_t i = 0; i < k->next_item; i++) {
        const struct fold_failure *f = failure_of(k, i);
        assert_int_equal(f != NULL, play.deadly[i]);
        assert_int_equal(play.attempt[i], 1);
        deadly += play.deadly[i];
        if (f == NULL)
            continue;
        assert_string_equal(f->reason, "crash");
        assert_int_equal(f->attempts, LIMIT_KILLS);
        assert_non_null(strstr(f->text, "killed its worker 2 times while nothing else ran"));
        assert_int_equal(play.lone_deaths[i], LIMIT_KILLS);
    }
    assert_int_equal(k->fold->failed, deadly);
    assert_int_equal(k->fold->rows - (int64_t)k->fold->exclusion_count, k->next_item - deadly);
    assert_int_equal(play.open_beside, 0);
}

/* --- one that kills ------------------------------------------------------------------------------------------------------------------------ */

static void only_the_item_that_kills_its_worker_fails(void **state)
{
    (void)state;
    for (int64_t window = 1; window <= 4; window += 3) {
        struct kit k;
        open_play(&k, 80, window);
        play.deadly[21] = true;
        kit_start(&k);
        assert_true(live(&k, finished, 600));
        assert_only_the_deadly_failed(&k);
        assert_true(play.deaths <= LIMIT_TAKEOVERS + 1 + LIMIT_KILLS);
        assert_int_equal(doc_len(k.dead), 1);
        assert_int_equal(doc_int(k.dead, "0.item", -1), 21);
        close_play(&k);
    }
}

static void several_that_kill_are_found_one_after_another(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 200, 4);
    play.deadly[3] = play.deadly[5] = play.deadly[7] = play.deadly[60] = play.deadly[199] = true;
    kit_start(&k);
    assert_true(live(&k, finished, 1200));
    assert_only_the_deadly_failed(&k);
    assert_true(play.deaths <= LIMIT_TAKEOVERS + 1 + 5 * (LIMIT_KILLS + 1));
    close_play(&k);
}

/* The first item of all, and nothing else there: it is found, too. */
static void an_item_that_is_the_only_one_is_found(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 1, 1);
    play.deadly[0] = true;
    kit_start(&k);
    assert_true(live(&k, finished, 600));
    assert_int_equal(k.fold->failed, 1);
    close_play(&k);
}

/* After the deaths nothing is remembered that would slow what comes later. */
static void once_what_was_in_doubt_is_done_all_is_as_before(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 60, 4);
    play.deadly[11] = true;
    kit_start(&k);
    assert_true(live(&k, finished, 600));
    for (int32_t p = 0; p < KIT_PARTITIONS; p++) {
        struct marks m = marks_of(p);
        assert_int_equal(m.suspects.count, 0);
        assert_int_equal(m.out.count, 0);
        assert_int_equal(m.alone, -1);
        assert_int_equal(m.killed, -1);
        m.takeovers = 0; /* counted until LIMIT_DOUBT more are done */
    }
    kit_pass(&k, 3000);
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        assert_string_equal(marks_of(p).holder, ""); /* idle: closed */
    close_play(&k);
}

/* --- those that do not ---------------------------------------------------------------------------------------------------------------------- */

static struct kit *deaths_to_come;
static int from_outside;

/* Killed from outside in the middle of its work, so many times in a row. */
static bool killed_often(struct kit *k)
{
    deaths_to_come = k;
    if (play.held_count > 0 && from_outside > 0) {
        from_outside--;
        die(k);
    }
    return from_outside == 0;
}

static void workers_killed_from_outside_fail_no_item(void **state)
{
    (void)state;
    for (int times = 1; times <= LIMIT_TAKEOVERS + 1; times++) {
        struct kit k;
        open_play(&k, 100, 4);
        kit_start(&k);
        from_outside = times;
        assert_true(live(&k, killed_often, 600));
        assert_true(live(&k, finished, 600));
        assert_int_equal(play.deaths, times);
        assert_only_the_deadly_failed(&k);
        close_play(&k);
    }
}

static bool at_work(struct kit *k)
{
    (void)k;
    return play.held_count > 0;
}

static void restarts_in_order_count_nothing(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 200, 4);
    for (int i = 0; i < 20; i++) {
        kit_start(&k);
        assert_true(live(&k, at_work, 60));
        play.held_count = 0;
        kit_drain(&k, 0); /* what handlers have is handed back */
        for (int32_t p = 0; p < KIT_PARTITIONS; p++) {
            assert_int_equal(marks_of(p).takeovers, 0);
            assert_string_equal(marks_of(p).holder, "");
        }
    }
    kit_start(&k);
    assert_true(live(&k, finished, 600));
    assert_only_the_deadly_failed(&k);
    close_play(&k);
}

static void a_drain_that_is_cut_short_counts_nothing(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 100, 4);
    for (int i = 0; i < 10; i++) {
        kit_start(&k);
        assert_true(live(&k, at_work, 60));
        worker_drain(k.worker, 25000, true, NULL, NULL);
        kit_pass(&k, 50);
        play.held_count = 0;
        worker_free(k.worker); /* killed in the middle of it */
    }
    kit_start(&k);
    kit_pass(&k, 50);
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        assert_int_equal(marks_of(p).takeovers, 0);
    assert_true(live(&k, finished, 600));
    close_play(&k);
}

/* --- what must be committed first ------------------------------------------------------------------------------------------------------------- */

static void nothing_runs_before_its_partition_is_known_to_be_open(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 20, 4);
    play.no_commits = true;
    kit_start(&k);
    kit_pass(&k, 20000);
    assert_int_equal(play.held_count, 0);
    play.no_commits = false;
    assert_true(live(&k, finished, 60));
    assert_only_the_deadly_failed(&k);
    close_play(&k);
}

static bool is_quarantined(struct kit *k)
{
    (void)k;
    return play.naming > 0;
}

/* From here on commits are refused: no further suspect may run, as nobody would know who was it. */
static void no_suspect_runs_before_it_is_known_to_be_named(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(live(&k, is_quarantined, 600));
    play.no_commits = true;
    tick(&k);
    int before = play.naming;
    kit_pass(&k, 20000);
    assert_int_equal(play.held_count, 0);
    assert_int_equal(play.naming, before);
    play.no_commits = false;
    assert_true(live(&k, finished, 600));
    assert_only_the_deadly_failed(&k);
    close_play(&k);
}

/* --- others come and go meanwhile -------------------------------------------------------------------------------------------------------------- */

static void a_rebalance_in_quarantine_changes_nothing(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 80, 4);
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS + 1;
    assert_true(live(&k, killed_often, 600));
    assert_true(live(&k, is_quarantined, 600));
    for (int i = 0; i < 6; i++) { /* joins, leaves */
        struct error err = ERROR_INIT;
        struct worker_options o = k.options;
        o.name = "w2";
        k.second = worker_start(&o, &err);
        assert_non_null(k.second);
        kit_pass(&k, 150);
        tick(&k);
        worker_drain(k.second, 0, true, NULL, NULL);
        kit_pass(&k, 3000);
        worker_free(k.second);
        k.second = NULL;
    }
    assert_true(live(&k, finished, 600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(k.fold->rows - (int64_t)k.fold->exclusion_count, 80);
    close_play(&k);
}

static void a_suspect_of_a_paused_run_waits_without_being_run(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(live(&k, is_quarantined, 600));
    kit_state(&k, true);
    live(&k, finished, 30);
    int deaths = play.deaths, named = play.naming;
    live(&k, finished, 100);
    assert_int_equal(play.deaths, deaths);
    assert_int_equal(play.naming, named);
    kit_state(&k, false);
    assert_true(live(&k, finished, 600));
    assert_only_the_deadly_failed(&k);
    close_play(&k);
}

/* Its program cannot be started any more: the other items are not held up by it for ever. */
static void a_suspect_without_a_handler_is_put_off(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 80, 4);
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS + 1;
    assert_true(live(&k, killed_often, 600));
    kit_pass(&k, 5);
    k.refuse_start = true;
    kit_pass(&k, 400);
    k.refuse_start = false;
    assert_true(live(&k, finished, 1200));
    assert_only_the_deadly_failed(&k);
    close_play(&k);
}

static void a_run_that_ends_in_quarantine_ends(void **state)
{
    (void)state;
    struct kit k;
    open_play(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(live(&k, is_quarantined, 600));
    kit_end(&k);
    assert_true(live(&k, all_committed, 60));
    assert_true(worker_idle(&k));
    close_play(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_item_that_kills_its_worker_fails),
        cmocka_unit_test(several_that_kill_are_found_one_after_another),
        cmocka_unit_test(an_item_that_is_the_only_one_is_found),
        cmocka_unit_test(once_what_was_in_doubt_is_done_all_is_as_before),
        cmocka_unit_test(workers_killed_from_outside_fail_no_item),
        cmocka_unit_test(restarts_in_order_count_nothing),
        cmocka_unit_test(a_drain_that_is_cut_short_counts_nothing),
        cmocka_unit_test(nothing_runs_before_its_partition_is_known_to_be_open),
        cmocka_unit_test(no_suspect_runs_before_it_is_known_to_be_named),
        cmocka_unit_test(a_rebalance_in_quarantine_changes_nothing),
        cmocka_unit_test(a_suspect_of_a_paused_run_waits_without_being_run),
        cmocka_unit_test(a_suspect_without_a_handler_is_put_off),
        cmocka_unit_test(a_run_that_ends_in_quarantine_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
