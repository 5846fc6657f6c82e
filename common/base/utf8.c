#include "common/base/utf8.h"

/* The first byte tells the length and the first bits; the smallest code point of each length keeps overlong forms out. */
static size_t lead(unsigned char c, uint32_t *bits, uint32_t *least)
{
    if (c >= 0xc2 && c <= 0xdf) {
        *bits = c & 0x1fU;
        *least = 0x80;
        return 2;
    }
    if (c >= 0xe0 && c <= 0xef) {
        *bits = c & 0x0fU;
        *least = 0x800;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        *bits = c & 0x07U;
        *least = 0x10000;
        return 4;
    }
    return 0;
}

size_t utf8_step(const char *p, size_t n, uint32_t *code)
{
    const unsigned char *u = (const unsigned char *)p;
    if (u[0] < 0x80) {
        *code = u[0];
        return 1;
    }
    uint32_t bits = 0, least = 0;
    size_t len = lead(u[0], &bits, &least);
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0U) != 0x80)
            return 0;
        bits = bits << 6 | (u[i] & 0x3fU);
    }
    if (bits < least || bits > 0x10ffff || (bits >= 0xd800 && bits <= 0xdfff))
        return 0;
    *code = bits;
    return len;
}
