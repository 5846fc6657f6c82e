#include "common/base/yaml.h"

#include "common/base/doc.h"
#include "tests/fuzz/fuzz.h"

/* YAML documents and --set: lines behind a NUL are assignments. Whatever is read is JSON; an error names file, line and column, or --set. */

static const char *some_env(const char *name)
{
    return strcmp(name, "A") == 0 ? "${B}" : strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static void walk(struct yaml *n)
{
    CHECK(n->type == YAML_SCALAR || n->type == YAML_LIST || n->type == YAML_MAP);
    CHECK(n->type != YAML_SCALAR || n->value != NULL);
    for (size_t i = 0; i < n->count; i++) {
        walk(n->items[i]);
        if (n->type == YAML_MAP)
            CHECK(n->keys[i]->type == YAML_SCALAR && yaml_get(n, n->keys[i]->value) == n->items[i]); /* no key twice */
    }
}

/* Each reader takes each value, or says at what place it is wrong. */
static void read_all(struct yaml *map)
{
    static const char *const names[] = {"merge", "append"};
    for (size_t i = 0; map->type == YAML_MAP && i < map->count && i < 16; i++) {
        const char *key = map->keys[i]->value;
        struct error err = ERROR_INIT;
        struct yaml *section = NULL;
        char *text = NULL, **list = NULL;
        int64_t n = 0;
        bool b = false;
        int choice = 0;
        size_t count = 0;
        (void)yaml_want_map(map, key, &section, &err);
        (void)yaml_want_int(map, key, -5, 1000, &n, &err);
        CHECK(n >= -5 && n <= 1000);
        (void)yaml_want_bool(map, key, &b, &err);
        (void)yaml_want_us(map, key, &n, &err);
        (void)yaml_want_ms(map, key, &n, &err);
        (void)yaml_want_size(map, key, &n, &err);
        (void)yaml_want_enum(map, key, names, ARRAY_LEN(names), &choice, &err);
        CHECK(choice == 0 || choice == 1);
        if (yaml_want_strv(map, key, &list, &count, &err) == 0 && list != NULL)
            CHECK(list[count] == NULL);
        strv_free(list);
        err = ERROR_INIT;
        if (yaml_want_str(map, key, &text, &err) != 0)
            CHECK(err.kind == ERR_USAGE && strncmp(err.text, "f.yaml:", 7) * strncmp(err.text, "--set", 5) == 0);
        free(text);
        (void)yaml_only(map, names, ARRAY_LEN(names), &err);
    }
}

static void as_json(const struct yaml *root)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = yaml_to_doc(root);
    AUTO(free_ptr) char *text = doc_text(d);
    if (doc_type(d) != DOC_OBJECT && doc_type(d) != DOC_ARRAY)
        return;
    AUTO(doc_free_auto) doc *again = doc_parse(text, strlen(text), "again", &err);
    CHECK(again != NULL && doc_equal(d, again));
}

FUZZ(yaml)
{
    struct input in = input_of(data, size);
    struct error err = ERROR_INIT;
    size_t len;
    AUTO(free_ptr) char *text = input_text(&in, '\0', &len);
    struct yaml *root = yaml_parse(text, len, "f.yaml", some_env, &err);
    if (root == NULL) {
        CHECK(err.kind == ERR_USAGE && strncmp(err.text, "f.yaml:", 7) == 0);
        return;
    }
    while (input_left(&in) > 0) {
        AUTO(free_ptr) char *assignment = input_text(&in, '\n', NULL);
        err = ERROR_INIT;
        if (yaml_set(root, assignment, &err) != 0)
            CHECK(err.kind == ERR_USAGE && strstr(err.text, "--set") != NULL);
    }
    walk(root);
    read_all(root);
    as_json(root);
    yaml_free(root);
}
