#include "common/fleet/settings.h"

#include "common/base/doc.h"
#include "common/fleet/handler_def.h"
#include "tests/fuzz/fuzz.h"

/* The settings of both programs: lines of a flag each, up to a NUL; lines of NAME=VALUE, the environment, up to another; then the settings file. Then
 * the handlers that they name. What is taken lies within its bounds and is shown as JSON; an error is the user's. */

enum { ARGS = 12, VARS = 8 };
static char *variables[VARS + 1];

static const char *some_env(const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; variables[i] != NULL; i++)
        if (strncmp(variables[i], name, n) == 0 && variables[i][n] == '=')
            return variables[i] + n + 1;
    return NULL;
}

static void lines_of(struct input *in, char **v, int most)
{
    AUTO(free_ptr) char *part = input_text(in, '\0', NULL);
    int n = 0;
    for (char *rest = part, *line; n < most && (line = strsep(&rest, "\n")) != NULL;)
        v[n++] = xstrdup(line);
    v[n] = NULL;
}

static void check_bounds(const struct config *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct opt *row = &c->rows[i];
        int64_t v = 0;
        if ((row->who & c->who) == 0 || (row->type != OPT_INT && row->type != OPT_MS && row->type != OPT_SIZE))
            continue;
        memcpy(&v, (const char *)c->settings + row->offset, sizeof(v));
        CHECK(c->sources[i] == FROM_DEFAULT || (v >= row->min && v <= row->max));
    }
}

static void check_shown(const struct config *c)
{
    struct error err = ERROR_INIT;
    AUTO(free_ptr) char *json = config_show(c, true);
    AUTO(free_ptr) char *text = config_show(c, false);
    AUTO(doc_free_auto) doc *d = doc_parse(json, strlen(json), "shown", &err);
    CHECK(d != NULL && doc_len(doc_get(d, "settings")) > 0 && text != NULL);
}

static void add_handlers(const struct settings *s)
{
    struct handler_defs defs = {0};
    struct error err = ERROR_INIT;
    int rc = 0;
    for (size_t i = 0; s->handler != NULL && s->handler[i] != NULL; i++)
        if (strstr(s->handler[i], "query:") == NULL && strstr(s->handler[i], "plugin:") == NULL) /* those read files */
            rc = rc != 0 ? rc : handler_defs_add(&defs, s->handler[i], &err);
    for (size_t i = 0; rc == 0 && i < defs.count; i++)
        CHECK(handler_defs_find(&defs, defs.v[i].name) == &defs.v[i] && (defs.v[i].kind == HANDLER_NOOP || defs.v[i].argv[0] != NULL));
    handler_defs_free(&defs);
}

FUZZ(config)
{
    static const char *const read[] = {"--config", "-file", "_FILE="}; /* these name files to read */
    struct input in = input_of(data, size);
    struct settings s = {0};
    struct config c = {.rows = settings_rows, .count = settings_count, .settings = &s, .env = some_env};
    char *argv[ARGS + 1], **args = NULL;
    struct error err = ERROR_INIT;
    bool reads = false;
    c.who = input_byte(&in) & 1 ? WHO_WORKER : WHO_RUN | WHO_EMBEDDED | WHO_FLEET | WHO_BIGQUERY;
    for (size_t i = 0; i < ARRAY_LEN(read); i++)
        reads = reads || memmem(data, size, read[i], strlen(read[i])) != NULL;
    lines_of(&in, argv, ARGS);
    lines_of(&in, variables, VARS);
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    const char *path = input_left(&in) > 0 ? fuzz_file(in.p, input_left(&in)) : NULL;
    if (!reads && config_load(&c, argc, argv, path, &args, &err) == 0) {
        check_bounds(&c);
        check_shown(&c);
        add_handlers(&s);
        config_free(&c);
    } else {
        CHECK(reads || (err.kind == ERR_USAGE && err.text[0] != '\0'));
    }
    free(args);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    for (int i = 0; variables[i] != NULL; i++)
        free(variables[i]);
}
