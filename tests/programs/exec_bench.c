/*
 * How fast a worker gets items through one exec handler: a real child on real pipes, rows checked, appended and loaded. The items are on the bus (in
 * memory) before the clock starts, and BigQuery is a sink in this process that takes every load at once and counts its lines: so what is measured is
 * the worker, between its queue and its requests.
 *     exec_bench [--items N] [--window W] [--payloads FILE] [--schema FIELDS] [--params JSON] [--lines FILE] -- HANDLER...
 * FILE has a payload a line, used in turns; without it, ten columns. --lines writes what the handler is sent to a file and measures nothing: for
 * `cat LINES | HANDLER | cat >/dev/null`. Prints one line of JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <sys/resource.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/fleet/catalog.h"
#include "common/fleet/envelope.h"
#include "worker/handlers/exec_proto.h"

#define PREFIX "b."
#define RUN "bench"
#define PARTITIONS 8
#define COLUMNS "id:INT64 REQUIRED,name:STRING,team:STRING,games:INT64,minutes:FLOAT64,points:FLOAT64,salary:NUMERIC,active:BOOL,born:DATE,updated_at:TIMESTAMP"

struct options { int64_t items, window; const char *payloads, *schema, *params, *lines; char **argv; };

static void give_up(const char *what)
{
    fprintf(stderr, "exec_bench: %s\n", what);
    exit(1);
}

/* --- a BigQuery that takes everything ----------------------------------------------------------------------------------------------------- */

struct http_call {
    struct timer *timer;
    http_cb *cb;
    void *arg;
    int status;
    char header[64], body[256];
};

struct sink {
    struct http http; /* first */
    struct loop *loop;
    int64_t loads, bytes, rows;
    int64_t upload_rows; /* of the resumable upload under way: loads go one after another */
};

static void reply(void *arg)
{
    struct http_call *c = arg;
    struct buf body = BUF_INIT(sizeof(c->body));
    buf_xputs(&body, c->body);
    char *colon = strchr(c->header, ':');
    if (colon != NULL)
        *colon = '\0';
    struct http_header header = {c->header, colon ? colon + 2 : NULL};
    struct http_response r = {.status = c->status, .body = &body, .headers = &header, .header_count = colon ? 1 : 0};
    timer_free(c->timer);
    c->cb(c->arg, &r);
    buf_free(&body);
    free(c);
}

static int64_t lines_in(const struct http_slice *s)
{
    int64_t n = 0;
    for (const char *p = s->data, *end = p + s->len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        n++;
    return n;
}

static void loaded(struct sink *s, struct http_call *c, int64_t rows)
{
    s->loads++;
    s->rows += rows;
    snprintf(c->body, sizeof(c->body), "{\"status\":{\"state\":\"DONE\"},\"statistics\":{\"endTime\":\"1\",\"load\":{\"outputRows\":\"%" PRId64 "\"}}}", rows);
}

/* Content-Range: bytes FROM-LAST/TOTAL */
static void take_chunk(struct sink *s, struct http_call *c, const struct http_request *r)
{
    int64_t from = 0, last = 0, total = 0;
    for (size_t i = 0; r->headers[i] != NULL; i++)
        if (sscanf(r->headers[i], "Content-Range: bytes %" SCNd64 "-%" SCNd64 "/%" SCNd64, &from, &last, &total) == 3)
            break;
    for (size_t i = 0; i < r->body_count; i++)
        s->upload_rows += lines_in(&r->body[i]);
    s->bytes += last + 1 - from;
    if (last + 1 == total) {
        loaded(s, c, s->upload_rows);
        return;
    }
    c->status = 308;
    snprintf(c->header, sizeof(c->header), "Range: bytes=0-%" PRId64, last);
}

static struct http_call *sink_send(struct http *http, const struct http_request *r, http_cb *cb, void *arg)
{
    struct sink *s = (struct sink *)(void *)http;
    struct http_call *c = xcalloc(1, sizeof(*c));
    *c = (struct http_call){.cb = cb, .arg = arg, .status = 200, .body = "{}"};
    if (strstr(r->url, "uploadType=multipart") != NULL) { /* the job, the rows, the end */
        s->bytes += (int64_t)r->body[1].len;
        loaded(s, c, lines_in(&r->body[1]));
    } else if (strstr(r->url, "uploadType=resumable") != NULL) {
        s->upload_rows = 0;
        snprintf(c->header, sizeof(c->header), "Location: http://sink/session");
    } else if (strcmp(r->method, "PUT") == 0) {
        take_chunk(s, c, r);
    }
    c->timer = timer_new(s->loop, reply, c);
    timer_set(c->timer, 0);
    return c;
}

static void sink_cancel(struct http *http, struct http_call *c)
{
    (void)http;
    timer_free(c->timer);
    free(c);
}

/* --- what is put on the bus --------------------------------------------------------------------------------------------------------------- */

struct bench {
    struct options o;
    struct loop *loop;
    struct rnd rnd;
    struct metrics metrics;
    struct sink sink;
    struct world world;
    struct record *record;
    char **payloads;
    size_t payload_count;
    int64_t done;
    double seconds, cpu_s; /* from the worker's start to the last manifest; processor time of this process in them */
    bool drained;
    int left; /* topics to be made */
};

/* Ten columns, as json.dumps or an encoder of C or Go writes them. */
static char *ten_columns(uint32_t *r)
{
#define NEXT ((*r = *r * 1664525U + 1013904223U) >> 8)
    uint32_t a = NEXT, b = NEXT, c = NEXT, d = NEXT;
    return xasprintf("{\"id\":%u,\"name\":\"Player Number %u\",\"team\":\"%c%cX\",\"games\":%u,\"minutes\":%.2f,\"points\":%.4f,\"salary\":\"%u.50\","
                     "\"active\":%s,\"born\":\"19%02u-%02u-%02u\",\"updated_at\":\"2025-%02u-%02uT%02u:15:30.%06uZ\"}",
                     a, b, (char)('A' + a % 26), (char)('A' + b % 26), c % 83, d % 4800 / 100.0, b / 1e4, c, d & 1 ? "true" : "false", 80 + a % 20,
                     1 + b % 12, 1 + c % 28, 1 + d % 12, 1 + a % 28, b % 24, c % 1000000);
}

static void read_payloads(struct bench *b)
{
    uint32_t r = 7;
    if (b->o.payloads == NULL) {
        b->payload_count = 1000;
        b->payloads = xcalloc(b->payload_count, sizeof(*b->payloads));
        for (size_t i = 0; i < b->payload_count; i++)
            b->payloads[i] = ten_columns(&r);
        return;
    }
    FILE *f = fopen(b->o.payloads, "re");
    if (f == NULL)
        give_up(strerror(errno));
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
        b->payloads = xreallocarray(b->payloads, b->payload_count + 1, sizeof(*b->payloads));
        b->payloads[b->payload_count++] = xstrndup(line, (size_t)n - (line[n - 1] == '\n'));
    }
    free(line);
    fclose(f);
    if (b->payload_count == 0)
        give_up("no payloads");
}

static void make_record(struct bench *b)
{
    struct error err = ERROR_INIT;
    struct record *r = b->record = xcalloc(1, sizeof(*r));
    *r = (struct record){.run = RUN, .batch = "bench", .nonce = "n", .queue = "default", .handler = "work", .timeout_ms = 30000, .attempts = 3,
                         .mode = WRITE_MERGE, .has_target = true, .location = "EU", .project = "p", .staging_project = "p", .staging_dataset = "s",
                         .work_partitions = PARTITIONS, .created_ms = loop_wall_ms(b->loop)};
    r->by = xstrdup("bench");
    r->target = (struct bq_ref){.project = "p", .dataset = "d", .table = "t"};
    AUTO(free_ptr) char *schema = xasprintf("{\"fields\":\"%s\"}", b->o.schema);
    doc *shorthand = doc_parse(schema, strlen(schema), "schema", &err);
    r->schema = shorthand ? schema_parse(shorthand, &err) : NULL;
    r->params = b->o.params ? doc_parse(b->o.params, strlen(b->o.params), "params", &err) : NULL;
    if (err.kind != ERR_NONE)
        give_up(err.text);
    r->schema_doc = shorthand;
    r->work_starts = xcalloc(PARTITIONS, sizeof(*r->work_starts));
}

static void publish(struct bench *b, const char *topic, int32_t partition, const char *key, const void *value, size_t len)
{
    struct bus_out out = {.topic = topic, .partition = partition, .key = key, .key_len = key ? strlen(key) : 0, .value = value, .value_len = len};
    struct error err = ERROR_INIT;
    if (bus_publish(b->world.bus, &out, NULL, NULL, &err) != 0)
        give_up(err.text);
}

static void publish_items(struct bench *b)
{
    struct buf bytes = BUF_INIT(2 * LIMIT_PAYLOAD);
    struct error err = ERROR_INIT;
    for (int64_t i = 0; i < b->o.items; i++) {
        char key[32];
        snprintf(key, sizeof(key), "k%" PRId64, i);
        const char *payload = b->payloads[(size_t)i % b->payload_count];
        struct envelope e = {.run = RUN, .run_len = strlen(RUN), .item = i, .key = key, .key_len = strlen(key), .payload = payload,
                             .payload_len = strlen(payload)};
        buf_clear(&bytes);
        if (envelope_encode(&e, &bytes, &err) != 0)
            give_up(err.text);
        publish(b, PREFIX "work.default", (int32_t)(i % PARTITIONS), NULL, bytes.data, bytes.len);
    }
    buf_free(&bytes);
}

static void publish_record(struct bench *b)
{
    AUTO(doc_free_auto) doc *d = record_to_doc(b->record);
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_record_key(b->record);
    publish(b, PREFIX "batches", 0, key, text, strlen(text));
}

/* The very lines that the worker writes to the handler, but for the time in them. */
static void write_lines(struct bench *b)
{
    FILE *f = fopen(b->o.lines, "we");
    if (f == NULL)
        give_up(strerror(errno));
    struct buf hello = BUF_INIT(LIMIT_RECORD);
    proto_hello(&hello, b->record);
    fwrite(hello.data, 1, hello.len, f);
    buf_free(&hello);
    for (int64_t i = 0; i < b->o.items; i++)
        fprintf(f, "{\"item\":%" PRId64 ",\"key\":\"k%" PRId64 "\",\"attempt\":1,\"deadline_ms\":1700000000000,\"payload\":%s}\n", i, i,
                b->payloads[(size_t)i % b->payload_count]);
    if (fclose(f) != 0)
        give_up("the lines cannot be written");
}

/* --- the run -------------------------------------------------------------------------------------------------------------------------------- */

static void on_created(void *arg, const struct error *err)
{
    if (err != NULL)
        give_up(err->text);
    ((struct bench *)arg)->left--;
}

static bool topics_made(void *arg)
{
    return ((struct bench *)arg)->left == 0;
}

static void make_topics(struct bench *b)
{
    static const struct { const char *name; int32_t partitions; bool compact; } topics[] = {
        {PREFIX "work.default", PARTITIONS, false}, {PREFIX "results", 1, false}, {PREFIX "batches", 1, true}, {PREFIX "workers", 1, true},
        {PREFIX "dead", 1, false}};
    b->left = ARRAY_LEN(topics);
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        struct bus_topic t = {.name = topics[i].name, .partitions = topics[i].partitions, .compact = topics[i].compact};
        bus_topic_create(b->world.bus, &t, on_created, b);
    }
    if (!loop_until(b->loop, topics_made, b, 10 * US_PER_S))
        give_up("the topics were not made");
}

static void on_log(void *arg, const struct bus_msg *m)
{
    struct bench *b = arg;
    struct log_msg msg;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    if (logmsg_decode(m->value, m->value_len, &msg, &memory, &err) != 0)
        give_up(err.text);
    if (msg.type != LOGM_MANIFEST || msg.manifest.failure_count > 0)
        give_up(msg.type == LOGM_FATAL ? msg.text : msg.type == LOGM_MANIFEST ? msg.manifest.failures[0].text : log_type_name(msg.type));
    b->done += ranges_items(msg.manifest.ranges, msg.manifest.range_count) + ranges_items(msg.manifest.empty, msg.manifest.empty_count);
    logmsg_free(memory);
}

static void on_failed(void *arg, const struct error *err)
{
    (void)arg;
    give_up(err->text);
}

static void on_drained(void *arg)
{
    ((struct bench *)arg)->drained = true;
}

static bool all_done(void *arg)
{
    const struct bench *b = arg;
    return b->done >= b->o.items;
}

static bool is_drained(void *arg)
{
    return ((struct bench *)arg)->drained;
}

static double cpu_s(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool all_acked(void *arg)
{
    return bus_unacked(((struct bench *)arg)->world.bus) == 0;
}

static void measure(struct bench *b, struct handler_defs *defs)
{
    static const struct bus_follow_events log = {.message = on_log};
    struct error err = ERROR_INIT;
    struct bus_follow *follow = bus_follow(b->world.bus, PREFIX "results", 0, BUS_BEGIN, &log, b, &err);
    struct worker_options o = {.world = &b->world, .name = "bench", .queue = "default", .handlers = defs, .parallel = b->o.window, .buffer = 64 << 20,
                               .load_size = 16 << 20, .linger_ms = 2000, .inside = true, .failed = on_failed, .arg = b};
    double cpu = cpu_s(RUSAGE_SELF);
    int64_t begin = loop_now_us(b->loop);
    struct worker *w = worker_start(&o, &err);
    if (w == NULL || follow == NULL)
        give_up(err.text);
    if (!loop_until(b->loop, all_done, b, 600 * US_PER_S))
        give_up("not done in ten minutes");
    b->seconds = (double)(loop_now_us(b->loop) - begin) / 1e6;
    b->cpu_s = cpu_s(RUSAGE_SELF) - cpu;
    worker_drain(w, 1000, true, on_drained, b);
    if (!loop_until(b->loop, is_drained, b, 60 * US_PER_S))
        give_up("the worker does not leave");
    worker_free(w);
    bus_follow_stop(follow);
    if (b->done != b->o.items || b->sink.rows < b->o.items)
        give_up("items or rows are missing");
}

static void run(struct bench *b)
{
    static const struct http_ops ops = {.send = sink_send, .cancel = sink_cancel};
    b->sink = (struct sink){.http = {&ops}, .loop = b->loop};
    rnd_seeded(&b->rnd, 42);
    struct auth *auth = auth_anonymous();
    struct bus *bus = bus_memory(b->loop, &(struct bus_memory_options){.max_queued = INT64_MAX});
    struct bq *bq = bq_new(&(struct bq_options){.loop = b->loop, .http = &b->sink.http, .auth = auth, .rnd = &b->rnd, .metrics = &b->metrics,
                                                .base_url = "http://sink", .project = "p"});
    struct children *children = children_posix(b->loop);
    b->world = (struct world){.loop = b->loop, .rnd = &b->rnd, .bus = bus, .bq = bq, .children = children, .metrics = &b->metrics, .prefix = PREFIX};
    struct handler_def def = {.name = xstrdup("work"), .kind = HANDLER_EXEC, .argv = b->o.argv, .start_timeout_ms = 60000, .window = b->o.window};
    struct handler_defs defs = {.v = &def, .count = 1};
    make_topics(b);
    publish_record(b);
    publish_items(b);
    if (!loop_until(b->loop, all_acked, b, 60 * US_PER_S))
        give_up("the items are not all on the bus");
    measure(b, &defs);
    free(def.name);
    children_free(children); /* reaped: their processor time is known */
    double each = 1e6 / (double)b->o.items;
    printf("{\"items\":%" PRId64 ",\"seconds\":%.4f,\"per_s\":%.0f,\"cpu_us\":%.3f,\"handler_cpu_us\":%.3f,\"rows\":%" PRId64 ",\"bytes\":%" PRId64
           ",\"loads\":%" PRId64 "}\n", b->o.items, b->seconds, (double)b->o.items / b->seconds, b->cpu_s * each, cpu_s(RUSAGE_CHILDREN) * each,
           b->sink.rows, b->sink.bytes, b->sink.loads);
    bus_free(bus);
    bq_free(bq);
    auth_free(auth);
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {{"items", 1, NULL, 'n'}, {"window", 1, NULL, 'w'}, {"payloads", 1, NULL, 'p'}, {"schema", 1, NULL, 's'},
                                          {"params", 1, NULL, 'a'}, {"lines", 1, NULL, 'l'}, {NULL, 0, NULL, 0}};
    struct options o = {.items = 1000000, .window = 64, .schema = COLUMNS};
    for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) != -1;)
        switch (c) {
        case 'n': o.items = strtoll(optarg, NULL, 10); break;
        case 'w': o.window = strtoll(optarg, NULL, 10); break;
        case 'p': o.payloads = optarg; break;
        case 's': o.schema = optarg; break;
        case 'a': o.params = optarg; break;
        case 'l': o.lines = optarg; break;
        default: exit(2);
        }
    o.argv = argv + optind;
    if (o.items < 1 || o.window < 1 || (o.lines == NULL && o.argv[0] == NULL)) {
        fprintf(stderr, "exec_bench: [--items N] [--window W] [--payloads FILE] [--schema FIELDS] [--params JSON] [--lines FILE] -- HANDLER...\n");
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    struct bench b = {.o = parse(argc, argv), .loop = loop_new()};
    read_payloads(&b);
    make_record(&b);
    if (b.o.lines != NULL)
        write_lines(&b);
    else
        run(&b);
    for (size_t i = 0; i < b.payload_count; i++)
        free(b.payloads[i]);
    free(b.payloads);
    record_free(b.record);
    loop_free(b.loop);
    return 0;
}
