#include "coordinator/dedupe.h"

#include <signal.h>

#include "common/base/units.h"
#include "coordinator/command.h"

/* dedupe TABLE --keys a,b: what there is too much of, and with --yes without it. */

struct dedupe_command {
    struct setup setup;
    const struct settings *s;
    struct dedupe_choice choice;
    struct dedupe d;
    char **keys, **order_by;
    int signals, signo;
    bool json;
    int64_t removed, bytes_billed;
};

static void on_signal(void *arg, int signo)
{
    struct dedupe_command *c = arg;
    c->signo = signo;
    if (c->signals++ == 0 && strcmp(c->d.waits, "rewriting") == 0)
        fprintf(stderr, "bqfleet: the statement under way is waited for, then no other is begun; once more leaves it to itself\n");
}

/* "a,b": a NULL-terminated vector; NULL: none. */
static char **split(const char *list, size_t *count)
{
    char **out = xcalloc((list ? strlen(list) : 0) + 2, sizeof(*out));
    AUTO(free_ptr) char *copy = xstrdup(list ? list : "");
    char *rest = copy, *name;
    *count = 0;
    while (list != NULL && (name = strsep(&rest, ",")) != NULL)
        out[(*count)++] = xstrndup(name + strspn(name, " "), strcspn(name + strspn(name, " "), " "));
    return out;
}

static void free_names(char **v)
{
    for (size_t i = 0; v != NULL && v[i] != NULL; i++)
        free(v[i]);
    free(v);
}

/* --- what is printed --------------------------------------------------------------------------------------------------------------------- */

static const char *name_of(const struct dedupe_command *c, const struct dedupe_part *p)
{
    return c->d.partition.unit != PARTITION_NONE ? p->id : "the table";
}

static void print_names(const char *what, const char *const *names, size_t count)
{
    printf("%-10s ", what);
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? ", " : "", names[i]);
    printf("\n");
}

static void print_plan(const struct dedupe_command *c)
{
    const struct dedupe *d = &c->d;
    char name[700], a[32], b[32], k[32];
    printf("%-10s %s", "table", bq_ref_text(&c->choice.table, name, sizeof(name)));
    if (d->partition.unit != PARTITION_NONE)
        printf(", by %s of %s", partition_unit_name(d->partition.unit), d->partition.column);
    printf("\n");
    print_names("keys", c->choice.keys, c->choice.key_count);
    if (c->choice.order_count > 0)
        print_names("greatest", c->choice.order_by, c->choice.order_count);
    if (d->part_count > 0)
        printf("%-18s %14s %14s %14s%s\n", d->partition.unit != PARTITION_NONE ? "partition" : "", "rows", "of equal keys", "such keys", d->apart ? "" : "       too many");
    for (size_t i = 0; i < d->part_count; i++) {
        const struct dedupe_part *p = &d->parts[i];
        printf("%-18s %14s %14s %14s", name_of(c, p), units_show_count(p->rows, a, sizeof(a)), units_show_count(p->repeated, b, sizeof(b)),
               units_show_count(p->keys, k, sizeof(k)));
        if (!d->apart)
            printf(" %14s", units_show_count(p->repeated - p->keys, a, sizeof(a)));
        printf("\n");
    }
    if (d->too_many == 0) {
        printf("%-10s no key has more than one row\n", "in all");
    } else {
        printf("%-10s %s rows too many, removed by %s statement%s", "in all", units_show_count(d->too_many, a, sizeof(a)),
               units_show_count((int64_t)d->batch_count, b, sizeof(b)), d->batch_count == 1 ? "" : "s");
        if (d->bytes >= 0)
            printf(" that read%s %s", d->batch_count == 1 ? "s" : "", units_show_bytes(d->bytes, a, sizeof(a)));
        printf("\n");
    }
    fflush(stdout);
}

static doc *strings(const char *const *names, size_t count)
{
    doc *list = doc_array();
    for (size_t i = 0; i < count; i++)
        doc_add(list, doc_string(names[i]));
    return list;
}

static doc *batch_doc(const struct dedupe_command *c, const struct dedupe_batch *b)
{
    doc *parts = doc_array();
    for (size_t i = 0; i < b->count && c->d.partition.unit != PARTITION_NONE; i++)
        doc_add(parts, doc_string(c->d.parts[b->first + i].id));
    doc *d = doc_set_bool(doc_set(doc_object(), "partitions", parts), "done", b->done);
    if (b->job[0] != '\0')
        doc_set_str(d, "job", b->job);
    return doc_set_int(doc_set_int(d, "removed", b->done ? b->removed : 0), "bytes_billed", b->bytes_billed);
}

static void print_json(const struct dedupe_command *c)
{
    const struct dedupe *d = &c->d;
    char name[700];
    AUTO(doc_free_auto) doc *all = doc_set_str(doc_object(), "table", bq_ref_text(&c->choice.table, name, sizeof(name)));
    doc *parts = doc_array(), *statements = doc_array();
    for (size_t i = 0; i < d->part_count; i++) {
        const struct dedupe_part *p = &d->parts[i];
        doc *one = d->partition.unit != PARTITION_NONE ? doc_set_str(doc_object(), "partition", p->id) : doc_object();
        doc_add(parts, doc_set_int(doc_set_int(doc_set_int(one, "rows", p->rows), "of_equal_keys", p->repeated), "such_keys", p->keys));
    }
    for (size_t i = 0; i < d->batch_count; i++)
        doc_add(statements, batch_doc(c, &d->batches[i]));
    doc_set(all, "keys", strings(c->choice.keys, c->choice.key_count));
    doc_set(all, "order_by", strings(c->choice.order_by, c->choice.order_count));
    doc_set(doc_set(all, "partitions", parts), "statements", statements);
    doc_set_int(doc_set_int(all, "too_many", d->too_many), "removed", c->removed);
    if (d->bytes >= 0)
        doc_set_int(all, "bytes", d->bytes);
    doc_set_int(all, "bytes_billed", c->bytes_billed);
    AUTO(free_ptr) char *text = doc_text(all);
    printf("%s\n", text);
}

/* "20260131", "20260131 to 20260203" */
static const char *span_of(const struct dedupe_command *c, const struct dedupe_batch *b, char *out, size_t size)
{
    const char *first = name_of(c, &c->d.parts[b->first]), *last = name_of(c, &c->d.parts[b->first + b->count - 1]);
    snprintf(out, size, "%s%s%s", first, b->count > 1 ? " to " : "", b->count > 1 ? last : "");
    return out;
}

static void tell_done(const struct dedupe_command *c, const struct dedupe_batch *b)
{
    char span[64], rows[32], bytes[32];
    fprintf(c->json ? stderr : stdout, "%-18s %s rows removed, %s billed (statement %zu of %zu)\n", span_of(c, b, span, sizeof(span)),
            units_show_count(b->removed, rows, sizeof(rows)), units_show_bytes(b->bytes_billed, bytes, sizeof(bytes)), (size_t)(b - c->d.batches) + 1, c->d.batch_count);
    fflush(stdout);
}

/* --- the command ------------------------------------------------------------------------------------------------------------------------- */

static int stopped(const struct dedupe_command *c, size_t at)
{
    char span[64];
    if (at < c->d.batch_count)
        fprintf(stderr, "bqfleet: stopped before %s: %zu of %zu statements are done, the table is whole, and the same command goes on from there\n",
                span_of(c, &c->d.batches[at], span, sizeof(span)), at, c->d.batch_count);
    else
        fprintf(stderr, "bqfleet: stopped while the table was looked at; nothing is changed\n");
    return 128 + c->signo;
}

static int rewrite(struct dedupe_command *c)
{
    struct error err = ERROR_INIT;
    char span[64];
    int code = EXIT_WRITTEN;
    size_t i = 0;
    for (; i < c->d.batch_count && code == EXIT_WRITTEN; i++) {
        struct dedupe_batch *b = &c->d.batches[i];
        if (c->signals > 0) {
            code = stopped(c, i);
        } else if (dedupe_rewrite(&c->d, b, &err) == 0) {
            c->removed += b->removed;
            tell_done(c, b);
        } else if (strcmp(err.reason, "signal") == 0) {
            code = stopped(c, i);
            if (strcmp(c->d.waits, "rewriting") == 0)
                fprintf(stderr, "bqfleet: its statement may still come to its end: the same command waits for it\n");
        } else {
            error_prefix(&err, "%s", span_of(c, b, span, sizeof(span)));
            err.kind = err.kind == ERR_USAGE ? ERR_USAGE : ERR_FATAL;
            code = command_fail(&err);
        }
        c->bytes_billed += b->bytes_billed;
    }
    if (c->json)
        print_json(c);
    return code;
}

static int act(struct dedupe_command *c)
{
    struct error err = ERROR_INIT;
    char count[32];
    if (dedupe_look(&c->d, &err) != 0)
        return strcmp(err.reason, "signal") == 0 ? stopped(c, SIZE_MAX) : command_fail(&err);
    if (c->choice.null_keys == NULL_KEYS_REFUSE && c->d.missing > 0) {
        error_set(&err, ERR_USAGE, 0, "%s rows have NULL in a key: say --null-keys equal (NULL is a value like any other) or distinct (each such row stays)",
                  units_show_count(c->d.missing, count, sizeof(count)));
        return command_fail(&err);
    }
    bool does = c->s->yes && !c->s->dry_run && c->d.too_many > 0;
    if (!c->json)
        print_plan(c);
    else if (!does)
        print_json(c);
    if (does)
        return rewrite(c);
    if (c->d.too_many == 0 || c->s->dry_run)
        return c->d.too_many == 0 ? EXIT_WRITTEN : EXIT_NO;
    error_set(&err, ERR_USAGE, 0, "nothing is changed yet; --yes removes these rows (and --dry-run says that they shall only be looked for)");
    return command_fail(&err);
}

static int choose(struct dedupe_command *c, const char *table, struct error *err)
{
    struct dedupe_choice *o = &c->choice;
    c->keys = split(c->s->keys, &o->key_count);
    c->order_by = split(c->s->order_by, &o->order_count);
    o->keys = (const char *const *)c->keys;
    o->order_by = (const char *const *)c->order_by;
    o->partitions = (const char *const *)c->s->partition;
    while (o->partitions != NULL && o->partitions[o->partition_count] != NULL)
        o->partition_count++;
    for (size_t i = 0; i < ARRAY_LEN(null_keys_names); i++)
        if (strcmp(c->s->null_keys, null_keys_names[i]) == 0)
            o->null_keys = (enum null_keys)i;
    o->location = c->s->location;
    o->max_bytes_billed = c->s->max_bytes_billed;
    return bq_ref_parse(table, bq_project(c->setup.world.bq), &o->table, err);
}

int command_dedupe(struct command_env *env, char *const *args, int count)
{
    struct dedupe_command c = {.s = env->settings, .json = strcmp(env->settings->output, "json") == 0};
    struct error err = ERROR_INIT;
    struct bq_ref named;
    struct spec its_own = {.project = NULL}; /* a table that says its project needs no other */
    (void)count;
    if (c.s->keys == NULL)
        error_set(&err, ERR_USAGE, 0, "dedupe: --keys is missing: the columns that tell rows apart");
    else if (bq_ref_parse(args[0], NULL, &named, NULL) == 0)
        its_own.project = named.project;
    else
        (void)bq_ref_parse(args[0], "any", &named, &err);
    if (err.kind != ERR_NONE || setup_open(&c.setup, env, SETUP_BIGQUERY, &its_own, &err) != 0)
        return command_fail(&err);
    int code;
    dedupe_init(&c.d, &c.setup.world, &c.choice, &c.signals);
    struct sigwatch *on_int = sigwatch_new(c.setup.world.loop, SIGINT, on_signal, &c), *on_term = sigwatch_new(c.setup.world.loop, SIGTERM, on_signal, &c);
    code = choose(&c, args[0], &err) == 0 ? act(&c) : command_fail(&err);
    sigwatch_free(on_int);
    sigwatch_free(on_term);
    dedupe_free(&c.d);
    free_names(c.keys);
    free_names(c.order_by);
    setup_close(&c.setup);
    return code;
}
