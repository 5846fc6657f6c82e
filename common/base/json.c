#include "common/base/json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* Sixty-four bytes as bits: where the quotes, the backslashes and the brackets are. */
struct block { uint64_t quotes, slashes, opens, closes; };

#ifdef __SSE2__
static uint64_t equal(__m128i v, char c)
{
    return (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(c)));
}

static void quarter(struct block *b, const char *p, int i)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
    __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20)); /* [ and { differ by this bit, and so do ] and } */
    b->quotes |= equal(v, '"') << (16 * i);
    b->slashes |= equal(v, '\\') << (16 * i);
    b->opens |= equal(folded, '{') << (16 * i);
    b->closes |= equal(folded, '}') << (16 * i);
}

static struct block block_of(const char *p)
{
    struct block b = {0};
    quarter(&b, p, 0);
    quarter(&b, p, 1);
    quarter(&b, p, 2);
    quarter(&b, p, 3);
    return b;
}
#else
static struct block block_of(const char *p)
{
    struct block b = {0};
    for (int i = 0; i < 64; i++) {
        uint64_t bit = UINT64_C(1) << i;
        b.quotes |= p[i] == '"' ? bit : 0;
        b.slashes |= p[i] == '\\' ? bit : 0;
        b.opens |= p[i] == '{' || p[i] == '[' ? bit : 0;
        b.closes |= p[i] == '}' || p[i] == ']' ? bit : 0;
    }
    return b;
}
#endif

/* The bytes that a backslash before them escapes. *carry: whether the first one is, and then whether the next block's is. */
static uint64_t escaped(uint64_t slashes, uint64_t *carry)
{
    uint64_t found = *carry;
    slashes &= ~*carry;
    *carry = 0;
    while (slashes != 0) {
        uint64_t slash = slashes & (0 - slashes);
        found |= slash << 1;
        *carry |= slash >> 63;
        slashes &= ~(slash | slash << 1);
    }
    return found;
}

/* Each bit is whether an odd number of bits are set up to it: from quotes, what lies between them. */
static uint64_t odd_up_to(uint64_t bits)
{
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    return bits ^ bits << 32;
}

/* Behind the bracket that brings the depth to zero; NULL: it is not in this block. */
static const char *nesting_ends(const char *p, uint64_t opens, uint64_t closes, int64_t *depth)
{
    for (uint64_t both = opens | closes; both != 0; both &= both - 1) {
        *depth += opens & both & (0 - both) ? 1 : -1;
        if (*depth == 0)
            return p + __builtin_ctzll(both) + 1;
    }
    return NULL;
}

/* At an opening bracket. In blocks, for this is how every row is delimited. */
static int skip_nested(struct json_scan *s)
{
    uint64_t carry = 0, inside = 0; /* inside: all ones when the block begins in a string */
    int64_t depth = 0;
    for (const char *p = s->p; p < s->end; p += 64) {
        char last[64] = {0};
        if (s->end - p < 64)
            memcpy(last, p, (size_t)(s->end - p));
        struct block b = block_of(s->end - p < 64 ? last : p);
        uint64_t quotes = b.quotes & ~(b.slashes != 0 || carry != 0 ? escaped(b.slashes, &carry) : 0);
        uint64_t text = odd_up_to(quotes) ^ inside;
        inside = 0 - (text >> 63);
        const char *end = nesting_ends(p, b.opens & ~text, b.closes & ~text, &depth);
        if (end != NULL) {
            s->p = end;
            return 0;
        }
    }
    s->p = s->end;
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
