#include <math.h>
#include <strings.h>

#include "common/base/gzip.h"
#include "common/base/ids.h"
#include "common/base/schema.h"
#include "common/base/units.h"
#include "common/base/utf8.h"
#include "common/base/yaml.h"
#include "common/bq/sql.h"
#include "common/bq/sql_group.h"
#include "coordinator/dead_filter.h"
#include "tests/fuzz/fuzz.h"

/* Small languages, by the first byte: schemas, units, names, references, words of a shell, a SELECT of the user's, compressed text. */

static void check_schema(const struct schema *s)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *once = schema_to_doc(s);
    AUTO(schema_free_auto) struct schema *again = schema_parse(once, &err);
    CHECK(again != NULL);
    AUTO(doc_free_auto) doc *twice = schema_to_doc(again);
    CHECK(doc_equal(once, twice) && again->count == s->count);
    for (size_t i = 0; i < s->count; i++) {
        CHECK(schema_find(s, s->fields[i].name) == &s->fields[i]);
        AUTO(free_ptr) char *type = field_sql_type(&s->fields[i]);
        CHECK(type != NULL);
    }
}

static void a_schema(const char *text, size_t len)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(text, len, "schema", &err);
    AUTO(doc_free_auto) doc *line = doc_set_str(doc_object(), "fields", text);
    AUTO(schema_free_auto) struct schema *by_doc = d ? schema_parse(d, &err) : NULL, *by_line = schema_parse(line, &err);
    if (by_doc)
        check_schema(by_doc);
    if (by_line)
        check_schema(by_line);
}

static void some_units(const char *text)
{
    struct error err = ERROR_INIT;
    int64_t ms = 0, us = 0, n = 0, count = 0;
    double percent = 0;
    char shown[64];
    if (units_duration_ms(text, &ms, &err) == 0)
        CHECK(ms >= 0 && units_duration_us(text, &us, &err) == 0 && us / 1000 == ms);
    if (units_size(text, &n, &err) == 0)
        CHECK(n >= 0);
    if (units_tolerance(text, &count, &percent, &err) == 0)
        CHECK(count >= 0 ? percent < 0 : percent >= 0 && percent <= 100 && !isnan(percent));
    if (units_int(text, -1000, 1000, &n, &err) == 0)
        CHECK(n >= -1000 && n <= 1000);
    CHECK(*units_show_ms(ms, shown, sizeof(shown)) && *units_show_bytes(n, shown, sizeof(shown)) && *units_show_count(us, shown, sizeof(shown)));
    if (dead_filter_time("--since", text, INT64_C(1767225600000), &n, &err) == 0)
        CHECK(*units_show_time(n, shown, sizeof(shown)));
}

static void names(const char *text)
{
    static const char *const known[] = {"batch", "project", "items", "job", "handlers", "write", "finish", "queue"};
    struct error err = ERROR_INIT;
    struct bq_ref ref, again;
    char shown[600];
    (void)units_nearest(text, known, ARRAY_LEN(known));
    if (id_check_name("queue", text, &err) == 0)
        CHECK(strlen(text) <= 128 && text[0] != '.');
    if (id_check_run(text, &err) == 0)
        CHECK(strlen(text) <= 63);
    if (bq_ref_parse(text, "default-project", &ref, &err) == 0) {
        CHECK(bq_ref_parse(bq_ref_text(&ref, shown, sizeof(shown)), NULL, &again, &err) == 0 && bq_ref_equal(&ref, &again));
        struct buf sql = BUF_INIT(4096);
        sql_quote_ref(&sql, &ref);
        buf_free(&sql);
    } else {
        CHECK(err.kind == ERR_USAGE);
    }
}

static void words(const char *text)
{
    struct error err = ERROR_INIT;
    char **v = NULL;
    size_t count = 0;
    if (strv_split(text, &v, &count, &err) == 0)
        CHECK(v != NULL && v[count] == NULL);
    strv_free(v);
}

static void a_select(const char *text, size_t len)
{
    struct buf once = BUF_INIT(1 << 20), twice = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    if (sql_select_text(text, len, &once, &err) == 0 && once.len > 0) {
        CHECK(sql_select_text(once.data, once.len, &twice, &err) == 0);
        CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    }
    buf_free(&once);
    buf_free(&twice);
}

static void compressed(const char *text, size_t len)
{
    struct buf plain = BUF_INIT(1 << 20), packed = BUF_INIT(GZIP_MOST(len)), again = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    if (gunzip(text, len, &plain, &err) != 0)
        CHECK(err.kind == ERR_TASK);
    struct gzip *g = gzip_new();
    gzip_add(g, text, len, &packed);
    gzip_end(g, &packed);
    gzip_free(g);
    if (len < 1 << 20)
        CHECK(gunzip(packed.data, packed.len, &again, &err) == 0 && again.len == len && (len == 0 || memcmp(again.data, text, len) == 0));
    uint32_t code;
    for (size_t at = 0, n; at < len; at += n ? n : 1) {
        n = utf8_step(text + at, len - at, &code);
        CHECK(n <= 4 && n <= len - at && (n == 0 || code <= 0x10ffff));
    }
    buf_free(&plain);
    buf_free(&packed);
    buf_free(&again);
}

FUZZ(texts)
{
    struct input in = input_of(data, size);
    unsigned choice = input_byte(&in);
    size_t len;
    AUTO(free_ptr) char *text = input_rest(&in, &len);
    switch (choice % 6) {
    case 0: a_schema(text, len); break;
    case 1: some_units(text); break;
    case 2: names(text); break;
    case 3: words(text); break;
    case 4: a_select(text, len); break;
    default: compressed(text, len); break;
    }
}
