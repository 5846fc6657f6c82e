#include "coordinator/plan.h"

#include "common/base/units.h"
#include "common/bq/sql_group.h"
#include "coordinator/command.h"
#include "coordinator/plan_sql.h"

/* plan SPEC: everything that can be known before a run, and nothing is written. */
#define FOREVER_US (INT64_C(365) * 86400 * US_PER_S) /* items from a pipe take what time they take */
#define SHOWN_PAYLOAD 100                            /* bytes of a payload in a line of text */

struct shown { char *key, *payload; };

struct look { bool answered, known, select; int64_t bytes; struct schema *result; struct error err; }; /* a dry run */

struct planning {
    struct setup setup;
    struct spec *spec;
    struct record *record;
    bool planned, creates, ready;
    struct shown *first;
    int64_t first_count, items, over;
    bool more, keys_checked;
    struct plan_sql sql;
    struct look dry, query;
    struct error err;
};

static void on_plan(void *arg, struct record *record, const struct error *err)
{
    struct planning *p = arg;
    p->planned = true;
    p->record = record;
    if (err != NULL)
        p->err = *err;
}

static bool is_planned(void *arg)
{
    return ((struct planning *)arg)->planned;
}

static int make_record(struct planning *p, const struct settings *s)
{
    struct plan_options o = {
        .world = &p->setup.world, .spec = p->spec, .project = s->project, .location = s->location, .dry = true, .creates = &p->creates};
    plan_start(&o, on_plan, p);
    loop_until(p->setup.world.loop, is_planned, p, FOREVER_US);
    return p->record != NULL ? 0 : -1;
}

/* --- items ------------------------------------------------------------------------------------------------------------------------------------------------ */

static void on_ready(void *arg)
{
    ((struct planning *)arg)->ready = true;
}

static bool is_ready(void *arg)
{
    return ((struct planning *)arg)->ready;
}

static void keep(struct planning *p, const struct item *item)
{
    p->first = xreallocarray(p->first, (size_t)p->first_count + 1, sizeof(*p->first));
    p->first[p->first_count++] = (struct shown){
        xstrndup(item->key, item->key_len), item->payload != NULL ? xstrndup(item->payload, item->payload_len) : NULL};
}

/* A source's end is looked for as far as keys are compared; a query's only as far as it is shown: its pages cost time. */
static bool is_enough(const struct planning *p, int64_t limit)
{
    enum items_kind kind = p->spec->items.kind;
    if (kind == ITEMS_QUERY || kind == ITEMS_RANGE)
        return p->items >= limit;
    return p->items > LIMIT_UNIQUE_KEYS;
}

static int read_items(struct planning *p, int64_t limit)
{
    struct items *items = items_open(p->spec, &p->setup.world, NULL, on_ready, p, &p->err);
    if (items == NULL)
        return -1;
    struct item item;
    int rc = 1;
    while (rc > 0 && !is_enough(p, limit)) {
        struct error err = ERROR_INIT;
        p->ready = false;
        rc = items_next(items, &item, &err);
        if (rc == 2)
            loop_until(p->setup.world.loop, is_ready, p, FOREVER_US);
        else if (rc < 0)
            p->err = err;
        if (rc != 1)
            continue;
        p->items++;
        p->over += item.payload == NULL;
        if (p->first_count < limit)
            keep(p, &item);
    }
    p->more = rc > 0;
    p->keys_checked = items_keys_checked(items);
    if (items_expected(items) >= 0) {
        p->items = items_expected(items);
        p->more = false;
    }
    items_close(items);
    return rc < 0 ? -1 : 0;
}

/* --- the dry run -------------------------------------------------------------------------------------------------------------------------------------------- */

static void on_dry(void *arg, const struct bq_dry_result *r)
{
    struct look *l = arg;
    l->answered = true;
    l->known = r->err == NULL && r->known && r->bytes >= 0;
    l->bytes = r->bytes;
    if (r->err != NULL)
        l->err = *r->err;
    if (l->select)
        l->result = sql_select_result(r, &l->err);
}

static bool is_answered(void *arg)
{
    return ((struct look *)arg)->answered;
}

/* Takes the parameters over. */
static void look_at(struct planning *p, const char *sql, doc *params, int64_t wait_ms, struct look *l)
{
    AUTO(doc_free_auto) doc *config = bq_query_config(sql, params, p->record->max_bytes_billed);
    struct bq_call *call = bq_dry_run(p->setup.world.bq, config, p->record->location, on_dry, l);
    if (!loop_until(p->setup.world.loop, is_answered, l, wait_ms * US_PER_MS)) {
        bq_call_cancel(call);
        error_set(&l->err, ERR_RETRY, 0, "no answer in time");
    }
}

/* The spec's own handler, if it is a SELECT: 0, or -1 when it will not do. */
static int look_at_handler(struct planning *p, int64_t wait_ms)
{
    const struct handler_def *def = handler_defs_find(&p->spec->handlers, p->record->handler);
    const struct record *r = p->record;
    if (def == NULL || def->kind != HANDLER_QUERY)
        return 0;
    AUTO(free_ptr) char *params = r->params != NULL ? doc_text(r->params) : NULL;
    p->query.select = true;
    look_at(p, def->sql, sql_group_params(NULL, 0, params, ""), wait_ms, &p->query);
    bool refuse = r->null_keys == NULL_KEYS_REFUSE;
    struct sql_group g = {.target = r->schema, .keys = (const char *const *)r->keys, .key_count = refuse ? r->key_count : 0, .result = p->query.result};
    if (p->query.result != NULL && sql_group_check(&g, &p->query.err) == 0)
        return 0;
    p->err = p->query.err;
    error_prefix(&p->err, "the query of handler %.64s", r->handler);
    return -1;
}

/* --- what is printed ------------------------------------------------------------------------------------------------------------------------------------- */

static void print_names(const char *what, char *const *names, size_t count)
{
    if (count == 0)
        return;
    printf("%-10s ", what);
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? ", " : "", names[i]);
    printf("\n");
}

/* Bytes to show of a text, whole characters only. */
static int shown_bytes(const char *text)
{
    size_t n = size_min(strlen(text), SHOWN_PAYLOAD);
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

static void print_items(const struct planning *p)
{
    char count[32], limit[32];
    printf("%-10s %s%s", "items", p->more ? "more than " : "", units_show_count(p->items, count, sizeof(count)));
    if (p->over > 0)
        printf(", of which %s would fail: they are over the limit of size", units_show_count(p->over, count, sizeof(count)));
    if (p->spec->items.kind == ITEMS_QUERY)
        printf("; repeated keys are found when they are submitted");
    else if (p->keys_checked)
        printf("; no key is repeated");
    else
        printf("; repeated keys are not checked among more than %s", units_show_count(LIMIT_UNIQUE_KEYS, limit, sizeof(limit)));
    printf("\n");
    for (int64_t i = 0; i < p->first_count; i++) {
        const char *payload = p->first[i].payload;
        printf("  %-8" PRId64 " %s", i, p->first[i].key);
        if (payload == NULL)
            printf("  (over the limit)");
        else if (payload[0] != '\0')
            printf("  %.*s%s", shown_bytes(payload), payload, strlen(payload) > SHOWN_PAYLOAD ? "..." : "");
        printf("\n");
    }
}

static void print_schema(const struct schema *schema)
{
    static const char *const modes[] = {"", " REQUIRED", ""};
    for (size_t i = 0; i < schema->count; i++) {
        AUTO(free_ptr) char *type = field_sql_type(&schema->fields[i]);
        printf("  %-24s %s%s\n", schema->fields[i].name, type, modes[schema->fields[i].mode]);
    }
}

/* Items that share a statement, where the handler is a SELECT. 0: it is none, or not known here. */
static int64_t group_items(const struct planning *p)
{
    const struct handler_def *def = handler_defs_find(&p->spec->handlers, p->record->handler);
    return def != NULL && def->kind == HANDLER_QUERY ? def->window : 0;
}

static void print_groups(const struct planning *p)
{
    char items[32], groups[32];
    int64_t window = group_items(p);
    if (window == 0)
        return;
    printf("%-10s of %s items at most", "groups", units_show_count(window, items, sizeof(items)));
    if (p->items > 0)
        printf(", so %s or more statements", units_show_count((p->items + window - 1) / window, groups, sizeof(groups)));
    printf("\n");
}

/* When rows become visible, and how many statements may be at the target for it. */
static void print_way(const struct planning *p)
{
    char every[32];
    enum write_via via = p->spec->write.via;
    int fleet = plan_permits(p->spec, true), alone = plan_permits(p->spec, false);
    units_show_ms(p->record->every_ms, every, sizeof(every));
    if (via == VIA_DIRECT)
        printf("%-10s direct: each worker writes what it has loaded; in one process, increments one after another\n", "via");
    else if (via == VIA_WORKER_TABLES)
        printf("%-10s worker-tables: a view shows new rows every %s; on a fleet only\n", "via", every);
    else if (p->record->every_ms > 0)
        printf("%-10s staging: an increment every %s\n", "via", every);
    else
        printf("%-10s staging: all at the end\n", "via");
    if (fleet == alone && fleet == 0)
        printf("%-10s none is taken\n", "permits");
    else if (fleet == alone)
        printf("%-10s %d: so many statements at once on the target\n", "permits", fleet);
    else
        printf("%-10s %d on a fleet: so many statements at once on the target; in one process none is taken\n", "permits", fleet);
}

static void print_text(const struct planning *p)
{
    const struct record *r = p->record;
    char name[1024], bytes[32];
    printf("%-10s %s, by handler %s (%s)\n", "batch", r->batch, r->handler,
           handler_defs_find(&p->spec->handlers, r->handler) != NULL ? "defined in the spec" : "of the fleet's workers");
    if (p->query.result != NULL) {
        printf("%-10s a statement for a group of items reads %s; it returns", "query", units_show_bytes(i64_max(p->query.bytes, 0), bytes, sizeof(bytes)));
        for (size_t i = 0; i < p->query.result->count; i++)
            printf("%s %s", i > 0 ? "," : "", p->query.result->fields[i].name);
        printf("\n");
    }
    print_items(p);
    print_groups(p);
    printf("%-10s %s\n", "mode", write_mode_name(r->mode));
    if (!r->has_target)
        return;
    print_way(p);
    printf("%-10s %s%s%s%s\n", "target", bq_ref_text(&r->target, name, sizeof(name)), r->location[0] != '\0' ? ", in " : "", r->location,
           p->creates ? ", does not exist and will be created" : "");
    print_schema(r->schema);
    print_names("keys", r->keys, r->key_count);
    if (r->null_keys != NULL_KEYS_REFUSE)
        printf("%-10s %s\n", "NULL keys", null_keys_names[r->null_keys]);
    print_names("order_by", r->order_by, r->order_count);
    print_names("kept", r->insert_only, r->insert_only_count);
    if (r->partition_column[0] != '\0')
        printf("%-10s by %s: only the partitions of the run's own rows are %s\n", "prunes", r->partition_column,
               r->mode == WRITE_REPLACE_PARTITIONS ? "replaced, each as a whole" : "read");
    printf("%-10s %s.%s\n", "staging", r->staging_project, r->staging_dataset);
    printf("\n%s\n\n", p->sql.sql.data);
    if (p->creates)
        printf("%-10s not possible before the target exists\n", "dry run");
    else if (p->dry.known)
        printf("%-10s the statement reads %s of the target at most, besides the run's own rows\n", "dry run", units_show_bytes(p->dry.bytes, bytes, sizeof(bytes)));
    else if (p->dry.err.kind != ERR_NONE)
        printf("%-10s refused: %s\n", "dry run", p->dry.err.text);
    else
        printf("%-10s this service does none, so the bytes are not known\n", "dry run");
}

static doc *names_doc(char *const *names, size_t count)
{
    doc *list = doc_array();
    for (size_t i = 0; i < count; i++)
        doc_add(list, doc_string(names[i]));
    return list;
}

static doc *items_doc(const struct planning *p)
{
    doc *list = doc_array();
    for (int64_t i = 0; i < p->first_count; i++) {
        doc *one = doc_set_str(doc_set_int(doc_object(), "item", i), "key", p->first[i].key);
        const char *payload = p->first[i].payload;
        struct error ignored = ERROR_INIT;
        doc *parsed = payload != NULL && payload[0] != '\0' ? doc_parse(payload, strlen(payload), "payload", &ignored) : NULL;
        if (parsed != NULL)
            doc_set(one, "payload", parsed);
        doc_add(list, one);
    }
    doc *d = doc_set_bool(doc_set_int(doc_object(), "count", p->items), "more", p->more);
    doc_set_bool(d, "keys_checked", p->keys_checked && p->spec->items.kind != ITEMS_QUERY);
    return doc_set(doc_set_int(d, "over_limit", p->over), "first", list);
}

static void print_json(const struct planning *p)
{
    const struct record *r = p->record;
    char name[1024];
    AUTO(doc_free_auto) doc *d = doc_set_str(doc_set_str(doc_object(), "batch", r->batch), "handler", r->handler);
    doc_set(d, "items", items_doc(p));
    if (p->query.result != NULL)
        doc_set(d, "query", doc_set_int(schema_to_doc(p->query.result), "bytes", p->query.bytes));
    if (group_items(p) > 0)
        doc_set_int(d, "group_items", group_items(p));
    doc_set_str(d, "mode", write_mode_name(r->mode));
    if (r->has_target) {
        static const char *const via[] = {[VIA_STAGING] = "staging", [VIA_DIRECT] = "direct", [VIA_WORKER_TABLES] = "worker-tables"};
        doc_set_int(doc_set_str(d, "via", via[p->spec->write.via]), "every_ms", p->spec->write.via == VIA_DIRECT ? 0 : r->every_ms);
        doc_set(d, "permits", doc_set_int(doc_set_int(doc_object(), "fleet", plan_permits(p->spec, true)), "one_process", plan_permits(p->spec, false)));
        doc *target = doc_set_str(doc_object(), "table", bq_ref_text(&r->target, name, sizeof(name)));
        doc_set_bool(doc_set_str(target, "location", r->location), "exists", !p->creates);
        doc_set(d, "target", doc_set(target, "schema", doc_ref(r->schema_doc)));
        doc_set(d, "keys", names_doc(r->keys, r->key_count));
        doc_set_str(d, "null_keys", null_keys_names[r->null_keys]);
        doc_set(d, "order_by", names_doc(r->order_by, r->order_count));
        doc_set(d, "insert_only", names_doc(r->insert_only, r->insert_only_count));
        doc_set_str(d, "partition_column", r->partition_column);
        doc_set_str(d, "staging", r->staging_dataset);
        doc_set_str(d, "sql", p->sql.sql.data);
        doc *dry = doc_object();
        if (p->dry.known)
            doc_set_int(dry, "bytes", p->dry.bytes);
        if (p->dry.err.kind != ERR_NONE)
            doc_set_str(dry, "error", p->dry.err.text);
        doc_set(d, "dry_run", dry);
    }
    AUTO(free_ptr) char *text = doc_text(d);
    printf("%s\n", text);
}

/* --- the command -------------------------------------------------------------------------------------------------------------------------------------------- */

static int do_plan(struct planning *p, const struct settings *s)
{
    if (make_record(p, s) != 0 || read_items(p, s->limit) != 0)
        return command_fail(&p->err);
    if (p->record->has_target) {
        if (plan_sql_make(p->record, &p->sql, &p->err) != 0)
            return command_fail(&p->err);
        if (!p->creates)
            look_at(p, p->sql.dry_sql.data, p->sql.params != NULL ? doc_ref(p->sql.params) : NULL, s->wait_ms, &p->dry);
    }
    if (look_at_handler(p, s->wait_ms) != 0)
        return command_fail(&p->err);
    if (strcmp(s->output, "json") == 0)
        print_json(p);
    else
        print_text(p);
    return EXIT_WRITTEN;
}

int command_plan(struct command_env *env, char *const *args, int count)
{
    const struct settings *s = env->settings;
    struct planning p = {.sql = PLAN_SQL_INIT};
    (void)count;
    p.spec = spec_load(args[0], s->set, env->env, false, &p.err);
    if (p.spec == NULL)
        return command_fail(&p.err);
    bool needs_bigquery = p.spec->write.mode != WRITE_NONE || spec_reads_bigquery(p.spec);
    int code;
    if (setup_open(&p.setup, env, needs_bigquery ? SETUP_BIGQUERY : 0, p.spec, &p.err) != 0)
        code = command_fail(&p.err);
    else
        code = do_plan(&p, s);
    for (int64_t i = 0; i < p.first_count; i++) {
        free(p.first[i].key);
        free(p.first[i].payload);
    }
    free(p.first);
    plan_sql_free(&p.sql);
    schema_free(p.query.result);
    record_free(p.record);
    setup_close(&p.setup);
    spec_free(p.spec);
    return code;
}
