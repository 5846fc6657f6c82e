#include "tests/unit/support_worker.h"

#include "common/fleet/catalog.h"
#include "common/fleet/envelope.h"

#define RUN "r1"
#define PREFIX "t."

/* --- children ------------------------------------------------------------------------------------------------------------------------------------------ */

static struct fake_child *fake_of(struct child *c)
{
    return (struct fake_child *)c;
}

static void wake(struct fake_child *f)
{
    if (!timer_is_set(f->timer))
        timer_set(f->timer, 0);
}

VPRINTF_LIKE(2)
static void said(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *at = buf_reserve(b, (size_t)n);
    assert_non_null(at);
    vsnprintf(at, (size_t)n + 1, fmt, ap);
    b->len += (size_t)n;
}

void fake_say(struct fake_child *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    said(&f->out, fmt, ap);
    va_end(ap);
    wake(f);
}

void fake_cry(struct fake_child *f, const char *text)
{
    buf_xputs(&f->err, text);
    wake(f);
}

void fake_exit(struct fake_child *f, int status, const char *how)
{
    f->exits = true;
    f->status = status;
    snprintf(f->how, sizeof(f->how), "%s", how);
    wake(f);
}

/* Shows the script what was written; then hands over what it said; then its exit. The worker may drop the child in any of these. */
static void fake_turn(void *arg)
{
    struct fake_child *f = arg;
    struct kit *k = f->kit;
    char *end;
    while (!f->exits && f->in.len > f->told && (end = memchr(f->in.data + f->told, '\n', f->in.len - f->told)) != NULL) {
        struct error err = ERROR_INIT;
        doc *d = doc_parse(f->in.data + f->told, (size_t)(end - f->in.data) - f->told, "line", &err);
        f->told = (size_t)(end - f->in.data) + 1;
        if (d != NULL && doc_get(d, "item") != NULL)
            f->items++;
        k->script(f, d);
        doc_free(d);
    }
    if (f->stdin_closed && !f->exits) {
        f->stdin_closed = false;
        k->script(f, NULL);
    }
    int serial = f->serial;
    while (f->out.len > f->heard && !f->stopped) {
        size_t n = size_min(f->out.len - f->heard, 65536);
        AUTO(free_ptr) char *chunk = xmemdup(f->out.data + f->heard, n);
        size_t took = f->events.out(f->arg, chunk, n);
        struct fake_child *still = k->fakes;
        while (still != NULL && still->serial != serial)
            still = still->next;
        if (still == NULL)
            return; /* dropped */
        f->heard += took;
        f->stopped = took < n;
    }
    if (f->heard == f->out.len) {
        buf_free(&f->out);
        f->heard = 0;
    }
    if (f->err.len > 0) {
        AUTO(free_ptr) char *text = buf_steal(&f->err);
        f->events.err(f->arg, text, strlen(text));
    }
    if (f->exits && f->out.len == 0)
        f->events.exited(f->arg, f->status, f->how);
}

static int fake_write(struct child *c, const char *data, size_t len)
{
    buf_xadd(&fake_of(c)->in, data, len);
    wake(fake_of(c));
    return 0;
}

static size_t fake_unsent(const struct child *c)
{
    (void)c;
    return 0;
}

static void fake_close_stdin(struct child *c)
{
    fake_of(c)->stdin_closed = true;
    wake(fake_of(c));
}

static void fake_resume(struct child *c)
{
    fake_of(c)->stopped = false;
    wake(fake_of(c));
}

static void fake_kill(struct child *c, int signo)
{
    (void)c;
    (void)signo;
}

static void fake_drop(struct child *c)
{
    struct fake_child *f = fake_of(c), **at = &f->kit->fakes;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    timer_free(f->timer);
    buf_free(&f->in);
    buf_free(&f->out);
    buf_free(&f->err);
    free(f);
}

static struct child *fake_start(void *self, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    static const struct child_vtable ops = {.write = fake_write, .unsent = fake_unsent, .close_stdin = fake_close_stdin, .resume = fake_resume,
                                            .kill = fake_kill, .drop = fake_drop};
    struct kit *k = self;
    k->started++;
    if (k->refuse_start) {
        error_set(err, ERR_FATAL, 2, "%s: no such program", spec->argv[0]);
        return NULL;
    }
    struct fake_child *f = xcalloc(1, sizeof(*f));
    f->child.ops = &ops;
    f->kit = k;
    f->events = *events;
    f->arg = arg;
    f->serial = k->started;
    f->timer = timer_new(k->loop, fake_turn, f);
    f->in = f->out = f->err = BUF_INIT(256 * 1024 * 1024);
    if (spec->argv[1] != NULL)
        snprintf(f->argv1, sizeof(f->argv1), "%s", spec->argv[1]);
    f->next = k->fakes;
    k->fakes = f;
    return &f->child;
}

/* --- the world ------------------------------------------------------------------------------------------------------------------------------------------ */

static void on_created(void *arg, const struct error *err)
{
    assert_null(err);
    (*(int *)arg)--;
}

static bool is_zero(void *arg)
{
    return *(int *)arg == 0;
}

static void make_topics(struct kit *k)
{
    static const struct { const char *name; int32_t partitions; bool compact; } topics[] = {
        {PREFIX "work.default", KIT_PARTITIONS, false}, {PREFIX "results", 2, false}, {PREFIX "batches", 1, true}, {PREFIX "workers", 1, true},
        {PREFIX "dead", 1, false}};
    static int left;
    left = ARRAY_LEN(topics);
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        struct bus_topic t = {.name = topics[i].name, .partitions = topics[i].partitions, .compact = topics[i].compact};
        bus_topic_create(k->bus, &t, on_created, &left);
    }
    assert_true(loop_until(k->loop, is_zero, &left, US_PER_S));
}

static void on_log(void *arg, const struct bus_msg *m)
{
    struct kit *k = arg;
    struct log_msg msg;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(logmsg_decode(m->value, m->value_len, &msg, &memory, &err), 0);
    k->manifests += msg.type == LOGM_MANIFEST;
    if (msg.type == LOGM_FATAL)
        snprintf(k->fatal, sizeof(k->fatal), "%s", msg.text);
    assert_int_equal(fold_apply(k->fold, &msg, m->offset, m->time_ms, &err), 0);
    logmsg_free(memory);
}

static void on_letter(void *arg, const struct bus_msg *m)
{
    struct kit *k = arg;
    doc_add(k->dead, doc_parse(m->value, m->value_len, "dead", NULL));
}

static void on_failed(void *arg, const struct error *err)
{
    struct kit *k = arg;
    k->failed = *err;
}

static void open_on(struct kit *k, struct loop *loop, enum handler_kind kind)
{
    static const struct bus_follow_events log = {.message = on_log}, letters = {.message = on_letter};
    *k = (struct kit){.loop = loop};
    rnd_seeded(&k->rnd, 42);
    k->bus = bus_memory(k->loop, &(struct bus_memory_options){.delay_us = 1000});
    k->model = bqmodel_new(k->loop, &(struct bqmodel_options){.project = "p", .location = "EU"});
    bqmodel_add_dataset(k->model, "staging");
    k->auth = auth_anonymous();
    k->bq = bq_new(&(struct bq_options){.loop = k->loop, .http = bqmodel_http(k->model), .auth = k->auth, .rnd = &k->rnd, .metrics = &k->metrics,
                                        .base_url = "http://bq", .project = "p"});
    static const struct child_ops ops = {.start = fake_start};
    k->children = (struct children){.ops = &ops, .self = k};
    k->world = (struct world){.loop = k->loop, .rnd = &k->rnd, .bus = k->bus, .bq = k->bq, .children = &k->children, .metrics = &k->metrics,
                              .prefix = PREFIX};
    k->defs.count = 1;
    k->defs.v = xcalloc(1, sizeof(*k->defs.v));
    k->defs.v[0] = (struct handler_def){.name = xstrdup("work"), .kind = kind, .start_timeout_ms = 60000, .window = 1};
    k->defs.v[0].argv = xcalloc(3, sizeof(char *));
    k->defs.v[0].argv[0] = xstrdup("handler");
    if (kind == HANDLER_COMMAND)
        k->defs.v[0].argv[1] = xstrdup("--key={key}");
    make_topics(k);
    k->fold = fold_new(&(struct fold_config){.tolerate_count = 1000000});
    k->dead = doc_array();
    k->log = bus_follow(k->bus, PREFIX "results", 1, BUS_BEGIN, &log, k, NULL);
    k->letters = bus_follow(k->bus, PREFIX "dead", 0, BUS_BEGIN, &letters, k, NULL);
    k->options = (struct worker_options){.world = &k->world, .name = "w1", .queue = "default", .handlers = &k->defs, .parallel = 4, .buffer = 1 << 20,
                                         .load_size = 1 << 18, .linger_ms = 2000, .failed = on_failed, .arg = k};
}

void kit_open(struct kit *k, enum handler_kind kind)
{
    open_on(k, loop_new_virtual(INT64_C(1700000000) * US_PER_S), kind);
}

void kit_open_real(struct kit *k, enum handler_kind kind)
{
    open_on(k, loop_new(), kind);
    k->real = children_posix(k->loop);
    k->world.children = k->real;
}

void kit_close(struct kit *k)
{
    worker_free(k->worker);
    worker_free(k->second);
    k->worker = k->second = NULL;
    kit_pass(k, k->real ? 200 : 5000);
    bus_follow_stop(k->log);
    bus_follow_stop(k->letters);
    kit_pass(k, k->real ? 100 : 1000);
    assert_null(k->fakes); /* no child is left behind */
    if (k->real != NULL)
        children_free(k->real);
    bus_free(k->bus);
    bq_free(k->bq);
    bqmodel_free(k->model);
    auth_free(k->auth);
    handler_defs_free(&k->defs);
    fold_free(k->fold);
    doc_free(k->dead);
    loop_free(k->loop);
}

void kit_start(struct kit *k)
{
    struct error err = ERROR_INIT;
    k->worker = worker_start(&k->options, &err);
    assert_non_null(k->worker);
}

static void on_drained(void *arg)
{
    ((struct kit *)arg)->drained = true;
}

static bool is_drained(struct kit *k)
{
    return k->drained;
}

void kit_drain(struct kit *k, int64_t grace_ms)
{
    k->drained = false;
    worker_drain(k->worker, grace_ms, true, on_drained, k);
    assert_true(kit_wait(k, is_drained, grace_ms / 1000 + 10));
    worker_free(k->worker);
    k->worker = NULL;
}

/* --- runs and items --------------------------------------------------------------------------------------------------------------------------------------- */

static void put(struct kit *k, const char *topic, int32_t partition, const char *key, const void *value, size_t len)
{
    struct bus_out out = {.topic = topic, .partition = partition, .key = key, .key_len = key ? strlen(key) : 0, .value = value, .value_len = len};
    struct error err = ERROR_INIT;
    assert_int_equal(bus_publish(k->bus, &out, NULL, NULL, &err), 0);
}

struct record *kit_record(struct kit *k)
{
    static const char schema[] = "{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"},{\"name\":\"v\",\"type\":\"INT64\"}]}";
    struct record *r = xcalloc(1, sizeof(*r));
    *r = (struct record){.run = RUN, .batch = "b", .nonce = "n", .queue = "default", .handler = "work", .timeout_ms = 30000, .attempts = 3,
                         .mode = WRITE_MERGE, .has_target = true, .location = "EU", .project = "p", .staging_project = "p", .staging_dataset = "staging",
                         .log_partition = 1, .dead_partition = 0, .work_partitions = KIT_PARTITIONS, .created_ms = loop_wall_ms(k->loop)};
    r->by = xstrdup("test");
    r->target = (struct bq_ref){.project = "p", .dataset = "d", .table = "t"};
    r->schema_doc = doc_parse(schema, strlen(schema), "schema", NULL);
    r->work_starts = xcalloc(KIT_PARTITIONS, sizeof(*r->work_starts));
    r->finish = (struct fold_config){.tolerate_count = 1000000};
    return r;
}

void kit_run(struct kit *k, struct record *r)
{
    doc *d = record_to_doc(r);
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_record_key(r);
    put(k, PREFIX "batches", 0, key, text, strlen(text));
    doc_free(d);
    record_free(r);
}

void kit_end(struct kit *k)
{
    doc *d = catalog_withdrawn_value("other", loop_wall_ms(k->loop));
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_end_key(RUN);
    put(k, PREFIX "batches", 0, key, text, strlen(text));
    doc_free(d);
}

void kit_state(struct kit *k, bool paused)
{
    doc *d = catalog_state_value(&(struct fold){.paused = paused});
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_state_key(RUN);
    put(k, PREFIX "batches", 0, key, text, strlen(text));
    doc_free(d);
}

void kit_publish_item(struct kit *k, int64_t item, int32_t partition, const char *payload)
{
    char key[32];
    snprintf(key, sizeof(key), "k%" PRId64, item);
    struct envelope e = {.run = RUN, .run_len = strlen(RUN), .item = item, .key = key, .key_len = strlen(key), .payload = payload,
                         .payload_len = strlen(payload)};
    struct buf b = BUF_INIT(2 * 1024 * 1024);
    struct error err = ERROR_INIT;
    assert_int_equal(envelope_encode(&e, &b, &err), 0);
    put(k, PREFIX "work.default", partition, NULL, b.data, b.len);
    buf_free(&b);
}

void kit_publish(struct kit *k, int count)
{
    for (int i = 0; i < count; i++, k->next_item++) {
        char payload[64];
        snprintf(payload, sizeof(payload), "{\"n\":%" PRId64 "}", k->next_item);
        kit_publish_item(k, k->next_item, (int32_t)(k->next_item % KIT_PARTITIONS), payload);
    }
}

struct committed { bool done; int64_t sum; };

static void on_committed(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err)
{
    assert_null(err);
    struct committed *c = arg;
    c->done = true;
    for (int32_t i = 0; i < partitions; i++)
        c->sum += i64_max(offsets[i], 0);
}

static bool committed_known(void *arg)
{
    return ((struct committed *)arg)->done;
}

int64_t kit_committed(struct kit *k)
{
    struct committed c = {.done = false};
    bus_committed(k->bus, PREFIX "workers.default", PREFIX "work.default", KIT_PARTITIONS, on_committed, &c);
    assert_true(loop_until(k->loop, committed_known, &c, 10 * US_PER_S));
    return c.sum;
}

/* --- waiting ------------------------------------------------------------------------------------------------------------------------------------------------ */

bool kit_wait(struct kit *k, bool (*cond)(struct kit *), int64_t seconds)
{
    int64_t until = loop_now_us(k->loop) + seconds * US_PER_S;
    while (!cond(k)) {
        if (loop_now_us(k->loop) >= until)
            return false;
        loop_step(k->loop, 50 * US_PER_MS);
    }
    return true;
}

void kit_pass(struct kit *k, int64_t ms)
{
    int64_t until = loop_now_us(k->loop) + ms * US_PER_MS;
    while (loop_now_us(k->loop) < until)
        loop_step(k->loop, until - loop_now_us(k->loop));
}

int64_t kit_rows(struct kit *k)
{
    int64_t rows = 0;
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k->model);
    for (size_t i = 0; i < doc_len(tables); i++)
        rows += bqmodel_count(k->model, doc_str(doc_at(tables, i), NULL, ""));
    return rows;
}

bool all_done(struct kit *k)
{
    return k->fold->done == k->next_item;
}

bool all_committed(struct kit *k)
{
    return kit_committed(k) == k->next_item;
}

bool worker_idle(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return s.unfinished == 0;
}
