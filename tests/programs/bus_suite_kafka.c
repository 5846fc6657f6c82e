#include "tests/unit/support_bus.h"

#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/bus/bus_kafka.h"

/*
 * The suite of the bus against a real broker.
 *
 *   bus_suite_kafka ADDRESS            the suite and what only Kafka needs
 *   bus_suite_kafka ADDRESS restart    prints "restart" when the broker is to be killed, "down" when the bus has noticed and it is to be
 *                                      started again, "up" when the bus has noticed that, too
 *   bus_suite_kafka ADDRESS rate N     publishes and consumes N messages and prints how fast
 * The environment variable SUITE_FILTER picks tests (a pattern of cmocka's).
 */

static const char *address;

static int set_up(void **state)
{
    static char prefix[64];
    snprintf(prefix, sizeof(prefix), "suite.%ld.%d", (long)time(NULL), (int)getpid());
    static const char *const properties[] = {
        "queue.buffering.max.messages=5000", "topic.metadata.propagation.max.ms=1000", NULL,
    };
    struct bus_env *env = xcalloc(1, sizeof(*env));
    env->loop = loop_new();
    env->prefix = prefix;
    struct error err = ERROR_INIT;
    env->bus = bus_kafka(env->loop, &(struct bus_kafka_options){.brokers = address, .properties = properties, .client_id = "suite"}, &err);
    if (env->bus == NULL)
        fprintf(stderr, "%s\n", err.text);
    *state = env;
    return env->bus == NULL;
}

static int tear_down(void **state)
{
    struct bus_env *env = *state;
    bus_free(env->bus);
    loop_free(env->loop);
    free(env);
    return 0;
}

/* --- only on Kafka ------------------------------------------------------------------------------------------------------------------- */

struct publishing { struct bus_env *env; const char *topic; int wanted, acked, retried; };

static void publish_one(struct publishing *p);

static void on_published(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    struct publishing *p = arg;
    (void)partition;
    (void)offset;
    if (err == NULL) {
        p->acked++;
        return;
    }
    assert_int_equal(err->kind, ERR_RETRY);
    p->retried++;
    publish_one(p);
}

static void on_room(void *arg)
{
    struct publishing *p = arg;
    for (int n = p->acked; n < p->wanted; n++)
        publish_one(p);
    bus_on_space(p->env->bus, NULL, p);
}

static void publish_one(struct publishing *p)
{
    struct bus_out out = {.topic = p->topic, .partition = 0, .value = "x", .value_len = 1};
    struct error err = ERROR_INIT;
    if (bus_publish(p->env->bus, &out, on_published, p, &err) < 0) {
        assert_string_equal(err.reason, "full");
        bus_on_space(p->env->bus, on_room, p);
    }
}

static bool published(void *arg)
{
    struct publishing *p = arg;
    return p->acked >= p->wanted;
}

static void a_broken_producer_gives_back_its_messages_and_is_replaced(void **state)
{
    struct bus_env *env = *state;
    struct publishing p = {.env = env, .topic = env_topic(env, 1), .wanted = 100};
    env_publish(env, p.topic, 0, 0, 1);
    rd_kafka_t *rk = kafka_producer_client(bus_kafka_of(env->bus));
    assert_non_null(rk);
    for (int i = 0; i < p.wanted; i++)
        publish_one(&p);
    rd_kafka_test_fatal_error(rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "as a test wants it");
    WAIT_FOR(env, published, &p);
    assert_true(p.retried > 0);
    env_publish(env, p.topic, 0, 0, 10);
    assert_true(kafka_producer_client(bus_kafka_of(env->bus)) != rk);
    assert_int_equal(bus_unacked(env->bus), 0);
}

/* Many pauses under load: nothing is skipped, nothing comes twice. */
static void a_hundred_pauses_under_load_lose_nothing(void **state)
{
    struct bus_env *env = *state;
    enum { COUNT = 60000 };
    const char *topic = env_topic(env, 4);
    env_publish(env, topic, -1, 0, COUNT);
    struct member m = {.pause_every = 611, .wanted = COUNT};
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    while (m.got < COUNT) {
        assert_true(loop_step(env->loop, 30 * US_PER_S));
        if (m.paused) {
            m.paused = false;
            bus_group_resume(m.group);
        }
    }
    env_linger(env, 100000);
    assert_int_equal(m.got, COUNT);
    assert_int_equal(m.out_of_order, 0);
    member_leave(&m, true);
}

static void a_deleted_prefix_is_out_of_range(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 1);
    env_publish(env, topic, 0, 0, 10);
    rd_kafka_t *rk = kafka_producer_client(bus_kafka_of(env->bus));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = 6;
    rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteRecords(rk, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 10000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    struct follower early = {0}, begin = {0};
    follower_start(&early, env, topic, 0, 3);
    follower_start(&begin, env, topic, 0, BUS_BEGIN);
    WAIT_FOR(env, follower_failed, &early);
    assert_string_equal(early.err.reason, "out of range");
    WAIT_FOR(env, follower_at_end, &begin);
    assert_int_equal(begin.first, 6);
    follower_stop(&early);
    follower_stop(&begin);
}

/* --- a broker that is killed ------------------------------------------------------------------------------------------------------------ */

static struct { int down, up; } noticed;

static void note_line(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    fprintf(stderr, "%.*s\n", (int)len, line);
    if (strstr(line, "does not answer") != NULL && noticed.down++ == 0)
        puts("down");
    if (strstr(line, "answers again") != NULL && noticed.up++ == 0)
        puts("up");
    fflush(stdout);
}

static bool heard_down(void *arg)
{
    (void)arg;
    return noticed.down > 0;
}

static bool heard_of_both(void *arg)
{
    (void)arg;
    return noticed.down > 0 && noticed.up > 0;
}

/* Half of the messages are read before the broker goes, commits and publishes meet the gap, and all is there afterwards. */
static void a_killed_broker_is_waited_for(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 2), *group = env_name(env, "group");
    struct member m = {.wanted = 500, .commit_in_revoked = true};
    struct follower f = {0};
    member_join(&m, env, group, topic, NULL, 0);
    follower_start(&f, env, topic, 1, BUS_BEGIN);
    env_publish(env, topic, -1, 0, 500);
    WAIT_FOR(env, member_has_all, &m);
    log_sink(note_line, NULL);
    puts("restart");
    fflush(stdout);
    assert_true(loop_until(env->loop, heard_down, NULL, 120 * US_PER_S));
    struct publishing p = {.env = env, .topic = topic, .wanted = 100};
    for (int i = 0; i < p.wanted; i++)
        publish_one(&p);
    assert_true(loop_until(env->loop, published, &p, 120 * US_PER_S));
    assert_true(loop_until(env->loop, heard_of_both, NULL, 60 * US_PER_S));
    env_publish(env, topic, -1, 0, 500);
    m.wanted = 1100;
    assert_true(loop_until(env->loop, member_has_all, &m, 120 * US_PER_S));
    struct answer marks = {0};
    bus_watermarks(env->bus, topic, 1, answer_marks, &marks);
    WAIT_FOR(env, answer_is_there, &marks);
    f.wanted = marks.high; /* nothing of it is missing, so as many as there are offsets */
    WAIT_FOR(env, follower_has_all, &f);
    env_linger(env, 200000);
    assert_false(f.out_of_order || f.failed || m.failed);
    assert_int_equal(m.out_of_order, 0);
    assert_int_equal(noticed.down, 1);
    assert_int_equal(noticed.up, 1);
    follower_stop(&f);
    member_leave(&m, true);
    log_sink(NULL, NULL);
}

/* --- how fast ------------------------------------------------------------------------------------------------------------------------------ */

static int count_to_publish;
static void rates(void **state)
{
    struct bus_env *env = *state;
    const char *topic = env_topic(env, 4);
    int64_t began = loop_now_us(env->loop);
    env_publish(env, topic, -1, 0, count_to_publish);
    int64_t published_us = loop_now_us(env->loop) - began;
    struct member m = {.wanted = 1};
    member_join(&m, env, env_name(env, "group"), topic, NULL, 0);
    began = loop_now_us(env->loop);
    WAIT_FOR(env, member_has_all, &m);
    int64_t first_us = loop_now_us(env->loop) - began;
    m.wanted = count_to_publish;
    began = loop_now_us(env->loop);
    WAIT_FOR(env, member_has_all, &m);
    int64_t consumed_us = loop_now_us(env->loop) - began;
    assert_int_equal(m.out_of_order, 0);
    printf("published %d in %" PRId64 " ms (%.0f/s), first after %" PRId64 " ms, consumed in %" PRId64 " ms (%.0f/s)\n", count_to_publish,
           published_us / 1000, count_to_publish * 1e6 / (double)published_us, first_us / 1000, consumed_us / 1000,
           count_to_publish * 1e6 / (double)consumed_us);
    member_leave(&m, true);
}

static int run(const char *name, const struct CMUnitTest *tests, size_t count)
{
    return _cmocka_run_group_tests(name, tests, count, set_up, tear_down);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest own[] = {
        cmocka_unit_test(a_broken_producer_gives_back_its_messages_and_is_replaced),
        cmocka_unit_test(a_hundred_pauses_under_load_lose_nothing),
        cmocka_unit_test(a_deleted_prefix_is_out_of_range),
    };
    const struct CMUnitTest restart[] = {cmocka_unit_test(a_killed_broker_is_waited_for)};
    const struct CMUnitTest rate[] = {cmocka_unit_test(rates)};
    if (argc < 2) {
        fprintf(stderr, "usage: bus_suite_kafka ADDRESS [restart | rate N]\n");
        return 2;
    }
    address = argv[1];
    if (getenv("SUITE_FILTER") != NULL)
        cmocka_set_test_filter(getenv("SUITE_FILTER"));
    if (argc > 2 && strcmp(argv[2], "restart") == 0)
        return run("a restart", restart, 1) != 0;
    if (argc > 3 && strcmp(argv[2], "rate") == 0) {
        count_to_publish = (int)strtol(argv[3], NULL, 10);
        return run("rates", rate, 1) != 0;
    }
    int failed = run("bus suite", bus_suite, bus_suite_count);
    failed += run("bus suite of followers", bus_suite_follow, bus_suite_follow_count);
    failed += run("only on Kafka", own, ARRAY_LEN(own));
    return failed != 0;
}
