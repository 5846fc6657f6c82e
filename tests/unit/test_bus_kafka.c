#include "tests/unit/support_bus.h"

#include <librdkafka/rdkafka.h>
/* rdkafka.h first. */
#include <librdkafka/rdkafka_mock.h>

#include "common/base/log.h"
#include "common/bus/bus_kafka.h"

/* The bus on Kafka without a broker: settings, and errors that librdkafka's own mock of a cluster can be told to answer with. */

#define API_PRODUCE 0 /* Kafka's numbers of its requests */
#define API_OFFSET_COMMIT 8
#define API_OFFSET_FETCH 9

struct mocked {
    struct bus_env env; /* first: helpers take it */
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *cluster;
};

static int set_up(void **state)
{
    struct mocked *m = xcalloc(1, sizeof(*m));
    m->env.loop = loop_new();
    m->env.prefix = "mock";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", "127.0.0.1:1", NULL, 0); /* the host of the mock is not a client of it */
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    m->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    m->cluster = rd_kafka_mock_cluster_new(m->host, 1);
    struct bus_kafka_options options = {.brokers = rd_kafka_mock_cluster_bootstraps(m->cluster)};
    m->env.bus = bus_kafka(m->env.loop, &options, NULL);
    *state = m;
    return m->env.bus == NULL;
}

static int tear_down(void **state)
{
    struct mocked *m = *state;
    bus_free(m->env.bus);
    loop_free(m->env.loop);
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->host);
    free(m);
    return 0;
}

static const char *mock_topic(struct mocked *m, int partitions)
{
    const char *topic = env_name(&m->env, "topic");
    assert_int_equal(rd_kafka_mock_topic_create(m->cluster, topic, partitions, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    return topic;
}

/* --- settings ------------------------------------------------------------------------------------------------------------------------ */

static void wrong_properties_are_told_at_once(void **state)
{
    struct mocked *m = *state;
    static const char *const bad[][2] = {{"no.such=1", NULL}, {"acks=1", NULL}, {"linger.ms=soon", NULL}, {"nonsense", NULL}};
    static const char *const told[] = {"no.such", "acks", "linger.ms", "nonsense"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_null(bus_kafka(m->env.loop, &(struct bus_kafka_options){.brokers = "127.0.0.1:1", .properties = bad[i]}, &err));
        assert_int_equal(err.kind, ERR_USAGE);
        assert_non_null(strstr(err.text, told[i]));
    }
}

static void versions_that_break_are_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(kafka_version_check(0x020500ff, &err), -1);
    assert_non_null(strstr(err.text, "2.5.0"));
    assert_int_equal(kafka_version_check(0x020a00ff, &err), -1);
    assert_int_equal(kafka_version_check(0x020a01ff, &err), 0);
    assert_int_equal(kafka_version_check(0x020002ff, &err), 0);
}

/* --- silence ------------------------------------------------------------------------------------------------------------------------------ */

static int warnings;

static void count_warnings(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)line;
    (void)len;
    warnings += level >= LOG_WARN;
}

static void nobody_at_the_address_is_told_once_and_within_the_bound(void **state)
{
    struct mocked *m = *state;
    struct bus *bus = bus_kafka(m->env.loop, &(struct bus_kafka_options){.brokers = "127.0.0.1:1"}, NULL);
    struct answer a = {0};
    int64_t began = loop_now_us(m->env.loop);
    warnings = 0;
    log_sink(count_warnings, NULL);
    bus_ping(bus, 1500, answer_done, &a);
    WAIT_FOR(&m->env, answer_is_there, &a);
    assert_true(loop_now_us(m->env.loop) - began < 3 * US_PER_S);
    assert_true(a.failed);
    assert_int_equal(a.err.kind, ERR_RETRY);
    assert_non_null(strstr(a.err.text, "127.0.0.1:1"));
    env_linger(&m->env, 3 * US_PER_S);
    assert_int_equal(warnings, 1);
    log_sink(NULL, NULL);
    bus_free(bus);
}

/* --- errors of the broker -------------------------------------------------------------------------------------------------------------------- */

static void what_the_broker_finds_too_large_is_the_items_fault(void **state)
{
    struct mocked *m = *state;
    const char *topic = mock_topic(m, 1);
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    struct bus_out out = {.topic = topic, .partition = 0, .value = "x", .value_len = 1};
    struct ack ack = {0};
    assert_int_equal(bus_publish(m->env.bus, &out, ack_take, &ack, NULL), 0);
    WAIT_FOR(&m->env, ack_done, &ack);
    assert_int_equal(ack.err.kind, ERR_TASK);
    assert_string_equal(ack.err.reason, "too large");
}

static void a_lack_of_rights_is_fatal(void **state)
{
    struct mocked *m = *state;
    const char *topic = mock_topic(m, 1);
    rd_kafka_mock_push_request_errors(m->cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    struct bus_out out = {.topic = topic, .partition = 0, .value = "x", .value_len = 1};
    struct ack ack = {0};
    assert_int_equal(bus_publish(m->env.bus, &out, ack_take, &ack, NULL), 0);
    WAIT_FOR(&m->env, ack_done, &ack);
    assert_int_equal(ack.err.kind, ERR_FATAL);
}

static void commit_at(struct member *mem, int64_t offset, struct answer *a)
{
    struct bus_commit commit = {.partition = 0, .offset = offset, .metadata = "map"};
    *a = (struct answer){0};
    bus_group_commit(mem->group, &commit, 1, answer_done, a);
    WAIT_FOR(mem->env, answer_is_there, a);
}

/* By a client that is no member: the mock does not take up a group again once all have left. */
static void commit_from_outside(struct mocked *m, const char *group, const char *topic, int64_t offset)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(m->cluster), NULL, 0);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, NULL, 0);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = offset;
    assert_int_equal(rd_kafka_commit(rk, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

/* The wrong way out would be to begin at the start of the partition, and to commit that. */
static void a_partition_whose_commit_cannot_be_read_is_not_begun(void **state)
{
    struct mocked *m = *state;
    const char *topic = mock_topic(m, 1), *group = env_name(&m->env, "group");
    env_publish(&m->env, topic, 0, 0, 10);
    commit_from_outside(m, group, topic, 7);
    rd_kafka_mock_push_request_errors(m->cluster, API_OFFSET_FETCH, 2, RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_UNKNOWN);
    struct member mem = {.wanted = 3};
    member_join(&mem, &m->env, group, topic, NULL, 0);
    WAIT_FOR(&m->env, member_has_all, &mem);
    assert_int_equal(mem.committed[0], 7);
    assert_int_equal(mem.out_of_order, 0);
    assert_int_equal(mem.assigned, 1);
    member_leave(&mem, true);
}

static void a_commit_that_is_refused_says_so(void **state)
{
    struct mocked *m = *state;
    const char *topic = mock_topic(m, 1);
    struct member mem = {0};
    member_join(&mem, &m->env, env_name(&m->env, "group"), topic, NULL, 0);
    WAIT_FOR(&m->env, member_settled, &mem);
    rd_kafka_mock_push_request_errors(m->cluster, API_OFFSET_COMMIT, 1, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    struct answer a;
    commit_at(&mem, 1, &a);
    assert_true(a.failed);
    assert_int_equal(a.err.kind, ERR_FATAL);
    commit_at(&mem, 2, &a);
    assert_false(a.failed);
    member_leave(&mem, true);
}

/* Whoever frees the bus with all in use is not called back, and nothing is left behind. */
static void a_bus_can_be_freed_with_everything_in_use(void **state)
{
    struct mocked *m = *state;
    const char *topic = mock_topic(m, 2);
    struct bus_kafka_options options = {.brokers = rd_kafka_mock_cluster_bootstraps(m->cluster)};
    struct bus *bus = bus_kafka(m->env.loop, &options, NULL);
    struct bus_env env = {.loop = m->env.loop, .bus = bus, .prefix = "mock"};
    struct member mem = {0};
    struct follower f = {0};
    struct ack ack = {0};
    struct answer a = {0};
    struct bus_out out = {.topic = topic, .partition = 0, .value = "x", .value_len = 1};
    member_join(&mem, &env, "group", topic, NULL, 0);
    follower_start(&f, &env, topic, 0, BUS_BEGIN);
    WAIT_FOR(&env, member_settled, &mem);
    assert_int_equal(bus_publish(bus, &out, ack_take, &ack, NULL), 0);
    bus_watermarks(bus, topic, 0, answer_marks, &a);
    bus_free(bus);
    assert_false(ack.done || a.done || mem.revoked > 0);
    for (size_t p = 0; p < ENV_PARTITIONS; p++)
        free(mem.metadata[p]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_properties_are_told_at_once),
        cmocka_unit_test(versions_that_break_are_refused),
        cmocka_unit_test(nobody_at_the_address_is_told_once_and_within_the_bound),
        cmocka_unit_test(what_the_broker_finds_too_large_is_the_items_fault),
        cmocka_unit_test(a_lack_of_rights_is_fatal),
        cmocka_unit_test(a_partition_whose_commit_cannot_be_read_is_not_begun),
        cmocka_unit_test(a_commit_that_is_refused_says_so),
        cmocka_unit_test(a_bus_can_be_freed_with_everything_in_use),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
