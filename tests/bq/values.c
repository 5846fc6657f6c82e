#include "tests/bq/internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <strings.h>

#include <jansson.h>

/* What a load takes for a column, written from BigQuery's pages on loading JSON, and not from the product's own check of rows. */

static doc *refuse(const struct field *f, const doc *in, struct error *why)
{
    AUTO(free_ptr) char *text = doc_text(in);
    error_set(why, ERR_TASK, 0, "Could not convert value to %s. Field: %s; Value: %.200s", field_type_name(f->type), f->name, text);
    return NULL;
}

/* The text of a string or number, as it stands there. */
static bool scalar_text(const doc *in, char *out, size_t size, const char **text, size_t *len)
{
    switch (doc_type(in)) {
    case DOC_STRING:
        *text = json_string_value(in);
        *len = json_string_length(in);
        return true;
    case DOC_INT:
        snprintf(out, size, "%" PRId64, (int64_t)json_integer_value(in));
        break;
    case DOC_REAL:
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(out, size, "%.*g", digits, json_real_value(in));
            if (strtod(out, NULL) == json_real_value(in))
                break;
        }
        break;
    default:
        return false;
    }
    *text = out;
    *len = strlen(out);
    return true;
}

static doc *clean_int(const struct field *f, const doc *in, struct error *why)
{
    char number[64];
    const char *text = NULL;
    size_t len = 0;
    if (doc_type(in) == DOC_REAL) {
        double v = json_real_value(in);
        return v == floor(v) && fabs(v) < 9007199254740992.0 ? doc_integer((int64_t)v) : refuse(f, in, why);
    }
    if (!scalar_text(in, number, sizeof(number), &text, &len) || len == 0 || strlen(text) != len || isspace((unsigned char)*text))
        return refuse(f, in, why);
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    return *end == '\0' && errno == 0 ? doc_integer(v) : refuse(f, in, why);
}

static doc *clean_float(const struct field *f, const doc *in, struct error *why)
{
    if (doc_type(in) == DOC_INT)
        return doc_number((double)json_integer_value(in));
    if (doc_type(in) == DOC_REAL)
        return doc_number(json_real_value(in));
    const char *text = doc_str(in, NULL, "");
    if (strcasecmp(text, "nan") == 0)
        return doc_string("NaN");
    if (strcasecmp(text, "inf") == 0 || strcasecmp(text, "+inf") == 0 || strcasecmp(text, "infinity") == 0 || strcasecmp(text, "+infinity") == 0)
        return doc_string("Infinity");
    if (strcasecmp(text, "-inf") == 0 || strcasecmp(text, "-infinity") == 0)
        return doc_string("-Infinity");
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return refuse(f, in, why);
    char *end = NULL;
    double v = strtod(text, &end);
    return *end == '\0' && isfinite(v) ? doc_number(v) : refuse(f, in, why);
}

static doc *clean_bool(const struct field *f, const doc *in, struct error *why)
{
    static const char *const words[] = {"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"};
    if (doc_type(in) == DOC_BOOL)
        return doc_boolean(doc_bool(in, NULL, false));
    char number[64];
    const char *text = NULL;
    size_t len = 0;
    if (scalar_text(in, number, sizeof(number), &text, &len))
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (strcasecmp(text, words[i]) == 0)
                return doc_boolean(i % 2 == 0);
    return refuse(f, in, why);
}

#define DIGITS_MAX 128
/* "-12.50e1" becomes "-125"; false when it is no number or one with more digits than the limits. */
static bool decimal(const char *text, size_t len, int64_t max_before, int64_t max_after, char out[DIGITS_MAX])
{
    char digits[DIGITS_MAX];
    size_t n = 0, i = 0;
    int64_t point = -1, exponent = 0;
    bool negative = len > 0 && *text == '-';
    i += len > 0 && (*text == '-' || *text == '+');
    for (; i < len && (isdigit((unsigned char)text[i]) || (text[i] == '.' && point < 0)); i++) {
        if (text[i] == '.')
            point = (int64_t)n;
        else if (n < sizeof(digits) - 1)
            digits[n++] = text[i];
        else
            return false;
    }
    if (n == 0)
        return false;
    if (point < 0)
        point = (int64_t)n;
    if (i < len && (text[i] == 'e' || text[i] == 'E')) {
        char *end = NULL;
        AUTO(free_ptr) char *rest = xstrndup(text + i + 1, len - i - 1);
        exponent = strtoll(rest, &end, 10);
        if (end == rest || *end || exponent > 200 || exponent < -200)
            return false;
        i = len;
    }
    if (i != len)
        return false;
    point += exponent;
    size_t first = 0;
    while (n > first && digits[n - 1] == '0')
        n--;
    while (first < n && digits[first] == '0') {
        first++;
        point--;
    }
    int64_t total = (int64_t)(n - first);
    if (total == 0) {
        snprintf(out, DIGITS_MAX, "0");
        return true;
    }
    if (point > max_before || total - point > max_after)
        return false;
    struct buf b = BUF_INIT(DIGITS_MAX - 1);
    buf_xputs(&b, negative ? "-" : "");
    if (point <= 0)
        buf_xputs(&b, "0");
    for (int64_t k = 0; k < point; k++)
        buf_xprintf(&b, "%c", k < total ? digits[(int64_t)first + k] : '0');
    if (total > point)
        buf_xputs(&b, ".");
    for (int64_t k = point; k < total; k++)
        buf_xprintf(&b, "%c", k < 0 ? '0' : digits[(int64_t)first + k]);
    snprintf(out, DIGITS_MAX, "%s", b.data);
    buf_free(&b);
    return true;
}

static doc *clean_numeric(const struct field *f, const doc *in, struct error *why)
{
    char number[64], out[DIGITS_MAX];
    const char *text = NULL;
    size_t len = 0;
    bool big = f->type == FIELD_BIGNUMERIC;
    int64_t after = f->precision > 0 ? f->scale : (big ? 38 : 9), before = f->precision > 0 ? f->precision - f->scale : (big ? 38 : 29);
    if (!scalar_text(in, number, sizeof(number), &text, &len) || !decimal(text, len, before, after, out))
        return refuse(f, in, why);
    return doc_string(out);
}

static int64_t utf8_length(const char *text, size_t len)
{
    int64_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

/* Bytes behind base64 text; -1: it is none. out may be NULL. */
static int64_t base64(const char *text, size_t len, unsigned char *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (len % 4 != 0)
        return -1;
    int64_t n = 0;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t v = 0;
        int pad = 0;
        for (size_t k = i; k < i + 4; k++) {
            const char *at = text[k] == '\0' ? NULL : strchr(alphabet, text[k]);
            bool may_pad = i + 4 == len && k >= i + 2 && text[k] == '=';
            if ((at == NULL && !may_pad) || (at && pad > 0))
                return -1;
            pad += at == NULL;
            v = v << 6 | (at ? (uint32_t)(at - alphabet) : 0);
        }
        for (int k = 0; k < 3 - pad; k++, n++)
            if (out)
                out[n] = (unsigned char)(v >> (16 - 8 * k));
    }
    return n;
}

static doc *clean_text(const struct field *f, const doc *in, struct error *why)
{
    char number[64];
    const char *text = NULL;
    size_t len = 0;
    if (doc_type(in) == DOC_BOOL && f->type == FIELD_STRING)
        return doc_string(doc_bool(in, NULL, false) ? "true" : "false");
    if (!scalar_text(in, number, sizeof(number), &text, &len))
        return refuse(f, in, why);
    int64_t size = f->type == FIELD_BYTES ? base64(text, len, NULL) : utf8_length(text, len);
    if (size < 0 || (f->type == FIELD_BYTES && doc_type(in) != DOC_STRING))
        return refuse(f, in, why);
    if (f->max_length > 0 && size > f->max_length) {
        error_set(why, ERR_TASK, 0, "Field %s: %s(%" PRId64 ") has maximum length %" PRId64 " but got a value with length %" PRId64, f->name,
                  field_type_name(f->type), f->max_length, f->max_length, size);
        return NULL;
    }
    return doc_stringn(text, len);
}

static doc *clean_time(const struct field *f, const doc *in, struct error *why)
{
    if (f->type == FIELD_TIMESTAMP && doc_type(in) == DOC_INT)
        return doc_integer(json_integer_value(in) * US_PER_S);
    if (f->type == FIELD_TIMESTAMP && doc_type(in) == DOC_REAL)
        return doc_integer((int64_t)llround(json_real_value(in) * 1e6));
    doc *out = doc_type(in) == DOC_STRING ? value_clean_time(f->type, json_string_value(in), json_string_length(in)) : NULL;
    return out ? out : refuse(f, in, why);
}

static const struct field *member(const struct field *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcasecmp(f->fields[i].name, name) == 0)
            return &f->fields[i];
    return NULL;
}

static const doc *member_value(const doc *object, const char *name)
{
    const doc *exact = doc_field(object, name);
    for (void *it = exact ? NULL : doc_first(object); it; it = doc_next(object, it))
        if (strcasecmp(doc_key(it), name) == 0)
            return doc_value(it);
    return exact;
}

static doc *clean_struct(const struct field *f, const doc *in, struct error *why)
{
    if (doc_type(in) != DOC_OBJECT)
        return refuse(f, in, why);
    for (void *it = doc_first(in); it; it = doc_next(in, it))
        if (member(f, doc_key(it)) == NULL) {
            error_set(why, ERR_TASK, 0, "No such field: %s.%s.", f->name, doc_key(it));
            return NULL;
        }
    AUTO(doc_free_auto) doc *out = doc_object();
    for (size_t i = 0; i < f->count; i++) {
        doc *v = value_clean(&f->fields[i], member_value(in, f->fields[i].name), why);
        if (v == NULL)
            return NULL;
        doc_set(out, f->fields[i].name, v);
    }
    return doc_ref(out);
}

doc *value_clean_one(const struct field *f, const doc *in, struct error *why)
{
    switch (f->type) {
    case FIELD_INT64: return clean_int(f, in, why);
    case FIELD_FLOAT64: return clean_float(f, in, why);
    case FIELD_BOOL: return clean_bool(f, in, why);
    case FIELD_NUMERIC: case FIELD_BIGNUMERIC: return clean_numeric(f, in, why);
    case FIELD_DATE: case FIELD_DATETIME: case FIELD_TIME: case FIELD_TIMESTAMP: return clean_time(f, in, why);
    case FIELD_STRUCT: return clean_struct(f, in, why);
    case FIELD_JSON: return doc_copy(in);
    case FIELD_STRING: case FIELD_BYTES: break;
    case FIELD_GEOGRAPHY: case FIELD_INTERVAL: case FIELD_RANGE:
        if (doc_type(in) != DOC_STRING)
            return refuse(f, in, why);
        break;
    }
    return clean_text(f, in, why);
}

doc *value_clean(const struct field *f, const doc *in, struct error *why)
{
    bool null = in == NULL || doc_type(in) == DOC_NULL;
    if (f->mode == MODE_REPEATED) {
        AUTO(doc_free_auto) doc *out = doc_array();
        if (!null && doc_type(in) != DOC_ARRAY) {
            error_set(why, ERR_TASK, 0, "Array specified for non-repeated field, or none for a repeated one: %s.", f->name);
            return NULL;
        }
        for (size_t i = 0; i < doc_len(in); i++) {
            if (doc_type(doc_at(in, i)) == DOC_NULL) {
                error_set(why, ERR_TASK, 0, "Only optional fields can be set to NULL. Field: %s; Value: NULL", f->name);
                return NULL;
            }
            doc *v = value_clean_one(f, doc_at(in, i), why);
            if (v == NULL)
                return NULL;
            doc_add(out, v);
        }
        return doc_ref(out);
    }
    if (!null)
        return value_clean_one(f, in, why);
    if (f->mode == MODE_REQUIRED && !(f->has_default && in == NULL)) {
        error_set(why, ERR_TASK, 0, in ? "Only optional fields can be set to NULL. Field: %s; Value: NULL" : "Missing required field: %s.", f->name);
        return NULL;
    }
    return doc_null();
}

/* --- comparing ----------------------------------------------------------------------------------------------------------------------------- */

bool value_is_nan(const struct cell *c)
{
    return c->text && strcmp(c->text, "NaN") == 0;
}

static int sign(bool less, bool more)
{
    return more - less;
}

static int compare_decimal(const char *a, const char *b)
{
    bool na = *a == '-', nb = *b == '-';
    if (na != nb)
        return na ? -1 : 1;
    size_t la = strcspn(a, "."), lb = strcspn(b, ".");
    int order = la != lb ? sign(la < lb, la > lb) : strcmp(a, b);
    return na ? -order : order;
}

static int compare_float(const struct cell *a, const struct cell *b)
{
    if (value_is_nan(a) || value_is_nan(b))
        return sign(value_is_nan(a) && !value_is_nan(b), value_is_nan(b) && !value_is_nan(a));
    double x = strtod(a->text, NULL), y = strtod(b->text, NULL);
    return sign(x < y, x > y);
}

static int compare_bytes(const char *a, size_t la, const char *b, size_t lb)
{
    int order = memcmp(a, b, size_min(la, lb));
    return order ? order : sign(la < lb, la > lb);
}

/* "1-2 3 4:5:6.5", with months of 30 days, as comparisons of intervals take them. */
static int64_t interval_us(const char *text)
{
    int64_t part[6] = {0};
    double seconds = 0;
    int n = sscanf(text, "%" SCNd64 "-%" SCNd64 " %" SCNd64 " %" SCNd64 ":%" SCNd64 ":%lf", &part[0], &part[1], &part[2], &part[3], &part[4], &seconds);
    int64_t months = part[0] * 12 + (text[0] == '-' ? -part[1] : part[1]), minutes = part[3] * 60 + part[4];
    return n < 1 ? 0 : ((months * 30 + part[2]) * 1440 + minutes) * 60 * US_PER_S + (int64_t)llround(seconds * 1e6);
}

int value_compare(const struct field *f, const struct cell *a, const struct cell *b)
{
    int64_t x, y;
    switch (f->type) {
    case FIELD_INT64: case FIELD_TIMESTAMP:
        x = strtoll(a->text, NULL, 10);
        y = strtoll(b->text, NULL, 10);
        return sign(x < y, x > y);
    case FIELD_INTERVAL:
        x = interval_us(a->text);
        y = interval_us(b->text);
        return sign(x < y, x > y);
    case FIELD_NUMERIC: case FIELD_BIGNUMERIC:
        return compare_decimal(a->text, b->text);
    case FIELD_FLOAT64:
        return compare_float(a, b);
    case FIELD_BYTES: {
        AUTO(free_ptr) unsigned char *da = xmalloc(a->len + 1), *db = xmalloc(b->len + 1);
        int64_t la = base64(a->text, a->len, da), lb = base64(b->text, b->len, db);
        return compare_bytes((const char *)da, (size_t)la, (const char *)db, (size_t)lb);
    }
    default: /* "false" < "true"; dates and times are written so that their texts are in order */
        return compare_bytes(a->text, a->len, b->text, b->len);
    }
}
