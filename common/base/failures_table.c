#include "common/base/buf.h"
#include "common/base/failures.h"
#include "common/base/units.h"

/* The table of failures for people. */

#define TABLE_MAX (256 * 1024)

static void origins(unsigned from, struct buf *out)
{
    static const struct { unsigned bit; const char *name; } names[] = {
        {FROM_REQUEST, "request"}, {FROM_JOB, "job"}, {FROM_ROW, "row"}, {FROM_HANDLER, "handler"}, {FROM_KAFKA, "Kafka"},
    };
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (from & names[i].bit) {
            buf_xprintf(out, "%s%s", any ? ", " : "", names[i].name);
            any = true;
        }
}

static void status(const struct failure_row *r, struct buf *out)
{
    if (r->status == FAILURE_5XX)
        buf_xputs(out, "5xx");
    else if (r->status == FAILURE_NO_ANSWER)
        buf_xputs(out, "no answer");
    else if (r->status != 0)
        buf_xprintf(out, "%d", r->status);
}

char *failures_markdown(void)
{
    struct buf out = BUF_INIT(TABLE_MAX);
    buf_xputs(&out, "| from | status | reason | the message has | kind | shown as | parks | waits at least | what to do |\n"
                    "|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < failure_count; i++) {
        const struct failure_row *r = &failure_rows[i];
        char wait[64] = "";
        buf_xputs(&out, "| ");
        origins(r->from, &out);
        buf_xputs(&out, " | ");
        status(r, &out);
        if (r->wait_ms > 0)
            units_show_ms(r->wait_ms, wait, sizeof(wait));
        const char *tick = r->reason ? "`" : "";
        buf_xprintf(&out, " | %s%s%s | %s | %s | %s | %s | %s | %s |\n", tick, r->reason ? r->reason : "", tick, r->text ? r->text : "",
                    error_kind_name(r->kind), r->name ? r->name : "", work_class_name(r->parks), wait, r->advice ? r->advice : "");
    }
    return buf_steal(&out);
}
