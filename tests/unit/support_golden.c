#include "tests/unit/support_golden.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* "ARRAY<STRUCT<load STRING, `rows` INT64>>" */
static void type_text(const doc *type, struct buf *out)
{
    const char *name = doc_str(type, "type", "");
    if (strcmp(name, "ARRAY") == 0) {
        buf_xputs(out, "ARRAY<");
        type_text(doc_get(type, "arrayType"), out);
        buf_xputs(out, ">");
    } else if (strcmp(name, "STRUCT") == 0) {
        const doc *members = doc_get(type, "structTypes");
        buf_xputs(out, "STRUCT<");
        for (size_t i = 0; i < doc_len(members); i++) {
            buf_xprintf(out, "%s`%s` ", i ? ", " : "", doc_str(doc_at(members, i), "name", ""));
            type_text(doc_get(doc_at(members, i), "type"), out);
        }
        buf_xputs(out, ">");
    } else {
        buf_xputs(out, name);
    }
}

doc *golden_types(const doc *params)
{
    doc *types = doc_object();
    for (size_t i = 0; i < doc_len(params); i++) {
        struct buf text = BUF_INIT(4096);
        type_text(doc_get(doc_at(params, i), "parameterType"), &text);
        doc_set_str(types, doc_str(doc_at(params, i), "name", ""), text.data);
        buf_free(&text);
    }
    return types;
}

void golden_line(struct buf *out, const char *id, const char *sql, doc *types, doc *want)
{
    doc *line = doc_set_str(doc_object(), "id", id);
    doc_set_str(line, "sql", sql);
    doc_set(line, "params", types);
    doc_set(line, "want", want);
    AUTO(free_ptr) char *text = doc_text(line);
    buf_xprintf(out, "%s\n", text);
    doc_free(line);
}

static void golden_path(const char *name, char *out, size_t size)
{
    const char *here = __FILE__, *slash = strrchr(here, '/');
    snprintf(out, size, "%.*s/../golden/sql/%s", (int)(slash - here), here, name);
}

void golden_compare(const char *name, const char *text)
{
    char path[4096];
    golden_path(name, path, sizeof(path));
    if (getenv("BQF_UPDATE_GOLDEN")) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fputs(text, f) >= 0, 1);
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(path, "r");
    if (f == NULL)
        fail_msg("%s is missing; BQF_UPDATE_GOLDEN=1 writes it", path);
    AUTO(free_ptr) char *kept = xmalloc(CORPUS_MAX);
    size_t n = fread(kept, 1, CORPUS_MAX - 1, f);
    fclose(f);
    kept[n] = '\0';
    for (const char *a = kept, *b = text; *a || *b;) { /* line by line, for a message one can read */
        size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        if (na != nb || memcmp(a, b, na) != 0)
            fail_msg("%s differs (BQF_UPDATE_GOLDEN=1 accepts it)\n  kept: %.*s\n  now:  %.*s", name, (int)na, a, (int)nb, b);
        a += na + (a[na] == '\n');
        b += nb + (b[nb] == '\n');
    }
}

size_t golden_split(const char *list, char *copy, size_t size, const char **out)
{
    size_t n = 0;
    if (list == NULL)
        return 0;
    snprintf(copy, size, "%s", list);
    for (char *rest = copy, *name; (name = strsep(&rest, ",")) != NULL;)
        out[n++] = name;
    return n;
}
