#include "common/fleet/handler_def.h"

#include <errno.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/units.h"
#include "common/bq/sql_group.h"
#include "common/host/host.h"

#define QUERY_WINDOW 1000

static struct handler_def *add(struct handler_defs *defs)
{
    defs->v = xreallocarray(defs->v, defs->count + 1, sizeof(*defs->v));
    struct handler_def *d = &defs->v[defs->count++];
    *d = (struct handler_def){.start_timeout_ms = 60000, .window = 1};
    return d;
}

/* exec: [python3, x.py] or exec: "python3 x.py". */
static int parse_argv(struct yaml *map, const char *key, struct handler_def *d, struct error *err)
{
    struct yaml *node = yaml_get(map, key);
    size_t count = 0;
    if (node->type == YAML_SCALAR) {
        if (strv_split(node->value, &d->argv, &count, err) != 0)
            return yaml_error(node, err, "%s: the command line does not parse; quotes must be closed", key);
    } else if (yaml_want_strv(map, key, &d->argv, &count, err) != 0) {
        return -1;
    }
    if (count == 0)
        return yaml_error(node, err, "%s: names no program; write e.g. %s: [python3, handler.py]", key, key);
    return 0;
}

static int parse_env(struct yaml *map, struct handler_def *d, struct error *err)
{
    struct yaml *env = NULL;
    if (yaml_want_map(map, "env", &env, err) != 0 || env == NULL)
        return env == NULL ? 0 : -1;
    d->env = xcalloc(env->count + 1, sizeof(*d->env));
    for (size_t i = 0; i < env->count; i++) {
        if (env->items[i]->type != YAML_SCALAR)
            return yaml_error(env->items[i], err, "env: a value must be text");
        d->env[i] = xasprintf("%s=%s", env->keys[i]->value, env->items[i]->value);
    }
    return 0;
}

/* --- a query ----------------------------------------------------------------------------------------------------------------------------- */

static int take_sql(struct handler_def *d, const char *text, size_t len, struct error *err)
{
    struct buf sql = BUF_INIT(LIMIT_SQL + 1);
    int rc = sql_select_text(text, len, &sql, err);
    if (rc == 0) {
        d->kind = HANDLER_QUERY;
        d->window = QUERY_WINDOW;
        d->sql = buf_steal(&sql);
    }
    buf_free(&sql);
    return rc;
}

static int read_sql(struct handler_def *d, const char *file, struct error *err)
{
    size_t len = 0;
    AUTO(free_ptr) char *path = file[0] == '/' || d->dir == NULL ? xstrdup(file) : xasprintf("%s/%s", d->dir, file);
    AUTO(free_ptr) char *text = file_read(path, LIMIT_SQL, &len, err);
    if (text == NULL)
        return -1;
    return take_sql(d, text, len, err) == 0 ? 0 : error_prefix(err, "%s", file);
}

/* query: "SELECT ..." or query: {file: x.sql}. */
static int parse_query(struct yaml *map, struct handler_def *d, struct error *err)
{
    static const char *const keys[] = {"file"};
    struct yaml *node = yaml_get(map, "query");
    struct error why = ERROR_INIT;
    AUTO(free_ptr) char *file = NULL;
    int rc = 0;
    if (node->type == YAML_MAP) {
        if (yaml_only(node, keys, ARRAY_LEN(keys), err) != 0 || yaml_want_str(node, "file", &file, err) != 0)
            return -1;
        if (file == NULL)
            return yaml_error(node, err, "query: names no file; write query: {file: x.sql}");
        rc = read_sql(d, file, &why);
    } else if (node->type == YAML_SCALAR) {
        rc = take_sql(d, node->value, strlen(node->value), &why);
    } else {
        return yaml_error(node, err, "query: write query: \"SELECT ...\" or query: {file: x.sql}");
    }
    if (rc != 0)
        return yaml_error(node, err, "query: %s", why.text);
    static const char *const others[] = {"env", "start_timeout"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (yaml_get(map, others[i]) != NULL)
            return yaml_error(yaml_get(map, others[i]), err, "%s: a query runs in BigQuery and has none", others[i]);
    return yaml_want_int(map, "window", 1, LIMIT_GROUP_ITEMS, &d->window, err);
}

/* --- a plugin ---------------------------------------------------------------------------------------------------------------------------- */

/* The host is this program itself, whatever its file is called or has become since it was started: so host and worker are of one version. */
static void take_plugin(struct handler_def *d, const char *library)
{
    d->kind = HANDLER_EXEC;
    d->argv = xcalloc(4, sizeof(*d->argv));
    d->argv[0] = xstrdup("/proc/self/exe");
    d->argv[1] = xstrdup(PLUGIN_HOST_FLAG);
    d->argv[2] = xstrdup(library);
}

static int parse_plugin(struct yaml *map, struct handler_def *d, struct error *err)
{
    const struct yaml *node = yaml_get(map, "plugin");
    if (node->type != YAML_SCALAR || node->value[0] == '\0')
        return yaml_error(node, err, "plugin: names no library; write e.g. plugin: ./libpredict.so");
    take_plugin(d, node->value);
    return 0;
}

/* --- all kinds --------------------------------------------------------------------------------------------------------------------------- */

static int parse_one(struct yaml *map, struct handler_def *d, struct error *err)
{
    static const char *const keys[] = {"exec", "command", "query", "plugin", "noop", "start_timeout", "window", "env"};
    if (map->type != YAML_MAP)
        return yaml_error(map, err, "handler %s: write {exec: [program, argument]} or {command: [program, '{key}']}", d->name);
    if (yaml_only(map, keys, ARRAY_LEN(keys), err) != 0)
        return -1;
    bool exec = yaml_get(map, "exec") != NULL, command = yaml_get(map, "command") != NULL, noop = yaml_get(map, "noop") != NULL;
    bool query = yaml_get(map, "query") != NULL, plugin = yaml_get(map, "plugin") != NULL;
    if (exec + command + noop + query + plugin != 1)
        return yaml_error(map, err, "handler %s: needs exactly one of exec, command, query, plugin", d->name);
    if (query)
        return parse_query(map, d, err);
    d->kind = exec || plugin ? HANDLER_EXEC : command ? HANDLER_COMMAND : HANDLER_NOOP;
    if (noop && yaml_want_us(map, "noop", &d->noop_us, err) != 0)
        return -1;
    if (plugin ? parse_plugin(map, d, err) != 0 : !noop && parse_argv(map, exec ? "exec" : "command", d, err) != 0)
        return -1;
    if (yaml_want_ms(map, "start_timeout", &d->start_timeout_ms, err) != 0 || yaml_want_int(map, "window", 1, 4096, &d->window, err) != 0)
        return -1;
    if (d->kind != HANDLER_EXEC && d->window != 1)
        return yaml_error(yaml_get(map, "window"), err, "window: only exec, query and plugin handlers have one");
    return parse_env(map, d, err);
}

int handler_defs_parse(struct yaml *map, const char *dir, struct handler_defs *defs, struct error *err)
{
    if (map->type != YAML_MAP)
        return yaml_error(map, err, "handlers: write a map of names, e.g. {predict: {exec: [python3, predict.py]}}");
    for (size_t i = 0; i < map->count; i++) {
        const char *name = map->keys[i]->value;
        if (id_check_name("handler name", name, err) != 0)
            return yaml_error(map->keys[i], err, "\"%s\" cannot be a handler's name; letters, digits, '_', '-' and '.' can", name);
        struct handler_def *d = add(defs);
        d->name = xstrdup(name);
        d->dir = dir ? xstrdup(dir) : NULL;
        if (parse_one(map->items[i], d, err) != 0)
            return -1;
    }
    return 0;
}

int handler_defs_add(struct handler_defs *defs, const char *assignment, struct error *err)
{
    const char *eq = strchr(assignment, '=');
    if (eq == NULL || eq == assignment || eq[1] == '\0')
        return error_set(err, ERR_USAGE, 0, "--handler \"%s\": write NAME=COMMAND, e.g. predict='python3 predict.py'", assignment);
    AUTO(free_ptr) char *name = xstrndup(assignment, (size_t)(eq - assignment));
    if (id_check_name("handler name", name, err) != 0)
        return -1;
    if (handler_defs_find(defs, name) != NULL)
        return error_set(err, ERR_USAGE, 0, "--handler %s is given twice", name);
    struct handler_def *d = add(defs);
    d->name = xstrdup(name);
    if (strncmp(eq + 1, "noop:", 5) == 0) {
        d->kind = HANDLER_NOOP;
        return eq[6] == '\0' || units_duration_us(eq + 6, &d->noop_us, err) == 0 ? 0 : error_prefix(err, "--handler %s", name);
    }
    if (strncmp(eq + 1, "query:", 6) == 0)
        return read_sql(d, eq + 7, err) == 0 ? 0 : error_prefix(err, "--handler %s", name);
    if (strncmp(eq + 1, "plugin:", 7) == 0) {
        take_plugin(d, eq + 8);
        return eq[8] != '\0' ? 0 : error_set(err, ERR_USAGE, 0, "--handler %s: plugin: names no library", name);
    }
    size_t count = 0;
    d->kind = HANDLER_EXEC;
    if (strv_split(eq + 1, &d->argv, &count, err) != 0)
        return error_prefix(err, "--handler %s", name);
    return count > 0 ? 0 : error_set(err, ERR_USAGE, 0, "--handler %s: names no program", name);
}

int handler_def_check(const struct handler_def *d, struct error *err)
{
    if (d->kind != HANDLER_EXEC || d->argv[1] == NULL || strcmp(d->argv[1], PLUGIN_HOST_FLAG) != 0)
        return 0;
    AUTO(free_ptr) char *path = d->argv[2][0] != '/' && d->dir != NULL ? xasprintf("%s/%s", d->dir, d->argv[2]) : xstrdup(d->argv[2]);
    if (access(path, R_OK) == 0)
        return 0;
    return error_set(err, ERR_USAGE, errno, "handler %s: the library %s cannot be read: %s", d->name, path, strerror(errno));
}

const struct handler_def *handler_defs_find(const struct handler_defs *defs, const char *name)
{
    for (size_t i = 0; i < defs->count; i++)
        if (strcmp(defs->v[i].name, name) == 0)
            return &defs->v[i];
    return NULL;
}

void handler_defs_free(struct handler_defs *defs)
{
    for (size_t i = 0; i < defs->count; i++) {
        free(defs->v[i].name);
        strv_free(defs->v[i].argv);
        strv_free(defs->v[i].env);
        free(defs->v[i].dir);
        free(defs->v[i].sql);
    }
    free(defs->v);
    *defs = (struct handler_defs){.v = NULL};
}
