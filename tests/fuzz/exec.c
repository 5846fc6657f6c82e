#include "common/net/child.h"
#include "tests/fuzz/fuzz.h"
#include "worker/dispatch.h"
#include "worker/handlers/handler.h"
#include "worker/pool.h"
#include "worker/runs.h"
#include "worker/staging.h"

/*
 * The two kinds of handlers that are programs, with a child whose every byte is the fuzzer's, in pieces of any size, with a buffer that is full at times and
 * ends at any moment. The dispatcher, the pool and the staging are played here: each item is answered once, and has no row after that.
 */

enum { ITEMS = 6 };

struct fake { struct child child; const struct child_events *events; void *arg; struct buf kept; bool waits, dropped; };
struct play {
    struct worker worker;
    struct run run;
    struct record record;
    struct handler_def def;
    struct handler *handler;   /* NULL: it has ended */
    struct fake *fake;
    struct item *items[ITEMS];
    int answered[ITEMS];
};
static struct play *play;

/* --- what the handlers call ----------------------------------------------------------------------------------------------------------------- */

void handler_init(struct handler *h, const struct handler_ops *ops, struct run *run, int64_t window)
{
    h->ops = ops;
    h->run = run;
    h->window = window;
    TAILQ_INIT(&h->items);
}

void dispatch_answer(struct item *item, const struct verdict *v)
{
    struct handler *h = item->handler;
    CHECK(h != NULL && h == play->handler && play->answered[item->index]++ == 0);
    CHECK(v->outcome <= OUT_LARGE && (v->outcome != OUT_TASK || (v->reason != NULL && v->text != NULL)));
    CHECK(v->text == NULL || strnlen(v->text, v->len + 1) == v->len);
    TAILQ_REMOVE(&h->items, item, link);
    itemmap_remove(&play->run.items, item);
    item->handler = NULL;
    h->busy--;
    play->worker.in_flight--;
}

void dispatch_spoil(struct item *item, const struct verdict *v)
{
    CHECK(item->handler == play->handler && !item->spoiled && (v->outcome != OUT_TASK || v->reason != NULL));
    item->spoiled = true;
}

void staging_row(struct item *item, const char *row, size_t len)
{
    CHECK(item->handler == play->handler && play->answered[item->index] == 0 && !item->spoiled && len > 0);
    CHECK(memchr(row, '{', len) != NULL && memchr(row, '\n', len) == NULL);
    item->row_count++;
    play->worker.held += (int64_t)len;
}

void pool_ended(struct handler *h, enum pool_start start, const char *how, const char *last_words)
{
    CHECK(start <= START_FAILED && how != NULL && last_words != NULL && strlen(last_words) <= LIMIT_LAST_WORDS);
    CHECK(h == play->handler && TAILQ_EMPTY(&h->items) && h->busy == 0);
    play->handler = NULL;
    h->ops->close(h, true);
}

void pool_proved(struct handler *h) { h->proved = true; }
void dispatch_kick(struct dispatch *d) { (void)d; }
void dispatch_refill(struct dispatch *d) { (void)d; }
void runs_fatal(struct run *run, const char *fmt, ...) { CHECK(run == &play->run && fmt != NULL); }
struct log_ctx item_ctx(const struct item *i) { return (struct log_ctx){.run = i->run->id, .item1 = LOG_ITEM(i->index)}; }

/* --- the child -------------------------------------------------------------------------------------------------------------------------------- */

static void deliver(struct fake *f)
{
    while (!f->dropped && !f->waits && f->kept.len > 0) {
        size_t taken = f->events->out(f->arg, f->kept.data, f->kept.len);
        CHECK(taken <= f->kept.len);
        if (f->dropped)
            return;
        f->waits = taken < f->kept.len;
        buf_consume(&f->kept, taken);
    }
}

static int fake_write(struct child *c, const char *data, size_t len)
{
    (void)c;
    CHECK(len == 0 || data != NULL);
    return 0;
}
static size_t fake_unsent(const struct child *c) { (void)c; return 0; }
static void fake_close_stdin(struct child *c) { (void)c; }
static void fake_resume(struct child *c) { ((struct fake *)c)->waits = false; }
static void fake_kill(struct child *c, int signo) { (void)c; (void)signo; }
static void fake_drop(struct child *c)
{
    struct fake *f = (struct fake *)c;
    CHECK(!f->dropped);
    f->dropped = true; /* freed by the play, which may be inside it */
}
static const struct child_vtable vtable = {
    .write = fake_write, .unsent = fake_unsent, .close_stdin = fake_close_stdin, .resume = fake_resume, .kill = fake_kill, .drop = fake_drop};

static void bury(void)
{
    if (play->fake != NULL) {
        CHECK(play->fake->dropped);
        buf_free(&play->fake->kept);
        free(play->fake);
    }
    play->fake = NULL;
}

static struct child *fake_start(void *self, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    (void)self;
    (void)err;
    CHECK(spec->argv[0] != NULL);
    bury();
    struct fake *f = xcalloc(1, sizeof(*f));
    *f = (struct fake){.child = {&vtable}, .events = events, .arg = arg, .kept = BUF_INIT(64 << 20)};
    play->fake = f;
    return &f->child;
}

/* --- the play ----------------------------------------------------------------------------------------------------------------------------------- */

static bool alive(void)
{
    return play->fake != NULL && !play->fake->dropped;
}

static void give(int64_t index)
{
    struct handler *h = play->handler;
    if (h == NULL || h->busy >= h->window || play->items[index] != NULL)
        return;
    struct item *i = xcalloc(1, sizeof(*i) + 32);
    i->worker = &play->worker;
    i->run = &play->run;
    i->index = index;
    i->key_len = 3;
    memcpy(i->bytes, "k\"y", 3);
    i->payload_len = 9;
    memcpy(i->bytes + 4, "{\"a\":\n 1}", 9);
    i->handler = h;
    play->items[index] = i;
    itemmap_add(&play->run.items, i);
    TAILQ_INSERT_TAIL(&h->items, i, link);
    h->busy++;
    h->given++;
    play->worker.in_flight++;
    h->ops->start(h, i);
    if (play->handler != NULL && h->ops->flush)
        h->ops->flush(h);
}

static void some_output(struct input *in)
{
    size_t n = size_min((size_t)input_small(in, 2000), input_left(in));
    if (!alive())
        return;
    buf_xadd(&play->fake->kept, in->p, n);
    in->p += n;
    deliver(play->fake);
}

static void step(struct input *in)
{
    unsigned op = input_byte(in);
    if (op < 32) {
        give((int64_t)op % ITEMS);
    } else if (op < 40 && alive()) {
        size_t n = size_min(input_byte(in), input_left(in));
        play->fake->events->err(play->fake->arg, (const char *)in->p, n);
        in->p += n;
    } else if (op < 44) {
        play->worker.held = op == 40 ? 0 : play->worker.o.buffer;
        if (op == 40 && play->handler != NULL && play->handler->blocked) {
            play->handler->ops->resume(play->handler);
            deliver(play->fake);
        }
    } else if (op < 48) {
        loop_step(play->worker.w.loop, 400 * US_PER_S);
    } else if (op == 48 && alive() && !play->fake->waits) {
        play->fake->events->exited(play->fake->arg, (int)input_byte(in) << 8, "exit status 1");
    } else {
        some_output(in);
    }
}

static void check_end(void)
{
    CHECK(play->worker.lines == 0);
    for (int i = 0; i < ITEMS; i++) {
        if (play->items[i] != NULL)
            CHECK((play->answered[i] == 1) == (play->items[i]->handler == NULL));
        free(play->items[i]);
    }
}

FUZZ(exec)
{
    static char *argv[] = {(char *)"program", (char *)"{key}", NULL};
    static const struct child_ops ops = {.start = fake_start};
    struct children children = {&ops, NULL};
    struct metrics metrics = {0};
    struct play p = {.def = {.name = (char *)"h", .argv = argv, .start_timeout_ms = 60000, .window = 4}};
    struct input in = input_of(data, size);
    struct error err = ERROR_INIT;
    play = &p;
    p.record.timeout_ms = 30000;
    snprintf(p.record.run, sizeof(p.record.run), "run");
    p.run = (struct run){.worker = &p.worker, .id = "run", .def = &p.def, .record = &p.record};
    p.worker.o.buffer = 4096;
    p.worker.w = (struct world){.loop = loop_new_virtual(INT64_C(1767225600) * US_PER_S), .children = &children, .metrics = &metrics};
    TAILQ_INIT(&p.worker.closing);
    p.handler = input_byte(&in) & 1 ? handler_command(&p.run, &err) : handler_exec(&p.run, &err);
    give(0);
    while (input_left(&in) > 0)
        step(&in);
    for (int i = 0; i < ITEMS && p.handler != NULL; i++) /* as the pool does before it closes one: its items are with nobody */
        if (p.items[i] != NULL && p.items[i]->handler != NULL)
            TAILQ_REMOVE(&p.handler->items, p.items[i], link);
    if (p.handler != NULL)
        p.handler->ops->close(p.handler, true);
    bury();
    check_end();
    itemmap_free(&p.run.items);
    loop_free(p.worker.w.loop);
}
