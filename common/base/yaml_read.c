#include "common/base/yaml.h"

#include <math.h>

#include "common/base/doc.h"
#include "common/base/units.h"

/* Puts the node's place before what is wrong with it. */
static int prefix_place(const struct yaml *at, struct error *err)
{
    if (at->line == 0)
        return error_prefix(err, "%s", at->file);
    return error_prefix(err, "%s:%d:%d", at->file, at->line, at->column);
}

int yaml_error(const struct yaml *at, struct error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, ERR_USAGE, 0, fmt, ap);
    va_end(ap);
    return at == NULL ? -1 : prefix_place(at, err);
}

struct yaml *yaml_get(struct yaml *map, const char *key)
{
    if (map == NULL || map->type != YAML_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->keys[i]->value, key) == 0)
            return map->items[i];
    return NULL;
}

static bool is_word(const struct yaml *n, const char *const *words, size_t count)
{
    if (n->type != YAML_SCALAR || n->quoted)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(n->value, words[i]) == 0)
            return true;
    return false;
}

bool yaml_is_null(const struct yaml *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    return n == NULL || is_word(n, words, ARRAY_LEN(words));
}

static bool is_true(const struct yaml *n)
{
    static const char *const words[] = {"true", "True", "TRUE"};
    return is_word(n, words, ARRAY_LEN(words));
}

static bool is_false(const struct yaml *n)
{
    static const char *const words[] = {"false", "False", "FALSE"};
    return is_word(n, words, ARRAY_LEN(words));
}

static const char *type_name(const struct yaml *n)
{
    return n->type == YAML_MAP ? "a map" : n->type == YAML_LIST ? "a list" : "a single value";
}

/* "a, b, c" for a message. */
static void list_names(const char *const *names, size_t count, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "", names[i]);
}

int yaml_only(struct yaml *map, const char *const *names, size_t count, struct error *err)
{
    if (yaml_is_null(map))
        return 0;
    if (map->type != YAML_MAP)
        return yaml_error(map, err, "a map (KEY: VALUE lines) belongs here, not %s", type_name(map));
    for (size_t i = 0; i < map->count; i++) {
        const struct yaml *key = map->keys[i];
        size_t j = 0;
        while (j < count && strcmp(names[j], key->value) != 0)
            j++;
        if (j < count)
            continue;
        const char *nearest = units_nearest(key->value, names, count);
        if (nearest != NULL)
            return yaml_error(key, err, "unknown key \"%s\"; did you mean \"%s\"?", key->value, nearest);
        char known[512];
        list_names(names, count, known, sizeof(known));
        return yaml_error(key, err, "unknown key \"%s\"; known here: %s", key->value, known);
    }
    return 0;
}

/* 1: *out is a value to read; 0: nothing is given; -1: something else stands there. */
static int present(struct yaml *map, const char *key, enum yaml_type type, struct yaml **out, struct error *err)
{
    static const char *const wanted[] = {"a single value", "a list", "a map (KEY: VALUE lines)"};
    struct yaml *n = yaml_get(map, key);
    if (yaml_is_null(n))
        return 0;
    if (n->type != type) {
        (void)yaml_error(n, err, "%s: %s belongs here, not %s", key, wanted[type], type_name(n));
        return -1;
    }
    *out = n;
    return 1;
}

/* Puts "FILE:LINE:COLUMN: KEY: " before what a parser of texts said. */
static int placed(const struct yaml *at, const char *key, struct error *err)
{
    error_prefix(err, "%s", key);
    return prefix_place(at, err);
}

int yaml_want_map(struct yaml *map, const char *key, struct yaml **out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_MAP, &n, err);
    if (rc == 1)
        *out = n;
    return rc < 0 ? -1 : 0;
}

int yaml_want_str(struct yaml *map, const char *key, char **out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc == 1)
        *out = xstrdup(n->value);
    return rc < 0 ? -1 : 0;
}

int yaml_want_int(struct yaml *map, const char *key, int64_t min, int64_t max, int64_t *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    if (n->quoted)
        return yaml_error(n, err, "%s: a number belongs here, and \"%s\" in quotes is a text", key, n->value);
    return units_int(n->value, min, max, out, err) == 0 ? 0 : placed(n, key, err);
}

int yaml_want_bool(struct yaml *map, const char *key, bool *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    if (!is_true(n) && !is_false(n))
        return yaml_error(n, err, "%s: \"%s\"%s is neither true nor false", key, n->value, n->quoted ? " in quotes" : "");
    *out = is_true(n);
    return 0;
}

int yaml_want_us(struct yaml *map, const char *key, int64_t *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    return units_duration_us(n->value, out, err) == 0 ? 0 : placed(n, key, err);
}

int yaml_want_ms(struct yaml *map, const char *key, int64_t *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    return units_duration_ms(n->value, out, err) == 0 ? 0 : placed(n, key, err);
}

int yaml_want_size(struct yaml *map, const char *key, int64_t *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    return units_size(n->value, out, err) == 0 ? 0 : placed(n, key, err);
}

int yaml_want_strv(struct yaml *map, const char *key, char ***out, size_t *count, struct error *err)
{
    struct yaml *n = yaml_get(map, key);
    if (yaml_is_null(n))
        return 0;
    if (n->type == YAML_MAP)
        return yaml_error(n, err, "%s: a list belongs here, not a map", key);
    struct yaml *const *items = n->type == YAML_LIST ? n->items : &n;
    size_t items_count = n->type == YAML_LIST ? n->count : 1;
    for (size_t i = 0; i < items_count; i++)
        if (items[i]->type != YAML_SCALAR || yaml_is_null(items[i]))
            return yaml_error(items[i], err, "%s: a list of plain values belongs here, and this one is %s", key,
                              items[i]->type == YAML_SCALAR ? "empty" : type_name(items[i]));
    char **strv = xcalloc(items_count + 1, sizeof(*strv));
    for (size_t i = 0; i < items_count; i++)
        strv[i] = xstrdup(items[i]->value);
    *out = strv;
    *count = items_count;
    return 0;
}

int yaml_want_enum(struct yaml *map, const char *key, const char *const *names, size_t count, int *out, struct error *err)
{
    struct yaml *n = NULL;
    int rc = present(map, key, YAML_SCALAR, &n, err);
    if (rc <= 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], n->value) == 0) {
            *out = (int)i;
            return 0;
        }
    char known[512];
    list_names(names, count, known, sizeof(known));
    const char *nearest = units_nearest(n->value, names, count);
    if (nearest != NULL)
        return yaml_error(n, err, "%s: \"%s\" is not one of %s; did you mean \"%s\"?", key, n->value, known, nearest);
    return yaml_error(n, err, "%s: \"%s\" is not one of %s", key, n->value, known);
}

/* An integer of the core schema: decimal, 0o17 or 0x1f. false: it is none, or beyond int64. */
static bool core_int(const char *s, int64_t *out)
{
    struct error ignored = ERROR_INIT;
    int base = strncmp(s, "0o", 2) == 0 ? 8 : strncmp(s, "0x", 2) == 0 ? 16 : 10;
    if (base == 10)
        return units_int(s, INT64_MIN, INT64_MAX, out, &ignored) == 0;
    const char *digits = base == 8 ? "01234567" : "0123456789abcdefABCDEF";
    size_t len = strlen(s + 2);
    if (len == 0 || len > (base == 8 ? 20 : 15) || strspn(s + 2, digits) != len)
        return false;
    *out = strtoll(s + 2, NULL, base);
    return true;
}

/* [-+]? ( .digits | digits [.digits] ) [ e[-+]digits ]; the infinities and NaN stay texts, as JSON has none. */
static bool core_real(const char *s, double *out)
{
    static const char digits[] = "0123456789";
    const char *p = *s == '-' || *s == '+' ? s + 1 : s;
    size_t before = strspn(p, digits);
    p += before;
    size_t after = *p == '.' ? strspn(p + 1, digits) : 0;
    p += *p == '.' ? after + 1 : 0;
    if (before + after == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        p += p[1] == '-' || p[1] == '+' ? 2 : 1;
        size_t exponent = strspn(p, digits);
        if (exponent == 0)
            return false;
        p += exponent;
    }
    if (*p != '\0')
        return false;
    *out = strtod(s, NULL);
    return isfinite(*out);
}

static doc *scalar_doc(const struct yaml *n)
{
    int64_t whole;
    double real;
    if (yaml_is_null(n))
        return doc_null();
    if (n->quoted)
        return doc_string(n->value);
    if (is_true(n) || is_false(n))
        return doc_boolean(is_true(n));
    if (core_int(n->value, &whole))
        return doc_integer(whole);
    return core_real(n->value, &real) ? doc_number(real) : doc_string(n->value);
}

struct json_t *yaml_to_doc(const struct yaml *n)
{
    if (n == NULL)
        return doc_null();
    if (n->type == YAML_SCALAR)
        return scalar_doc(n);
    doc *d = n->type == YAML_LIST ? doc_array() : doc_object();
    for (size_t i = 0; i < n->count; i++) {
        if (n->type == YAML_LIST)
            doc_add(d, yaml_to_doc(n->items[i]));
        else
            doc_set(d, n->keys[i]->value, yaml_to_doc(n->items[i]));
    }
    return d;
}
