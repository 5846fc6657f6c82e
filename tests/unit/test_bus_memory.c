#include "tests/unit/support_bus.h"

#include <time.h>

/* The suite on the bus in memory, on a virtual loop and on a real one; and what only this bus promises. */

static int set_up(void **state, struct loop *loop, const struct bus_memory_options *options)
{
    struct bus_env *env = xcalloc(1, sizeof(*env));
    env->loop = loop;
    env->prefix = "test";
    env->bus = bus_memory(loop, options);
    *state = env;
    return 0;
}

static int set_up_virtual(void **state)
{
    struct bus_memory_options options = {.max_queued = ENV_QUEUED, .max_message = 1000000, .delay_us = 1500};
    return set_up(state, loop_new_virtual(INT64_C(1700000000) * US_PER_S), &options);
}

static int set_up_real(void **state)
{
    struct bus_memory_options options = {.max_queued = ENV_QUEUED, .max_message = 1000000};
    return set_up(state, loop_new(), &options);
}

static int tear_down(void **state)
{
    struct bus_env *env = *state;
    bus_free(env->bus);
    loop_free(env->loop);
    free(env);
    return 0;
}

/* --- only in memory --------------------------------------------------------------------------------------------------------------- */

static void read_and_commit(struct bus_env *env, const char *topic, int count)
{
    struct member m = {.wanted = count, .commit_in_revoked = true};
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    env_publish(env, topic, 0, 0, count);
    WAIT_FOR(env, member_has_all, &m);
    member_leave(&m, true);
    env_linger(env, 10000);
}

static int64_t low_of(struct bus_env *env, const char *topic)
{
    struct answer a = {0};
    bus_watermarks(env->bus, topic, 0, answer_marks, &a);
    WAIT_FOR(env, answer_is_there, &a);
    return a.low;
}

static void what_every_group_is_done_with_is_forgotten(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    read_and_commit(env, topic, 20000);
    assert_true(low_of(env, topic) > 10000);
    struct follower f = {0};
    follower_start(&f, env, topic, 0, 5);
    WAIT_FOR(env, follower_failed, &f);
    assert_string_equal(f.err.reason, "out of range");
    follower_stop(&f);
}

static void who_follows_what_is_deleted_is_told_and_a_group_goes_on_with_the_rest(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 100);
    struct member m = {.wanted = 40};
    struct follower early = {0}, late = {0};
    bus_memory_delete(env->bus, topic, 0, 60);
    assert_int_equal(low_of(env, topic), 60);
    follower_start(&early, env, topic, 0, 59);
    follower_start(&late, env, topic, 0, 60);
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    WAIT_FOR(env, follower_failed, &early);
    assert_string_equal(early.err.reason, "out of range");
    WAIT_FOR(env, member_has_all, &m);
    assert_false(follower_failed(&late));
    bus_memory_delete(env->bus, topic, 0, 1000); /* no more than there is; whoever has read it all is where it was */
    assert_int_equal(low_of(env, topic), 100);
    assert_false(follower_failed(&late));
    follower_stop(&early);
    follower_stop(&late);
    member_leave(&m, true);
}

static void offsets_without_a_message_are_passed(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct follower early = {.wanted = 200}, late = {.wanted = 100};
    follower_start(&early, env, topic, 0, BUS_BEGIN);
    env_publish(env, topic, 0, 0, 100);
    bus_memory_skip(env->bus, topic, 0, 5000);
    follower_start(&late, env, topic, 0, 3000);
    env_publish(env, topic, 0, 100, 100);
    WAIT_FOR(env, follower_has_all, &early);
    WAIT_FOR(env, follower_has_all, &late);
    WAIT_FOR(env, follower_at_end, &early);
    assert_int_equal(early.end_at, 5200);
    assert_int_equal(low_of(env, topic), 0);
    follower_stop(&early);
    follower_stop(&late);
}

/* The commit is there on the next turn, and by then a follower has not read much. */
static void a_follower_keeps_what_it_has_not_read(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct member m = {.wanted = 20000, .commit_in_revoked = true};
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    env_publish(env, topic, 0, 0, 20000);
    WAIT_FOR(env, member_has_all, &m);
    struct follower f = {.wanted = 20000};
    follower_start(&f, env, topic, 0, BUS_BEGIN);
    member_leave(&m, true);
    WAIT_FOR(env, follower_has_all, &f);
    assert_false(f.out_of_order || f.failed);
    follower_stop(&f);
}

static void a_topic_without_limit_of_retention_keeps_all(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_name(env, "kept");
    bus_topic_create(env->bus, &(struct bus_topic){.name = topic, .partitions = 1, .retention_ms = -1}, NULL, NULL);
    read_and_commit(env, topic, 20000);
    assert_int_equal(low_of(env, topic), 0);
}

static void a_static_member_that_stays_away_is_replaced_after_its_session(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    struct member a = {0}, b = {0};
    member_join(&a, env, group, topic, NULL, 0);
    member_join(&b, env, group, topic, "away", 10000);
    env_linger(env, 20000);
    assert_int_equal(member_holds(&a), 1);
    member_leave(&b, false);
    env_linger(env, 9 * US_PER_S);
    assert_int_equal(member_holds(&a), 1);
    env_linger(env, 2 * US_PER_S);
    assert_int_equal(member_holds(&a), 2);
    member_leave(&a, true);
}

static void an_acknowledgement_takes_the_delay(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct ack ack = {0}, later = {0};
    struct bus_out out = {.topic = topic, .value = "x", .value_len = 1};
    struct follower f = {0};
    follower_start(&f, env, topic, 0, BUS_BEGIN);
    assert_int_equal(bus_publish(env->bus, &out, ack_take, &ack, NULL), 0);
    int64_t began = loop_now_us(env->loop);
    env_linger(env, 1000);
    assert_int_equal(bus_publish(env->bus, &out, ack_take, &later, NULL), 0);
    WAIT_FOR(env, ack_done, &ack);
    assert_int_equal(loop_now_us(env->loop) - began, 1500);
    assert_int_equal(f.got, 1); /* the later one is not to be seen before its own */
    assert_false(later.done);
    WAIT_FOR(env, ack_done, &later);
    assert_int_equal(loop_now_us(env->loop) - began, 2500);
    assert_int_equal(f.got, 2);
    follower_stop(&f);
}

#define MANY 250000

/* Not a measurement: a bound that only a mistake in kind passes, of the processor's time, which other processes do not use up. */
static void many_messages_take_seconds_at_most(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 4);
    struct member m = {.wanted = MANY};
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    clock_t began = clock();
    env_publish(env, topic, -1, 0, MANY);
    WAIT_FOR(env, member_has_all, &m);
    assert_true(clock() - began < 30 * CLOCKS_PER_SEC);
    assert_int_equal(m.out_of_order, 0);
    member_leave(&m, true);
}

static int run(const char *name, const struct CMUnitTest *tests, size_t count, CMFixtureFunction set)
{
    return _cmocka_run_group_tests(name, tests, count, set, tear_down);
}

int main(void)
{
    const struct CMUnitTest own[] = {
        cmocka_unit_test(what_every_group_is_done_with_is_forgotten),
        cmocka_unit_test(a_topic_without_limit_of_retention_keeps_all),
        cmocka_unit_test(who_follows_what_is_deleted_is_told_and_a_group_goes_on_with_the_rest),
        cmocka_unit_test(offsets_without_a_message_are_passed),
        cmocka_unit_test(a_static_member_that_stays_away_is_replaced_after_its_session),
        cmocka_unit_test(an_acknowledgement_takes_the_delay),
    };
    const struct CMUnitTest at_once[] = {
        cmocka_unit_test(a_follower_keeps_what_it_has_not_read),
        cmocka_unit_test(many_messages_take_seconds_at_most),
    };
    int failed = run("bus suite, virtual loop", bus_suite, bus_suite_count, set_up_virtual);
    failed += run("bus suite of followers, virtual loop", bus_suite_follow, bus_suite_follow_count, set_up_virtual);
    failed += run("bus suite, real loop", bus_suite, bus_suite_count, set_up_real);
    failed += run("bus suite of followers, real loop", bus_suite_follow, bus_suite_follow_count, set_up_real);
    failed += run("only in memory", own, ARRAY_LEN(own), set_up_virtual);
    failed += run("only in memory, without delay", at_once, ARRAY_LEN(at_once), set_up_real);
    return failed != 0;
}
