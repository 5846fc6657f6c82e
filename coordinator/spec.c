#include "coordinator/spec_internal.h"

#include "common/base/file.h"
#include "common/base/units.h"

#define DEFAULT_TIMEOUT_MS INT64_C(300000)
#define DEFAULT_ATTEMPTS 5
#define DEFAULT_STOP_AFTER 20

int spec_at(const struct yaml *at, const char *path, struct error *err)
{
    err->kind = ERR_USAGE; /* what the user wrote is wrong, whoever found it */
    if (path != NULL)
        error_prefix(err, "%s", path);
    if (at->line == 0)
        return error_prefix(err, "%s", at->file);
    return error_prefix(err, "%s:%d:%d", at->file, at->line, at->column);
}

int spec_section(struct yaml *root, const char *name, bool required, const char *const *keys, size_t count, struct yaml **out, struct error *err)
{
    *out = NULL;
    struct yaml *section = yaml_get(root, name);
    if (yaml_is_null(section))
        return required ? yaml_error(root, err, "the section \"%s\" is missing; `bqfleet init` prints a spec with every section", name) : 0;
    if (yaml_only(section, keys, count, err) != 0)
        return -1;
    *out = section;
    return 0;
}

int spec_require(struct yaml *map, const char *section, const char *key, const char *why, struct error *err)
{
    if (!yaml_is_null(yaml_get(map, key)))
        return 0;
    return yaml_error(map, err, "%s%s%s is missing; %s", section, *section != '\0' ? "." : "", key, why);
}

char *spec_path(const struct spec *s, const char *path)
{
    if (path[0] == '/' || strcmp(path, "-") == 0 || strcmp(s->dir, ".") == 0)
        return xstrdup(path);
    return xasprintf("%s%s%s", s->dir, strcmp(s->dir, "/") == 0 ? "" : "/", path);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

static int read_name(struct yaml *map, const char *section, const char *key, char **out, struct error *err)
{
    if (yaml_want_str(map, key, out, err) != 0)
        return -1;
    if (*out == NULL || id_check_name(key, *out, err) == 0)
        return 0;
    return spec_at(yaml_get(map, key), section, err);
}

static int read_top(struct spec *s, struct yaml *root, struct error *err)
{
    static const char *const keys[] = {"batch", "project", "queue", "items", "job", "handlers", "write", "finish"};
    if (root->type != YAML_MAP)
        return yaml_error(root, err, "a spec is a map of sections (batch, items, job, write, ...); `bqfleet init` prints one");
    if (yaml_only(root, keys, ARRAY_LEN(keys), err) != 0 ||
        spec_require(root, "", "batch", "give the batch a name: two runs of one name are not open at once", err) != 0 ||
        read_name(root, "spec", "batch", &s->batch, err) != 0 || read_name(root, "spec", "queue", &s->queue, err) != 0 ||
        yaml_want_str(root, "project", &s->project, err) != 0)
        return -1;
    if (s->queue == NULL)
        s->queue = xstrdup("default");
    return 0;
}

static int read_job(struct spec *s, struct yaml *root, struct error *err)
{
    static const char *const keys[] = {"handler", "params", "timeout", "attempts"};
    struct yaml *job;
    s->job.timeout_ms = DEFAULT_TIMEOUT_MS;
    s->job.attempts = DEFAULT_ATTEMPTS;
    if (spec_section(root, "job", true, keys, ARRAY_LEN(keys), &job, err) != 0 ||
        spec_require(job, "job", "handler", "name the handler that turns an item into rows", err) != 0 ||
        read_name(job, "job", "handler", &s->job.handler, err) != 0 || yaml_want_ms(job, "timeout", &s->job.timeout_ms, err) != 0 ||
        yaml_want_int(job, "attempts", 1, 100, &s->job.attempts, err) != 0)
        return -1;
    if (s->job.timeout_ms <= 0)
        return yaml_error(yaml_get(job, "timeout"), err, "job.timeout: an item needs some time; the default is 5m");
    if (!yaml_is_null(yaml_get(job, "params")))
        s->job.params = yaml_to_doc(yaml_get(job, "params"));
    return 0;
}

/* The names of the handlers the spec defines, for a complaint. */
static int handler_missing(const struct spec *s, struct yaml *root, struct error *err)
{
    const char *names[64];
    size_t count = size_min(s->handlers.count, ARRAY_LEN(names));
    for (size_t i = 0; i < count; i++)
        names[i] = s->handlers.v[i].name;
    const char *nearest = units_nearest(s->job.handler, names, count);
    const struct yaml *at = yaml_get(yaml_get(root, "job"), "handler");
    if (nearest != NULL)
        return yaml_error(at, err, "job.handler: handlers does not define \"%s\"; did you mean \"%s\"?", s->job.handler, nearest);
    return yaml_error(at, err, "job.handler: handlers does not define \"%s\", and a run in this process uses the spec's own definition: "
                      "add handlers: {%s: {exec: [PROGRAM, ...]}}, or give --brokers to run on a fleet", s->job.handler, s->job.handler);
}

static int read_handlers(struct spec *s, struct yaml *root, bool embedded, struct error *err)
{
    struct yaml *handlers = NULL;
    if (yaml_want_map(root, "handlers", &handlers, err) != 0)
        return -1;
    if (handlers != NULL && handler_defs_parse(handlers, s->dir, &s->handlers, err) != 0)
        return -1;
    const struct handler_def *def = handler_defs_find(&s->handlers, s->job.handler);
    if (embedded && def == NULL)
        return handler_missing(s, root, err);
    if (embedded && handler_def_check(def, err) != 0)
        return spec_at(yaml_get(handlers, def->name), "handlers", err);
    return 0;
}

static int read_finish(struct spec *s, struct yaml *root, struct error *err)
{
    static const char *const keys[] = {"every", "tolerate", "stop_after"};
    struct yaml *finish;
    AUTO(free_ptr) char *tolerate = NULL;
    s->finish.fold = (struct fold_config){.stop_after = DEFAULT_STOP_AFTER};
    if (spec_section(root, "finish", false, keys, ARRAY_LEN(keys), &finish, err) != 0 ||
        yaml_want_ms(finish, "every", &s->finish.every_ms, err) != 0 ||
        yaml_want_int(finish, "stop_after", 0, LIMIT_ITEMS, &s->finish.fold.stop_after, err) != 0 ||
        yaml_want_str(finish, "tolerate", &tolerate, err) != 0)
        return -1;
    if (tolerate != NULL && units_tolerance(tolerate, &s->finish.fold.tolerate_count, &s->finish.fold.tolerate_percent, err) != 0)
        return spec_at(yaml_get(finish, "tolerate"), "finish.tolerate", err);
    if (s->finish.every_ms == 0)
        return 0;
    const struct yaml *at = yaml_get(finish, "every");
    if (s->write.mode == WRITE_REPLACE || s->write.mode == WRITE_REPLACE_PARTITIONS)
        return yaml_error(at, err, "finish.every: cannot be combined with write.mode: %s, whose one statement replaces all; "
                          "write every: 0, or use merge or append", write_mode_name(s->write.mode));
    if (s->write.via == VIA_DIRECT)
        return yaml_error(at, err, "finish.every: with write.via: direct every worker writes as soon as it may; write every: 0, or via: staging");
    if (s->write.mode == WRITE_NONE)
        return yaml_error(at, err, "finish.every: nothing is written with write.mode: none, so there are no increments");
    return 0;
}

static int read_sections(struct spec *s, bool embedded, struct error *err)
{
    struct yaml *root = s->yaml;
    if (read_top(s, root, err) != 0 || spec_read_items(s, yaml_get(root, "items"), root, err) != 0 || read_job(s, root, err) != 0 ||
        spec_read_write(s, yaml_get(root, "write"), root, err) != 0 || read_finish(s, root, err) != 0 ||
        read_handlers(s, root, embedded, err) != 0)
        return -1;
    s->as_written = yaml_to_doc(root);
    return 0;
}

struct spec *spec_load(const char *path, char *const *sets, const char *(*env)(const char *), bool embedded, struct error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    size_t len;
    AUTO(free_ptr) char *text = file_read(is_stdin ? "/dev/stdin" : path, LIMIT_SPEC, &len, err);
    if (text == NULL)
        return NULL;
    AUTO(spec_free_auto) struct spec *s = xcalloc(1, sizeof(*s));
    s->path = xstrdup(path);
    s->dir = is_stdin ? xstrdup(".") : folder_of(path);
    s->yaml = yaml_parse(text, len, is_stdin ? "stdin" : path, env, err);
    if (s->yaml == NULL)
        return NULL;
    for (size_t i = 0; sets != NULL && sets[i] != NULL; i++)
        if (yaml_set(s->yaml, sets[i], err) != 0)
            return NULL;
    if (read_sections(s, embedded, err) != 0)
        return NULL;
    struct spec *loaded = s;
    s = NULL;
    return loaded;
}

bool spec_reads_bigquery(const struct spec *s)
{
    const struct handler_def *def = handler_defs_find(&s->handlers, s->job.handler);
    return s->items.kind == ITEMS_QUERY || (def != NULL && def->kind == HANDLER_QUERY);
}

void spec_free(struct spec *s)
{
    if (s == NULL)
        return;
    free(s->path);
    free(s->dir);
    free(s->batch);
    free(s->project);
    free(s->queue);
    free(s->items.source);
    free(s->items.key);
    strv_free(s->items.list);
    free(s->job.handler);
    doc_free(s->job.params);
    handler_defs_free(&s->handlers);
    free(s->write.table);
    strv_free(s->write.keys);
    strv_free(s->write.order_by);
    strv_free(s->write.insert_only);
    free(s->write.staging);
    free(s->write.location);
    doc_free(s->write.create);
    doc_free(s->write.create_partitioning);
    free(s->write.create_cluster);
    doc_free(s->write.labels);
    doc_free(s->as_written);
    yaml_free(s->yaml);
    free(s);
}
