#ifndef BQF_BASE_CONFIG_H
#define BQF_BASE_CONFIG_H

#include "common/base/error.h"

/*
 * Settings as rows of a table: flag > environment > config file > default. The same rows print --help, the README's table
 * and `config show`. Names are lower case with '-': --load-size, BQFLEET_LOAD_SIZE, load-size in the file.
 */
enum opt_type { OPT_STR, OPT_INT, OPT_BOOL, OPT_MS, OPT_SIZE, OPT_LIST /* repeatable: char ** */, OPT_SECRET };

/* On a command line the last of several flags of a name counts. Not so where people would take all of them to count: there it is an error. */
#define OPT_ONCE 1

struct opt {
    const char *name;
    enum opt_type type;
    size_t offset;        /* into the settings struct: char *, int64_t, bool, int64_t, int64_t, char **, char * */
    const char *fallback; /* as text; NULL: none */
    int64_t min, max;     /* OPT_INT, OPT_MS (milliseconds), OPT_SIZE (bytes); OPT_STR: max may be OPT_ONCE */
    unsigned who;         /* bits: which programs and commands take it */
    const char *arg;      /* shown in help: "N", "FILE"; NULL for switches */
    const char *help;     /* one sentence */
    const char *choices;  /* "auto|plain|json|none", or NULL */
};

enum opt_source { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

struct config {
    const struct opt *rows;
    size_t count;
    void *settings;              /* zeroed struct that the offsets point into */
    enum opt_source *sources;    /* one a row */
    unsigned who;
    const char *(*env)(const char *); /* getenv; passed in */
};

/* Fills settings. argv after the program (and command) name; a flag is --name VALUE, --name=VALUE, --switch or --no-switch (-h is
 * --help); "--" ends flags; everything else is left in args (a NULL-terminated vector of pointers into argv; the caller frees the
 * vector only; args NULL: nothing else is expected). A secret may also come from BQFLEET_NAME_FILE; an empty variable counts as unset;
 * a list in a variable is split as a shell splits words. file: NULL (then a row named "config" may name it), or the path of a YAML map
 * of settings, in which a list may also be a map, read as KEY=VALUE. Variables and keys of the file that are others' (who) are passed
 * over. "cores" is a number where it is the default. ERR_USAGE with the nearest flag; then settings are freed. */
int config_load(struct config *, int argc, char *const *argv, const char *file, char ***args, struct error *);
void config_free(struct config *); /* may be called twice */
/* "  --load-size SIZE   Rows gathered ... [8MiB]" for the rows whose who matches. Caller frees. */
char *config_help(const struct opt *rows, size_t count, unsigned who);
/* A Markdown table of all rows. Caller frees. */
char *config_markdown(const struct opt *rows, size_t count);
/* Name, value, source of the rows whose who matches; secrets are shown as "(set)". JSON when json ({"settings":[{"name","value","source"}]}).
 * Caller frees. */
char *config_show(const struct config *, bool json);

#endif
