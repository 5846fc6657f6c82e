/* Random schemas and rows: valid rows pass and mean the same afterwards; damaged ones never crash, and what passes is JSON. */
#include <jansson.h>

#include "common/base/rnd.h"
#include "common/base/rows.h"

#include <setjmp.h>
#include <cmocka.h>

#define SEEDS 4
#define SCHEMAS 150
#define ROWS 20
#define DAMAGES 12

static struct rnd rnd;

static size_t below(size_t n)
{
    return (size_t)rnd_below(&rnd, n);
}

static bool one_in(size_t n)
{
    return below(n) == 0;
}

/* ---- Schemas ---- */

static void make_fields(struct field **fields, size_t *count, int depth)
{
    *count = 1 + below(depth == 0 ? 25 : 5);
    *fields = xcalloc(*count, sizeof(**fields));
    for (size_t i = 0; i < *count; i++) {
        struct field *f = &(*fields)[i];
        f->name = xasprintf("%s%zu", one_in(4) ? "A_rather_long_Column_Name_" : "c", i);
        f->type = (enum field_type)below(depth < 3 ? FIELD_STRUCT + 1 : FIELD_STRUCT);
        f->mode = (enum field_mode)below(3);
        f->range_of = FIELD_DATE;
        f->max_length = (f->type == FIELD_STRING || f->type == FIELD_BYTES) && one_in(3) ? 20 : 0;
        f->has_default = depth == 0 && one_in(8);
        if (f->type == FIELD_STRUCT)
            make_fields(&f->fields, &f->count, depth + 1);
    }
}

static struct schema *make_schema(void)
{
    struct schema *s = xcalloc(1, sizeof(*s));
    make_fields(&s->fields, &s->count, 0);
    return s;
}

/* ---- Rows: the text, and what it must mean ---- */

static void space(struct buf *b)
{
    static const char *const kinds[] = {" ", "\n", "\r\n", "\t", "  \n "};
    if (one_in(12))
        buf_xputs(b, kinds[below(ARRAY_LEN(kinds))]);
}

static json_t *parsed(const char *text, size_t len)
{
    json_error_t e;
    json_t *v = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (v == NULL)
        fail_msg("%s: %.*s", e.text, (int)len, text);
    return v;
}

/* Adds text that means itself, or that must come out as `written`. */
static json_t *literal(struct buf *b, const char *text, const char *written)
{
    buf_xputs(b, text);
    return parsed(written != NULL ? written : text, strlen(written != NULL ? written : text));
}

static json_t *make_string(struct buf *b, size_t max)
{
    static const char *const parts[] = {"a", "Z", " ", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\\n", "\\\"", "\\\\", "\\/", "\\u0041",
                                        "\\u00e9", "\\uD83D\\uDE00", "\\u0000", "{", "]", ",", ":"};
    size_t start = b->len, n = below(one_in(6) ? max + 1 : size_min(max, 20) + 1);
    bool plain = one_in(2);
    buf_xputs(b, "\"");
    for (size_t i = 0; i < n; i++)
        buf_xputs(b, plain ? "x" : parts[below(ARRAY_LEN(parts))]);
    buf_xputs(b, "\"");
    return parsed(b->data + start, b->len - start);
}

static json_t *make_json(struct buf *b, int depth)
{
    size_t kind = below(depth > 3 ? 4 : 6);
    if (kind == 0)
        return make_string(b, 30);
    if (kind < 4)
        return literal(b, (const char *const[]){"true", "-12.5e3", "0"}[kind - 1], NULL);
    json_t *v = kind == 4 ? json_array() : json_object();
    buf_xputs(b, kind == 4 ? "[" : "{");
    for (size_t i = 0, n = below(4); i < n; i++) {
        buf_xputs(b, i > 0 ? "," : "");
        space(b);
        char name[32];
        snprintf(name, sizeof(name), "k%zu", i);
        if (kind == 5)
            buf_xprintf(b, "\"%s\":", name);
        space(b);
        json_t *child = make_json(b, depth + 1);
        assert_int_equal(kind == 4 ? json_array_append_new(v, child) : json_object_set_new(v, name, child), 0);
        space(b);
    }
    buf_xputs(b, kind == 4 ? "]" : "}");
    return v;
}

static json_t *make_number(struct buf *b, enum field_type type)
{
    char text[64], quoted[80];
    if (type == FIELD_INT64) {
        int64_t v = one_in(2) ? (int64_t)rnd_u64(&rnd) : (int64_t)below(100000) - 50000;
        bool quotes = one_in(3);
        snprintf(text, sizeof(text), quotes ? "\"%" PRId64 "\"" : "%" PRId64, v);
        snprintf(quoted, sizeof(quoted), "\"%" PRId64 "\"", v);
        return literal(b, text, !quotes && (v > 9007199254740991 || v < -9007199254740991) ? quoted : NULL);
    }
    if (type == FIELD_FLOAT64) {
        static const char *const odd[][2] = {{"NaN", "\"NaN\""}, {"-Infinity", "\"-Infinity\""}, {"\"inf\"", "\"Infinity\""}, {"1e-320", NULL}};
        size_t i = below(ARRAY_LEN(odd));
        if (one_in(5))
            return literal(b, odd[i][0], odd[i][1]);
        snprintf(text, sizeof(text), "%.*g", (int)(1 + below(17)), (rnd_real(&rnd) - 0.5) * (one_in(3) ? 1e300 : 1000));
        return literal(b, text, NULL);
    }
    snprintf(text, sizeof(text), "%zu.%0*zu", below(1000000), (int)(1 + below(9)), below(10));
    snprintf(quoted, sizeof(quoted), "\"%s\"", text);
    return one_in(2) ? literal(b, quoted, NULL) : literal(b, text, quoted);
}

static json_t *make_scalar(struct buf *b, const struct field *f)
{
    /* By type: what is given, and what must be written where that differs. */
    static const char *const fixed[][4][2] = {
        [FIELD_BYTES] = {{"\"\"", NULL}, {"\"QUJD\"", NULL}, {"\"QQ==\"", NULL}, {"\"\\/\\/\\/\\/\"", NULL}},
        [FIELD_BOOL] = {{"true", NULL}, {"false", NULL}, {"\"TRUE\"", "true"}, {"0", "false"}},
        [FIELD_DATE] = {{"\"2024-02-29\"", NULL}, {"\"0001-01-01\"", NULL}, {"\"2024-3-1\"", "\"2024-03-01\""}, {"\"1999-12-31\"", NULL}},
        [FIELD_DATETIME] = {{"\"2024-02-29 01:02:03\"", NULL}, {"\"2024-02-29T01:02:03.5\"", NULL}, {"\"2024-02-29\"", "\"2024-02-29 00:00:00\""},
                            {"\"9999-12-31T23:59:59.999999\"", NULL}},
        [FIELD_TIME] = {{"\"01:02:03\"", NULL}, {"\"23:59:59.123456\"", NULL}, {"\"1:02:03\"", "\"01:02:03\""}, {"\"00:00:00\"", NULL}},
        [FIELD_TIMESTAMP] = {{"\"2024-02-29T01:02:03Z\"", NULL}, {"\"2024-02-29 01:02 +05:30\"", NULL}, {"0", "\"1970-01-01 00:00:00Z\""},
                             {"-1.5", "\"1969-12-31 23:59:58.500000Z\""}},
        [FIELD_GEOGRAPHY] = {{"\"POINT(1 2)\"", NULL}, {"\"{}\"", NULL}, {"{\"a\":\n\"\\\"\"}", "\"{\\\"a\\\":\\\"\\\\\\\"\\\"}\""},
                             {"\"MULTIPOINT EMPTY\"", NULL}},
        [FIELD_INTERVAL] = {{"\"P1Y2M3DT4H5M6S\"", NULL}, {"\"0-0 1 0:0:0\"", "\"P0Y0M1DT0H0M0S\""}, {"\"PT1S\"", "\"P0Y0M0DT0H0M1S\""},
                            {"\"P0Y0M0DT-0H-0M-1S\"", NULL}},
        [FIELD_RANGE] = {{"\"[2020-01-01, 2021-01-01)\"", NULL}, {"\"[UNBOUNDED, UNBOUNDED)\"", NULL}, {"{\"start\":\"2020-01-01\"}", NULL},
                         {"{}", NULL}},
        [FIELD_STRUCT] = {{NULL}},
    };
    if (f->type == FIELD_STRING)
        return make_string(b, f->max_length > 0 ? (size_t)f->max_length : 100);
    if (f->type == FIELD_JSON)
        return make_json(b, 0);
    if (f->type == FIELD_INT64 || f->type == FIELD_FLOAT64 || f->type == FIELD_NUMERIC || f->type == FIELD_BIGNUMERIC)
        return make_number(b, f->type);
    size_t i = below(4);
    return literal(b, fixed[f->type][i][0], fixed[f->type][i][1]);
}

static json_t *make_object(struct buf *b, const struct field *fields, size_t count, bool top);

static json_t *make_value(struct buf *b, const struct field *f)
{
    return f->type == FIELD_STRUCT ? make_object(b, f->fields, f->count, false) : make_scalar(b, f);
}

static json_t *make_member(struct buf *b, const struct field *f)
{
    if (f->mode == MODE_NULLABLE && one_in(6))
        return literal(b, "null", NULL);
    if (f->mode != MODE_REPEATED)
        return make_value(b, f);
    if (one_in(6))
        return literal(b, "null", "[]");
    json_t *list = json_array();
    buf_xputs(b, "[");
    for (size_t i = 0, n = below(4); i < n; i++) {
        buf_xputs(b, i > 0 ? "," : "");
        space(b);
        json_array_append_new(list, make_value(b, f));
        space(b);
    }
    buf_xputs(b, "]");
    return list;
}

static json_t *make_object(struct buf *b, const struct field *fields, size_t count, bool top)
{
    json_t *o = json_object();
    size_t first = one_in(3) ? below(count) : 0;
    const char *comma = "";
    space(b);
    buf_xputs(b, "{");
    for (size_t k = 0; k < count; k++) {
        const struct field *f = &fields[(first + k) % count];
        if ((f->mode != MODE_REQUIRED || (top && f->has_default)) && one_in(3))
            continue;
        char name[64];
        snprintf(name, sizeof(name), "%s", f->name);
        if (one_in(5))
            name[0] ^= 0x20;
        buf_xputs(b, comma);
        space(b);
        buf_xprintf(b, "\"%s\"", name);
        space(b);
        buf_xputs(b, ":");
        space(b);
        json_object_set_new(o, name, make_member(b, f));
        space(b);
        comma = ",";
    }
    buf_xputs(b, "}");
    return o;
}

/* ---- The properties ---- */

static void refuse_line_breaks(const char *text, size_t len)
{
    assert_ptr_equal(memchr(text, '\n', len), text + len - 1);
    assert_null(memchr(text, '\r', len));
}

static void check_valid(struct rowcheck *rc, const struct buf *row, json_t *want, struct buf *out)
{
    struct error err = ERROR_INIT;
    AUTO(free_ptr) char *exact = xmemdup(row->data, row->len);
    buf_clear(out);
    if (rowcheck_add(rc, exact, row->len, 3, 4, out, NULL, &err) != 0)
        fail_msg("%s: %s", err.text, row->data);
    refuse_line_breaks(out->data, out->len);
    out->data[out->len - 1] = '}';
    json_t *got = parsed(out->data, out->len);
    json_object_set_new(want, "bqfleet_item", json_integer(3));
    json_object_set_new(want, "bqfleet_row", json_integer(4));
    if (!json_equal(got, want))
        fail_msg("%s became %s", row->data, out->data);
    json_decref(got);
}

static char *damaged(const struct buf *row, size_t *len)
{
    static const char favourites[] = "\"\\{}[],:0123456789-+.eEnNtf \n\0\x7f\x80\xc3\xed\xf4\xff";
    char *text = xmalloc(row->len + 1);
    size_t at = below(row->len);
    char byte = one_in(4) ? (char)below(256) : favourites[below(sizeof(favourites) - 1)];
    memcpy(text, row->data, at);
    switch (below(4)) {
    case 0: /* cut off */
        *len = at;
        break;
    case 1: /* a byte more */
        text[at] = byte;
        memcpy(text + at + 1, row->data + at, row->len - at);
        *len = row->len + 1;
        break;
    case 2: /* a byte less */
        memcpy(text + at, row->data + at + 1, row->len - at - 1);
        *len = row->len - 1;
        break;
    default: /* another byte */
        memcpy(text + at, row->data + at, row->len - at);
        text[at] = byte;
        *len = row->len;
    }
    return text;
}

static size_t check_damaged(struct rowcheck *rc, const struct buf *row, struct buf *out)
{
    size_t len = 0;
    AUTO(free_ptr) char *text = damaged(row, &len);
    AUTO(free_ptr) char *exact = xmemdup(text, len);
    struct error err = ERROR_INIT;
    buf_clear(out);
    if (rowcheck_add(rc, exact, len, 3, 4, out, NULL, &err) != 0) {
        assert_int_equal(out->len, 0);
        assert_int_equal(err.kind, ERR_TASK);
        assert_true(err.text[0] != '\0');
        return 0;
    }
    refuse_line_breaks(out->data, out->len);
    out->data[out->len - 1] = '}';
    json_error_t e;
    json_t *got = json_loadb(out->data, out->len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    if (got == NULL)
        fail_msg("%.*s passed as %s: %s", (int)len, text, out->data, e.text);
    json_decref(got);
    return 1;
}

static size_t check_schema(void)
{
    size_t passed = 0;
    AUTO(schema_free_auto) struct schema *schema = make_schema();
    struct error err = ERROR_INIT;
    AUTO(rowcheck_free_auto) struct rowcheck *rc = rowcheck_new(schema, NULL, &err);
    AUTO(buf_free) struct buf out = BUF_INIT(20000000);
    for (int k = 0; k < ROWS; k++) {
        AUTO(buf_free) struct buf row = BUF_INIT(10000000);
        json_t *want = make_object(&row, schema->fields, schema->count, true);
        check_valid(rc, &row, want, &out);
        json_decref(want);
        for (int d = 0; d < DAMAGES; d++)
            passed += check_damaged(rc, &row, &out);
    }
    return passed;
}

static void rows_that_pass_mean_the_same_and_damage_is_survived(void **state)
{
    (void)state;
    const char *count = getenv("SCHEDULES");
    uint64_t seeds = count ? strtoull(count, NULL, 10) : SEEDS;
    size_t passed = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        rnd_seeded(&rnd, seed);
        for (int i = 0; i < SCHEMAS; i++)
            passed += check_schema();
    }
    assert_in_range(passed, 1, seeds * SCHEMAS * ROWS * DAMAGES / 2); /* some damage is harmless, most is not */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_pass_mean_the_same_and_damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
