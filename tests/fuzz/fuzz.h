#ifndef BQF_TESTS_FUZZ_FUZZ_H
#define BQF_TESTS_FUZZ_FUZZ_H

#include "common/base/buf.h"

/*
 * A fuzz target is a function that takes any bytes, gives them to a decoder of the product and checks what must be true of the result. libFuzzer makes
 * the bytes (engine.c), or the files of corpus/NAME are replayed in the ordinary build (replay.c). A target keeps nothing from one call to the next.
 */
#define FUZZ(name)                                      \
    void fuzz_##name(const uint8_t *data, size_t size); \
    void fuzz_##name(const uint8_t *data, size_t size)

/* What must be true; else the process aborts, and the bytes are kept. */
#define CHECK(cond) ((cond) ? (void)0 : fuzz_fail(#cond, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *what, const char *file, int line);

/* Lines of the log go here, and must be JSON objects whatever they quote. Called once. */
void fuzz_begin(void);

/* The bytes of one call, taken piece by piece; at their end zeros. */
struct input { const uint8_t *p, *end; };
struct input input_of(const uint8_t *data, size_t size);
size_t input_left(const struct input *);
unsigned input_byte(struct input *);
int64_t input_small(struct input *, int64_t below); /* 0..below-1, of one or two bytes */
/* Up to the next byte `end`, which is passed over, as a text of its own (a NUL after it, and nothing beyond it). Caller frees. */
char *input_text(struct input *, char end, size_t *len);
/* The same of all that is left. */
char *input_rest(struct input *, size_t *len);

/* A file of these bytes, at a path that is valid until the next one is made. */
const char *fuzz_file(const void *data, size_t len);

#endif
