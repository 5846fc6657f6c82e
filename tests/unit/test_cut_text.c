#include "common/fleet/cut_text.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/fleet/side.h"

/* What is said to BigQuery of a cut, as a function of the record and the log. */

static struct record *a_record(enum null_keys nulls)
{
    static const char fields[] = "{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"},{\"name\":\"day\",\"type\":\"INT64\"},{\"name\":\"v\",\"type\":\"INT64\"}]}";
    struct error err = ERROR_INIT;
    struct record *r = xcalloc(1, sizeof(*r));
    snprintf(r->run, sizeof(r->run), "run-1");
    snprintf(r->project, sizeof(r->project), "p");
    snprintf(r->staging_project, sizeof(r->staging_project), "p");
    snprintf(r->staging_dataset, sizeof(r->staging_dataset), "d");
    r->mode = WRITE_MERGE;
    r->has_target = true;
    r->target = (struct bq_ref){"p", "d", "t"};
    r->schema_doc = doc_parse(fields, strlen(fields), "fields", &err);
    r->schema = schema_parse(r->schema_doc, &err);
    assert_non_null(r->schema);
    r->keys = xcalloc(3, sizeof(*r->keys));
    r->keys[0] = xstrdup("k");
    r->keys[1] = xstrdup("day");
    r->key_count = 2;
    r->null_keys = nulls;
    snprintf(r->partition_column, sizeof(r->partition_column), "day");
    return r;
}

struct load { bool any, null; int64_t lo, hi; }; /* of the partition column in its rows */

static struct fold *a_fold(const struct load *loads, int count)
{
    struct fold *f = fold_new(&(struct fold_config){.tolerate_count = 0});
    struct error err = ERROR_INIT;
    for (int i = 0; i < count; i++) {
        char load[LOAD_ID_LEN + 1];
        load_id(load, "shard00000", i);
        struct item_range range = {i, 1};
        struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.incarnation = "shard00000", .load = load, .rows = 1, .ranges = &range, .range_count = 1,
                                                                .has_range = loads[i].any, .range_null = loads[i].null, .range_lo = loads[i].lo,
                                                                .range_hi = loads[i].hi}};
        assert_int_equal(fold_apply(f, &m, i, 0, &err), 0);
    }
    assert_int_equal(fold_apply(f, &(struct log_msg){.type = LOGM_CUT, .shard = ""}, count, 0, &err), 0);
    return f;
}

/* Between the keys and what is done about them: the part of the statement that names partitions. The caller frees. */
static char *partitions(enum null_keys nulls, const struct load *loads, int count, char digest[41])
{
    struct record *r = a_record(nulls);
    struct fold *f = a_fold(loads, count);
    struct error err = ERROR_INIT;
    struct cut_text t;
    assert_int_equal(cut_text_make(&(struct cut_of){.record = r, .fold = f, .cut = fold_open_cut(f)}, LIMIT_SHARDS_PER_QUERY, &t, &err), 0);
    static const char plain[] = "bqfleet_t.`day` = bqfleet_s.`day`", safe[] = "bqfleet_s.`day` IS NULL))";
    const char *at = strstr(t.sql.data, nulls == NULL_KEYS_EQUAL ? safe : plain);
    assert_non_null(at);
    at += strlen(nulls == NULL_KEYS_EQUAL ? safe : plain);
    char *piece = xstrndup(at, strcspn(at, "\n"));
    if (digest)
        memcpy(digest, t.digest, 41);
    AUTO(free_ptr) char *params = doc_text(t.params);
    assert_int_equal(strstr(piece, "@part_lo") != NULL, strstr(params, "part_lo") != NULL);
    cut_text_free(&t);
    fold_free(f);
    record_free(r);
    return piece;
}

static void the_partitions_of_the_rows_are_named_and_that_of_null_where_it_can_match(void **state)
{
    (void)state;
    static const struct load known = {true, false, 3, 7}, mixed = {true, true, 5, 9}, alone = {false, true, 0, 0}, unknown = {0};
    static const char range[] = " AND bqfleet_t.`day` BETWEEN @part_lo AND @part_hi", none[] = "",
                      both[] = " AND (bqfleet_t.`day` BETWEEN @part_lo AND @part_hi OR bqfleet_t.`day` IS NULL)", null[] = " AND bqfleet_t.`day` IS NULL";
    const struct { enum null_keys nulls; struct load loads[2]; int count; const char *want; } cases[] = {
        {NULL_KEYS_REFUSE, {known, known}, 2, range},  {NULL_KEYS_REFUSE, {known, unknown}, 2, none},
        {NULL_KEYS_EQUAL, {known, known}, 2, range},   {NULL_KEYS_EQUAL, {known, mixed}, 2, both},
        {NULL_KEYS_EQUAL, {known, alone}, 2, both},    {NULL_KEYS_EQUAL, {alone, alone}, 2, null},
        {NULL_KEYS_EQUAL, {mixed, unknown}, 2, none},  {NULL_KEYS_DISTINCT, {known, mixed}, 2, range},
        {NULL_KEYS_DISTINCT, {known, alone}, 2, range}, {NULL_KEYS_DISTINCT, {alone, alone}, 2, null},
        {NULL_KEYS_DISTINCT, {unknown, known}, 2, none},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(free_ptr) char *piece = partitions(cases[i].nulls, cases[i].loads, cases[i].count, NULL);
        if (strcmp(piece, cases[i].want) != 0)
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, piece, cases[i].want);
    }
}

static void how_null_compares_is_part_of_what_a_cut_does(void **state)
{
    (void)state;
    static const struct load one = {true, false, 3, 7};
    char digests[3][41], meanings[3][41];
    for (int i = 0; i < 3; i++) {
        free(partitions((enum null_keys)i, &one, 1, digests[i]));
        struct record *r = a_record((enum null_keys)i);
        record_meaning(r, meanings[i]);
        record_free(r);
    }
    for (int i = 0; i < 3; i++) {
        assert_string_not_equal(digests[i], digests[(i + 1) % 3]);
        assert_string_not_equal(meanings[i], meanings[(i + 1) % 3]);
    }
}

/* A table beside the shards is named by what is in it: a run begun anew under its id, with other loads, means another. */
static void a_side_table_and_its_job_bear_its_contents(void **state)
{
    (void)state;
    char names[2][300], bases[2][JOB_BASE_SIZE];
    for (int i = 0; i < 2; i++) {
        struct record *r = a_record(NULL_KEYS_REFUSE);
        AUTO(free_ptr) struct load *loads = xcalloc(LIMIT_PARAM_LOADS + 2, sizeof(*loads));
        struct fold *f = a_fold(loads, LIMIT_PARAM_LOADS + 1 + i);
        struct error err = ERROR_INIT;
        struct cut_text t;
        assert_int_equal(cut_text_make(&(struct cut_of){.record = r, .fold = f, .cut = fold_open_cut(f)}, LIMIT_SHARDS_PER_QUERY, &t, &err), 0);
        assert_true(t.beside);
        assert_non_null(strstr(t.sql.data, t.side.table));
        assert_int_equal(strlen(t.side.table), strlen("bqf_run_1_") + INCARNATION_LEN); /* where cleaning up looks */
        snprintf(names[i], sizeof(names[i]), "%s", t.side.table);
        snprintf(bases[i], sizeof(bases[i]), "%s", t.side_base);
        cut_text_free(&t);
        fold_free(f);
        record_free(r);
    }
    assert_string_not_equal(names[0], names[1]);
    assert_string_not_equal(bases[0], bases[1]);
}

/* Columns of the longest names, after the record's own. */
static void widen(struct record *r, int columns)
{
    struct error err = ERROR_INIT;
    doc *fields = doc_copy(doc_get(r->schema_doc, "fields"));
    for (int i = 0; i < columns; i++) {
        char name[400];
        snprintf(name, sizeof(name), "c%05d%0290d", i, 0);
        doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", name), "type", "INT64"));
    }
    doc_free(r->schema_doc);
    schema_free(r->schema);
    r->schema_doc = doc_set(doc_object(), "fields", fields);
    r->schema = schema_parse(r->schema_doc, &err);
    assert_non_null(r->schema);
}

static struct fold *fold_of_loads(int shards)
{
    struct fold *f = fold_new(&(struct fold_config){.tolerate_count = 0});
    struct error err = ERROR_INIT;
    for (int i = 0; i < shards; i++) {
        char incarnation[16], load[LOAD_ID_LEN + 1];
        struct item_range range = {i, 1};
        snprintf(incarnation, sizeof(incarnation), "shard%05d", i);
        load_id(load, incarnation, 0);
        struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.incarnation = incarnation, .load = load, .rows = 1, .ranges = &range, .range_count = 1}};
        assert_int_equal(fold_apply(f, &m, i, 0, &err), 0);
    }
    struct log_msg cut = {.type = LOGM_CUT, .shard = "", .cut = 0};
    assert_int_equal(fold_apply(f, &cut, shards, 0, &err), 0);
    return f;
}

static size_t occurrences(const char *text, const char *piece)
{
    size_t n = 0;
    while ((text = strstr(text, piece)) != NULL) {
        n++;
        text += strlen(piece);
    }
    return n;
}

static void a_text_that_is_too_long_is_made_short_by_folding(void **state)
{
    (void)state;
    struct record *r = a_record(NULL_KEYS_REFUSE);
    widen(r, 300);
    struct fold *f = fold_of_loads(40);
    struct error err = ERROR_INIT;
    struct cut_text t;
    assert_int_equal(cut_text_make(&(struct cut_of){.record = r, .fold = f, .cut = fold_open_cut(f)}, LIMIT_SHARDS_PER_QUERY, &t, &err), 0);
    assert_int_equal(t.fold_count, 1);
    assert_int_equal(t.folds[0].shards, 40);
    assert_int_equal(occurrences(t.folds[0].sql.data, "SELECT * FROM"), 40);
    assert_int_equal(occurrences(t.sql.data, t.folds[0].into.table), 1);
    assert_int_equal(occurrences(t.sql.data, "shard0"), 0);
    assert_true(t.sql.len < LIMIT_SQL);
    cut_text_free(&t);
    fold_free(f);
    record_free(r);
}

/* Which is then known before anything of it is sent. */
static void a_list_of_loads_that_is_too_long_is_found_too_long_at_every_row(void **state)
{
    (void)state;
    struct record *r = a_record(NULL_KEYS_REFUSE);
    struct fold *f = fold_new(&(struct fold_config){.tolerate_count = 0});
    struct error err = ERROR_INIT;
    for (int i = 0; i < 2; i++) { /* the second one's first item is done by the first */
        char load[LOAD_ID_LEN + 1];
        load_id(load, "shard00000", i);
        struct item_range range = {0, 1 + i};
        struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.incarnation = "shard00000", .load = load, .rows = 1 + i, .ranges = &range, .range_count = 1}};
        assert_int_equal(fold_apply(f, &m, i, 0, &err), 0);
    }
    assert_int_equal(fold_apply(f, &(struct log_msg){.type = LOGM_CUT, .shard = ""}, 2, 0, &err), 0);
    struct cut_of of = {.record = r, .fold = f, .cut = fold_open_cut(f)};
    struct buf whole = BUF_INIT(4096);
    assert_int_equal(side_rows(&of, &whole), 0);
    assert_int_equal(occurrences(whole.data, "\"load\",") + occurrences(whole.data, "\"exclusion\","), 3);
    for (size_t room = 1; room < whole.len; room += 10) {
        struct buf small = BUF_INIT(room);
        assert_int_equal(side_rows(&of, &small), -1);
        buf_free(&small);
    }
    buf_free(&whole);
    fold_free(f);
    record_free(r);
}

static void the_digest_of_thousands_of_loads_is_of_each_of_them(void **state)
{
    enum { MANY = 3000 };
    static struct load loads[MANY];
    char digests[3][41];
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct record *r = a_record(NULL_KEYS_REFUSE);
        struct fold *f = a_fold(loads, i == 2 ? MANY - 1 : MANY);
        struct error err = ERROR_INIT;
        struct cut_text t;
        assert_int_equal(cut_text_make(&(struct cut_of){.record = r, .fold = f, .cut = fold_open_cut(f)}, LIMIT_SHARDS_PER_QUERY, &t, &err), 0);
        memcpy(digests[i], t.digest, 41);
        cut_text_free(&t);
        fold_free(f);
        record_free(r);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
}

/* Whether increments are whole is told by the view there, and by no job. */
static void a_last_cut_without_loads_has_no_job_where_all_was_compacted_before(void **state)
{
    struct load load = {.any = false};
    struct record *r = a_record(NULL_KEYS_REFUSE);
    struct fold *f = a_fold(&load, 1);
    struct error err = ERROR_INIT;
    struct cut_text t;
    struct item_range last = {1, 1};
    struct log_msg done = {.type = LOGM_OUTCOME, .ok = true, .shard = "", .job = "j", .text = ""}, seal = {.type = LOGM_SEAL, .items = 2},
                   rest = {.type = LOGM_MANIFEST, .manifest = {.incarnation = "", .load = "", .empty = &last, .empty_count = 1}};
    (void)state;
    assert_int_equal(fold_apply(f, &done, 2, 0, &err), 0);
    assert_int_equal(fold_apply(f, &seal, 3, 0, &err), 0);
    assert_int_equal(fold_apply(f, &rest, 4, 0, &err), 0);
    struct cut_shown shown = {.compacts = true, .from = 1};
    struct cut_of of = {.record = r, .fold = f, .cut = fold_open_cut(f), .shown = &shown};
    assert_true(of.cut != NULL && of.cut->last && of.cut->number == 1);
    assert_int_equal(cut_text_make(&of, LIMIT_SHARDS_PER_QUERY, &t, &err), 1);
    cut_text_free(&t);
    of.shown = NULL;
    assert_int_equal(cut_text_make(&of, LIMIT_SHARDS_PER_QUERY, &t, &err), 0);
    cut_text_free(&t);
    fold_free(f);
    record_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_partitions_of_the_rows_are_named_and_that_of_null_where_it_can_match),
        cmocka_unit_test(how_null_compares_is_part_of_what_a_cut_does),
        cmocka_unit_test(a_text_that_is_too_long_is_made_short_by_folding),
        cmocka_unit_test(the_digest_of_thousands_of_loads_is_of_each_of_them),
        cmocka_unit_test(a_last_cut_without_loads_has_no_job_where_all_was_compacted_before),
        cmocka_unit_test(a_side_table_and_its_job_bear_its_contents), cmocka_unit_test(a_list_of_loads_that_is_too_long_is_found_too_long_at_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
