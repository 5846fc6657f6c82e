#ifndef BQF_WORKER_HANDLERS_WORDS_H
#define BQF_WORKER_HANDLERS_WORDS_H

#include "common/base/buf.h"
#include "common/base/log.h"

/* What a child says beside its answers: each line to the log, and the last LIMIT_LAST_WORDS bytes kept for when it dies. */
struct words { struct buf line, tail; bool cut; };
void words_init(struct words *);
void words_free(struct words *);
void words_add(struct words *, const struct log_ctx *, const char *data, size_t len);
void words_end(struct words *, const struct log_ctx *); /* logs a last line without its break */
/* "exit status 3: the last words", in one text of at most LIMIT_LAST_WORDS + 256 bytes. Caller frees. */
char *words_death(const struct words *, const char *how);
const char *words_tail(const struct words *); /* "" when it said nothing */

#endif
