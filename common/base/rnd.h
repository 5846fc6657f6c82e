#ifndef BQF_BASE_RND_H
#define BQF_BASE_RND_H

#include "common/base/base.h"

/* Random numbers, passed in: the kernel's in production, a seeded generator in tests and simulations. */
struct rnd {
    void (*fill)(struct rnd *, void *out, size_t n);
    uint64_t state[4]; /* of the seeded generator */
};

void rnd_system(struct rnd *);
void rnd_seeded(struct rnd *, uint64_t seed);
uint64_t rnd_u64(struct rnd *);
/* 0 <= result < below, unbiased; below > 0. */
uint64_t rnd_below(struct rnd *, uint64_t below);
/* 0 <= result < 1. */
double rnd_real(struct rnd *);
/* n characters of a-z0-9 and a NUL: safe in table names, labels and job ids. */
void rnd_text(struct rnd *, char *out, size_t n);

#endif
