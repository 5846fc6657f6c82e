#ifndef BQF_WORKER_HANDLERS_EXEC_PROTO_H
#define BQF_WORKER_HANDLERS_EXEC_PROTO_H

#include "common/base/doc.h"
#include "common/base/json.h"
#include "worker/core.h"

/* The lines of the exec protocol. Pure. Answers are taken apart in one pass without building a document: rows stay bytes. */

struct answer {
    bool has_item; int64_t item;
    bool ready, done;
    struct span row, rows;   /* n 0: absent */
    struct span error;       /* an object, or a text */
};
/* 1: no JSON object, so it goes to the log. 0: an answer. -1: an object that does not parse, or whose members are of another kind than they must be. */
int answer_parse(const char *line, size_t len, struct answer *, struct error *);
/* Takes the next row off `rows` (at first the whole array): 1; 0 at the end; -1 when something in it is no object. */
int answer_next_row(struct span *rows, struct span *row);
/* {"kind","message"}: returns the outcome; the message in *text, which the caller frees. */
enum answer_error { ANSWER_TASK, ANSWER_RETRY, ANSWER_FATAL };
enum answer_error answer_error(struct span error, char **text);

/* Lines for the child. Each ends in a line break. Without ceiling trouble: out's must be above LIMIT_PAYLOAD and LIMIT_KEY, escaped. */
void proto_hello(struct buf *out, const struct record *);
void proto_item(struct buf *out, const struct item *, int64_t deadline_ms);

#endif
