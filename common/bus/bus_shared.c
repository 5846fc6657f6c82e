#include "common/bus/bus_ops.h"

#include "common/base/failures.h"
#include "common/base/limits.h"

/* What both implementations need: listeners for room, and errors in the same words. */

void bus_space_set(struct bus_space *s, void (*fn)(void *), void *arg)
{
    size_t i = 0;
    while (i < s->count && s->items[i].arg != arg)
        i++;
    if (i == s->count) {
        if (fn == NULL)
            return;
        if (s->count == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 4;
            s->items = xreallocarray(s->items, s->cap, sizeof(*s->items));
        }
        s->items[s->count++].arg = arg;
    }
    s->items[i].fn = fn; /* NULL: swept when they are next told, so that indexes stand still */
}

void bus_space_tell(struct bus_space *s)
{
    s->wanted = false;
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].fn != NULL)
            s->items[i].fn(s->items[i].arg);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].fn != NULL)
            s->items[kept++] = s->items[i];
    s->count = kept;
}

void bus_space_free(struct bus_space *s)
{
    free(s->items);
    *s = (struct bus_space){0};
}

int bus_error_topic(struct error *err, const char *topic)
{
    return failure_set(err, FROM_KAFKA, 0, "UNKNOWN_TOPIC_OR_PART", "topic %s does not exist: create it with `bqfleet topics create`", topic);
}

int bus_error_partition(struct error *err, const char *topic, int32_t partition)
{
    return failure_set(err, FROM_KAFKA, 0, "_UNKNOWN_PARTITION", "topic %s has no partition %" PRId32, topic, partition);
}

int bus_error_too_large(struct error *err, const char *topic, int64_t size, int64_t max)
{
    static const char name[] = "MSG_SIZE_TOO_LARGE";
    if (max > 0)
        return failure_set(err, FROM_KAFKA, 0, name, "a message of %" PRId64 " bytes for topic %s: the largest is %" PRId64 " bytes", size, topic, max);
    return failure_set(err, FROM_KAFKA, 0, name, "a message of %" PRId64 " bytes for topic %s: more than the broker takes (max.message.bytes)", size, topic);
}

int bus_error_full(struct error *err)
{
    return failure_set(err, FROM_KAFKA, 0, "_QUEUE_FULL", "the queue of messages to publish is full");
}

int bus_error_metadata(struct error *err, size_t size)
{
    return failure_set(err, FROM_KAFKA, 0, "OFFSET_METADATA_TOO_LARGE", "a commit with %zu bytes of metadata: the most is %d bytes", size,
                       LIMIT_COMMIT_METADATA);
}

int bus_error_range(struct error *err, const char *topic, int32_t partition, int64_t from)
{
    return failure_set(err, FROM_KAFKA, 0, "out of range",
                       "offset %" PRId64 " is not in topic %s, partition %" PRId32 ": retention has removed it, or it was never there", from, topic, partition);
}

int bus_error_exists(struct error *err, const char *topic)
{
    return failure_set(err, FROM_KAFKA, 0, "TOPIC_ALREADY_EXISTS", "topic %s exists already", topic);
}

int64_t bus_out_size(const struct bus_out *out)
{
    size_t size = out->key_len + out->value_len;
    for (size_t i = 0; i < out->header_count; i++)
        size += strlen(out->headers[i].name) + out->headers[i].len;
    return (int64_t)size;
}

int bus_commits_check(const struct bus_commit *commits, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        size_t size = commits[i].metadata ? strlen(commits[i].metadata) : 0;
        if (size > LIMIT_COMMIT_METADATA)
            return bus_error_metadata(err, size);
    }
    return 0;
}
