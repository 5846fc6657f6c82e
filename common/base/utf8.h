#ifndef BQF_BASE_UTF8_H
#define BQF_BASE_UTF8_H

#include "common/base/base.h"

/* Bytes of the well-formed UTF-8 character that p begins with (1 to 4; no overlong forms, no surrogates), its code point in *code;
 * 0 when p does not begin with one. n > 0 bytes may be read. */
size_t utf8_step(const char *p, size_t n, uint32_t *code);
#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

#endif
