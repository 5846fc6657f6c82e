#include "common/fleet/wire.h"

uint64_t wire_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

int64_t wire_unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

void wire_varint(struct buf *b, uint64_t v)
{
    char out[WIRE_VARINT_MAX];
    buf_xadd(b, out, (size_t)(wire_write_varint(out, v) - out));
}

void wire_put_int(struct buf *b, unsigned field, int64_t value)
{
    wire_varint(b, (uint64_t)field << 3);
    wire_varint(b, wire_zigzag(value));
}

void wire_put_bytes(struct buf *b, unsigned field, const void *p, size_t n)
{
    wire_varint(b, (uint64_t)field << 3 | 2);
    wire_varint(b, n);
    buf_xadd(b, p, n);
}

void wire_put_str(struct buf *b, unsigned field, const char *s)
{
    if (s != NULL && s[0] != '\0')
        wire_put_bytes(b, field, s, strlen(s));
}

int wire_get_varint(struct wire *w, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (w->p == w->end)
            return -1;
        unsigned char c = *w->p++;
        if (shift == 63 && c > 1)
            return -1;
        v |= (uint64_t)(c & 0x7f) << shift;
        if ((c & 0x80) == 0) {
            *out = v;
            return 0;
        }
    }
    return -1;
}

int wire_next(struct wire *w, struct wire_field *f)
{
    if (w->p == w->end)
        return 0;
    uint64_t tag, v;
    if (wire_get_varint(w, &tag) != 0 || tag >> 3 == 0 || tag >> 3 > 1000 || wire_get_varint(w, &v) != 0)
        return -1;
    *f = (struct wire_field){.field = (unsigned)(tag >> 3), .is_bytes = (tag & 7) == 2};
    if ((tag & 7) == 0) {
        f->value = wire_unzigzag(v);
        return 1;
    }
    if ((tag & 7) != 2 || v > (uint64_t)(w->end - w->p))
        return -1;
    f->data = w->p;
    f->len = (size_t)v;
    w->p += v;
    return 1;
}
