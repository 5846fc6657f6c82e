#include "coordinator/items_internal.h"

#include "common/base/utf8.h"

int items_error(const struct items *it, struct error *err, const char *fmt, ...)
{
    const struct spec *s = it->spec;
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, ERR_USAGE, 0, fmt, ap);
    va_end(ap);
    char place[LIMIT_PLACE];
    items_place(s, place, sizeof(place));
    switch (s->items.kind) {
    case ITEMS_FILE:
    case ITEMS_CSV:
    case ITEMS_LINES:
        return it->place > 0 ? error_prefix(err, "%s:%" PRId64, it->name, it->place) : error_prefix(err, "%s", it->name);
    case ITEMS_QUERY:
        return error_prefix(err, "%s: items.query, row %" PRId64, place, it->place);
    case ITEMS_LIST:
    case ITEMS_RANGE:
        break;
    }
    return error_prefix(err, "%s: items.list, value %" PRId64, place, it->place);
}

const char *items_place(const struct spec *s, char *out, size_t size)
{
    if (s->items.line > 0)
        snprintf(out, size, "%s:%d:%d", s->path, s->items.line, s->items.column);
    else
        snprintf(out, size, "%s, with --set", s->path);
    return out;
}

void items_key_add(struct items *it, const char *p, size_t n)
{
    buf_xadd(&it->key, p, size_min(n, it->key.max - it->key.len));
}

int items_key_from(struct items *it, const doc *value, struct error *err)
{
    const char *name = it->spec->items.key;
    char number[32];
    switch (doc_type(value)) {
    case DOC_STRING: {
        const char *text = doc_str(value, NULL, NULL);
        if (text == NULL || text[0] == '\0')
            return items_error(it, err, "the field \"%s\" (items.key) is %s", name, text == NULL ? "a text with a NUL inside" : "empty");
        items_key_add(it, text, strlen(text));
        return 0;
    }
    case DOC_INT:
        items_key_add(it, number, (size_t)snprintf(number, sizeof(number), "%" PRId64, doc_int(value, NULL, 0)));
        return 0;
    case DOC_NONE:
        return items_error(it, err, "the field \"%s\" (items.key) is missing", name);
    case DOC_NULL:
        return items_error(it, err, "the field \"%s\" (items.key) is null", name);
    case DOC_BOOL:
    case DOC_REAL:
    case DOC_ARRAY:
    case DOC_OBJECT:
        break;
    }
    return items_error(it, err, "the field \"%s\" (items.key) is neither a string nor an integer", name);
}

static int json_character(struct buf *out, const char *p, size_t n)
{
    unsigned char c = (unsigned char)*p;
    if (c == '"' || c == '\\')
        return buf_printf(out, "\\%c", c);
    if (c == '\n')
        return buf_puts(out, "\\n");
    if (c == '\t')
        return buf_puts(out, "\\t");
    if (c < 0x20)
        return buf_printf(out, "\\u%04x", c);
    return buf_add(out, p, n);
}

int items_json_string(struct buf *out, const char *p, size_t n)
{
    uint32_t code;
    size_t step, plain = 0; /* bytes before p that are still to be copied as they are */
    if (buf_add(out, "\"", 1) != 0)
        return -1;
    for (; n > 0; p += step, n -= step) {
        step = utf8_step(p, n, &code);
        if (step == 0)
            return -2;
        if (code >= 0x20 && code != '"' && code != '\\') {
            plain += step;
            continue;
        }
        if (buf_add(out, p - plain, plain) != 0 || json_character(out, p, step) != 0)
            return -1;
        plain = 0;
    }
    return buf_add(out, p - plain, plain) == 0 && buf_add(out, "\"", 1) == 0 ? 0 : -1;
}

/* --- open and close ------------------------------------------------------------------------------------------------------------------------------ */

static int open_source(struct items *it, const char *run, struct error *err)
{
    const struct spec *s = it->spec;
    switch (s->items.kind) {
    case ITEMS_CSV:
        it->csv = csv_new();
        break;
    case ITEMS_FILE:
    case ITEMS_LINES:
        break;
    case ITEMS_QUERY:
        it->query = query_items_start(it, run, err);
        return it->query != NULL ? 0 : -1;
    case ITEMS_LIST:
    case ITEMS_RANGE:
        return 0;
    }
    if (source_open(&it->source, s->items.source, err) == 0)
        return 0;
    char place[LIMIT_PLACE];
    return error_prefix(err, "%s: items", items_place(s, place, sizeof(place)));
}

struct items *items_open(const struct spec *s, const struct world *world, const char *run, void (*ready)(void *), void *arg, struct error *err)
{
    struct items *it = xcalloc(1, sizeof(*it));
    it->spec = s;
    it->world = world;
    it->ready = ready;
    it->arg = arg;
    it->name = s->items.source != NULL && strcmp(s->items.source, "-") == 0 ? "stdin" : s->items.source;
    it->key = BUF_INIT(LIMIT_KEY + 1);
    it->payload = BUF_INIT(LIMIT_PAYLOAD);
    it->text = BUF_INIT(LIMIT_PAYLOAD);
    it->source = (struct source){.fd = -1, .loop = world->loop, .ready = ready, .arg = arg};
    if (s->items.kind != ITEMS_RANGE) /* numbers of a range differ anyway */
        it->keys = keyset_new();
    if (open_source(it, run, err) == 0)
        return it;
    items_close(it);
    return NULL;
}

void items_close(struct items *it)
{
    if (it == NULL)
        return;
    source_close(&it->source);
    csv_free(it->csv);
    query_items_free(it->query);
    keyset_free(it->keys);
    buf_free(&it->key);
    buf_free(&it->payload);
    buf_free(&it->text);
    free(it);
}

/* --- the next item --------------------------------------------------------------------------------------------------------------------------------- */

static int list_next(struct items *it)
{
    const struct spec *s = it->spec;
    if ((size_t)it->index >= s->items.list_count)
        return 0;
    const char *value = s->items.list[it->index];
    it->place = it->index + 1;
    items_key_add(it, value, strlen(value));
    return 1;
}

static int range_next(struct items *it)
{
    const struct spec *s = it->spec;
    if (it->index > s->items.to - s->items.from)
        return 0;
    it->place = it->index + 1;
    buf_xint(&it->key, s->items.from + it->index);
    return 1;
}

static int read_next(struct items *it, struct error *err)
{
    switch (it->spec->items.kind) {
    case ITEMS_FILE:
    case ITEMS_LINES:
        return items_line_next(it, err);
    case ITEMS_CSV:
        return items_csv_next(it, err);
    case ITEMS_QUERY:
        return items_query_next(it, err);
    case ITEMS_LIST:
        return list_next(it);
    case ITEMS_RANGE:
        break;
    }
    return range_next(it);
}

/* Once there are more items than are compared, the keys are dropped and their memory with them. */
static int check_key(struct items *it, struct error *err)
{
    if (it->key.len == 0 && !it->over)
        return items_error(it, err, "an empty key");
    if (it->keys == NULL || it->key.len == 0 || it->key.len > LIMIT_KEY)
        return 0;
    if (keyset_count(it->keys) == LIMIT_UNIQUE_KEYS) {
        keyset_free(it->keys);
        it->keys = NULL;
        it->keys_dropped = true;
        return 0;
    }
    uint32_t before = keyset_add(it->keys, it->key.data, it->key.len, it->place);
    if (before == 0)
        return 0;
    const char *where = it->spec->items.kind == ITEMS_LIST ? "value" : it->spec->items.kind == ITEMS_QUERY ? "row" : "line";
    return items_error(it, err, "the key \"%.200s\" is used twice, first in %s %" PRIu32 "; keys tell items apart, so each is used once", it->key.data, where,
                       before);
}

/* Where the key is too long, what is kept of it ends with a whole character. */
static size_t cut_key(const struct buf *key)
{
    assert(key->data != NULL || key->len == 0);
    size_t n = size_min(key->len, LIMIT_KEY);
    while (n > 0 && n < key->len && ((unsigned char)key->data[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static void give(struct items *it, struct item *out, struct error *err)
{
    *out = (struct item){.index = it->index++, .key = it->key.data != NULL ? it->key.data : "", .key_len = cut_key(&it->key)};
    if (it->key.len > LIMIT_KEY) {
        error_set(err, ERR_TASK, 0, "its key has more than %d bytes", LIMIT_KEY);
        error_reason(err, "size");
        return;
    }
    if (it->over) {
        items_error(it, err, "the item has more than %d bytes", LIMIT_PAYLOAD);
        err->kind = ERR_TASK;
        error_reason(err, "size");
        return;
    }
    out->payload = it->payload.len > 0 ? it->payload.data : "";
    out->payload_len = it->payload.len;
}

int items_next(struct items *it, struct item *out, struct error *err)
{
    if (it->failed.kind != ERR_NONE) {
        *err = it->failed;
        return -1;
    }
    if (it->ended)
        return 0;
    /* A CSV record may be half read when its source has to be waited for: what there is of it stays. */
    if (!it->waiting) {
        buf_clear(&it->key);
        buf_clear(&it->payload);
        it->over = false;
    }
    struct error why;
    error_clear(&why);
    int rc = read_next(it, &why);
    it->waiting = rc == 2;
    if (rc == 1 && it->index >= LIMIT_ITEMS)
        rc = items_error(it, &why, "more than %" PRId64 " items", LIMIT_ITEMS);
    if (rc == 1 && check_key(it, &why) != 0)
        rc = -1;
    if (rc == 1)
        give(it, out, &why);
    if (rc < 0)
        it->failed = why;
    it->ended = rc == 0;
    if (it->ended) { /* a run lasts longer than its reading */
        keyset_free(it->keys);
        it->keys = NULL;
    }
    if (why.kind != ERR_NONE && err != NULL)
        *err = why;
    return rc;
}

bool items_keys_checked(const struct items *it)
{
    return !it->keys_dropped;
}

int64_t items_expected(const struct items *it)
{
    if (it->spec->items.kind == ITEMS_LIST)
        return (int64_t)it->spec->items.list_count;
    if (it->spec->items.kind == ITEMS_RANGE)
        return it->spec->items.to - it->spec->items.from + 1;
    return -1;
}
