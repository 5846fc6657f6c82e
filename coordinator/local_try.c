#include "coordinator/local_internal.h"

#include "common/base/log.h"

/* `try`: a few items through the handler; its rows are printed, nothing is written. */

static int try_next(void *arg, struct item *item, struct error *err)
{
    struct local *c = arg;
    if (c->given == c->limit)
        return 0;
    for (;;) {
        int rc = items_next(c->live.items, item, err);
        if (rc == 0 && c->only != NULL)
            return error_set(err, ERR_USAGE, 0, "no item has the key \"%s\"", c->only);
        if (rc != 1)
            return rc;
        if (c->only == NULL || (item->key_len == strlen(c->only) && memcmp(item->key, c->only, item->key_len) == 0))
            break;
        *err = ERROR_INIT;
    }
    c->given++;
    return 1;
}

/* With the target's schema where it can be read; else the rows are only seen to be rows. */
static int plan_to_try(struct local *c)
{
    struct error err = ERROR_INIT;
    int rc = c->live.setup.world.bq == NULL ? -1 : live_try_plan(&c->live, c->spec, true, &err);
    if (rc > 0)
        return rc;
    if (rc < 0 && err.kind == ERR_USAGE && err.code != 404)
        return command_fail(&err);
    if (rc < 0) {
        if (err.kind != ERR_NONE)
            log_warn("rows are not checked: the target's schema cannot be read: %s", err.text);
        c->spec->write.mode = WRITE_NONE;
        rc = live_plan(&c->live, c->spec, true);
        if (rc >= 0)
            return rc;
    }
    struct record *r = c->live.record;
    r->mode = WRITE_NONE;
    r->has_target = false;
    r->attempts = 1;
    r->every_ms = 0;
    r->finish = (struct fold_config){.tolerate_count = LIMIT_ITEMS};
    return -1;
}

static int open_to_try(struct local *c, struct command_env *env)
{
    struct error err = ERROR_INIT;
    unsigned wants = local_wants(c->spec);
    if (live_try_open(&c->live, env, wants, c->spec, &err) == 0)
        return -1;
    if ((wants & SETUP_BIGQUERY) == 0 || spec_reads_bigquery(c->spec) || err.kind == ERR_USAGE)
        return command_fail(&err);
    log_warn("rows are not checked against %s: %s", c->spec->write.table, err.text);
    return live_open(&c->live, env, wants & ~(unsigned)SETUP_BIGQUERY, c->spec);
}

int local_try(struct command_env *env, const char *path)
{
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *spec = spec_load(path, env->settings->set, env->env, true, &err);
    if (spec == NULL)
        return command_fail(&err);
    struct local c = {.spec = spec, .rows = stdout, .trying = true, .only = env->settings->item,
                      .limit = env->settings->item ? 1 : env->settings->limit, .live = {.embedded = true, .out = stderr}};
    int code = open_to_try(&c, env);
    if (code >= 0)
        return code;
    code = plan_to_try(&c);
    if (code < 0)
        code = live_open_items(&c.live, spec);
    if (code < 0)
        code = live_read_runs(&c.live);
    if (code < 0) {
        c.live.source = (struct submit_source){.next = try_next, .arg = &c};
        c.live.expected = c.only ? 1 : c.live.expected >= 0 ? i64_min(c.live.expected, c.limit) : -1;
        code = local_work(&c);
    }
    return live_close(&c.live, code);
}
