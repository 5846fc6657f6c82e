#include "tests/bq/sql_exec.h"

/*
 * The UPDATEs of a table of permits, and no others. Each changes the row of one slot, if its condition holds in the snapshot. Two that change one
 * slot conflict; two slots are two partitions, which never do.
 */

static const char *const changes[] = {
    [UPDATE_TAKE] = ("holder = @holder, token = @token, expires = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @lease_ms MILLISECOND), "
                    "job = @job, purpose = @purpose\n"
                    "WHERE slot = @slot AND token = @seen_token AND job = @seen_job AND (holder = '' OR expires < CURRENT_TIMESTAMP())"),
    [UPDATE_KEEP] = ("expires = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @lease_ms MILLISECOND), job = @job, purpose = @purpose\n"
                    "WHERE slot = @slot AND token = @token"),
    [UPDATE_CLOSE] = ("holder = '', expires = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @lease_ms MILLISECOND), job = @job, purpose = @purpose\n"
                     "WHERE slot = @slot AND token = @token"),
    [UPDATE_RELEASE] = "expires = CURRENT_TIMESTAMP(), holder = '', job = '', purpose = ''\nWHERE slot = @slot AND token = @token",
    [UPDATE_FREE] = "expires = TIMESTAMP_SECONDS(0), token = @token\nWHERE slot = @slot AND token = @seen_token",
};

bool update_shape(const char *text, enum update_kind *kind)
{
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        if (strcmp(text, changes[i]) == 0) {
            *kind = (enum update_kind)i;
            return true;
        }
    return false;
}

enum { SLOT, HOLDER, TOKEN, EXPIRES, JOB, PURPOSE, COLUMNS };
static const char *const names[COLUMNS] = {"slot", "holder", "token", "expires", "job", "purpose"};

static bool text_is(const struct cell *c, const char *text)
{
    return c->text != NULL && strcmp(c->text, text) == 0;
}

static int64_t number(const struct cell *c)
{
    return c->text ? strtoll(c->text, NULL, 10) : 0;
}

struct update { const char *slot, *token, *seen_token, *seen_job, *holder, *job, *purpose, *lease_ms; };

static bool sets_lease(enum update_kind kind)
{
    return kind == UPDATE_TAKE || kind == UPDATE_KEEP || kind == UPDATE_CLOSE;
}

static int read_params(struct run *r, enum update_kind kind, struct update *u)
{
    bool take = kind == UPDATE_TAKE;
    if (run_param(r, "slot", FIELD_INT64, &u->slot) || run_param(r, "token", FIELD_STRING, &u->token))
        return -1;
    if ((take || kind == UPDATE_FREE) && run_param(r, "seen_token", FIELD_STRING, &u->seen_token))
        return -1;
    if (take && (run_param(r, "seen_job", FIELD_STRING, &u->seen_job) || run_param(r, "holder", FIELD_STRING, &u->holder)))
        return -1;
    if (sets_lease(kind) && (run_param(r, "lease_ms", FIELD_INT64, &u->lease_ms) || run_param(r, "job", FIELD_STRING, &u->job) ||
                             run_param(r, "purpose", FIELD_STRING, &u->purpose)))
        return -1;
    return 0;
}

static bool holds(enum update_kind kind, const struct update *u, const struct cell *const at[COLUMNS], int64_t now_us)
{
    if (kind == UPDATE_TAKE)
        return text_is(at[TOKEN], u->seen_token) && text_is(at[JOB], u->seen_job) && (text_is(at[HOLDER], "") || number(at[EXPIRES]) < now_us);
    return text_is(at[TOKEN], kind == UPDATE_FREE ? u->seen_token : u->token);
}

static void set(struct cell *c, const char *text)
{
    *c = (struct cell){text, strlen(text)};
}

static struct row *changed(struct run *r, enum update_kind kind, const struct update *u, const struct row *old, const size_t column[COLUMNS], int64_t now_us)
{
    AUTO(free_ptr) struct cell *cells = xmemdup(old->cells, old->count * sizeof(*cells));
    char until[32];
    bool lease = sets_lease(kind);
    (void)r;
    int64_t expires_us = kind == UPDATE_FREE ? 0 : lease ? now_us + (int64_t)strtoll(u->lease_ms, NULL, 10) * US_PER_MS : now_us;
    snprintf(until, sizeof(until), "%" PRId64, expires_us);
    set(&cells[column[EXPIRES]], until);
    if (kind == UPDATE_TAKE || kind == UPDATE_FREE)
        set(&cells[column[TOKEN]], u->token);
    if (kind == UPDATE_TAKE)
        set(&cells[column[HOLDER]], u->holder);
    if (lease) {
        set(&cells[column[JOB]], u->job);
        set(&cells[column[PURPOSE]], u->purpose);
    }
    if (kind == UPDATE_RELEASE || kind == UPDATE_CLOSE)
        set(&cells[column[HOLDER]], "");
    if (kind == UPDATE_RELEASE) {
        set(&cells[column[JOB]], "");
        set(&cells[column[PURPOSE]], "");
    }
    return row_new(cells, old->count);
}

int run_update(struct run *r, struct effects *e)
{
    size_t column[COLUMNS];
    struct update u = {0};
    enum update_kind kind = r->s->update;
    int64_t now_us = loop_wall_us(r->m->loop);
    for (size_t i = 0; i < COLUMNS; i++)
        if (run_column(r, r->target, names[i], &column[i]))
            return -1;
    if (read_params(r, kind, &u))
        return -1;
    for (size_t i = 0; i < r->target->count; i++) {
        const struct row *row = r->target->rows[i];
        const struct cell *at[COLUMNS];
        for (size_t c = 0; c < COLUMNS; c++)
            at[c] = &row->cells[column[c]];
        if (number(at[SLOT]) != strtoll(u.slot, NULL, 10))
            continue;
        if (holds(kind, &u, at, now_us))
            effects_change(e, i, changed(r, kind, &u, row, column, now_us));
    }
    return 0;
}
