#include "coordinator/topics.h"

#include "common/base/units.h"

#define DAY_MS INT64_C(86400000)
#define LOG_PARTITIONS 8      /* of results and dead: a run's messages are in one of them */
#define MESSAGE_SPARE 4096    /* bytes of key, headers and framing around what the limits count */

void topics_needed(const char *prefix, const char *queue, int32_t partitions, int16_t replication, struct topic_need out[TOPIC_COUNT])
{
    static const struct { int32_t partitions; bool compact; int64_t retention_ms, message; } needs[TOPIC_COUNT] = {
        [TOPIC_WORK] = {0, false, 7 * DAY_MS, LIMIT_PAYLOAD + LIMIT_KEY},
        [TOPIC_RESULTS] = {LOG_PARTITIONS, false, 30 * DAY_MS, LIMIT_MANIFEST},
        [TOPIC_BATCHES] = {1, true, 0, LIMIT_RECORD},
        [TOPIC_WORKERS] = {1, true, 0, 64 * 1024},
        [TOPIC_DEAD] = {LOG_PARTITIONS, false, 30 * DAY_MS, LIMIT_PAYLOAD + LIMIT_DEAD_TEXT},
    };
    topic_work(out[TOPIC_WORK].name, prefix, queue);
    topic_results(out[TOPIC_RESULTS].name, prefix);
    topic_batches(out[TOPIC_BATCHES].name, prefix);
    topic_workers(out[TOPIC_WORKERS].name, prefix);
    topic_dead(out[TOPIC_DEAD].name, prefix);
    for (size_t i = 0; i < TOPIC_COUNT; i++) {
        out[i].create = (struct bus_topic){
            .name = out[i].name,
            .partitions = needs[i].partitions > 0 ? needs[i].partitions : partitions,
            .replication = replication,
            .compact = needs[i].compact,
            .retention_ms = needs[i].retention_ms,
            .min_insync = replication > 1 ? 2 : 0,
        };
        out[i].min_message = needs[i].message + MESSAGE_SPARE;
        out[i].min_retention_ms = needs[i].compact ? 0 : DAY_MS;
    }
}

static void add(struct buf *out, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add(struct buf *out, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_xprintf(out, "%s%s", out->len > 0 ? "; " : "", text);
}

bool topic_judge(const struct topic_need *need, const struct bus_topic *is, struct buf *out)
{
    size_t before = out->len;
    char size[32], time[32];
    if (is->partitions == 0) {
        add(out, "does not exist: `bqfleet topics create`");
        return true;
    }
    if (need->create.compact && is->partitions != 1)
        add(out, "has %" PRId32 " partitions; its order decides, so it must have 1", is->partitions);
    if (need->create.compact != is->compact)
        add(out, "cleanup.policy must be %s", need->create.compact ? "compact" : "delete");
    if (is->replication > 1 && is->min_insync < 2)
        add(out, "min.insync.replicas is %d; with %d replicas it must be 2 or more, or an acknowledged message can be lost with one broker",
            is->min_insync, is->replication);
    if (is->unclean_election)
        add(out, "unclean.leader.election.enable must be false: such an election forgets acknowledged messages");
    if (is->max_message > 0 && is->max_message < need->min_message)
        add(out, "max.message.bytes is too small: messages may have %s", units_show_bytes(need->min_message, size, sizeof(size)));
    if (!need->create.compact && is->retention_ms >= 0 && is->retention_ms < need->min_retention_ms)
        add(out, "retention.ms is only %s; a run that is open longer loses its messages", units_show_ms(is->retention_ms, time, sizeof(time)));
    return out->len > before;
}
