#include "tests/unit/support_coord.h"

#include "common/fleet/envelope.h"

#define TARGET_FIELDS "k:STRING REQUIRED, v:INT64"
#define SHARD_FIELDS TARGET_FIELDS ", bqfleet_item:INT64, bqfleet_row:INT64, bqfleet_load:STRING"

int32_t stage_partitions = STAGE_PARTITIONS;

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

static void on_created(void *arg, const struct error *err)
{
    assert_null(err);
    *(bool *)arg = true;
}

static void make_topics(struct stage *s)
{
    const struct { const char *name; int32_t partitions; bool compact; } topics[] = {
        {"work.default", stage_partitions, false}, {"results", 3, false}, {"dead", 3, false}, {"batches", 1, true}, {"workers", 1, true}};
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        char name[64];
        bool done = false;
        snprintf(name, sizeof(name), "%s%s", s->world.prefix, topics[i].name);
        struct bus_topic t = {.name = name, .partitions = topics[i].partitions, .replication = 1, .compact = topics[i].compact};
        bus_topic_create(s->bus, &t, on_created, &done);
        STAGE_WAIT(s, is_true, &done);
    }
}

int stage_open(void **state)
{
    struct stage *s = xcalloc(1, sizeof(*s));
    s->loop = loop_new_virtual(INT64_C(1767225600) * US_PER_S);
    rnd_seeded(&s->rnd, 7);
    s->bus = bus_memory(s->loop, &(struct bus_memory_options){.max_queued = 300});
    s->model = bqmodel_new(s->loop, NULL);
    s->auth = auth_anonymous();
    s->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->model), .auth = s->auth, .rnd = &s->rnd,
                                        .base_url = "http://model", .project = "local"});
    s->world = (struct world){.loop = s->loop, .rnd = &s->rnd, .bus = s->bus, .bq = s->bq, .metrics = &s->metrics, .prefix = "t."};
    bqmodel_add_table(s->model, STAGE_TARGET, TARGET_FIELDS);
    make_topics(s);
    s->outbox = outbox_new(&s->world, "hand");
    *state = s;
    return 0;
}

int stage_close(void **state)
{
    struct stage *s = *state;
    if (s->living > 0) /* the test failed: its processes still stand on all this */
        return 0;
    assert_null(bqmodel_unknown_statement(s->model));
    outbox_stop(s->outbox);
    bus_free(s->bus);
    outbox_free(s->outbox);
    bq_free(s->bq);
    auth_free(s->auth);
    bqmodel_free(s->model);
    loop_free(s->loop);
    free(s);
    return 0;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void stage_sleep(struct stage *s, int64_t ms)
{
    loop_until(s->loop, never, NULL, ms * US_PER_MS);
}

/* --- runs --------------------------------------------------------------------------------------------------------------------------------------- */

struct mark { bool done; int64_t high; };

static void on_mark(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct mark *m = arg;
    (void)low;
    assert_null(err);
    m->done = true;
    m->high = high;
}

static int64_t end_of(struct stage *s, const char *topic, int32_t partition)
{
    struct mark m = {false, 0};
    bus_watermarks(s->bus, topic, partition, on_mark, &m);
    STAGE_WAIT(s, is_true, &m.done);
    return m.high;
}

struct record *stage_record(struct stage *s, const char *run, const char *batch)
{
    struct error err = ERROR_INIT;
    struct record *r = xcalloc(1, sizeof(*r));
    snprintf(r->run, sizeof(r->run), "%s", run);
    snprintf(r->batch, sizeof(r->batch), "%s", batch);
    snprintf(r->nonce, sizeof(r->nonce), "%016" PRIx64, rnd_u64(&s->rnd));
    snprintf(r->queue, sizeof(r->queue), "default");
    snprintf(r->handler, sizeof(r->handler), "h");
    r->by = xstrdup("hand");
    r->created_ms = loop_wall_ms(s->loop);
    r->timeout_ms = 1000;
    r->attempts = 1;
    r->mode = WRITE_MERGE;
    r->has_target = true;
    assert_int_equal(bq_ref_parse(STAGE_TARGET, "local", &r->target, &err), 0);
    snprintf(r->project, sizeof(r->project), "local");
    snprintf(r->staging_project, sizeof(r->staging_project), "local");
    snprintf(r->staging_dataset, sizeof(r->staging_dataset), "ds");
    r->schema_doc = doc_set(doc_object(), "fields", doc_string(TARGET_FIELDS));
    r->schema = schema_parse(r->schema_doc, &err);
    assert_non_null(r->schema);
    doc_free(r->schema_doc);
    r->schema_doc = schema_to_doc(r->schema);
    r->keys = xcalloc(2, sizeof(*r->keys));
    r->keys[0] = xstrdup("k");
    r->key_count = 1;
    r->log_partition = run_partition(run, 3);
    r->log_offset = end_of(s, "t.results", r->log_partition);
    r->dead_partition = run_partition(run, 3);
    r->dead_offset = end_of(s, "t.dead", r->dead_partition);
    r->work_partitions = stage_partitions;
    r->work_starts = xcalloc((size_t)stage_partitions, sizeof(*r->work_starts));
    for (int32_t p = 0; p < stage_partitions; p++)
        r->work_starts[p] = end_of(s, "t.work.default", p);
    return r;
}

struct sent { bool done; int64_t offset; };

static void on_sent(void *arg, int64_t offset, const struct error *err)
{
    struct sent *x = arg;
    assert_null(err);
    x->done = true;
    x->offset = offset;
}

void stage_publish(struct stage *s, const struct record *r)
{
    struct sent x = {false, 0};
    outbox_batches(s->outbox, catalog_record_key(r), record_to_doc(r), on_sent, &x);
    STAGE_WAIT(s, is_true, &x.done);
}

int64_t stage_say(struct stage *s, const struct record *r, struct log_msg m)
{
    struct sent x = {false, 0};
    outbox_log(s->outbox, r, &m, on_sent, &x);
    STAGE_WAIT(s, is_true, &x.done);
    return x.offset;
}

void stage_load(struct stage *s, const struct record *r, int64_t first, int64_t count, int v)
{
    char incarnation[INCARNATION_LEN + 1], load[LOAD_ID_LEN + 1], table[400], name[128];
    char number[16];
    snprintf(number, sizeof(number), "%05d", s->shards++);
    snprintf(incarnation, sizeof(incarnation), "shard%.5s", number);
    load_id(load, incarnation, 0);
    shard_table(name, r->run, incarnation);
    snprintf(table, sizeof(table), "local.ds.%s", name);
    bqmodel_add_table(s->model, table, SHARD_FIELDS);
    struct buf rows = BUF_INIT(1 << 24);
    for (int64_t i = first; i < first + count; i++)
        buf_xprintf(&rows, "%s{\"k\":\"k%" PRId64 "\",\"v\":%d,\"bqfleet_item\":%" PRId64 ",\"bqfleet_row\":0,\"bqfleet_load\":\"%s\"}", i > first ? "," : "[",
                    i, v, i, load);
    buf_xputs(&rows, "]");
    bqmodel_insert(s->model, table, rows.data);
    buf_free(&rows);
    struct item_range range = {first, count};
    stage_say(s, r, (struct log_msg){.type = LOGM_MANIFEST,
                                     .manifest = {.incarnation = incarnation, .load = load, .rows = count, .ranges = &range, .range_count = 1}});
}

void stage_fail(struct stage *s, const struct record *r, int64_t item)
{
    struct item_failure f = {.item = item, .attempts = 1, .key = "k", .reason = "handler", .text = "no"};
    stage_say(s, r, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.failures = &f, .failure_count = 1}});
}

void stage_seal(struct stage *s, const struct record *r, int64_t items)
{
    AUTO(free_ptr) struct seal_end *ends = xcalloc((size_t)stage_partitions, sizeof(*ends));
    for (int32_t p = 0; p < stage_partitions; p++)
        ends[p] = (struct seal_end){p, end_of(s, "t.work.default", p)};
    stage_say(s, r, (struct log_msg){.type = LOGM_SEAL, .items = items, .ends = ends, .end_count = (size_t)stage_partitions});
}

/* --- looking ---------------------------------------------------------------------------------------------------------------------------------------- */

struct reading { void (*each)(void *arg, const struct bus_msg *); void *arg; bool done; };

static void read_one(void *arg, const struct bus_msg *m)
{
    struct reading *r = arg;
    r->each(r->arg, m);
}

static void read_end(void *arg, int64_t next)
{
    (void)next;
    ((struct reading *)arg)->done = true;
}

static void read_failed(void *arg, const struct error *err)
{
    (void)arg;
    fail_msg("%s", err->text);
}

static void read_all(struct stage *s, const char *topic, int32_t partition, void (*each)(void *, const struct bus_msg *), void *arg)
{
    static const struct bus_follow_events events = {.message = read_one, .at_end = read_end, .failed = read_failed};
    struct reading r = {each, arg, false};
    struct error err = ERROR_INIT;
    struct bus_follow *f = bus_follow(s->bus, topic, partition, BUS_BEGIN, &events, &r, &err);
    assert_non_null(f);
    STAGE_WAIT(s, is_true, &r.done);
    bus_follow_stop(f);
}

struct logged { const char *run; enum log_type type; int count; };

static void count_logged(void *arg, const struct bus_msg *m)
{
    struct logged *l = arg;
    struct log_msg msg;
    struct logmsg_memory *memory;
    struct error err = ERROR_INIT;
    if (m->key_len != strlen(l->run) || memcmp(m->key, l->run, m->key_len) != 0)
        return;
    assert_int_equal(logmsg_decode(m->value, m->value_len, &msg, &memory, &err), 0);
    l->count += msg.type == l->type;
    logmsg_free(memory);
}

int stage_logged(struct stage *s, const struct record *r, enum log_type type)
{
    struct logged l = {r->run, type, 0};
    read_all(s, "t.results", r->log_partition, count_logged, &l);
    return l.count;
}

int stage_tables(struct stage *s, const char *prefix)
{
    AUTO(doc_free_auto) doc *all = bqmodel_tables(s->model);
    int count = 0;
    for (size_t i = 0; i < doc_len(all); i++) {
        const char *name = doc_str(doc_at(all, i), NULL, ""), *last = strrchr(name, '.');
        count += strncmp(last ? last + 1 : name, prefix, strlen(prefix)) == 0;
    }
    return count;
}

struct tallying { struct tally *tally; const char *run; };

static void count_item(void *arg, const struct bus_msg *m)
{
    struct tallying *t = arg;
    struct buf scratch = BUF_INIT(1 << 20);
    struct envelope e;
    struct error err = ERROR_INIT;
    assert_int_equal(envelope_decode(m->value, m->value_len, &scratch, &e, &err), 0);
    if (e.run_len == strlen(t->run) && memcmp(e.run, t->run, e.run_len) == 0) {
        assert_in_range(e.item, 0, (int64_t)ARRAY_LEN(t->tally->per_item) - 1);
        t->tally->per_item[e.item]++;
        t->tally->per_partition[m->partition]++;
        t->tally->total++;
    }
    buf_free(&scratch);
}

void stage_tally(struct stage *s, const char *run, struct tally *out)
{
    memset(out, 0, sizeof(*out));
    struct tallying t = {out, run};
    for (int32_t p = 0; p < STAGE_PARTITIONS; p++)
        read_all(s, "t.work.default", p, count_item, &t);
}

/* --- processes ----------------------------------------------------------------------------------------------------------------------------------------- */

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    struct process *p = arg;
    (void)t;
    p->trouble = *err;
}

static bool knows_runs(void *arg)
{
    struct process *p = arg;
    return catalog_watch_ready(coordinator_watch(p->coordinator));
}

void process_start(struct process *p, struct stage *s, const struct record *r, enum track_role role)
{
    static const struct coordinator_events events = {.trouble = on_trouble};
    struct error err = ERROR_INIT;
    *p = (struct process){.stage = s};
    s->living++;
    p->outbox = outbox_new(&s->world, "process");
    p->coordinator = coordinator_start(&(struct coordinator_options){.world = &s->world, .outbox = p->outbox}, &events, p, &err);
    assert_non_null(p->coordinator);
    STAGE_WAIT(s, knows_runs, p);
    p->track = coordinator_track(p->coordinator, r, role, &err);
    assert_non_null(p->track);
}

static bool outbox_idle(void *arg)
{
    struct process *p = arg;
    return outbox_waiting(p->outbox) == 0;
}

/* As much as a process that is killed does: nothing more. What it had handed to the bus still arrives. */
void process_kill(struct process *p)
{
    coordinator_free(p->coordinator);
    STAGE_WAIT(p->stage, outbox_idle, p);
    stage_sleep(p->stage, 100); /* answers to tickets */
    outbox_stop(p->outbox);
    outbox_free(p->outbox);
    p->coordinator = NULL;
    p->stage->living--;
}

bool process_done(void *arg)
{
    struct process *p = arg;
    return track_done(p->track);
}

bool process_held(void *arg)
{
    struct process *p = arg;
    return track_fold(p->track)->phase == RUN_HELD;
}
