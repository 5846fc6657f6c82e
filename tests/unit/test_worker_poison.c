#include "tests/unit/support_poison.h"

#include "worker/quarantine_internal.h"

/* Items that take their worker down, and what becomes of them and of the others. */

static const struct fold_failure *failure_of(struct kit *k, int64_t item)
{
    for (size_t i = 0; i < k->fold->failure_count; i++)
        if (k->fold->failures[i].item == item)
            return &k->fold->failures[i];
    return NULL;
}

/* --- one that kills ------------------------------------------------------------------------------------------------------------------------ */

static void only_the_item_that_kills_its_worker_fails(void **state)
{
    (void)state;
    for (int64_t window = 1; window <= 4; window += 3) {
        struct kit k;
        play_open(&k, 80, window);
        play.deadly[21] = true;
        kit_start(&k);
        assert_true(play_on(&k, play_finished, 600));
        play_assert_only_the_deadly_failed(&k);
        assert_true(play.deaths <= LIMIT_TAKEOVERS + 1 + LIMIT_KILLS);
        assert_int_equal(doc_len(k.dead), 1);
        assert_int_equal(doc_int(k.dead, "0.item", -1), 21);
        play_close(&k);
    }
}

static void several_that_kill_are_found_one_after_another(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 200, 4);
    play.deadly[3] = play.deadly[5] = play.deadly[7] = play.deadly[60] = play.deadly[199] = true;
    kit_start(&k);
    assert_true(play_on(&k, play_finished, 1200));
    play_assert_only_the_deadly_failed(&k);
    assert_true(play.deaths <= LIMIT_TAKEOVERS + 1 + 5 * (LIMIT_KILLS + 1));
    play_close(&k);
}

/* The first item of all, and nothing else there: it is found, too. */
static void an_item_that_is_the_only_one_is_found(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 1, 1);
    play.deadly[0] = true;
    kit_start(&k);
    assert_true(play_on(&k, play_finished, 600));
    assert_int_equal(k.fold->failed, 1);
    play_close(&k);
}

/* After the deaths nothing is remembered that would slow what comes later. */
static void once_what_was_in_doubt_is_done_all_is_as_before(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 60, 4);
    play.deadly[11] = true;
    kit_start(&k);
    assert_true(play_on(&k, play_finished, 600));
    for (int32_t p = 0; p < KIT_PARTITIONS; p++) {
        struct marks m = play_marks(p);
        assert_int_equal(m.suspects.count, 0);
        assert_int_equal(m.out.count, 0);
        assert_int_equal(m.alone, -1);
        assert_int_equal(m.killed, -1);
        m.takeovers = 0; /* counted until LIMIT_DOUBT more are done */
    }
    kit_pass(&k, 3000);
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        assert_string_equal(play_marks(p).holder, ""); /* idle: closed */
    play_close(&k);
}

/* --- those that do not ---------------------------------------------------------------------------------------------------------------------- */

static int from_outside;

/* Killed from outside in the middle of its work, so many times in a row. */
static bool killed_often(struct kit *k)
{
    if (play.held_count > 0 && from_outside > 0) {
        from_outside--;
        play_die(k, 0);
    }
    return from_outside == 0;
}

static void workers_killed_from_outside_fail_no_item(void **state)
{
    (void)state;
    for (int times = 1; times <= LIMIT_TAKEOVERS + 1; times++) {
        struct kit k;
        play_open(&k, 100, 4);
        kit_start(&k);
        from_outside = times;
        assert_true(play_on(&k, killed_often, 600));
        kit_pass(&k, 150);
        kit_publish(&k, 60); /* come when the worker is careful already */
        assert_true(play_on(&k, play_finished, 600));
        assert_int_equal(play.deaths, times);
        play_assert_only_the_deadly_failed(&k);
        play_close(&k);
    }
}

/* It has an attempt less, and waits for the next one like others: it is suspected no longer. */
static void a_suspect_that_fails_without_harm_is_a_suspect_no_longer(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    for (int i = 0; i < 80; i++)
        play.fails[i] = true;
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS + 1;
    assert_true(play_on(&k, killed_often, 600));
    assert_true(play_on(&k, play_finished, 600));
    assert_true(play.naming > 0);
    for (int i = 0; i < 80; i++) {
        assert_true(play.named[i] <= 1);
        assert_int_equal(play.attempt[i], 2);
    }
    assert_int_equal(k.fold->failed, 0);
    play_close(&k);
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
    play_open(&k, 200, 4);
    for (int i = 0; i < 20; i++) {
        kit_start(&k);
        assert_true(play_on(&k, at_work, 60));
        play.held_count = 0;
        kit_drain(&k, 0); /* what handlers have is handed back */
        for (int32_t p = 0; p < KIT_PARTITIONS; p++) {
            assert_int_equal(play_marks(p).takeovers, 0);
            assert_string_equal(play_marks(p).holder, "");
        }
    }
    kit_start(&k);
    assert_true(play_on(&k, play_finished, 600));
    play_assert_only_the_deadly_failed(&k);
    play_close(&k);
}

static void a_drain_that_is_cut_short_counts_nothing(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 100, 4);
    for (int i = 0; i < 10; i++) {
        kit_start(&k);
        assert_true(play_on(&k, at_work, 60));
        worker_drain(k.worker, 25000, true, NULL, NULL);
        kit_pass(&k, 50);
        play.held_count = 0;
        worker_free(k.worker); /* killed in the middle of it */
    }
    kit_start(&k);
    kit_pass(&k, 50);
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        assert_int_equal(play_marks(p).takeovers, 0);
    assert_true(play_on(&k, play_finished, 600));
    play_close(&k);
}

/* --- what must be committed first ------------------------------------------------------------------------------------------------------------- */

static void nothing_runs_before_its_partition_is_known_to_be_open(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 20, 4);
    play.no_commits = true;
    kit_start(&k);
    kit_pass(&k, 20000);
    assert_int_equal(play.held_count, 0);
    play.no_commits = false;
    assert_true(play_on(&k, play_finished, 60));
    play_assert_only_the_deadly_failed(&k);
    play_close(&k);
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
    play_open(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(play_on(&k, is_quarantined, 600));
    play.no_commits = true;
    play_tick(&k);
    int before = play.naming;
    kit_pass(&k, 20000);
    assert_int_equal(play.held_count, 0);
    assert_int_equal(play.naming, before);
    play.no_commits = false;
    assert_true(play_on(&k, play_finished, 600));
    play_assert_only_the_deadly_failed(&k);
    play_close(&k);
}

/* --- others come and go meanwhile -------------------------------------------------------------------------------------------------------------- */

static void a_rebalance_in_quarantine_changes_nothing(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS + 1;
    assert_true(play_on(&k, killed_often, 600));
    assert_true(play_on(&k, is_quarantined, 600));
    for (int i = 0; i < 6; i++) { /* joins, leaves */
        play_second(&k);
        kit_pass(&k, 150);
        play_tick(&k);
        worker_drain(k.second, 0, true, NULL, NULL);
        kit_pass(&k, 3000);
        worker_free(k.second);
        k.second = NULL;
    }
    assert_true(play_on(&k, play_finished, 600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(k.fold->rows - (int64_t)k.fold->exclusion_count, 80);
    play_close(&k);
}

static bool lets_some_out(struct kit *k)
{
    return k->worker->quarantine->out_count > 0;
}

/* One that was not let out. */
static struct item *kept_of(const struct quarantine *q, int32_t partition)
{
    struct item *item;
    TAILQ_FOREACH(item, &q->kept, link) {
        bool out = false;
        for (size_t i = 0; i < q->out_count; i++)
            out |= q->out[i].item == item;
        if (item->first.partition == partition && !out)
            return item;
    }
    return NULL;
}

/* The partition comes anew, with that item suspected of its last worker's death. */
static void assign_with_suspect(int32_t partition, const struct item *item)
{
    struct marks m;
    struct buf text = BUF_INIT(LIMIT_COMMIT_METADATA);
    int64_t base = i64_max(play.offsets[partition], 0);
    struct ackmap *map = ackmap_new(base);
    marks_init(&m);
    m.takeovers = LIMIT_TAKEOVERS;
    m.until = base + LIMIT_DOUBT;
    assert_true(offsets_add(&m.suspects, item->first.offset));
    ackmap_metadata(map, &m, &text);
    play.events.revoked(play.events_arg, partition, true);
    play.events.assigned(play.events_arg, partition, base, text.data);
    ackmap_free(map);
    buf_free(&text);
}

static int64_t the_suspect;
static int the_suspect_before; /* so often it had run */

static bool the_suspect_has_run(struct kit *k)
{
    return play.given[the_suspect] > the_suspect_before && k->worker->quarantine->state == QUIET;
}

/*
 * It was let out, which is not yet committed, when its partition goes to another member, and a suspect's turn comes. After that nothing holds it back any more: it is free, and
 * with a handler, when its place among those that were let out is looked at again.
 */
static void an_item_let_out_whose_partition_was_revoked_is_not_queued_again(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    k.options.parallel = 64; /* there is always a place for one more */
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS;
    assert_true(play_on(&k, killed_often, 600));
    play.no_outs = true;
    assert_true(play_on(&k, lets_some_out, 600));
    const struct quarantine *q = k.worker->quarantine;
    int32_t partition = q->out[0].item->first.partition, other = (partition + 1) % KIT_PARTITIONS;
    int64_t index = q->out[0].item->index;
    int before = play.given[index];
    assert_false(q->out[0].known);
    assert_int_equal(play.held_count, 0);
    struct item *suspect = kept_of(q, other);
    assert_non_null(suspect);
    the_suspect = suspect->index;
    the_suspect_before = play.given[the_suspect];
    play.events.revoked(play.events_arg, partition, true);
    assign_with_suspect(other, suspect);
    play.no_outs = false;
    assert_true(play_on(&k, the_suspect_has_run, 600));
    (void)play_on(&k, play_finished, 20);
    assert_int_equal(play.given[index], before + 1);
    play_die(&k, 0); /* whoever comes next has the partition again */
    assert_true(play_on(&k, play_finished, 600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(k.fold->rows - (int64_t)k.fold->exclusion_count, 80);
    play_close(&k);
}

static void a_suspect_of_a_paused_run_waits_without_being_run(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(play_on(&k, is_quarantined, 600));
    kit_state(&k, true);
    play_on(&k, play_finished, 30);
    int deaths = play.deaths, named = play.naming;
    play_on(&k, play_finished, 100);
    assert_int_equal(play.deaths, deaths);
    assert_int_equal(play.naming, named);
    kit_state(&k, false);
    assert_true(play_on(&k, play_finished, 600));
    play_assert_only_the_deadly_failed(&k);
    play_close(&k);
}

static bool says_alone(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "runs alone") != NULL;
}

/* Its program cannot be started any more: others are not held up by it for long. */
static void a_suspect_without_a_handler_is_put_off(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    kit_start(&k);
    from_outside = LIMIT_TAKEOVERS + 1;
    assert_true(play_on(&k, killed_often, 600));
    assert_true(play_on(&k, is_quarantined, 600));
    play_tick(&k); /* the program works */
    k.refuse_start = true;
    kit_pass(&k, 20);
    for (struct fake_child *f = k.fakes; f != NULL; f = f->next)
        fake_exit(f, 9, "killed by signal 9 (Killed)");
    kit_pass(&k, 20000);
    assert_true(says_alone(&k));
    kit_pass(&k, 20000);
    assert_false(says_alone(&k));
    k.refuse_start = false;
    assert_true(play_on(&k, play_finished, 1200));
    assert_int_equal(k.fold->failed, 0);
    play_close(&k);
}

static void a_run_that_ends_in_quarantine_ends(void **state)
{
    (void)state;
    struct kit k;
    play_open(&k, 80, 4);
    play.deadly[21] = true;
    kit_start(&k);
    assert_true(play_on(&k, is_quarantined, 600));
    kit_end(&k);
    assert_true(play_on(&k, all_committed, 60));
    assert_true(worker_idle(&k));
    play_close(&k);
}

/* --- schedules drawn at random ---------------------------------------------------------------------------------------------------------------------- */

static struct rnd dice;

static bool by_chance(int64_t one_in)
{
    return rnd_below(&dice, (uint64_t)one_in) == 0;
}

static void leave_in_order(struct kit *k, int worker)
{
    struct worker **w = worker == 0 ? &k->worker : &k->second;
    worker_drain(*w, 0, true, NULL, NULL);
    kit_pass(k, 3000);
    worker_free(*w);
    *w = NULL;
    if (worker == 0)
        kit_start(k);
    else
        play_second(k);
}

/* Two workers; deadly items, deaths from outside, restarts in order, commits that are refused for a while. */
static void one_schedule(uint64_t seed)
{
    struct kit k;
    rnd_seeded(&dice, seed);
    play_open(&k, 150, 1 + (int64_t)rnd_below(&dice, 5));
    for (int i = 0; i < 150; i++)
        play.deadly[i] = by_chance(60);
    kit_start(&k);
    play_second(&k);
    for (int step = 0; step < 40 && !play_finished(&k); step++) {
        (void)play_on(&k, play_finished, 1 + (int64_t)rnd_below(&dice, 4));
        play.no_commits = by_chance(8);
        if (by_chance(8))
            play_die(&k, (int)rnd_below(&dice, 2));
        if (by_chance(8) && !play.no_commits)
            leave_in_order(&k, (int)rnd_below(&dice, 2));
    }
    play.no_commits = false;
    if (!play_on(&k, play_finished, 3600))
        fail_msg("seed %" PRIu64 ": %" PRId64 " items done, %" PRId64 " committed", seed, k.fold->done, kit_committed(&k));
    for (int64_t i = 0; i < 150; i++) {
        bool failed = failure_of(&k, i) != NULL;
        if (failed ? play.lone_deaths[i] < LIMIT_KILLS : play.deadly[i])
            fail_msg("seed %" PRIu64 ": item %" PRId64 " has %s, after %d lone deaths", seed, i, failed ? "failed" : "not failed", play.lone_deaths[i]);
        assert_int_equal(play.attempt[i], 1);
    }
    assert_int_equal(play.open_beside + play.crowded + play.unannounced, 0);
    assert_int_equal(k.fold->rows - (int64_t)k.fold->exclusion_count, 150 - k.fold->failed);
    play_close(&k);
}

static void whatever_happens_only_those_that_kill_alone_fail(void **state)
{
    (void)state;
    const char *given = getenv("SEED"), *count = getenv("SCHEDULES");
    if (given != NULL) {
        one_schedule(strtoull(given, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : 15); seed++)
        one_schedule(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_item_that_kills_its_worker_fails),
        cmocka_unit_test(several_that_kill_are_found_one_after_another),
        cmocka_unit_test(an_item_that_is_the_only_one_is_found),
        cmocka_unit_test(once_what_was_in_doubt_is_done_all_is_as_before),
        cmocka_unit_test(workers_killed_from_outside_fail_no_item),
        cmocka_unit_test(a_suspect_that_fails_without_harm_is_a_suspect_no_longer),
        cmocka_unit_test(restarts_in_order_count_nothing),
        cmocka_unit_test(a_drain_that_is_cut_short_counts_nothing),
        cmocka_unit_test(nothing_runs_before_its_partition_is_known_to_be_open),
        cmocka_unit_test(no_suspect_runs_before_it_is_known_to_be_named),
        cmocka_unit_test(a_rebalance_in_quarantine_changes_nothing),
        cmocka_unit_test(an_item_let_out_whose_partition_was_revoked_is_not_queued_again),
        cmocka_unit_test(a_suspect_of_a_paused_run_waits_without_being_run),
        cmocka_unit_test(a_suspect_without_a_handler_is_put_off),
        cmocka_unit_test(a_run_that_ends_in_quarantine_ends),
        cmocka_unit_test(whatever_happens_only_those_that_kill_alone_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
