#include "coordinator/dedupe.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/bq/permits_set.h"
#include "tests/bq/internal.h"

/* `bqfleet dedupe` on the model: ds.p is partitioned by n, in tens. */

#define START_US (INT64_C(1767225600) * US_PER_S) /* 2026-01-01 */
struct stage { struct loop *loop; struct bqmodel *m; struct rnd rnd; struct auth *auth; struct world world; };
static const char *const keys[] = {"k", "n"}, *const order[] = {"v"};

static int setup(void **state)
{
    static const char body[] = "{\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"},{\"name\":\"n\",\"type\":\"INTEGER\"},{\"name\":\"v\",\"type\":\"FLOAT\"}]},"
                               "\"rangePartitioning\":{\"field\":\"n\",\"range\":{\"start\":\"0\",\"end\":\"100\",\"interval\":\"10\"}}}";
    struct stage *s = xcalloc(1, sizeof(*s));
    AUTO(doc_free_auto) doc *d = doc_parse(body, strlen(body), "table", NULL);
    struct bq_ref ref = {"local", "ds", "p"};
    struct error err = ERROR_INIT;
    s->loop = loop_new_virtual(START_US);
    s->m = bqmodel_new(s->loop, NULL);
    rnd_seeded(&s->rnd, 7);
    s->auth = auth_anonymous();
    s->world = (struct world){.loop = s->loop, .rnd = &s->rnd};
    s->world.bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->m), .auth = s->auth, .rnd = &s->rnd, .base_url = "http://model", .project = "local"});
    s->world.permits = permits_set_new(s->world.bq, &s->rnd, "test", 0);
    bqmodel_add_dataset(s->m, "ds");
    assert_non_null(model_table_add(s->m, &ref, d, &err));
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct stage *s = *state;
    assert_null(bqmodel_unknown_statement(s->m));
    permits_set_free(s->world.permits);
    bq_free(s->world.bq);
    auth_free(s->auth);
    bqmodel_free(s->m);
    loop_free(s->loop);
    free(s);
    return 0;
}

/* One process's look and work. */
struct copy { struct dedupe d; struct dedupe_choice choice; int signals; };

static void begin(struct stage *s, struct copy *c, size_t key_count)
{
    *c = (struct copy){.choice = {.table = {"local", "ds", "p"}, .keys = keys, .key_count = key_count, .order_by = order, .order_count = 1, .null_keys = NULL_KEYS_EQUAL}};
    dedupe_init(&c->d, &s->world, &c->choice, &c->signals);
}

static void look(struct copy *c)
{
    struct error err = ERROR_INIT;
    if (dedupe_look(&c->d, &err) != 0)
        fail_msg("%s", err.text);
}

static int64_t rewrite(struct copy *c, size_t batch)
{
    struct error err = ERROR_INIT;
    if (dedupe_rewrite(&c->d, &c->d.batches[batch], &err) != 0)
        fail_msg("%s", err.text);
    return c->d.batches[batch].removed;
}

#define R(k, n, v) "{\"k\":\"" k "\",\"n\":" #n ",\"v\":" #v "}"
#define DOUBLED "[" R("a", 1, 1.0) "," R("a", 1, 2.0) "," R("b", 2, 1.0) "," R("c", 31, 5.0) "," R("c", 31, 5.0) "," R("d", 55, null) "," R("d", 55, 0.5) "]"
#define SINGLE "[" R("b", 2, 1.0) "," R("a", 1, 2.0) "," R("c", 31, 5.0) "," R("d", 55, 0.5) "]"

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *sorted(const doc *rows)
{
    size_t n = doc_len(rows);
    char **texts = xcalloc(n + 1, sizeof(*texts));
    struct buf out = BUF_INIT(1 << 20);
    for (size_t i = 0; i < n; i++)
        texts[i] = doc_text(doc_at(rows, i));
    qsort(texts, n, sizeof(*texts), by_text);
    for (size_t i = 0; i < n; i++) {
        buf_xprintf(&out, "%s\n", texts[i]);
        free(texts[i]);
    }
    free(texts);
    return n ? buf_steal(&out) : xstrdup("");
}

static void assert_holds(struct stage *s, const char *json)
{
    AUTO(doc_free_auto) doc *want = doc_parse(json, strlen(json), "rows", NULL), *got = bqmodel_rows(s->m, "ds.p");
    AUTO(free_ptr) char *a = sorted(want), *b = sorted(got);
    assert_string_equal(b, a);
}


static void the_greatest_of_each_key_stays(void **state)
{
    struct stage *s = *state;
    struct copy c;
    bqmodel_insert(s->m, "ds.p", DOUBLED);
    begin(s, &c, 2);
    look(&c);
    assert_int_equal(c.d.too_many, 3);
    assert_int_equal(c.d.batch_count, 3);
    assert_string_equal(c.d.parts[1].id, "30");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(rewrite(&c, i), 1);
    assert_holds(s, SINGLE);
    assert_int_equal(bqmodel_counters(s->m)->merges, 3);
    dedupe_free(&c.d);
    begin(s, &c, 2);
    look(&c);
    assert_int_equal(c.d.batch_count, 0);
    dedupe_free(&c.d);
}

/* The keys do not say the partition: one statement, over all of the table. */
static void keys_in_several_partitions_are_compared_across(void **state)
{
    struct stage *s = *state;
    struct copy c;
    bqmodel_insert(s->m, "ds.p", "[" R("a", 1, 1.0) "," R("a", 31, 3.0) "," R("a", null, 2.0) "," R("b", 31, 1.0) "," R("c", 55, 1.0) "]");
    begin(s, &c, 1);
    look(&c);
    assert_true(c.d.apart);
    assert_int_equal(c.d.too_many, 2);
    assert_int_equal(c.d.part_count, 3);
    assert_int_equal(c.d.batch_count, 1);
    assert_int_equal(rewrite(&c, 0), 2);
    assert_holds(s, "[" R("a", 31, 3.0) "," R("b", 31, 1.0) "," R("c", 55, 1.0) "]");
    dedupe_free(&c.d);
}

static void rows_with_null_in_a_key_stay_when_it_equals_nothing(void **state)
{
    struct stage *s = *state;
    struct copy c;
    bqmodel_insert(s->m, "ds.p", "[" R("a", null, 1.0) "," R("a", null, 1.0) "," R("b", 1, 1.0) "," R("b", 1, 1.0) "]");
    begin(s, &c, 2);
    c.choice.null_keys = NULL_KEYS_DISTINCT;
    look(&c);
    assert_int_equal(c.d.missing, 2);
    assert_int_equal(c.d.too_many, 1);
    assert_int_equal(rewrite(&c, 0), 1);
    assert_holds(s, "[" R("a", null, 1.0) "," R("a", null, 1.0) "," R("b", 1, 1.0) "]");
    dedupe_free(&c.d);
}

static void a_lost_reply_or_a_conflict_does_nothing_twice(void **state)
{
    struct stage *s = *state;
    struct copy c;
    bqmodel_insert(s->m, "ds.p", DOUBLED);
    begin(s, &c, 2);
    look(&c);
    bqmodel_fault(s->m, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/local/jobs", .kind = BQMODEL_LOSE_REPLY, .times = 2});
    assert_int_equal(rewrite(&c, 0), 1);
    bqmodel_fault(s->m, &(struct bqmodel_fault){.match = "MERGE local.ds.p", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                .message = "Could not serialize access to table local:ds.p due to concurrent update"});
    assert_int_equal(rewrite(&c, 1), 1);
    assert_int_equal(rewrite(&c, 2), 1);
    assert_holds(s, SINGLE);
    dedupe_free(&c.d);
}

static void kill_it(void *arg)
{
    ((struct copy *)arg)->signals = 2;
}

/* Killed at any point: between statements, or with one under way. Whoever comes next finishes it, in between no key is missing, and no statement is run twice. */
static void whoever_comes_after_a_kill_goes_on(void **state)
{
    (void)state;
    for (int done = 0; done < 3; done++) {
        for (int under_way = 0; under_way < 2; under_way++) {
            void *own = NULL;
            struct copy first, second;
            struct error err = ERROR_INIT;
            setup(&own);
            struct stage *s = own;
            bqmodel_insert(s->m, "ds.p", DOUBLED);
            begin(s, &first, 2);
            look(&first);
            for (int i = 0; i < done; i++)
                rewrite(&first, (size_t)i);
            if (under_way) {
                bqmodel_fault(s->m, &(struct bqmodel_fault){.match = "MERGE local.ds.p", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
                struct timer *kill = timer_new(s->loop, kill_it, &first);
                timer_set(kill, 5 * US_PER_S);
                assert_int_equal(dedupe_rewrite(&first.d, &first.d.batches[done], &err), -1);
                assert_string_equal(err.reason, "signal");
                timer_free(kill);
            }
            dedupe_free(&first.d);
            assert_int_equal(bqmodel_count(s->m, "ds.p"), 7 - done);
            begin(s, &second, 2);
            look(&second);
            assert_int_equal(second.d.batch_count, 3 - done);
            for (size_t i = 0; i < second.d.batch_count; i++)
                rewrite(&second, i);
            assert_holds(s, SINGLE);
            assert_int_equal(bqmodel_counters(s->m)->merges, 3);
            dedupe_free(&second.d);
            teardown(&own);
        }
    }
}

/* Each has looked before the other wrote, and somebody adds rows in between. */
static void two_at_once_end_as_one(void **state)
{
    struct stage *s = *state;
    struct copy a, b;
    bqmodel_insert(s->m, "ds.p", DOUBLED);
    begin(s, &a, 2);
    look(&a);
    bqmodel_insert(s->m, "ds.p", "[" R("e", 77, 1.0) "," R("a", 1, 0.5) "]");
    begin(s, &b, 2);
    look(&b);
    for (size_t i = 0; i < 3; i++) {
        rewrite(&a, i);
        rewrite(&b, i);
    }
    assert_holds(s, "[" R("b", 2, 1.0) "," R("a", 1, 2.0) "," R("c", 31, 5.0) "," R("d", 55, 0.5) "," R("e", 77, 1.0) "]");
    dedupe_free(&a.d);
    dedupe_free(&b.d);
}

static void nothing_is_done_after_a_signal(void **state)
{
    struct stage *s = *state;
    struct copy c;
    struct error err = ERROR_INIT;
    bqmodel_insert(s->m, "ds.p", DOUBLED);
    begin(s, &c, 2);
    c.signals = 1;
    assert_int_equal(dedupe_look(&c.d, &err), -1);
    assert_string_equal(err.reason, "signal");
    assert_int_equal(bqmodel_counters(s->m)->merges, 0);
    dedupe_free(&c.d);
}

/* The statements as they are judged by the analyzer: the model knows them all, and none with a changed byte outside of names. */
static void the_model_knows_every_statement(void **state)
{
    (void)state;
    size_t len = 0, known = 0;
    AUTO(free_ptr) char *path = xasprintf("%.*s/../golden/sql/dedupe.ndjson", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    AUTO(free_ptr) char *text = file_read(path, 8 * 1024 * 1024, &len, NULL);
    assert_non_null(text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line; known++) {
        AUTO(doc_free_auto) doc *d = doc_parse(line, strlen(line), "golden", NULL);
        const char *at = NULL;
        struct stmt *st = stmt_parse(doc_str(d, "sql", ""), &at);
        if (st == NULL)
            fail_msg("%s stops at: %.200s", doc_str(d, "id", "?"), at);
        stmt_free(st);
    }
    assert_true(known >= 20);
}

int main(void)
{
#define STAGED(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_knows_every_statement),
        STAGED(the_greatest_of_each_key_stays),
        STAGED(keys_in_several_partitions_are_compared_across),
        STAGED(rows_with_null_in_a_key_stay_when_it_equals_nothing),
        STAGED(a_lost_reply_or_a_conflict_does_nothing_twice),
        cmocka_unit_test(whoever_comes_after_a_kill_goes_on),
        STAGED(two_at_once_end_as_one),
        STAGED(nothing_is_done_after_a_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
