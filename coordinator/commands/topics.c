#include "coordinator/topics.h"

#include "common/base/doc.h"
#include "common/base/units.h"
#include "coordinator/command.h"

/* topics create|check: one topic after the other, one line each. */
struct topics {
    struct setup setup;
    struct topic_need needs[TOPIC_COUNT];
    size_t at;
    bool check, answered, wrong;
    struct error err;
    doc *rows;  /* for --output json */
    bool json;
};

#define EACH_WAIT_MS 60000 /* longest wait for one answer of a broker that has answered before */

static void say(struct topics *t, const char *state, const char *text)
{
    const struct topic_need *need = &t->needs[t->at];
    if (!t->json) {
        printf("%-8s %s%s%s\n", state, need->name, text[0] != '\0' ? ": " : "", text);
        return;
    }
    doc *row = doc_set_str(doc_set_str(doc_object(), "topic", need->name), "state", state);
    if (text[0] != '\0')
        doc_set_str(row, "text", text);
    doc_add(t->rows, row);
}

static void on_created(void *arg, const struct error *err)
{
    struct topics *t = arg;
    char text[128];
    const struct bus_topic *c = &t->needs[t->at].create;
    t->answered = true;
    snprintf(text, sizeof(text), "%" PRId32 " partition%s, %s", c->partitions, c->partitions == 1 ? "" : "s", c->compact ? "compact" : "delete");
    if (err == NULL)
        say(t, "created", text);
    else if (strcmp(err->reason, "exists") == 0)
        say(t, "exists", "left as it is; `bqfleet topics check` looks at it");
    else
        t->err = *err;
}

static void on_described(void *arg, const struct bus_topic *is, const struct error *err)
{
    struct topics *t = arg;
    t->answered = true;
    if (err != NULL) {
        t->err = *err;
        return;
    }
    AUTO(buf_free) struct buf why = BUF_INIT(64 * 1024);
    if (topic_judge(&t->needs[t->at], is, &why)) {
        t->wrong = true;
        say(t, "wrong", why.data);
        return;
    }
    char text[128];
    snprintf(text, sizeof(text), "%" PRId32 " partition%s, %d replica%s", is->partitions, is->partitions == 1 ? "" : "s", is->replication,
             is->replication == 1 ? "" : "s");
    say(t, "ok", text);
}

static bool answered(void *arg)
{
    return ((struct topics *)arg)->answered;
}

/* The next topic. False with err. */
static bool do_one(struct topics *t)
{
    const struct topic_need *need = &t->needs[t->at];
    t->answered = false;
    if (t->check)
        bus_topic_describe(t->setup.world.bus, need->name, on_described, t);
    else
        bus_topic_create(t->setup.world.bus, &need->create, on_created, t);
    if (!loop_until(t->setup.world.loop, answered, t, EACH_WAIT_MS * US_PER_MS))
        error_set(&t->err, ERR_FATAL, 0, "no answer about topic %s within %d s", need->name, EACH_WAIT_MS / 1000);
    if (t->err.kind == ERR_NONE)
        return true;
    error_prefix(&t->err, "topic %s", need->name);
    return false;
}

static int do_all(struct topics *t)
{
    for (t->at = 0; t->at < TOPIC_COUNT; t->at++)
        if (!do_one(t))
            return command_fail(&t->err);
    if (t->json) {
        AUTO(doc_free_auto) doc *whole = doc_set(doc_object(), "topics", doc_ref(t->rows));
        AUTO(free_ptr) char *text = doc_text(whole);
        printf("%s\n", text);
    }
    return t->wrong ? EXIT_NO : EXIT_WRITTEN;
}

int command_topics(struct command_env *env, char *const *args, int count)
{
    const struct settings *s = env->settings;
    struct topics t = {.check = strcmp(args[0], "check") == 0, .json = strcmp(s->output, "json") == 0};
    struct error err = ERROR_INIT;
    (void)count;
    if (!t.check && strcmp(args[0], "create") != 0)
        error_set(&err, ERR_USAGE, 0, "topics: \"%s\" is neither create nor check", args[0]);
    else if (s->brokers == NULL)
        error_set(&err, ERR_USAGE, 0, "topics: there are topics on a fleet only; give --brokers HOST:PORT");
    else if (id_check_name("queue", s->queue, &err) == 0 && setup_open(&t.setup, env, SETUP_BUS, NULL, &err) == 0) {
        topics_needed(t.setup.world.prefix, s->queue, (int32_t)s->partitions, (int16_t)s->replication, t.needs);
        t.rows = doc_array();
        int code = do_all(&t);
        doc_free(t.rows);
        setup_close(&t.setup);
        return code;
    }
    return command_fail(&err);
}
