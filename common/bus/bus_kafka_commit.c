#include "common/bus/bus_kafka_group.h"

/* Commits of a member: with an explicit list, as storing offsets would lose their metadata. */

struct kafka_commit {
    struct kafka_group *group;
    bus_done_cb *cb;
    void *arg;
    bool answered;
    LIST_ENTRY(kafka_commit) link;
    struct kafka_commit *next; /* among last_waits */
};

static rd_kafka_resp_err_t first_error(rd_kafka_resp_err_t code, const rd_kafka_topic_partition_list_t *list)
{
    if (code == RD_KAFKA_RESP_ERR__NO_OFFSET)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && list != NULL && i < list->cnt; i++)
        code = list->elems[i].err;
    return code;
}

static void commit_end(struct kafka_commit *c, const struct error *err)
{
    struct kafka_group *g = c->group;
    if (c->cb != NULL && !g->handle.kafka->freeing)
        c->cb(c->arg, err);
    LIST_REMOVE(c, link);
    free(c);
}

static void commit_answer(struct kafka_commit *c, rd_kafka_resp_err_t code)
{
    struct error err = ERROR_INIT;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        (void)kafka_error(&err, code, "committing offsets of group %s", c->group->name);
    commit_end(c, code ? &err : NULL);
}

/* While the helper closes the member, answers come there: kafka_commits_end has told the callers already, or nobody is to be told. */
static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_group *g = rd_kafka_opaque(rk);
    if (kafka_on_loop(g->handle.kafka) && !g->closing)
        commit_answer(opaque, first_error(code, list));
}

static struct kafka_commit *commit_new(struct kafka_group *g, bus_done_cb *cb, void *arg)
{
    struct kafka_commit *c = xcalloc(1, sizeof(*c));
    *c = (struct kafka_commit){.group = g, .cb = cb, .arg = arg};
    LIST_INSERT_HEAD(&g->commits, c, link);
    return c;
}

static rd_kafka_topic_partition_list_t *list_of(struct kafka_group *g, const struct bus_commit *commits, size_t count,
                                                rd_kafka_topic_partition_list_t *list)
{
    for (size_t i = 0; i < count; i++) {
        const struct bus_commit *c = &commits[i];
        if (!kafka_group_holds(g, c->partition))
            continue;
        if (list == NULL)
            list = rd_kafka_topic_partition_list_new((int)count);
        rd_kafka_topic_partition_t *t = rd_kafka_topic_partition_list_find(list, g->topic, c->partition);
        if (t == NULL)
            t = rd_kafka_topic_partition_list_add(list, g->topic, c->partition);
        free(t->metadata);
        t->metadata = NULL;
        t->metadata_size = 0;
        t->offset = c->offset;
        if (c->metadata != NULL && c->metadata[0] != '\0') {
            t->metadata_size = strlen(c->metadata);
            t->metadata = xstrdup(c->metadata); /* the list frees it */
        }
    }
    return list;
}

static void send_list(struct kafka_group *g, const rd_kafka_topic_partition_list_t *list, rd_kafka_queue_t *queue,
                      void (*cb)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *), void *opaque)
{
    metric_add(g->handle.kafka->metrics, METRIC_COMMITS, 1);
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(g->handle.rk, list, queue, cb, opaque);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        cb(g->handle.rk, code, NULL, opaque);
}

void kafka_group_commit(struct bus_group *base, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    struct kafka_group *g = kafka_group_of(base);
    struct bus_kafka *k = g->handle.kafka;
    struct error err = ERROR_INIT;
    if (bus_commits_check(commits, count, &err) < 0) {
        kafka_late_done(k, cb, arg, &err);
        return;
    }
    if (g->revoking && !g->revoke_lost) {
        g->last = list_of(g, commits, count, g->last);
        struct kafka_commit *c = commit_new(g, cb, arg);
        c->next = g->last_waits;
        g->last_waits = c;
        return;
    }
    if (g->revoking || g->failed) {
        (void)kafka_error(&err, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, "committing offsets of group %s", g->name);
        kafka_late_done(k, cb, arg, &err);
        return;
    }
    rd_kafka_topic_partition_list_t *list = list_of(g, commits, count, NULL);
    if (list == NULL) {
        kafka_late_done(k, cb, arg, NULL);
        return;
    }
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    metric_add(k->metrics, METRIC_COMMITS, 1);
    struct kafka_commit *c = commit_new(g, cb, arg);
    code = rd_kafka_commit_queue(g->handle.rk, list, g->handle.queue, on_commit, c);
    rd_kafka_topic_partition_list_destroy(list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    (void)kafka_error(&err, code, "committing offsets of group %s", g->name);
    c->cb = NULL;
    commit_end(c, NULL);
    kafka_late_done(k, cb, arg, &err);
}

/* --- the last commits before giving partitions up ------------------------------------------------------------------------------------ */

static void last_end(struct kafka_group *g, rd_kafka_resp_err_t code)
{
    struct kafka_commit *c;
    while ((c = g->last_waits) != NULL) {
        g->last_waits = c->next;
        commit_answer(c, code);
    }
}

static void on_last_commit(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_group *g = opaque;
    (void)rk;
    if (kafka_on_loop(g->handle.kafka) && !g->closing)
        last_end(g, first_error(code, list));
}

static rd_kafka_topic_partition_list_t *take_last(struct kafka_group *g)
{
    rd_kafka_topic_partition_list_t *list = g->last;
    g->last = NULL;
    if (list == NULL)
        last_end(g, RD_KAFKA_RESP_ERR_NO_ERROR);
    return list;
}

void kafka_commit_last(struct kafka_group *g)
{
    rd_kafka_topic_partition_list_t *list = take_last(g);
    if (list == NULL)
        return;
    send_list(g, list, g->handle.queue, on_last_commit, g);
    rd_kafka_topic_partition_list_destroy(list);
}

struct commit_box { bool answered; rd_kafka_resp_err_t code; };

static void on_boxed(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct commit_box *box = opaque;
    (void)rk;
    box->answered = true;
    box->code = first_error(code, list);
}

/* On a queue of its own, so that nothing else is called meanwhile; an answer that is late goes away with the queue. */
void kafka_commit_last_now(struct kafka_group *g)
{
    rd_kafka_topic_partition_list_t *list = take_last(g);
    if (list == NULL)
        return;
    struct commit_box box = {.code = RD_KAFKA_RESP_ERR__TIMED_OUT};
    rd_kafka_queue_t *queue = rd_kafka_queue_new(g->handle.rk);
    send_list(g, list, queue, on_boxed, &box);
    rd_kafka_topic_partition_list_destroy(list);
    if (!box.answered)
        rd_kafka_queue_poll_callback(queue, KAFKA_COMMIT_MS);
    rd_kafka_queue_destroy(queue);
    last_end(g, box.code);
}

void kafka_commits_end(struct kafka_group *g, const struct error *err)
{
    g->last_waits = NULL; /* they are in commits as well */
    struct kafka_commit *c;
    while ((c = LIST_FIRST(&g->commits)) != NULL) {
        if (err == NULL)
            c->cb = NULL;
        commit_end(c, err);
    }
}
