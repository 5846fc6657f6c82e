#ifndef BQF_BASE_YAML_H
#define BQF_BASE_YAML_H

#include "common/base/error.h"

/* A YAML document as a tree whose every node knows its line and column (from 1). Anchors and aliases are refused;
 * a repeated key is an error. All errors are ERR_USAGE and begin with "FILE:LINE:COLUMN: ", or with "--set PATH: " for what came from there (line 0).
 * An empty document is a null scalar. Null counts as absent wherever something is read. */
enum yaml_type { YAML_SCALAR, YAML_LIST, YAML_MAP };
struct yaml {
    enum yaml_type type;
    int line, column;
    char *value;   /* scalar: its text */
    bool quoted;   /* scalar: written with quotes, so never null, a number or a boolean */
    struct yaml **items; /* list: items; map: values */
    struct yaml **keys;  /* map: scalars */
    size_t count;
    const char *file;    /* for messages */
    char *owned_file;    /* its memory, in the node that owns it: the root, and what --set put in */
};

/* env(name) gives the value for ${NAME} in scalars ("$${" is a literal "${"), or NULL: an error. env NULL: no expansion. */
struct yaml *yaml_parse(const char *text, size_t len, const char *file, const char *(*env)(const char *), struct error *);
/* The linker must see no yaml_free of ours: libyaml calls its own function of that name, and would find this one. */
void yaml_tree_free(struct yaml *);
static inline void yaml_free(struct yaml *n) { yaml_tree_free(n); }
DEFINE_AUTO(yaml_free, struct yaml *)
/* "write.table=x.y": replaces or adds; the value is parsed as YAML; complaints name "--set". */
int yaml_set(struct yaml *root, const char *assignment, struct error *);

int yaml_error(const struct yaml *at, struct error *, const char *fmt, ...) PRINTF_LIKE(3, 4); /* -1 */
/* The map's value of that key, or NULL; also NULL when map is NULL or no map. */
struct yaml *yaml_get(struct yaml *map, const char *key);
/* -1 with the first key of the map that is not among names, and the nearest that is; also when it is neither a map nor null. */
int yaml_only(struct yaml *map, const char *const *names, size_t count, struct error *);
bool yaml_is_null(const struct yaml *); /* absent, ~, null or empty, unquoted */

/* Typed reading; each takes a map and a key, leaves *out alone when the key is absent, complains with its place. */
int yaml_want_map(struct yaml *map, const char *key, struct yaml **out, struct error *);
int yaml_want_str(struct yaml *map, const char *key, char **out, struct error *);      /* the caller frees */
int yaml_want_int(struct yaml *map, const char *key, int64_t min, int64_t max, int64_t *out, struct error *);
int yaml_want_bool(struct yaml *map, const char *key, bool *out, struct error *);
int yaml_want_us(struct yaml *map, const char *key, int64_t *out, struct error *);
int yaml_want_ms(struct yaml *map, const char *key, int64_t *out, struct error *);
int yaml_want_size(struct yaml *map, const char *key, int64_t *out, struct error *);
/* A scalar or a list of scalars: a NULL-terminated vector that strv_free releases. */
int yaml_want_strv(struct yaml *map, const char *key, char ***out, size_t *count, struct error *);
int yaml_want_enum(struct yaml *map, const char *key, const char *const *names, size_t count, int *out, struct error *);

/* As JSON (YAML 1.2 core schema: null, booleans, numbers, strings), e.g. for params. New reference. */
struct json_t *yaml_to_doc(const struct yaml *);

void strv_free(char **strv);
DEFINE_AUTO(strv_free, char **)
/* Splits as a POSIX shell splits words (quotes, backslashes; no expansion). */
int strv_split(const char *text, char ***out, size_t *count, struct error *);

#endif
