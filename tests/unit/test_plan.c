#include "coordinator/plan.h"

#include <stdarg.h>
#include <setjmp.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/plan_sql.h"
#include "coordinator/topics.h"
#include "tests/unit/support_bqscript.h"

/* A spec and its target make a run's record; what does not fit is told before anything is published. */

#define TABLE_GET "GET", "/projects/p/datasets/d/tables/t", NULL
#define DATASET_GET "GET", "/projects/p/datasets/d?", NULL
#define STAGING_GET "GET", "/projects/p/datasets/scratch?", NULL
#define NOT_FOUND 404, "{\"error\":{\"message\":\"Not found\",\"errors\":[{\"reason\":\"notFound\",\"message\":\"Not found\"}]}}", NULL
#define TABLE(type, rest)                                                                                                               \
    "{\"tableReference\":{\"projectId\":\"p\",\"datasetId\":\"d\",\"tableId\":\"t\"},\"type\":\"" type "\",\"location\":\"EU\"," rest           \
    "\"schema\":{\"fields\":[{\"name\":\"Id\",\"type\":\"STRING\",\"mode\":\"REQUIRED\"},{\"name\":\"day\",\"type\":\"DATE\"},"                      \
    "{\"name\":\"score\",\"type\":\"FLOAT\"},{\"name\":\"at\",\"type\":\"TIMESTAMP\"}]}}"
#define BY_DAY "\"timePartitioning\":{\"type\":\"DAY\",\"field\":\"day\"},"
#define FILTERED BY_DAY "\"requirePartitionFilter\":true,"
#define HEAD "batch: b\nitems: {list: [a]}\njob: {handler: h, params: {x: 1}}\n"

static char folder[] = "/tmp/bqfleet_plan_XXXXXX";
static char path[64];

struct planned { bool over, creates; struct record *record; struct error err; };

static void on_plan(void *arg, struct record *record, const struct error *err)
{
    struct planned *p = arg;
    assert_false(p->over);
    p->over = true;
    p->record = record;
    if (err != NULL)
        p->err = *err;
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static struct spec *spec_of(const char *text)
{
    struct error err = ERROR_INIT;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    struct spec *s = spec_load(path, NULL, no_env, false, &err);
    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static struct planned plan_with(const char *text, bool dry, const char *run_id, const char *location, const struct line *lines, size_t count)
{
    struct script s;
    struct planned p = {0};
    script_begin(&s, lines, count);
    AUTO(spec_free_auto) struct spec *spec = spec_of(text);
    struct world world = {.loop = s.loop, .rnd = &s.rnd, .bq = s.bq};
    struct plan_options o = {.world = &world, .spec = spec, .run_id = run_id, .location = location, .dry = dry, .creates = &p.creates};
    plan_start(&o, on_plan, &p);
    assert_false(p.over); /* never from inside */
    script_run(&s, &p.over);
    script_end(&s);
    return p;
}
#define PLAN(text, dry, ...) plan_with(text, dry, NULL, NULL, (const struct line[]){__VA_ARGS__}, sizeof((const struct line[]){__VA_ARGS__}) / sizeof(struct line))

static void refused(struct planned p, enum error_kind kind, const char *said)
{
    assert_null(p.record);
    const char *text = strncmp(p.err.text, path, strlen(path)) == 0 ? p.err.text + strlen(path) : p.err.text;
    if (p.err.kind != kind || strstr(text, said) != text)
        fail_msg("%s: \"%s\" instead of \"%s\"", error_kind_name(p.err.kind), text, said);
}

static struct record *planned(struct planned p)
{
    if (p.record == NULL)
        fail_msg("%s", p.err.text);
    return p.record;
}

static void a_record_has_what_spec_and_target_say(void **state)
{
    (void)state;
    const struct line lines[] = {{TABLE_GET, 200, TABLE("TABLE", BY_DAY), NULL}};
    AUTO(record_free_auto) struct record *r = planned(plan_with(HEAD "write: {table: d.t, keys: [id, DAY], order_by: at, max_bytes_billed: 1GB}\n", false,
                                                                "my-run_1", NULL, lines, 1));
    assert_string_equal(r->run, "my-run_1");
    assert_string_equal(r->batch, "b");
    assert_string_equal(r->queue, "default");
    assert_string_equal(r->handler, "h");
    assert_int_equal(strlen(r->nonce), 16);
    assert_int_equal(r->created_ms / 1000000000, 1700);
    assert_string_equal(r->project, "p");
    assert_string_equal(r->location, "EU");
    assert_string_equal(r->target.project, "p");
    assert_string_equal(r->target.table, "t");
    assert_string_equal(r->staging_dataset, "d");
    assert_int_equal(r->schema->count, 4);
    assert_string_equal(doc_str(r->schema_doc, "fields.0.name", ""), "Id");
    assert_string_equal(r->partition_column, "day"); /* as the table writes it */
    assert_int_equal(r->max_bytes_billed, 1000000000);
    assert_int_equal(doc_int(r->params, "x", 0), 1);
    assert_string_equal(doc_str(r->spec, "write.table", ""), "d.t");
    /* What goes to the bus is read back the same. */
    AUTO(doc_free_auto) doc *d = record_to_doc(r);
    AUTO(free_ptr) char *text = doc_text(d);
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *again = record_parse(text, strlen(text), &err);
    assert_non_null(again);
    assert_string_equal(again->keys[1], "DAY");
}

static void a_target_that_does_not_exist_is_refused_with_an_offer(void **state)
{
    (void)state;
    refused(PLAN(HEAD "write: {table: d.t, keys: [id]}\n", false, {TABLE_GET, NOT_FOUND}, {DATASET_GET, 200, "{\"location\":\"EU\"}", NULL}), ERR_USAGE,
            ":4:16: write.table: p.d.t does not exist; create it, or let bqfleet do so by giving its columns in the spec: write: {create: {fields: ");
    refused(PLAN(HEAD "write: {table: d.t, keys: [id], create: {id: STRING}}\n", false, {TABLE_GET, NOT_FOUND}, {DATASET_GET, NOT_FOUND}), ERR_USAGE,
            ":4:16: write.table: dataset p.d does not exist; create it first");
}

#define CREATE HEAD "write: {table: d.t, keys: [id, n], create: {fields: {id: STRING REQUIRED, n: INT64}, partition_by: {column: n, start: 0, end: 9, interval: 1}}}\n"

static void a_target_is_created_when_the_spec_has_its_columns(void **state)
{
    (void)state;
    struct planned p = PLAN(CREATE, false, {TABLE_GET, NOT_FOUND}, {DATASET_GET, 200, "{\"location\":\"EU\"}", NULL},
                            {"POST", "/projects/p/datasets/d/tables", "\"rangePartitioning\"", 200, "{\"tableReference\":{}}", NULL}, {TABLE_GET, 200, TABLE("TABLE", ""), NULL});
    refused(p, ERR_USAGE, ":4:8: write.keys: "); /* somebody else's table was there by then, and it has no column n */
    assert_true(p.creates);
}

static void a_dry_plan_creates_nothing(void **state)
{
    (void)state;
    struct planned p = PLAN(CREATE, true, {TABLE_GET, NOT_FOUND}, {DATASET_GET, 200, "{\"location\":\"EU\"}", NULL});
    AUTO(record_free_auto) struct record *r = planned(p);
    assert_true(p.creates);
    assert_int_equal(r->schema->count, 2);
    assert_string_equal(r->partition_column, "n");
    assert_string_equal(r->location, "EU");
}

static void what_the_target_cannot_do_is_refused(void **state)
{
    (void)state;
    refused(PLAN(HEAD "write: {table: d.t, keys: [id]}\n", false, {TABLE_GET, 200, TABLE("VIEW", ""), NULL}), ERR_USAGE,
            ":4:16: write.table: d.t is of type VIEW; rows can be written to tables only");
    refused(PLAN(HEAD "write: {table: d.t, keys: [nope]}\n", false, {TABLE_GET, 200, TABLE("TABLE", ""), NULL}), ERR_USAGE, ":4:8: write.keys: ");
    refused(PLAN(HEAD "write: {table: d.t, keys: [score]}\n", false, {TABLE_GET, 200, TABLE("TABLE", ""), NULL}), ERR_USAGE, ":4:8: write.keys: ");
    refused(PLAN(HEAD "write: {table: d.t, keys: [id], location: US}\n", false, {TABLE_GET, 200, TABLE("TABLE", ""), NULL}), ERR_USAGE,
            "the target is in location EU, and US was asked for");
    refused(PLAN(HEAD "write: {table: d.t, keys: [id]}\n", false, {TABLE_GET, 200, TABLE("TABLE", FILTERED), NULL}), ERR_USAGE,
            ":4:16: write.table: p.d.t demands a filter on its partition column day, which is none of write.keys");
    refused(PLAN(HEAD "write: {table: d.t, mode: replace}\n", false, {TABLE_GET, 200, TABLE("TABLE", FILTERED), NULL}), ERR_USAGE,
            ":4:16: write.table: p.d.t demands a filter on its partition column day, which mode: replace");
    refused(PLAN(HEAD "write: {table: d.t, keys: [id]}\n", false,
                 {TABLE_GET, 403, "{\"error\":{\"message\":\"no\",\"errors\":[{\"reason\":\"accessDenied\",\"message\":\"no\"}]}}", NULL}),
            ERR_FATAL, "the target d.t: ");
}

static void a_filter_is_no_trouble_where_it_can_be_given(void **state)
{
    (void)state;
    AUTO(record_free_auto) struct record *merged =
        planned(PLAN(HEAD "write: {table: d.t, keys: [id, day]}\n", false, {TABLE_GET, 200, TABLE("TABLE", FILTERED), NULL}));
    assert_string_equal(merged->partition_column, "day");
    AUTO(record_free_auto) struct record *appended =
        planned(PLAN(HEAD "write: {table: d.t, mode: append}\n", false, {TABLE_GET, 200, TABLE("TABLE", FILTERED), NULL}));
    assert_string_equal(appended->partition_column, "");
}

#define IN_TENS "\"rangePartitioning\":{\"field\":\"id\",\"range\":{\"start\":\"5\",\"end\":\"95\",\"interval\":\"10\"}},"
#define PARTS HEAD "write: {table: d.t, mode: replace-partitions}\n"

static void partitions_to_be_replaced_are_in_the_record(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *r = planned(PLAN(PARTS, false, {TABLE_GET, 200, TABLE("TABLE", FILTERED), NULL}));
    assert_int_equal(r->partition.unit, PARTITION_DAY);
    assert_string_equal(r->partition_column, "day");
    AUTO(doc_free_auto) doc *d = record_to_doc(r);
    AUTO(free_ptr) char *text = doc_text(d);
    AUTO(record_free_auto) struct record *again = record_parse(text, strlen(text), &err);
    assert_non_null(again);
    assert_int_equal(again->partition.unit, PARTITION_DAY);
    assert_int_equal(again->partition.type, FIELD_DATE);
    AUTO(record_free_auto) struct record *created = planned(PLAN(
        HEAD "write: {table: d.t, mode: replace-partitions, create: {fields: {n: INT64}, partition_by: {column: n, start: 5, end: 95, interval: 10}}}\n", true,
        {TABLE_GET, NOT_FOUND}, {DATASET_GET, 200, "{\"location\":\"EU\"}", NULL}));
    AUTO(doc_free_auto) doc *d2 = record_to_doc(created);
    AUTO(free_ptr) char *text2 = doc_text(d2);
    AUTO(record_free_auto) struct record *ranges = record_parse(text2, strlen(text2), &err);
    assert_non_null(ranges);
    assert_int_equal(ranges->partition.unit, PARTITION_RANGE);
    assert_true(ranges->partition.start == 5 && ranges->partition.end == 95 && ranges->partition.interval == 10);
}

static void partitions_that_cannot_be_replaced_are_refused(void **state)
{
    (void)state;
    refused(PLAN(PARTS, false, {TABLE_GET, 200, TABLE("TABLE", ""), NULL}), ERR_USAGE, ":4:27: write.mode: p.d.t has no partitions; mode: replace replaces all of it");
    refused(PLAN(PARTS, false, {TABLE_GET, 200, TABLE("TABLE", "\"timePartitioning\":{\"type\":\"DAY\"},"), NULL}), ERR_USAGE,
            ":4:27: write.mode: mode replace-partitions cannot write p.d.t: it is partitioned by ingestion time");
    refused(PLAN(PARTS, false, {TABLE_GET, 200, TABLE("TABLE", IN_TENS), NULL}), ERR_USAGE,
            ":4:27: write.mode: mode replace-partitions cannot write p.d.t: it is partitioned by a range of column Id (STRING)");
}

static void a_staging_dataset_must_be_there_and_where_the_target_is(void **state)
{
    (void)state;
#define STAGED HEAD "write: {table: d.t, keys: [id], staging: scratch}\n"
    const struct line table = {TABLE_GET, 200, TABLE("TABLE", ""), NULL};
    refused(PLAN(STAGED, false, table, {STAGING_GET, NOT_FOUND}), ERR_USAGE, ":4:42: write.staging: dataset p.scratch does not exist; create it in location EU");
    refused(PLAN(STAGED, false, table, {STAGING_GET, 200, "{\"location\":\"US\"}", NULL}), ERR_USAGE,
            ":4:42: write.staging: dataset scratch is in location US and the target in EU");
    refused(PLAN(STAGED, false, table, {STAGING_GET, 200, "{\"location\":\"EU\",\"defaultCollation\":\"und:ci\"}", NULL}), ERR_USAGE,
            ":4:42: write.staging: dataset scratch has a default collation (und:ci)");
    AUTO(record_free_auto) struct record *r = planned(PLAN(STAGED, false, table, {STAGING_GET, 200, "{\"location\":\"EU\"}", NULL}));
    assert_string_equal(r->staging_dataset, "scratch");
}

#define SHOWN HEAD "write: {table: d.t, keys: [id], via: worker-tables, staging: scratch, create: {fields: {id: STRING REQUIRED}}}\n"
#define VIEW "{\"type\":\"VIEW\",\"etag\":\"e\",\"labels\":{\"bqfleet_base\":\"f1\",\"bqfleet_state\":\"free\"}}"
#define BASE_GET "GET", "/projects/p/datasets/d/tables/t_bqfleet_f1", NULL
#define FLEETING "{\"location\":\"EU\",\"defaultTableExpirationMs\":\"3600000\"}"
#define LASTING "{\"location\":\"EU\"}"

static void what_a_view_is_to_show_must_not_expire(void **state)
{
    (void)state;
    const struct line view = {TABLE_GET, 200, VIEW, NULL}, base = {BASE_GET, 200, TABLE("TABLE", ""), NULL};
    refused(PLAN(SHOWN, true, {TABLE_GET, NOT_FOUND}, {DATASET_GET, 200, FLEETING, NULL}), ERR_USAGE,
            ":4:16: write.table: new tables in dataset d go away by themselves");
    refused(PLAN(SHOWN, true, view, base, base, {DATASET_GET, 200, FLEETING, NULL}), ERR_USAGE, ":4:16: write.table: new tables in dataset d go away by themselves");
    refused(PLAN(SHOWN, true, view, base, base, {DATASET_GET, 200, LASTING, NULL}, {STAGING_GET, 200, FLEETING, NULL}), ERR_USAGE,
            ":4:62: write.staging: new tables in dataset scratch go away by themselves");
    refused(PLAN(SHOWN, true, view, {BASE_GET, 200, TABLE("TABLE", "\"expirationTime\":\"1800000000000\","), NULL}), ERR_USAGE,
            "the target d.t: it is a view, and the table behind it, t_bqfleet_f1, is to expire");
    AUTO(record_free_auto) struct record *r = planned(PLAN(SHOWN, true, view, base, base, {DATASET_GET, 200, LASTING, NULL}, {STAGING_GET, 200, LASTING, NULL}));
    assert_string_equal(r->base, "f1");
}

static void without_a_target_nothing_is_asked(void **state)
{
    (void)state;
    AUTO(record_free_auto) struct record *r = planned(plan_with(HEAD "write: {mode: none}\n", false, NULL, NULL, NULL, 0));
    assert_false(r->has_target);
    assert_int_equal(strlen(r->run), ID_LEN);
    refused(plan_with(HEAD "write: {mode: none}\n", false, "No Good", NULL, NULL, 0), ERR_USAGE, "");
}

static void the_statement_shown_reads_no_shard_in_its_dry_form(void **state)
{
    (void)state;
    AUTO(record_free_auto) struct record *r =
        planned(PLAN(HEAD "write: {table: d.t, keys: [id, day], order_by: at}\n", false, {TABLE_GET, 200, TABLE("TABLE", BY_DAY), NULL}));
    struct plan_sql sql = PLAN_SQL_INIT;
    struct error err = ERROR_INIT;
    if (plan_sql_make(r, &sql, &err) != 0)
        fail_msg("%s", err.text);
    assert_non_null(strstr(sql.sql.data, "MERGE"));
    assert_non_null(strstr(sql.sql.data, "bqf_"));
    assert_null(strstr(sql.dry_sql.data, SHARD_PREFIX));
    assert_non_null(strstr(sql.dry_sql.data, "`score` FLOAT64, `at` TIMESTAMP, `bqfleet_item` INT64"));
    if (getenv("BQF_SHOW_SQL") != NULL)
        puts(sql.dry_sql.data);
    plan_sql_free(&sql);
}

static void topics_are_judged_by_what_a_run_needs(void **state)
{
    (void)state;
    struct topic_need needs[TOPIC_COUNT];
    topics_needed("x.", "big", 12, 3, needs);
    assert_string_equal(needs[TOPIC_WORK].name, "x.work.big");
    assert_int_equal(needs[TOPIC_WORK].create.partitions, 12);
    assert_int_equal(needs[TOPIC_BATCHES].create.partitions, 1);
    assert_true(needs[TOPIC_BATCHES].create.compact && needs[TOPIC_WORKERS].create.compact);
    const struct bus_topic good = {.name = "x", .partitions = 12, .replication = 3, .retention_ms = -1, .max_message = 1048588, .min_insync = 2};
    const struct { size_t which; struct bus_topic is; const char *why; } cases[] = {
        {TOPIC_WORK, good, NULL},
        {TOPIC_WORK, {.partitions = 0}, "does not exist: `bqfleet topics create`"},
        {TOPIC_BATCHES, good, "has 12 partitions; its order decides, so it must have 1; cleanup.policy must be compact"},
        {TOPIC_RESULTS, {.partitions = 8, .replication = 3, .retention_ms = -1, .max_message = 1048588, .min_insync = 1}, "min.insync.replicas is 1"},
        {TOPIC_RESULTS, {.partitions = 8, .replication = 1, .retention_ms = -1, .max_message = 1048588, .min_insync = 1}, NULL},
        {TOPIC_RESULTS, {.partitions = 8, .replication = 1, .retention_ms = -1, .max_message = 1048588, .unclean_election = true}, "unclean.leader"},
        {TOPIC_RESULTS, {.partitions = 8, .replication = 1, .retention_ms = 3600000, .max_message = 1048588}, "retention.ms is only 1 h"},
        {TOPIC_WORK, {.partitions = 8, .replication = 1, .retention_ms = -1, .max_message = 1000}, "max.message.bytes is too small"},
        {TOPIC_WORK, {.partitions = 8, .replication = 1, .compact = true, .retention_ms = -1, .max_message = 1048588}, "cleanup.policy must be delete"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(buf_free) struct buf why = BUF_INIT(4096);
        bool wrong = topic_judge(&needs[cases[i].which], &cases[i].is, &why);
        assert_int_equal(wrong, cases[i].why != NULL);
        if (wrong && strstr(why.data, cases[i].why) != why.data)
            fail_msg("\"%s\" instead of \"%s\"", why.data, cases[i].why);
    }
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
        cmocka_unit_test(a_record_has_what_spec_and_target_say),
        cmocka_unit_test(a_target_that_does_not_exist_is_refused_with_an_offer),
        cmocka_unit_test(a_target_is_created_when_the_spec_has_its_columns),
        cmocka_unit_test(a_dry_plan_creates_nothing),
        cmocka_unit_test(what_the_target_cannot_do_is_refused),
        cmocka_unit_test(a_filter_is_no_trouble_where_it_can_be_given),
        cmocka_unit_test(partitions_to_be_replaced_are_in_the_record),
        cmocka_unit_test(partitions_that_cannot_be_replaced_are_refused),
        cmocka_unit_test(a_staging_dataset_must_be_there_and_where_the_target_is),
        cmocka_unit_test(what_a_view_is_to_show_must_not_expire),
        cmocka_unit_test(without_a_target_nothing_is_asked),
        cmocka_unit_test(the_statement_shown_reads_no_shard_in_its_dry_form),
        cmocka_unit_test(topics_are_judged_by_what_a_run_needs),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
