#include "coordinator/spec.h"

#include <setjmp.h>
#include <unistd.h>
#include <cmocka.h>

/* Every complaint about a spec names its place, and what would be right. */

static char folder[] = "/tmp/bqfleet_spec_XXXXXX";
static char path[64];

#define ITEMS "items: {list: [a, b]}\n"
#define JOB "job: {handler: h}\n"
#define WRITE "write: {table: d.t, keys: [k]}\n"
#define HANDLERS "handlers: {h: {exec: [cat]}}\n"
#define SPEC "batch: b\n" ITEMS JOB WRITE

static const char *fake_env(const char *name)
{
    return strcmp(name, "SEASON") == 0 ? "2025" : NULL;
}

static struct spec *load(const char *text, bool embedded, char *const *sets, struct error *err)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return spec_load(path, sets, fake_env, embedded, err);
}

static struct spec *good(const char *text)
{
    struct error err = ERROR_INIT;
    struct spec *s = load(text, false, NULL, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

/* complaint: what follows the path. */
static void refused(const char *text, bool embedded, char *const *sets, const char *complaint)
{
    struct error err = ERROR_INIT;
    assert_null(load(text, embedded, sets, &err));
    const char *said = strncmp(err.text, path, strlen(path)) == 0 ? err.text + strlen(path) : err.text;
    if (err.kind != ERR_USAGE || strstr(said, complaint) != said)
        fail_msg("%s: \"%s\"\nwanted \"%s\"\nfor: %s", error_kind_name(err.kind), said, complaint, text);
}

static void a_spec_is_read_with_its_defaults(void **state)
{
    (void)state;
    AUTO(spec_free_auto) struct spec *s = good(SPEC);
    assert_string_equal(s->batch, "b");
    assert_string_equal(s->queue, "default");
    assert_null(s->project);
    assert_int_equal(s->items.kind, ITEMS_LIST);
    assert_int_equal(s->items.list_count, 2);
    assert_int_equal(s->job.timeout_ms, 300000);
    assert_int_equal(s->job.attempts, 5);
    assert_null(s->job.params);
    assert_int_equal(s->write.mode, WRITE_MERGE);
    assert_int_equal(s->write.via, VIA_STAGING);
    assert_int_equal(s->finish.every_ms, 0);
    assert_int_equal(s->finish.fold.tolerate_count, 0);
    assert_int_equal(s->finish.fold.stop_after, 20);
}

static void every_field_of_a_spec_is_read(void **state)
{
    (void)state;
    AUTO(spec_free_auto) struct spec *s = good(
        "batch: projections\nproject: my-project\nqueue: big\n"
        "items: {file: sub/players.ndjson, key: player_id}\n"
        "job:\n  handler: predict\n  params:\n    season: ${SEASON}\n  timeout: 30s\n  attempts: 3\n"
        "handlers:\n  predict: {exec: [python3, predict.py], start_timeout: 120s}\n"
        "write:\n  table: dataset.t\n  mode: merge\n  via: staging\n  keys: [player_id, season]\n  order_by: created_at\n"
        "  insert_only: [created_at]\n  staging: scratch\n  location: EU\n  labels: {team: stats}\n  max_bytes_billed: 10GiB\n"
        "finish: {every: 60s, tolerate: 2.5%, stop_after: 0}\n");
    assert_string_equal(s->project, "my-project");
    assert_string_equal(s->queue, "big");
    assert_int_equal(s->items.kind, ITEMS_FILE);
    AUTO(free_ptr) char *items = xasprintf("%s/sub/players.ndjson", folder);
    assert_string_equal(s->items.source, items); /* relative to the spec, not to us */
    assert_string_equal(s->items.key, "player_id");
    assert_int_equal(doc_int(s->job.params, "season", 0), 2025);
    assert_int_equal(s->job.timeout_ms, 30000);
    assert_int_equal(s->job.attempts, 3);
    const struct handler_def *h = handler_defs_find(&s->handlers, "predict");
    assert_non_null(h);
    assert_string_equal(h->dir, folder);
    assert_int_equal(s->write.key_count, 2);
    assert_string_equal(s->write.keys[1], "season");
    assert_string_equal(s->write.order_by[0], "created_at");
    assert_string_equal(s->write.insert_only[0], "created_at");
    assert_string_equal(s->write.staging, "scratch");
    assert_string_equal(s->write.location, "EU");
    assert_string_equal(doc_str(s->write.labels, "team", ""), "stats");
    assert_int_equal(s->write.max_bytes_billed, INT64_C(10) << 30);
    assert_int_equal(s->finish.every_ms, 60000);
    assert_true(s->finish.fold.tolerate_count < 0 && s->finish.fold.tolerate_percent == 2.5);
    assert_int_equal(s->finish.fold.stop_after, 0);
    assert_int_equal(doc_int(s->as_written, "job.params.season", 0), 2025);
}

static void a_mistake_is_told_with_file_line_and_column(void **state)
{
    (void)state;
    const struct { const char *text, *complaint; } bad[] = {
        {"batch: [b\n", ":"},
        {"just words\n", ":1:1: a spec is a map of sections"},
        {"", ":1:1: a spec is a map of sections"},
        {ITEMS JOB WRITE, ":1:1: batch is missing"},
        {"batch: b\n" JOB WRITE, ":1:1: the section \"items\" is missing"},
        {"batch: b\n" ITEMS WRITE, ":1:1: the section \"job\" is missing"},
        {"batch: b\n" ITEMS JOB, ":1:1: the section \"write\" is missing"},
        {SPEC "wirte: {}\n", ":5:1: unknown key \"wirte\"; did you mean \"write\"?"},
        {SPEC "batch: c\n", ":5:1: \"batch\" is given twice"},
        {"batch: \"a b\"\n" ITEMS JOB WRITE, ":1:8: spec: batch"},
        {"batch: b\nqueue: ../x\n" ITEMS JOB WRITE, ":2:8: spec: queue"},
        {"batch: b\n" ITEMS "job: {handlr: h}\n" WRITE, ":3:7: unknown key \"handlr\"; did you mean \"handler\"?"},
        {"batch: b\n" ITEMS "job: {timeout: 1s}\n" WRITE, ":3:6: job.handler is missing"},
        {"batch: b\n" ITEMS "job: {handler: h, timeout: 30}\n" WRITE, ":3:28: timeout: \"30\" is not a duration; write e.g. 250ms, 30s"},
        {"batch: b\n" ITEMS "job: {handler: h, timeout: 0}\n" WRITE, ":3:28: job.timeout"},
        {"batch: b\n" ITEMS "job: {handler: h, attempts: many}\n" WRITE, ":3:29: attempts: "},
        {"batch: b\n" ITEMS "job: {handler: h, attempts: 0}\n" WRITE, ":3:29: attempts: "},
        {"batch: b\n" ITEMS "job: [h]\n" WRITE, ":3:6: a map"},
        {SPEC "finish: {tolerate: some}\n", ":5:20: finish.tolerate: "},
        {SPEC "finish: {every: 60}\n", ":5:17: every: \"60\" is not a duration"},
        {SPEC "handlers: {h: {exec: []}}\n", ":5:"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused(bad[i].text, false, NULL, bad[i].complaint);
}

static void items_come_from_one_place_with_what_it_needs(void **state)
{
    (void)state;
    const struct { const char *items, *complaint; } bad[] = {
        {"{key: k}", ":2:8: items: say where they come from"},
        {"{fiel: x}", ":2:9: unknown key \"fiel\"; did you mean \"file\"?"},
        {"{file: a, csv: b, key: k}", ":2:23: items: file and csv are both given"},
        {"{file: a}", ":2:8: items.key is missing; name the field"},
        {"{csv: a}", ":2:8: items.key is missing; name the column"},
        {"{query: SELECT 1}", ":2:8: items.key is missing; name the column"},
        {"{lines: a, key: k}", ":2:24: items.key: with lines the line itself is the key"},
        {"{list: [a], key: k}", ":2:25: items.key: with list the value itself is the key"},
        {"{list: {a: b}}", ":2:15: list: a list belongs here"},
        {"{list: [[a]]}", ":2:16: list: a list of plain values"},
        {"{file: \"\", key: k}", ":2:15: items.file: is empty"},
        {"{range: {from: 1}}", ":2:16: items.range.to is missing"},
        {"{range: {from: 1, to: x}}", ":2:30: to: "},
        {"{range: {from: 5, to: 4}}", ":2:16: items.range: to (4) is less than from (5)"},
        {"{range: {from: 1, to: 1000000001}}", ":2:16: items.range: more than 1000000000 items"},
        {"{range: {from: 1, to: 3, by: 2}}", ":2:33: unknown key \"by\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(free_ptr) char *text = xasprintf("batch: b\nitems: %s\n" JOB WRITE, bad[i].items);
        refused(text, false, NULL, bad[i].complaint);
    }
}

static void what_cannot_go_together_is_refused(void **state)
{
    (void)state;
    const struct { const char *write, *complaint; } bad[] = {
        {"{keys: [k]}", ":4:8: write.table is missing"},
        {"{table: d.t}", ":4:8: write.keys is missing; mode: merge needs"},
        {"{table: t, keys: [k]}", ":4:16: write.table: "},
        {"{table: d.t, keys: [k, K]}", ":4:31: write.keys: \"K\" is given twice"},
        {"{table: d.t, keys: [\"a`b\"]}", ":4:28: write.keys: \"a`b\" is no name of a column"},
        {"{table: d.t, mode: merg, keys: [k]}", ":4:27: mode: \"merg\" is not one of merge, append, replace, replace-partitions, none; did you mean \"merge\"?"},
        {"{table: d.t, mode: append, insert_only: [k]}", ":4:48: write.insert_only: only mode: merge"},
        {"{table: d.t, mode: append, null_keys: equal}", ":4:46: write.null_keys: says how NULL compares"},
        {"{table: d.t, keys: [k], null_keys: same}", ":4:43: null_keys: \"same\" is not one of refuse, equal, distinct"},
        {"{mode: none, null_keys: equal}", ":4:32: write.null_keys: means nothing with mode: none"},
        {"{table: d.t, mode: append, order_by: x}", ":4:45: write.order_by: says which row wins"},
        {"{table: d.t, keys: [k], insert_only: [k]}", ":4:45: write.insert_only: \"k\" is a key"},
        {"{mode: none, keys: [k]}", ":4:27: write.keys: means nothing with mode: none"},
        {"{mode: none, table: d.t}", ":4:28: write.table: means nothing with mode: none"},
        {"{table: d.t, mode: replace, via: direct}", ":4:41: write.via: direct writes in many increments, and with mode: replace each would delete"},
        {"{table: d.t, keys: [k], via: direct, permits: 0}", ":4:54: write.permits: workers that write directly must take turns"},
        {"{table: d.t, mode: replace, via: worker-tables}", ":4:41: write.via: worker-tables shows rows beside those that were there before"},
        {"{table: d.t, mode: append, keys: [k], via: worker-tables}", ":4:41: write.keys: with via: worker-tables, mode: append shows every row"},
        {"{table: d.t, keys: [k], via: worker-tables, insert_only: [a]}", ":4:65: write.insert_only: with via: worker-tables rows are shown as they were loaded"},
        {"{table: d.t, keys: [k], via: worker-tables, null_keys: distinct}", ":4:63: write.null_keys: distinct is not for via: worker-tables"},
        {"{table: d.t, keys: [k], via: worker-tables, permits: 2}", ":4:61: write.permits: with via: worker-tables no statement changes a table that others write"},
        {"{table: d.t, mode: replace-partitions, via: direct}", ":4:52: write.via: direct writes in many increments, and with mode: replace-partitions each"},
        {"{table: d.t, keys: [k], max_bytes_billed: 10G}", ":4:50: max_bytes_billed: \"10G\" is not a size"},
        {"{table: d.t, keys: [k], labels: {A: b}}", ":4:41: write.labels: \"A\""},
        {"{table: d.t, keys: [k], labels: {a: [b]}}", ":4:44: write.labels.a"},
        {"{table: d.t, keys: [k], labels: [a]}", ":4:40: labels: a map"},
        {"{table: d.t, keys: [k], staging: \"a b\"}", ":4:41: write.staging: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(free_ptr) char *text = xasprintf("batch: b\n" ITEMS JOB "write: %s\n", bad[i].write);
        refused(text, false, NULL, bad[i].complaint);
    }
    refused("batch: b\n" ITEMS JOB "write: {table: d.t, mode: replace}\nfinish: {every: 60s}\n", false, NULL,
            ":5:17: finish.every: cannot be combined with write.mode: replace,");
    refused("batch: b\n" ITEMS JOB "write: {table: d.t, mode: replace-partitions}\nfinish: {every: 60s}\n", false, NULL,
            ":5:17: finish.every: cannot be combined with write.mode: replace-partitions");
    refused("batch: b\n" ITEMS JOB "write: {table: d.t, keys: [k], via: direct}\nfinish: {every: 60s}\n", false, NULL,
            ":5:17: finish.every: with write.via: direct every worker writes as soon as it may");
    refused("batch: b\n" ITEMS JOB "write: {mode: none}\nfinish: {every: 60s}\n", false, NULL, ":5:17: finish.every: nothing is written");
}

static void an_embedded_run_needs_its_handler_defined(void **state)
{
    (void)state;
    refused(SPEC, true, NULL, ":3:16: job.handler: handlers does not define \"h\"");
    refused("batch: b\n" ITEMS "job: {handler: predcit}\n" WRITE "handlers: {predict: {exec: [cat]}}\n", true, NULL,
            ":3:16: job.handler: handlers does not define \"predcit\"; did you mean \"predict\"?");
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *s = load(SPEC HANDLERS, true, NULL, &err);
    assert_non_null(s);
}

static void set_overrides_and_is_named_in_its_complaints(void **state)
{
    (void)state;
    char *sets[] = {(char *)"write.table=x.y", (char *)"finish.tolerate=3", NULL};
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *s = load(SPEC, false, sets, &err);
    assert_non_null(s);
    assert_string_equal(s->write.table, "x.y");
    assert_int_equal(s->finish.fold.tolerate_count, 3);
    assert_string_equal(doc_str(s->as_written, "write.table", ""), "x.y");
    char *bad[] = {(char *)"job.timeout=soon", NULL};
    refused(SPEC, false, bad, "--set job.timeout: timeout: \"soon\" is not a duration");
    char *unknown[] = {(char *)"write.tabel=x.y", NULL};
    refused(SPEC, false, unknown, "--set write.tabel: unknown key \"tabel\"; did you mean \"table\"?");
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_null(spec_load("/nowhere/spec.yaml", NULL, fake_env, false, &err));
    assert_int_equal(err.kind, ERR_USAGE);
    assert_non_null(strstr(err.text, "/nowhere/spec.yaml: cannot be read: No such file"));
}

static void a_schema_for_a_new_target_may_be_written_in_several_ways(void **state)
{
    (void)state;
    static const char *const ways[] = {
        "{id: STRING REQUIRED, n: INT64, at: TIMESTAMP}",
        "{fields: {id: STRING REQUIRED, n: INT64, at: TIMESTAMP}}",
        "{fields: [\"id:STRING REQUIRED\", \"n:INT64\", \"at:TIMESTAMP\"]}",
        "{fields: \"id:STRING REQUIRED, n:INT64, at:TIMESTAMP\"}",
        "{fields: [{name: id, type: STRING, mode: REQUIRED}, {name: n, type: INTEGER}, {name: at, type: TIMESTAMP}]}",
    };
    AUTO(doc_free_auto) doc *first = NULL;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        AUTO(free_ptr) char *text = xasprintf("batch: b\n" ITEMS JOB "write: {table: d.t, keys: [id], create: %s}\n", ways[i]);
        AUTO(spec_free_auto) struct spec *s = good(text);
        assert_non_null(s->write.create);
        if (first == NULL)
            first = doc_ref(s->write.create);
        assert_true(doc_equal(first, s->write.create));
    }
    assert_string_equal(doc_str(first, "fields.0.mode", ""), "REQUIRED");
    assert_string_equal(doc_str(first, "fields.1.name", ""), "n");
}

static void a_new_target_may_be_partitioned_and_clustered(void **state)
{
    (void)state;
#define CREATE(rest) "batch: b\n" ITEMS JOB "write: {table: d.t, keys: [id], create: {fields: {id: INT64, day: DATE, s: STRING}, " rest "}}\n"
    AUTO(spec_free_auto) struct spec *by_day = good(CREATE("partition_by: day, cluster_by: id"));
    assert_string_equal(doc_str(by_day->write.create_partitioning, "timePartitioning.type", ""), "DAY");
    assert_string_equal(doc_str(by_day->write.create_partitioning, "timePartitioning.field", ""), "day");
    assert_string_equal(by_day->write.create_cluster, "id");
    AUTO(spec_free_auto) struct spec *by_month = good(CREATE("partition_by: {column: day, by: MONTH}"));
    assert_string_equal(doc_str(by_month->write.create_partitioning, "timePartitioning.type", ""), "MONTH");
    AUTO(spec_free_auto) struct spec *by_range = good(CREATE("partition_by: {column: id, start: 0, end: 100, interval: 10}"));
    assert_string_equal(doc_str(by_range->write.create_partitioning, "rangePartitioning.range.end", ""), "100");
    refused(CREATE("partition_by: nope"), false, NULL, ":4:99: write.create.partition_by: there is no column \"nope\"");
    refused(CREATE("partition_by: s"), false, NULL, ":4:99: write.create.partition_by: column \"s\" is no DATE");
    refused(CREATE("partition_by: id"), false, NULL, ":4:99: write.create.partition_by: an INT64 column needs");
    refused(CREATE("partition_by: {column: day, by: HOUR}"), false, NULL, ":4:117: write.create.partition_by: a DATE has no hours");
    refused(CREATE("cluster_by: nope"), false, NULL, ":4:97: write.create.cluster_by: there is no column");
    refused("batch: b\n" ITEMS JOB "write: {table: d.t, keys: [id], create: {id: STRNG}}\n", false, NULL, ":4:42: write.create: schema: ");
}

/* As an exec handler it has a window, an environment and a start; its program is this one, as a host. */
static void a_plugin_handler_is_an_exec_of_our_own_host(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct spec *s = load("batch: b\n" ITEMS WRITE "job: {handler: h}\nhandlers: {h: {plugin: ./libh.so, window: 64, start_timeout: 9s, env: {A: b}}}\n", false, NULL, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    const struct handler_def *h = handler_defs_find(&s->handlers, "h");
    assert_int_equal(h->kind, HANDLER_EXEC);
    assert_string_equal(h->argv[0], "/proc/self/exe");
    assert_string_equal(h->argv[1], "--plugin-host");
    assert_string_equal(h->argv[2], "./libh.so");
    assert_null(h->argv[3]);
    assert_int_equal(h->window, 64);
    assert_int_equal(h->start_timeout_ms, 9000);
    assert_string_equal(h->env[0], "A=b");
    spec_free(s);
    refused("batch: b\n" ITEMS WRITE "job: {handler: h}\nhandlers: {h: {plugin: ./libh.so}}\n", true, NULL, ":5:15: handlers: handler h: the library");
    refused("batch: b\n" ITEMS WRITE "job: {handler: h}\nhandlers: {h: {plugin: [a, b]}}\n", true, NULL, ":5:24: plugin: names no library");
    refused("batch: b\n" ITEMS WRITE "job: {handler: h}\nhandlers: {h: {plugin: a, exec: b}}\n", true, NULL, ":5:15: handler h: needs exactly one of");
    struct handler_defs defs = {.count = 0};
    assert_int_equal(handler_defs_add(&defs, "g=plugin:/opt/lib g.so", &err), 0);
    assert_string_equal(defs.v[0].argv[2], "/opt/lib g.so");
    handler_defs_free(&defs);
}

static void a_query_handler_is_one_select_written_there_or_in_a_file(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    AUTO(free_ptr) char *file = xasprintf("%s/rows.sql", folder);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs("SELECT i.item FROM UNNEST(@items) AS i; -- all", f);
    fclose(f);
    struct spec *s = load("batch: b\n" ITEMS WRITE "job: {handler: predict}\nhandlers: {predict: {query: {file: rows.sql}, window: 500}}\n", true, NULL, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    const struct handler_def *h = handler_defs_find(&s->handlers, "predict");
    assert_int_equal(h->kind, HANDLER_QUERY);
    assert_string_equal(h->sql, "SELECT i.item FROM UNNEST(@items) AS i");
    assert_int_equal(h->window, 500);
    spec_free(s);
    s = load("batch: b\n" ITEMS WRITE "job: {handler: predict}\nhandlers:\n  predict: {query: 'SELECT 1'}\n", true, NULL, &err);
    assert_int_equal(handler_defs_find(&s->handlers, "predict")->window, 1000);
    spec_free(s);
    const struct { const char *def, *complaint; } bad[] = {
        {"{query: 'DELETE FROM d.t WHERE TRUE'}", ": query: line 1: it begins with DELETE"},
        {"{query: {file: none.sql}}", "none.sql"},
        {"{query: {fil: rows.sql}}", "file"},
        {"{query: {}}", "query: names no file"},
        {"{query: [a, b]}", "query: write query: \"SELECT ...\""},
        {"{query: 'SELECT 1', window: 0}", "window"},
        {"{query: 'SELECT 1', window: 10001}", "window"},
        {"{query: 'SELECT 1', env: {A: b}}", "env: a query runs in BigQuery and has none"},
        {"{query: 'SELECT 1', exec: cat}", "needs exactly one of"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(free_ptr) char *text = xasprintf("batch: b\n" ITEMS WRITE "job: {handler: predict}\nhandlers:\n  predict: %s\n", bad[i].def);
        err = ERROR_INIT;
        s = load(text, true, NULL, &err);
        if (s != NULL || strstr(err.text, bad[i].complaint) == NULL || err.kind != ERR_USAGE)
            fail_msg("%s: %s", bad[i].def, err.text);
    }
    struct handler_defs defs = {.v = NULL};
    AUTO(free_ptr) char *assignment = xasprintf("rows=query:%s", file);
    assert_int_equal(handler_defs_add(&defs, assignment, &err), 0);
    assert_int_equal(defs.v[0].kind, HANDLER_QUERY);
    assert_int_equal(handler_defs_add(&defs, "more=query:none.sql", &err), -1);
    handler_defs_free(&defs);
    unlink(file);
}

static void a_rehearsal_says_what_an_item_takes(void **state)
{
    (void)state;
    const struct { const char *time; int64_t us; } good[] = {{"50ms", 50000}, {"5us", 5}, {"0", 0}, {"2s", 2000000}};
    struct error err = ERROR_INIT;
    struct handler_defs defs = {.v = NULL};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        AUTO(free_ptr) char *text = xasprintf("batch: b\n" ITEMS WRITE "job: {handler: h}\nhandlers: {h: {noop: %s}}\n", good[i].time);
        AUTO(free_ptr) char *assignment = xasprintf("h%zu=noop:%s", i, good[i].time);
        AUTO(spec_free_auto) struct spec *s = load(text, true, NULL, &err);
        if (s == NULL || handler_defs_add(&defs, assignment, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(handler_defs_find(&s->handlers, "h")->kind, HANDLER_NOOP);
        assert_int_equal(handler_defs_find(&s->handlers, "h")->noop_us, good[i].us);
        assert_int_equal(defs.v[i].noop_us, good[i].us);
    }
    assert_int_equal(handler_defs_add(&defs, "none=noop:", &err), 0);
    assert_int_equal(defs.v[ARRAY_LEN(good)].noop_us, 0);
    handler_defs_free(&defs);
    assert_int_equal(handler_defs_add(&defs, "h=noop:soon", &err), -1);
    assert_string_equal(err.text, "--handler h: \"soon\" is not a duration; write e.g. 250ms, 30s, 5m, 1h");
    handler_defs_free(&defs);
}

static void the_example_of_init_loads_as_it_is(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *s = load(spec_example, true, NULL, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    assert_string_equal(s->batch, "squares");
    const struct handler_def *h = handler_defs_find(&s->handlers, "square");
    assert_int_equal(h->kind, HANDLER_COMMAND);
    assert_string_equal(h->argv[2], "echo \"{\\\"n\\\": $1, \\\"square\\\": $(($1 * $1))}\"");
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/spec.yaml", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_is_read_with_its_defaults),
        cmocka_unit_test(every_field_of_a_spec_is_read),
        cmocka_unit_test(a_mistake_is_told_with_file_line_and_column),
        cmocka_unit_test(items_come_from_one_place_with_what_it_needs),
        cmocka_unit_test(what_cannot_go_together_is_refused),
        cmocka_unit_test(an_embedded_run_needs_its_handler_defined),
        cmocka_unit_test(set_overrides_and_is_named_in_its_complaints),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
        cmocka_unit_test(a_schema_for_a_new_target_may_be_written_in_several_ways),
        cmocka_unit_test(a_new_target_may_be_partitioned_and_clustered),
        cmocka_unit_test(a_plugin_handler_is_an_exec_of_our_own_host),
        cmocka_unit_test(a_query_handler_is_one_select_written_there_or_in_a_file),
        cmocka_unit_test(a_rehearsal_says_what_an_item_takes),
        cmocka_unit_test(the_example_of_init_loads_as_it_is),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
