#include "worker/handlers/handler.h"

#include <signal.h>

#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/handlers/exec_proto.h"
#include "worker/handlers/words.h"
#include "worker/pool.h"
#include "worker/runs.h"
#include "worker/staging.h"

/*
 * One child that is kept running and works on items over its pipes. Its one timer is, in turn: the end of its start (its items' clocks begin then, if it has
 * not answered before), the deadline of its oldest item (looked at when it fires, not set anew for each item), the end of its last moments.
 */
#define STRANGE_LINES 20 /* lines without meaning that are logged for each child; the rest is counted */
#define LINE_KEPT (1024 * 1024) /* bytes of a buffer that is kept for the next line */
#define REFILL_LEAST 8   /* answers after which a child gets new items while its further answers are read; at least half of its window */
#define REST_US 300      /* the longest that answers are left to gather */
#define REST_LEAST_US 50

struct exec {
    struct handler h;
    struct worker *w;
    struct child *child;
    struct buf out;          /* lines not yet handed to the pipe */
    int64_t deadline_ms;     /* of the items in them */
    struct buf line;         /* the part of a line that has come */
    bool skipping;           /* the rest of a line that was too long */
    struct words words;
    struct timer *timer;
    bool clock;              /* items' clocks run */
    int64_t oldest_us;       /* since when the first of h.items is the oldest unanswered one, with the clock running */
    int64_t read_us;         /* when it was read last */
    int64_t strange;
    bool closing;
};

static struct exec *exec_of(struct handler *h)
{
    return (struct exec *)h; /* its first member */
}

static struct log_ctx ctx_of(const struct exec *e)
{
    if (e->closing)
        return (struct log_ctx){.worker = e->w->name};
    return (struct log_ctx){.run = e->h.run->id, .worker = e->w->name, .handler = e->h.run->def->name};
}

static void drop_line(struct exec *e)
{
    e->w->lines -= (int64_t)e->line.len;
    if (e->line.cap > LINE_KEPT)
        buf_free(&e->line);
    buf_clear(&e->line);
}

static void exec_free(struct exec *e)
{
    drop_line(e);
    if (e->closing)
        TAILQ_REMOVE(&e->w->closing, &e->h, link);
    child_drop(e->child);
    timer_free(e->timer);
    buf_free(&e->out);
    buf_free(&e->line);
    words_free(&e->words);
    free(e);
}

static void strange(struct exec *e, const char *what, const char *line, size_t len)
{
    struct log_ctx ctx = ctx_of(e);
    if (e->strange++ < STRANGE_LINES)
        log_line(LOG_INFO, &ctx, "%s%.*s", what, (int)size_min(len, 1024), line);
    else if (e->strange == STRANGE_LINES + 1)
        log_line(LOG_INFO, &ctx, "further lines of this child that are no answers are not logged");
}

/* --- clocks -------------------------------------------------------------------------------------------------------------------------------- */

static int64_t timeout_us(const struct exec *e)
{
    return run_timeout_ms(e->h.run) * US_PER_MS;
}

static void arm(struct exec *e)
{
    if (e->clock && !TAILQ_EMPTY(&e->h.items) && !timer_is_set(e->timer))
        timer_set(e->timer, i64_max(e->oldest_us + timeout_us(e) - loop_now_us(e->w->w.loop), 0));
}

static void start_clock(struct exec *e)
{
    if (e->clock)
        return;
    timer_stop(e->timer);
    e->clock = true;
    e->oldest_us = loop_now_us(e->w->w.loop);
    arm(e);
}

static void proved(struct exec *e)
{
    if (!e->h.proved)
        pool_proved(&e->h);
    start_clock(e);
}

static void answer(struct exec *e, struct item *item, const struct verdict *v)
{
    bool oldest = item == TAILQ_FIRST(&e->h.items);
    dispatch_answer(item, v);
    if (oldest)
        e->oldest_us = loop_now_us(e->w->w.loop);
}

/* The oldest item's time is over. With others beside it the child may be stuck in one of those, its answer to this one not yet written: so it is tried again
 * alone, where its guilt is certain, at no cost in attempts. */
static void time_is_up(struct exec *e)
{
    char text[256], ms[64];
    snprintf(text, sizeof(text), "no answer within %s; the handler was killed", units_show_ms(run_timeout_ms(e->h.run), ms, sizeof(ms)));
    struct verdict late = verdict_of(FROM_HANDLER, 0, "timeout", text, strlen(text)), back = {.outcome = OUT_BACK};
    struct item *item = TAILQ_FIRST(&e->h.items);
    if (e->h.busy > 1) {
        struct log_ctx ctx = ctx_of(e);
        ctx.item1 = LOG_ITEM(item->index);
        late.outcome = OUT_SUSPECT;
        log_line(LOG_WARN, &ctx, "%s, with %" PRId64 " items; the oldest is tried again alone", text, e->h.busy);
    }
    child_drop(e->child);
    e->child = NULL;
    dispatch_answer(item, &late);
    while ((item = TAILQ_FIRST(&e->h.items)) != NULL)
        dispatch_answer(item, &back);
    pool_ended(&e->h, START_OK, "timeout", "");
}

static void on_timer(void *arg)
{
    struct exec *e = arg;
    if (e->closing)
        exec_free(e);
    else if (!e->clock)
        start_clock(e);
    else if (TAILQ_EMPTY(&e->h.items))
        return;
    else if (e->h.blocked) /* we do not read what it says */
        timer_set(e->timer, timeout_us(e));
    else if (loop_now_us(e->w->w.loop) - e->oldest_us >= timeout_us(e))
        time_is_up(e);
    else
        arm(e);
}

/* --- answers --------------------------------------------------------------------------------------------------------------------------------- */

static void spoil(struct item *item, enum failure_origin from, const char *reason, const char *text)
{
    struct verdict v = verdict_of(from, 0, reason, text, strlen(text));
    if (item != NULL && !item->spoiled)
        dispatch_spoil(item, &v);
}

/* What is in a line that we cannot read may be a row of any of them: whoever is said to be done without it would lose it. */
static void spoil_all(struct exec *e, const char *text)
{
    struct item *item;
    TAILQ_FOREACH(item, &e->h.items, link)
        spoil(item, FROM_HANDLER, "malformed", text);
}

static struct item *find(struct exec *e, int64_t index)
{
    struct item *item = TAILQ_FIRST(&e->h.items);
    if (item == NULL || item->index != index)
        item = itemmap_find(&e->h.run->items, index);
    return item != NULL && item->handler == &e->h ? item : NULL;
}

static void take_rows(struct item *item, const struct answer *a)
{
    struct span rows = a->rows, row;
    int rc = 0;
    if (a->row.n > 0 && !item->spoiled)
        staging_row(item, a->row.p, a->row.n);
    while (a->rows.n > 0 && !item->spoiled && (rc = answer_next_row(&rows, &row)) == 1)
        staging_row(item, row.p, row.n);
    if (rc < 0)
        spoil(item, FROM_ROW, "row", "\"rows\" holds something that is no object");
}

static void take_error(struct exec *e, struct item *item, struct span error)
{
    static const char *const kinds[] = {[ANSWER_TASK] = "task", [ANSWER_RETRY] = "retry", [ANSWER_FATAL] = "fatal"};
    char *text = NULL;
    enum answer_error kind = answer_error(error, &text);
    struct verdict v = verdict_of(FROM_HANDLER, 0, kinds[kind], text, strlen(text));
    answer(e, item, &v);
    free(text);
}

/* Begins as an object and is none. A print of something else is only logged; what may hold a row spoils the item that it names, or, when it names none or
 * several (two answers that were written into each other), all that it can concern. */
static void take_malformed(struct exec *e, const char *line, size_t len, struct item *named, const struct error *err)
{
    static const char item_word[] = "\"item\"", row_word[] = "\"row";
    const char *first = memmem(line, len, item_word, sizeof(item_word) - 1);
    size_t after = first ? (size_t)(first - line) + sizeof(item_word) - 1 : len;
    bool several = memmem(line + after, len - after, item_word, sizeof(item_word) - 1) != NULL;
    if (named != NULL && !several)
        spoil(named, FROM_HANDLER, "malformed", err->text);
    else if (named != NULL || memmem(line, len, row_word, sizeof(row_word) - 1) != NULL)
        spoil_all(e, err->text);
    strange(e, "", line, len);
}

/* An error of no item: this handler can work on none. */
static void take_start_error(struct exec *e, const struct answer *a)
{
    AUTO(free_ptr) char *text = NULL;
    if (a->error.n > 0 && answer_error(a->error, &text) == ANSWER_FATAL)
        runs_fatal(e->h.run, "handler %.100s: %.400s", e->h.run->record->handler, text);
}

static void take_line(struct exec *e, const char *line, size_t len)
{
    struct answer a;
    struct error err = ERROR_INIT;
    int rc = answer_parse(line, len, &a, &err);
    struct item *item = a.has_item ? find(e, a.item) : NULL;
    if (rc < 0) {
        take_malformed(e, line, len, item, &err);
        return;
    }
    if (rc > 0) {
        if (len > 0)
            strange(e, "", line, len);
        return;
    }
    if (a.ready)
        proved(e);
    if (!a.has_item) {
        take_start_error(e, &a);
        return;
    }
    if (item == NULL) {
        strange(e, "an answer for an item that this child does not have: ", line, len);
        return;
    }
    proved(e);
    take_rows(item, &a);
    if (a.error.n > 0) {
        take_error(e, item, a.error);
    } else if (a.done) {
        struct verdict v = {.outcome = OUT_DONE};
        answer(e, item, &v);
    }
}

/* The rest of the line is dropped. Its beginning mostly says whose it is. */
static void skip_line(struct exec *e, const struct verdict *v)
{
    struct answer a;
    struct error err = ERROR_INIT;
    (void)answer_parse(e->line.data ? e->line.data : "", e->line.len, &a, &err);
    struct item *named = a.has_item ? find(e, a.item) : NULL, *item;
    TAILQ_FOREACH(item, &e->h.items, link)
        if ((named == NULL || item == named) && !item->spoiled)
            dispatch_spoil(item, v);
    if (TAILQ_EMPTY(&e->h.items))
        strange(e, "dropped: ", v->text, v->len);
    e->skipping = true;
    drop_line(e);
}

static void too_long(struct exec *e)
{
    char text[256], size[64];
    snprintf(text, sizeof(text), "a line of more than %s from the handler; several lines with a row each have no such limit",
             units_show_bytes(LIMIT_LINE, size, sizeof(size)));
    struct verdict v = verdict_of(FROM_HANDLER, 0, "size", text, strlen(text));
    skip_line(e, &v);
}

/* Long lines of several children at once have one buffer between them. Who finds it full comes again when nothing else runs. */
static void no_room(struct exec *e)
{
    static const char text[] = "a long line, while others come";
    struct verdict v = {.outcome = OUT_SOLO, .text = text, .len = sizeof(text) - 1};
    skip_line(e, &v);
}


/* Part of a line, or its end. */
static void gather(struct exec *e, const char *data, size_t len, bool whole)
{
    if (!e->skipping && e->line.len + len > LIMIT_LINE)
        too_long(e);
    if (!e->skipping && !whole && !handler_line_fits(e->w, e->line.len, len))
        no_room(e);
    if (e->skipping) {
        e->skipping = !whole;
    } else if (whole && e->line.len == 0) {
        take_line(e, data, len);
    } else {
        buf_xadd(&e->line, data, len);
        e->w->lines += (int64_t)len;
        if (whole) {
            take_line(e, e->line.data, e->line.len);
            drop_line(e);
        }
    }
}

/* Answers that come one by one, each of which wakes us at the child's cost, are left to gather while it has more than half of its window to work on: for as
 * long as that half takes it. Slow work is not waited for: a child with many slow items at once would do without its next one for that long. */
static void rest(struct exec *e, int64_t answered)
{
    int64_t now = loop_now_us(e->w->w.loop), since_us = now - e->read_us, ahead = e->h.busy - e->h.window / 2;
    e->read_us = now;
    if (answered == 0 || answered * 8 > e->h.window || since_us / answered > REST_US / 4)
        return;
    int64_t us = i64_min(REST_US, since_us * ahead / answered);
    if (us >= REST_LEAST_US)
        child_rest(e->child, us);
}

static size_t on_out(void *arg, const char *data, size_t len)
{
    struct exec *e = arg;
    int64_t busy = e->h.busy, answered = 0;
    for (size_t at = 0; at < len && !e->closing;) {
        if (handler_must_wait(&e->h, e->w)) {
            e->h.blocked = true;
            dispatch_kick(e->w->dispatch);
            return at;
        }
        const char *end = memchr(data + at, '\n', len - at);
        size_t n = end ? (size_t)(end - data) - at : len - at;
        gather(e, data + at, n, end != NULL);
        at += n + (end ? 1 : 0);
        if (busy - e->h.busy >= i64_max(e->h.window / 2, REFILL_LEAST)) { /* it works on these while we read on */
            answered += busy - e->h.busy;
            dispatch_refill(e->w->dispatch);
            busy = e->h.busy;
        }
    }
    if (!e->closing)
        rest(e, answered + busy - e->h.busy);
    return len;
}

static void on_err(void *arg, const char *data, size_t len)
{
    struct exec *e = arg;
    struct log_ctx ctx = ctx_of(e);
    words_add(&e->words, &ctx, data, len);
}

/* --- its end -------------------------------------------------------------------------------------------------------------------------------- */

static void on_exited(void *arg, int status, const char *text)
{
    (void)status;
    struct exec *e = arg;
    struct log_ctx ctx = ctx_of(e);
    words_end(&e->words, &ctx);
    if (e->closing) {
        exec_free(e);
        return;
    }
    if (e->line.len > 0)
        gather(e, "", 0, true); /* a last line without its break */
    char *death = words_death(&e->words, text);
    bool guilty = e->h.proved || e->h.cleared; /* of an item, not of its start */
    enum outcome outcome = !guilty ? OUT_BACK : e->h.busy > 1 ? OUT_SUSPECT : e->h.given > 1 ? OUT_FRESH : OUT_TASK;
    struct verdict v = verdict_of(FROM_HANDLER, 0, "crash", death, strlen(death));
    if (outcome != OUT_TASK)
        v.outcome = outcome;
    log_line(e->h.busy > 0 ? LOG_WARN : LOG_INFO, &ctx, "the handler ended with %" PRId64 " items: %.400s", e->h.busy, text);
    struct item *item;
    while ((item = TAILQ_FIRST(&e->h.items)) != NULL)
        dispatch_answer(item, &v);
    char *last = xstrdup(words_tail(&e->words)), *how = xstrdup(text);
    free(death);
    pool_ended(&e->h, guilty ? START_OK : START_UNSURE, how, last);
    free(last);
    free(how);
}

static void exec_close(struct handler *h, bool now)
{
    struct exec *e = exec_of(h);
    if (now || e->child == NULL) {
        exec_free(e);
        return;
    }
    e->closing = true;
    e->h.run = NULL;
    TAILQ_INSERT_TAIL(&e->w->closing, &e->h, link);
    child_close_stdin(e->child);
    if (e->h.blocked)
        child_resume(e->child);
    timer_set(e->timer, WAIT_HANDLER_EXIT * US_PER_MS);
}

/* --- its work -------------------------------------------------------------------------------------------------------------------------------- */

static void exec_start(struct handler *h, struct item *item)
{
    struct exec *e = exec_of(h);
    if (item == TAILQ_FIRST(&h->items))
        e->oldest_us = loop_now_us(e->w->w.loop);
    if (e->out.len == 0)
        e->deadline_ms = loop_wall_ms(e->w->w.loop) + run_timeout_ms(h->run);
    proto_item(&e->out, item, e->deadline_ms);
    arm(e);
}

static void exec_flush(struct handler *h)
{
    struct exec *e = exec_of(h);
    if (e->out.len > 0)
        (void)child_write(e->child, e->out.data, e->out.len); /* a closed stdin: its exit, or the time-out, says so */
    if (e->out.cap > 1024 * 1024)
        buf_free(&e->out);
    buf_clear(&e->out);
}

static void exec_resume(struct handler *h)
{
    struct exec *e = exec_of(h);
    h->blocked = false;
    e->oldest_us = loop_now_us(e->w->w.loop);
    child_resume(e->child);
}

struct handler *handler_exec(struct run *run, struct error *err)
{
    static const struct handler_ops ops = {.start = exec_start, .flush = exec_flush, .resume = exec_resume, .close = exec_close};
    static const struct child_events events = {.out = on_out, .err = on_err, .exited = on_exited};
    struct worker *w = run->worker;
    struct exec *e = xcalloc(1, sizeof(*e));
    handler_init(&e->h, &ops, run, run->def->window);
    e->w = w;
    e->line = BUF_INIT(LIMIT_LINE);
    e->out = BUF_INIT((size_t)LIMIT_CHILD_STDIN);
    words_init(&e->words);
    e->timer = timer_new(w->w.loop, on_timer, e);
    size_t n = 0;
    while (run->def->env != NULL && run->def->env[n] != NULL)
        n++;
    AUTO(free_ptr) const char **env = xcalloc(n + 2, sizeof(*env));
    env[0] = "PYTHONUNBUFFERED=1";
    for (size_t i = 0; i < n; i++)
        env[i + 1] = run->def->env[i];
    struct child_spec spec = {.argv = (const char *const *)run->def->argv, .env = env, .dir = run->def->dir};
    e->child = child_start(w->w.children, &spec, &events, e, err);
    if (e->child == NULL) {
        exec_free(e);
        return NULL;
    }
    proto_hello(&e->out, run->record);
    exec_flush(&e->h);
    timer_set(e->timer, run->def->start_timeout_ms * US_PER_MS);
    return &e->h;
}
