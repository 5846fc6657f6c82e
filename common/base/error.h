#ifndef BQF_BASE_ERROR_H
#define BQF_BASE_ERROR_H

#include "common/base/base.h"

/*
 * An error carries the decision. Whoever finds it sets the kind; whoever can act on it acts by the kind and logs it, once.
 *
 *   retry   the same thing may work in a moment: again after a full-jitter backoff
 *   quota   a limit that a stated time mends: park this class of work, go on with the rest
 *   task    this item's attempt has failed; the item fails when its attempts are spent
 *   fatal   the run cannot go on: credentials, permission, a missing table, wrong SQL
 *   usage   what the user wrote is wrong: file, line and column are in the text (exit code 2)
 */
enum error_kind { ERR_NONE, ERR_RETRY, ERR_QUOTA, ERR_TASK, ERR_FATAL, ERR_USAGE };

struct error {
    enum error_kind kind;
    int code;            /* HTTP status, librdkafka code, errno or exit status; 0 when there is none */
    int64_t retry_after_ms; /* the service's own wish (Retry-After); 0 when it said nothing */
    char reason[64];     /* machine-readable: "rateLimitExceeded", "row", "timeout"; may be empty */
    char text[1024];     /* one line: what was wrong, where, what to do */
};

#define ERROR_INIT ((struct error){.kind = ERR_NONE})
/* The same without writing a kilobyte of zeros: for what is done once an item. */
static inline void error_clear(struct error *err)
{
    err->kind = ERR_NONE;
    err->code = 0;
    err->retry_after_ms = 0;
    err->reason[0] = err->text[0] = '\0';
}

/* Always -1, so that `return error_set(...)` reads well. A NULL err is allowed. Text that is too long ends in "...". */
int error_set(struct error *err, enum error_kind kind, int code, const char *fmt, ...) PRINTF_LIKE(4, 5);
int error_vset(struct error *err, enum error_kind kind, int code, const char *fmt, va_list ap) VPRINTF_LIKE(4);
/* Puts "CONTEXT: " before the text. */
int error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
void error_reason(struct error *err, const char *reason);
const char *error_kind_name(enum error_kind kind);
/* ERR_NONE when the name is unknown. */
enum error_kind error_kind_parse(const char *name);

/* Exit codes of the commands; the README explains them. */
enum exit_code {
    EXIT_WRITTEN = 0, EXIT_NO = 1, EXIT_USAGE = 2, EXIT_HELD = 3, EXIT_UNFINISHED = 4, EXIT_ENDED = 5
};

#endif
