#include "common/base/config_internal.h"

#include "common/base/buf.h"
#include "common/base/doc.h"

#define TEXT_MAX (1024 * 1024) /* bytes of a help, a table or a listing */
#define VALUE_SHOWN 2000       /* bytes of a value in a listing */
#define HELP_INDENT 30         /* the column at which sentences begin */
#define HELP_WIDTH 100         /* the column at which they are broken */

/* A whole number in the largest unit that divides it: what could be written again as a setting. */
static char *in_units(int64_t value, const char *const *names, const int64_t *scales, size_t count)
{
    size_t i = 0;
    while (i + 1 < count && (value == 0 || value % scales[i] != 0))
        i++;
    return xasprintf("%" PRId64 "%s", value / scales[i], value == 0 ? "" : names[i]);
}

static char *duration_text(int64_t ms)
{
    static const char *const names[] = {"d", "h", "m", "s", "ms"};
    static const int64_t scales[] = {86400000, 3600000, 60000, 1000, 1};
    return in_units(ms, names, scales, ARRAY_LEN(names));
}

static char *size_text(int64_t bytes)
{
    static const char *const names[] = {"TiB", "GiB", "MiB", "KiB", ""};
    static const int64_t scales[] = {INT64_C(1) << 40, 1 << 30, 1 << 20, 1 << 10, 1};
    return in_units(bytes, names, scales, ARRAY_LEN(names));
}

static doc *list_doc(char *const *list)
{
    doc *d = doc_array();
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        doc_add(d, doc_string(list[i]));
    return d;
}

static doc *value_doc(const struct config *c, size_t i)
{
    const void *at = config_at(c, i);
    AUTO(free_ptr) char *text = NULL;
    switch (c->rows[i].type) {
    case OPT_INT: return doc_integer(*(const int64_t *)at);
    case OPT_BOOL: return doc_boolean(*(const bool *)at);
    case OPT_LIST: return list_doc(*(char *const *const *)at);
    case OPT_SECRET: return *(char *const *)at != NULL ? doc_string("(set)") : doc_null();
    case OPT_STR: return *(char *const *)at != NULL ? doc_string(*(char *const *)at) : doc_null();
    case OPT_MS: text = duration_text(*(const int64_t *)at); break;
    case OPT_SIZE: text = size_text(*(const int64_t *)at); break;
    }
    return doc_string(text);
}

static const char *source_name(enum opt_source source)
{
    static const char *const names[] = {"default", "file", "environment", "flag"};
    return names[source];
}

static char *show_json(const struct config *c)
{
    doc *list = doc_array();
    for (size_t i = 0; i < c->count; i++) {
        if ((c->rows[i].who & c->who) == 0)
            continue;
        doc *one = doc_set_str(doc_object(), "name", c->rows[i].name);
        doc_set(one, "value", value_doc(c, i));
        doc_add(list, doc_set_str(one, "source", source_name(c->sources[i])));
    }
    AUTO(doc_free_auto) doc *all = doc_set(doc_object(), "settings", list);
    return doc_text(all);
}

static char *value_text(const struct config *c, size_t i)
{
    AUTO(doc_free_auto) doc *value = value_doc(c, i);
    if (doc_type(value) == DOC_NULL || (doc_type(value) == DOC_ARRAY && doc_len(value) == 0))
        return xstrdup("-");
    return doc_type(value) == DOC_STRING ? xstrdup(doc_str(value, NULL, "")) : doc_text(value);
}

char *config_show(const struct config *c, bool json)
{
    if (json)
        return show_json(c);
    struct buf out = BUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < c->count; i++) {
        if ((c->rows[i].who & c->who) == 0)
            continue;
        AUTO(free_ptr) char *value = value_text(c, i);
        buf_xprintf(&out, "%-16s %-30.*s %s\n", c->rows[i].name, VALUE_SHOWN, value, source_name(c->sources[i]));
    }
    return buf_steal(&out);
}

/* A switch that is on by itself is shown as the flag that turns it off. */
static bool on_by_default(const struct opt *row)
{
    return row->type == OPT_BOOL && row->fallback != NULL && strcmp(row->fallback, "true") == 0;
}

static char *flag_text(const struct opt *row)
{
    return xasprintf("--%s%s%s%s", on_by_default(row) ? "no-" : "", row->name, row->arg != NULL ? " " : "",
                     row->arg != NULL ? row->arg : "");
}

/* The sentence, what may be chosen, and the default. */
static char *sentence(const struct opt *row)
{
    bool show_default = row->fallback != NULL && row->type != OPT_BOOL;
    return xasprintf("%s%s%s%s%s%s%s", row->help, row->choices != NULL ? " (" : "", row->choices != NULL ? row->choices : "",
                     row->choices != NULL ? ")" : "", show_default ? " [" : "", show_default ? row->fallback : "",
                     show_default ? "]" : "");
}

/* Words from the indent on; a line that is full goes on below, at the indent. */
static void wrapped(struct buf *out, const char *text)
{
    size_t at = HELP_INDENT;
    for (const char *p = text; *p != '\0'; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        if (at > HELP_INDENT && at + 1 + len > HELP_WIDTH) {
            buf_xprintf(out, "\n%*s", HELP_INDENT, "");
            at = HELP_INDENT;
        } else if (at > HELP_INDENT) {
            buf_xputs(out, " ");
            at++;
        }
        buf_xadd(out, p, len);
        at += len;
        p += len;
    }
    buf_xputs(out, "\n");
}

char *config_help(const struct opt *rows, size_t count, unsigned who)
{
    struct buf out = BUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < count; i++) {
        if ((rows[i].who & who) == 0)
            continue;
        AUTO(free_ptr) char *flag = flag_text(&rows[i]);
        AUTO(free_ptr) char *text = sentence(&rows[i]);
        size_t used = strlen(flag) + 2;
        buf_xprintf(&out, "  %s", flag);
        if (used + 2 > HELP_INDENT)
            buf_xprintf(&out, "\n%*s", HELP_INDENT, "");
        else
            buf_xprintf(&out, "%*s", (int)(HELP_INDENT - used), "");
        wrapped(&out, text);
    }
    return buf_steal(&out);
}

/* A bar inside a cell would end it. */
static void cell(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '|')
            buf_xputs(out, "\\");
        buf_xadd(out, p, 1);
    }
}

char *config_markdown(const struct opt *rows, size_t count)
{
    struct buf out = BUF_INIT(TEXT_MAX);
    buf_xputs(&out, "| flag | default | meaning |\n|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        const struct opt *row = &rows[i];
        AUTO(free_ptr) char *flag = flag_text(row);
        bool show_default = row->fallback != NULL && row->type != OPT_BOOL;
        buf_xputs(&out, "| `");
        cell(&out, flag);
        buf_xprintf(&out, "` | %s%s%s | ", show_default ? "`" : "", show_default ? row->fallback : "", show_default ? "`" : "");
        cell(&out, row->help);
        if (row->choices != NULL) {
            buf_xputs(&out, " `");
            cell(&out, row->choices);
            buf_xputs(&out, "`");
        }
        buf_xputs(&out, " |\n");
    }
    return buf_steal(&out);
}
