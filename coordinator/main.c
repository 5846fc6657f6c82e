#include <errno.h>
#include <signal.h>

#include "common/base/units.h"
#include "common/host/host.h"
#include "coordinator/command.h"
#include "coordinator/failed.h"

/* Common bits that every command takes come with WHO_INIT too: rows for all (help, config, log, output). */
static const struct command commands[] = {
    {"init", "[FILE]", "Write a commented spec, to FILE or stdout.", WHO_INIT, 0, 1, command_init},
    {"plan", "SPEC", "Show items, schema, SQL and cost of a batch; write nothing.", WHO_PLAN | WHO_BIGQUERY, 1, 1, command_plan},
    {"try", "SPEC", "Run the handler on a few items and print its rows; write nothing.", WHO_TRY | WHO_EMBEDDED | WHO_BIGQUERY, 1, 1, command_try},
    {"run", "SPEC", "Run a batch to its end: in this process, or with --brokers on a fleet.", WHO_RUN | WHO_EMBEDDED | WHO_FLEET | WHO_BIGQUERY, 1, 1,
     command_run},
    {"submit", "SPEC", "Publish a batch to a fleet, and leave.", WHO_SUBMIT | WHO_FLEET | WHO_BIGQUERY, 1, 1, command_submit},
    {"watch", "RUN", "Show a run's progress until its end; exits with the run's code.", WHO_WATCH | WHO_FLEET | WHO_BIGQUERY, 1, 1, command_watch},
    {"status", "[RUN]", "Show the runs of a fleet, or one of them.", WHO_STATUS | WHO_FLEET, 0, 1, command_status},
    {"pause", "RUN", "Give no more of a run's items to handlers, until `resume`.", WHO_FLEET, 1, 1, command_pause},
    {"resume", "RUN", "Go on with a run that was paused.", WHO_FLEET, 1, 1, command_resume},
    {"set", "RUN parallel=N", "How many of a run's items run at once, across the fleet; 0 or none: no cap.", WHO_FLEET, 2, 2, command_set},
    {"cancel", "RUN", "End a run; nothing more is written.", WHO_CANCEL | WHO_FLEET, 1, 1, command_cancel},
    {"finish", "RUN", "Decide about a run that is held, and wait for its end.", WHO_FINISH | WHO_FLEET | WHO_BIGQUERY, 1, 1, command_finish},
    {"dead", "list|show [RUN] [ITEM]", "List failed items, to be looked at or run again; show one of them whole.", WHO_DEAD | WHO_FLEET, 1, 3, command_dead},
    {"redrive", "RUN", "Run a run's failed items again, in a run of their own; one that is held is completed by it.", WHO_REDRIVE | WHO_FLEET | WHO_BIGQUERY,
     1, 1, command_redrive},
    {"serve", "", "Coordinate the runs of a fleet until told to stop; as many as wanted.", WHO_SERVE | WHO_FLEET | WHO_BIGQUERY, 0, 0, command_serve},
    {"permits", "init|list|watch|free TABLE [SLOT]", "Who may change a table just now: make, show, follow, take back permits.", WHO_PERMITS | WHO_BIGQUERY, 2, 3,
     command_permits},
    {"dedupe", "TABLE", "Leave one row of each key in a table, rewriting only partitions that hold more.", WHO_DEDUPE | WHO_BIGQUERY, 1, 1, command_dedupe},
    {"topics", "create|check", "Create a fleet's topics, or say what is wrong with them.", WHO_TOPICS | WHO_FLEET, 1, 1, command_topics},
    {"doctor", "[SPEC]", "Check settings, broker, topics, credentials, permissions and tables, and say what to do.", WHO_DOCTOR | WHO_FLEET | WHO_BIGQUERY,
     0, 1, command_doctor},
    {"config", "show|check", "Show every setting and where it comes from, or only check them.", WHO_ALL, 1, 1, command_config},
    {"version", "", "Print the version.", WHO_INIT, 0, 0, command_version},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i].name;
    const char *nearest = units_nearest(name, names, ARRAY_LEN(commands));
    if (nearest != NULL)
        fprintf(stderr, "bqfleet: there is no command \"%s\"; did you mean \"%s\"?\n", name, nearest);
    else
        fprintf(stderr, "bqfleet: there is no command \"%s\"; `bqfleet help` lists them\n", name);
    return EXIT_USAGE;
}

static int print_help(void)
{
    printf("bqfleet runs a batch of independent items on a fleet of workers and lands the result in BigQuery exactly once.\n\n"
           "Usage: bqfleet COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s %s", commands[i].name, commands[i].args);
        printf("  %-20s %s\n", usage, commands[i].help);
    }
    printf("\n`bqfleet help COMMAND` shows its flags; `bqfleet init` writes a commented spec to begin with.\n\n"
           "Exit codes: 0 written; 1 the answer is no; 2 usage or configuration; 3 held, nothing more written; 4 could not finish;\n"
           "5 cancelled, replaced or abandoned; 130 and 143 ended by a signal.\n");
    return EXIT_WRITTEN;
}

static int print_command_help(const struct command *c)
{
    AUTO(free_ptr) char *flags = config_help(settings_rows, settings_count, c->who);
    printf("%s\n\nUsage: bqfleet %s [FLAGS]%s%s\n\nFlags (each also as BQFLEET_NAME in the environment, or name: in the --config file):\n%s", c->help, c->name,
           c->args[0] != '\0' ? " " : "", c->args, flags);
    return EXIT_WRITTEN;
}

static int wrong_arguments(const struct command *c, int count)
{
    if (c->max_args == 0)
        fprintf(stderr, "bqfleet %s: takes no arguments; `bqfleet help %s` shows its flags\n", c->name, c->name);
    else
        fprintf(stderr, "bqfleet %s: %s; usage: bqfleet %s [FLAGS] %s\n", c->name, count < c->min_args ? "an argument is missing" : "too many arguments", c->name,
                c->args);
    return EXIT_USAGE;
}

/* An empty fleet would be made up otherwise, and asked. */
static int without_fleet(const struct command *c)
{
    fprintf(stderr, "bqfleet: %s needs a fleet: give --brokers (or BQFLEET_BROKERS)%s\n", c->name,
            c->run == command_submit ? "; `bqfleet run` works without one" : "");
    return EXIT_USAGE;
}

static const char *from_environment(const char *name)
{
    return getenv(name);
}

static int run_command(const struct command *c, int argc, char **argv)
{
    assert(c != NULL);
    struct settings settings = {0};
    struct config config = {.rows = settings_rows, .count = settings_count, .settings = &settings, .who = c->who, .env = from_environment};
    struct command_env env = {.settings = &settings, .config = &config, .env = from_environment};
    struct error err = ERROR_INIT;
    AUTO(free_ptr) char **args = NULL;
    if (config_load(&config, argc, argv, NULL, &args, &err) != 0)
        return command_fail(&err);
    int count = 0, code;
    while (args[count] != NULL)
        count++;
    if (settings.help)
        code = print_command_help(c);
    else if (settings.version)
        code = command_version(&env, NULL, 0);
    else if (count < c->min_args || count > c->max_args)
        code = wrong_arguments(c, count);
    else if ((c->who & (WHO_FLEET | WHO_EMBEDDED | WHO_DOCTOR)) == WHO_FLEET && settings.brokers == NULL)
        code = without_fleet(c);
    else if (settings_log(&settings, &err) != 0 || (settings.failed != NULL && failed_check(settings.failed, &err) != 0))
        code = command_fail(&err);
    else
        code = c->run(&env, args, count);
    config_free(&config);
    return code;
}

static bool is_one_of(const char *text, const char *a, const char *b)
{
    return strcmp(text, a) == 0 || strcmp(text, b) == 0;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2 || is_one_of(argv[1], "--help", "-h"))
        return print_help();
    if (strcmp(argv[1], "help") == 0) {
        if (argc == 2)
            return print_help();
        const struct command *c = find_command(argv[2]);
        return c != NULL ? print_command_help(c) : unknown_command(argv[2]);
    }
    if (is_one_of(argv[1], "--version", "-V"))
        return run_command(find_command("version"), 0, argv + 2);
    if (argv[1][0] == '-') {
        fprintf(stderr, "bqfleet: a command comes first, then flags; `bqfleet help` lists the commands\n");
        return EXIT_USAGE;
    }
    const struct command *c = find_command(argv[1]);
    return c != NULL ? run_command(c, argc - 2, argv + 2) : unknown_command(argv[1]);
}

/* What did not reach stdout was not said. Whoever has closed the pipe knows. */
static int said(int code)
{
    bool lost = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !lost)
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "bqfleet: not all could be written to stdout%s%s\n", errno ? ": " : "", errno ? strerror(errno) : "");
    return code == EXIT_WRITTEN ? EXIT_UNFINISHED : code;
}

int main(int argc, char **argv)
{
    if (plugin_host_wanted(argc, argv)) /* runs in this process have handlers, too */
        return plugin_host(argc, argv);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of that write, not our end */
    return said(dispatch(argc, argv));
}
