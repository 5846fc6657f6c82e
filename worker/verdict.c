#include "worker/dispatch.h"

struct verdict verdict_of(enum failure_origin from, int status, const char *reason, const char *text, size_t len)
{
    const struct failure_row *r = failure_find(from, status, reason, text);
    enum outcome outcome = r->kind == ERR_RETRY ? OUT_RETRY : r->kind == ERR_FATAL ? OUT_FATAL : OUT_TASK;
    return (struct verdict){.outcome = outcome, .reason = r->name ? r->name : reason, .text = text, .len = len};
}
