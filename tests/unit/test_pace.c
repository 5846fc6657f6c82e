#include "worker/pace.h"

#include "tests/unit/support_worker.h"

/* Budgets of loads: nothing fails, the linger stretches. Virtual time. */

#define SECOND US_PER_S
#define HOUR (3600 * SECOND)

/* A process that would always have another load, which takes a second each, for two days. Returns the loads of the second one. */
static int64_t loads_of_a_day(int64_t workers, bool updates, int *in_10s)
{
    static int64_t at[400000];
    int64_t now = 0, count = 0, day_two = 0;
    struct pace p;
    pace_init(&p, 0, updates);
    *in_10s = 0;
    while (now < 48 * HOUR) {
        int64_t wait = pace_wait_us(&p, &(struct pace_view){.now_us = now, .workers = pace_is_short(&p) ? workers : 1});
        if (wait > 0) {
            now += wait;
            continue;
        }
        pace_begins(&p, now);
        now += SECOND;
        pace_ends(&p, now);
        at[count++] = now;
        day_two += now > 24 * HOUR;
        int64_t first = count - 1;
        while (first > 0 && now - at[first - 1] < 10 * SECOND)
            first--;
        *in_10s = (int)i64_max(*in_10s, count - first);
        int64_t day = count - 1;
        while (day > 0 && now - at[day - 1] < 24 * HOUR)
            day--;
        assert_true(count - day <= 1450);
    }
    return day_two;
}

static void a_table_has_no_more_loads_in_a_day_than_it_may(void **state)
{
    (void)state;
    int in_10s;
    assert_in_range(loads_of_a_day(1, false, &in_10s), 850, 1400);
    assert_true(in_10s > 5);
}

static void nor_more_updates_in_ten_seconds(void **state)
{
    (void)state;
    int in_10s;
    assert_in_range(loads_of_a_day(1, true, &in_10s), 850, 1400);
    assert_in_range(in_10s, 4, 5);
}

static void a_large_fleet_divides_the_projects_loads(void **state)
{
    (void)state;
    int in_10s;
    for (int64_t workers = 50; workers <= 800; workers *= 2) {
        int64_t each = loads_of_a_day(workers, true, &in_10s);
        print_message("%d workers: %d loads a day each, %d in all\n", (int)workers, (int)each, (int)(workers * each));
        assert_true(workers * each <= 95000);
        assert_true(workers * each >= 40000);
    }
}

static void the_wait_grows_as_the_budget_shrinks(void **state)
{
    (void)state;
    struct pace p;
    pace_init(&p, 0, false);
    struct pace_view v = {.now_us = 0, .workers = 1}, hurry = {.now_us = 0, .workers = 1, .hurry = true}, leaving = {.now_us = 0, .workers = 1, .leaving = true};
    int64_t last = 0;
    for (int i = 0; i < 500; i++) {
        int64_t wait = pace_wait_us(&p, &v);
        assert_true(wait >= last);
        assert_true(i >= 250 || wait == 0);
        assert_int_equal(pace_wait_us(&p, &hurry), 0);
        last = wait;
        pace_begins(&p, 0);
        pace_ends(&p, 0);
    }
    assert_true(last > 90 * SECOND);
    assert_true(pace_wait_us(&p, &hurry) > 90 * SECOND); /* nothing is left */
    assert_int_equal(pace_wait_us(&p, &leaving), 0);
}

static void tries_that_failed_count_too(void **state)
{
    (void)state;
    struct pace p;
    pace_init(&p, 0, false);
    pace_begins(&p, 0);
    pace_tries(&p, 300);
    assert_true(pace_is_short(&p));
    pace_tries(&p, -1);
    pace_tries(&p, 1000);
    assert_true(pace_wait_us(&p, &(struct pace_view){.now_us = 0, .workers = 1}) > 0);
}

/* --- a worker, against the documented limits -------------------------------------------------------------------------------------------------------- */

static void one_row(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1},\"done\":true}\n", doc_int(msg, "item", -1), doc_str(msg, "key", ""));
}

/* Items that come one after the other for minutes, each of which could be a load of its own. */
static int64_t trickle(struct kit *k, bool paced, int seconds)
{
    kit_open(k, HANDLER_EXEC);
    struct bqmodel_options *o = bqmodel_options(k->model);
    bqmodel_documented_limits(o);
    o->load_ms = 300;
    k->script = one_row;
    k->options.linger_ms = 100;
    k->options.paced = paced;
    kit_run(k, kit_record(k));
    kit_start(k);
    for (int i = 0; i < seconds; i++) {
        kit_publish(k, 2);
        kit_pass(k, 1000);
    }
    assert_true(kit_wait(k, all_done, 600));
    assert_int_equal(k->fold->failed, 0);
    assert_int_equal(kit_rows(k), 2 * seconds);
    return bqmodel_counters(k->model)->limited;
}

static void no_load_is_refused_for_updates_of_its_table(void **state)
{
    (void)state;
    struct kit k;
    assert_int_equal(trickle(&k, true, 300), 0);
    assert_int_equal(bqmodel_counters(k.model)->failed, 0);
    print_message("%d loads in 300 s\n", (int)bqmodel_counters(k.model)->loads);
    assert_true(bqmodel_counters(k.model)->loads >= 100);
    kit_close(&k);
    assert_true(trickle(&k, false, 60) > 0); /* the limit is real, and what it refuses lands all the same */
    kit_close(&k);
}

/* Two days in which there is always something to load. */
static void no_day_is_lost_to_the_loads_of_a_day(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_documented_limits(bqmodel_options(k.model));
    k.script = one_row;
    k.options.linger_ms = 1000;
    k.options.paced = true;
    kit_run(&k, kit_record(&k));
    kit_start(&k);
    for (int i = 0; i < 2 * 24 * 60 / 2; i++) {
        kit_publish(&k, 1);
        kit_pass(&k, 20000);
        kit_publish(&k, 1);
        kit_pass(&k, 100000);
    }
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(bqmodel_counters(k.model)->limited, 0);
    assert_int_equal(bqmodel_counters(k.model)->failed, 0);
    assert_int_equal(k.fold->failed, 0);
    print_message("%d loads of %d items in two days\n", (int)bqmodel_counters(k.model)->loads, (int)k.next_item);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_has_no_more_loads_in_a_day_than_it_may),
        cmocka_unit_test(nor_more_updates_in_ten_seconds),
        cmocka_unit_test(a_large_fleet_divides_the_projects_loads),
        cmocka_unit_test(the_wait_grows_as_the_budget_shrinks),
        cmocka_unit_test(tries_that_failed_count_too),
        cmocka_unit_test(no_load_is_refused_for_updates_of_its_table),
        cmocka_unit_test(no_day_is_lost_to_the_loads_of_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
