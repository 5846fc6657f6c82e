#ifndef BQF_TESTS_SUPPORT_BQSCRIPT_H
#define BQF_TESTS_SUPPORT_BQSCRIPT_H

#include "common/bq/bq.h"

/* A transport that plays a script: each request must be the one that the next line expects, and gets that line's answer. */
struct line {
    const char *method;
    const char *url;      /* a piece of the URL */
    const char *has;      /* a piece of the headers or the body; NULL: anything */
    int status;           /* 0: the reply is lost (it may have been executed) */
    const char *answer;   /* the body; NULL: none */
    const char *header;   /* "Name: value" of the answer; NULL: none */
};

struct script {
    struct http http;
    struct loop *loop;
    struct rnd rnd;
    struct auth *auth;
    struct bq *bq;
    const struct line *lines;
    size_t count, at;
    struct script_call *calls;   /* unanswered */
    struct buf last;             /* headers and body of the last request */
};

/* Virtual time, project "p", base URL "http://bq". Lines are taken one after the other; script_end checks that all were used. */
void script_begin(struct script *, const struct line *, size_t count);
void script_end(struct script *);
/* Runs for at most an hour of virtual time until *flag. */
void script_run(struct script *, const bool *flag);

#define SCRIPT(s, ...)                                             \
    static const struct line script_lines[] = {__VA_ARGS__};       \
    struct script s;                                               \
    script_begin(&s, script_lines, ARRAY_LEN(script_lines))

#endif
