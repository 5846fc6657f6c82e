#include "tests/bq/bqmodel.h"

#include <getopt.h>
#include <signal.h>

#include "common/base/file.h"
#include "common/base/limits.h"

/* bqmodel-server: the model of BigQuery on a socket, for tests with real processes. */

static const char usage[] =
    "usage: bqmodel-server [--port N] [--address A] [--project P] [--dataset [P.]D]... [--table [P.]D.T=SCHEMA.json]... [--location L]\n"
    "                      [--latency-ms N] [--pending-ms N] [--load-ms N] [--dml-ms N] [--session-ms N] [--limits] [--fault JSON]...\n"
    "                      [--chaos RATE|KIND=RATE,...] [--seed N] [--credentials FILE.json] [--front URL]\n"
    "--limits: those that BigQuery's pages name, of statements, updates, loads and requests over time.\n"
    "A time of 0 is none. A schema is {\"fields\":[...]} or the list alone. A fault is as POST /control/fault takes it:\n"
    "{\"match\":\"POST /upload\",\"kind\":\"lose_reply\",\"times\":1}.\n"
    "--credentials: requests need tokens, and whose: {\"email\",\"public_key\",...}, see bqmodel_credentials in bqmodel.h.\n"
    "--front: of the emulator there, which does the work of jobs and has the tables; --dataset and --table do not concern it.\n"
    "--chaos 0.05: faults of every kind by seed; or a list of what POST /control/chaos takes: --chaos all=0.05,5xx_html=0,slow_ms=50.\n";

struct setup {
    struct bqmodel_options options;
    const char *address, *datasets[64], *tables[64], *faults[64];
    int port;
    size_t dataset_count, table_count, fault_count;
    const char *chaos, *credentials, *front;
    int64_t seed;
};

static _Noreturn void stop(const char *what)
{
    fprintf(stderr, "bqmodel-server: %s\n", what);
    exit(EXIT_USAGE);
}

static int64_t number(const char *text, int64_t max)
{
    char *end = NULL;
    int64_t v = strtoll(text, &end, 10);
    if (end == text || *end || v < 0 || v > max)
        stop("not a number of the allowed range");
    return v;
}

static int64_t milliseconds(const char *text)
{
    int64_t v = number(text, 3600000);
    return v ? v : -1;
}

static void keep(const char *list[64], size_t *count)
{
    if (*count == 64)
        stop("at most 64 of each");
    list[(*count)++] = optarg;
}

static void read_options(int argc, char **argv, struct setup *s)
{
    static const struct option known[] = {
        {"port", 1, NULL, 'p'}, {"address", 1, NULL, 'a'}, {"project", 1, NULL, 'P'}, {"dataset", 1, NULL, 'd'}, {"table", 1, NULL, 't'},
        {"location", 1, NULL, 'l'}, {"latency-ms", 1, NULL, 'y'}, {"pending-ms", 1, NULL, 'n'}, {"load-ms", 1, NULL, 'L'},
        {"dml-ms", 1, NULL, 'D'}, {"session-ms", 1, NULL, 's'}, {"limits", 0, NULL, 'm'}, {"fault", 1, NULL, 'f'}, {"chaos", 1, NULL, 'c'}, {"seed", 1, NULL, 'S'}, {"credentials", 1, NULL, 'C'}, {"front", 1, NULL, 'F'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (c) {
        case 'p': s->port = (int)number(optarg, 65535); break;
        case 'a': s->address = optarg; break;
        case 'P': s->options.project = optarg; break;
        case 'd': keep(s->datasets, &s->dataset_count); break;
        case 't': keep(s->tables, &s->table_count); break;
        case 'l': s->options.location = optarg; break;
        case 'y': s->options.latency_ms = milliseconds(optarg); break;
        case 'n': s->options.pending_ms = milliseconds(optarg); break;
        case 'L': s->options.load_ms = milliseconds(optarg); break;
        case 'D': s->options.dml_ms = milliseconds(optarg); break;
        case 's': s->options.session_ms = number(optarg, 3600000); break;
        case 'm': bqmodel_documented_limits(&s->options); break;
        case 'f': keep(s->faults, &s->fault_count); break;
        case 'c': s->chaos = optarg; break;
        case 'F': s->front = optarg; break;
        case 'C': s->credentials = optarg; break;
        case 'S': s->seed = number(optarg, INT64_MAX); break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    if (optind < argc)
        stop("takes no arguments but options");
}

static void add_table(struct bqmodel *m, const char *given)
{
    struct error err = ERROR_INIT;
    const char *equals = strchr(given, '=');
    size_t len = 0;
    if (equals == NULL)
        stop("--table NAME=SCHEMA.json");
    AUTO(free_ptr) char *name = xstrndup(given, (size_t)(equals - given));
    AUTO(free_ptr) char *text = file_read(equals + 1, LIMIT_DOCUMENT, &len, &err);
    AUTO(doc_free_auto) doc *d = text ? doc_parse(text, len, equals + 1, &err) : NULL;
    if (d == NULL)
        stop(err.text);
    const doc *fields = doc_get(d, "fields");
    AUTO(free_ptr) char *list = doc_text(fields ? fields : d);
    bqmodel_add_table(m, name, list);
}

/* "0.05", or "all=0.05,slow_ms=50". */
static void set_chaos(struct bqmodel *m, const char *given, int64_t seed)
{
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_set_int(doc_object(), "seed", seed);
    AUTO(free_ptr) char *list = strchr(given, '=') ? xstrdup(given) : xasprintf("all=%s", given);
    for (char *rest = list, *one; (one = strsep(&rest, ",")) != NULL;) {
        char *value = strchr(one, '='), *end = value;
        if (value == NULL)
            stop("--chaos KIND=RATE,...");
        *value++ = '\0';
        double number = strtod(value, &end);
        if (end == value || *end)
            stop("--chaos: no number");
        doc_set(d, one, number == (double)(int64_t)number ? doc_integer((int64_t)number) : doc_number(number));
    }
    if (bqmodel_chaos_doc(m, d, &err))
        stop(err.text);
}

static void set_credentials(struct bqmodel *m, const char *path)
{
    struct error err = ERROR_INIT;
    size_t len = 0;
    AUTO(free_ptr) char *text = file_read(path, LIMIT_DOCUMENT, &len, &err);
    AUTO(doc_free_auto) doc *d = text ? doc_parse(text, len, path, &err) : NULL;
    if (d == NULL || bqmodel_credentials_doc(m, d, &err))
        stop(err.text);
}

static void on_signal(void *arg, int signo)
{
    (void)signo;
    loop_stop(arg);
}

int main(int argc, char **argv)
{
    struct setup s = {.address = "127.0.0.1", .seed = 1};
    struct error err = ERROR_INIT;
    read_options(argc, argv, &s);
    struct loop *loop = loop_new();
    struct bqmodel *m = bqmodel_new(loop, &s.options);
    for (size_t i = 0; i < s.dataset_count; i++)
        bqmodel_add_dataset(m, s.datasets[i]);
    for (size_t i = 0; i < s.table_count; i++)
        add_table(m, s.tables[i]);
    for (size_t i = 0; i < s.fault_count; i++) {
        AUTO(doc_free_auto) doc *d = doc_parse(s.faults[i], strlen(s.faults[i]), "--fault", &err);
        if (d == NULL || bqmodel_fault_doc(m, d, &err))
            stop(err.text);
    }
    if (s.chaos)
        set_chaos(m, s.chaos, s.seed);
    if (s.front)
        bqmodel_front(m, s.front);
    if (s.credentials)
        set_credentials(m, s.credentials);
    int port = bqmodel_serve(m, s.address, s.port, &err);
    if (port < 0)
        stop(err.text);
    struct sigwatch *term = sigwatch_new(loop, SIGTERM, on_signal, loop), *interrupt = sigwatch_new(loop, SIGINT, on_signal, loop);
    printf("listening on %s:%d\n", s.address, port);
    fflush(stdout);
    loop_run(loop);
    sigwatch_free(term);
    sigwatch_free(interrupt);
    bool violated = bqmodel_violation(m) != NULL; /* it is on stderr */
    bqmodel_forgive(m);
    bqmodel_free(m);
    loop_free(loop);
    return violated;
}
