#include "worker/fatal.h"

#include "worker/batches_end.h"
#include "worker/post.h"

struct fatal {
    struct run *run;
    int64_t at, target;       /* where the catalog is; where it must be, -1: not known yet */
    struct batches_end *end;
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

static void answered(void *arg, int64_t next)
{
    struct fatal *f = arg;
    f->end = NULL;
    f->target = next;
    check(f);
}

struct fatal *fatal_new(struct run *run, int64_t catalog_at)
{
    struct fatal *f = xcalloc(1, sizeof(*f));
    f->run = run;
    f->at = catalog_at;
    f->target = -1;
    f->end = batches_end_ask(run->worker, answered, f);
    return f;
}

void fatal_free(struct fatal *f)
{
    if (f == NULL)
        return;
    batches_end_forget(f->end);
    post_forget(f->post);
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
