#include "tests/bq/sql_words.h"

#include <ctype.h>
#include <time.h>

/* --- the text --------------------------------------------------------------------------------------------------------------------------- */

static bool number(struct parser *in, int64_t *out)
{
    char *end = NULL;
    *out = strtoll(in->p, &end, 10);
    bool some = end > in->p;
    in->p = end;
    return some;
}

static bool column(struct parser *in, const char *alias, struct mpart *p)
{
    const char *name = NULL;
    size_t len = 0;
    if (!is(in, alias) || !is(in, ".") || !quoted(in, &name, &len) || len >= sizeof(p->column))
        return false;
    snprintf(p->column, sizeof(p->column), "%.*s", (int)len, name);
    return true;
}

static bool range(struct parser *in, const char *alias, struct mpart *p)
{
    p->type = FIELD_INT64;
    if (!column(in, alias, p) || !is(in, " < ") || !number(in, &p->start) || !is_fmt(in, " OR %s.`%s` >= ", alias, p->column) || !number(in, &p->end))
        return false;
    return is_fmt(in, ", '__UNPARTITIONED__', CAST(%s.`%s` - MOD(", alias, p->column) &&
           is_fmt(in, "%s.`%s` - (%" PRId64 "), ", alias, p->column, p->start) && number(in, &p->interval) && is(in, ") AS STRING)), '__NULL__')");
}

static bool time_of(struct parser *in, const char *alias, struct mpart *p)
{
    static const enum field_type types[] = {FIELD_DATE, FIELD_TIMESTAMP, FIELD_DATETIME};
    static const char *const formats[] = {"%Y%m%d%H", "%Y%m%d", "%Y%m", "%Y"};
    static const int lengths[] = {10, 8, 6, 4};
    for (size_t t = 0; t < ARRAY_LEN(types); t++)
        for (size_t f = 0; f < ARRAY_LEN(formats); f++)
            if (is_fmt(in, "IFNULL(LPAD(FORMAT_%s('%s', ", field_type_name(types[t]), formats[f])) {
                p->type = types[t];
                snprintf(p->format, sizeof(p->format), "%s", formats[f]);
                return column(in, alias, p) && is_fmt(in, "), %d, '0'), '__NULL__')", lengths[f]);
            }
    return false;
}

bool part_id(struct parser *in, const char *alias)
{
    struct mpart p = {.column = ""};
    if (!(is(in, "IFNULL(IF(") ? range(in, alias, &p) : time_of(in, alias, &p)))
        return false;
    if (in->s->parts == NULL) {
        in->s->parts = xmemdup(&p, sizeof(p));
        return true;
    }
    const struct mpart *was = in->s->parts;
    return strcmp(was->column, p.column) == 0 && strcmp(was->format, p.format) == 0 && was->type == p.type && was->start == p.start && was->end == p.end &&
           was->interval == p.interval;
}

/* --- its meaning ------------------------------------------------------------------------------------------------------------------------ */

static void digits(const char *text, size_t most, char out[MPART_TEXT])
{
    size_t n = 0;
    for (; *text && n < most; text++)
        if (isdigit((unsigned char)*text))
            out[n++] = *text;
    out[n] = '\0';
}

static void number_id(const struct mpart *p, int64_t n, char out[MPART_TEXT])
{
    if (n < p->start || n >= p->end)
        snprintf(out, MPART_TEXT, "__UNPARTITIONED__");
    else
        snprintf(out, MPART_TEXT, "%" PRId64, n - (n - p->start) % p->interval);
}

static void timestamp_id(const struct mpart *p, int64_t us, char out[MPART_TEXT])
{
    struct tm tm;
    time_t s = (time_t)(us / US_PER_S - (us % US_PER_S < 0));
    char text[64];
    gmtime_r(&s, &tm);
    snprintf(text, sizeof(text), "%04d%02d%02d%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour);
    digits(text, strlen(p->format) == 2 ? 4 : strlen(p->format) + 2, out);
}

int mpart_of(struct run *r, const struct mpart *p, const struct mtable *t, const struct row *row, char out[MPART_TEXT])
{
    size_t at = 0;
    if (run_column(r, t, p->column, &at))
        return -1;
    if (t->schema->fields[at].type != p->type)
        return run_fail(r, "invalidQuery", "No matching signature for FORMAT_%s of column %s at [1:1]", field_type_name(p->type), p->column);
    const struct cell *c = &row->cells[at];
    if (c->text == NULL)
        snprintf(out, MPART_TEXT, "__NULL__");
    else if (p->type == FIELD_INT64)
        number_id(p, strtoll(c->text, NULL, 10), out);
    else if (p->type == FIELD_TIMESTAMP)
        timestamp_id(p, strtoll(c->text, NULL, 10), out);
    else
        digits(c->text, strlen(p->format) == 2 ? 4 : strlen(p->format) + 2, out);
    return 0;
}

int run_replaced_parts(struct run *r, struct effects *e)
{
    struct entry *ids = NULL;
    struct seen_range seen;
    char id[MPART_TEXT];
    int rc = seen_range_open(r, &seen);
    for (size_t i = 0; i < r->count && rc == 0; i++) {
        rc = mpart_of(r, r->s->parts, r->rows[i].shard->table, r->rows[i].row, id);
        if (rc == 0)
            entry_put(&ids, id, strlen(id));
    }
    if (rc == 0 && HASH_COUNT(ids) > 4000)
        rc = run_fail(r, "invalidQuery", "bqfleet: the rows lie in %u partitions; one job may change 4000", HASH_COUNT(ids));
    for (size_t i = 0; i < r->target->count && rc == 0; i++) {
        rc = mpart_of(r, r->s->parts, r->target, r->target->rows[i], id);
        if (rc == 0 && entry_find(ids, id, strlen(id)) && seen_range_has(&seen, r->target->rows[i]))
            effects_change(e, i, NULL);
    }
    seen_range_close(&seen);
    entries_free(&ids);
    return rc;
}
