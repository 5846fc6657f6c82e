#ifndef BQF_FLEET_WIRE_H
#define BQF_FLEET_WIRE_H

#include "common/base/buf.h"

/* Fields as protobuf writes them: varint tag (field << 3 | 0 varint, 2 bytes), so that a reader skips what it does not know. */
void wire_varint(struct buf *, uint64_t);
/* The same into memory that has room; returns its end. */
#define WIRE_VARINT_MAX 10 /* bytes */
static inline char *wire_write_varint(char *at, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (char)(v | 0x80);
    *at++ = (char)v;
    return at;
}
void wire_put_int(struct buf *, unsigned field, int64_t value);   /* zigzag */
void wire_put_bytes(struct buf *, unsigned field, const void *p, size_t n);
void wire_put_str(struct buf *, unsigned field, const char *s);   /* left out when NULL or "" */

struct wire { const unsigned char *p, *end; };
struct wire_field { unsigned field; bool is_bytes; int64_t value; const unsigned char *data; size_t len; };
/* 1: a field; 0: the end; -1: malformed. */
int wire_next(struct wire *, struct wire_field *);
/* 0, or -1 when truncated or over 64 bits. */
int wire_get_varint(struct wire *, uint64_t *);
int64_t wire_unzigzag(uint64_t);
uint64_t wire_zigzag(int64_t);

#endif
