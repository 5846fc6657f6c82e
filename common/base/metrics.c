#include "common/base/metrics.h"

#include "common/base/buf.h"

#define METRICS_TEXT_MAX 65536 /* bytes: a few dozen rows of a name, a sentence and a number */

struct metric_row {
    const char *type, *name, *help;
};

#define METRIC_ROW(id, type, name, help) {#type, name, help},
static const struct metric_row rows[] = {METRIC_ROWS(METRIC_ROW)};

char *metrics_text(const struct metrics *m)
{
    struct buf out = BUF_INIT(METRICS_TEXT_MAX);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct metric_row *row = &rows[i];
        buf_xprintf(&out, "# HELP bqfleet_%s %s\n# TYPE bqfleet_%s %s\n", row->name, row->help, row->name, row->type);
        buf_xprintf(&out, "bqfleet_%s %" PRId64 "\n", row->name, m->value[i]);
    }
    return buf_steal(&out);
}

char *metrics_table(const struct metrics *m)
{
    struct buf out = BUF_INIT(METRICS_TEXT_MAX);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (m->value[i] != 0)
            buf_xprintf(&out, "%s %" PRId64 "\n", rows[i].name, m->value[i]);
    return buf_steal(&out);
}
