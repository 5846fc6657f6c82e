#include "common/bq/bq.h"

/* What BigQuery's errors mean for us: the table is that of all failures. */
const struct failure_row *bq_classify(int status, const char *reason, const char *message, bool from_job, struct error *err)
{
    const struct failure_row *found = failure_find(from_job ? FROM_JOB : FROM_REQUEST, status, reason, message);
    const char *name = found->name ? found->name : reason ? reason : "";
    const char *advice = found->advice ? found->advice : "";
    if (message == NULL || message[0] == '\0')
        error_set(err, found->kind, status, "BigQuery answered %d %s without a message%s%s", status, name, *advice ? "; " : "", advice);
    else
        error_set(err, found->kind, status, "BigQuery: %s%s%s", message, *advice ? "; " : "", advice);
    if (err == NULL)
        return found;
    for (char *p = err->text; *p; p++) /* one line */
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    error_reason(err, name);
    err->retry_after_ms = found->wait_ms;
    return found;
}
