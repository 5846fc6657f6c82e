#include "common/bus/bus_kafka.h"

#include "common/base/failures.h"
#include "common/base/log.h"

/*
 * Whether the brokers answer. librdkafka reports every connection that closes, idle ones too, so its reports are only a reason to ask: one
 * line when nobody answers, one when somebody does again. A ping is the same question with the caller's own bound.
 */

#define LINK_ASK_MS 2000        /* wait for an answer when in doubt */
#define LINK_AGAIN_US US_PER_S  /* between two questions while nobody answers */

struct ping_job {
    struct kafka_job job;
    struct bus_kafka *kafka;
    rd_kafka_t *rk;
    int wait_ms;
    rd_kafka_resp_err_t code;
    bus_done_cb *cb;            /* NULL: the link's own, or answered */
    void *arg;
    bool own;
    struct timer *timer;
};

static void run_ping(struct kafka_job *base)
{
    struct ping_job *job = (struct ping_job *)base;
    const struct rd_kafka_metadata *metadata = NULL;
    job->code = rd_kafka_metadata(job->rk, 0, NULL, &metadata, job->wait_ms);
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
}

static void silence(struct bus_kafka *k, int64_t wait_ms, struct error *err)
{
    const char *text = k->link.text[0] ? k->link.text : "no connection";
    failure_set(err, FROM_KAFKA, 0, rd_kafka_err2name(k->link.code), "Kafka at %s did not answer within %" PRId64 " ms: %s", k->brokers, wait_ms, text);
    error_reason(err, "no answer");
    err->code = (int)k->link.code;
}

static void ping_drop(struct kafka_job *base)
{
    timer_free(((struct ping_job *)base)->timer);
    free(base);
}

static void ask(struct bus_kafka *k);

static void link_heard(struct bus_kafka *k, bool answered)
{
    struct kafka_link *l = &k->link;
    l->asking = false;
    if (answered && l->away)
        log_info("Kafka at %s answers again", k->brokers);
    if (!answered && !l->away)
        log_warn("Kafka at %s does not answer, waiting for it: %s", k->brokers, l->text);
    l->away = !answered;
    if (l->away)
        timer_set(l->timer, LINK_AGAIN_US);
    else
        l->text[0] = '\0';
}

static void ping_done(struct kafka_job *base)
{
    struct ping_job *job = (struct ping_job *)base;
    bool answered = job->code == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (job->own)
        link_heard(job->kafka, answered);
    if (job->cb != NULL) {
        struct error err = ERROR_INIT;
        if (!answered)
            silence(job->kafka, job->wait_ms, &err);
        job->cb(job->arg, answered ? NULL : &err);
    }
    ping_drop(base);
}

/* The helper may be busy with something else: the bound holds all the same. */
static void on_bound(void *arg)
{
    struct ping_job *job = arg;
    bus_done_cb *cb = job->cb;
    struct error err = ERROR_INIT;
    silence(job->kafka, job->wait_ms, &err);
    job->cb = NULL;
    if (cb != NULL)
        cb(job->arg, &err);
}

static struct ping_job *ping_new(struct bus_kafka *k, int64_t wait_ms, struct error *err)
{
    rd_kafka_t *rk = kafka_reader_client(k, err);
    if (rk == NULL)
        return NULL;
    struct ping_job *job = xcalloc(1, sizeof(*job));
    *job = (struct ping_job){.job = {.run = run_ping, .done = ping_done, .drop = ping_drop}, .kafka = k, .rk = rk, .wait_ms = (int)wait_ms};
    return job;
}

static void ask(struct bus_kafka *k)
{
    struct ping_job *job = ping_new(k, LINK_ASK_MS, NULL);
    if (job == NULL)
        return;
    job->own = true;
    k->link.asking = true;
    kafka_helper_give(k, &job->job, false);
}

void kafka_ping(struct bus *b, int64_t wait_ms, bus_done_cb *cb, void *arg)
{
    struct bus_kafka *k = bus_kafka_of(b);
    struct error err = ERROR_INIT;
    struct ping_job *job = ping_new(k, wait_ms, &err);
    if (job == NULL) {
        kafka_late_done(k, cb, arg, &err);
        return;
    }
    job->cb = cb;
    job->arg = arg;
    job->timer = timer_new(k->loop, on_bound, job);
    timer_set(job->timer, wait_ms * US_PER_MS);
    kafka_helper_give(k, &job->job, false);
}

void kafka_link_doubt(struct bus_kafka *k, rd_kafka_resp_err_t code, const char *text)
{
    struct kafka_link *l = &k->link;
    bool all_down = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    if (!all_down) { /* that one says nothing about why */
        l->code = code;
        snprintf(l->text, sizeof(l->text), "%s", text);
    }
    log_debug("kafka: %s", text);
    bool final = failure_find(FROM_KAFKA, 0, rd_kafka_err2name(code), text)->kind == ERR_FATAL;
    if ((all_down || final) && !l->away && !l->asking)
        ask(k);
}

static void on_again(void *arg)
{
    ask(arg);
}

void kafka_link_init(struct bus_kafka *k)
{
    k->link.timer = timer_new(k->loop, on_again, k);
}

void kafka_link_fini(struct bus_kafka *k)
{
    timer_free(k->link.timer);
}
