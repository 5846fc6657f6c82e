#include "common/base/rows_internal.h"

#include <math.h>

#include "common/base/limits.h"
#include "common/base/utf8.h"

#define JSON_NEST 500 /* levels in a JSON value: BigQuery's own limit */
#define SHOWN 60      /* bytes of a value in an error */

/* ---- Copying ---- */

static void put(struct scan *s, const char *p, size_t n)
{
    if (buf_add(s->out, p, n) != 0)
        s->full = true; /* the rest is still checked: a bad row is bad whether there is room or not */
}

void scan_flush(struct scan *s, const char *to)
{
    assert(to >= s->run);
    put(s, s->run, (size_t)(to - s->run));
    s->run = to;
}

void scan_replace(struct scan *s, const char *from, const char *to, const char *text, size_t len)
{
    scan_flush(s, from);
    put(s, text, len);
    s->run = to;
}

void scan_put_quoted(struct scan *s, const char *from, const char *to, const char *text, size_t len)
{
    scan_replace(s, from, to, "\"", 1);
    size_t done = 0;
    for (size_t i = 0; i < len; i++) {
        bool tab = text[i] == '\t'; /* between tokens; the only control character that a checked value can have */
        if (!tab && text[i] != '"' && text[i] != '\\')
            continue;
        put(s, text + done, i - done);
        put(s, tab ? " " : "\\", 1);
        done = i + tab;
    }
    put(s, text + done, len - done);
    put(s, "\"", 1);
}

const char *scan_spaces(struct scan *s, const char *p)
{
    for (; p < s->end; p++) {
        if (*p == '\n' || *p == '\r')
            scan_replace(s, p, p + 1, "", 0); /* a row is one line */
        else if (*p != ' ' && *p != '\t')
            break;
    }
    return p;
}

/* ---- Failing ---- */

const char *scan_fail(struct scan *s, const char *fmt, ...)
{
    if (s->what[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(s->what, sizeof(s->what), fmt, ap);
        va_end(ap);
    }
    return NULL;
}

/* The value that begins at p, cut and cleaned for a person's eyes. */
static void show(const struct scan *s, const char *p, char out[SHOWN + 4])
{
    const char *end = p;
    bool quoted = p < s->end && *p == '"', nested = p < s->end && (*p == '{' || *p == '[');
    if (quoted) {
        for (end++; end < s->end && *end != '"'; end++)
            if (*end == '\\' && s->end - end > 1)
                end++;
        end += end < s->end;
    } else if (nested)
        end = s->end;
    else
        do
            end += end < s->end;
        while (end < s->end && strchr(",]} \t\r\n", *end) == NULL);
    size_t n = 0;
    while (p < end) {
        uint32_t code = 0;
        size_t k = utf8_step(p, (size_t)(end - p), &code);
        if (n + (k == 0 ? 1 : k) > SHOWN)
            break;
        if (k == 0 || code < 0x20 || code == 0x7f)
            out[n++] = '?';
        else {
            memcpy(out + n, p, k);
            n += k;
        }
        p += k == 0 ? 1 : k;
    }
    snprintf(out + n, 4, "%s", p < end ? "..." : "");
}

const char *scan_syntax(struct scan *s, const char *p, const char *wanted)
{
    char value[SHOWN + 4];
    show(s, p, value);
    if (p >= s->end)
        return scan_fail(s, "the row ends where %s is wanted", wanted);
    return scan_fail(s, "not JSON at byte %zu: wanted %s, found %s", (size_t)(p - s->begin) + 1, wanted, value);
}

static const char *const wanted_of[] = {
    [FIELD_STRING] = "text in quotes",
    [FIELD_BYTES] = "base64 in quotes, with its padding",
    [FIELD_INT64] = "a whole number of 64 bits without fraction or exponent, bare or quoted",
    [FIELD_FLOAT64] = "a number, NaN, Infinity or -Infinity, bare or quoted",
    [FIELD_BOOL] = "true or false",
    [FIELD_NUMERIC] = "a number of at most 29 digits before and 9 after the point, bare or quoted",
    [FIELD_BIGNUMERIC] = "a number of at most 38 digits before and 38 after the point, bare or quoted",
    [FIELD_DATE] = "\"YYYY-MM-DD\"",
    [FIELD_DATETIME] = "\"YYYY-MM-DD HH:MM:SS[.SSSSSS]\"",
    [FIELD_TIME] = "\"HH:MM:SS[.SSSSSS]\"",
    [FIELD_TIMESTAMP] = "\"YYYY-MM-DD HH:MM:SS[.SSSSSS]\" with Z, UTC, an offset or nothing behind it, or seconds since 1970 as a number",
    [FIELD_JSON] = "a JSON value",
    [FIELD_GEOGRAPHY] = "WKT, hexadecimal WKB or GeoJSON",
    [FIELD_INTERVAL] = "\"Y-M D H:M:S\" or ISO 8601's \"P1Y2M3DT4H5M6S\"",
    [FIELD_RANGE] = "\"[START, END)\" or {\"start\":START,\"end\":END}",
    [FIELD_STRUCT] = "an object",
};

const char *scan_refuse(struct scan *s, const struct column *c, const char *from)
{
    char value[SHOWN + 4];
    const char *name = field_type_name(c->field->type);
    if (from >= s->end || strchr(",:]}", *from) != NULL)
        return scan_syntax(s, from, "a value");
    show(s, from, value);
    return scan_fail(s, "%s is not %s %s; wanted %s", value, name[0] == 'I' ? "an" : "a", name, wanted_of[c->field->type]);
}

const char *scan_refuse_as(struct scan *s, const char *from, const char *why)
{
    char value[SHOWN + 4];
    show(s, from, value);
    return scan_fail(s, "%s %s", value, why);
}

static void path_prepend(struct scan *s, const char *part)
{
    char old[sizeof(s->path)];
    memcpy(old, s->path, sizeof(old));
    int n = snprintf(s->path, sizeof(s->path), "%s%s%s", part, old[0] == '\0' || old[0] == '[' ? "" : ".", old);
    if (n >= (int)sizeof(s->path))
        memcpy(s->path + sizeof(s->path) - 4, "...", 4);
}

void scan_in_column(struct scan *s, const char *name)
{
    path_prepend(s, name);
}

void scan_in_element(struct scan *s, size_t i)
{
    char part[32];
    snprintf(part, sizeof(part), "[%zu]", i);
    path_prepend(s, part);
}

/* ---- Strings ---- */

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* p: the backslash. The place behind the escape; *code: what it stands for. */
static const char *escape(struct scan *s, const char *p, uint32_t *code)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->end - p < 2)
        return scan_syntax(s, s->end, "the rest of a string");
    const char *known = p[1] == '\0' ? NULL : strchr(from, p[1]);
    if (known != NULL) {
        *code = (unsigned char)to[known - from];
        return p + 2;
    }
    int a = p[1] == 'u' && s->end - p >= 6 ? hex4(p + 2) : -1;
    if (a < 0 || (a >= 0xdc00 && a <= 0xdfff))
        return scan_syntax(s, p, "a valid escape");
    *code = (uint32_t)a;
    if (a < 0xd800 || a > 0xdfff)
        return p + 6;
    int b = s->end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;
    if (b < 0xdc00 || b > 0xdfff)
        return scan_syntax(s, p, "both halves of a surrogate pair");
    *code = 0x10000 + (((uint32_t)a & 0x3ffU) << 10) + ((uint32_t)b & 0x3ffU);
    return p + 12;
}

/* p: a byte that is neither plain ASCII nor the closing quote. The place behind it and its like. */
static const char *special(struct scan *s, const char *p, bool *escaped)
{
    uint32_t code = 0;
    if (*p == '\\') {
        *escaped = true;
        return escape(s, p, &code);
    }
    if ((unsigned char)*p < 0x20)
        return scan_fail(s, "a control character (0x%02x) in a string at byte %zu; wanted it escaped", (unsigned)*p,
                         (size_t)(p - s->begin) + 1);
    while (p < s->end && (unsigned char)*p >= 0x80) {
        size_t k = utf8_step(p, (size_t)(s->end - p), &code);
        if (k == 0)
            return scan_fail(s, "bytes that are not UTF-8 in a string at byte %zu (0x%02x)", (size_t)(p - s->begin) + 1,
                             (unsigned)(unsigned char)*p);
        p += k;
    }
    return p;
}

const char *scan_string(struct scan *s, const char *p, bool *escaped)
{
    for (;;) {
#ifdef __SSE2__
        const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
        while (s->end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
            /* Signed: bytes from 0x80 are negative, so one comparison finds them and the control characters. */
            __m128i odd = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)), _mm_cmplt_epi8(v, space));
            unsigned mask = (unsigned)_mm_movemask_epi8(odd);
            if (mask != 0) {
                p += __builtin_ctz(mask);
                break;
            }
            p += 16;
        }
#endif
        while (p < s->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80)
            p++;
        if (p >= s->end)
            return scan_syntax(s, p, "the closing quote of a string");
        if (*p == '"')
            return p;
        p = special(s, p, escaped);
        if (p == NULL)
            return NULL;
    }
}

static size_t utf8_put(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80U | (code & 0x3fU));
        code >>= 6;
    }
    out[0] = (char)((n == 2 ? 0xc0U : n == 3 ? 0xe0U : 0xf0U) | code);
    return n;
}

const char *scan_text(struct scan *s, const char *p, const char **text, size_t *len)
{
    bool escaped = false;
    const char *end = scan_string(s, p + 1, &escaped);
    if (end == NULL)
        return NULL;
    *text = p + 1;
    *len = (size_t)(end - p - 1);
    if (!escaped)
        return end + 1;
    buf_clear(&s->rc->scratch);
    char *out = buf_reserve(&s->rc->scratch, *len); /* an escape is never shorter than what it stands for */
    assert(out != NULL);
    size_t n = 0;
    for (p++; p < end;) {
        if (*p != '\\') {
            out[n++] = *p++;
            continue;
        }
        uint32_t code = 0;
        p = escape(s, p, &code);
        assert(p != NULL);
        n += utf8_put(out + n, code);
    }
    *text = out;
    *len = n;
    return end + 1;
}

/* ---- Numbers and words ---- */

static const char *digits(const char *p, const char *end)
{
    while (p < end && (unsigned)(*p - '0') < 10)
        p++;
    return p;
}

const char *scan_number(const char *p, const char *end, struct number *n)
{
    n->negative = p < end && *p == '-';
    n->whole = p + n->negative;
    p = digits(n->whole, end);
    n->whole_len = (size_t)(p - n->whole);
    if (n->whole_len == 0 || (n->whole_len > 1 && *n->whole == '0'))
        return NULL;
    n->frac = p;
    n->frac_len = 0;
    n->exponent = 0;
    n->has_exponent = false;
    if (p < end && *p == '.') {
        n->frac = p + 1;
        p = digits(n->frac, end);
        n->frac_len = (size_t)(p - n->frac);
        if (n->frac_len == 0)
            return NULL;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        n->has_exponent = true;
        p++;
        bool minus = p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        const char *stop = digits(p, end);
        if (stop == p)
            return NULL;
        for (; p < stop; p++)
            if (n->exponent < 100000)
                n->exponent = n->exponent * 10 + (*p - '0');
        if (minus)
            n->exponent = -n->exponent;
    }
    return p;
}

bool number_overflows(const struct number *n)
{
    if ((int64_t)n->whole_len + n->exponent <= 308) /* below 1e308 */
        return false;
    const char *end = n->frac_len > 0 ? n->frac + n->frac_len : n->whole + n->whole_len;
    AUTO(free_ptr) char *digits_only = xstrndup(n->whole, (size_t)(end - n->whole));
    AUTO(free_ptr) char *text = xasprintf("%se%d", digits_only, n->exponent);
    return isinf(strtod(text, NULL)) != 0;
}

bool scan_word(const struct scan *s, const char *p, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(s->end - p) >= n && memcmp(p, word, n) == 0 && scan_ends(s, p + n);
}

bool scan_ends(const struct scan *s, const char *p)
{
    char c = scan_peek(s, p);
    return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t' || p >= s->end;
}

/* ---- Any JSON value ---- */

static const char *json_scalar(struct scan *s, const char *p)
{
    char c = scan_peek(s, p);
    bool escaped = false;
    if (c == '"') {
        p = scan_string(s, p + 1, &escaped);
        return p == NULL ? NULL : p + 1;
    }
    if (scan_word(s, p, "true") || scan_word(s, p, "null"))
        return p + 4;
    if (scan_word(s, p, "false"))
        return p + 5;
    struct number n;
    const char *end = scan_number(p, s->end, &n);
    if (end == NULL || !scan_ends(s, end))
        return scan_syntax(s, p, "a JSON value");
    if (number_overflows(&n))
        return scan_refuse_as(s, p, "is beyond the numbers that JSON values hold");
    return end;
}

static const char *json_name(struct scan *s, const char *p)
{
    bool escaped = false;
    if (scan_peek(s, p) != '"')
        return scan_syntax(s, p, "a name in quotes");
    p = scan_string(s, p + 1, &escaped);
    if (p == NULL)
        return NULL;
    p = scan_space(s, p + 1);
    if (scan_peek(s, p) != ':')
        return scan_syntax(s, p, "a colon");
    return scan_space(s, p + 1);
}

const char *scan_json(struct scan *s, const char *p)
{
    bool object[JSON_NEST]; /* what is open: no recursion, so no depth of the user's can exhaust the stack */
    size_t depth = 0;
    for (;;) {
        char c = scan_peek(s, p);
        bool closed = true;
        if (c == '{' || c == '[') {
            if (depth == JSON_NEST)
                return scan_fail(s, "a JSON value nested more than %d deep", JSON_NEST);
            object[depth++] = c == '{';
            p = scan_space(s, p + 1);
            closed = scan_peek(s, p) == (c == '{' ? '}' : ']');
            if (closed) {
                depth--;
                p++;
            } else if (c == '{' && (p = json_name(s, p)) == NULL)
                return NULL;
        } else if ((p = json_scalar(s, p)) == NULL)
            return NULL;
        while (closed) { /* a value has just ended */
            if (depth == 0)
                return p;
            p = scan_space(s, p);
            c = scan_peek(s, p);
            bool in_object = object[depth - 1];
            if (c == (in_object ? '}' : ']'))
                depth--;
            else if (c == ',')
                closed = false;
            else
                return scan_syntax(s, p, in_object ? "a comma or }" : "a comma or ]");
            p++;
        }
        if (c == ',') {
            p = scan_space(s, p);
            if (object[depth - 1] && (p = json_name(s, p)) == NULL)
                return NULL;
        }
    }
}
