#include "common/fleet/names.h"
#include "coordinator/submit_internal.h"

/* Questions to the bus: how many partitions there are, where they end. */
enum question_kind { ASK_WORK, ASK_RESULTS, ASK_DEAD, ASK_BATCHES, ASK_WORK_MARK, ASK_LOG_MARK, ASK_DEAD_MARK, ASK_END_MARK };
struct submit_question {
    struct submit *s;
    enum question_kind kind;
    int32_t partition;
    struct ticket *ticket;
    struct submit_question *next;
};

static struct submit_question *ask(struct submit *s, enum question_kind kind, int32_t partition)
{
    struct submit_question *q = xcalloc(1, sizeof(*q));
    *q = (struct submit_question){.s = s, .kind = kind, .partition = partition, .next = s->questions};
    q->ticket = ticket_new(s->o.outbox, q);
    s->questions = q;
    s->open++;
    return q;
}

static void forget(struct submit_question *q)
{
    struct submit_question **at = &q->s->questions;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    q->s->open--;
    free(q);
}

void submit_questions_free(struct submit *s)
{
    while (s->questions) {
        ticket_forget(s->questions->ticket);
        forget(s->questions);
    }
}

static void on_mark(void *arg, int64_t low, int64_t high, const struct error *err)
{
    (void)low;
    struct submit_question *q = ticket_take(arg);
    if (q == NULL)
        return;
    struct submit *s = q->s;
    struct record *r = s->o.record;
    if (err == NULL) {
        if (q->kind == ASK_WORK_MARK)
            r->work_starts[q->partition] = high;
        else if (q->kind == ASK_LOG_MARK)
            r->log_offset = high;
        else if (q->kind == ASK_DEAD_MARK)
            r->dead_offset = high;
        else
            s->ends[q->partition] = (struct seal_end){.partition = q->partition, .offset = high};
    }
    enum question_kind kind = q->kind;
    int32_t partition = q->partition;
    forget(q);
    if (err != NULL && kind == ASK_END_MARK && err->kind == ERR_RETRY) { /* the items are out: no reason to give up */
        bus_watermarks(s->o.world->bus, s->work, partition, on_mark, ask(s, ASK_END_MARK, partition)->ticket);
        return;
    }
    if (err != NULL) {
        submit_fail(s, EXIT_UNFINISHED, err);
        return;
    }
    if (s->open == 0)
        submit_go(s, kind == ASK_END_MARK ? SUBMIT_SEAL : SUBMIT_CATALOG);
}

static void ask_marks(struct submit *s)
{
    struct record *r = s->o.record;
    struct bus *bus = s->o.world->bus;
    for (int32_t p = 0; p < r->work_partitions; p++)
        bus_watermarks(bus, s->work, p, on_mark, ask(s, ASK_WORK_MARK, p)->ticket);
    bus_watermarks(bus, s->results, r->log_partition, on_mark, ask(s, ASK_LOG_MARK, 0)->ticket);
    bus_watermarks(bus, s->dead, r->dead_partition, on_mark, ask(s, ASK_DEAD_MARK, 0)->ticket);
}

static void on_topic(void *arg, const struct bus_topic *topic, const struct error *err)
{
    struct submit_question *q = ticket_take(arg);
    if (q == NULL)
        return;
    struct submit *s = q->s;
    struct record *r = s->o.record;
    enum question_kind kind = q->kind;
    forget(q);
    if (s->step == SUBMIT_FAILED)
        return;
    struct error missing = ERROR_INIT;
    if (err == NULL && topic->partitions <= 0) {
        const char *name = kind == ASK_WORK ? s->work : kind == ASK_RESULTS ? s->results : kind == ASK_DEAD ? s->dead : s->batches;
        error_set(&missing, ERR_FATAL, 0, "topic %s does not exist on %s: create it with `bqfleet topics create%s%s`, or look at --prefix", name,
                  bus_describe(s->o.world->bus), kind == ASK_WORK ? " --queue " : "", kind == ASK_WORK ? r->queue : "");
        err = &missing;
    }
    if (err != NULL) {
        submit_fail(s, EXIT_UNFINISHED, err);
        return;
    }
    if (kind == ASK_WORK) {
        r->work_partitions = topic->partitions;
        free(r->work_starts);
        r->work_starts = xcalloc((size_t)topic->partitions, sizeof(*r->work_starts));
    } else if (kind == ASK_RESULTS) {
        r->log_partition = run_partition(r->run, topic->partitions);
    } else if (kind == ASK_DEAD) {
        r->dead_partition = run_partition(r->run, topic->partitions);
    }
    if (s->open == 0)
        ask_marks(s);
}

void submit_ask_places(struct submit *s)
{
    struct bus *bus = s->o.world->bus;
    bus_topic_describe(bus, s->work, on_topic, ask(s, ASK_WORK, 0)->ticket);
    bus_topic_describe(bus, s->results, on_topic, ask(s, ASK_RESULTS, 0)->ticket);
    bus_topic_describe(bus, s->dead, on_topic, ask(s, ASK_DEAD, 0)->ticket);
    bus_topic_describe(bus, s->batches, on_topic, ask(s, ASK_BATCHES, 0)->ticket);
}

void submit_ask_ends(struct submit *s)
{
    int32_t partitions = s->o.record->work_partitions;
    s->ends = xcalloc((size_t)partitions, sizeof(*s->ends));
    for (int32_t p = 0; p < partitions; p++)
        bus_watermarks(s->o.world->bus, s->work, p, on_mark, ask(s, ASK_END_MARK, p)->ticket);
}
