#include "common/base/rows.h"

#include <strings.h>

#include "common/base/limits.h"
#include "common/base/rows_internal.h"

#define OURS "bqfleet_"

/* ---- The compiled schema ---- */

static uint32_t name_hash(const char *name, size_t len)
{
    uint32_t h = 2166136261U;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        h = (h ^ (uint32_t)(c >= 'A' && c <= 'Z' ? c + 32 : c)) * 16777619U;
    }
    return h ^ h >> 15;
}

static struct column *level_find(const struct level *lv, const char *name, size_t len)
{
    for (uint32_t i = name_hash(name, len) & lv->slot_mask; lv->slots[i] != 0; i = (i + 1) & lv->slot_mask) {
        struct column *c = &lv->columns[lv->slots[i] - 1];
        if (c->key_len == len + 3 && strncasecmp(c->field->name, name, len) == 0)
            return c;
    }
    return NULL;
}

static void level_free(struct level *lv)
{
    if (lv == NULL)
        return;
    for (uint32_t i = 0; i < lv->count; i++) {
        free(lv->columns[i].key);
        level_free(lv->columns[i].sub);
    }
    free(lv->columns);
    free(lv->slots);
    free(lv->seen);
    free(lv->wanted);
    free(lv);
}

static struct level *level_new(const struct field *fields, size_t count, bool top);

static void column_init(struct column *c, const struct field *f, bool top)
{
    c->field = f;
    c->key = xasprintf("\"%s\":", f->name);
    c->key_len = (uint32_t)strlen(c->key);
    size_t head = size_min(c->key_len, KEY_HEAD);
    memcpy(c->head, c->key, head);
    c->head_mask = (1U << head) - 1;
    c->value = value_reader(f->type);
    c->repeated = f->mode == MODE_REPEATED;
    c->wanted = f->mode == MODE_REQUIRED;
    c->ours = top && strncasecmp(f->name, OURS, sizeof(OURS) - 1) == 0;
    if (f->type == FIELD_STRUCT)
        c->sub = level_new(f->fields, f->count, false);
}

static void level_want(struct level *lv, uint32_t i)
{
    lv->wanted[i / 64] |= UINT64_C(1) << (i % 64);
}

static struct level *level_new(const struct field *fields, size_t count, bool top)
{
    struct level *lv = xcalloc(1, sizeof(*lv));
    assert(count > 0 && count <= LIMIT_COLUMNS);
    lv->count = (uint32_t)count;
    lv->columns = xcalloc(count, sizeof(*lv->columns));
    lv->words = (count + 63) / 64;
    lv->seen = xcalloc(lv->words, sizeof(*lv->seen));
    lv->wanted = xcalloc(lv->words, sizeof(*lv->wanted));
    uint32_t slots = 4;
    while (slots < 2 * count)
        slots *= 2;
    lv->slots = xcalloc(slots, sizeof(*lv->slots));
    lv->slot_mask = slots - 1;
    for (uint32_t i = 0; i < lv->count; i++) {
        struct column *c = &lv->columns[i];
        column_init(c, &fields[i], top);
        c->next = (i + 1) % lv->count;
        if (c->wanted && !c->ours && !(top && fields[i].has_default))
            level_want(lv, i);
        uint32_t slot = name_hash(fields[i].name, strlen(fields[i].name)) & lv->slot_mask;
        while (lv->slots[slot] != 0)
            slot = (slot + 1) & lv->slot_mask;
        lv->slots[slot] = i + 1;
    }
    return lv;
}

static int set_partition(struct rowcheck *rc, const char *name, struct error *err)
{
    struct column *c = level_find(rc->top, name, strlen(name));
    if (c == NULL)
        return error_set(err, ERR_FATAL, 0, "the partition column %s is not in the table's schema", name);
    enum field_type t = c->field->type;
    if (c->repeated || (t != FIELD_DATE && t != FIELD_DATETIME && t != FIELD_TIMESTAMP && t != FIELD_INT64))
        return error_set(err, ERR_FATAL, 0, "the partition column %s is a %s%s: wanted a DATE, DATETIME, TIMESTAMP or INT64", name,
                         c->repeated ? "REPEATED " : "", field_type_name(t));
    c->partition = true;
    rc->partition = c;
    return 0;
}

struct rowcheck *rowcheck_new(const struct schema *schema, const struct rowcheck_options *options, struct error *err)
{
    AUTO(rowcheck_free_auto) struct rowcheck *rc = xcalloc(1, sizeof(*rc));
    rc->scratch = BUF_INIT(LIMIT_ROW);
    rc->top = level_new(schema->fields, schema->count, true);
    for (size_t i = 0; options != NULL && i < options->required_count; i++) {
        struct column *c = level_find(rc->top, options->required[i], strlen(options->required[i]));
        if (c == NULL) {
            error_set(err, ERR_FATAL, 0, "the key column %s is not in the table's schema", options->required[i]);
            return NULL;
        }
        c->merge_key = !c->wanted;
        c->wanted = true;
        level_want(rc->top, (uint32_t)(c - rc->top->columns));
    }
    if (options != NULL && options->partition_column != NULL && set_partition(rc, options->partition_column, err) != 0)
        return NULL;
    struct rowcheck *done = rc;
    rc = NULL;
    return done;
}

void rowcheck_free(struct rowcheck *rc)
{
    if (rc == NULL)
        return;
    level_free(rc->top);
    buf_free(&rc->scratch);
    free(rc);
}

/* ---- The walk ---- */

static inline bool key_is(const struct column *c, const char *p, const char *end)
{
    size_t left = (size_t)(end - p);
    if (left < c->key_len)
        return false;
#ifdef __SSE2__
    if (left >= KEY_HEAD) {
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)p),
                                      _mm_loadu_si128((const __m128i *)(const void *)c->head));
        if (((uint32_t)_mm_movemask_epi8(same) & c->head_mask) != c->head_mask)
            return false;
        return c->key_len <= KEY_HEAD || memcmp(p + KEY_HEAD, c->key + KEY_HEAD, c->key_len - KEY_HEAD) == 0;
    }
#endif
    return memcmp(p, c->key, c->key_len) == 0;
}

/* A name that was not the guessed one. *found gets its column; returns the place behind the colon. */
static const char *other_key(struct scan *s, const struct level *lv, const char *p, struct column **found)
{
    const char *text = NULL;
    size_t len = 0;
    if (scan_peek(s, p) != '"')
        return scan_syntax(s, p, "a column's name in quotes");
    const char *name = p;
    p = scan_text(s, p, &text, &len);
    if (p == NULL)
        return NULL;
    *found = level_find(lv, text, len);
    if (lv == s->rc->top && len >= sizeof(OURS) - 1 && strncasecmp(text, OURS, sizeof(OURS) - 1) == 0)
        return scan_refuse_as(s, name, "is no name for a column of yours: those that begin with bqfleet_ are bqfleet's own");
    if (*found == NULL)
        return scan_refuse_as(s, name, lv == s->rc->top ? "is not a column of the table" : "is not a field of the STRUCT");
    p = scan_space(s, p);
    if (scan_peek(s, p) != ':')
        return scan_syntax(s, p, "a colon");
    return p + 1;
}

static const char *array(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) != '[') {
        char why[64];
        snprintf(why, sizeof(why), "is not an array of %s", field_type_name(c->field->type));
        return scan_peek(s, p) == '\0' ? scan_syntax(s, p, "an array") : scan_refuse_as(s, p, why);
    }
    p = scan_space(s, p + 1);
    if (scan_peek(s, p) == ']')
        return p + 1;
    for (size_t i = 0;; i++) {
        if (scan_word(s, p, "null"))
            p = scan_fail(s, "null in an array: elements may not be NULL");
        else
            p = c->value(s, c, p);
        if (p == NULL) {
            scan_in_element(s, i);
            return NULL;
        }
        p = scan_space(s, p);
        char after = scan_peek(s, p);
        if (after == ']')
            return p + 1;
        if (after != ',')
            return scan_syntax(s, p, "a comma or ]");
        p = scan_space(s, p + 1);
    }
}

static const char *refuse_null(struct scan *s, const struct column *c, const char *what)
{
    return scan_fail(s, c->merge_key ? "%s, but it is a key (write.null_keys takes rows with NULL in one)" : "%s, but the column must have a value", what);
}

static const char *member(struct scan *s, const struct column *c, const char *p)
{
    if (scan_peek(s, p) == 'n' && scan_word(s, p, "null")) {
        if (c->wanted)
            return refuse_null(s, c, "null");
        if (c->repeated)
            scan_replace(s, p, p + 4, "[]", 2); /* that is what NULL becomes in a table */
        return p + 4;
    }
    return c->repeated ? array(s, c, p) : c->value(s, c, p);
}

static const char *refuse_absent(struct scan *s, const struct level *lv)
{
    for (uint32_t i = 0; i < lv->count; i++)
        if ((lv->wanted[i / 64] & ~lv->seen[i / 64]) >> (i % 64) & 1) {
            refuse_null(s, &lv->columns[i], "absent");
            scan_in_column(s, lv->columns[i].field->name);
            return NULL;
        }
    assert(false);
    return NULL;
}

/* p: behind the opening brace. Returns the closing brace. *empty: there was no member. */
static const char *object(struct scan *s, struct level *lv, const char *p, bool *empty)
{
    memset(lv->seen, 0, lv->words * sizeof(*lv->seen));
    p = scan_space(s, p);
    *empty = scan_peek(s, p) == '}';
    uint32_t *guess = &lv->first;
    while (!*empty) {
        struct column *c = &lv->columns[*guess];
        if (key_is(c, p, s->end) && !c->ours)
            p += c->key_len;
        else if ((p = other_key(s, lv, p, &c)) == NULL)
            return NULL;
        uint32_t i = (uint32_t)(c - lv->columns);
        *guess = i;
        guess = &c->next;
        uint64_t bit = UINT64_C(1) << (i % 64);
        p = (lv->seen[i / 64] & bit) != 0 ? scan_fail(s, "given twice in one row") : member(s, c, scan_space(s, p));
        lv->seen[i / 64] |= bit;
        if (p == NULL) {
            scan_in_column(s, c->field->name);
            return NULL;
        }
        p = scan_space(s, p);
        char after = scan_peek(s, p);
        if (after == '}')
            break;
        if (after != ',')
            return scan_syntax(s, p, "a comma or }");
        p = scan_space(s, p + 1);
    }
    for (size_t w = 0; w < lv->words; w++)
        if ((lv->wanted[w] & ~lv->seen[w]) != 0)
            return refuse_absent(s, lv);
    return p;
}

const char *value_struct(struct scan *s, const struct column *c, const char *p)
{
    bool empty = false;
    if (scan_peek(s, p) != '{')
        return scan_refuse(s, c, p);
    p = object(s, c->sub, p + 1, &empty);
    return p == NULL ? NULL : p + 1;
}

/* ---- One row ---- */

#define TAIL_MAX 96 /* bytes of our own columns */

static char *put_text(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_int(char *at, int64_t v)
{
    char digits[20], *p = digits + sizeof(digits);
    uint64_t n = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    if (v < 0)
        *at++ = '-';
    return put_text(at, p, (size_t)(digits + sizeof(digits) - p));
}

static const char *walk(struct scan *s, const char *row, size_t len, int64_t item, int64_t row_number)
{
    bool empty = false;
    if (len > LIMIT_ROW)
        return scan_fail(s, "a row of %zu bytes; the limit is %d", len, LIMIT_ROW);
    s->run = s->end; /* space before the row is not copied, and a line break in it ends no run */
    const char *p = row;
    while (p < s->end && strchr(" \t\r\n", *p) != NULL && *p != '\0')
        p++;
    if (scan_peek(s, p) != '{')
        return scan_syntax(s, p, "a JSON object");
    s->run = p;
    p = object(s, s->rc->top, p + 1, &empty);
    if (p == NULL)
        return NULL;
    scan_flush(s, p);
    while (++p < s->end)
        if (*p != ' ' && *p != '\t' && *p != '\r' && *p != '\n')
            return scan_syntax(s, p, "the end of the row");
    char tail[TAIL_MAX], *at = tail;
    if (!empty)
        *at++ = ',';
    at = put_text(at, "\"" OURS "item\":", sizeof("\"" OURS "item\":") - 1);
    at = put_int(at, item);
    at = put_text(at, ",\"" OURS "row\":", sizeof(",\"" OURS "row\":") - 1);
    at = put_int(at, row_number);
    *at++ = '\n';
    if (buf_add(s->out, tail, (size_t)(at - tail)) != 0)
        s->full = true;
    return p;
}

static void take_back(struct buf *out, size_t len)
{
    out->len = len;
    if (out->data != NULL)
        out->data[len] = '\0';
}

static void range_add(struct row_range *r, const struct scan *s)
{
    if (!s->has_partition) {
        r->null = true;
        return;
    }
    r->lo = r->any ? i64_min(r->lo, s->partition) : s->partition;
    r->hi = r->any ? i64_max(r->hi, s->partition) : s->partition;
    r->any = true;
}

int rowcheck_add(struct rowcheck *rc, const char *row, size_t len, int64_t item, int64_t row_number, struct buf *out,
                 struct row_range *range, struct error *err)
{
    struct scan s; /* its texts are big and only needed on failure: not cleared as a whole */
    s.begin = row;
    s.end = row + len;
    s.run = row;
    s.rc = rc;
    s.out = out;
    s.full = s.has_partition = false;
    s.partition = 0;
    s.path[0] = s.what[0] = '\0';
    size_t start = out->len;
    const char *room = buf_reserve(out, len + TAIL_MAX); /* mostly one allocation; near the ceiling, what is written may fit all the same */
    (void)room;
    if (walk(&s, row, len, item, row_number) == NULL) {
        take_back(out, start);
        if (s.path[0] != '\0')
            error_set(err, ERR_TASK, 0, "column %s: %s", s.path, s.what);
        else
            error_set(err, ERR_TASK, 0, "%s", s.what);
        error_reason(err, "row");
        return -1;
    }
    if (s.full) {
        take_back(out, start);
        return -2;
    }
    if (range != NULL && rc->partition != NULL)
        range_add(range, &s);
    return 0;
}
