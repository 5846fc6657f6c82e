#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/log.h"
#include "common/fleet/catalog.h"

static struct record *a_record(const char *run, const char *batch, const char *nonce)
{
    struct record *r = xcalloc(1, sizeof(*r));
    snprintf(r->run, sizeof(r->run), "%s", run);
    snprintf(r->batch, sizeof(r->batch), "%s", batch);
    snprintf(r->nonce, sizeof(r->nonce), "%s", nonce);
    snprintf(r->queue, sizeof(r->queue), "default");
    snprintf(r->handler, sizeof(r->handler), "predict");
    r->by = xstrdup("host/1");
    r->mode = WRITE_MERGE;
    r->has_target = true;
    r->target = (struct bq_ref){.project = "p", .dataset = "d", .table = "t"};
    struct error err = ERROR_INIT;
    const char *schema = "{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\",\"mode\":\"REQUIRED\"},{\"name\":\"v\",\"type\":\"INTEGER\"}]}";
    r->schema_doc = doc_parse(schema, strlen(schema), "schema", &err);
    r->schema = schema_parse(r->schema_doc, &err);
    r->keys = xcalloc(2, sizeof(char *));
    r->keys[0] = xstrdup("k");
    r->key_count = 1;
    r->finish.tolerate_count = -1;
    r->finish.tolerate_percent = 2.5;
    r->attempts = 5;
    r->log_partition = 3;
    r->log_offset = 1234567890123;
    r->work_partitions = 2;
    r->work_starts = xcalloc(2, sizeof(int64_t));
    r->work_starts[1] = 77;
    snprintf(r->staging_project, sizeof(r->staging_project), "p");
    snprintf(r->staging_dataset, sizeof(r->staging_dataset), "stage");
    return r;
}

static struct catalog_run *put_record(struct catalog *c, struct record *r, int64_t offset)
{
    AUTO(free_ptr) char *key = catalog_record_key(r);
    AUTO(doc_free_auto) doc *d = record_to_doc(r);
    AUTO(free_ptr) char *text = doc_text(d);
    struct catalog_run *run = catalog_apply(c, key, strlen(key), text, strlen(text), offset);
    record_free(r);
    return run;
}

static void put_end(struct catalog *c, const char *run, int64_t offset)
{
    AUTO(free_ptr) char *key = catalog_end_key(run);
    catalog_apply(c, key, strlen(key), "{\"end\":\"written\",\"exit\":0}", 26, offset);
}

static void a_record_survives_the_wire(void **state)
{
    (void)state;
    struct record *in = a_record("run1", "batch", "n1");
    AUTO(doc_free_auto) doc *d = record_to_doc(in);
    AUTO(free_ptr) char *text = doc_text(d);
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *out = record_parse(text, strlen(text), &err);
    assert_non_null(out);
    AUTO(doc_free_auto) doc *again = record_to_doc(out);
    assert_true(doc_equal(d, again));
    assert_int_equal(out->log_offset, 1234567890123);
    assert_int_equal(out->work_starts[1], 77);
    assert_int_equal(out->schema->count, 2);
    struct bq_ref shard;
    record_shard_ref(out, "abcdefghij", &shard);
    assert_string_equal(shard.table, "bqf_run1_abcdefghij");
    assert_string_equal(shard.dataset, "stage");
    record_free(in);
}

static void a_redrives_record_says_of_what_it_is_one(void **state)
{
    (void)state;
    struct record *in = a_record("run2", "batch", "n1");
    snprintf(in->adopts, sizeof(in->adopts), "run1");
    snprintf(in->redrives, sizeof(in->redrives), "run1");
    in->selection = doc_set_str(doc_object(), "reason", "timeout");
    in->left = 12;
    AUTO(doc_free_auto) doc *d = record_to_doc(in);
    AUTO(free_ptr) char *text = doc_text(d);
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *out = record_parse(text, strlen(text), &err);
    assert_non_null(out);
    assert_string_equal(out->adopts, "run1");
    assert_string_equal(out->redrives, "run1");
    assert_string_equal(doc_str(out->selection, "reason", ""), "timeout");
    assert_int_equal(out->left, 12);
    record_free(in);
}

static struct record *an_heir(const char *run, const char *of, int64_t batches_seen)
{
    struct record *r = a_record(run, "b", "n");
    snprintf(r->adopts, sizeof(r->adopts), "%s", of);
    r->batches_seen = batches_seen;
    return r;
}

/* Both had read `batches` before either wrote: the record decides, before anything is published. */
static void of_two_redrives_at_once_the_second_is_void(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    assert_null(catalog_heir_of(c, "held"));
    put_record(c, a_record("held", "b", "n"), 1);
    assert_int_equal(put_record(c, an_heir("heir1", "held", 2), 2)->standing, STANDING_OPEN);
    struct catalog_run *second = put_record(c, an_heir("heir2", "held", 2), 3);
    assert_int_equal(second->standing, STANDING_VOID);
    assert_string_equal(second->void_because, "heir1");
    assert_string_equal(catalog_heir_of(c, "held")->run, "heir1");
    put_end(c, "heir1", 4);
    assert_null(catalog_heir_of(c, "held"));
    assert_int_equal(put_record(c, an_heir("heir3", "held", 5), 5)->standing, STANDING_OPEN); /* it did not come to write: again */
    assert_string_equal(catalog_heir_of(c, "held")->run, "heir3");
    assert_string_equal(catalog_open_of(c, "b")->run, "heir3");
    catalog_free(c);
}

/* A reader that does not know how NULL keys compare must not go on as if they were refused. */
static void a_record_has_the_version_that_its_meaning_needs(void **state)
{
    (void)state;
    struct record *in = a_record("run1", "batch", "n1");
    AUTO(doc_free_auto) doc *plain = record_to_doc(in);
    assert_int_equal(doc_int(plain, "version", 0), 1);
    assert_null(doc_get(plain, "write.null_keys"));
    in->null_keys = NULL_KEYS_DISTINCT;
    AUTO(doc_free_auto) doc *d = record_to_doc(in);
    assert_int_equal(doc_int(d, "version", 0), 2);
    AUTO(free_ptr) char *text = doc_text(d);
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *out = record_parse(text, strlen(text), &err);
    assert_non_null(out);
    assert_int_equal(out->null_keys, NULL_KEYS_DISTINCT);
    doc_set_int(d, "version", 99);
    AUTO(free_ptr) char *later = doc_text(d);
    assert_null(record_parse(later, strlen(later), &err));
    assert_int_equal(err.kind, ERR_FATAL);
    record_free(in);
}

static void the_first_record_of_a_name_wins_it(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    assert_int_equal(put_record(c, a_record("run1", "b", "n"), 0)->standing, STANDING_OPEN);
    struct catalog_run *second = put_record(c, a_record("run2", "b", "n"), 1);
    assert_int_equal(second->standing, STANDING_VOID);
    assert_string_equal(second->void_because, "run1");
    assert_int_equal(put_record(c, a_record("run3", "other", "n"), 2)->standing, STANDING_OPEN);
    put_end(c, "run1", 3);
    assert_null(catalog_open_of(c, "b"));
    assert_int_equal(catalog_find(c, "run2")->standing, STANDING_VOID); /* it stays what it was */
    assert_int_equal(put_record(c, a_record("run4", "b", "n"), 4)->standing, STANDING_OPEN);
    assert_string_equal(catalog_last_of(c, "b")->run, "run4");
    catalog_free(c);
}

static void a_record_that_replaces_the_open_run_stands_beside_it(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    put_record(c, a_record("run1", "b", "n"), 0);
    struct record *r = a_record("run2", "b", "n");
    snprintf(r->replaces, sizeof(r->replaces), "run1");
    assert_int_equal(put_record(c, r, 1)->standing, STANDING_OPEN);
    catalog_free(c);
}

static struct record *seen(const char *run, int64_t batches_seen, const char *replaces)
{
    struct record *r = a_record(run, "b", "n");
    r->batches_seen = batches_seen;
    snprintf(r->replaces, sizeof(r->replaces), "%s", replaces);
    return r;
}

static void compaction_that_moves_an_end_voids_nobody(void **state)
{
    (void)state;
    for (int compacted = 0; compacted < 2; compacted++) {
        struct catalog *c = catalog_new();
        put_record(c, seen("run1", 0, ""), 10);
        if (!compacted)
            put_end(c, "run1", 15);
        assert_int_equal(put_record(c, seen("run2", 16, ""), 20)->standing, STANDING_OPEN);
        assert_int_equal(put_record(c, seen("run3", 18, ""), 21)->standing, STANDING_VOID); /* written at the same time as run2 */
        put_end(c, "run1", 25); /* a second coordinator's copy */
        assert_int_equal(catalog_find(c, "run1")->standing, STANDING_ENDED);
        assert_string_equal(catalog_open_of(c, "b")->run, "run2");
        assert_string_equal(catalog_find(c, "run3")->void_because, "run2");
        catalog_free(c);
    }
}

static void a_withdrawn_run_is_in_nobodys_way(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    /* run2's record was written twice, at 20 and 30: compaction left the later one. */
    put_record(c, seen("run3", 18, ""), 21);
    assert_int_equal(put_record(c, seen("run2", 18, ""), 30)->standing, STANDING_VOID);
    AUTO(doc_free_auto) doc *d = catalog_withdrawn_value("run2", 0);
    AUTO(free_ptr) char *text = doc_text(d);
    catalog_apply(c, "end/run3", 8, text, strlen(text), 31);
    assert_int_equal(catalog_find(c, "run3")->standing, STANDING_VOID);
    assert_string_equal(catalog_find(c, "run3")->void_because, "run2");
    assert_int_equal(catalog_find(c, "run2")->standing, STANDING_OPEN);
    catalog_free(c);
}

static void a_run_may_replace_one_that_still_waits_for_the_run_it_replaced(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    put_record(c, seen("run1", 5, ""), 10);
    put_record(c, seen("run2", 11, "run1"), 20);
    assert_string_equal(catalog_open_of(c, "b")->run, "run2");
    struct catalog_run *third = put_record(c, seen("run3", 21, "run2"), 30);
    assert_int_equal(third->standing, STANDING_OPEN);
    assert_string_equal(catalog_open_before(c, third)->run, "run2");
    put_end(c, "run2", 31); /* cancelled before it had anything to write; run1's job still runs */
    assert_string_equal(catalog_open_before(c, third)->run, "run1");
    put_end(c, "run1", 32);
    assert_null(catalog_open_before(c, third));
    catalog_free(c);
}

static void the_first_record_of_a_run_id_stays(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    put_record(c, a_record("run1", "b", "first"), 0);
    put_record(c, a_record("run1", "b", "second"), 1);
    assert_string_equal(catalog_find(c, "run1")->record->nonce, "first");
    catalog_apply(c, "run/run1/second", 15, NULL, 0, 2);
    assert_non_null(catalog_find(c, "run1"));
    catalog_apply(c, "run/run1/first", 14, NULL, 0, 3);
    assert_null(catalog_find(c, "run1"));
    catalog_free(c);
}

static void an_end_that_is_read_before_its_record_closes_the_run(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    put_end(c, "run1", 0);
    assert_null(catalog_find(c, "run1"));
    assert_int_equal(put_record(c, a_record("run1", "b", "n"), 1)->standing, STANDING_ENDED);
    catalog_free(c);
}

static void what_does_not_decode_is_skipped(void **state)
{
    (void)state;
    struct catalog *c = catalog_new();
    assert_null(catalog_apply(c, "run/x/n", 7, "{", 1, 0));
    assert_null(catalog_apply(c, "run/x/n", 7, "{\"version\":99}", 14, 0));
    assert_null(catalog_apply(c, "run/x", 5, "{}", 2, 0));
    assert_null(catalog_apply(c, "", 0, "{}", 2, 0));
    assert_null(catalog_apply(c, "end/x", 5, "nonsense", 8, 0));
    assert_int_equal(catalog_count(c), 0);
    catalog_free(c);
}

static void quiet(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level, (void)line, (void)len;
}

int main(void)
{
    log_sink(quiet, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_survives_the_wire),
        cmocka_unit_test(a_redrives_record_says_of_what_it_is_one),
        cmocka_unit_test(of_two_redrives_at_once_the_second_is_void),
        cmocka_unit_test(a_record_has_the_version_that_its_meaning_needs),
        cmocka_unit_test(the_first_record_of_a_name_wins_it),
        cmocka_unit_test(a_record_that_replaces_the_open_run_stands_beside_it),
        cmocka_unit_test(compaction_that_moves_an_end_voids_nobody),
        cmocka_unit_test(a_withdrawn_run_is_in_nobodys_way),
        cmocka_unit_test(a_run_may_replace_one_that_still_waits_for_the_run_it_replaced),
        cmocka_unit_test(the_first_record_of_a_run_id_stays),
        cmocka_unit_test(an_end_that_is_read_before_its_record_closes_the_run),
        cmocka_unit_test(what_does_not_decode_is_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
