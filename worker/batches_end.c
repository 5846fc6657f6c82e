#include "worker/batches_end.h"

#define ASK_AGAIN_MS 1000

struct batches_end {
    struct worker *w;
    void (*answered)(void *arg, int64_t next); /* NULL: the asker is gone */
    void *arg;
    struct timer *again;
    bool asked;               /* the bus owes an answer */
};

static void end_free(struct batches_end *e)
{
    timer_free(e->again);
    free(e);
}

static void on_marks(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct batches_end *e = arg;
    (void)low;
    e->asked = false;
    if (e->answered == NULL) {
        free(e);
        return;
    }
    if (err != NULL) {
        timer_set(e->again, ASK_AGAIN_MS * US_PER_MS);
        return;
    }
    void (*answered)(void *, int64_t) = e->answered;
    void *whose = e->arg;
    end_free(e);
    answered(whose, high);
}

static void ask(void *arg)
{
    struct batches_end *e = arg;
    char topic[TOPIC_SIZE];
    topic_batches(topic, e->w->prefix);
    e->asked = true;
    bus_watermarks(e->w->w.bus, topic, 0, on_marks, e);
}

struct batches_end *batches_end_ask(struct worker *w, void (*answered)(void *arg, int64_t next), void *arg)
{
    struct batches_end *e = xcalloc(1, sizeof(*e));
    *e = (struct batches_end){.w = w, .answered = answered, .arg = arg};
    e->again = timer_new(w->w.loop, ask, e);
    ask(e);
    return e;
}

void batches_end_forget(struct batches_end *e)
{
    if (e == NULL)
        return;
    if (!e->asked) {
        end_free(e);
        return;
    }
    timer_free(e->again);
    e->again = NULL;
    e->answered = NULL;
}
