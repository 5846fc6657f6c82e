#include "common/base/config_internal.h"

#include <sched.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/base/units.h"
#include "common/base/yaml.h"

#define SECRET_MAX 65536 /* bytes of a secret's file */
#define ENV_NAME_MAX 96  /* bytes of "BQFLEET_" and a name */

/* One loading: layers are applied from the strongest to the weakest, and what is given stays. */
struct loading {
    struct config *c;
    bool *given; /* one a row */
    struct error *err;
};

static int64_t cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? i64_max(CPU_COUNT(&set), 1) : 1;
}

/* Exactly, and as it may be written: rounded to decimal units, a bound looks as if it were within. */
static void show_size(int64_t bytes, char *out, size_t size)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    for (; bytes != 0 && bytes % 1024 == 0 && i + 1 < ARRAY_LEN(names); i++)
        bytes /= 1024;
    snprintf(out, size, "%" PRId64 "%s", bytes, names[i]);
}

static int within(const struct opt *row, int64_t value, const char *text, struct error *err)
{
    char lo[64], hi[64];
    if ((row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max))
        return 0;
    if (row->type == OPT_MS) {
        units_show_ms(row->min, lo, sizeof(lo));
        units_show_ms(row->max, hi, sizeof(hi));
    } else {
        show_size(row->min, lo, sizeof(lo));
        show_size(row->max, hi, sizeof(hi));
    }
    return error_set(err, ERR_USAGE, 0, "%.100s is not between %s and %s", text, lo, hi);
}

static int parse_int(const struct opt *row, const char *text, int64_t *out, struct error *err)
{
    if (row->fallback != NULL && strcmp(row->fallback, "cores") == 0 && strcmp(text, "cores") == 0) {
        *out = i64_min(cores(), row->max);
        return 0;
    }
    bool free_range = row->min == 0 && row->max == 0;
    return units_int(text, free_range ? INT64_MIN : row->min, free_range ? INT64_MAX : row->max, out, err);
}

static int parse_bool(const char *text, bool *out, struct error *err)
{
    static const char *const yes[] = {"true", "1", "yes", "on"}, *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return 0;
        }
    return error_set(err, ERR_USAGE, 0, "\"%.100s\" is neither true nor false", text);
}

/* choices: "a|b|c" */
static int check_choice(const char *choices, const char *text, struct error *err)
{
    AUTO(free_ptr) char *copy = xstrdup(choices);
    const char *names[16];
    size_t count = 0;
    for (char *p = copy, *name; (name = strsep(&p, "|")) != NULL && count < ARRAY_LEN(names);)
        names[count++] = name;
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0)
            return 0;
    const char *nearest = units_nearest(text, names, count);
    if (nearest != NULL)
        return error_set(err, ERR_USAGE, 0, "\"%.100s\" is not one of %s; did you mean \"%s\"?", text, choices, nearest);
    return error_set(err, ERR_USAGE, 0, "\"%.100s\" is not one of %s", text, choices);
}

static void append(char ***list, const char *text)
{
    size_t n = 0;
    while (*list != NULL && (*list)[n] != NULL)
        n++;
    *list = xreallocarray(*list, n + 2, sizeof(**list));
    (*list)[n] = xstrdup(text);
    (*list)[n + 1] = NULL;
}

/* Sets row i from a text; a list gets one more. */
static int assign(struct config *c, size_t i, const char *text, struct error *err)
{
    const struct opt *row = &c->rows[i];
    void *at = config_at(c, i);
    int64_t value = 0;
    switch (row->type) {
    case OPT_STR:
    case OPT_SECRET:
        if (row->choices != NULL && check_choice(row->choices, text, err) != 0)
            return -1;
        free(*(char **)at);
        *(char **)at = xstrdup(text);
        return 0;
    case OPT_LIST:
        append(at, text);
        return 0;
    case OPT_BOOL:
        return parse_bool(text, at, err);
    case OPT_INT:
        return parse_int(row, text, at, err);
    case OPT_MS:
        if (units_duration_ms(text, &value, err) != 0 || within(row, value, text, err) != 0)
            return -1;
        break;
    case OPT_SIZE:
        if (units_size(text, &value, err) != 0 || within(row, value, text, err) != 0)
            return -1;
        break;
    }
    *(int64_t *)at = value;
    return 0;
}

/* From one source: a complaint begins with its place. */
static int give(struct loading *l, size_t i, const char *text, enum opt_source source, const char *place)
{
    if (assign(l->c, i, text, l->err) != 0)
        return error_prefix(l->err, "%s", place);
    l->given[i] = true;
    l->c->sources[i] = source;
    return 0;
}

static bool applies(const struct config *c, size_t i)
{
    return (c->rows[i].who & c->who) != 0;
}

static int unknown_flag(const struct loading *l, const char *name)
{
    const struct config *c = l->c;
    AUTO(free_ptr) const char **names = xcalloc(c->count, sizeof(*names));
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->rows[i].name, name) == 0)
            return error_set(l->err, ERR_USAGE, 0, "--%s does not apply here; see --help", name);
        if (applies(c, i))
            names[count++] = c->rows[i].name;
    }
    const char *nearest = units_nearest(name, names, count);
    if (nearest != NULL)
        return error_set(l->err, ERR_USAGE, 0, "unknown flag --%.100s; did you mean --%s?", name, nearest);
    return error_set(l->err, ERR_USAGE, 0, "unknown flag --%.100s; see --help", name);
}

static bool find_row(const struct config *c, const char *name, size_t *out)
{
    for (size_t i = 0; i < c->count; i++)
        if (applies(c, i) && strcmp(c->rows[i].name, name) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static int give_flag(struct loading *l, size_t i, const char *text, const char *place)
{
    const struct opt *row = &l->c->rows[i];
    if (row->type == OPT_STR && row->max == OPT_ONCE && l->given[i])
        return error_set(l->err, ERR_USAGE, 0, "%s is given twice (%.80s, %.80s), and takes one: call the command for each", place,
                         *(char **)config_at(l->c, i), text);
    return give(l, i, text, FROM_FLAG, place);
}

/* "--name", "--name=value", "--no-name" at argv[*at]; steps over a value of its own. */
static int read_flag(struct loading *l, int argc, char *const *argv, int *at)
{
    const char *flag = argv[*at] + 2, *value = strchr(flag, '=');
    AUTO(free_ptr) char *name = xstrndup(flag, value != NULL ? (size_t)(value - flag) : strlen(flag));
    AUTO(free_ptr) char *place = xasprintf("--%.100s", name);
    size_t i;
    bool negated = !find_row(l->c, name, &i);
    if (negated && (strncmp(name, "no-", 3) != 0 || !find_row(l->c, name + 3, &i) || l->c->rows[i].type != OPT_BOOL))
        return unknown_flag(l, name);
    if (negated && value != NULL)
        return error_set(l->err, ERR_USAGE, 0, "%s takes no value", place);
    if (value != NULL)
        return give_flag(l, i, value + 1, place);
    if (l->c->rows[i].type == OPT_BOOL)
        return give(l, i, negated ? "false" : "true", FROM_FLAG, place);
    if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
        return error_set(l->err, ERR_USAGE, 0, "%s: its value is missing; write %s %s", place, place,
                         l->c->rows[i].arg != NULL ? l->c->rows[i].arg : "VALUE");
    return give_flag(l, i, argv[++*at], place);
}

/* rest gets what is no flag; it has room for all of argv and a NULL. */
static int read_flags(struct loading *l, int argc, char *const *argv, char **rest)
{
    size_t left = 0, help;
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        if (!flags || argv[i][0] != '-' || argv[i][1] == '\0') {
            rest[left++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            flags = false;
        } else if (strcmp(argv[i], "-h") == 0 && find_row(l->c, "help", &help)) {
            if (give(l, help, "true", FROM_FLAG, "-h") != 0)
                return -1;
        } else if (argv[i][1] != '-') {
            return error_set(l->err, ERR_USAGE, 0, "unknown flag %.100s; flags are words: --NAME; see --help", argv[i]);
        } else if (read_flag(l, argc, argv, &i) != 0) {
            return -1;
        }
    }
    return 0;
}

static void env_name(const char *name, const char *suffix, char out[ENV_NAME_MAX])
{
    snprintf(out, ENV_NAME_MAX, "BQFLEET_%s%s", name, suffix);
    for (char *p = out; *p != '\0'; p++)
        *p = (char)(*p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
}

/* An empty variable counts as unset: that is how deployments switch one off. */
static const char *env_value(const struct config *c, const char *name)
{
    const char *value = c->env != NULL ? c->env(name) : NULL;
    return value != NULL && *value != '\0' ? value : NULL;
}

static int read_secret_file(struct loading *l, size_t i, const char *variable, const char *path)
{
    size_t len;
    AUTO(free_ptr) char *text = file_read(path, SECRET_MAX, &len, l->err);
    if (text == NULL)
        return error_prefix(l->err, "%s", variable);
    while (len > 0 && strchr("\r\n", text[len - 1]) != NULL)
        text[--len] = '\0';
    if (len == 0)
        return error_set(l->err, ERR_USAGE, 0, "%s: %s is empty", variable, path);
    return give(l, i, text, FROM_ENV, variable);
}

static int read_env_row(struct loading *l, size_t i)
{
    const struct opt *row = &l->c->rows[i];
    char name[ENV_NAME_MAX], file_name[ENV_NAME_MAX];
    env_name(row->name, "", name);
    env_name(row->name, "_FILE", file_name);
    const char *value = env_value(l->c, name), *path = row->type == OPT_SECRET ? env_value(l->c, file_name) : NULL;
    if (value != NULL && path != NULL)
        return error_set(l->err, ERR_USAGE, 0, "%s and %s are both set; one of them has to go", name, file_name);
    if (path != NULL)
        return read_secret_file(l, i, file_name, path);
    if (value == NULL)
        return 0;
    if (row->type != OPT_LIST)
        return give(l, i, value, FROM_ENV, name);
    AUTO(strv_free_auto) char **words = NULL;
    size_t count;
    if (strv_split(value, &words, &count, l->err) != 0)
        return error_prefix(l->err, "%s", name);
    for (size_t w = 0; w < count; w++)
        if (give(l, i, words[w], FROM_ENV, name) != 0)
            return -1;
    return 0;
}

static int read_env(struct loading *l)
{
    for (size_t i = 0; i < l->c->count; i++)
        if (applies(l->c, i) && !l->given[i] && read_env_row(l, i) != 0)
            return -1;
    return 0;
}

/* A list of texts, or a map, whose pairs become KEY=VALUE. */
static int read_file_list(struct loading *l, size_t i, struct yaml *root, const struct yaml *node)
{
    const char *name = l->c->rows[i].name;
    AUTO(strv_free_auto) char **words = NULL;
    size_t count = 0;
    if (node->type != YAML_MAP && yaml_want_strv(root, name, &words, &count, l->err) != 0)
        return -1;
    for (size_t w = 0; w < count; w++)
        if (give(l, i, words[w], FROM_FILE, name) != 0)
            return -1;
    for (size_t w = 0; node->type == YAML_MAP && w < node->count; w++) {
        const struct yaml *value = node->items[w];
        if (value->type != YAML_SCALAR)
            return yaml_error(value, l->err, "%s: a single value belongs here", name);
        AUTO(free_ptr) char *pair = xasprintf("%s=%s", node->keys[w]->value, value->value);
        if (give(l, i, pair, FROM_FILE, name) != 0)
            return -1;
    }
    return 0;
}

static int read_file_row(struct loading *l, size_t i, struct yaml *root)
{
    const struct opt *row = &l->c->rows[i];
    const struct yaml *node = yaml_get(root, row->name);
    if (yaml_is_null(node))
        return 0;
    if (row->type == OPT_LIST)
        return read_file_list(l, i, root, node);
    AUTO(free_ptr) char *text = NULL;
    if (yaml_want_str(root, row->name, &text, l->err) != 0)
        return -1;
    AUTO(free_ptr) char *place = xasprintf("%s:%d:%d: %s", node->file, node->line, node->column, row->name);
    return give(l, i, text, FROM_FILE, place);
}

/* One file may serve several programs: rows of others are known and passed over. */
static int read_file(struct loading *l, const char *path)
{
    const struct config *c = l->c;
    size_t len;
    AUTO(free_ptr) char *text = file_read(path, LIMIT_SPEC, &len, l->err);
    AUTO(yaml_free_auto) struct yaml *root = text != NULL ? yaml_parse(text, len, path, c->env, l->err) : NULL;
    AUTO(free_ptr) const char **names = xcalloc(c->count, sizeof(*names));
    for (size_t i = 0; i < c->count; i++)
        names[i] = c->rows[i].name;
    if (root == NULL || yaml_only(root, names, c->count, l->err) != 0)
        return -1;
    for (size_t i = 0; i < c->count; i++)
        if (applies(c, i) && !l->given[i] && read_file_row(l, i, root) != 0)
            return -1;
    return 0;
}

static int read_defaults(struct loading *l)
{
    for (size_t i = 0; i < l->c->count; i++) /* all rows: a setting of another command still has its usual value */
        if (!l->given[i] && l->c->rows[i].fallback != NULL && give(l, i, l->c->rows[i].fallback, FROM_DEFAULT, l->c->rows[i].name) != 0)
            return -1;
    return 0;
}

static int read_layers(struct loading *l, int argc, char *const *argv, const char *file, char **rest)
{
    size_t row;
    if (read_flags(l, argc, argv, rest) != 0 || read_env(l) != 0)
        return -1;
    if (file == NULL && find_row(l->c, "config", &row) && l->c->rows[row].type == OPT_STR)
        file = *(char **)config_at(l->c, row);
    if (file != NULL && read_file(l, file) != 0)
        return -1;
    return read_defaults(l);
}

int config_load(struct config *c, int argc, char *const *argv, const char *file, char ***args, struct error *err)
{
    c->sources = xcalloc(c->count, sizeof(*c->sources));
    AUTO(free_ptr) bool *given = xcalloc(c->count, sizeof(*given));
    AUTO(free_ptr) char **rest = xcalloc((size_t)argc + 1, sizeof(*rest));
    struct loading l = {.c = c, .given = given, .err = err};
    int rc = read_layers(&l, argc, argv, file, rest);
    if (rc == 0 && args == NULL && rest[0] != NULL)
        rc = error_set(err, ERR_USAGE, 0, "\"%.200s\" is not expected here; see --help", rest[0]);
    if (rc != 0) {
        config_free(c);
        return -1;
    }
    if (args != NULL) {
        *args = rest;
        rest = NULL;
    }
    return 0;
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < c->count; i++) {
        void *at = config_at(c, i);
        if (c->rows[i].type == OPT_LIST) {
            strv_free(*(char ***)at);
            *(char ***)at = NULL;
        } else if (c->rows[i].type == OPT_STR || c->rows[i].type == OPT_SECRET) {
            free(*(char **)at);
            *(char **)at = NULL;
        }
    }
    free(c->sources);
    c->sources = NULL;
}
