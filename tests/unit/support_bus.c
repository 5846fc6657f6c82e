#include "tests/unit/support_bus.h"

#include "common/base/buf.h"

/* --- time, names, publishing ---------------------------------------------------------------------------------------------------- */

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void env_linger(struct bus_env *env, int64_t us)
{
    loop_until(env->loop, never, NULL, us);
}

const char *env_name(struct bus_env *env, const char *what)
{
    static char names[256][96];
    char *name = names[(size_t)env->serial % ARRAY_LEN(names)];
    snprintf(name, sizeof(names[0]), "%s.%s.%d", env->prefix, what, env->serial++);
    return name;
}

const char *env_topic(struct bus_env *env, int32_t partitions)
{
    assert(partitions <= ENV_PARTITIONS);
    const char *name = env_name(env, "topic");
    struct answer a = {0};
    bus_topic_create(env->bus, &(struct bus_topic){.name = name, .partitions = partitions}, answer_done, &a);
    WAIT_FOR(env, answer_is_there, &a);
    assert_false(a.failed);
    return name;
}

static void count_ack(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    (void)partition;
    (void)offset;
    assert_null(err);
    int *left = arg;
    --*left;
}

static bool none_left(void *arg)
{
    return *(int *)arg == 0;
}

static bool below_half(void *arg)
{
    return bus_unacked(arg) <= ENV_QUEUED / 2;
}

void env_publish(struct bus_env *env, const char *topic, int32_t partition, int from, int count)
{
    int left = count;
    for (int i = from; i < from + count; i++) {
        char text[32];
        int n = snprintf(text, sizeof(text), "%d", i);
        struct bus_out out = {.topic = topic, .partition = partition, .value = text, .value_len = (size_t)n};
        struct error err = ERROR_INIT;
        while (bus_publish(env->bus, &out, count_ack, &left, &err) < 0) {
            assert_string_equal(err.reason, "full");
            WAIT_FOR(env, below_half, env->bus);
        }
    }
    WAIT_FOR(env, none_left, &left);
}

void ack_take(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    struct ack *a = arg;
    *a = (struct ack){.done = true, .partition = partition, .offset = offset, .err = err ? *err : ERROR_INIT};
}

bool ack_done(void *arg)
{
    return ((struct ack *)arg)->done;
}

/* --- answers -------------------------------------------------------------------------------------------------------------------- */

void answer_done(void *arg, const struct error *err)
{
    struct answer *a = arg;
    assert_false(a->done);
    a->done = true;
    a->failed = err != NULL;
    a->err = err ? *err : ERROR_INIT;
}

void answer_marks(void *arg, int64_t low, int64_t high, const struct error *err)
{
    struct answer *a = arg;
    a->low = low;
    a->high = high;
    answer_done(a, err);
}

void answer_committed(void *arg, const int64_t *offsets, int32_t partitions, const struct error *err)
{
    struct answer *a = arg;
    for (int32_t p = 0; p < partitions && err == NULL; p++)
        a->offsets[p] = offsets[p];
    answer_done(a, err);
}

void answer_topic(void *arg, const struct bus_topic *topic, const struct error *err)
{
    struct answer *a = arg;
    if (err == NULL)
        a->topic = *topic;
    answer_done(a, err);
}

bool answer_is_there(void *arg)
{
    return ((struct answer *)arg)->done;
}

/* --- a member -------------------------------------------------------------------------------------------------------------------- */

static void on_assigned(void *arg, int32_t partition, int64_t committed, const char *metadata)
{
    struct member *m = arg;
    assert_false(m->holds[partition]);
    m->holds[partition] = true;
    m->assigned++;
    m->committed[partition] = committed;
    m->next[partition] = committed < 0 ? 0 : committed;
    free(m->metadata[partition]);
    m->metadata[partition] = xstrdup(metadata);
    if (m->owners != NULL) {
        m->overlap = m->overlap || m->owners[partition] != NULL;
        m->owners[partition] = m;
    }
}

static void on_revoked(void *arg, int32_t partition, bool lost)
{
    struct member *m = arg;
    assert_true(m->holds[partition]);
    if (m->commit_in_revoked) {
        char metadata[32];
        snprintf(metadata, sizeof(metadata), "bye %d", partition);
        struct bus_commit commit = {.partition = partition, .offset = m->next[partition], .metadata = metadata};
        bus_group_commit(m->group, &commit, 1, NULL, NULL);
    }
    m->holds[partition] = false;
    m->revoked++;
    m->lost += lost;
    if (m->owners != NULL && m->owners[partition] == m)
        m->owners[partition] = NULL;
}

static void on_message(void *arg, const struct bus_msg *msg)
{
    struct member *m = arg;
    assert_string_equal(msg->topic, m->topic);
    assert_true(m->holds[msg->partition]);
    m->beyond_pause = m->beyond_pause || m->paused;
    m->out_of_order += msg->offset != m->next[msg->partition];
    m->next[msg->partition] = msg->offset + 1;
    m->got++;
    if (m->on_message != NULL)
        m->on_message(m, msg);
    if (m->pause_every > 0 && m->got % m->pause_every == 0) {
        m->paused = true;
        bus_group_pause(m->group);
    }
}

static void on_settled(void *arg)
{
    ((struct member *)arg)->settled++;
}

static void on_failed(void *arg, const struct error *err)
{
    struct member *m = arg;
    assert_false(m->failed);
    m->failed = true;
    m->err = *err;
}

static void on_left(void *arg)
{
    struct member *m = arg;
    m->left = true;
    m->group = NULL;
    for (size_t p = 0; p < ENV_PARTITIONS; p++) {
        free(m->metadata[p]);
        m->metadata[p] = NULL;
    }
}

void member_join(struct member *m, struct bus_env *env, const char *group, const char *topic, const char *name, int64_t session_ms)
{
    static const struct bus_group_events events = {
        .assigned = on_assigned, .revoked = on_revoked, .message = on_message, .settled = on_settled, .failed = on_failed,
    };
    m->env = env;
    m->topic = topic;
    m->left = false;
    struct error err = ERROR_INIT;
    struct bus_group_config config = {.group = group, .topic = topic, .member = name, .session_ms = session_ms};
    m->group = bus_join(env->bus, &config, &events, m, &err);
    assert_non_null(m->group);
}

void member_leave(struct member *m, bool for_good)
{
    bus_group_leave(m->group, for_good, on_left, m);
    assert_false(m->left);
    WAIT_FOR(m->env, member_left, m);
    assert_int_equal(member_holds(m), 0);
}

int member_holds(const struct member *m)
{
    int n = 0;
    for (size_t p = 0; p < ENV_PARTITIONS; p++)
        n += m->holds[p];
    return n;
}

bool member_settled(void *arg)
{
    return ((struct member *)arg)->settled > 0;
}

bool member_has_all(void *arg)
{
    struct member *m = arg;
    return m->got >= m->wanted;
}

bool member_failed(void *arg)
{
    return ((struct member *)arg)->failed;
}

bool member_left(void *arg)
{
    return ((struct member *)arg)->left;
}

/* --- a follower ------------------------------------------------------------------------------------------------------------------ */

static void on_followed(void *arg, const struct bus_msg *msg)
{
    struct follower *f = arg;
    if (f->got == 0)
        f->first = msg->offset;
    else
        f->out_of_order = f->out_of_order || msg->offset != f->next;
    f->next = msg->offset + 1;
    f->got++;
    f->end_at = -1;
    if (f->stop_after > 0 && f->got == f->stop_after)
        follower_stop(f);
}

static void on_end(void *arg, int64_t next)
{
    struct follower *f = arg;
    assert_true(f->got == 0 || next == f->next);
    f->ends++;
    f->end_at = next;
}

static void on_follow_failed(void *arg, const struct error *err)
{
    struct follower *f = arg;
    assert_false(f->failed);
    f->failed = true;
    f->err = *err;
}

void follower_start(struct follower *f, struct bus_env *env, const char *topic, int32_t partition, int64_t from)
{
    static const struct bus_follow_events events = {.message = on_followed, .at_end = on_end, .failed = on_follow_failed};
    struct error err = ERROR_INIT;
    f->end_at = -1;
    f->follow = bus_follow(env->bus, topic, partition, from, &events, f, &err);
    assert_non_null(f->follow);
}

void follower_stop(struct follower *f)
{
    bus_follow_stop(f->follow);
    f->follow = NULL;
}

bool follower_has_all(void *arg)
{
    struct follower *f = arg;
    return f->got >= f->wanted;
}

bool follower_at_end(void *arg)
{
    return ((struct follower *)arg)->end_at >= 0;
}

bool follower_failed(void *arg)
{
    return ((struct follower *)arg)->failed;
}
