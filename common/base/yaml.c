#include "common/base/yaml.h"

#include <yaml.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/oom.h"

#define NEST_MAX 64 /* maps and lists inside each other; bounds our recursion */

struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t len;
    const char *file;
    const char *(*env)(const char *);
    struct error *err;
};

static struct yaml *node_new(enum yaml_type type, const char *file, int line, int column)
{
    struct yaml *n = xcalloc(1, sizeof(*n));
    n->type = type;
    n->file = file;
    n->line = line;
    n->column = column;
    return n;
}

void yaml_tree_free(struct yaml *n)
{
    if (n == NULL)
        return;
    for (size_t i = 0; i < n->count; i++) {
        yaml_free(n->items[i]);
        if (n->keys != NULL)
            yaml_free(n->keys[i]);
    }
    free(n->items);
    free(n->keys);
    free(n->value);
    free(n->owned_file);
    free(n);
}

/* Appends; a map's lists grow together. Takes over both nodes. */
static void node_push(struct yaml *n, struct yaml *key, struct yaml *item)
{
    if ((n->count & (n->count - 1)) == 0) { /* full at every power of two */
        size_t room = n->count == 0 ? 1 : n->count * 2;
        n->items = xreallocarray(n->items, room, sizeof(*n->items));
        if (n->type == YAML_MAP)
            n->keys = xreallocarray(n->keys, room, sizeof(*n->keys));
    }
    if (n->type == YAML_MAP)
        n->keys[n->count] = key;
    n->items[n->count++] = item;
}

static int fail_at(struct reader *r, yaml_mark_t at, const char *what)
{
    return error_set(r->err, ERR_USAGE, 0, "%s:%zu:%zu: %s", r->file, at.line + 1, at.column + 1, what);
}

/* libyaml gives a place for what it could scan, and only an offset for bytes that are no text. */
static int fail_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        out_of_memory("a YAML document");
    const char *problem = p->problem != NULL ? p->problem : "this is not YAML";
    if (p->error != YAML_READER_ERROR) {
        char text[512];
        snprintf(text, sizeof(text), "%s%s%s", p->context != NULL ? p->context : "", p->context != NULL ? ": " : "", problem);
        return fail_at(r, p->problem_mark, text);
    }
    yaml_mark_t at = {0};
    for (size_t i = 0; i < p->problem_offset && i < r->len; i++) {
        at.column = r->text[i] == '\n' ? 0 : at.column + 1;
        at.line += r->text[i] == '\n';
    }
    return fail_at(r, at, problem);
}

static void event_delete(yaml_event_t *e)
{
    yaml_event_delete(e);
}

static int next_event(struct reader *r, yaml_event_t *e)
{
    yaml_event_delete(e);
    return yaml_parser_parse(&r->parser, e) ? 0 : fail_parser(r);
}

static size_t variable_length(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    if (*name == '\0' || strchr(letters, *name) == NULL)
        return 0;
    size_t n = 1;
    while (name[n] != '\0' && (strchr(letters, name[n]) != NULL || (name[n] >= '0' && name[n] <= '9')))
        n++;
    return n;
}

/* One "${NAME}" at p: appends its value; returns the bytes read, 0 with an error. */
static size_t expand_one(struct reader *r, yaml_mark_t at, const char *p, struct buf *out)
{
    size_t n = variable_length(p + 2);
    char text[400];
    if (n == 0 || p[2 + n] != '}') {
        snprintf(text, sizeof(text), "\"%.40s\" is not ${NAME}; write $${ for a literal ${", p);
        fail_at(r, at, text);
        return 0;
    }
    AUTO(free_ptr) char *name = xstrndup(p + 2, n);
    const char *value = r->env(name);
    if (value == NULL || buf_puts(out, value) != 0) {
        snprintf(text, sizeof(text), value == NULL ? "${%.200s} is not set in the environment" : "${%.200s} is too long", name);
        fail_at(r, at, text);
        return 0;
    }
    return n + 3;
}

/* Replaces ${NAME} in *value. */
static int expand(struct reader *r, yaml_mark_t at, char **value)
{
    if (r->env == NULL || strstr(*value, "${") == NULL)
        return 0;
    AUTO(buf_free) struct buf out = BUF_INIT(LIMIT_SPEC);
    for (const char *p = *value; *p != '\0';) {
        size_t used = 1;
        int rc = 0;
        if (strncmp(p, "$${", 3) == 0) {
            rc = buf_puts(&out, "${");
            used = 3;
        } else if (strncmp(p, "${", 2) == 0) {
            used = expand_one(r, at, p, &out);
        } else {
            rc = buf_add(&out, p, 1);
        }
        if (rc != 0)
            return fail_at(r, at, "the text is too long with its variables in place");
        if (used == 0)
            return -1;
        p += used;
    }
    free(*value);
    *value = buf_steal(&out);
    return 0;
}

static struct yaml *read_scalar(struct reader *r, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    size_t len = e->data.scalar.length;
    if (strlen(text) != len) {
        fail_at(r, e->start_mark, "a text with a NUL character inside");
        return NULL;
    }
    struct yaml *n = node_new(YAML_SCALAR, r->file, (int)e->start_mark.line + 1, (int)e->start_mark.column + 1);
    n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    n->value = xstrdup(text);
    return n;
}

struct key_place {
    const struct yaml *key;
    size_t at;
};

static int by_text(const void *a, const void *b)
{
    const struct key_place *x = a, *y = b;
    int order = strcmp(x->key->value, y->key->value);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

static int refuse_repeated_keys(const struct yaml *map, struct error *err)
{
    AUTO(free_ptr) struct key_place *places = xcalloc(map->count, sizeof(*places));
    for (size_t i = 0; i < map->count; i++)
        places[i] = (struct key_place){map->keys[i], i};
    qsort(places, map->count, sizeof(*places), by_text);
    size_t worst = map->count, first = 0; /* the repeated key that comes first in the text */
    for (size_t i = 1; i < map->count; i++)
        if (strcmp(places[i - 1].key->value, places[i].key->value) == 0 && places[i].at < worst) {
            worst = places[i].at;
            first = places[i - 1].at;
        }
    if (worst == map->count)
        return 0;
    return yaml_error(map->keys[worst], err, "\"%s\" is given twice; the first time on line %d", map->keys[worst]->value,
                      map->keys[first]->line);
}

static struct yaml *read_node(struct reader *r, const yaml_event_t *e, int depth);

static int read_pair(struct reader *r, struct yaml *map, const yaml_event_t *e, int depth)
{
    if (e->type != YAML_SCALAR_EVENT)
        return fail_at(r, e->start_mark, "a key must be a plain text");
    struct yaml *key = read_node(r, e, depth);
    if (key == NULL)
        return -1;
    AUTO(event_delete) yaml_event_t value_event = {0};
    struct yaml *value = next_event(r, &value_event) == 0 ? read_node(r, &value_event, depth) : NULL;
    if (value == NULL || (value->type == YAML_SCALAR && expand(r, value_event.start_mark, &value->value) != 0)) {
        yaml_free(key);
        yaml_free(value);
        return -1;
    }
    node_push(map, key, value);
    return 0;
}

static int read_item(struct reader *r, struct yaml *list, const yaml_event_t *e, int depth)
{
    struct yaml *item = read_node(r, e, depth);
    if (item == NULL)
        return -1;
    node_push(list, NULL, item);
    return item->type == YAML_SCALAR ? expand(r, e->start_mark, &item->value) : 0;
}

static struct yaml *read_collection(struct reader *r, const yaml_event_t *start, int depth)
{
    bool is_map = start->type == YAML_MAPPING_START_EVENT;
    if (depth >= NEST_MAX) {
        fail_at(r, start->start_mark, "too many maps and lists inside each other");
        return NULL;
    }
    AUTO(yaml_free_auto) struct yaml *n =
        node_new(is_map ? YAML_MAP : YAML_LIST, r->file, (int)start->start_mark.line + 1, (int)start->start_mark.column + 1);
    AUTO(event_delete) yaml_event_t e = {0};
    for (;;) {
        if (next_event(r, &e) != 0)
            return NULL;
        if (e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT)
            break;
        if ((is_map ? read_pair(r, n, &e, depth + 1) : read_item(r, n, &e, depth + 1)) != 0)
            return NULL;
    }
    if (is_map && refuse_repeated_keys(n, r->err) != 0)
        return NULL;
    struct yaml *whole = n;
    n = NULL;
    return whole;
}

static bool has_anchor_or_tag(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT: return e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL;
    default: return e->type == YAML_ALIAS_EVENT;
    }
}

static struct yaml *read_node(struct reader *r, const yaml_event_t *e, int depth)
{
    if (has_anchor_or_tag(e)) {
        fail_at(r, e->start_mark, "anchors (&a), aliases (*a) and tags (!a) are not taken here; put such a text in quotes");
        return NULL;
    }
    return e->type == YAML_SCALAR_EVENT ? read_scalar(r, e) : read_collection(r, e, depth);
}

/* The one document of the stream; an empty stream gives a null. */
static struct yaml *read_stream(struct reader *r)
{
    AUTO(event_delete) yaml_event_t e = {0};
    AUTO(yaml_free_auto) struct yaml *root = NULL;
    for (;;) {
        if (next_event(r, &e) != 0)
            return NULL;
        if (e.type == YAML_STREAM_END_EVENT)
            break;
        if (e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_END_EVENT)
            continue;
        if (e.type == YAML_DOCUMENT_START_EVENT) {
            if (root == NULL)
                continue;
            fail_at(r, e.start_mark, "a second document begins here; only one is read");
            return NULL;
        }
        root = read_node(r, &e, 0);
        if (root == NULL || (root->type == YAML_SCALAR && expand(r, e.start_mark, &root->value) != 0))
            return NULL;
    }
    struct yaml *whole = root;
    root = NULL;
    if (whole == NULL) {
        whole = node_new(YAML_SCALAR, r->file, 1, 1);
        whole->value = xstrdup("");
    }
    return whole;
}

struct yaml *yaml_parse(const char *text, size_t len, const char *file, const char *(*env)(const char *), struct error *err)
{
    if (len > LIMIT_SPEC) {
        error_set(err, ERR_USAGE, 0, "%s:1:1: %zu bytes, more than the %d that are read", file, len, LIMIT_SPEC);
        return NULL;
    }
    char *name = xstrdup(file);
    struct reader r = {.text = text, .len = len, .file = name, .env = env, .err = err};
    if (!yaml_parser_initialize(&r.parser))
        out_of_memory("a YAML parser");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    struct yaml *root = read_stream(&r);
    yaml_parser_delete(&r.parser);
    if (root == NULL)
        free(name);
    else
        root->owned_file = name;
    return root;
}

/* What --set brings has no line: its place is its path. */
static void forget_lines(struct yaml *n)
{
    n->line = n->column = 0;
    for (size_t i = 0; i < n->count; i++) {
        forget_lines(n->items[i]);
        if (n->keys != NULL)
            forget_lines(n->keys[i]);
    }
}

static void become_map(struct yaml *n)
{
    free(n->value);
    n->value = NULL;
    n->type = YAML_MAP;
}

/* The place of one path component in a map or list, made when it is new; NULL with an error. */
static struct yaml **slot(struct yaml *n, const char *name, const char *place, struct error *err)
{
    if (yaml_is_null(n))
        become_map(n);
    if (*name == '\0' || n->type == YAML_SCALAR) {
        error_set(err, ERR_USAGE, 0, *name == '\0' ? "%s: an empty name in the path" : "%s: nothing can be set inside a text", place);
        return NULL;
    }
    if (n->type == YAML_LIST) {
        char *end = NULL;
        unsigned long index = *name >= '0' && *name <= '9' ? strtoul(name, &end, 10) : n->count + 1;
        if (index > n->count || (end != NULL && *end != '\0')) {
            error_set(err, ERR_USAGE, 0, "%s: \"%.100s\" is not a place in a list of %zu", place, name, n->count);
            return NULL;
        }
        if (index == n->count)
            node_push(n, NULL, NULL);
        return &n->items[index];
    }
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->keys[i]->value, name) == 0)
            return &n->items[i];
    struct yaml *key = node_new(YAML_SCALAR, NULL, 0, 0);
    key->file = key->owned_file = xstrdup(place);
    key->value = xstrdup(name);
    node_push(n, key, NULL);
    return &n->items[n->count - 1];
}

int yaml_set(struct yaml *root, const char *assignment, struct error *err)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || equals == assignment)
        return error_set(err, ERR_USAGE, 0, "--set %.200s: write PATH=VALUE, e.g. --set write.table=dataset.table", assignment);
    AUTO(free_ptr) char *path = xstrndup(assignment, (size_t)(equals - assignment));
    AUTO(free_ptr) char *place = xasprintf("--set %.200s", path);
    AUTO(yaml_free_auto) struct yaml *value = yaml_parse(equals + 1, strlen(equals + 1), place, NULL, err);
    if (value == NULL)
        return -1;
    forget_lines(value);
    struct yaml *at = root;
    int depth = 0;
    for (char *name = path, *rest;; name = rest) {
        if (depth++ >= NEST_MAX)
            return error_set(err, ERR_USAGE, 0, "%s: more than %d names in the path", place, NEST_MAX);
        rest = strchr(name, '.');
        if (rest != NULL)
            *rest++ = '\0';
        struct yaml **target = slot(at, name, place, err);
        if (target == NULL)
            return -1;
        if (rest == NULL) {
            yaml_free(*target);
            *target = value;
            value = NULL;
            return 0;
        }
        if (*target == NULL) {
            *target = node_new(YAML_MAP, NULL, 0, 0);
            (*target)->file = (*target)->owned_file = xstrdup(place);
        }
        at = *target;
    }
}
