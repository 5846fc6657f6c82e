#include "common/base/json.h"

#include "common/base/utf8.h"

/* --- scanning ---------------------------------------------------------------------------------------------------------------------------- */

void json_space(struct json_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n'))
        s->p++;
}

/* At a quote: goes past the closing one. */
static int skip_string(struct json_scan *s)
{
    const char *p = s->p + 1;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(s->end - p));
        if (quote == NULL)
            return -1;
        size_t slashes = 0;
        while (quote - slashes > s->p + 1 && quote[-1 - (ptrdiff_t)slashes] == '\\')
            slashes++;
        p = quote + 1;
        if (slashes % 2 == 0)
            break;
    }
    s->p = p;
    return 0;
}

static int skip_nested(struct json_scan *s)
{
    int64_t depth = 0;
    while (s->p < s->end) {
        switch (*s->p) {
        case '"':
            if (skip_string(s) != 0)
                return -1;
            continue;
        case '{': case '[':
            depth++;
            break;
        case '}': case ']':
            if (--depth == 0) {
                s->p++;
                return 0;
            }
            break;
        default:
            break;
        }
        s->p++;
    }
    return -1;
}

int json_value(struct json_scan *s, struct span *out)
{
    json_space(s);
    const char *from = s->p;
    if (s->p == s->end)
        return -1;
    if (*s->p == '"') {
        if (skip_string(s) != 0)
            return -1;
    } else if (*s->p == '{' || *s->p == '[') {
        if (skip_nested(s) != 0)
            return -1;
    } else {
        while (s->p < s->end && *s->p != ',' && *s->p != '}' && *s->p != ']' && (unsigned char)*s->p > ' ')
            s->p++;
    }
    *out = (struct span){.p = from, .n = (size_t)(s->p - from)};
    return out->n > 0 ? 0 : -1;
}

int json_member(struct json_scan *s, bool *first, struct span *key, struct span *value)
{
    json_space(s);
    if (s->p == s->end)
        return -1;
    if (*s->p == '}') {
        s->p++;
        return 0;
    }
    if (!*first && *s->p++ != ',')
        return -1;
    *first = false;
    json_space(s);
    if (s->p == s->end || *s->p != '"' || json_value(s, key) != 0)
        return -1;
    json_space(s);
    if (s->p == s->end || *s->p++ != ':')
        return -1;
    return json_value(s, value) == 0 ? 1 : -1;
}

bool json_is_object(const char *p, size_t n)
{
    struct json_scan s = json_scan_of(p, n);
    struct span value;
    json_space(&s);
    if (s.p == s.end || *s.p != '{' || json_value(&s, &value) != 0)
        return false;
    json_space(&s);
    return s.p == s.end;
}

bool span_is(struct span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

int span_int(struct span s, int64_t *out)
{
    if (s.n == 0 || s.n > 18)
        return -1;
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        n = n * 10 + (s.p[i] - '0');
    }
    *out = n;
    return 0;
}

/* --- strings ----------------------------------------------------------------------------------------------------------------------------- */

void json_put_string(struct buf *out, const char *p, size_t n)
{
    buf_xadd(out, "\"", 1);
    for (size_t i = 0, from = 0; i <= n;) {
        if (i < n && (unsigned char)p[i] >= 0x20 && (unsigned char)p[i] < 0x7f && p[i] != '"' && p[i] != '\\') {
            i++;
            continue;
        }
        buf_xadd(out, p + from, i - from);
        if (i == n)
            break;
        uint32_t code;
        size_t step = utf8_step(p + i, n - i, &code);
        if (step == 0)
            buf_xputs(out, UTF8_REPLACEMENT);
        else if (step > 1)
            buf_xadd(out, p + i, step);
        else if (p[i] == '"' || p[i] == '\\')
            buf_xprintf(out, "\\%c", p[i]);
        else
            buf_xprintf(out, "\\u%04x", (unsigned)(unsigned char)p[i]);
        i += step ? step : 1;
        from = i;
    }
    buf_xadd(out, "\"", 1);
}

/* Four hexadecimal digits. */
static int hex4(const char *p, const char *end, uint32_t *out)
{
    if (end - p < 4)
        return -1;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

static int put_utf8(struct buf *out, uint32_t c)
{
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        b[i] = (char)(0x80 | (c & 0x3f));
    b[0] = (char)(first[n] | c);
    return buf_add(out, b, n);
}

/* After \u: one code point, of two escapes when the first is a high surrogate. */
static int unicode(const char **p, const char *end, struct buf *out)
{
    uint32_t c, low;
    if (hex4(*p, end, &c) != 0)
        return -1;
    *p += 4;
    if (c >= 0xd800 && c < 0xdc00) {
        if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u' || hex4(*p + 2, end, &low) != 0 || low < 0xdc00 || low >= 0xe000)
            return -1;
        *p += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return -1;
    }
    return put_utf8(out, c);
}

int json_get_string(struct span s, struct buf *out)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"')
        return -1;
    const char *p = s.p + 1, *end = s.p + s.n - 1;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        if (buf_add(out, p, (size_t)((slash ? slash : end) - p)) != 0)
            return -1;
        if (slash == NULL)
            return 0;
        if (slash + 1 == end)
            return -1;
        const char *known = strchr(escapes, slash[1]);
        p = slash + 2;
        if (slash[1] == 'u' ? unicode(&p, end, out) != 0 : slash[1] == '\0' || known == NULL || buf_add(out, &meant[known - escapes], 1) != 0)
            return -1;
    }
    return 0;
}
