#include "tests/sim/check.h"

#include "tests/sim/toil.h"
#include "tests/sim/ways.h"

/*
 * Children that speak the exec protocol and behave as the seed says: done, empty, slow, hanging, crashing, failing, with rows of every kind. How an item behaves
 * is a function of the seed, its batch and its number; what it finds to say is told to the checker before the worker can know.
 */
enum behaviour {
    BEHAVE_OK, BEHAVE_EMPTY, BEHAVE_BIG, BEHAVE_SLOW,
    BEHAVE_RETRY, BEHAVE_CRASH_ONCE, BEHAVE_HANG_ONCE, BEHAVE_NOISE,              /* it gets well */
    BEHAVE_BAD_ROW, BEHAVE_NO_KEY, BEHAVE_BROKEN, BEHAVE_TASK, BEHAVE_CRASH, BEHAVE_REJECT, BEHAVE_HANG, BEHAVE_TOO_LONG, /* it does not */
    BEHAVE_COUNT
};

struct work_item { int64_t item, number, attempt, due_us; };

struct hand {
    struct child child;      /* first */
    struct proc *proc;
    struct child_events events;
    void *arg;
    struct timer *timer;
    struct buf in, out;
    size_t heard;            /* bytes of out that the worker has taken */
    bool stopped, exits, closed;
    int status;
    const char *how;
    struct ledger *run;
    struct work_item works[64]; size_t work_count;
    bool *gone;              /* set when it is dropped inside one of its callbacks */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t lot(const struct sim *s, const struct batch_plan *b, int64_t number, uint64_t what)
{
    uint64_t x = mix(s->plan.seed * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)(b - s->plan.batches));
    return mix(mix(x + (uint64_t)number) + what);
}

static double part(uint64_t lot)
{
    return (double)(lot >> 11) / 9007199254740992.0;
}

static enum behaviour behaviour_of(const struct sim *s, const struct batch_plan *b, int64_t number)
{
    static const enum behaviour common[] = {BEHAVE_EMPTY, BEHAVE_SLOW, BEHAVE_RETRY, BEHAVE_CRASH_ONCE, BEHAVE_NOISE, BEHAVE_BAD_ROW, BEHAVE_TASK, BEHAVE_NO_KEY,
                                            BEHAVE_BROKEN, BEHAVE_HANG_ONCE, BEHAVE_REJECT, BEHAVE_CRASH, BEHAVE_HANG};
    /* One that fails in passing while it runs alone, and then kills its worker, is suspected no longer when it does: it may go on so for ever. */
    if (b->deadly > 0 && poison_of(s, b, number) == DEADLY_SECOND)
        return BEHAVE_OK;
    if (b->too_long && number == (int64_t)(s->plan.seed % (uint64_t)b->items))
        return BEHAVE_TOO_LONG;
    if (b->hopeless)
        return lot(s, b, number, 9) % 16 == 0 ? BEHAVE_EMPTY : BEHAVE_TASK;
    if (part(lot(s, b, number, 1)) < b->trouble)
        return common[lot(s, b, number, 2) % ARRAY_LEN(common)];
    return b->big > 0 && (b->heavy || lot(s, b, number, 3) % 8 == 0) ? BEHAVE_BIG : BEHAVE_OK;
}

int64_t rows_of(const struct sim *s, const struct batch_plan *b, int64_t number, int64_t attempt)
{
    enum behaviour how = behaviour_of(s, b, number);
    if (how == BEHAVE_EMPTY || how == BEHAVE_BIG)
        return how == BEHAVE_EMPTY ? 0 : 1 + (int64_t)(lot(s, b, number, 6) % (b->heavy ? 4 : 12));
    bool differs = b->keys == KEYS_OWN && b->mode != WRITE_MERGE && b->mode != WRITE_REPLACE_PARTITIONS; /* an attempt may find more or less than the one before */
    return 1 + (int64_t)(lot(s, b, number, 4 + (differs ? (uint64_t)attempt << 8 : 0)) % (uint64_t)b->rows_most);
}

void row_facts(const struct sim *s, const struct batch_plan *b, int64_t number, int64_t row, struct row_fact *f)
{
    uint64_t l = lot(s, b, number * 1000 + row, 5);
    if (b->keys == KEYS_SHARED)
        snprintf(f->key, sizeof(f->key), "s%" PRIu64, l % (uint64_t)(b->items / 2 + 2));
    else
        snprintf(f->key, sizeof(f->key), "k%" PRId64 ".%" PRId64, number, row);
    f->second[0] = '\0';
    if (b->second_key && (l >> 20) % 3 != 0)
        snprintf(f->second, sizeof(f->second), "q%u", (unsigned)((l >> 24) % 2));
    f->order = (l >> 32) % 5 == 0 ? INT64_MIN : (int64_t)((l >> 36) % 4);
    ways_place(b, l, f);
}

/* --- what it says -------------------------------------------------------------------------------------------------------------------------------- */

static struct emission *emit(struct sim *s, int32_t run, int64_t item, int64_t rows)
{
    struct handlers *h = &s->handlers;
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 256;
        h->v = xreallocarray(h->v, h->cap, sizeof(*h->v));
    }
    h->v[h->count] = (struct emission){.run = run, .item = item, .rows = rows};
    return &h->v[h->count++];
}

static void say_row(struct hand *h, const struct work_item *w, int64_t emission, int64_t row, enum behaviour how, int64_t filler)
{
    struct row_fact f;
    struct buf *o = &h->out;
    row_facts(h->proc->sim, h->run->batch, w->number, row, &f);
    buf_xprintf(o, "{\"item\":%" PRId64 ",\"row\":{", w->item);
    if (how != BEHAVE_NO_KEY)
        buf_xprintf(o, "\"k\":\"%s\",", f.key);
    if (f.second[0])
        buf_xprintf(o, "\"q\":\"%s\",", f.second);
    buf_xprintf(o, "\"r\":%d,\"i\":%" PRId64 ",\"n\":%" PRId64 ",", h->run->index, w->item, row);
    if (f.order != INT64_MIN)
        buf_xprintf(o, "\"o\":%" PRId64 ",", f.order);
    if (f.part[0])
        buf_xprintf(o, h->run->batch->parts == PARTS_RANGE ? "\"d\":%s," : "\"d\":\"%s\",", f.part);
    if (how == BEHAVE_BAD_ROW)
        buf_xputs(o, "\"v\":\"none\"");
    else
        buf_xprintf(o, "\"v\":%" PRId64 ",\"c\":%" PRId64, emission, emission);
    if (how == BEHAVE_REJECT)
        buf_xputs(o, ",\"s\":\"bqmodel-reject\"");
    if (filler > 0) {
        buf_xputs(o, ",\"s\":\"");
        memset(buf_reserve(o, (size_t)filler), 'x', (size_t)filler);
        o->len += (size_t)filler;
        buf_xputs(o, "\"");
    }
    buf_xputs(o, how == BEHAVE_BROKEN ? "}\n" : "}}\n");
}

/* Some rows of an attempt that will come to nothing. */
static void say_some(struct hand *h, const struct work_item *w)
{
    struct sim *s = h->proc->sim;
    int64_t rows = rows_of(s, h->run->batch, w->number, w->attempt), number = (int64_t)s->handlers.count;
    if (lot(s, h->run->batch, w->number, 8) % 2 == 0)
        return;
    emit(s, h->run->index, w->item, rows);
    for (int64_t row = 0; row < i64_min(rows, 3); row++)
        say_row(h, w, number, row, BEHAVE_OK, 0);
}

static void say_rows(struct hand *h, const struct work_item *w, enum behaviour how)
{
    struct sim *s = h->proc->sim;
    const struct batch_plan *b = h->run->batch;
    int64_t rows = rows_of(s, b, w->number, w->attempt);
    bool good = how < BEHAVE_BAD_ROW;
    int64_t number = (int64_t)s->handlers.count;
    emit(s, h->run->index, w->item, rows);
    for (int64_t row = 0; row < rows; row++)
        say_row(h, w, number, row, row == rows - 1 || good ? how : BEHAVE_OK, how == BEHAVE_BIG ? b->big : how == BEHAVE_TOO_LONG && row == rows - 1 ? LIMIT_ROW + 1000 : 0);
    if (how == BEHAVE_NOISE)
        buf_xputs(&h->out, "a line that is no answer\n{\"item\":99999999,\"done\":true}\n");
    buf_xprintf(&h->out, "{\"item\":%" PRId64 ",\"done\":true}\n", w->item);
    s->handlers.v[number].done = good;
    if (!good)
        s->report->deeds[DEED_BAD]++;
}

static void dies(struct hand *h, int status, const char *how)
{
    h->exits = true;
    h->status = status;
    h->how = how;
}

/* At times more than is kept of it, in letters of two bytes. */
static void complain(struct hand *h, const struct work_item *w, const char *kind)
{
    struct sim *s = h->proc->sim;
    buf_xprintf(&h->out, "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"%s\",\"message\":\"as the seed says", w->item, kind);
    if (h->run->batch->hopeless) {
        size_t letters = (size_t)(lot(s, h->run->batch, w->number, 10) % 3) * 20000 + (size_t)(w->number % 300);
        char *at = buf_reserve(&h->out, 2 * letters);
        for (size_t i = 0; i < 2 * letters; i += 2)
            memcpy(at + i, "\xc3\xa4", 2);
        h->out.len += 2 * letters;
    }
    buf_xputs(&h->out, "\"}}\n");
}

static void answer(struct hand *h, const struct work_item *w)
{
    struct sim *s = h->proc->sim;
    enum behaviour how = behaviour_of(s, h->run->batch, w->number);
    bool first = w->attempt == 1 && lot(s, h->run->batch, w->number, 7) % 4 != 0;
    bool dying = how == BEHAVE_CRASH || (how == BEHAVE_CRASH_ONCE && first && sim_chance(s, .5));
    if (how == BEHAVE_HANG || (how == BEHAVE_HANG_ONCE && first)) {
        say_some(h, w);
        return;
    }
    if (dying) {
        say_some(h, w);
        s->report->deeds[DEED_CRASH]++;
        dies(h, 9, "killed by signal 9 (Killed)");
    } else if (how == BEHAVE_TASK || (how == BEHAVE_RETRY && first)) {
        say_some(h, w);
        complain(h, w, how == BEHAVE_TASK ? "task" : "retry");
        s->report->deeds[DEED_BAD]++;
    } else {
        say_rows(h, w, how);
    }
}

/* --- its turns -------------------------------------------------------------------------------------------------------------------------------------- */

static void wake(struct hand *h)
{
    int64_t due = INT64_MAX, now = loop_now_us(h->proc->world.loop);
    if (h->exits || h->closed || (h->heard < h->out.len && !h->stopped) || memchr(h->in.data ? h->in.data : "", '\n', h->in.len))
        due = now;
    for (size_t i = 0; i < h->work_count; i++)
        due = i64_min(due, h->works[i].due_us);
    if (due != INT64_MAX)
        timer_set(h->timer, i64_max(0, due - now));
}

static void take_line(struct hand *h, const char *line, size_t len)
{
    struct sim *s = h->proc->sim;
    struct work_item w;
    AUTO(free_ptr) char *text = xstrndup(line, len);
    if (sscanf(text, "{\"item\":%" SCNd64 ",\"key\":\"k%" SCNd64 "\",\"attempt\":%" SCNd64, &w.item, &w.number, &w.attempt) == 3) {
        const struct batch_plan *b = h->run->batch;
        bool slow = behaviour_of(s, b, w.number) == BEHAVE_SLOW;
        w.due_us = loop_now_us(h->proc->world.loop) + (slow ? b->timeout_ms * (int64_t)(500 + rnd_below(&s->net, 400)) : (int64_t)rnd_below(&s->net, (uint64_t)b->work_ms * 1000 + 1));
        assert(h->work_count < ARRAY_LEN(h->works));
        h->works[h->work_count++] = w;
        poison_given(h->proc, h->run, w.item);
        return;
    }
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(text, len, "line", &err);
    const char *run = doc_str(d, "run", "");
    h->run = check_run(s->check, run, strlen(run));
    assert(h->run != NULL); /* nobody works on what is not in `batches` */
    buf_xputs(&h->out, "{\"ready\":true}\n");
}

static void take_input(struct hand *h)
{
    char *at = h->in.data, *end;
    size_t left = h->in.len;
    while (left > 0 && (end = memchr(at, '\n', left)) != NULL) {
        take_line(h, at, (size_t)(end - at));
        left -= (size_t)(end - at) + 1;
        at = end + 1;
    }
    if (left > 0)
        memmove(h->in.data, at, left);
    h->in.len = left;
}

static void do_work(struct hand *h)
{
    int64_t now = loop_now_us(h->proc->world.loop);
    for (size_t i = 0; i < h->work_count && !h->exits;) {
        if (h->works[i].due_us > now) {
            i++;
            continue;
        }
        struct work_item w = h->works[i];
        h->works[i] = h->works[--h->work_count];
        if (poison_strikes(h->proc, h->run, w.item, w.number))
            continue;
        poison_returned(h->proc, h->run, w.item);
        answer(h, &w);
    }
}

/* What it has said, as far as it is taken. False: the worker has dropped it. */
static bool tell(struct hand *h)
{
    bool gone = false;
    h->gone = &gone;
    while (h->heard < h->out.len && !h->stopped) {
        size_t n = size_min(h->out.len - h->heard, 65536);
        AUTO(free_ptr) char *chunk = xmemdup(h->out.data + h->heard, n);
        size_t took = h->events.out(h->arg, chunk, n);
        if (gone)
            return false;
        h->heard += took;
        h->stopped = took < n;
    }
    h->gone = NULL;
    if (h->heard == h->out.len)
        h->heard = h->out.len = 0;
    return true;
}

static void turn(void *arg)
{
    struct hand *h = arg;
    if (!h->exits)
        take_input(h);
    if (!h->exits)
        do_work(h);
    if (!tell(h))
        return;
    if (h->closed && !h->exits)
        dies(h, 0, "exit status 0");
    h->closed = false;
    if (h->exits && h->out.len == 0) {
        h->events.exited(h->arg, h->status, h->how);
        return;
    }
    if (!h->exits)
        wake(h);
}

/* --- as children.h has it ------------------------------------------------------------------------------------------------------------------------------ */

static struct hand *of(struct child *c)
{
    return (struct hand *)(void *)c;
}

static int hand_write(struct child *c, const char *data, size_t len)
{
    buf_xadd(&of(c)->in, data, len);
    wake(of(c));
    return 0;
}

static size_t hand_unsent(const struct child *c)
{
    (void)c;
    return 0;
}

static void hand_close_stdin(struct child *c)
{
    of(c)->closed = true;
    wake(of(c));
}

static void hand_resume(struct child *c)
{
    of(c)->stopped = false;
    wake(of(c));
}

static void hand_kill(struct child *c, int signo)
{
    if (of(c)->exits)
        return;
    dies(of(c), signo, "killed by a signal");
    wake(of(c));
}

static void hand_drop(struct child *c)
{
    struct hand *h = of(c);
    for (size_t i = 0; i < h->work_count; i++)
        poison_returned(h->proc, h->run, h->works[i].item);
    if (h->gone)
        *h->gone = true;
    timer_free(h->timer);
    buf_free(&h->in);
    buf_free(&h->out);
    free(h);
}

static struct child *hand_start(void *self, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    static const struct child_vtable vtable = {.write = hand_write, .unsent = hand_unsent, .close_stdin = hand_close_stdin, .resume = hand_resume, .kill = hand_kill,
                                               .drop = hand_drop};
    struct hand *h = xcalloc(1, sizeof(*h));
    (void)spec, (void)err;
    h->child.ops = &vtable;
    h->proc = self;
    h->events = *events;
    h->arg = arg;
    h->in = h->out = BUF_INIT(256 * 1024 * 1024);
    h->timer = timer_new(h->proc->world.loop, turn, h);
    return &h->child;
}

const struct child_ops *handler_ops(void)
{
    static const struct child_ops ops = {.start = hand_start};
    return &ops;
}
