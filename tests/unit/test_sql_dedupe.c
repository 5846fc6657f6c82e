#include "common/bq/permits.h"
#include "common/bq/sql_dedupe.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "tests/unit/support_golden.h"

/* The statements of `bqfleet dedupe`, over the tables of the corpus's catalog. */

static const struct bq_ref permits_ref = {"my-project", "shop", "permits"};
static const struct sql_fence fence = {&permits_ref, 0, "abc"};

struct kase { const char *id, *table, *keys, *order; enum null_keys nulls; const char *partition; enum partition_unit unit; bool part_null, all, apart, fence; };
static const struct kase kases[] = {
    {"dedupe", "target", "k", NULL, .nulls = NULL_KEYS_REFUSE},
    {"dedupe_nulls", "target", "k,k_int,k_date", "score,created_at", .nulls = NULL_KEYS_DISTINCT},
    {"dedupe_nulls_equal", "target", "k_int,k_bytes", "select", .nulls = NULL_KEYS_EQUAL},
    {"dedupe_fence", "target", "K", "Created_At", .fence = true},
    {"dedupe_exotic", "exotic", "k", "span", .nulls = NULL_KEYS_EQUAL},
    {"dedupe_day", "target", "k,k_date", "created_at", .partition = "k_date", .unit = PARTITION_DAY},
    {"dedupe_day_null", "target", "k,k_date", "created_at", .partition = "k_date", .unit = PARTITION_DAY, .part_null = true, .nulls = NULL_KEYS_EQUAL},
    {"dedupe_hour_fence", "target", "k,k_ts", NULL, .partition = "k_ts", .unit = PARTITION_HOUR, .fence = true},
    {"dedupe_month_apart", "target", "k", "created_at", .partition = "k_datetime", .unit = PARTITION_MONTH, .apart = true, .all = true, .part_null = true},
    {"dedupe_range_apart_some", "target", "k", "created_at", .partition = "k_int", .unit = PARTITION_RANGE, .apart = true, .fence = true},
};

static struct schema *schema_of(const char *table)
{
    struct error err = ERROR_INIT;
    size_t len = 0;
    AUTO(free_ptr) char *path = xasprintf("%.*s/../golden/sql/catalog.json", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    AUTO(free_ptr) char *text = file_read(path, 8 * 1024 * 1024, &len, &err);
    AUTO(doc_free_auto) doc *tables = text ? doc_parse(text, len, "catalog", &err) : NULL;
    AUTO(free_ptr) char *name = xasprintf("my-project.shop.%s", table);
    for (size_t i = 0; i < doc_len(tables); i++) {
        if (strcmp(doc_str(doc_at(tables, i), "table", ""), name) != 0)
            continue;
        AUTO(doc_free_auto) doc *fields = doc_set(doc_object(), "fields", doc_copy(doc_get(doc_at(tables, i), "columns")));
        return schema_parse(fields, &err);
    }
    fail_msg("no table %s in the catalog: %s", name, err.text);
    return NULL;
}

/* The survey, and the statement. */
static void add(struct buf *out, const struct kase *k)
{
    static const char *const ids[] = {"1", "2"};
    AUTO(schema_free_auto) struct schema *schema = schema_of(k->table);
    char copies[2][256], id[64];
    const char *keys[8], *order[8];
    struct bq_ref table = {"my-project", "shop", ""};
    struct partition partition;
    struct error err = ERROR_INIT;
    snprintf(table.table, sizeof(table.table), "%s", k->table);
    if (k->partition &&
        partition_make(schema, k->unit == PARTITION_RANGE ? PART_RANGE : PART_TIME, k->partition, partition_unit_name(k->unit), 0, 100, 10, &partition, &err))
        fail_msg("%s", err.text);
    struct sql_scope some = {.ids = ids, .count = 2, .has_range = true, .has_null = k->part_null, .lo = 0, .hi = 10};
    struct sql_dedupe d = {.table = &table, .schema = schema, .keys = keys, .key_count = golden_split(k->keys, copies[0], sizeof(copies[0]), keys), .order_by = order,
                           .order_count = golden_split(k->order, copies[1], sizeof(copies[1]), order), .null_keys = k->nulls, .partition = k->partition ? &partition : NULL,
                           .rewritten = some, .apart = k->apart, .fence = k->fence ? &fence : NULL};
    d.compared = k->all ? (struct sql_scope){0} : some;
    for (int i = 0; i < 2; i++) {
        struct buf sql = BUF_INIT(LIMIT_SQL);
        doc *params = NULL;
        snprintf(id, sizeof(id), "%s%s", k->id, i ? "" : "_survey");
        if (sql_dedupe_check(&d, &err) || (i ? sql_dedupe : sql_dedupe_survey)(&d, &sql, &params, &err))
            fail_msg("%s: %s", id, err.text);
        golden_line(out, id, sql.data, golden_types(params), doc_boolean(true));
        doc_free(params);
        buf_free(&sql);
    }
}

static void every_statement_is_the_one_that_was_judged(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(CORPUS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(kases); i++)
        add(&out, &kases[i]);
    golden_compare("dedupe.ndjson", out.data);
    buf_free(&out);
}

static void keys_that_cannot_be_compared_are_refused(void **state)
{
    (void)state;
    AUTO(schema_free_auto) struct schema *schema = schema_of("target");
    static const char *const wrong[] = {"nope", "score", "s", "tags", "j"};
    struct bq_ref table = {"my-project", "shop", "target"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;
        struct sql_dedupe d = {.table = &table, .schema = schema, .keys = &wrong[i], .key_count = 1};
        assert_int_equal(sql_dedupe_check(&d, &err), -1);
        assert_int_equal(err.kind, ERR_USAGE);
        assert_non_null(strstr(err.text, "--keys: "));
    }
    struct error err = ERROR_INIT;
    static const char *const key = "k", *const order = "j";
    struct sql_dedupe d = {.table = &table, .schema = schema, .keys = &key, .key_count = 1, .order_by = &order, .order_count = 1};
    assert_int_equal(sql_dedupe_check(&d, &err), -1);
    assert_non_null(strstr(err.text, "--order-by: column j"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_is_the_one_that_was_judged),
        cmocka_unit_test(keys_that_cannot_be_compared_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
