#ifndef BQF_TESTS_FUZZ_ANSWERS_H
#define BQF_TESTS_FUZZ_ANSWERS_H

#include "common/bq/bq.h"
#include "tests/fuzz/fuzz.h"

/*
 * A service whose every answer is the fuzzer's. Each takes a byte for its status; if that byte's bit 6 is set, lines of headers up to an empty one; and
 * a body up to a NUL. When the bytes are used up, every request is refused for good.
 */
struct answers {
    struct http http;
    struct loop *loop;
    struct rnd rnd;
    struct auth *auth;
    struct bq *bq;
    struct input in;
    struct answers_call *calls; /* unanswered */
};
void answers_begin(struct answers *, struct input);
/* Runs until *over, or for so many turns that whatever goes on is stopped by the caller. */
void answers_run(struct answers *, const bool *over);
void answers_end(struct answers *); /* fails if a request is still under way */

#endif
