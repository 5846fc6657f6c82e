#include <signal.h>

#include "common/base/ids.h"
#include "common/base/units.h"
#include "common/bq/permits.h"
#include "coordinator/command.h"

/* permits init|list|free|watch TABLE [SLOT]: who may change a table just now. */

#define EACH_WAIT_MS 120000 /* longest wait for one answer of a BigQuery that has answered before */
#define WATCH_EVERY_MS 1000

struct permits_command {
    struct setup setup;
    const struct settings *s;
    struct bq_ref target, table;
    struct permit_rows rows;
    bool answered, stopped;
    int64_t changed;         /* rows, by a statement */
    struct error err;
};

static bool answered(void *arg)
{
    return ((struct permits_command *)arg)->answered;
}

/* Waits for what was asked. An exit code, or -1: answered. */
static int await_answer(struct permits_command *c, const char *what)
{
    if (!loop_until(c->setup.world.loop, answered, c, EACH_WAIT_MS * US_PER_MS))
        error_set(&c->err, ERR_FATAL, 0, "no answer from BigQuery within %d s: %s", EACH_WAIT_MS / 1000, what);
    return c->err.kind == ERR_NONE ? -1 : command_fail(&c->err);
}

static void on_rows(void *arg, const struct bq_answer *a)
{
    struct permits_command *c = arg;
    c->answered = true;
    (void)permits_rows(a, &c->rows, &c->err);
}

static int read_rows(struct permits_command *c)
{
    c->answered = false;
    permits_read(c->setup.world.bq, &c->table, on_rows, c);
    return await_answer(c, "the permits");
}

/* --- list, watch ------------------------------------------------------------------------------------------------------------------------------ */

static const char *state_of(const struct permits_command *c, const struct permit_row *row)
{
    int64_t now_ms = c->rows.server_ms > 0 ? c->rows.server_ms : loop_wall_ms(c->setup.world.loop);
    return row->expires_us == 0 ? "free" : row->expires_us / US_PER_MS <= now_ms ? "expired" : row->closing ? "closing" : "held";
}

static void print_row(const struct permits_command *c, const struct permit_row *row)
{
    char until[32] = "-";
    if (row->expires_us > 0)
        units_show_time(row->expires_us / US_PER_MS, until, sizeof(until));
    printf("%-5d %-8s %-25s %-28s %s%s%s\n", row->slot, state_of(c, row), until, row->holder[0] ? row->holder : "-", row->purpose[0] ? row->purpose : "-",
           row->job[0] ? "; job " : "", row->job);
}

static doc *row_doc(const struct permits_command *c, const struct permit_row *row)
{
    char until[32];
    doc *d = doc_set_str(doc_set_int(doc_object(), "slot", row->slot), "state", state_of(c, row));
    if (row->expires_us > 0)
        doc_set_str(d, "until", units_show_time(row->expires_us / US_PER_MS, until, sizeof(until)));
    return doc_set_str(doc_set_str(doc_set_str(d, "holder", row->holder), "job", row->job), "purpose", row->purpose);
}

static void print_rows(const struct permits_command *c)
{
    char name[700];
    bq_ref_text(&c->table, name, sizeof(name));
    if (strcmp(c->s->output, "json") == 0) {
        AUTO(doc_free_auto) doc *whole = doc_set_str(doc_object(), "table", name);
        doc *rows = doc_array();
        for (size_t i = 0; i < c->rows.count; i++)
            doc_add(rows, row_doc(c, &c->rows.v[i]));
        doc_set(whole, "permits", rows);
        AUTO(free_ptr) char *text = doc_text(whole);
        printf("%s\n", text);
    } else {
        printf("%-5s %-8s %-25s %-28s %s\n", "slot", "state", "until", "holder", "for");
        for (size_t i = 0; i < c->rows.count; i++)
            print_row(c, &c->rows.v[i]);
    }
    fflush(stdout);
}

static int none_yet(const struct permits_command *c)
{
    char name[700], target[700];
    struct error err = ERROR_INIT;
    error_set(&err, ERR_FATAL, 0, "there are no permits for %s: table %s does not exist; the first run of a fleet makes it, or `bqfleet permits init`",
              bq_ref_text(&c->target, target, sizeof(target)), bq_ref_text(&c->table, name, sizeof(name)));
    command_fail(&err);
    return EXIT_NO;
}

static int list(struct permits_command *c)
{
    int code = read_rows(c);
    if (code >= 0)
        return code;
    if (c->rows.absent)
        return none_yet(c);
    print_rows(c);
    return EXIT_WRITTEN;
}

static void on_signal(void *arg, int signo)
{
    (void)signo;
    ((struct permits_command *)arg)->stopped = true;
}

static bool stopped(void *arg)
{
    return ((struct permits_command *)arg)->stopped;
}

static bool same_rows(const struct permit_rows *a, const struct permit_rows *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        const struct permit_row *x = &a->v[i], *y = &b->v[i];
        same = x->slot == y->slot && x->closing == y->closing && x->expires_us == y->expires_us &&
               x->released_us == y->released_us && strcmp(x->holder, y->holder) == 0 &&
               strcmp(x->token, y->token) == 0 && strcmp(x->job, y->job) == 0 && strcmp(x->purpose, y->purpose) == 0;
    }
    return same;
}

/* Prints what there is, and again whenever it has changed. */
static int watch(struct permits_command *c)
{
    struct sigwatch *on_int = sigwatch_new(c->setup.world.loop, SIGINT, on_signal, c);
    struct permit_rows last = {0};
    int code = -1;
    for (bool first = true; code < 0 && !c->stopped; first = false) {
        code = read_rows(c);
        if (code < 0 && c->rows.absent)
            code = none_yet(c);
        if (code >= 0)
            break;
        if (first || !same_rows(&last, &c->rows))
            print_rows(c);
        last = c->rows;
        loop_until(c->setup.world.loop, stopped, c, WATCH_EVERY_MS * US_PER_MS);
    }
    sigwatch_free(on_int);
    return code >= 0 ? code : 128 + SIGINT;
}

/* --- init, free --------------------------------------------------------------------------------------------------------------------------------- */

static void on_made(void *arg, const struct error *err)
{
    struct permits_command *c = arg;
    c->answered = true;
    c->err = err != NULL ? *err : ERROR_INIT;
}

static int init(struct permits_command *c)
{
    c->answered = false;
    permits_make_start(c->setup.world.bq, &c->table, c->s->location, (int)c->s->permits, on_made, c);
    int code = await_answer(c, "the table of permits");
    return code >= 0 ? code : list(c);
}

static void on_freed(void *arg, const struct bq_job_result *r)
{
    struct permits_command *c = arg;
    c->answered = true;
    c->err = r->err != NULL ? *r->err : ERROR_INIT;
    c->changed = i64_max(r->affected, r->updated);
}

/* The lease ends now, and what its holder does under it from now on fails. A job that it has begun goes on: whoever takes the permit waits for that. */
static int end_lease(struct permits_command *c, const struct permit_row *row)
{
    char base[PERMIT_BASE_SIZE], fresh[ID_LEN + 1];
    id_new(fresh, loop_wall_ms(c->setup.world.loop), c->setup.world.rnd);
    permits_job_base(base, "free", &c->table, row->slot, row->token, -1);
    AUTO(doc_free_auto) doc *configuration = permits_statement(PERMIT_FREE, &c->table, &(struct permit_change){.slot = row->slot, .token = fresh,
                                                                                                           .seen_token = row->token});
    struct bq_label label = {"bqfleet_kind", "permit"};
    struct bq_job_spec spec = {.id_base = base, .location = c->s->location, .configuration = configuration, .labels = &label, .label_count = 1,
                               .digest = fresh};
    c->answered = false;
    bq_job_start(c->setup.world.bq, &spec, on_freed, c);
    int code = await_answer(c, "the statement that frees the permit");
    if (code >= 0)
        return code;
    if (c->changed > 0)
        return list(c);
    struct error err = ERROR_INIT;
    error_set(&err, ERR_FATAL, 0, "slot %d has changed hands meanwhile; look again with `bqfleet permits list`", row->slot);
    command_fail(&err);
    return EXIT_NO;
}

static int free_slot(struct permits_command *c, const char *text)
{
    struct error err = ERROR_INIT;
    char *end = NULL;
    int64_t slot = strtoll(text, &end, 10);
    int code = read_rows(c);
    if (code >= 0)
        return code;
    if (c->rows.absent)
        return none_yet(c);
    for (size_t i = 0; i < c->rows.count; i++) {
        const struct permit_row row = c->rows.v[i];
        if (*end != '\0' || end == text || row.slot != slot)
            continue;
        if (row.expires_us == 0) {
            printf("slot %d is free\n", row.slot);
            return EXIT_WRITTEN;
        }
        if (strcmp(state_of(c, &row), "expired") != 0 && !c->s->yes) {
            error_set(&err, ERR_FATAL, 0, "slot %d is held by %s for %s: its next statement would fail; say --yes if it is gone", row.slot,
                      row.closing ? "its last job" : row.holder, row.purpose);
            command_fail(&err);
            return EXIT_NO;
        }
        return end_lease(c, &row);
    }
    error_set(&err, ERR_USAGE, 0, "there is no slot \"%s\"; `bqfleet permits list` shows them", text);
    return command_fail(&err);
}

int command_permits(struct command_env *env, char *const *args, int count)
{
    static const char *const verbs[] = {"init", "list", "watch", "free"};
    struct permits_command c = {.s = env->settings};
    struct error err = ERROR_INIT;
    size_t verb = 0;
    while (verb < ARRAY_LEN(verbs) && strcmp(args[0], verbs[verb]) != 0)
        verb++;
    if (verb == ARRAY_LEN(verbs))
        error_set(&err, ERR_USAGE, 0, "permits: \"%s\" is none of init, list, watch and free", args[0]);
    else if ((verb == 3) != (count == 3))
        error_set(&err, ERR_USAGE, 0, "permits %s: %s", args[0], verb == 3 ? "which slot? bqfleet permits free TABLE SLOT" : "takes one table and nothing else");
    else if (verb == 3 && (args[2][0] == '\0' || args[2][strspn(args[2], "0123456789")] != '\0'))
        error_set(&err, ERR_USAGE, 0, "permits free: \"%s\" is no slot; `bqfleet permits list %s` shows their numbers", args[2], args[1]);
    struct bq_ref named;
    struct spec its_own = {.project = NULL}; /* a table that says its project needs no other */
    if (err.kind == ERR_NONE && bq_ref_parse(args[1], NULL, &named, NULL) == 0)
        its_own.project = named.project;
    else if (err.kind == ERR_NONE)
        (void)bq_ref_parse(args[1], "any", &named, &err);
    if (err.kind != ERR_NONE || setup_open(&c.setup, env, SETUP_BIGQUERY, &its_own, &err) != 0)
        return command_fail(&err);
    int code = 0;
    if (bq_ref_parse(args[1], bq_project(c.setup.world.bq), &c.target, &err) != 0) {
        code = command_fail(&err);
    } else {
        permits_table(&c.target, &c.table);
        code = verb == 0 ? init(&c) : verb == 1 ? list(&c) : verb == 2 ? watch(&c) : free_slot(&c, args[2]);
    }
    setup_close(&c.setup);
    return code;
}
