#include "common/base/limits.h"
#include "tests/unit/support_bus.h"

/* The suite's first half: publishing and groups. */

#define MANY 1000 /* messages, where one would not do */

static void acknowledgements_come_in_order_with_their_offsets(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct ack acks[50] = {0};
    for (size_t i = 0; i < ARRAY_LEN(acks); i++) {
        struct bus_out out = {.topic = topic, .partition = 0, .value = "x", .value_len = 1};
        assert_int_equal(bus_publish(env->bus, &out, ack_take, &acks[i], NULL), 0);
        assert_false(acks[i].done); /* never from inside the call */
    }
    assert_int_equal(bus_unacked(env->bus), ARRAY_LEN(acks));
    WAIT_FOR(env, ack_done, &acks[ARRAY_LEN(acks) - 1]);
    for (size_t i = 0; i < ARRAY_LEN(acks); i++) {
        assert_int_equal(acks[i].err.kind, ERR_NONE);
        assert_int_equal(acks[i].partition, 0);
        assert_int_equal(acks[i].offset, i);
    }
    assert_int_equal(bus_unacked(env->bus), 0);
}

static void a_key_always_gets_the_same_partition(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 4);
    struct ack acks[2][20] = {0};
    int used[4] = {0};
    for (size_t round = 0; round < 2; round++)
        for (size_t k = 0; k < ARRAY_LEN(acks[0]); k++) {
            char key[16];
            int n = snprintf(key, sizeof(key), "key-%zu", k);
            struct bus_out out = {.topic = topic, .partition = -1, .key = key, .key_len = (size_t)n, .value = "v", .value_len = 1};
            assert_int_equal(bus_publish(env->bus, &out, ack_take, &acks[round][k], NULL), 0);
        }
    for (size_t k = 0; k < ARRAY_LEN(acks[0]); k++) {
        WAIT_FOR(env, ack_done, &acks[0][k]);
        WAIT_FOR(env, ack_done, &acks[1][k]);
        assert_int_equal(acks[0][k].partition, acks[1][k].partition);
        used[acks[0][k].partition]++;
    }
    assert_true(used[0] < (int)ARRAY_LEN(acks[0])); /* and they do not all go to one */
}

static void a_message_that_is_too_large_is_refused(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    size_t size = 2 * 1024 * 1024;
    AUTO(free_ptr) char *big = xcalloc(1, size);
    struct bus_out out = {.topic = topic, .partition = 0, .value = big, .value_len = size};
    struct error err = ERROR_INIT;
    struct ack ack = {0};
    assert_int_equal(bus_publish(env->bus, &out, ack_take, &ack, &err), -1);
    assert_int_equal(err.kind, ERR_TASK);
    assert_string_equal(err.reason, "too large");
    out.value_len = LIMIT_PAYLOAD + LIMIT_KEY;
    assert_int_equal(bus_publish(env->bus, &out, ack_take, &ack, &err), 0);
    WAIT_FOR(env, ack_done, &ack);
    assert_int_equal(ack.err.kind, ERR_NONE);
}

static void publishing_to_an_unknown_topic_is_fatal(void **state)
{
    struct bus_env *env = *state;
    struct ack ack = {0};
    struct bus_out out = {.topic = env_name(env, "nowhere"), .partition = -1, .value = "x", .value_len = 1};
    assert_int_equal(bus_publish(env->bus, &out, ack_take, &ack, NULL), 0);
    WAIT_FOR(env, ack_done, &ack);
    assert_int_equal(ack.err.kind, ERR_FATAL);
    assert_string_equal(ack.err.reason, "unknown topic");
}

static void on_space(void *arg)
{
    ++*(int *)arg;
}

static bool was_told(void *arg)
{
    return *(int *)arg > 0;
}

static bool nothing_unacked(void *arg)
{
    return bus_unacked(arg) == 0;
}

static void ignore_ack(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    (void)arg;
    (void)partition;
    (void)offset;
    (void)err;
}

static void a_full_queue_says_so_and_tells_when_there_is_room(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    struct bus_out out = {.topic = topic, .partition = 0, .value = "x", .value_len = 1};
    struct error err = ERROR_INIT;
    int told = 0, removed = 0;
    bus_on_space(env->bus, on_space, &told);
    bus_on_space(env->bus, on_space, &removed);
    bus_on_space(env->bus, NULL, &removed);
    int n = 0;
    while (bus_publish(env->bus, &out, ignore_ack, NULL, &err) == 0 && n <= ENV_QUEUED)
        n++;
    assert_int_equal(err.kind, ERR_RETRY);
    assert_string_equal(err.reason, "full");
    assert_int_equal(told, 0);
    WAIT_FOR(env, was_told, &told);
    assert_int_equal(bus_publish(env->bus, &out, ignore_ack, NULL, &err), 0);
    WAIT_FOR(env, nothing_unacked, env->bus);
    assert_int_equal(told, 1);
    assert_int_equal(removed, 0);
    bus_on_space(env->bus, NULL, &told);
}

/* --- groups --------------------------------------------------------------------------------------------------------------------- */

static int64_t sum_of_values;

static void add_value(struct member *m, const struct bus_msg *msg)
{
    (void)m;
    char text[16] = "";
    memcpy(text, msg->value, size_min(msg->value_len, sizeof(text) - 1));
    sum_of_values += strtol(text, NULL, 10);
}

static void a_group_reads_everything_in_order(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 4), *group = env_name(env, "group");
    env_publish(env, topic, -1, 0, MANY / 2);
    struct member m = {.wanted = MANY, .on_message = add_value};
    sum_of_values = 0;
    member_join(&m, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_settled, &m);
    assert_int_equal(member_holds(&m), 4);
    assert_int_equal(m.committed[0], -1);
    assert_string_equal(m.metadata[0], "");
    env_publish(env, topic, -1, MANY / 2, MANY / 2);
    WAIT_FOR(env, member_has_all, &m);
    env_linger(env, 20000);
    assert_int_equal(m.got, MANY);
    assert_int_equal(m.out_of_order, 0);
    assert_int_equal(sum_of_values, (int64_t)MANY * (MANY - 1) / 2);
    member_leave(&m, true);
}

struct trio { struct member *m[3]; int wanted[3]; };

static bool trio_holds(void *arg)
{
    struct trio *t = arg;
    for (size_t i = 0; i < ARRAY_LEN(t->m); i++)
        if (t->m[i] != NULL && member_holds(t->m[i]) != t->wanted[i])
            return false;
    return true;
}

static void members_share_and_nobody_holds_what_another_one_holds(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 6), *group = env_name(env, "group");
    struct member *owners[ENV_PARTITIONS] = {0};
    struct member a = {.owners = owners}, b = {.owners = owners}, c = {.owners = owners};
    member_join(&a, env, group, topic, NULL, 0);
    struct trio one = {.m = {&a}, .wanted = {6}};
    WAIT_FOR(env, trio_holds, &one);
    member_join(&b, env, group, topic, NULL, 0);
    struct trio two = {.m = {&a, &b}, .wanted = {3, 3}};
    WAIT_FOR(env, trio_holds, &two);
    assert_true(a.revoked >= 3);
    member_join(&c, env, group, topic, NULL, 0);
    struct trio three = {.m = {&a, &b, &c}, .wanted = {2, 2, 2}};
    WAIT_FOR(env, trio_holds, &three);
    env_publish(env, topic, -1, 0, 60);
    member_leave(&b, true);
    struct trio rest = {.m = {&a, NULL, &c}, .wanted = {3, 0, 3}};
    WAIT_FOR(env, trio_holds, &rest);
    assert_false(a.overlap || b.overlap || c.overlap);
    assert_int_equal(a.lost + b.lost + c.lost, 0);
    member_leave(&a, true);
    member_leave(&c, true);
}

static void commit(struct member *m, int32_t partition, int64_t offset, const char *metadata, struct answer *a)
{
    struct bus_commit commit = {.partition = partition, .offset = offset, .metadata = metadata};
    *a = (struct answer){0};
    bus_group_commit(m->group, &commit, 1, answer_done, a);
    assert_false(a->done);
    WAIT_FOR(m->env, answer_is_there, a);
}

static void a_commit_comes_back_with_its_metadata(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    env_publish(env, topic, 1, 0, 20);
    AUTO(free_ptr) char *long_text = xmalloc(LIMIT_COMMIT_METADATA + 2);
    memset(long_text, 'm', LIMIT_COMMIT_METADATA + 1);
    long_text[LIMIT_COMMIT_METADATA + 1] = '\0';
    struct answer a;
    struct member first = {.wanted = 20}, second = {.wanted = 13};
    member_join(&first, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_has_all, &first);
    commit(&first, 1, 5, long_text, &a);
    assert_true(a.failed);
    assert_int_equal(a.err.kind, ERR_TASK);
    long_text[LIMIT_COMMIT_METADATA] = '\0';
    commit(&first, 1, 7, long_text, &a);
    assert_false(a.failed);
    commit(&first, 0, 0, NULL, &a);
    assert_false(a.failed);
    member_leave(&first, true);
    member_join(&second, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_has_all, &second);
    assert_int_equal(second.committed[1], 7);
    assert_string_equal(second.metadata[1], long_text);
    assert_int_equal(second.committed[0], 0);
    assert_string_equal(second.metadata[0], "");
    env_linger(env, 20000);
    assert_int_equal(second.got, 13);
    assert_int_equal(second.out_of_order, 0);
    member_leave(&second, true);
}

static void commits_made_while_giving_up_still_count(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    env_publish(env, topic, 0, 0, 10);
    struct member first = {.wanted = 10, .commit_in_revoked = true}, second = {0}, third = {.commit_in_revoked = true};
    member_join(&first, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_has_all, &first);
    member_join(&second, env, group, topic, NULL, 0); /* a rebalance */
    struct trio both = {.m = {&first, &second}, .wanted = {1, 1}};
    WAIT_FOR(env, trio_holds, &both);
    assert_int_equal(first.holds[0] ? first.committed[0] : second.committed[0], 10);
    member_leave(&second, true);
    struct trio alone = {.m = {&first}, .wanted = {2}};
    WAIT_FOR(env, trio_holds, &alone);
    env_publish(env, topic, 0, 0, 5);
    first.wanted = 15;
    WAIT_FOR(env, member_has_all, &first);
    member_leave(&first, true); /* leaving */
    member_join(&third, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_settled, &third);
    assert_int_equal(third.committed[0], 15);
    assert_string_equal(third.metadata[0], "bye 0");
    member_leave(&third, true);
}

static void commits_of_partitions_of_others_are_left_out(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    struct member a = {0}, b = {0};
    member_join(&a, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_settled, &a);
    member_join(&b, env, group, topic, NULL, 0);
    struct trio both = {.m = {&a, &b}, .wanted = {1, 1}};
    WAIT_FOR(env, trio_holds, &both);
    int32_t theirs = a.holds[0] ? 1 : 0;
    struct answer answer;
    commit(&a, theirs, 3, "", &answer);
    assert_false(answer.failed);
    answer = (struct answer){0};
    bus_committed(env->bus, group, topic, 2, answer_committed, &answer);
    WAIT_FOR(env, answer_is_there, &answer);
    assert_int_equal(answer.offsets[theirs], -1);
    member_leave(&a, true);
    member_leave(&b, true);
}

/* --- pausing -------------------------------------------------------------------------------------------------------------------- */

static bool member_paused(void *arg)
{
    return ((struct member *)arg)->paused;
}

static void the_message_that_pauses_is_the_last_one(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 3), *group = env_name(env, "group");
    env_publish(env, topic, -1, 0, MANY);
    struct member m = {.pause_every = 10};
    member_join(&m, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_paused, &m);
    env_linger(env, 300000);
    assert_false(m.beyond_pause);
    assert_int_equal(m.got, 10);
    member_leave(&m, true);
}

static bool paused_or_all(void *arg)
{
    return member_paused(arg) || member_has_all(arg);
}

static void after_resuming_the_next_offset_follows(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 3), *group = env_name(env, "group");
    env_publish(env, topic, -1, 0, MANY);
    struct member m = {.pause_every = 37, .wanted = MANY};
    member_join(&m, env, group, topic, NULL, 0);
    for (int pauses = 0; m.got < MANY; pauses++) {
        WAIT_FOR(env, paused_or_all, &m);
        env_linger(env, pauses % 3 * 3000);
        m.paused = false;
        bus_group_resume(m.group);
        if (pauses % 4 == 0) { /* twice is as good as once */
            bus_group_pause(m.group);
            bus_group_pause(m.group);
            bus_group_resume(m.group);
            bus_group_resume(m.group);
        }
    }
    env_linger(env, 50000);
    assert_int_equal(m.got, MANY);
    assert_int_equal(m.out_of_order, 0);
    member_leave(&m, true);
}

static void what_is_assigned_during_a_pause_is_paused(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    env_publish(env, topic, -1, 0, 100);
    struct member m = {.wanted = 100, .paused = true};
    member_join(&m, env, group, topic, NULL, 0);
    bus_group_pause(m.group);
    WAIT_FOR(env, member_settled, &m);
    env_linger(env, 300000);
    assert_int_equal(m.got, 0);
    m.paused = false;
    bus_group_resume(m.group);
    WAIT_FOR(env, member_has_all, &m);
    assert_int_equal(m.out_of_order, 0);
    member_leave(&m, true);
}

static void what_was_fetched_before_a_partition_was_given_up_is_not_told_when_it_is_back(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    env_publish(env, topic, -1, 0, 100);
    struct member first = {.pause_every = 10}, second = {.paused = true};
    member_join(&first, env, group, topic, NULL, 0);
    WAIT_FOR(env, member_paused, &first); /* the other 90 are here already */
    member_join(&second, env, group, topic, NULL, 0);
    bus_group_pause(second.group);
    struct trio both = {.m = {&first, &second}, .wanted = {1, 1}};
    WAIT_FOR(env, trio_holds, &both);
    member_leave(&second, true);
    struct trio alone = {.m = {&first}, .wanted = {2}};
    WAIT_FOR(env, trio_holds, &alone);
    first.pause_every = 0;
    first.paused = false;
    first.wanted = 110; /* nothing was committed */
    bus_group_resume(first.group);
    WAIT_FOR(env, member_has_all, &first);
    env_linger(env, 50000);
    assert_int_equal(first.got, 110);
    assert_int_equal(first.out_of_order, 0);
    member_leave(&first, true);
}

/* --- static members --------------------------------------------------------------------------------------------------------------- */

static void a_static_member_that_is_back_in_time_disturbs_nobody(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 4), *group = env_name(env, "group");
    struct member a = {0}, b = {.commit_in_revoked = true};
    member_join(&a, env, group, topic, "anna", 0);
    WAIT_FOR(env, member_settled, &a);
    member_join(&b, env, group, topic, "berta", 0);
    struct trio both = {.m = {&a, &b}, .wanted = {2, 2}};
    WAIT_FOR(env, trio_holds, &both);
    int settled = a.settled;
    member_leave(&b, false);
    env_linger(env, 500000);
    b.settled = 0;
    member_join(&b, env, group, topic, "berta", 0);
    WAIT_FOR(env, trio_holds, &both);
    assert_int_equal(a.settled, settled);
    assert_int_equal(b.committed[b.holds[0] ? 0 : 3], 0);
    member_leave(&b, true); /* and for good: others take over long before its session of 45 s is over */
    struct trio alone = {.m = {&a}, .wanted = {4}};
    assert_true(loop_until(env->loop, trio_holds, &alone, 15 * US_PER_S));
    member_leave(&a, true);
}

static void a_twin_of_the_same_name_fences_the_older_one(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    struct member a = {0}, b = {0};
    member_join(&a, env, group, topic, "twin", 0);
    WAIT_FOR(env, member_settled, &a);
    member_join(&b, env, group, topic, "twin", 0);
    WAIT_FOR(env, member_failed, &a);
    assert_int_equal(a.err.kind, ERR_FATAL);
    assert_string_equal(a.err.reason, "fenced");
    WAIT_FOR(env, member_settled, &b);
    assert_int_equal(member_holds(&b), 2);
    member_leave(&a, true);
    env_linger(env, 100000);
    assert_int_equal(member_holds(&b), 2);
    member_leave(&b, true);
}

static void joining_an_unknown_topic_fails_in_the_end(void **state)
{
    struct bus_env *env = *state;
    struct member m = {0};
    member_join(&m, env, env_name(env, "group"), env_name(env, "nowhere"), NULL, 0);
    WAIT_FOR(env, member_failed, &m);
    assert_int_equal(m.err.kind, ERR_FATAL);
    assert_string_equal(m.err.reason, "unknown topic");
    member_leave(&m, true);
}

const struct CMUnitTest bus_suite[] = {
    cmocka_unit_test(acknowledgements_come_in_order_with_their_offsets),
    cmocka_unit_test(a_key_always_gets_the_same_partition),
    cmocka_unit_test(a_message_that_is_too_large_is_refused),
    cmocka_unit_test(publishing_to_an_unknown_topic_is_fatal),
    cmocka_unit_test(a_full_queue_says_so_and_tells_when_there_is_room),
    cmocka_unit_test(a_group_reads_everything_in_order),
    cmocka_unit_test(members_share_and_nobody_holds_what_another_one_holds),
    cmocka_unit_test(a_commit_comes_back_with_its_metadata),
    cmocka_unit_test(commits_made_while_giving_up_still_count),
    cmocka_unit_test(commits_of_partitions_of_others_are_left_out),
    cmocka_unit_test(the_message_that_pauses_is_the_last_one),
    cmocka_unit_test(after_resuming_the_next_offset_follows),
    cmocka_unit_test(what_is_assigned_during_a_pause_is_paused),
    cmocka_unit_test(what_was_fetched_before_a_partition_was_given_up_is_not_told_when_it_is_back),
    cmocka_unit_test(a_static_member_that_is_back_in_time_disturbs_nobody),
    cmocka_unit_test(a_twin_of_the_same_name_fences_the_older_one),
    cmocka_unit_test(joining_an_unknown_topic_fails_in_the_end),
};
const size_t bus_suite_count = ARRAY_LEN(bus_suite);
