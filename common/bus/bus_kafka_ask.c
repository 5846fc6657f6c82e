#include "common/bus/bus_kafka.h"

#include <time.h>

/* Questions: each one a job of the helper, with a client that follows nothing. */

#define LOOK_AGAIN_MS 100 /* a topic made a moment ago has no leader yet */

struct kafka_ask {
    struct kafka_job job;
    struct bus_kafka *kafka;
    rd_kafka_t *rk;
    char *name, *group;
    int64_t number;           /* a time or a count */
    int32_t partition;
    struct bus_topic topic;
    int64_t low, high, *offsets;
    bool failed;
    struct error err;
    union { bus_done_cb *done; bus_marks_cb *marks; bus_committed_cb *committed; bus_topic_cb *topic; } cb;
    bool silent;              /* whoever asked is gone */
    void *arg;
    LIST_ENTRY(kafka_ask) link;
};

static void ask_drop(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    LIST_REMOVE(a, link);
    free(a->name);
    free(a->group);
    free(a->offsets);
    free(a);
}

static struct kafka_ask *ask_prepare(struct bus *b, void (*run)(struct kafka_job *), void (*done)(struct kafka_job *), const char *name,
                                     void *arg)
{
    struct bus_kafka *k = bus_kafka_of(b);
    struct kafka_ask *a = xcalloc(1, sizeof(*a));
    a->job = (struct kafka_job){.run = run, .done = done, .drop = ask_drop};
    a->kafka = k;
    a->name = xstrdup(name);
    a->arg = arg;
    a->low = a->high = -1;
    a->rk = kafka_asking_client(k, &a->err);
    a->failed = a->rk == NULL;
    LIST_INSERT_HEAD(&k->asks, a, link);
    return a;
}

/* From here on it is the helper's. */
static void ask_give(struct kafka_ask *a)
{
    kafka_helper_give(a->kafka, &a->job, false);
}

void kafka_asks_cancel(struct bus_kafka *k, const void *arg)
{
    struct kafka_ask *a;
    LIST_FOREACH(a, &k->asks, link)
        if (a->arg == arg)
            a->silent = true;
}

static void refused(struct kafka_ask *a, rd_kafka_resp_err_t code, const char *what)
{
    a->failed = true;
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        (void)bus_error_topic(&a->err, a->name);
    else if (code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
        (void)bus_error_partition(&a->err, a->name, a->partition);
    else
        (void)kafka_error(&a->err, code, "%s of topic %s", what, a->name);
}

/* --- offsets ------------------------------------------------------------------------------------------------------------------------------- */

static void run_marks(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (a->failed)
        return;
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(a->rk, a->name, a->partition, &a->low, &a->high, KAFKA_ASK_MS);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        refused(a, code, "the ends of the log");
}

static void run_at(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    run_marks(job);
    if (a->failed)
        return;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *t = rd_kafka_topic_partition_list_add(list, a->name, a->partition);
    t->offset = a->number;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(a->rk, list, KAFKA_ASK_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = t->err;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        refused(a, code, "an offset by its time");
    else if (t->offset >= 0)
        a->high = t->offset;
    rd_kafka_topic_partition_list_destroy(list);
}

static void done_marks(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (!a->silent)
        a->cb.marks(a->arg, a->low, a->high, a->failed ? &a->err : NULL);
    ask_drop(job);
}

void kafka_watermarks(struct bus *b, const char *topic, int32_t partition, bus_marks_cb *cb, void *arg)
{
    struct kafka_ask *a = ask_prepare(b, run_marks, done_marks, topic, arg);
    a->cb.marks = cb;
    a->partition = partition;
    ask_give(a);
}

void kafka_offset_at(struct bus *b, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *cb, void *arg)
{
    struct kafka_ask *a = ask_prepare(b, run_at, done_marks, topic, arg);
    a->cb.marks = cb;
    a->partition = partition;
    a->number = time_ms;
    ask_give(a);
}

/* --- administration: one request, its answer awaited on a queue of its own ------------------------------------------------------------------ */

struct admin {
    rd_kafka_queue_t *queue;
    rd_kafka_AdminOptions_t *options;
    rd_kafka_event_t *event;
};

static void admin_init(struct admin *m, rd_kafka_t *rk, rd_kafka_admin_op_t op)
{
    char why[128];
    m->queue = rd_kafka_queue_new(rk);
    m->options = rd_kafka_AdminOptions_new(rk, op);
    m->event = NULL;
    (void)rd_kafka_AdminOptions_set_request_timeout(m->options, KAFKA_ASK_MS, why, sizeof(why));
    if (op == RD_KAFKA_ADMIN_OP_CREATETOPICS)
        (void)rd_kafka_AdminOptions_set_operation_timeout(m->options, KAFKA_ASK_MS, why, sizeof(why));
}

static rd_kafka_resp_err_t admin_wait(struct admin *m)
{
    m->event = rd_kafka_queue_poll(m->queue, KAFKA_ASK_MS + 1000);
    return m->event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(m->event);
}

static void admin_fini(struct admin *m)
{
    if (m->event != NULL)
        rd_kafka_event_destroy(m->event);
    rd_kafka_AdminOptions_destroy(m->options);
    rd_kafka_queue_destroy(m->queue);
}

/* --- committed offsets ------------------------------------------------------------------------------------------------------------------------ */

/*
 * By a client that carries the group's name and never joins it. The administration's ListConsumerGroupOffsets would need no client of its own,
 * but a broker that goes away while it looks for the group's coordinator makes librdkafka abort (its issue 4605).
 */
static rd_kafka_t *group_client(struct kafka_ask *a)
{
    struct bus_kafka *k = a->kafka;
    if (k->asker != NULL && strcmp(k->asker_group, a->group) == 0)
        return k->asker;
    kafka_asker_free(k);
    /* Nobody polls it: its logs, which repeat the reader's, go nowhere. */
    const struct kafka_pair own[] = {{"group.id", a->group}, {"log.queue", "false"}, {NULL, NULL}};
    rd_kafka_conf_t *conf = kafka_conf(k, KAFKA_READER, own, &a->err);
    if (conf == NULL)
        return NULL;
    rd_kafka_conf_set_log_cb(conf, NULL);
    char why[256];
    k->asker = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (k->asker == NULL) {
        rd_kafka_conf_destroy(conf);
        (void)error_set(&a->err, ERR_FATAL, (int)rd_kafka_last_error(), "a client for Kafka at %s cannot be made: %s", k->brokers, why);
        return NULL;
    }
    k->asker_group = xstrdup(a->group);
    return k->asker;
}

void kafka_asker_free(struct bus_kafka *k)
{
    if (k->asker != NULL)
        rd_kafka_destroy_flags(k->asker, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    free(k->asker_group);
    k->asker = NULL;
    k->asker_group = NULL;
}

static void run_committed(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    rd_kafka_t *rk = a->failed ? NULL : group_client(a);
    a->failed = rk == NULL;
    if (a->failed)
        return;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)a->number);
    for (int32_t p = 0; p < a->number; p++)
        rd_kafka_topic_partition_list_add(list, a->name, p);
    rd_kafka_resp_err_t code = rd_kafka_committed(rk, list, KAFKA_ASK_MS);
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        code = list->elems[i].err;
        a->offsets[list->elems[i].partition] = i64_max(-1, list->elems[i].offset);
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        refused(a, code, "committed offsets");
    rd_kafka_topic_partition_list_destroy(list);
}

static void done_committed(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (!a->silent)
        a->cb.committed(a->arg, a->offsets, (int32_t)a->number, a->failed ? &a->err : NULL);
    ask_drop(job);
}

void kafka_committed(struct bus *b, const char *group, const char *topic, int32_t partitions, bus_committed_cb *cb, void *arg)
{
    struct kafka_ask *a = ask_prepare(b, run_committed, done_committed, topic, arg);
    a->cb.committed = cb;
    a->group = xstrdup(group);
    a->number = partitions;
    a->offsets = xcalloc((size_t)partitions, sizeof(*a->offsets));
    for (int32_t p = 0; p < partitions; p++)
        a->offsets[p] = -1;
    ask_give(a);
}

/* --- topics ------------------------------------------------------------------------------------------------------------------------------------ */

/* The partitions and their copies; 0 partitions when there is no such topic. */
static rd_kafka_resp_err_t look(struct kafka_ask *a)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(a->rk, a->name, NULL);
    if (t == NULL)
        return rd_kafka_last_error();
    rd_kafka_resp_err_t code = rd_kafka_metadata(a->rk, 0, t, &metadata, KAFKA_ASK_MS);
    rd_kafka_topic_destroy(t);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    if (metadata->topic_cnt == 1) {
        code = metadata->topics[0].err;
        a->topic.partitions = metadata->topics[0].partition_cnt;
        if (a->topic.partitions > 0)
            a->topic.replication = (int16_t)metadata->topics[0].partitions[0].replica_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    if (kafka_is_unknown(code)) {
        a->topic.partitions = 0;
        code = RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    return code;
}

static rd_kafka_resp_err_t look_until_led(struct kafka_ask *a)
{
    rd_kafka_resp_err_t code = look(a);
    for (int waited_ms = 0; code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE && waited_ms < KAFKA_ASK_MS; waited_ms += LOOK_AGAIN_MS) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_AGAIN_MS * 1000000L}, NULL);
        code = look(a);
    }
    return code;
}

static void read_setting(struct bus_topic *t, const char *name, const char *value)
{
    if (value == NULL)
        return;
    if (strcmp(name, "cleanup.policy") == 0)
        t->compact = strstr(value, "compact") != NULL;
    else if (strcmp(name, "retention.ms") == 0)
        t->retention_ms = strtoll(value, NULL, 10);
    else if (strcmp(name, "max.message.bytes") == 0)
        t->max_message = strtoll(value, NULL, 10);
    else if (strcmp(name, "min.insync.replicas") == 0)
        t->min_insync = (int)strtol(value, NULL, 10);
    else if (strcmp(name, "unclean.leader.election.enable") == 0)
        t->unclean_election = strcmp(value, "true") == 0;
    else if (strcmp(name, "segment.ms") == 0)
        t->segment_ms = strtoll(value, NULL, 10);
}

static rd_kafka_resp_err_t read_settings(struct kafka_ask *a)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, a->name);
    struct admin m;
    admin_init(&m, a->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(a->rk, &resource, 1, m.options, m.queue);
    rd_kafka_resp_err_t code = admin_wait(&m);
    size_t count = 0, entries = 0;
    const rd_kafka_ConfigResource_t **answers = NULL;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        answers = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(m.event), &count);
    if (count == 1)
        code = rd_kafka_ConfigResource_error(answers[0]);
    const rd_kafka_ConfigEntry_t **list = count == 1 ? rd_kafka_ConfigResource_configs(answers[0], &entries) : NULL;
    for (size_t i = 0; i < entries; i++)
        read_setting(&a->topic, rd_kafka_ConfigEntry_name(list[i]), rd_kafka_ConfigEntry_value(list[i]));
    admin_fini(&m);
    rd_kafka_ConfigResource_destroy(resource);
    return code;
}

static void run_describe(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (a->failed)
        return;
    a->topic.name = a->name;
    rd_kafka_resp_err_t code = look_until_led(a);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && a->topic.partitions > 0)
        code = read_settings(a);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        refused(a, code, "the settings");
}

static void done_describe(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (!a->silent)
        a->cb.topic(a->arg, &a->topic, a->failed ? &a->err : NULL);
    ask_drop(job);
}

void kafka_topic_describe(struct bus *b, const char *name, bus_topic_cb *cb, void *arg)
{
    struct kafka_ask *a = ask_prepare(b, run_describe, done_describe, name, arg);
    a->cb.topic = cb;
    ask_give(a);
}

static void created(struct kafka_ask *a, struct admin *m)
{
    size_t count = 0;
    const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(m->event), &count);
    rd_kafka_resp_err_t code = count == 1 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__FAIL;
    const char *why = count == 1 ? rd_kafka_topic_result_error_string(results[0]) : NULL;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    a->failed = true;
    if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        (void)bus_error_exists(&a->err, a->name);
    else
        (void)kafka_error(&a->err, code, "creating topic %s: %s", a->name, why ? why : "refused");
}

static void run_create(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (a->failed)
        return;
    char why[256], retention[32];
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(a->name, a->topic.partitions, a->topic.replication > 0 ? a->topic.replication : -1, why, sizeof(why));
    if (t == NULL) {
        a->failed = true;
        error_set(&a->err, ERR_USAGE, 0, "topic %s: %s", a->name, why);
        return;
    }
    (void)rd_kafka_NewTopic_set_config(t, "cleanup.policy", a->topic.compact ? "compact" : "delete");
    snprintf(retention, sizeof(retention), "%" PRId64, a->topic.retention_ms);
    if (a->topic.retention_ms != 0)
        (void)rd_kafka_NewTopic_set_config(t, "retention.ms", retention);
    struct admin m;
    admin_init(&m, a->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_CreateTopics(a->rk, &t, 1, m.options, m.queue);
    rd_kafka_resp_err_t code = admin_wait(&m);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        created(a, &m);
    else
        refused(a, code, "the making");
    admin_fini(&m);
    rd_kafka_NewTopic_destroy(t);
}

static void done_create(struct kafka_job *job)
{
    struct kafka_ask *a = (struct kafka_ask *)job;
    if (!a->silent && a->cb.done != NULL)
        a->cb.done(a->arg, a->failed ? &a->err : NULL);
    ask_drop(job);
}

void kafka_topic_create(struct bus *b, const struct bus_topic *wanted, bus_done_cb *cb, void *arg)
{
    struct kafka_ask *a = ask_prepare(b, run_create, done_create, wanted->name, arg);
    a->cb.done = cb;
    a->topic = *wanted;
    ask_give(a);
}
