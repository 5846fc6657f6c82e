#include "coordinator/runlog.h"

#include "common/base/log.h"

struct runlog {
    const struct record *record;
    struct runlog_events events;
    void *arg;
    struct fold *fold;
    struct bus_follow *follow;
};

static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    struct runlog *r = arg;
    if (r->events.failure)
        r->events.failure(r->arg, f, time_ms);
}

static void stop(struct runlog *r, const struct error *err)
{
    if (r->follow)
        bus_follow_stop(r->follow);
    r->follow = NULL;
    r->events.done(r->arg, err);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct runlog *r = arg;
    size_t len = strlen(r->record->run);
    if (m->value == NULL || m->key_len != len || memcmp(m->key, r->record->run, len) != 0)
        return;
    struct log_msg msg;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    if (logmsg_decode(m->value, m->value_len, &msg, &memory, &err) != 0) {
        if (err.kind == ERR_FATAL) /* what a later version decides by it is not known here */
            stop(r, &err);
        return;
    }
    if (fold_apply(r->fold, &msg, m->offset, m->time_ms, &err) != 0)
        log_warn("run %s, offset %" PRId64 " of its log: %s", r->record->run, m->offset, err.text);
    logmsg_free(memory);
}

static void on_end(void *arg, int64_t next)
{
    (void)next;
    stop(arg, NULL);
}

static void on_failed(void *arg, const struct error *err)
{
    struct runlog *r = arg;
    struct error told = *err;
    bus_follow_stop(r->follow);
    r->follow = NULL;
    if (strcmp(err->reason, "out of range") == 0)
        error_set(&told, ERR_FATAL, 0, "the log of run %s no longer reaches back to its beginning: which items failed is not known any more", r->record->run);
    else
        error_prefix(&told, "the log of run %s", r->record->run);
    r->events.done(r->arg, &told);
}

struct runlog *runlog_start(const struct world *world, const struct record *record, const struct runlog_events *events, void *arg, struct error *err)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct runlog *r = xcalloc(1, sizeof(*r));
    *r = (struct runlog){.record = record, .events = *events, .arg = arg, .fold = fold_new(&record->finish)};
    r->fold->on_failure = on_failure;
    r->fold->on_failure_arg = r;
    char topic[TOPIC_SIZE];
    topic_results(topic, world->prefix);
    r->follow = bus_follow(world->bus, topic, record->log_partition, record->log_offset, &follow, r, err);
    if (r->follow == NULL) {
        runlog_free(r);
        return NULL;
    }
    return r;
}

const struct fold *runlog_fold(const struct runlog *r)
{
    return r->fold;
}

void runlog_free(struct runlog *r)
{
    if (r == NULL)
        return;
    if (r->follow)
        bus_follow_stop(r->follow);
    fold_free(r->fold);
    free(r);
}
