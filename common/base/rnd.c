#include "common/base/rnd.h"

#include <errno.h>
#include <sys/random.h>

static void fill_system(struct rnd *r, void *out, size_t n)
{
    (void)r;
    char *at = out;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            fprintf(stderr, "bqfleet: the kernel gives no random numbers: %s\n", strerror(errno));
            abort();
        }
        at += got;
        n -= (size_t)got;
    }
}

void rnd_system(struct rnd *r)
{
    *r = (struct rnd){.fill = fill_system};
}

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

/* xoshiro256**: small, fast and good enough for tests; the same seed gives the same schedule on every machine. */
static uint64_t seeded_next(struct rnd *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

static void fill_seeded(struct rnd *r, void *out, size_t n)
{
    unsigned char *at = out;
    while (n > 0) {
        uint64_t word = seeded_next(r);
        for (size_t i = 0; i < sizeof(word) && n > 0; i++, n--) {
            *at++ = (unsigned char)(word & 0xff);
            word >>= 8;
        }
    }
}

void rnd_seeded(struct rnd *r, uint64_t seed)
{
    *r = (struct rnd){.fill = fill_seeded};
    for (size_t i = 0; i < ARRAY_LEN(r->state); i++) { /* splitmix64: seeds that differ in one bit give unlike states */
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        r->state[i] = z ^ z >> 31;
    }
}

uint64_t rnd_u64(struct rnd *r)
{
    unsigned char bytes[8];
    r->fill(r, bytes, sizeof(bytes));
    uint64_t value = 0;
    for (size_t i = sizeof(bytes); i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

uint64_t rnd_below(struct rnd *r, uint64_t below)
{
    assert(below > 0);
    /* 2^64 mod below: the values under it would be hit once too often. */
    uint64_t surplus = (UINT64_MAX - below + 1) % below;
    for (;;) {
        uint64_t value = rnd_u64(r);
        if (value >= surplus)
            return value % below;
    }
}

double rnd_real(struct rnd *r)
{
    return (double)(rnd_u64(r) >> 11) * 0x1p-53;
}

void rnd_text(struct rnd *r, char *out, size_t n)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    for (size_t i = 0; i < n; i++)
        out[i] = alphabet[rnd_below(r, sizeof(alphabet) - 1)];
    out[n] = '\0';
}
