#include "coordinator/doctor.h"

#include "common/base/units.h"
#include "coordinator/topics.h"

/* `doctor [SPEC]`: the table of checks, what does not need BigQuery, and what is printed. */

#define TOPIC_WAIT_MS 60000 /* longest wait for one answer of a broker that has answered before */

enum verdict doctor_say(struct doctor *d, enum verdict verdict, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(d->text, sizeof(d->text), text, ap);
    va_end(ap);
    return verdict;
}

void doctor_advise(struct doctor *d, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(d->advice, sizeof(d->advice), text, ap);
    va_end(ap);
}

/* --- configuration, bus ---------------------------------------------------------------------------------------------------------------------------- */

static void place_tables(struct doctor *d, const char *project)
{
    const struct spec *s = d->spec;
    if (s == NULL || s->write.mode == WRITE_NONE || s->write.table == NULL || bq_ref_parse(s->write.table, project, &d->target, NULL) != 0)
        return;
    d->has_target = true;
    d->staging = d->target;
    if (s->write.staging == NULL)
        return;
    AUTO(free_ptr) char *text = xasprintf("%s.t", s->write.staging);
    (void)bq_ref_parse(text, project, &d->staging, NULL); /* the spec was checked */
}

static enum verdict configuration(struct doctor *d)
{
    const struct settings *s = d->env->settings;
    struct error err = ERROR_INIT;
    if (d->path == NULL) {
        doctor_advise(d, "bqfleet doctor SPEC also looks at the spec and its tables");
        return doctor_say(d, CHECK_OK, "the settings are in order; no spec was given");
    }
    d->spec = spec_load(d->path, s->set, d->env->env, s->brokers == NULL, &err);
    if (d->spec == NULL) {
        doctor_advise(d, "mend the spec; `bqfleet init` prints a commented one, `bqfleet plan SPEC` shows what it would do");
        return doctor_say(d, CHECK_FAIL, "%s", err.text);
    }
    return doctor_say(d, CHECK_OK, "the settings are in order, and so is %s (batch %s)", d->path, d->spec->batch);
}

static enum verdict broker(struct doctor *d)
{
    struct error err = ERROR_INIT;
    if (d->env->settings->brokers == NULL)
        return doctor_say(d, CHECK_SKIPPED, "no --brokers: runs work in one process");
    if (setup_open(&d->bus, d->env, SETUP_BUS, NULL, &err) == 0)
        return doctor_say(d, CHECK_OK, "%s answers", bus_describe(d->bus.world.bus));
    doctor_advise(d, "check address, network and the properties for TLS and SASL (--kafka, --kafka-file; debug=broker,security shows the attempts)");
    return doctor_say(d, CHECK_FAIL, "%s", err.text);
}

struct described { const struct topic_need *need; bool done, wrong; struct error err; struct buf why; };

static void on_described(void *arg, const struct bus_topic *is, const struct error *err)
{
    struct described *t = arg;
    t->done = true;
    if (err != NULL)
        t->err = *err;
    else
        t->wrong = topic_judge(t->need, is, &t->why);
}

static bool is_described(void *arg)
{
    return ((struct described *)arg)->done;
}

/* False: it is not as it should be; text says why. */
static bool look_at_topic(struct doctor *d, const struct topic_need *need, char *text, size_t size)
{
    struct described *t = xcalloc(1, sizeof(*t)); /* an answer that comes too late still finds it */
    *t = (struct described){.need = need, .why = BUF_INIT(64 * 1024)};
    bus_topic_describe(d->bus.world.bus, need->name, on_described, t);
    if (!loop_until(d->bus.world.loop, is_described, t, TOPIC_WAIT_MS * US_PER_MS)) {
        snprintf(text, size, "%.200s: no answer", need->name);
        setup_close(&d->bus); /* nobody is called back any more */
        buf_free(&t->why);
        free(t);
        return false;
    }
    bool well = t->err.kind == ERR_NONE && !t->wrong;
    if (!well)
        snprintf(text, size, "%.180s: %.320s", need->name, t->wrong ? t->why.data : t->err.text);
    buf_free(&t->why);
    free(t);
    return well;
}

static enum verdict topics(struct doctor *d)
{
    const struct settings *s = d->env->settings;
    if (d->bus.world.bus == NULL)
        return doctor_say(d, CHECK_SKIPPED, s->brokers == NULL ? "no --brokers: runs work in one process" : "the broker does not answer");
    const char *queue = d->spec != NULL ? d->spec->queue : s->queue;
    struct topic_need needs[TOPIC_COUNT];
    topics_needed(d->bus.world.prefix, queue, (int32_t)s->partitions, (int16_t)s->replication, needs);
    AUTO(buf_free) struct buf wrong = BUF_INIT(64 * 1024);
    for (size_t i = 0; i < TOPIC_COUNT && d->bus.world.bus != NULL; i++) {
        char text[512];
        if (!look_at_topic(d, &needs[i], text, sizeof(text)))
            buf_xprintf(&wrong, "%s%s", wrong.len > 0 ? "; " : "", text);
    }
    if (wrong.len == 0)
        return doctor_say(d, CHECK_OK, "the %d topics of prefix %s and queue %s are as they should be", TOPIC_COUNT, d->bus.world.prefix, queue);
    doctor_advise(d, "`bqfleet topics create` makes those that are missing; the others are mended by Kafka's own tools (`bqfleet topics check` shows each)");
    return doctor_say(d, CHECK_FAIL, "%s", wrong.data);
}

/* --- the table ---------------------------------------------------------------------------------------------------------------------------------------- */

static const struct check { const char *name; enum verdict (*look)(struct doctor *); } checks[] = {
    {"configuration", configuration},
    {"broker", broker},
    {"topics", topics},
    {"bigquery", doctor_reach},
    {"credentials", doctor_credentials},
    {"clock", doctor_clock},
    {"project", doctor_project},
    {"target", doctor_target},
    {"staging", doctor_staging},
    {"permits", doctor_permits},
    {"limits", doctor_limits},
};

static const char *verdict_name(enum verdict v)
{
    static const char *const names[] = {"ok", "warn", "fail", "skipped"};
    return names[v];
}

static void print(const struct doctor *d, const struct check *c, enum verdict v, doc *rows)
{
    if (rows == NULL) {
        printf("%-8s %-14s %s\n", verdict_name(v), c->name, d->text);
        if (d->advice[0] != '\0')
            printf("%-8s %-14s -> %s\n", "", "", d->advice);
        fflush(stdout);
        return;
    }
    doc *row = doc_set_str(doc_set_str(doc_object(), "check", c->name), "state", verdict_name(v));
    doc_add(rows, doc_set_str(doc_set_str(row, "text", d->text), "advice", d->advice));
}

static void close_all(struct doctor *d)
{
    if (d->bus.world.loop != NULL)
        setup_close(&d->bus);
    if (d->bigquery.world.loop != NULL)
        setup_close(&d->bigquery);
    spec_free(d->spec);
}

int command_doctor(struct command_env *env, char *const *args, int count)
{
    struct doctor d = {.env = env, .path = count > 0 ? args[0] : NULL};
    bool json = strcmp(env->settings->output, "json") == 0;
    AUTO(doc_free_auto) doc *rows = json ? doc_array() : NULL;
    enum verdict worst = CHECK_OK;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        d.text[0] = d.advice[0] = '\0';
        enum verdict v = checks[i].look(&d);
        if (d.bigquery.world.bq != NULL && !d.has_target)
            place_tables(&d, bq_project(d.bigquery.world.bq));
        print(&d, &checks[i], v, rows);
        if (v != CHECK_SKIPPED && v > worst)
            worst = v;
    }
    close_all(&d);
    if (json) {
        AUTO(doc_free_auto) doc *whole = doc_set_str(doc_set(doc_object(), "checks", doc_ref(rows)), "worst", verdict_name(worst));
        AUTO(free_ptr) char *text = doc_text(whole);
        printf("%s\n", text);
    }
    return worst == CHECK_FAIL ? EXIT_NO : EXIT_WRITTEN;
}
