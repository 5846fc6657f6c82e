/*
 * The bare loop that a worker is measured beside: polls COUNT messages of TOPIC as a fresh group, with the settings of the product's own consumers.
 *     bare_poll BROKERS TOPIC COUNT [NANOSECONDS a message [KEY=VALUE of librdkafka ...]]
 *     bare_poll - - COUNT NANOSECONDS        the work alone, without messages
 * Prints seconds from the first message to the last, seconds of processor time in all, and the messages' bytes, each on a line.
 */
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/bus/bus_kafka.h"

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int fail(const char *what)
{
    fprintf(stderr, "bare_poll: %s\n", what);
    return 1;
}

static void work(int64_t from, int64_t ns)
{
    while (now_ns() - from < ns)
        continue;
}

static int report(double seconds, int64_t bytes)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.6f\n%.6f\n%" PRId64 "\n", seconds,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6, bytes);
    return 0;
}

static int work_alone(int64_t count, int64_t ns)
{
    int64_t start = now_ns();
    for (int64_t n = 0; n < count; n++)
        work(now_ns(), ns);
    return report((double)(now_ns() - start) / 1e9, 0);
}

static int poll_all(rd_kafka_t *rk, int64_t count, int64_t work_ns)
{
    int64_t first = 0, bytes = 0;
    for (int64_t n = 0, idle = 0; n < count;) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
        if (m == NULL && ++idle > 600)
            return fail("nothing came for a minute");
        if (m == NULL)
            continue;
        if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            int64_t now = n == 0 || work_ns > 0 ? now_ns() : 0;
            first = n == 0 ? now : first;
            if (work_ns > 0)
                work(now, work_ns);
            bytes += (int64_t)(m->len + m->key_len);
            idle = 0;
            n++;
        }
        rd_kafka_message_destroy(m);
    }
    return report((double)(now_ns() - first) / 1e9, bytes);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fail("BROKERS TOPIC COUNT [NANOSECONDS]");
    if (strcmp(argv[1], "-") == 0)
        return work_alone(strtoll(argv[3], NULL, 10), argc > 4 ? strtoll(argv[4], NULL, 10) : 0);
    struct loop *loop = loop_new();
    struct error err = ERROR_INIT;
    struct bus_kafka_options options = {.brokers = argv[1], .client_id = "bare", .properties = argc > 5 ? (const char *const *)argv + 5 : NULL};
    struct bus *bus = bus_kafka(loop, &options, &err);
    if (bus == NULL)
        return fail(err.text);
    char group[64], why[512];
    snprintf(group, sizeof(group), "bare-%ld-%" PRId64, (long)getpid(), now_ns());
    const struct kafka_pair more[] = {{"group.id", group}, {NULL, NULL}};
    rd_kafka_conf_t *conf = kafka_conf(bus_kafka_of(bus), KAFKA_MEMBER, more, &err);
    if (conf == NULL)
        return fail(err.text);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (rk == NULL)
        return fail(why);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, argv[2], RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, topics) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail("the topic cannot be subscribed to");
    rd_kafka_topic_partition_list_destroy(topics);
    int code = poll_all(rk, strtoll(argv[3], NULL, 10), argc > 4 ? strtoll(argv[4], NULL, 10) : 0);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    bus_free(bus);
    loop_free(loop);
    return code;
}
