#include "common/base/rows_internal.h"

#include <strings.h>

#define SAFE_INT INT64_C(9007199254740991) /* 2^53 - 1: load jobs read greater bare integers through a double */
#define SAFE_DIGITS 15                     /* decimal digits that a double keeps */

static bool word_is(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

/* ---- STRING and BYTES ---- */

/* Characters of a checked string, p: behind its opening quote. */
static int64_t characters(const char *p, const char *end)
{
    int64_t n = 0;
    while (p < end) {
        n += ((unsigned char)*p & 0xc0) != 0x80;
        if (*p != '\\') {
            p++;
            continue;
        }
        if (p[1] == 'u' && (p[2] | 0x20) == 'd' && strchr("89abAB", p[3]) != NULL) /* the first half of a pair: 12 bytes */
            p += 12;
        else
            p += p[1] == 'u' ? 6 : 2;
    }
    return n;
}

static const char *value_string(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) != '"')
        return scan_refuse(s, c, p);
    bool escaped = false;
    const char *end = scan_string(s, p + 1, &escaped);
    if (end == NULL)
        return NULL;
    int64_t max = c->field->max_length;
    if (max > 0 && end - p - 1 > max) {
        int64_t n = characters(p + 1, end);
        char why[96];
        snprintf(why, sizeof(why), "has %" PRId64 " characters; the column is STRING(%" PRId64 ")", n, max);
        if (n > max)
            return scan_refuse_as(s, p, why);
    }
    return end + 1;
}

static bool base64_length(const char *text, size_t len, int64_t *bytes)
{
    if (len % 4 != 0)
        return false;
    size_t padding = len > 0 && text[len - 1] == '=' ? (text[len - 2] == '=' ? 2 : 1) : 0;
    unsigned bad = 0;
    for (size_t i = 0; i < len - padding; i++) { /* no branches, so that compilers take many bytes at once */
        unsigned char c = (unsigned char)text[i], letter = (unsigned char)((c | 0x20) - 'a'), digit = (unsigned char)(c - '0');
        bad |= (unsigned)!((letter < 26) | (digit < 10) | (c == '+') | (c == '/'));
    }
    *bytes = (int64_t)(len / 4 * 3 - padding);
    return bad == 0;
}

static const char *value_bytes(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) != '"')
        return scan_refuse(s, c, p);
    const char *text = NULL;
    size_t len = 0;
    const char *end = scan_text(s, p, &text, &len);
    if (end == NULL)
        return NULL;
    int64_t bytes = 0;
    if (!base64_length(text, len, &bytes))
        return scan_refuse(s, c, p);
    int64_t max = c->field->max_length;
    if (max > 0 && bytes > max) {
        char why[96];
        snprintf(why, sizeof(why), "has %" PRId64 " bytes; the column is BYTES(%" PRId64 ")", bytes, max);
        return scan_refuse_as(s, p, why);
    }
    return end;
}

/* ---- Numbers ---- */

static const char *integer(const char *p, const char *end, int64_t *v)
{
    bool negative = p < end && *p == '-';
    const char *first = p + negative, *q = first;
    uint64_t n = 0;
    while (q < end && (unsigned)(*q - '0') < 10)
        n = n * 10 + (uint64_t)(*q++ - '0');
    size_t digits = (size_t)(q - first);
    if (digits == 0 || digits > 19 || (digits > 1 && *first == '0') || n > (uint64_t)INT64_MAX + negative)
        return NULL; /* 19 digits cannot overflow n */
    *v = negative ? (int64_t)(0 - n) : (int64_t)n;
    return q;
}

static const char *value_int64(struct scan *s, const struct column *c, const char *p)
{
    int64_t v = 0;
    const char *end = NULL;
    if (scan_peek(s, p) == '"') {
        const char *text = NULL;
        size_t len = 0;
        end = scan_text(s, p, &text, &len);
        if (end == NULL)
            return NULL;
        if (integer(text, text + len, &v) != text + len || len == 0)
            return scan_refuse(s, c, p);
    } else {
        end = integer(p, s->end, &v);
        if (end == NULL || !scan_ends(s, end))
            return scan_refuse(s, c, p);
        if (v > SAFE_INT || v < -SAFE_INT)
            scan_put_quoted(s, p, end, p, (size_t)(end - p));
    }
    scan_note_partition(s, c, v);
    return end;
}

static const char *float_word(const char *text, size_t len)
{
    const char *unsigned_text = len > 0 && (*text == '-' || *text == '+') ? text + 1 : text;
    size_t n = len - (size_t)(unsigned_text - text);
    if (word_is(text, len, "nan"))
        return "NaN";
    if (word_is(unsigned_text, n, "inf") || word_is(unsigned_text, n, "infinity"))
        return *text == '-' ? "-Infinity" : "Infinity";
    return NULL;
}

static const char *value_float64(struct scan *s, const struct column *c, const char *p)
{
    const char *text = p, *end = NULL, *stop = NULL;
    struct number n;
    if (scan_peek(s, p) == '"') {
        size_t len = 0;
        end = scan_text(s, p, &text, &len);
        if (end == NULL)
            return NULL;
        stop = text + len;
        if (scan_number(text, stop, &n) == stop && !number_overflows(&n))
            return end;
    } else {
        end = scan_number(p, s->end, &n);
        if (end != NULL && scan_ends(s, end))
            return number_overflows(&n) ? scan_refuse_as(s, p, "is beyond FLOAT64") : end;
        for (end = p; !scan_ends(s, end); end++) {
        }
        stop = end;
    }
    const char *word = float_word(text, (size_t)(stop - text));
    if (word == NULL)
        return scan_refuse(s, c, p);
    scan_put_quoted(s, p, end, word, strlen(word));
    return end;
}

static const char *value_bool(struct scan *s, const struct column *c, const char *p)
{
    if (scan_word(s, p, "true"))
        return p + 4;
    if (scan_word(s, p, "false"))
        return p + 5;
    /* The pairs that load jobs know; all but the bare words are written as those. */
    static const char *const words[] = {"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"};
    const char *text = p, *end = p + 1;
    size_t len = 1;
    if (scan_peek(s, p) == '"') {
        end = scan_text(s, p, &text, &len);
        if (end == NULL)
            return NULL;
    } else if ((scan_peek(s, p) != '0' && scan_peek(s, p) != '1') || !scan_ends(s, end))
        return scan_refuse(s, c, p);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (word_is(text, len, words[i])) {
            scan_replace(s, p, end, words[i % 2], strlen(words[i % 2]));
            return end;
        }
    return scan_refuse(s, c, p);
}

/* Digits that count before and after the point, and how many there are between the first and the last one that is not 0. */
static void decimal_size(const struct number *n, int64_t *before, int64_t *after, int64_t *significant)
{
    int64_t total = (int64_t)(n->whole_len + n->frac_len), point = (int64_t)n->whole_len + n->exponent, first = 0, last = total;
#define DIGIT(i) ((i) < (int64_t)n->whole_len ? n->whole[i] : n->frac[(i) - (int64_t)n->whole_len])
    while (first < total && DIGIT(first) == '0')
        first++;
    while (last > first && DIGIT(last - 1) == '0')
        last--;
#undef DIGIT
    bool zero = first == total;
    *before = zero ? 0 : i64_max(0, point - first);
    *after = zero ? 0 : i64_max(0, last - point);
    *significant = last - first;
}

static bool decimal_fits(const struct field *f, const struct number *n, int64_t *significant)
{
    int64_t before = 0, after = 0;
    bool big = f->type == FIELD_BIGNUMERIC;
    int64_t max_after = f->precision > 0 ? f->scale : (big ? 38 : 9);
    int64_t max_before = f->precision > 0 ? f->precision - f->scale : (big ? 38 : 29);
    decimal_size(n, &before, &after, significant);
    return before <= max_before && after <= max_after;
}

static const char *value_numeric(struct scan *s, const struct column *c, const char *p)
{
    struct number n;
    int64_t significant = 0;
    bool quoted = scan_peek(s, p) == '"', whole = false;
    const char *end = NULL;
    if (quoted) {
        const char *text = NULL;
        size_t len = 0;
        end = scan_text(s, p, &text, &len);
        if (end == NULL)
            return NULL;
        whole = scan_number(text, text + len, &n) == text + len;
    } else {
        end = scan_number(p, s->end, &n);
        whole = end != NULL && scan_ends(s, end);
    }
    if (!whole)
        return scan_refuse(s, c, p);
    if (!decimal_fits(c->field, &n, &significant)) {
        if (c->field->precision == 0)
            return scan_refuse(s, c, p);
        AUTO(free_ptr) char *type = field_sql_type(c->field);
        char why[128];
        snprintf(why, sizeof(why), "has more digits than the column's type holds (%s)", type);
        return scan_refuse_as(s, p, why);
    }
    /* A bare number reaches the column through a double, whose decimal form may have more digits than the column takes. */
    if (!quoted && (n.frac_len > 0 || n.has_exponent || significant > SAFE_DIGITS))
        scan_put_quoted(s, p, end, p, (size_t)(end - p));
    return end;
}

/* ---- JSON and GEOGRAPHY ---- */

static const char *value_json(struct scan *s, const struct column *c, const char *p)
{
    (void)c;
    return scan_json(s, p);
}

static bool is_wkt(const char *t, size_t n)
{
    static const char *const tags[] = {"POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON",
                                       "GEOMETRYCOLLECTION", "FULLGLOBE"};
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        size_t k = strlen(tags[i]);
        if (n < k || strncasecmp(t, tags[i], k) != 0)
            continue;
        if (n == k)
            return i == ARRAY_LEN(tags) - 1;
        if (t[k] == ' ' || t[k] == '(')
            return t[n - 1] == ')' || (n > k + 5 && strncasecmp(t + n - 5, "EMPTY", 5) == 0);
    }
    return false;
}

/* Whether a string may be a shape: its form only, its geometry is BigQuery's business. */
static bool is_geography(const char *t, size_t n)
{
    while (n > 0 && *t == ' ') {
        t++;
        n--;
    }
    while (n > 0 && t[n - 1] == ' ')
        n--;
    if (n == 0)
        return false;
    if (*t == '{')
        return t[n - 1] == '}';
    if (*t == '0') { /* WKB begins with its byte order, 00 or 01 */
        for (size_t i = 0; i < n; i++)
            if (strchr("0123456789abcdefABCDEF", t[i]) == NULL || t[i] == '\0')
                return false;
        return n % 2 == 0 && n >= 10;
    }
    return is_wkt(t, n);
}

static const char *value_geography(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) == '{') {
        /* Load jobs take GeoJSON in a string. Copied first, so that its line breaks are gone, then taken back and quoted. */
        scan_flush(s, p);
        size_t mark = s->out->len;
        const char *end = scan_json(s, p);
        if (end == NULL)
            return NULL;
        scan_flush(s, end);
        if (s->full)
            return end;
        struct buf object = BUF_INIT(SIZE_MAX / 2);
        buf_xadd(&object, s->out->data + mark, s->out->len - mark);
        s->out->len = mark;
        scan_put_quoted(s, end, end, object.data, object.len);
        buf_free(&object);
        return end;
    }
    if (scan_peek(s, p) != '"')
        return scan_refuse(s, c, p);
    const char *text = NULL;
    size_t len = 0;
    const char *end = scan_text(s, p, &text, &len);
    if (end == NULL)
        return NULL;
    return is_geography(text, len) ? end : scan_refuse(s, c, p);
}

value_fn *value_reader(enum field_type type)
{
    static value_fn *const readers[] = {
        [FIELD_STRING] = value_string,       [FIELD_BYTES] = value_bytes,         [FIELD_INT64] = value_int64,
        [FIELD_FLOAT64] = value_float64,     [FIELD_BOOL] = value_bool,           [FIELD_NUMERIC] = value_numeric,
        [FIELD_BIGNUMERIC] = value_numeric,  [FIELD_DATE] = value_date,           [FIELD_DATETIME] = value_datetime,
        [FIELD_TIME] = value_time,           [FIELD_TIMESTAMP] = value_timestamp, [FIELD_JSON] = value_json,
        [FIELD_GEOGRAPHY] = value_geography, [FIELD_INTERVAL] = value_interval,   [FIELD_RANGE] = value_range,
        [FIELD_STRUCT] = value_struct,
    };
    assert((size_t)type < ARRAY_LEN(readers));
    return readers[type];
}
