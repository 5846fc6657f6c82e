#include "worker/fatal.h"

#include "worker/post.h"

#define ASK_AGAIN_MS 1000 /* when the bus did not say where `batches` ends */

/* A question to the bus, which cannot be taken back: it outlives its asker. */
struct question { struct fatal *asker; };

struct fatal {
    struct run *run;
    int64_t at, target;       /* where the catalog is; where it must be, -1: not known yet */
    struct question *question;
    struct timer *again;
    struct post *post;
    bool told;
};

static void sent(void *arg, const struct error *err)
{
    struct fatal *f = arg;
    struct worker *w = f->run->worker;
    f->post = NULL;
    f->told = true;
    if (err != NULL)
        worker_fail(w, err);
    worker_moved(w);
}

static void tell(struct fatal *f)
{
    struct run *run = f->run;
    struct worker *w = run->worker;
    struct log_ctx ctx = {.run = run->id, .worker = w->name};
    log_line(LOG_ERROR, &ctx, "the run cannot go on: %s", run->fatal_text);
    struct log_msg msg = {.type = LOGM_FATAL, .text = run->fatal_text, .by = w->name};
    struct buf bytes = BUF_INIT(LIMIT_MANIFEST);
    int rc = logmsg_encode(&msg, &bytes);
    assert(rc == 0);
    (void)rc;
    struct bus_out out = {.topic = w->results, .partition = run->record->log_partition, .key = run->id, .key_len = strlen(run->id),
                          .value = bytes.data, .value_len = bytes.len};
    f->post = post_send(w->posts, &out, false, sent, f);
    buf_free(&bytes);
}

static void check(struct fatal *f)
{
    if (f->target >= 0 && f->at >= f->target && f->post == NULL && !f->told)
        tell(f);
}

static void answered(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct question *q = arg;
    struct fatal *f = q->asker;
    (void)low;
    free(q);
    if (f == NULL)
        return;
    f->question = NULL;
    if (err != NULL) {
        timer_set(f->again, ASK_AGAIN_MS * US_PER_MS);
        return;
    }
    f->target = high;
    check(f);
}

static void ask(void *arg)
{
    struct fatal *f = arg;
    char topic[TOPIC_SIZE];
    f->question = xcalloc(1, sizeof(*f->question));
    f->question->asker = f;
    topic_batches(topic, f->run->worker->prefix);
    bus_watermarks(f->run->worker->w.bus, topic, 0, answered, f->question);
}

struct fatal *fatal_new(struct run *run, int64_t catalog_at)
{
    struct fatal *f = xcalloc(1, sizeof(*f));
    f->run = run;
    f->at = catalog_at;
    f->target = -1;
    f->again = timer_new(run->worker->w.loop, ask, f);
    ask(f);
    return f;
}

void fatal_free(struct fatal *f)
{
    if (f == NULL)
        return;
    if (f->question != NULL)
        f->question->asker = NULL;
    post_forget(f->post);
    timer_free(f->again);
    free(f);
}

void fatal_catalog_at(struct fatal *f, int64_t next)
{
    f->at = next;
    check(f);
}

bool fatal_told(const struct fatal *f)
{
    return f->told;
}
