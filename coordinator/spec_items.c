#include "coordinator/spec_internal.h"

#include "common/base/units.h"

/* In the order of enum items_kind. */
static const char *const kinds[] = {"file", "csv", "lines", "list", "range", "query"};

/* Which of the kinds is given: exactly one must be. */
static int find_kind(struct spec *s, struct yaml *items, struct error *err)
{
    const char *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct yaml *n = yaml_get(items, kinds[i]);
        if (yaml_is_null(n))
            continue;
        if (found != NULL)
            return yaml_error(n, err, "items: %s and %s are both given; items come from one place", found, kinds[i]);
        found = kinds[i];
        s->items.kind = (enum items_kind)i;
        s->items.line = n->line;
        s->items.column = n->column;
    }
    if (found == NULL)
        return yaml_error(items, err, "items: say where they come from: file, csv, lines, list, range or query");
    return 0;
}

static int read_range(struct spec *s, struct yaml *items, struct error *err)
{
    static const char *const keys[] = {"from", "to"};
    struct yaml *range = yaml_get(items, "range");
    if (yaml_only(range, keys, ARRAY_LEN(keys), err) != 0 ||
        spec_require(range, "items.range", "from", "write range: {from: 1, to: 100}; both ends are included", err) != 0 ||
        spec_require(range, "items.range", "to", "write range: {from: 1, to: 100}; both ends are included", err) != 0 ||
        yaml_want_int(range, "from", INT64_MIN / 2, INT64_MAX / 2, &s->items.from, err) != 0 ||
        yaml_want_int(range, "to", INT64_MIN / 2, INT64_MAX / 2, &s->items.to, err) != 0)
        return -1;
    if (s->items.to < s->items.from)
        return yaml_error(range, err, "items.range: to (%" PRId64 ") is less than from (%" PRId64 ")", s->items.to, s->items.from);
    if (s->items.to - s->items.from >= LIMIT_ITEMS)
        return yaml_error(range, err, "items.range: more than %" PRId64 " items", LIMIT_ITEMS);
    return 0;
}

/* A key per kind: a field or column where items have several; none where the line or value is the key itself. */
static int read_key(struct spec *s, struct yaml *items, struct error *err)
{
    enum items_kind kind = s->items.kind;
    if (kind == ITEMS_FILE || kind == ITEMS_CSV || kind == ITEMS_QUERY) {
        if (spec_require(items, "items", "key", kind == ITEMS_FILE ? "name the field that tells the items apart"
                                                                   : "name the column that tells the items apart", err) != 0)
            return -1;
        return yaml_want_str(items, "key", &s->items.key, err);
    }
    if (!yaml_is_null(yaml_get(items, "key")))
        return yaml_error(yaml_get(items, "key"), err, "items.key: with %s the %s itself is the key; leave this out", kinds[kind],
                          kind == ITEMS_LINES ? "line" : kind == ITEMS_LIST ? "value" : "number");
    return 0;
}

static int read_source(struct spec *s, struct yaml *items, struct error *err)
{
    const char *kind = kinds[s->items.kind];
    if (s->items.kind == ITEMS_LIST)
        return yaml_want_strv(items, "list", &s->items.list, &s->items.list_count, err);
    if (s->items.kind == ITEMS_RANGE)
        return read_range(s, items, err);
    AUTO(free_ptr) char *text = NULL;
    if (yaml_want_str(items, kind, &text, err) != 0)
        return -1;
    if (text[0] == '\0')
        return yaml_error(yaml_get(items, kind), err, "items.%s: is empty", kind);
    if (s->items.kind != ITEMS_QUERY && strcmp(text, "-") == 0 && strcmp(s->path, "-") == 0)
        return yaml_error(yaml_get(items, kind), err, "items.%s: the spec itself came from stdin, so the items cannot", kind);
    s->items.source = s->items.kind == ITEMS_QUERY ? xstrdup(text) : spec_path(s, text);
    return 0;
}

int spec_read_items(struct spec *s, struct yaml *items, struct yaml *root, struct error *err)
{
    static const char *const keys[] = {"file", "csv", "lines", "list", "range", "query", "key"};
    if (spec_section(root, "items", true, keys, ARRAY_LEN(keys), &items, err) != 0 || find_kind(s, items, err) != 0 ||
        read_source(s, items, err) != 0)
        return -1;
    return read_key(s, items, err);
}
