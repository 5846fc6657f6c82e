#include "tests/unit/support_crew.h"

#include "common/fleet/cut_text.h"
#include "common/fleet/envelope.h"

struct crew_play crew_play;

/* --- handlers ---------------------------------------------------------------------------------------------------------------------------------- */

struct hand {
    struct child child;      /* first */
    struct loop *loop;
    struct child_events events;
    void *arg;
    struct timer *timer;     /* of the item at work; or of its end */
    struct buf in;
    int64_t item;            /* -1: none */
    bool ends;
};

static void answer(struct hand *h)
{
    struct buf line = BUF_INIT(1 << 16);
    int64_t item = h->item, v = crew_play.attempts++;
    h->item = -1;
    if (crew_play.first_bad > 0 && item >= crew_play.first_bad) {
        buf_xprintf(&line, "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"task\",\"message\":\"no\"}}\n", item);
    } else {
        buf_xprintf(&line, "{\"item\":%" PRId64 ",\"rows\":[", item);
        for (int n = 0; n < crew_play.rows; n++) {
            buf_xprintf(&line, "%s{\"k\":\"k%" PRId64, n ? "," : "", crew_play.one_key ? 0 : item);
            if (n > 0)
                buf_xprintf(&line, ".%d", n);
            buf_xprintf(&line, "\",\"v\":%" PRId64 "}", v);
        }
        buf_xputs(&line, "],\"done\":true}\n");
    }
    h->events.out(h->arg, line.data, line.len);
    buf_free(&line);
}

static void on_hand(void *arg)
{
    struct hand *h = arg;
    if (h->item >= 0)
        answer(h);
    else if (h->ends)
        h->events.exited(h->arg, 0, "exit status 0");
}

/* A window of one: at most one item's line waits. */
static int hand_write(struct child *c, const char *data, size_t len)
{
    struct hand *h = (struct hand *)(void *)c;
    char *end;
    buf_xadd(&h->in, data, len);
    while ((end = memchr(h->in.data, '\n', h->in.len)) != NULL) {
        struct error err = ERROR_INIT;
        AUTO(doc_free_auto) doc *d = doc_parse(h->in.data, (size_t)(end - h->in.data), "line", &err);
        int64_t item = doc_int(d, "item", -1);
        size_t used = (size_t)(end - h->in.data) + 1;
        memmove(h->in.data, h->in.data + used, h->in.len - used);
        h->in.len -= used;
        if (item < 0)
            continue;
        h->item = item;
        timer_set(h->timer, crew_play.work_ms * US_PER_MS);
    }
    return 0;
}

static size_t hand_unsent(const struct child *c)
{
    (void)c;
    return 0;
}

static void hand_close_stdin(struct child *c)
{
    struct hand *h = (struct hand *)(void *)c;
    h->ends = true;
    if (h->item < 0)
        timer_set(h->timer, 0);
}

static void hand_resume(struct child *c)
{
    (void)c;
}

static void hand_kill(struct child *c, int signo)
{
    (void)c, (void)signo;
}

static void hand_drop(struct child *c)
{
    struct hand *h = (struct hand *)(void *)c;
    timer_free(h->timer);
    buf_free(&h->in);
    free(h);
}

static struct child *hand_start(void *self, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    static const struct child_vtable ops = {.write = hand_write, .unsent = hand_unsent, .close_stdin = hand_close_stdin, .resume = hand_resume,
                                            .kill = hand_kill, .drop = hand_drop};
    struct crewman *m = self;
    struct hand *h = xcalloc(1, sizeof(*h));
    (void)spec, (void)err;
    *h = (struct hand){.child = {&ops}, .loop = m->world.loop, .events = *events, .arg = arg, .item = -1, .in = BUF_INIT(1 << 20)};
    h->timer = timer_new(m->world.loop, on_hand, h);
    return &h->child;
}

/* --- the stage --------------------------------------------------------------------------------------------------------------------------------- */

void crew_open(struct crew *c, void **state, uint64_t seed)
{
    stage_open(state);
    *c = (struct crew){.stage = *state};
    rnd_seeded(&c->dice, seed);
    crew_play = (struct crew_play){.work_ms = 50, .rows = 1, .parallel = 4, .linger_ms = 200};
}

void crew_close(struct crew *c, void **state)
{
    stage_sleep(c->stage, 900000); /* what was sent is answered */
    for (int i = 0; i < c->past_count; i++)
        sleeper_free(c->past[i]);
    stage_close(state);
}

struct record *crew_record(struct crew *c, const char *run)
{
    struct record *r = stage_record(c->stage, run, "batch");
    r->via = VIA_DIRECT;
    r->permits = 1;
    r->timeout_ms = 60000;
    return r;
}

void crew_items(struct crew *c, const struct record *r, int64_t first, int64_t count)
{
    for (int64_t item = first; item < first + count; item++) {
        char key[32];
        snprintf(key, sizeof(key), "k%" PRId64, item);
        struct envelope e = {.run = r->run, .run_len = strlen(r->run), .item = item, .key = key, .key_len = strlen(key), .payload = "", .payload_len = 0};
        struct buf b = BUF_INIT(1 << 16);
        struct error err = ERROR_INIT;
        assert_int_equal(envelope_encode(&e, &b, &err), 0);
        struct bus_out out = {.topic = "t.work.default", .partition = (int32_t)(item % stage_partitions), .value = b.data, .value_len = b.len};
        assert_int_equal(bus_publish(c->stage->bus, &out, NULL, NULL, &err), 0);
        buf_free(&b);
        if (item % 100 == 99)
            stage_sleep(c->stage, 10);
    }
    stage_sleep(c->stage, 10);
}

/* --- processes --------------------------------------------------------------------------------------------------------------------------------- */

static void come(struct crew *c, struct crewman *m, const char *holder)
{
    struct stage *s = c->stage;
    *m = (struct crewman){.stage = s, .sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &c->dice)};
    rnd_seeded(&m->rnd, rnd_u64(&c->dice));
    struct loop *loop = sleeper_loop(m->sleeper);
    struct bq *bq = bq_new(&(struct bq_options){.loop = loop, .http = sleeper_http(m->sleeper), .auth = s->auth, .rnd = &m->rnd, .base_url = "http://model",
                                                .project = "local"});
    m->permits = permits_set_new(bq, &m->rnd, holder, 0);
    m->world = (struct world){.loop = loop, .rnd = &m->rnd, .bus = sleeper_bus(m->sleeper), .bq = bq, .permits = m->permits, .metrics = &m->metrics,
                              .prefix = s->world.prefix};
}

void crew_worker(struct crew *c, struct crewman *m, const char *name)
{
    static const struct child_ops ops = {.start = hand_start};
    struct error err = ERROR_INIT;
    char holder[64];
    snprintf(holder, sizeof(holder), "worker %s", name);
    come(c, m, holder);
    sleeper_tells_the_dead(m->sleeper);
    m->children = (struct children){.ops = &ops, .self = m};
    m->world.children = &m->children;
    m->defs.count = 1;
    m->defs.v = xcalloc(1, sizeof(*m->defs.v));
    m->defs.v[0] = (struct handler_def){.name = xstrdup("h"), .kind = HANDLER_EXEC, .start_timeout_ms = 60000, .window = 1};
    m->defs.v[0].argv = xcalloc(2, sizeof(char *));
    m->defs.v[0].argv[0] = xstrdup("hand");
    struct worker_options o = {.world = &m->world, .name = name, .queue = "default", .handlers = &m->defs, .parallel = crew_play.parallel, .buffer = 1 << 20,
                               .load_size = 1 << 18, .linger_ms = crew_play.linger_ms};
    m->worker = worker_start(&o, &err);
    assert_non_null(m->worker);
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    (void)t;
    ((struct crewman *)arg)->trouble = *err;
}

void crew_coordinator(struct crew *c, struct crewman *m, const struct record *r, enum track_role role)
{
    static const struct coordinator_events events = {.trouble = on_trouble};
    struct error err = ERROR_INIT;
    come(c, m, "coordinator");
    m->outbox = outbox_new(&m->world, "coordinator");
    m->coordinator = coordinator_start(&(struct coordinator_options){.world = &m->world, .outbox = m->outbox}, &events, m, &err);
    assert_non_null(m->coordinator);
    m->track = coordinator_track(m->coordinator, r, role, &err);
    assert_non_null(m->track);
}

static void free_all(struct crew *c, struct crewman *m)
{
    worker_free(m->worker);
    coordinator_free(m->coordinator);
    outbox_stop(m->outbox);
    outbox_free(m->outbox);
    permits_set_free(m->permits);
    bq_free(m->world.bq);
    handler_defs_free(&m->defs);
    assert_true(c->past_count < (int)ARRAY_LEN(c->past));
    c->past[c->past_count++] = m->sleeper;
    *m = (struct crewman){.sleeper = NULL};
}

void crew_kill(struct crew *c, struct crewman *m)
{
    if (m->sleeper == NULL)
        return;
    sleeper_kill(m->sleeper);
    free_all(c, m);
}

static void on_drained(void *arg)
{
    ((struct crewman *)arg)->drained = true;
}

static bool is_drained(void *arg)
{
    return ((struct crewman *)arg)->drained;
}

void crew_drain(struct crew *c, struct crewman *m, int64_t grace_ms)
{
    worker_drain(m->worker, grace_ms, true, on_drained, m);
    assert_true(loop_until(c->stage->loop, is_drained, m, (grace_ms + 10000) * US_PER_MS));
    worker_free(m->worker);
    m->worker = NULL;
    loop_until(c->stage->loop, permits_set_given_back, m->permits, 3 * US_PER_S);
    crew_kill(c, m);
}

/* --- what is true ------------------------------------------------------------------------------------------------------------------------------- */

struct loads { struct { char id[LOAD_ID_LEN + 1]; int64_t cut; struct item_range *ranges; size_t count; size_t at; } v[4096]; size_t count; };
struct reading { const char *run; struct fold *fold; struct loads *loads; bool done; };

static void on_message(void *arg, const struct bus_msg *m)
{
    struct reading *r = arg;
    struct log_msg msg;
    struct logmsg_memory *memory;
    struct error err = ERROR_INIT;
    if (m->key_len != strlen(r->run) || memcmp(m->key, r->run, m->key_len) != 0)
        return;
    assert_int_equal(logmsg_decode(m->value, m->value_len, &msg, &memory, &err), 0);
    size_t before = r->fold->load_count;
    assert_int_equal(fold_apply(r->fold, &msg, m->offset, m->time_ms, &err), 0);
    if (r->fold->load_count > before) {
        assert_true(r->loads->count < ARRAY_LEN(r->loads->v));
        r->loads->v[r->loads->count].ranges = xmemdup(msg.manifest.ranges, msg.manifest.range_count * sizeof(*msg.manifest.ranges));
        r->loads->v[r->loads->count++].count = msg.manifest.range_count;
    }
    logmsg_free(memory);
}

static void on_end(void *arg, int64_t next)
{
    (void)next;
    ((struct reading *)arg)->done = true;
}

static void on_failed(void *arg, const struct error *err)
{
    (void)arg;
    fail_msg("%s", err->text);
}

static bool is_read(void *arg)
{
    return ((struct reading *)arg)->done;
}

static bool excluded(const struct fold *f, const struct fold_load *l, int64_t item)
{
    for (size_t x = 0; x < l->exclusion_count; x++)
        if (f->exclusions[l->first_exclusion + x].item == item)
            return true;
    return false;
}

static void add(struct crew_written *w, int64_t item)
{
    assert_in_range(item, 0, CREW_ITEMS - 1);
    w->per_item[item]++;
    w->total++;
}

void crew_by_log(struct crew *c, const struct record *r, struct crew_written *out)
{
    static const struct bus_follow_events events = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct loads *loads = xcalloc(1, sizeof(*loads));
    struct reading reading = {r->run, fold_new(&r->finish), loads, false};
    struct error err = ERROR_INIT;
    memset(out, 0, sizeof(*out));
    struct bus_follow *f = bus_follow(c->stage->bus, "t.results", r->log_partition, r->log_offset, &events, &reading, &err);
    assert_non_null(f);
    STAGE_WAIT(c->stage, is_read, &reading);
    bus_follow_stop(f);
    const struct fold *fold = reading.fold;
    for (size_t i = 0; i < fold->load_count; i++) {
        const struct fold_load *l = &fold->loads[i];
        for (size_t k = 0; l->cut >= 0 && fold->cuts[l->cut].state == CUT_DONE && k < loads->v[i].count; k++)
            for (int64_t n = 0; n < loads->v[i].ranges[k].count; n++)
                if (!excluded(fold, l, loads->v[i].ranges[k].first + n))
                    add(out, loads->v[i].ranges[k].first + n);
    }
    for (size_t i = 0; i < loads->count; i++)
        free(loads->v[i].ranges);
    free(loads);
    fold_free(reading.fold);
}

void crew_by_table(struct crew *c, struct crew_written *out)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(c->stage->model, STAGE_TARGET);
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < doc_len(rows); i++)
        if (*doc_str(doc_at(rows, i), "k", "k") == 'k')
            add(out, strtol(doc_str(doc_at(rows, i), "k", "k-1") + 1, NULL, 10));
}

static bool begins(const doc *job, const char *begin)
{
    return strncmp(doc_str(job, "jobReference.jobId", ""), begin, strlen(begin)) == 0;
}

int crew_jobs(struct crew *c, const char *begin)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(c->stage->model);
    int n = 0;
    for (size_t i = 0; i < doc_len(jobs); i++)
        n += begins(doc_at(jobs, i), begin) && strcmp(doc_str(doc_at(jobs, i), "status.state", ""), "DONE") == 0 &&
             doc_get(doc_at(jobs, i), "status.errorResult") == NULL;
    return n;
}

/* From the beginnings and ends of those that wrote: how many overlapped. One that failed by its fence never touched the table. */
int crew_at_once(struct crew *c, const char *const *names, size_t count)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(c->stage->model);
    int most = 0;
    struct span { int64_t from, to; } v[2048];
    size_t n = 0;
    for (size_t i = 0; i < doc_len(jobs); i++) {
        const doc *job = doc_at(jobs, i);
        bool ours = false;
        for (size_t k = 0; k < count; k++)
            ours = ours || begins(job, names[k]);
        if (!ours || doc_get(job, "status.errorResult") != NULL || strcmp(doc_str(job, "configuration.query.query", ""), "") == 0)
            continue;
        assert_true(n < ARRAY_LEN(v));
        v[n++] = (struct span){doc_int(job, "statistics.startTime", 0), doc_int(job, "statistics.endTime", INT64_MAX)};
    }
    for (size_t i = 0; i < n; i++) {
        int at_once = 0;
        for (size_t k = 0; k < n; k++)
            at_once += v[k].from <= v[i].from && v[i].from < v[k].to;
        most = at_once > most ? at_once : most;
    }
    return most;
}

static void check_cuts(struct crew *c, const struct record *r, const struct fold *f, const char *what)
{
    for (size_t i = 0; i < f->cut_count; i++) {
        const struct fold_cut *cut = &f->cuts[i];
        char base[JOB_BASE_SIZE], begin[JOB_BASE_SIZE + 4];
        cut_job_base(base, &(struct cut_of){.record = r, .fold = f, .cut = cut});
        snprintf(begin, sizeof(begin), "%s_t", base);
        int n = crew_jobs(c, begin);
        bool only_marks = cut->last && cut->number > 0 && cut->loads == 0; /* its job says that there was nothing to write */
        if (n != (cut->state == CUT_DONE && cut->loads > 0) && !only_marks)
            fail_msg("%s: %s had %d effects (its state is %d)", what, base, n, cut->state);
    }
}

void crew_check(struct crew *c, const struct record *r, const struct fold *f, const char *what)
{
    static struct crew_written want, have;
    static const char *const guarded[] = {"bqfleet_direct_", "bqfleet_cut_"};
    check_cuts(c, r, f, what);
    crew_by_log(c, r, &want);
    crew_by_table(c, &have);
    for (int64_t i = 0; i < CREW_ITEMS; i++)
        if (want.per_item[i] * crew_play.rows != have.per_item[i])
            fail_msg("%s: item %" PRId64 " has %" PRId64 " rows in the table, and is written %" PRId64 " times by the log", what, i, have.per_item[i],
                     want.per_item[i]);
    int most = crew_at_once(c, guarded, ARRAY_LEN(guarded));
    if (most > r->permits && (r->via != VIA_WORKER_TABLES || most > 1)) /* there they need none */
        fail_msg("%s: %d statements ran at once under %d permits", what, most, r->permits);
}
