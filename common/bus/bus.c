#include "common/bus/bus.h"

#include "common/base/limits.h"
#include "common/bus/bus_ops.h"

/* The calls of the bus, handed on to the implementation. */

int bus_publish(struct bus *b, const struct bus_out *out, bus_ack_cb *cb, void *arg, struct error *err)
{
    return b->ops->publish(b, out, cb, arg, err);
}

void bus_on_space(struct bus *b, void (*fn)(void *), void *arg)
{
    b->ops->on_space(b, fn, arg);
}

int64_t bus_unacked(struct bus *b)
{
    return b->ops->unacked(b);
}

struct bus_group *bus_join(struct bus *b, const struct bus_group_config *config, const struct bus_group_events *events, void *arg,
                           struct error *err)
{
    if (config->group == NULL || config->group[0] == '\0' || config->topic == NULL || config->topic[0] == '\0') {
        error_set(err, ERR_USAGE, 0, "a member needs the name of a group and of a topic");
        return NULL;
    }
    return b->ops->join(b, config, events, arg, err);
}

void bus_group_pause(struct bus_group *g)
{
    g->bus->ops->group_pause(g);
}

void bus_group_resume(struct bus_group *g)
{
    g->bus->ops->group_resume(g);
}

void bus_group_commit(struct bus_group *g, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    g->bus->ops->group_commit(g, commits, count, cb, arg);
}

void bus_group_leave(struct bus_group *g, bool for_good, void (*left)(void *), void *arg)
{
    g->bus->ops->group_leave(g, for_good, left, arg);
}

struct bus_follow *bus_follow(struct bus *b, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *events,
                              void *arg, struct error *err)
{
    assert(partition >= 0);
    assert(from >= 0 || from == BUS_BEGIN || from == BUS_END);
    return b->ops->follow(b, topic, partition, from, events, arg, err);
}

void bus_follow_stop(struct bus_follow *f)
{
    if (f != NULL)
        f->bus->ops->follow_stop(f);
}

void bus_watermarks(struct bus *b, const char *topic, int32_t partition, bus_marks_cb *cb, void *arg)
{
    b->ops->watermarks(b, topic, partition, cb, arg);
}

void bus_offset_at(struct bus *b, const char *topic, int32_t partition, int64_t time_ms, bus_marks_cb *cb, void *arg)
{
    b->ops->offset_at(b, topic, partition, time_ms, cb, arg);
}

void bus_committed(struct bus *b, const char *group, const char *topic, int32_t partitions, bus_committed_cb *cb, void *arg)
{
    assert(partitions > 0);
    b->ops->committed(b, group, topic, partitions, cb, arg);
}

void bus_topic_describe(struct bus *b, const char *name, bus_topic_cb *cb, void *arg)
{
    b->ops->topic_describe(b, name, cb, arg);
}

void bus_topic_create(struct bus *b, const struct bus_topic *topic, bus_done_cb *cb, void *arg)
{
    assert(topic->partitions > 0);
    b->ops->topic_create(b, topic, cb, arg);
}

void bus_ping(struct bus *b, int64_t wait_ms, bus_done_cb *cb, void *arg)
{
    b->ops->ping(b, wait_ms, cb, arg);
}

const char *bus_describe(struct bus *b)
{
    return b->ops->describe(b);
}

void bus_free(struct bus *b)
{
    if (b != NULL)
        b->ops->free(b);
}
