#include "common/fleet/envelope.h"

#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/limits.h"
#include "common/base/oom.h"
#include "common/fleet/wire.h"

enum { FLAG_ZSTD = 1, COMPRESS_FROM = 256 /* bytes */ };

static int oversize(struct error *err, const char *what, size_t len, size_t max)
{
    error_set(err, ERR_TASK, 0, "the item's %s has %zu bytes; at most %zu are possible", what, len, max);
    error_reason(err, "size");
    return -1;
}

static char *put(char *at, const void *p, size_t n)
{
    if (n > 0)
        memcpy(at, p, n);
    return at + n;
}

/* The payload compressed, with its plain length before it, when that is smaller: then its end, else NULL. There is room for the plain one. */
static char *compress(char *at, const char *payload, size_t len)
{
    char *from = wire_write_varint(at, len);
    size_t n = ZSTD_compress(from, len - (size_t)(from - at), payload, len, 1);
    return ZSTD_isError(n) ? NULL : from + n; /* an error: it does not fit */
}

int envelope_encode(const struct envelope *e, struct buf *out, struct error *err)
{
    assert(e->run_len > 0 && e->run_len < LIMIT_NAME && e->item >= 0);
    if (e->key_len > LIMIT_KEY)
        return oversize(err, "key", e->key_len, LIMIT_KEY);
    if (e->payload_len > LIMIT_PAYLOAD)
        return oversize(err, "payload", e->payload_len, LIMIT_PAYLOAD);
    size_t room = 2 + WIRE_VARINT_MAX + 1 + e->run_len + WIRE_VARINT_MAX + e->key_len + WIRE_VARINT_MAX + e->payload_len;
    char *at = buf_reserve(out, room);
    if (at == NULL)
        return oversize(err, "envelope", room, out->max);
    *at++ = ENVELOPE_VERSION;
    char *flags = at++;
    *flags = 0;
    at = wire_write_varint(at, (uint64_t)e->item);
    *at++ = (char)e->run_len;
    at = put(at, e->run, e->run_len);
    at = wire_write_varint(at, e->key_len);
    at = put(at, e->key, e->key_len);
    char *packed = e->payload_len >= COMPRESS_FROM ? compress(at, e->payload, e->payload_len) : NULL;
    if (packed != NULL)
        *flags = FLAG_ZSTD;
    at = packed ? packed : put(at, e->payload, e->payload_len);
    *at = '\0';
    out->len = (size_t)(at - out->data);
    return 0;
}

static int malformed(struct error *err, const char *why)
{
    error_set(err, ERR_TASK, 0, "the work message does not decode: %s", why);
    error_reason(err, "decode");
    return -1;
}

static int take(struct wire *w, size_t n, const char **out)
{
    if (n > (size_t)(w->end - w->p))
        return -1;
    *out = (const char *)w->p;
    w->p += n;
    return 0;
}

static int decompress(struct wire *w, struct buf *scratch, struct envelope *e, struct error *err)
{
    uint64_t plain;
    if (wire_get_varint(w, &plain) != 0)
        return malformed(err, "truncated");
    if (plain > LIMIT_PAYLOAD)
        return malformed(err, "its payload is over the limit");
    buf_clear(scratch);
    char *at = buf_reserve(scratch, (size_t)plain);
    if (at == NULL)
        return malformed(err, "its payload is over the limit");
    size_t n = ZSTD_decompress(at, (size_t)plain, w->p, (size_t)(w->end - w->p));
    if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
        out_of_memory("a payload"); /* and not malformed: its item would be lost */
    if (ZSTD_isError(n) || n != plain)
        return malformed(err, "its payload does not decompress");
    scratch->len = n;
    at[n] = '\0';
    e->payload = at;
    e->payload_len = n;
    return 0;
}

int envelope_decode(const void *data, size_t len, struct buf *scratch, struct envelope *e, struct error *err)
{
    struct wire w = {.p = data, .end = (const unsigned char *)data + len};
    if (len < 4)
        return malformed(err, "truncated");
    if (w.p[0] != ENVELOPE_VERSION) {
        error_set(err, ERR_TASK, 0, "the work message has version %d; this worker knows version %d", w.p[0], ENVELOPE_VERSION);
        error_reason(err, "version");
        return -1;
    }
    unsigned flags = w.p[1];
    if ((flags & ~(unsigned)FLAG_ZSTD) != 0)
        return malformed(err, "unknown flags");
    w.p += 2;
    *e = (struct envelope){.item = 0};
    uint64_t item, key_len;
    if (wire_get_varint(&w, &item) != 0 || w.p == w.end)
        return malformed(err, "truncated");
    if (item >= (uint64_t)LIMIT_ITEMS)
        return malformed(err, "its item index is over the limit");
    e->item = (int64_t)item;
    e->run_len = *w.p++;
    if (e->run_len == 0 || e->run_len >= LIMIT_NAME)
        return malformed(err, "its run id has no sensible length");
    if (take(&w, e->run_len, &e->run) != 0 || wire_get_varint(&w, &key_len) != 0)
        return malformed(err, "truncated");
    if (key_len > LIMIT_KEY)
        return malformed(err, "its key is over the limit");
    e->key_len = (size_t)key_len;
    if (take(&w, e->key_len, &e->key) != 0)
        return malformed(err, "truncated");
    if (flags & FLAG_ZSTD)
        return decompress(&w, scratch, e, err);
    e->payload = (const char *)w.p;
    e->payload_len = (size_t)(w.end - w.p);
    return e->payload_len > LIMIT_PAYLOAD ? malformed(err, "its payload is over the limit") : 0;
}
