#include "coordinator/command.h"

#include <unistd.h>

#include "common/base/file.h"
#include "common/base/units.h"
#include "common/bq/permits_set.h"
#include "coordinator/topics.h"

#define DEFAULT_URL "https://bigquery.googleapis.com"
#define MEMORY_PARTITIONS 8         /* of the work topic in a run in this process */
#define RELEASE_MS 3000              /* at the end, for permits to be given back */
#define ASK_AGAIN_MS INT64_C(500)   /* between two questions to a BigQuery that does not answer */

/* One answer waited for: the commands' own turn of the loop, before their real work begins. */
struct answer { bool done; struct error err; };

static bool is_done(void *arg)
{
    return ((struct answer *)arg)->done;
}

static void on_done(void *arg, const struct error *err)
{
    struct answer *a = arg;
    a->done = true;
    a->err = err != NULL ? *err : ERROR_INIT;
}

/* --- the bus ------------------------------------------------------------------------------------------------------------------------------------------- */

static int open_kafka(struct setup *u, const struct settings *s, struct error *err)
{
    AUTO(strv_free_auto) char **properties = settings_kafka(s, err);
    if (properties == NULL)
        return -1;
    struct bus_kafka_options o = {
        .brokers = s->brokers,
        .properties = (const char *const *)properties,
        .client_id = "bqfleet",
        .metrics = &u->metrics,
    };
    u->world.bus = bus_kafka(u->world.loop, &o, err);
    if (u->world.bus == NULL)
        return -1;
    struct answer answer = {0};
    bus_ping(u->world.bus, s->wait_ms, on_done, &answer);
    /* The ping ends by itself; the margin is for its own clock. */
    if (!loop_until(u->world.loop, is_done, &answer, (s->wait_ms + 10000) * US_PER_MS))
        return error_set(err, ERR_FATAL, 0, "no answer from Kafka at %s", s->brokers);
    if (answer.err.kind == ERR_NONE)
        return 0;
    *err = answer.err;
    if (err->kind != ERR_USAGE)
        err->kind = ERR_FATAL;
    return -1;
}

/* The topics a run needs, in this process' memory. */
static int open_memory(struct setup *u, const struct settings *s, const struct spec *spec, struct error *err)
{
    u->world.bus = bus_memory(u->world.loop, &(struct bus_memory_options){0});
    struct topic_need needs[TOPIC_COUNT];
    topics_needed(u->world.prefix, spec != NULL ? spec->queue : "default", MEMORY_PARTITIONS, 1, needs);
    for (size_t i = 0; i < TOPIC_COUNT; i++) {
        struct answer answer = {0};
        bus_topic_create(u->world.bus, &needs[i].create, on_done, &answer);
        if (!loop_until(u->world.loop, is_done, &answer, s->wait_ms * US_PER_MS))
            return error_set(err, ERR_FATAL, 0, "the bus in memory does not answer");
        if (answer.err.kind != ERR_NONE) {
            *err = answer.err;
            return -1;
        }
    }
    return 0;
}

/* --- BigQuery -------------------------------------------------------------------------------------------------------------------------------------------- */

struct knock {
    struct setup *setup;
    struct timer *timer;
    struct bq_call *call;
    struct buf path;
    bool done, answered;
    struct error err; /* of the last question */
};

static bool knock_done(void *arg)
{
    return ((struct knock *)arg)->done;
}

static void knock_answer(void *arg, const struct bq_answer *a)
{
    struct knock *k = arg;
    k->call = NULL;
    /* Whatever it says, it is there; only a 5xx is as good as no answer, and refused credentials will not do for anything else. */
    if (a->status == 0 || a->status >= 500) {
        k->err = *a->err;
        if (a->err->kind != ERR_FATAL || a->status >= 500) {
            timer_set(k->timer, ASK_AGAIN_MS * US_PER_MS);
            return;
        }
    } else if (a->status == 401) {
        k->err = *a->err;
        k->answered = true;
    } else {
        k->err = ERROR_INIT;
        k->answered = true;
    }
    k->done = true;
}

static void knock_again(void *arg)
{
    struct knock *k = arg;
    struct bq_request r = {.method = "GET", .path = k->path.data, .query = "maxResults=1", .once = true};
    k->call = bq_send(k->setup->world.bq, &r, knock_answer, k);
}

/* Until BigQuery has said anything at all, at most wait_ms. */
static int await_bigquery(struct setup *u, const char *project, int64_t wait_ms, struct error *err)
{
    char time[32];
    struct knock k = {.setup = u, .path = BUF_INIT(4096)};
    buf_xputs(&k.path, "/projects/");
    http_escape(&k.path, project);
    buf_xputs(&k.path, "/datasets");
    k.timer = timer_new(u->world.loop, knock_again, &k);
    timer_set(k.timer, 0);
    loop_until(u->world.loop, knock_done, &k, wait_ms * US_PER_MS);
    bq_call_cancel(k.call);
    timer_free(k.timer);
    buf_free(&k.path);
    if (k.answered && k.err.kind == ERR_NONE)
        return 0;
    if (strcmp(k.err.reason, "credentials") == 0) { /* BigQuery itself was not asked */
        *err = k.err;
        err->kind = ERR_FATAL;
        return -1;
    }
    const char *url = bq_base_url(u->world.bq);
    if (k.answered)
        return error_set(err, ERR_FATAL, k.err.code, "BigQuery at %s refused the credentials (%s): %s", url, auth_describe(u->auth), k.err.text);
    return error_set(err, ERR_FATAL, 0, "no answer from BigQuery at %s within %s%s%s", url, units_show_ms(wait_ms, time, sizeof(time)),
                     k.err.kind != ERR_NONE ? ": " : "", k.err.text);
}

static int open_bigquery(struct setup *u, const struct command_env *env, const struct spec *spec, struct error *err)
{
    const struct settings *s = env->settings;
    const char *host = env->env("BIGQUERY_EMULATOR_HOST"), *cloud_project = env->env("GOOGLE_CLOUD_PROJECT");
    bool emulator = s->bigquery_url == NULL && host != NULL && host[0] != '\0';
    const char *url = s->bigquery_url != NULL ? s->bigquery_url : emulator ? host : DEFAULT_URL;
    u->http = http_curl(u->world.loop, &(struct http_options){.max_requests = (int)s->requests, .ca_file = s->ca_file, .proxy = s->proxy, .metrics = &u->metrics});
    u->auth = auth_choose(&(struct auth_choice){.how = s->auth, .token = s->token, .url = url, .emulator = emulator, .env = env->env,
                                                .loop = u->world.loop, .http = u->http, .rnd = u->world.rnd}, err);
    if (u->auth == NULL)
        return -1;
    const char *project = s->project != NULL ? s->project : spec != NULL && spec->project != NULL ? spec->project : cloud_project;
    if (project == NULL || project[0] == '\0')
        project = auth_find_project(u->auth, u->world.loop, s->wait_ms);
    if (project == NULL || project[0] == '\0')
        return error_set(err, ERR_USAGE, 0, "no project: give --project, project: in the spec, or GOOGLE_CLOUD_PROJECT");
    u->world.bq = bq_new(&(struct bq_options){
        .loop = u->world.loop,
        .http = u->http,
        .auth = u->auth,
        .rnd = u->world.rnd,
        .metrics = &u->metrics,
        .base_url = url,
        .project = project,
        .requests = (int)s->requests,
    });
    char machine[128] = "", holder[160];
    gethostname(machine, sizeof(machine) - 1);
    snprintf(holder, sizeof(holder), "coordinator %s:%ld", machine, (long)getpid());
    u->world.permits = u->permits = permits_set_new(u->world.bq, u->world.rnd, holder, s->lease_ms);
    return await_bigquery(u, project, s->wait_ms, err);
}

/* --- all of it --------------------------------------------------------------------------------------------------------------------------------------------- */

int setup_open(struct setup *u, const struct command_env *env, unsigned wants, const struct spec *spec, struct error *err)
{
    const struct settings *s = env->settings;
    *u = (struct setup){0};
    rnd_system(&u->rnd);
    u->world = (struct world){.loop = loop_new(), .rnd = &u->rnd, .metrics = &u->metrics, .prefix = s->prefix != NULL ? s->prefix : "bqfleet."};
    int rc = (wants & SETUP_BIGQUERY) != 0 ? settings_check_ca(s, err) : 0;
    if ((wants & SETUP_CHILDREN) != 0)
        u->world.children = children_posix(u->world.loop);
    if (rc == 0 && (wants & SETUP_BUS) != 0)
        rc = s->brokers != NULL ? open_kafka(u, s, err) : open_memory(u, s, spec, err);
    if (rc == 0 && (wants & SETUP_BIGQUERY) != 0)
        rc = open_bigquery(u, env, spec, err);
    if (rc != 0)
        setup_close(u);
    return rc;
}

void setup_close(struct setup *u)
{
    if (u->world.children != NULL)
        children_free(u->world.children);
    if (u->world.bus != NULL)
        bus_free(u->world.bus);
    if (u->permits != NULL) /* what is held is given back, so that nobody has to wait for its lease */
        loop_until(u->world.loop, permits_set_given_back, u->permits, RELEASE_MS * US_PER_MS);
    permits_set_free(u->permits);
    if (u->world.bq != NULL)
        bq_free(u->world.bq);
    auth_free(u->auth);
    http_free(u->http);
    if (u->world.loop != NULL)
        loop_free(u->world.loop);
    *u = (struct setup){0};
}
