#include "worker/handlers/handler.h"

#include <sys/wait.h>

#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/handlers/exec_proto.h"
#include "worker/handlers/words.h"
#include "worker/pool.h"
#include "worker/staging.h"

/* One process for each item: the key in its arguments, the payload on stdin, a row a line on stdout, the verdict in its exit status. */

struct command {
    struct handler h;
    struct worker *w;
    struct child *child;     /* NULL between items */
    struct buf line;
    bool skipping;
    struct words words;
    struct timer *timer;     /* the item's deadline */
    int64_t strange;
};
#define STRANGE_LINES 20 /* that are logged for each item */
#define LINE_KEPT (1024 * 1024) /* bytes of a buffer that is kept for the next line */

static struct log_ctx ctx_of(const struct command *c)
{
    return (struct log_ctx){.run = c->h.run->id, .worker = c->w->name, .handler = c->h.run->def->name};
}

static struct item *item_of(const struct command *c)
{
    return TAILQ_FIRST(&c->h.items);
}

static void drop_line(struct command *c)
{
    c->w->lines -= (int64_t)c->line.len;
    if (c->line.cap > LINE_KEPT)
        buf_free(&c->line);
    buf_clear(&c->line);
}

static void end_child(struct command *c)
{
    child_drop(c->child);
    c->child = NULL;
    timer_stop(c->timer);
    drop_line(c);
    c->skipping = false;
    c->h.blocked = c->h.stalled = false;
    c->strange = 0;
    words_free(&c->words);
    words_init(&c->words);
}

static void command_close(struct handler *h, bool now)
{
    (void)now; /* without an item it has no child */
    struct command *c = (struct command *)h;
    end_child(c);
    timer_free(c->timer);
    buf_free(&c->line);
    words_free(&c->words);
    free(c);
}

/* --- its output ------------------------------------------------------------------------------------------------------------------------------ */

static void spoil(struct command *c, enum failure_origin from, const char *reason, const char *text)
{
    struct verdict v = verdict_of(from, 0, reason, text, strlen(text));
    if (!item_of(c)->spoiled)
        dispatch_spoil(item_of(c), &v);
}

static void take_line(struct command *c, const char *line, size_t len)
{
    size_t at = 0;
    while (at < len && (line[at] == ' ' || line[at] == '\t' || line[at] == '\r'))
        at++;
    if (at == len)
        return;
    if (line[at] == '{') {
        if (!item_of(c)->spoiled)
            staging_row(item_of(c), line, len);
        return;
    }
    struct log_ctx ctx = ctx_of(c);
    if (c->strange++ < STRANGE_LINES)
        log_line(LOG_INFO, &ctx, "%.*s", (int)size_min(len, 1024), line);
}

static void gather(struct command *c, const char *data, size_t len, bool whole)
{
    if (!c->skipping && c->line.len + len > LIMIT_LINE) {
        char text[128], size[64];
        snprintf(text, sizeof(text), "a row of more than %s", units_show_bytes(LIMIT_LINE, size, sizeof(size)));
        spoil(c, FROM_HANDLER, "size", text);
        c->skipping = true;
        drop_line(c);
    }
    if (!c->skipping && !whole && !handler_line_fits(c->w, c->line.len, len)) {
        struct verdict v = {.outcome = OUT_SOLO}; /* again when no other long lines come */
        if (!item_of(c)->spoiled)
            dispatch_spoil(item_of(c), &v);
        c->skipping = true;
        drop_line(c);
    }
    if (c->skipping) {
        c->skipping = !whole;
    } else if (whole && c->line.len == 0) {
        take_line(c, data, len);
    } else {
        buf_xadd(&c->line, data, len);
        c->w->lines += (int64_t)len;
        if (whole) {
            take_line(c, c->line.data, c->line.len);
            drop_line(c);
        }
    }
}

static size_t on_out(void *arg, const char *data, size_t len)
{
    struct command *c = arg;
    for (size_t at = 0; at < len;) {
        if (handler_must_wait(&c->h, c->w)) {
            c->h.blocked = true;
            dispatch_kick(c->w->dispatch);
            return at;
        }
        const char *end = memchr(data + at, '\n', len - at);
        size_t n = end ? (size_t)(end - data) - at : len - at;
        gather(c, data + at, n, end != NULL);
        at += n + (end ? 1 : 0);
    }
    return len;
}

static void on_err(void *arg, const char *data, size_t len)
{
    struct command *c = arg;
    struct log_ctx ctx = item_ctx(item_of(c));
    words_add(&c->words, &ctx, data, len);
}

/* --- its end --------------------------------------------------------------------------------------------------------------------------------- */

static void on_exited(void *arg, int status, const char *text)
{
    struct command *c = arg;
    struct item *item = item_of(c);
    struct log_ctx ctx = item_ctx(item);
    words_end(&c->words, &ctx);
    if (c->line.len > 0)
        gather(c, "", 0, true);
    char *death = words_death(&c->words, text);
    bool exited = WIFEXITED(status);
    struct verdict v = verdict_of(FROM_HANDLER, exited ? WEXITSTATUS(status) : 0, exited ? "exit" : "crash", death, strlen(death));
    if (exited && WEXITSTATUS(status) == 0)
        v.outcome = OUT_DONE;
    end_child(c);
    dispatch_answer(item, &v);
    free(death);
}

static void on_timer(void *arg)
{
    struct command *c = arg;
    if (c->h.blocked) { /* we do not read what it says */
        timer_set(c->timer, run_timeout_ms(c->h.run) * US_PER_MS);
        return;
    }
    char text[128], ms[64];
    snprintf(text, sizeof(text), "not done within %s; the handler was killed", units_show_ms(run_timeout_ms(c->h.run), ms, sizeof(ms)));
    struct verdict v = verdict_of(FROM_HANDLER, 0, "timeout", text, strlen(text));
    end_child(c);
    dispatch_answer(item_of(c), &v);
}

/* --- its start ------------------------------------------------------------------------------------------------------------------------------- */

/* Every '{key}' in an argument becomes the item's key: one argument stays one argument, whatever the key holds; no shell sees it. */
static char *fill(const char *arg, const char *key)
{
    struct buf out = BUF_INIT(16 * 1024 * 1024);
    const char *at;
    for (; (at = strstr(arg, "{key}")) != NULL; arg = at + strlen("{key}")) {
        buf_xadd(&out, arg, (size_t)(at - arg));
        buf_xputs(&out, key);
    }
    buf_xputs(&out, arg);
    return buf_steal(&out);
}

static struct child *spawn(struct command *c, const struct item *item, struct error *err)
{
    static const struct child_events events = {.out = on_out, .err = on_err, .exited = on_exited};
    const struct handler_def *def = c->h.run->def;
    size_t argc = 0, envc = 0;
    while (def->argv[argc] != NULL)
        argc++;
    while (def->env != NULL && def->env[envc] != NULL)
        envc++;
    char **argv = xcalloc(argc + 1, sizeof(*argv));
    for (size_t i = 0; i < argc; i++)
        argv[i] = fill(def->argv[i], item_key(item));
    AUTO(free_ptr) const char **env = xcalloc(envc + 2, sizeof(*env));
    env[0] = "PYTHONUNBUFFERED=1";
    for (size_t i = 0; i < envc; i++)
        env[i + 1] = def->env[i];
    struct child_spec spec = {.argv = (const char *const *)argv, .env = env, .dir = def->dir};
    struct child *child = child_start(c->w->w.children, &spec, &events, c, err);
    strv_free(argv);
    return child;
}

static void command_start(struct handler *h, struct item *item)
{
    struct command *c = (struct command *)h;
    struct error err = ERROR_INIT;
    c->child = spawn(c, item, &err);
    if (c->child == NULL) {
        struct verdict back = {.outcome = OUT_BACK};
        dispatch_answer(item, &back);
        pool_ended(h, START_FAILED, err.text, "");
        return;
    }
    metric_add(c->w->w.metrics, METRIC_CHILDREN_STARTED, 1);
    pool_proved(h);
    if (item->payload_len > 0)
        (void)child_write(c->child, item_payload(item), item->payload_len); /* a program need not read it */
    child_close_stdin(c->child);
    timer_set(c->timer, run_timeout_ms(h->run) * US_PER_MS);
}

static void command_resume(struct handler *h)
{
    struct command *c = (struct command *)h;
    h->blocked = false;
    child_resume(c->child);
}

struct handler *handler_command(struct run *run, struct error *err)
{
    static const struct handler_ops ops = {.start = command_start, .resume = command_resume, .close = command_close};
    (void)err;
    struct worker *w = run->worker;
    struct command *c = xcalloc(1, sizeof(*c));
    handler_init(&c->h, &ops, run, 1);
    c->w = w;
    c->line = BUF_INIT(LIMIT_LINE);
    words_init(&c->words);
    c->timer = timer_new(w->w.loop, on_timer, c);
    return &c->h;
}
