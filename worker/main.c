#include <signal.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/host/host.h"
#include "worker/start.h"

/* bqfleet-worker: one worker as a process, until a signal or an error that it cannot go on with. */
struct process {
    struct start start;
    struct settings settings;
    struct worker *worker;
    int code;
    int signals;
};

static const char *from_environment(const char *name)
{
    return getenv(name);
}

static int complain(const struct error *err)
{
    fprintf(stderr, "bqfleet-worker: %s\n", err->text);
    return err->kind == ERR_USAGE ? EXIT_USAGE : EXIT_UNFINISHED;
}

static void drained(void *arg)
{
    struct process *p = arg;
    loop_stop(p->start.world.loop);
}

/* The first one drains, in order, and that is a good end; the second one leaves at once. Nothing is lost either way. */
static void on_signal(void *arg, int signo)
{
    struct process *p = arg;
    if (p->signals++ > 0)
        _exit(128 + signo);
    log_info("signal %d: the worker drains, for at most %" PRId64 " s; a second one leaves at once", signo, p->settings.grace_ms / 1000);
    worker_drain(p->worker, p->settings.grace_ms, !p->settings.static_member, drained, p);
}

static void failed(void *arg, const struct error *err)
{
    struct process *p = arg;
    fprintf(stderr, "bqfleet-worker: %s\n", err->text);
    p->code = EXIT_UNFINISHED;
    loop_stop(p->start.world.loop);
}

static int serve(struct process *p)
{
    struct error err = ERROR_INIT;
    if (settings_log(&p->settings, &err) != 0 || start_open(&p->start, &p->settings, from_environment, &err) != 0)
        return complain(&err);
    struct worker_options o;
    start_options(&p->start, &p->settings, &o);
    o.failed = failed;
    o.arg = p;
    p->worker = worker_start(&o, &err);
    if (p->worker == NULL) {
        start_close(&p->start);
        return complain(&err);
    }
    struct sigwatch *term = sigwatch_new(p->start.world.loop, SIGTERM, on_signal, p);
    struct sigwatch *interrupt = sigwatch_new(p->start.world.loop, SIGINT, on_signal, p);
    loop_run(p->start.world.loop);
    worker_free(p->worker);
    if (p->settings.stats) {
        AUTO(free_ptr) char *table = metrics_table(&p->start.metrics);
        fputs(table, stderr);
    }
    sigwatch_free(term);
    sigwatch_free(interrupt);
    start_close(&p->start);
    return p->code;
}

static int help(void)
{
    AUTO(free_ptr) char *flags = config_help(settings_rows, settings_count, WHO_WORKER);
    printf("bqfleet-worker consumes a queue of items, runs their handlers and lands the rows in BigQuery.\n\n"
           "Usage: bqfleet-worker --brokers HOST:PORT --handler NAME='COMMAND' [FLAGS]\n\n"
           "Flags (each also as BQFLEET_NAME in the environment, or name: in the --config file):\n%s\n"
           "SIGTERM and SIGINT end it, with exit code 0, once what is in flight is done or handed back; a second one at once (143, 130). Exit code 2:\n"
           "usage or configuration; 4: it could not go on.\n",
           flags);
    return EXIT_WRITTEN;
}

int main(int argc, char **argv)
{
    if (plugin_host_wanted(argc, argv))
        return plugin_host(argc, argv);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of that write, not our end */
    struct process p = {.code = EXIT_WRITTEN};
    struct config config = {.rows = settings_rows, .count = settings_count, .settings = &p.settings, .who = WHO_WORKER, .env = from_environment};
    struct error err = ERROR_INIT;
    AUTO(free_ptr) char **args = NULL;
    if (config_load(&config, argc - 1, argv + 1, NULL, &args, &err) != 0)
        return complain(&err);
    int code;
    if (p.settings.help) {
        code = help();
    } else if (p.settings.version) {
        printf("bqfleet-worker %s\n", BQF_VERSION);
        code = EXIT_WRITTEN;
    } else if (args[0] != NULL) {
        fprintf(stderr, "bqfleet-worker: takes no argument, only flags; \"%s\" is neither; see --help\n", args[0]);
        code = EXIT_USAGE;
    } else {
        code = serve(&p);
    }
    config_free(&config);
    return code;
}
