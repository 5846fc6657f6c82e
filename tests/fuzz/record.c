#include "common/fleet/record.h"
#include "common/fleet/catalog.h"

#include "tests/fuzz/fuzz.h"

/* The topic `batches`: lines of a key, a tab and a value, folded by the catalog; and what of it is a run's record means the same once it is written again. */

static void record_again(const char *text, size_t len)
{
    struct error err = ERROR_INIT;
    AUTO(record_free_auto) struct record *r = record_parse(text, len, &err);
    if (r == NULL) {
        CHECK(err.kind == ERR_FATAL || err.kind == ERR_TASK);
        return;
    }
    AUTO(doc_free_auto) doc *once = record_to_doc(r);
    AUTO(free_ptr) char *written = doc_text(once);
    AUTO(record_free_auto) struct record *r2 = record_parse(written, strlen(written), &err);
    CHECK(r2 != NULL);
    AUTO(doc_free_auto) doc *twice = record_to_doc(r2);
    CHECK(doc_equal(once, twice));
    char meaning[41], meaning2[41];
    record_meaning(r, meaning);
    record_meaning(r2, meaning2);
    CHECK(strcmp(meaning, meaning2) == 0);
    if (r->has_target && r->schema) {
        struct bq_ref ref;
        record_permits_ref(r, &ref);
        doc_free(record_shard_schema(r));
    }
}

static void look(struct catalog *c)
{
    size_t n = 0;
    for (struct catalog_run *it = catalog_next(c, NULL); it != NULL; it = catalog_next(c, it)) {
        n++;
        if (it->record == NULL)
            continue;
        (void)catalog_open_of(c, it->record->batch);
        (void)catalog_open_before(c, it);
        (void)catalog_older_open(c, it->record);
        (void)catalog_heir_of(c, it->run);
        (void)catalog_redriver_of(c, it->run);
        (void)catalog_last_of(c, it->record->batch);
        CHECK(catalog_find(c, it->run) == it);
    }
    CHECK(n == catalog_count(c));
}

FUZZ(record)
{
    struct input in = input_of(data, size);
    struct catalog *c = catalog_new();
    for (int64_t offset = 0; input_left(&in) > 0; offset++) {
        size_t key_len, len;
        AUTO(free_ptr) char *key = input_text(&in, '\t', &key_len);
        AUTO(free_ptr) char *value = input_text(&in, '\n', &len);
        record_again(value, len);
        (void)catalog_apply(c, key, key_len, len > 0 ? value : NULL, len, offset);
    }
    look(c);
    catalog_free(c);
}
