#include "common/bus/bus_kafka.h"

/* Settings of librdkafka: ours, then the user's; and the versions that are known to break. */

#define DEFAULT_PREFETCH (INT64_C(8) * 1024 * 1024) /* bytes */
#define MESSAGE_OVERHEAD 512 /* bytes that a message in the local queue takes beside its own, which librdkafka does not count; so messages are counted, too */

static const struct kafka_pair common[] = {
    {"log.queue", "true"}, /* logs come on the loop as well */
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {"reconnect.backoff.max.ms", "2000"}, /* a broker that is back is noticed soon */
    {NULL, NULL},
};

static const struct kafka_pair producer[] = {
    {"acks", "all"},
    {"enable.idempotence", "true"},
    {"linger.ms", "5"},
    {"partitioner", "murmur2_random"}, /* as Java's producers: others who write to the topic agree */
    {"queue.buffering.max.kbytes", "32768"},
    {"topic.metadata.propagation.max.ms", "10000"},
    {NULL, NULL},
};

/* Half the memory of the defaults at the same rate; far smaller ones crawl. */
static const struct kafka_pair member[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"auto.offset.reset", "earliest"},
    {"partition.assignment.strategy", "range"},
    {"fetch.message.max.bytes", "262144"},
    {NULL, NULL},
};

static const struct kafka_pair reader[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"auto.offset.reset", "error"}, /* a log that no longer reaches back must be noticed */
    {"enable.partition.eof", "true"},
    {"fetch.wait.max.ms", "100"},   /* a partition that joins waits for the fetch that is under way */
    {"fetch.message.max.bytes", "262144"},
    {"queued.max.messages.kbytes", "4096"},
    {NULL, NULL},
};

static const struct kafka_pair fetch_backoff = {"fetch.queue.backoff.ms", "10"};

static const struct kafka_pair *const by_role[KAFKA_ROLES] = {
    [KAFKA_PRODUCER] = producer, [KAFKA_MEMBER] = member, [KAFKA_READER] = reader,
};

/* What exactly once rests on. */
static const char *const ours[] = {
    "acks", "request.required.acks", "enable.idempotence", "idempotence", "transactional.id", "group.id", "group.instance.id", "group.protocol",
    "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "partition.assignment.strategy", "enable.partition.eof", "log.queue",
};

int kafka_version_check(int version, struct error *err)
{
    static const struct { int version; const char *name, *why; } bad[] = {
        {0x020500, "2.5.0", "it aborts when a broker asks for telemetry"},
        {0x020a00, "2.10.0", "it may bootstrap for ever"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (version >> 8 == bad[i].version)
            return error_set(err, ERR_USAGE, 0, "librdkafka %s cannot be used: %s; install another version", bad[i].name, bad[i].why);
    return 0;
}

static int set(rd_kafka_conf_t *conf, const struct kafka_pair *pair, struct error *err)
{
    char why[512];
    switch (rd_kafka_conf_set(conf, pair->key, pair->value, why, sizeof(why))) {
    case RD_KAFKA_CONF_OK: return 0;
    case RD_KAFKA_CONF_UNKNOWN: return error_set(err, ERR_USAGE, 0, "librdkafka knows no property %s", pair->key);
    default: return error_set(err, ERR_USAGE, 0, "Kafka property %s: %s", pair->key, why);
    }
}

static int set_all(rd_kafka_conf_t *conf, const struct kafka_pair *pairs, struct error *err)
{
    for (; pairs != NULL && pairs->key != NULL; pairs++)
        if (set(conf, pairs, err) < 0)
            return -1;
    return 0;
}

static int set_own(struct bus_kafka *k, rd_kafka_conf_t *conf, enum kafka_role role, const struct kafka_pair *more, struct error *err)
{
    char kbytes[32];
    snprintf(kbytes, sizeof(kbytes), "%" PRId64, i64_max(256, k->prefetch_bytes / 1024));
    char messages[32];
    snprintf(messages, sizeof(messages), "%" PRId64, i64_max(1000, k->prefetch_bytes / MESSAGE_OVERHEAD));
    const struct kafka_pair given[] = {{"bootstrap.servers", k->brokers}, {"client.id", k->client_id}, {NULL, NULL}};
    const struct kafka_pair prefetch[] = {{"queued.max.messages.kbytes", kbytes}, {"queued.min.messages", messages}, {NULL, NULL}};
    if (set_all(conf, given, err) < 0 || set_all(conf, common, err) < 0 || set_all(conf, by_role[role], err) < 0)
        return -1;
    if (role == KAFKA_MEMBER && set_all(conf, prefetch, err) < 0)
        return -1;
    if (role != KAFKA_PRODUCER) /* later versions only; before them see bus_kafka_nudge.c */
        (void)set(conf, &fetch_backoff, NULL);
    return set_all(conf, more, err);
}

rd_kafka_conf_t *kafka_conf(struct bus_kafka *k, enum kafka_role role, const struct kafka_pair *more, struct error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (set_own(k, conf, role, more, err) == 0 && set_all(conf, k->properties, err) == 0)
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

static int property_read(struct kafka_pair *pair, const char *text, struct error *err)
{
    const char *eq = strchr(text, '=');
    if (eq == NULL || eq == text)
        return error_set(err, ERR_USAGE, 0, "a Kafka property is written key=value, not \"%s\"", text);
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strlen(ours[i]) == (size_t)(eq - text) && strncmp(ours[i], text, (size_t)(eq - text)) == 0)
            return error_set(err, ERR_USAGE, 0, "Kafka property %s cannot be changed: no item being lost or doubled rests on it", ours[i]);
    pair->key = xstrndup(text, (size_t)(eq - text));
    pair->value = xstrdup(eq + 1);
    return 0;
}

/* Tried at once on a scratch configuration, so that a wrong one is told at start and not when it is first needed. */
int kafka_properties_read(struct bus_kafka *k, const char *const *properties, struct error *err)
{
    size_t count = 0;
    while (properties != NULL && properties[count] != NULL)
        count++;
    k->properties = xcalloc(count + 1, sizeof(*k->properties));
    for (size_t i = 0; i < count; i++)
        if (property_read(&k->properties[i], properties[i], err) < 0)
            return -1;
    if (k->prefetch_bytes <= 0)
        k->prefetch_bytes = DEFAULT_PREFETCH;
    rd_kafka_conf_t *conf = kafka_conf(k, KAFKA_PRODUCER, NULL, err);
    if (conf == NULL)
        return -1;
    k->fetch_backoff_known = set(conf, &fetch_backoff, NULL) == 0; /* once, here: the helper makes clients too */
    char text[32];
    size_t size = sizeof(text);
    if (rd_kafka_conf_get(conf, "message.max.bytes", text, &size) == RD_KAFKA_CONF_OK)
        k->max_message = strtoll(text, NULL, 10);
    rd_kafka_conf_destroy(conf);
    return 0;
}

void kafka_properties_free(struct bus_kafka *k)
{
    for (struct kafka_pair *p = k->properties; p != NULL && p->key != NULL; p++) {
        free((char *)(uintptr_t)p->key);
        free((char *)(uintptr_t)p->value);
    }
    free(k->properties);
}
