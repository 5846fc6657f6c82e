#include "coordinator/plan.h"

#include <strings.h>
#include <unistd.h>

#include "coordinator/plan_view.h"
#include "coordinator/spec_internal.h"

/*
 * The steps: read the target; if there is none, look at its dataset and create the table (or only say so), and read again; look at the
 * staging dataset where it is another one; check; call back.
 */
struct plan {
    struct plan_options o;
    plan_cb *cb;
    void *arg;
    struct record *record;
    struct bq_call *call;
    struct plan_view *view; /* of a target in worker tables */
    struct timer *timer;
    bool created;
    struct error err; /* found at once, told later */
};

/* What the checks need to know of a target that exists or will. */
struct target { enum bq_partitioning partitioning; const char *part_field, *part_type; int64_t start, end, interval; bool require_filter; };

static void finish(struct plan *p, const struct error *err)
{
    plan_cb *cb = p->cb;
    void *arg = p->arg;
    struct record *record = err == NULL ? p->record : NULL;
    struct error copy = err != NULL ? *err : ERROR_INIT;
    if (record != NULL)
        p->record = NULL;
    if (p->o.creates != NULL)
        *p->o.creates = p->created;
    p->call = NULL;
    plan_stop(p);
    cb(arg, record, err != NULL ? &copy : NULL);
}

static const struct yaml *place_of(const struct spec *s, const char *key)
{
    struct yaml *write = yaml_get(s->yaml, "write");
    const struct yaml *at = key != NULL ? yaml_get(write, key) : NULL;
    return at != NULL ? at : write != NULL ? write : s->yaml;
}

/* --- the record, as far as the spec alone says it --------------------------------------------------------------------------------------------- */

static char **copy_names(char *const *names, size_t count)
{
    char **copy = xcalloc(count + 1, sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = xstrdup(names[i]);
    return copy;
}

static void set_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text != NULL ? text : "");
}

static void fill_from_spec(struct record *r, const struct spec *s)
{
    set_text(r->batch, sizeof(r->batch), s->batch);
    set_text(r->queue, sizeof(r->queue), s->queue);
    set_text(r->handler, sizeof(r->handler), s->job.handler);
    r->params = s->job.params != NULL ? doc_ref(s->job.params) : NULL;
    r->timeout_ms = s->job.timeout_ms;
    r->attempts = s->job.attempts;
    r->mode = s->write.mode;
    r->via = s->write.via;
    r->has_target = s->write.mode != WRITE_NONE;
    r->keys = copy_names(s->write.keys, s->write.key_count);
    r->key_count = s->write.key_count;
    r->null_keys = s->write.null_keys;
    r->order_by = copy_names(s->write.order_by, s->write.order_count);
    r->order_count = s->write.order_count;
    r->insert_only = copy_names(s->write.insert_only, s->write.insert_only_count);
    r->insert_only_count = s->write.insert_only_count;
    r->disjoint = s->write.disjoint;
    r->max_bytes_billed = s->write.max_bytes_billed;
    r->every_ms = s->finish.every_ms;
    r->finish = s->finish.fold;
    r->spec = doc_ref(s->as_written);
}

/* Two merges that only insert never conflict, and would insert one key twice: so one at a time, unless that cannot be. BigQuery itself runs two. */
int plan_permits(const struct spec *s, bool fleet)
{
    if (s->write.mode == WRITE_NONE || s->write.via == VIA_WORKER_TABLES) /* each of its statements writes a table of its own */
        return 0;
    if (s->write.permits >= 0)
        return (int)s->write.permits;
    return !fleet ? 0 : s->write.mode == WRITE_APPEND || s->write.disjoint ? 2 : 1;
}

static int fill_identity(struct record *r, const struct plan_options *o, struct error *err)
{
    int64_t now_ms = loop_wall_ms(o->world->loop);
    char id[ID_LEN + 1], host[256] = "";
    id_new(id, now_ms, o->world->rnd);
    if (o->run_id != NULL && id_check_run(o->run_id, err) != 0)
        return -1;
    set_text(r->run, sizeof(r->run), o->run_id != NULL ? o->run_id : id);
    rnd_text(o->world->rnd, r->nonce, sizeof(r->nonce) - 1);
    r->created_ms = now_ms;
    gethostname(host, sizeof(host) - 1);
    r->by = xasprintf("%s:%ld", host, (long)getpid());
    return 0;
}

/* Jobs run in the client's project; without a client only names are needed. */
static const char *project_of(const struct plan_options *o)
{
    if (o->world->bq != NULL)
        return bq_project(o->world->bq);
    return o->project != NULL ? o->project : o->spec->project;
}

static int fill_names(struct record *r, const struct plan_options *o, struct error *err)
{
    const struct spec *s = o->spec;
    const char *project = project_of(o);
    set_text(r->project, sizeof(r->project), project);
    set_text(r->location, sizeof(r->location), o->location != NULL ? o->location : s->write.location);
    if (!r->has_target)
        return 0;
    if (o->world->bq == NULL)
        return error_set(err, ERR_FATAL, 0, "write.mode %s needs BigQuery", write_mode_name(r->mode));
    if (bq_ref_parse(s->write.table, project, &r->target, err) != 0)
        return spec_at(place_of(s, "table"), "write.table", err);
    struct bq_ref staging = r->target;
    if (s->write.staging != NULL) {
        AUTO(free_ptr) char *text = xasprintf("%s.t", s->write.staging);
        if (bq_ref_parse(text, project, &staging, err) != 0)
            return spec_at(place_of(s, "staging"), "write.staging", err);
    }
    set_text(r->staging_project, sizeof(r->staging_project), staging.project);
    set_text(r->staging_dataset, sizeof(r->staging_dataset), staging.dataset);
    return 0;
}

/* --- does the spec fit the target? ------------------------------------------------------------------------------------------------------------ */

static int check_location(struct plan *p, const char *of, const char *what, struct error *err)
{
    struct record *r = p->record;
    if (of[0] == '\0')
        return 0; /* the service does not say */
    if (r->location[0] != '\0' && strcasecmp(r->location, of) != 0)
        return error_set(err, ERR_USAGE, 0, "%s is in location %s, and %s was asked for; jobs run where their tables are", what, of, r->location);
    set_text(r->location, sizeof(r->location), of);
    return 0;
}

/* Its partitions can be told by the rows. */
static int check_replaced(struct plan *p, const struct target *t, struct error *err)
{
    struct record *r = p->record;
    char name[1024];
    bq_ref_text(&r->target, name, sizeof(name));
    int rc = partition_make(r->schema, t->partitioning, t->part_field, t->part_type, t->start, t->end, t->interval, &r->partition, err);
    if (rc != 0)
        error_prefix(err, "mode replace-partitions cannot write %s", name);
    else if (r->partition.unit == PARTITION_NONE)
        rc = error_set(err, ERR_USAGE, 0, "%s has no partitions; mode: replace replaces all of it", name);
    if (rc != 0)
        return spec_at(place_of(p->o.spec, "mode"), "write.mode", err);
    set_text(r->partition_column, sizeof(r->partition_column), r->partition.column);
    return 0;
}

/* A column that prunes: it partitions the target, and as a merge key its range is known from the rows. */
static int check_partitions(struct plan *p, const struct target *t, struct error *err)
{
    struct record *r = p->record;
    if (r->via == VIA_WORKER_TABLES) /* its partitions are written whole, with the base that they are of */
        return 0;
    if (r->mode == WRITE_REPLACE_PARTITIONS)
        return check_replaced(p, t, err);
    bool is_key = false;
    for (size_t i = 0; i < r->key_count; i++)
        is_key = is_key || strcasecmp(r->keys[i], t->part_field) == 0;
    const struct field *f = schema_find(r->schema, t->part_field);
    bool can = f != NULL && (f->type == FIELD_DATE || f->type == FIELD_DATETIME || f->type == FIELD_TIMESTAMP || f->type == FIELD_INT64);
    if (t->partitioning != PART_NONE && r->mode == WRITE_MERGE && is_key && can) {
        set_text(r->partition_column, sizeof(r->partition_column), f->name);
        return 0;
    }
    if (!t->require_filter || r->mode == WRITE_APPEND)
        return 0;
    char name[1024];
    bq_ref_text(&r->target, name, sizeof(name));
    const char *column = t->part_field[0] != '\0' ? t->part_field : "_PARTITIONTIME";
    error_set(err, ERR_USAGE, 0, "%s demands a filter on its partition column %s, which %s; %s"
              "ALTER TABLE `%s` SET OPTIONS (require_partition_filter = false)", name, column,
              r->mode == WRITE_MERGE ? "is none of write.keys, so a merge cannot give one" : "mode: replace, which touches all rows, cannot give",
              r->mode == WRITE_MERGE && f != NULL ? "add the column to write.keys if it belongs there, or " : "", name);
    return spec_at(place_of(p->o.spec, "table"), "write.table", err);
}

/* Takes the schema over. */
static int take_target(struct plan *p, struct schema *schema, const struct target *t, struct error *err)
{
    struct record *r = p->record;
    const struct spec *s = p->o.spec;
    schema_free(r->schema);
    doc_free(r->schema_doc);
    r->schema = schema;
    r->schema_doc = schema_to_doc(schema);
    if (sql_check_columns(schema, r->mode, (const char *const *)r->keys, r->key_count, (const char *const *)r->order_by, r->order_count,
                          (const char *const *)r->insert_only, r->insert_only_count, err) != 0)
        return spec_at(place_of(s, NULL), NULL, err);
    return check_partitions(p, t, err);
}

/* --- the steps --------------------------------------------------------------------------------------------------------------------------------------- */

/* What a view names: bases in the target's dataset, the workers' tables in that of staging. */
static int check_stays(struct plan *p, const doc *dataset, const char *key, struct error *err)
{
    bool home = strcmp(key, "table") == 0;
    if (p->record->via != VIA_WORKER_TABLES || doc_int(dataset, "defaultTableExpirationMs", 0) <= 0)
        return 0;
    error_set(err, ERR_USAGE, 0, "new tables in dataset %s go away by themselves (its default_table_expiration), and with write.via: worker-tables what readers see "
              "is in tables that are made there; take one without", home ? p->record->target.dataset : p->record->staging_dataset);
    return spec_at(place_of(p->o.spec, key), home ? "write.table" : "write.staging", err);
}

static bool at_home(const struct record *r)
{
    return strcmp(r->staging_project, r->target.project) == 0 && strcmp(r->staging_dataset, r->target.dataset) == 0;
}

static void on_staging(void *arg, const struct bq_answer *a)
{
    struct plan *p = arg;
    struct record *r = p->record;
    struct error err = ERROR_INIT;
    const struct yaml *at = place_of(p->o.spec, "staging");
    p->call = NULL;
    if (a->err != NULL) {
        err = *a->err;
        if (err.code == 404) {
            error_set(&err, ERR_USAGE, 404, "dataset %s.%s does not exist; create it in location %s, or leave this out to stage in the target's dataset",
                      r->staging_project, r->staging_dataset, r->location);
            spec_at(at, "write.staging", &err);
        } else {
            error_prefix(&err, "the staging dataset %s", r->staging_dataset);
        }
        finish(p, &err);
        return;
    }
    const char *location = doc_str(a->doc, "location", "");
    if (location[0] != '\0' && r->location[0] != '\0' && strcasecmp(location, r->location) != 0) {
        error_set(&err, ERR_USAGE, 0, "dataset %s is in location %s and the target in %s; staging has to be where the target is",
                  r->staging_dataset, location, r->location);
        spec_at(at, "write.staging", &err);
        finish(p, &err);
        return;
    }
    if (doc_str(a->doc, "defaultCollation", "")[0] != '\0' && !at_home(r)) { /* its tables would take keys for one that the target tells apart */
        error_set(&err, ERR_USAGE, 0, "dataset %s has a default collation (%s), and keys have to be compared as the target's are; stage in the target's dataset, or in one "
                  "without", r->staging_dataset, doc_str(a->doc, "defaultCollation", ""));
        spec_at(at, "write.staging", &err);
        finish(p, &err);
        return;
    }
    finish(p, check_stays(p, a->doc, "staging", &err) != 0 ? &err : NULL);
}

static void get_staging(struct plan *p)
{
    p->call = bq_dataset_get(p->o.world->bq, p->record->staging_project, p->record->staging_dataset, on_staging, p);
}

static void on_home(void *arg, const struct bq_answer *a)
{
    struct plan *p = arg;
    struct error err = ERROR_INIT;
    p->call = NULL;
    if (a->err != NULL) {
        err = *a->err;
        error_prefix(&err, "the dataset %s", p->record->target.dataset);
        finish(p, &err);
    } else if (check_stays(p, a->doc, "table", &err) != 0) {
        finish(p, &err);
    } else {
        get_staging(p);
    }
}

static void check_staging(struct plan *p)
{
    struct record *r = p->record;
    bool home = at_home(r);
    if (r->via != VIA_WORKER_TABLES && home)
        finish(p, NULL);
    else if (r->via == VIA_WORKER_TABLES && !home && !p->created)
        p->call = bq_dataset_get(p->o.world->bq, r->target.project, r->target.dataset, on_home, p);
    else
        get_staging(p);
}

static void on_table(void *arg, struct bq_table *table, const struct error *err);

static void on_created(void *arg, const struct bq_answer *a)
{
    struct plan *p = arg;
    p->call = NULL;
    if (a->err != NULL && a->err->code != 409) { /* 409: somebody was quicker */
        struct error err = *a->err;
        error_prefix(&err, "creating %s.%s", p->record->target.dataset, p->record->target.table);
        finish(p, &err);
        return;
    }
    p->call = bq_table_get(p->o.world->bq, &p->record->target, on_table, p);
}

static void create_table(struct plan *p)
{
    const struct spec *s = p->o.spec;
    struct bq_label labels[64];
    size_t count = 0;
    for (void *it = doc_first(s->write.labels); it != NULL && count < ARRAY_LEN(labels); it = doc_next(s->write.labels, it))
        labels[count++] = (struct bq_label){doc_key(it), doc_str(doc_value(it), NULL, "")};
    struct bq_table_new table = {
        .ref = &p->record->target,
        .schema = s->write.create,
        .partitioning = s->write.create_partitioning,
        .cluster_by = s->write.create_cluster,
        .labels = labels,
        .label_count = count,
    };
    p->call = bq_table_create(p->o.world->bq, &table, on_created, p);
}

/* The target as the spec would create it. */
static int take_planned(struct plan *p, struct error *err)
{
    const struct spec *s = p->o.spec;
    const doc *parts = s->write.create_partitioning;
    const char *time = doc_str(parts, "timePartitioning.field", NULL), *range = doc_str(parts, "rangePartitioning.field", NULL);
    struct target t = {.partitioning = time != NULL ? PART_TIME : range != NULL ? PART_RANGE : PART_NONE};
    t.part_field = time != NULL ? time : range != NULL ? range : "";
    t.part_type = doc_str(parts, "timePartitioning.type", "");
    t.start = doc_int(parts, "rangePartitioning.range.start", 0);
    t.end = doc_int(parts, "rangePartitioning.range.end", 0);
    t.interval = doc_int(parts, "rangePartitioning.range.interval", 0);
    struct schema *schema = schema_parse(s->write.create, err);
    return schema != NULL ? take_target(p, schema, &t, err) : -1;
}

static void create_view(struct plan *p)
{
    const struct spec *s = p->o.spec;
    struct record *r = p->record;
    r->layout = s->write.create_partitioning ? doc_copy(s->write.create_partitioning) : doc_object();
    if (s->write.create_cluster)
        doc_set(r->layout, "clustering", doc_set(doc_object(), "fields", doc_add(doc_array(), doc_string(s->write.create_cluster))));
    plan_view_stop(p->view);
    p->view = plan_view_make(p->o.world, r, on_table, p);
}

static int missing_target(struct plan *p, struct error *err)
{
    char name[1024];
    error_set(err, ERR_USAGE, 404, "%s does not exist; create it, or let bqfleet do so by giving its columns in the spec: "
              "write: {create: {fields: {id: STRING REQUIRED, score: FLOAT64}}}", bq_ref_text(&p->record->target, name, sizeof(name)));
    return spec_at(place_of(p->o.spec, "table"), "write.table", err);
}

/* There is no such table: is there at least its dataset? */
static void on_dataset(void *arg, const struct bq_answer *a)
{
    struct plan *p = arg;
    struct record *r = p->record;
    struct error err = ERROR_INIT;
    p->call = NULL;
    if (a->err != NULL && a->err->code == 404) {
        error_set(&err, ERR_USAGE, 404, "dataset %s.%s does not exist; create it first (bqfleet creates tables, not datasets)", r->target.project,
                  r->target.dataset);
        spec_at(place_of(p->o.spec, "table"), "write.table", &err);
    } else if (p->o.spec->write.create == NULL) {
        missing_target(p, &err);
    } else if (a->err != NULL) {
        err = *a->err;
        error_prefix(&err, "the dataset %s", r->target.dataset);
    } else if (check_location(p, doc_str(a->doc, "location", ""), "the target's dataset", &err) == 0 && check_stays(p, a->doc, "table", &err) == 0) {
        p->created = true;
        if (!p->o.dry && r->via != VIA_WORKER_TABLES) {
            create_table(p);
            return;
        }
        if (take_planned(p, &err) == 0) {
            if (!p->o.dry) {
                create_view(p);
                return;
            }
            check_staging(p);
            return;
        }
    }
    finish(p, &err);
}

static int take_table(struct plan *p, struct bq_table *table, struct error *err)
{
    if (table->type[0] != '\0' && strcmp(table->type, "TABLE") != 0) {
        error_set(err, ERR_USAGE, 0, "%s.%s is of type %s; rows can be written to tables only", table->ref.dataset, table->ref.table, table->type);
        return spec_at(place_of(p->o.spec, "table"), "write.table", err);
    }
    if (table->schema == NULL || table->schema->count == 0) {
        error_set(err, ERR_USAGE, 0, "%s.%s has no columns; give it a schema first", table->ref.dataset, table->ref.table);
        return spec_at(place_of(p->o.spec, "table"), "write.table", err);
    }
    if (check_location(p, table->location, "the target", err) != 0)
        return -1;
    struct target t = {.partitioning = table->partitioning, .part_field = table->part_field, .part_type = table->part_type, .start = table->part_start,
                       .end = table->part_end, .interval = table->part_interval, .require_filter = table->require_filter};
    struct schema *schema = table->schema;
    table->schema = NULL; /* ours now */
    return take_target(p, schema, &t, err);
}

static void on_table(void *arg, struct bq_table *table, const struct error *err)
{
    struct plan *p = arg;
    struct error why = ERROR_INIT;
    p->call = NULL;
    if (err != NULL && err->code == 404 && !p->created) {
        p->call = bq_dataset_get(p->o.world->bq, p->record->target.project, p->record->target.dataset, on_dataset, p);
        return;
    }
    if (err != NULL) {
        why = *err;
        error_prefix(&why, "the target %s.%s", p->record->target.dataset, p->record->target.table);
    } else if (take_table(p, table, &why) == 0) {
        check_staging(p);
        return;
    }
    finish(p, &why);
}

static void first_step(void *arg)
{
    struct plan *p = arg;
    if (p->err.kind != ERR_NONE)
        finish(p, &p->err);
    else if (!p->record->has_target)
        finish(p, NULL);
    else if (p->record->via == VIA_WORKER_TABLES)
        p->view = plan_view_read(p->o.world, p->record, on_table, p);
    else
        p->call = bq_table_get(p->o.world->bq, &p->record->target, on_table, p);
}

#define WORKER_TABLES_EVERY_MS 10000 /* each is a load into a small table, of which a day has room for some hundreds */

struct plan *plan_start(const struct plan_options *o, plan_cb *cb, void *arg)
{
    struct plan *p = xcalloc(1, sizeof(*p));
    p->o = *o;
    p->cb = cb;
    p->arg = arg;
    p->record = xcalloc(1, sizeof(*p->record));
    fill_from_spec(p->record, o->spec);
    p->record->permits = plan_permits(o->spec, o->fleet);
    if (!o->fleet && p->record->via == VIA_DIRECT) { /* one process has one shard: its increments are the run's, one after another without a pause */
        p->record->via = VIA_STAGING;
        p->record->every_ms = 1;
    }
    if (p->record->via == VIA_WORKER_TABLES && p->record->every_ms == 0)
        p->record->every_ms = WORKER_TABLES_EVERY_MS;
    if (p->record->via == VIA_WORKER_TABLES && !o->fleet && !o->dry)
        error_set(&p->err, ERR_USAGE, 0, "write.via: worker-tables is for the workers of a fleet (--brokers); one process writes via: staging");
    else if (fill_identity(p->record, o, &p->err) == 0)
        (void)fill_names(p->record, o, &p->err);
    p->timer = timer_new(o->world->loop, first_step, p);
    timer_set(p->timer, 0);
    return p;
}

void plan_stop(struct plan *p)
{
    if (p == NULL)
        return;
    bq_call_cancel(p->call);
    plan_view_stop(p->view);
    timer_free(p->timer);
    record_free(p->record);
    free(p);
}
