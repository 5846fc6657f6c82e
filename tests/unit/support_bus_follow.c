#include "tests/unit/support_bus.h"

/* The suite's second half: following, questions, topics. */

static void following_from_the_beginning_reads_all_and_tells_the_end(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2);
    env_publish(env, topic, 1, 0, 300);
    struct follower f = {.wanted = 300}, empty = {0};
    follower_start(&f, env, topic, 1, BUS_BEGIN);
    follower_start(&empty, env, topic, 0, BUS_BEGIN);
    assert_int_equal(f.got, 0); /* never from inside the call */
    WAIT_FOR(env, follower_at_end, &f);
    assert_int_equal(f.got, 300);
    assert_int_equal(f.first, 0);
    assert_int_equal(f.end_at, 300);
    WAIT_FOR(env, follower_at_end, &empty);
    assert_int_equal(empty.end_at, 0);
    int64_t ends = f.ends;
    env_publish(env, topic, 1, 0, 10);
    f.wanted = 310;
    WAIT_FOR(env, follower_has_all, &f);
    WAIT_FOR(env, follower_at_end, &f);
    assert_true(f.ends > ends);
    assert_int_equal(f.end_at, 310);
    assert_false(f.out_of_order);
    assert_int_equal(empty.got, 0);
    follower_stop(&f);
    follower_stop(&empty);
}

static void following_from_the_end_gets_only_what_comes(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 20);
    struct follower f = {.wanted = 3};
    follower_start(&f, env, topic, 0, BUS_END);
    WAIT_FOR(env, follower_at_end, &f);
    assert_int_equal(f.got, 0);
    assert_int_equal(f.end_at, 20);
    env_publish(env, topic, 0, 0, 3);
    WAIT_FOR(env, follower_has_all, &f);
    assert_int_equal(f.first, 20);
    follower_stop(&f);
}

static void following_from_an_offset_begins_there(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 100);
    struct follower f = {0}, last = {0};
    follower_start(&f, env, topic, 0, 42);
    follower_start(&last, env, topic, 0, 100); /* the same partition a second time, from its end */
    WAIT_FOR(env, follower_at_end, &f);
    assert_int_equal(f.first, 42);
    assert_int_equal(f.got, 58);
    WAIT_FOR(env, follower_at_end, &last);
    assert_int_equal(last.got, 0);
    follower_stop(&f);
    last.wanted = 5;
    env_publish(env, topic, 0, 0, 5);
    WAIT_FOR(env, follower_has_all, &last);
    assert_int_equal(last.first, 100);
    follower_stop(&last);
}

static void following_beyond_the_log_is_out_of_range(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 5);
    struct follower f = {0};
    follower_start(&f, env, topic, 0, 17);
    WAIT_FOR(env, follower_failed, &f);
    assert_int_equal(f.err.kind, ERR_FATAL);
    assert_string_equal(f.err.reason, "out of range");
    assert_int_equal(f.got, 0);
    follower_stop(&f);
}

static void following_what_does_not_exist_fails(void **state)
{
    struct bus_env *env = *state;
    struct follower topic = {0}, partition = {0};
    follower_start(&topic, env, env_name(env, "nowhere"), 0, BUS_BEGIN);
    follower_start(&partition, env, env_topic(env, 1), 3, BUS_BEGIN);
    WAIT_FOR(env, follower_failed, &topic);
    WAIT_FOR(env, follower_failed, &partition);
    assert_int_equal(topic.err.kind, ERR_FATAL);
    assert_string_equal(topic.err.reason, "unknown topic");
    assert_int_equal(partition.err.kind, ERR_FATAL);
    assert_string_equal(partition.err.reason, "unknown partition");
    follower_stop(&topic);
    follower_stop(&partition);
}

static void a_follower_may_stop_itself_and_begin_again(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 100);
    struct follower f = {.stop_after = 30, .wanted = 30};
    follower_start(&f, env, topic, 0, BUS_BEGIN);
    WAIT_FOR(env, follower_has_all, &f);
    env_linger(env, 50000);
    assert_int_equal(f.got, 30);
    f = (struct follower){0};
    follower_start(&f, env, topic, 0, 30);
    WAIT_FOR(env, follower_at_end, &f);
    assert_int_equal(f.first, 30);
    assert_int_equal(f.got, 70);
    follower_stop(&f);
}

struct seen { int count; bool null_value[3], null_key[3]; size_t value_len[3], key_len[3]; bool texts_good; int64_t time_ms; };

static void look(void *arg, const struct bus_msg *msg)
{
    struct seen *s = arg;
    int i = s->count++;
    s->null_value[i] = msg->value == NULL;
    s->null_key[i] = msg->key == NULL;
    s->value_len[i] = msg->value_len;
    s->key_len[i] = msg->key_len;
    s->time_ms = msg->time_ms;
    if (i == 0)
        s->texts_good = memcmp(msg->key, "key", 3) == 0 && memcmp(msg->value, "value", 5) == 0;
}

static bool seen_three(void *arg)
{
    return ((struct seen *)arg)->count == 3;
}

static void keys_values_and_tombstones_arrive_as_sent(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct bus_header header = {.name = "run", .value = "r1", .len = 2};
    struct bus_out outs[] = {
        {.topic = topic, .key = "key", .key_len = 3, .value = "value", .value_len = 5, .headers = &header, .header_count = 1},
        {.topic = topic, .key = "key", .key_len = 3},
        {.topic = topic, .value = "", .value_len = 0},
    };
    struct seen seen = {0};
    struct bus_follow *f = bus_follow(env->bus, topic, 0, BUS_BEGIN, &(struct bus_follow_events){.message = look}, &seen, NULL);
    for (size_t i = 0; i < ARRAY_LEN(outs); i++)
        assert_int_equal(bus_publish(env->bus, &outs[i], NULL, NULL, NULL), 0);
    WAIT_FOR(env, seen_three, &seen);
    assert_true(seen.texts_good);
    assert_true(seen.null_value[1] && !seen.null_key[1] && seen.key_len[1] == 3);
    assert_true(!seen.null_value[2] && seen.value_len[2] == 0 && seen.null_key[2]);
    assert_true(llabs(seen.time_ms - loop_wall_ms(env->loop)) < 60000);
    bus_follow_stop(f);
}

/* --- questions -------------------------------------------------------------------------------------------------------------------- */

static void watermarks_are_the_ends_of_the_log(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2);
    env_publish(env, topic, 1, 0, 12);
    struct answer a = {0}, empty = {0}, none = {0};
    bus_watermarks(env->bus, topic, 1, answer_marks, &a);
    bus_watermarks(env->bus, topic, 0, answer_marks, &empty);
    bus_watermarks(env->bus, env_name(env, "nowhere"), 0, answer_marks, &none);
    assert_false(a.done);
    WAIT_FOR(env, answer_is_there, &a);
    WAIT_FOR(env, answer_is_there, &empty);
    WAIT_FOR(env, answer_is_there, &none);
    assert_int_equal(a.low, 0);
    assert_int_equal(a.high, 12);
    assert_int_equal(empty.high, 0);
    assert_true(none.failed);
    assert_int_equal(none.err.kind, ERR_FATAL);
}

static void offsets_are_found_by_time(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 10);
    env_linger(env, 20000);
    int64_t between = loop_wall_ms(env->loop);
    env_linger(env, 20000);
    env_publish(env, topic, 0, 0, 10);
    struct answer a = {0}, before = {0}, after = {0};
    bus_offset_at(env->bus, topic, 0, between, answer_marks, &a);
    bus_offset_at(env->bus, topic, 0, between - 3600000, answer_marks, &before);
    bus_offset_at(env->bus, topic, 0, between + 3600000, answer_marks, &after);
    WAIT_FOR(env, answer_is_there, &a);
    WAIT_FOR(env, answer_is_there, &before);
    WAIT_FOR(env, answer_is_there, &after);
    assert_int_equal(a.high, 10);
    assert_int_equal(before.high, 0);
    assert_int_equal(after.high, 20);
}

static void what_a_group_has_committed_can_be_asked(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    struct answer a = {0};
    bus_committed(env->bus, group, topic, 2, answer_committed, &a);
    WAIT_FOR(env, answer_is_there, &a);
    assert_false(a.failed);
    assert_int_equal(a.offsets[0], -1);
    env_publish(env, topic, 1, 0, 5);
    struct member m = {.wanted = 5, .commit_in_revoked = true};
    member_join(&m, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_has_all, &m);
    member_leave(&m, true);
    a = (struct answer){0};
    bus_committed(env->bus, group, topic, 2, answer_committed, &a);
    WAIT_FOR(env, answer_is_there, &a);
    assert_int_equal(a.offsets[0], 0);
    assert_int_equal(a.offsets[1], 5);
}

static void topics_are_created_once_and_described(void **state)
{
    struct bus_env *env = *state;
    const char *name = env_name(env, "made");
    struct bus_topic wanted = {.name = name, .partitions = 3, .compact = true, .retention_ms = 86400000};
    struct answer made = {0}, again = {0}, told = {0}, none = {0};
    bus_topic_create(env->bus, &wanted, answer_done, &made);
    WAIT_FOR(env, answer_is_there, &made);
    assert_false(made.failed);
    bus_topic_create(env->bus, &wanted, answer_done, &again);
    bus_topic_describe(env->bus, name, answer_topic, &told);
    bus_topic_describe(env->bus, env_name(env, "nowhere"), answer_topic, &none);
    WAIT_FOR(env, answer_is_there, &again);
    WAIT_FOR(env, answer_is_there, &told);
    WAIT_FOR(env, answer_is_there, &none);
    assert_true(again.failed);
    assert_string_equal(again.err.reason, "exists");
    assert_false(told.failed);
    assert_int_equal(told.topic.partitions, 3);
    assert_int_equal(told.topic.replication, 1);
    assert_true(told.topic.compact);
    assert_int_equal(told.topic.retention_ms, 86400000);
    assert_true(told.topic.max_message >= 1000000);
    assert_int_equal(told.topic.min_insync, 1);
    assert_false(told.topic.unclean_election);
    assert_true(told.topic.segment_ms > 0);
    assert_false(none.failed);
    assert_int_equal(none.topic.partitions, 0);
}

static void a_ping_is_answered(void **state)
{
    struct bus_env *env = *state;
    struct answer a = {0};
    bus_ping(env->bus, 10000, answer_done, &a);
    WAIT_FOR(env, answer_is_there, &a);
    assert_false(a.failed);
    assert_true(strlen(bus_describe(env->bus)) > 0);
}

const struct CMUnitTest bus_suite_follow[] = {
    cmocka_unit_test(following_from_the_beginning_reads_all_and_tells_the_end),
    cmocka_unit_test(following_from_the_end_gets_only_what_comes),
    cmocka_unit_test(following_from_an_offset_begins_there),
    cmocka_unit_test(following_beyond_the_log_is_out_of_range),
    cmocka_unit_test(following_what_does_not_exist_fails),
    cmocka_unit_test(a_follower_may_stop_itself_and_begin_again),
    cmocka_unit_test(keys_values_and_tombstones_arrive_as_sent),
    cmocka_unit_test(watermarks_are_the_ends_of_the_log),
    cmocka_unit_test(offsets_are_found_by_time),
    cmocka_unit_test(what_a_group_has_committed_can_be_asked),
    cmocka_unit_test(topics_are_created_once_and_described),
    cmocka_unit_test(a_ping_is_answered),
};
const size_t bus_suite_follow_count = ARRAY_LEN(bus_suite_follow);
