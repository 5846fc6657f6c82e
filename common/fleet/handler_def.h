#ifndef BQF_FLEET_HANDLER_DEF_H
#define BQF_FLEET_HANDLER_DEF_H

#include "common/base/yaml.h"

/* What a handler's name stands for: from a spec (embedded) or from a worker's own settings, never from a message. */
enum handler_kind { HANDLER_EXEC, HANDLER_COMMAND, HANDLER_NOOP, HANDLER_QUERY };
struct handler_def {
    char *name;
    enum handler_kind kind;
    char **argv;              /* exec: the program, kept running; command: one process per item, '{key}' replaced. A plugin is an exec of our own host */
    char **env;               /* NAME=value added; may be NULL */
    char *dir;                /* working directory; NULL: ours */
    int64_t start_timeout_ms; /* 60 s */
    int64_t window;           /* exec: items one child works on at once; 1. query: items of one statement; 1,000 */
    int64_t noop_us;          /* noop: what an item takes; below a millisecond it is work, from there on it is waiting */
    char *sql;                /* query: the SELECT, as sql_select_text() leaves it */
};
struct handler_defs { struct handler_def *v; size_t count; };

/* {predict: {exec: [...], start_timeout: 120s, window: 8, env: {A: b}}}; an exec or command given as a string is split as a shell does.
 * {query: "SELECT ..."} or {query: {file: x.sql}, window: 500}. {plugin: ./lib.so}. dir: where relative programs and files are, and the children live. */
int handler_defs_parse(struct yaml *map, const char *dir, struct handler_defs *, struct error *);
/* NAME=COMMAND LINE; "NAME=noop:" is the built-in one that answers every item without rows, "NAME=noop:50ms" after that time. In YAML {noop: 50ms}.
 * "NAME=query:FILE" is the SELECT in that file, "NAME=plugin:LIB.so" the plugin in that library. */
int handler_defs_add(struct handler_defs *, const char *assignment, struct error *);
/* Whether what it names is here, where that can be told before it is started. ERR_USAGE. */
int handler_def_check(const struct handler_def *, struct error *);
const struct handler_def *handler_defs_find(const struct handler_defs *, const char *name);
void handler_defs_free(struct handler_defs *);

#endif
