#include "worker/start.h"

#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/bq/permits_set.h"

#define RELEASE_MS 3000 /* at the end, for permits to be given back */
#define DEFAULT_URL "https://bigquery.googleapis.com"

/* --- handlers ---------------------------------------------------------------------------------------------------------------------------------------- */

static int read_handlers_file(struct start *st, const char *path, const char *(*env)(const char *), struct error *err)
{
    size_t len = 0;
    AUTO(free_ptr) char *text = file_read(path, LIMIT_SPEC, &len, err);
    if (text == NULL)
        return -1;
    AUTO(yaml_free_auto) struct yaml *root = yaml_parse(text, len, path, env, err);
    if (root == NULL)
        return -1;
    struct yaml *inner = root->type == YAML_MAP && root->count == 1 && strcmp(root->keys[0]->value, "handlers") == 0 ? yaml_get(root, "handlers") : root;
    const char *slash = strrchr(path, '/');
    AUTO(free_ptr) char *dir = slash ? xstrndup(path, slash == path ? 1 : (size_t)(slash - path)) : xstrdup(".");
    return handler_defs_parse(inner, dir, &st->handlers, err);
}

static int read_handlers(struct start *st, const struct settings *s, const char *(*env)(const char *), struct error *err)
{
    if (s->handlers_file != NULL && read_handlers_file(st, s->handlers_file, env, err) != 0)
        return -1;
    for (size_t i = 0; s->handler != NULL && s->handler[i] != NULL; i++)
        if (handler_defs_add(&st->handlers, s->handler[i], err) != 0)
            return -1;
    for (size_t i = 0; i < st->handlers.count; i++)
        if (handler_def_check(&st->handlers.v[i], err) != 0)
            return -1;
    if (st->handlers.count == 0)
        return error_set(err, ERR_USAGE, 0, "no handler: give --handler NAME='COMMAND', or --handlers-file FILE");
    return 0;
}

/* --- the bus ------------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_done(void *arg)
{
    return ((struct waiting *)arg)->done;
}

static void answered(void *arg, const struct error *err)
{
    struct waiting *w = arg;
    w->done = true;
    w->err = err ? *err : ERROR_INIT;
}

static int open_bus(struct start *st, const struct settings *s, struct error *err)
{
    if (s->brokers == NULL || s->brokers[0] == '\0')
        return error_set(err, ERR_USAGE, 0, "no broker: give --brokers HOST:PORT, or BQFLEET_BROKERS");
    AUTO(strv_free_auto) char **properties = settings_kafka(s, err);
    if (properties == NULL)
        return -1;
    struct bus_kafka_options o = {.brokers = s->brokers, .properties = (const char *const *)properties, .client_id = st->name,
                                  .prefetch_bytes = s->prefetch, .metrics = &st->metrics};
    st->world.bus = bus_kafka(st->world.loop, &o, err);
    if (st->world.bus == NULL)
        return -1;
    int64_t wait_ms = s->wait_ms > 0 ? s->wait_ms : WAIT_SERVICE;
    struct waiting w = {.done = false};
    bus_ping(st->world.bus, wait_ms, answered, &w);
    if (!loop_until(st->world.loop, is_done, &w, (wait_ms + 10000) * US_PER_MS))
        return error_set(err, ERR_FATAL, 0, "Kafka at %s does not answer", s->brokers);
    if (w.err.kind == ERR_NONE)
        return 0;
    *err = w.err;
    if (err->kind != ERR_USAGE)
        err->kind = ERR_FATAL;
    return -1;
}

/* --- BigQuery --------------------------------------------------------------------------------------------------------------------------------------------- */

static void on_credentials(void *arg, const char *header, const struct error *err)
{
    (void)header;
    answered(arg, err);
}

/* Credentials that cannot work are better known now than at the first load; a token service that is only out of order is waited for then. */
static int check_credentials(struct start *st, int64_t wait_ms, struct error *err)
{
    struct waiting *w = &st->credentials; /* may still be waited for when this returns */
    auth_header(st->auth, on_credentials, w);
    if (loop_until(st->world.loop, is_done, w, wait_ms * US_PER_MS) && w->err.kind == ERR_FATAL) {
        *err = w->err;
        return -1;
    }
    if (!w->done || w->err.kind != ERR_NONE)
        log_warn("no token yet from %s%s%s", auth_describe(st->auth), w->done ? ": " : "", w->err.text);
    return 0;
}

static int open_bq(struct start *st, const struct settings *s, const char *(*env)(const char *), struct error *err)
{
    const char *emulator = env("BIGQUERY_EMULATOR_HOST"), *project = s->project ? s->project : env("GOOGLE_CLOUD_PROJECT");
    const char *url = s->bigquery_url ? s->bigquery_url : emulator && emulator[0] ? emulator : DEFAULT_URL;
    st->http = http_curl(st->world.loop, &(struct http_options){.max_requests = (int)s->requests, .ca_file = s->ca_file, .proxy = s->proxy, .metrics = &st->metrics});
    st->auth = auth_choose(&(struct auth_choice){.how = s->auth, .token = s->token, .url = url, .emulator = url == emulator, .env = env,
                                                 .loop = st->world.loop, .http = st->http, .rnd = &st->rnd}, err);
    if (st->auth == NULL)
        return -1;
    if (project == NULL || project[0] == '\0')
        project = auth_find_project(st->auth, st->world.loop, s->wait_ms > 0 ? s->wait_ms : WAIT_SERVICE);
    /* Each run's record names the project of its jobs; this one is only for runs whose record does not. */
    st->world.bq = bq_new(&(struct bq_options){.loop = st->world.loop, .http = st->http, .auth = st->auth, .rnd = &st->rnd, .metrics = &st->metrics,
                                               .base_url = url, .project = project ? project : "", .requests = (int)s->requests});
    char holder[LIMIT_NAME + 16];
    snprintf(holder, sizeof(holder), "worker %s", st->name);
    st->world.permits = st->permits = permits_set_new(st->world.bq, &st->rnd, holder, s->lease_ms);
    return check_credentials(st, s->wait_ms > 0 ? s->wait_ms : WAIT_SERVICE, err);
}

/* --- all of it ------------------------------------------------------------------------------------------------------------------------------------------------ */

static int choose_name(struct start *st, const struct settings *s, struct error *err)
{
    if (s->name != NULL) {
        snprintf(st->name, sizeof(st->name), "%s", s->name);
        return id_check_name("worker name", s->name, err);
    }
    char host[64] = "worker";
    (void)gethostname(host, sizeof(host) - 1);
    for (char *p = host; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
            *p = '-';
    snprintf(st->name, sizeof(st->name), "%s-%ld", host[0] == '-' || host[0] == '\0' ? "worker" : host, (long)getpid());
    return 0;
}

int start_open(struct start *st, const struct settings *s, const char *(*env)(const char *), struct error *err)
{
    *st = (struct start){.name = ""};
    rnd_system(&st->rnd);
    st->world = (struct world){.loop = loop_new(), .rnd = &st->rnd, .metrics = &st->metrics, .prefix = s->prefix ? s->prefix : "bqfleet."};
    st->world.children = children_posix(st->world.loop);
    int rc = choose_name(st, s, err);
    if (rc == 0 && s->static_member && s->name == NULL)
        rc = error_set(err, ERR_USAGE, 0, "--static-member needs --name: the name by which this member comes back");
    if (rc == 0)
        rc = id_check_name("queue", s->queue, err);
    if (rc == 0)
        rc = settings_check_ca(s, err);
    if (rc == 0)
        rc = read_handlers(st, s, env, err);
    if (rc == 0)
        rc = open_bq(st, s, env, err);
    if (rc == 0)
        rc = open_bus(st, s, err);
    if (rc != 0)
        start_close(st);
    return rc;
}

void start_close(struct start *st)
{
    if (st->world.children != NULL)
        children_free(st->world.children);
    if (st->world.bus != NULL)
        bus_free(st->world.bus);
    if (st->permits != NULL) /* what is held is given back, so that nobody has to wait for its lease */
        loop_until(st->world.loop, permits_set_given_back, st->permits, RELEASE_MS * US_PER_MS);
    permits_set_free(st->permits);
    bq_free(st->world.bq);
    auth_free(st->auth);
    http_free(st->http);
    handler_defs_free(&st->handlers);
    loop_free(st->world.loop);
    *st = (struct start){.name = ""};
}

void start_options(const struct start *st, const struct settings *s, struct worker_options *o)
{
    *o = (struct worker_options){.world = &st->world, .name = st->name, .queue = s->queue, .handlers = &st->handlers, .parallel = s->parallel,
                                 .buffer = s->buffer, .streams = s->streams, .load_size = s->load_size, .linger_ms = s->linger_ms, .static_member = s->static_member,
                                 .paced = st->world.bq != NULL && settings_paced(s, bq_base_url(st->world.bq)), .session_ms = s->session_ms, .compress = strcmp(s->compress, "gzip") == 0};
}
