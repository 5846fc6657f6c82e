#include "common/base/rows.h"

#include <jansson.h>
#include <strings.h>

#include "tests/fuzz/fuzz.h"

/*
 * Rows of handlers against jansson. The first byte chooses a schema and options, the rest is one row. A row that is taken is JSON (but for NaN and the
 * like), what is written is JSON with the schema's columns and our own, each once, and taken again it is written in just the same way.
 */

#define SUFFIX ",\"bqfleet_item\":7,\"bqfleet_row\":3\n"
static const char *const schemas[] = {
    "a:STRING, b:INT64, c:FLOAT64, d:BOOL, e:NUMERIC(10,2), f:BIGNUMERIC, g:JSON",
    "a:DATE, b:DATETIME, c:TIME, d:TIMESTAMP, e:INTERVAL, f:BYTES, g:GEOGRAPHY, h:NUMERIC",
    "a:STRING(5) REQUIRED, b:INT64 REPEATED, c:BYTES(3), d:TIMESTAMP REPEATED",
    NULL,
};
static const char nested[] =
    "{\"fields\":[{\"name\":\"Key\",\"type\":\"STRING\"},{\"name\":\"r\",\"type\":\"RECORD\",\"fields\":[{\"name\":\"x\",\"type\":\"INTEGER\"},"
    "{\"name\":\"y\",\"type\":\"RECORD\",\"mode\":\"REPEATED\",\"fields\":[{\"name\":\"z\",\"type\":\"FLOAT\"},{\"name\":\"j\",\"type\":\"JSON\"}]}]},"
    "{\"name\":\"g\",\"type\":\"RANGE\",\"rangeElementType\":{\"type\":\"DATE\"}},{\"name\":\"p\",\"type\":\"DATE\"}]}";

static struct schema *schema_of(size_t which)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = schemas[which] ? doc_set_str(doc_object(), "fields", schemas[which]) : doc_parse(nested, strlen(nested), "schema", &err);
    struct schema *s = schema_parse(d, &err);
    CHECK(s != NULL);
    return s;
}

static bool holds(const char *row, size_t len, const char *word)
{
    for (size_t i = 0, n = strlen(word); i + n <= len; i++)
        if (strncasecmp(row + i, word, n) == 0)
            return true;
    return false;
}

/* jansson's judgement of the row as it came; NULL is fine only where JSON has no such number, or inside a value of free form (JSON, GEOGRAPHY), which goes to
 * BigQuery as it is: that keeps the first of equal keys. Columns that are given twice are refused: test_rows.c. */
static void check_input(const char *row, size_t len)
{
    json_error_t e;
    json_t *j = json_loadb(row, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    enum json_error_code why = json_error_code(&e);
    bool odd = holds(row, len, "nan") || holds(row, len, "inf") || why == json_error_numeric_overflow || why == json_error_duplicate_key;
    CHECK(j != NULL || odd);
    CHECK(j == NULL || json_is_object(j));
    json_decref(j);
}

static const struct field *column(const struct schema *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcasecmp(s->fields[i].name, name) == 0)
            return &s->fields[i];
    return NULL;
}

/* Names of columns are the same in any case, to BigQuery and to us. */
static bool has_column(json_t *row, const char *wanted)
{
    const char *name;
    json_t *value;
    json_object_foreach(row, name, value)
        if (strcasecmp(name, wanted) == 0)
            return true;
    return false;
}

static void check_line(const struct schema *s, const char *line, size_t len)
{
    json_error_t e;
    json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e), *value;
    if (j == NULL && json_error_code(&e) == json_error_numeric_overflow)
        return;
    CHECK(json_is_object(j));
    const char *name;
    json_object_foreach(j, name, value) {
        const struct field *f = column(s, name);
        CHECK(f != NULL || strncmp(name, "bqfleet_", 8) == 0);
        CHECK(f == NULL || f->mode != MODE_REQUIRED || !json_is_null(value));
        if (f != NULL && f->type == FIELD_INT64 && f->mode != MODE_REPEATED)
            CHECK(json_is_integer(value) || json_is_string(value) || json_is_null(value));
    }
    for (size_t i = 0; i < s->count; i++)
        CHECK(s->fields[i].mode != MODE_REQUIRED || has_column(j, s->fields[i].name));
    CHECK(json_integer_value(json_object_get(j, "bqfleet_item")) == 7 && json_integer_value(json_object_get(j, "bqfleet_row")) == 3);
    CHECK(strcmp(json_string_value(json_object_get(j, "bqfleet_load")), "abcdefghij-000002") == 0);
    json_decref(j);
}

/* What was written, without our columns, is a row that is written in just the same way. */
static void once_more(struct rowcheck *c, const struct buf *line, const struct row_range *range)
{
    struct buf row = BUF_INIT(4 << 20), again = BUF_INIT(4 << 20);
    struct row_range again_range = {0};
    struct error err = ERROR_INIT;
    bool empty = line->data[line->len - sizeof(SUFFIX) + 1] != ','; /* but for space */
    CHECK(line->len >= sizeof(SUFFIX) - 1 && memcmp(line->data + line->len - sizeof(SUFFIX) + 2, &SUFFIX[1], sizeof(SUFFIX) - 2) == 0);
    buf_xadd(&row, line->data, line->len - sizeof(SUFFIX) + 1 + (empty ? 1 : 0));
    buf_xputs(&row, "}");
    CHECK(rowcheck_add(c, row.data, row.len, 7, 3, &again, &again_range, &err) == 0);
    CHECK(again.len == line->len && memcmp(again.data, line->data, line->len) == 0);
    CHECK(again_range.any == range->any && again_range.null == range->null && again_range.lo == range->lo && again_range.hi == range->hi);
    buf_free(&row);
    buf_free(&again);
}

static void check_written(struct rowcheck *c, const struct schema *s, const struct buf *line, const struct row_range *range)
{
    struct buf sealed = BUF_INIT(4 << 20);
    CHECK(memchr(line->data, '\n', line->len) == line->data + line->len - 1);
    CHECK(rows_seal(line->data, line->len, "abcdefghij-000001", &sealed) == 0);
    rows_reseal(sealed.data, sealed.len, "abcdefghij-000002");
    check_line(s, sealed.data, sealed.len);
    CHECK(!range->any || range->lo <= range->hi);
    once_more(c, line, range);
    buf_free(&sealed);
}

FUZZ(rows)
{
    static const char *const required[] = {"a"}, *const partitions[] = {"b", "d", NULL, "p"};
    struct input in = input_of(data, size);
    unsigned choice = input_byte(&in);
    size_t which = choice % ARRAY_LEN(schemas);
    struct rowcheck_options o = {.partition_column = choice & 4 ? partitions[which] : NULL, .required = required,
                                 .required_count = choice & 8 && schemas[which] ? 1 : 0};
    struct error err = ERROR_INIT;
    AUTO(schema_free_auto) struct schema *s = schema_of(which);
    AUTO(rowcheck_free_auto) struct rowcheck *c = rowcheck_new(s, &o, &err);
    size_t len;
    AUTO(free_ptr) char *row = input_rest(&in, &len);
    struct buf out = BUF_INIT(4 << 20);
    struct row_range range = {0};
    buf_xputs(&out, "before");
    CHECK(c != NULL);
    int rc = rowcheck_add(c, row, len, 7, 3, &out, &range, &err);
    if (rc == 0) {
        buf_consume(&out, strlen("before"));
        check_input(row, len);
        check_written(c, s, &out, &range);
    } else {
        CHECK(rc == -1 && err.kind == ERR_TASK && strcmp(err.reason, "row") == 0 && out.len == strlen("before"));
    }
    buf_free(&out);
}
