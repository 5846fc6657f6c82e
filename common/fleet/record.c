#include "common/fleet/record.h"

#include "common/bq/permits.h"

#include "common/base/limits.h"

/* A record has the lowest version whose readers would do with it what it says; 2: NULL keys that are not refused; 3: permits;
 * 4: rows that do not wait for the run's end; 5: whole partitions replaced; 6: rows shown by a view. */
enum { RECORD_VERSION = 6 };
static const char *const via_names[] = {"staging", "direct", "worker-tables"};

static doc *names_to_doc(char *const *names, size_t count)
{
    doc *a = doc_array();
    for (size_t i = 0; i < count; i++)
        doc_add(a, doc_string(names[i]));
    return a;
}

static doc *ref_to_doc(const struct bq_ref *r)
{
    doc *d = doc_object();
    doc_set_str(d, "project", r->project);
    doc_set_str(d, "dataset", r->dataset);
    return doc_set_str(d, "table", r->table);
}

static doc *partition_to_doc(const struct partition *p)
{
    doc *d = doc_set_str(doc_object(), "unit", partition_unit_name(p->unit));
    return p->unit == PARTITION_RANGE ? doc_set_int(doc_set_int(doc_set_int(d, "start", p->start), "end", p->end), "interval", p->interval) : d;
}

static doc *write_to_doc(const struct record *r)
{
    doc *w = doc_object();
    doc_set_str(w, "mode", write_mode_name(r->mode));
    doc_set_str(w, "via", via_names[r->via]);
    if (r->has_target)
        doc_set(w, "target", ref_to_doc(&r->target));
    doc_set_str(w, "location", r->location);
    doc_set_str(w, "project", r->project);
    doc_set_str(w, "staging_project", r->staging_project);
    doc_set_str(w, "staging_dataset", r->staging_dataset);
    if (r->schema_doc != NULL)
        doc_set(w, "schema", doc_ref(r->schema_doc));
    doc_set(w, "keys", names_to_doc(r->keys, r->key_count));
    if (r->null_keys != NULL_KEYS_REFUSE)
        doc_set_str(w, "null_keys", null_keys_names[r->null_keys]);
    if (r->permits > 0)
        doc_set_int(w, "permits", r->permits);
    if (r->disjoint)
        doc_set_bool(w, "disjoint", true);
    doc_set(w, "order_by", names_to_doc(r->order_by, r->order_count));
    doc_set(w, "insert_only", names_to_doc(r->insert_only, r->insert_only_count));
    doc_set_str(w, "partition_column", r->partition_column);
    if (r->partition.unit != PARTITION_NONE)
        doc_set(w, "partition", partition_to_doc(&r->partition));
    if (r->layout != NULL)
        doc_set_str(doc_set(w, "layout", doc_ref(r->layout)), "base", r->base);
    return doc_set_int(w, "max_bytes_billed", r->max_bytes_billed);
}

static doc *finish_to_doc(const struct record *r)
{
    doc *f = doc_object();
    doc_set_int(f, "every_ms", r->every_ms);
    doc_set_int(f, "tolerate_count", r->finish.tolerate_count);
    doc_set(f, "tolerate_percent", doc_number(r->finish.tolerate_percent));
    return doc_set_int(f, "stop_after", r->finish.stop_after);
}

static doc *places_to_doc(const struct record *r)
{
    doc *p = doc_object();
    doc_set_int(p, "log_partition", r->log_partition);
    doc_set_int(p, "log_offset", r->log_offset);
    doc_set_int(p, "dead_partition", r->dead_partition);
    doc_set_int(p, "dead_offset", r->dead_offset);
    doc_set_int(p, "batches_seen", r->batches_seen);
    doc *starts = doc_array();
    for (int32_t i = 0; i < r->work_partitions; i++)
        doc_add(starts, doc_integer(r->work_starts[i]));
    return doc_set(p, "work_starts", starts);
}

doc *record_to_doc(const struct record *r)
{
    doc *d = doc_object();
    doc_set_int(d, "version", r->via == VIA_WORKER_TABLES ? 6 : r->mode == WRITE_REPLACE_PARTITIONS ? 5 : r->via != VIA_STAGING ? 4 : r->permits > 0 ? 3 : r->null_keys != NULL_KEYS_REFUSE ? 2 : 1);
    doc_set_str(d, "run", r->run);
    doc_set_str(d, "batch", r->batch);
    doc_set_str(d, "nonce", r->nonce);
    doc_set_int(d, "created_ms", r->created_ms);
    doc_set_str(d, "by", r->by);
    doc_set_str(d, "queue", r->queue);
    doc_set_str(d, "handler", r->handler);
    if (r->params != NULL)
        doc_set(d, "params", doc_ref(r->params));
    doc_set_int(d, "timeout_ms", r->timeout_ms);
    doc_set_int(d, "attempts", r->attempts);
    doc_set(d, "write", write_to_doc(r));
    doc_set(d, "finish", finish_to_doc(r));
    doc_set_int(d, "parallel", r->parallel);
    doc_set(d, "places", places_to_doc(r));
    doc_set_str(d, "replaces", r->replaces);
    doc_set_str(d, "adopts", r->adopts);
    doc_set_str(d, "redrives", r->redrives);
    doc_set_int(d, "left", r->left);
    if (r->selection != NULL)
        doc_set(d, "selection", doc_ref(r->selection));
    if (r->spec != NULL)
        doc_set(d, "spec", doc_ref(r->spec));
    return d;
}

/* --- reading: a text that is too long, or a field of the wrong type, makes the whole record malformed --- */

static int text(const doc *d, const char *path, char *out, size_t size, struct error *err)
{
    const char *s = doc_str(d, path, "");
    if (strlen(s) >= size)
        return error_set(err, ERR_TASK, 0, "the run's record: %s is too long", path);
    memcpy(out, s, strlen(s) + 1);
    return 0;
}

static char **names(const doc *list, size_t *count)
{
    *count = doc_len(list);
    char **v = xcalloc(*count + 1, sizeof(*v));
    for (size_t i = 0; i < *count; i++)
        v[i] = xstrdup(doc_str(doc_at(list, i), NULL, ""));
    return v;
}

static int choice(const doc *d, const char *path, const char *const *choices, size_t count, int *out, struct error *err)
{
    const char *s = doc_str(d, path, "");
    for (size_t i = 0; i < count; i++)
        if (strcmp(s, choices[i]) == 0) {
            *out = (int)i;
            return 0;
        }
    return error_set(err, ERR_TASK, 0, "the run's record: %s is \"%s\", which this version does not know", path, s);
}

static int read_target(struct record *r, const doc *w, struct error *err)
{
    const doc *t = doc_get(w, "target");
    r->has_target = t != NULL;
    if (t == NULL)
        return 0;
    if (text(t, "project", r->target.project, sizeof(r->target.project), err) != 0 ||
        text(t, "dataset", r->target.dataset, sizeof(r->target.dataset), err) != 0 ||
        text(t, "table", r->target.table, sizeof(r->target.table), err) != 0)
        return -1;
    return bq_ref_ok(&r->target) ? 0 : error_set(err, ERR_TASK, 0, "the run's record: write.target is no table's name");
}

static int read_partition(struct record *r, const doc *p, struct error *err)
{
    const char *unit = doc_str(p, "unit", "");
    if (p == NULL)
        return 0;
    return partition_make(r->schema, strcmp(unit, "RANGE") == 0 ? PART_RANGE : PART_TIME, r->partition_column, unit, doc_int(p, "start", 0),
                          doc_int(p, "end", 0), doc_int(p, "interval", 0), &r->partition, err);
}

static int read_write(struct record *r, const doc *w, struct error *err)
{
    const char *modes[WRITE_NONE + 1];
    for (int i = 0; i <= WRITE_NONE; i++)
        modes[i] = write_mode_name((enum write_mode)i);
    int mode = 0, via = 0, nulls = NULL_KEYS_REFUSE;
    if (choice(w, "mode", modes, ARRAY_LEN(modes), &mode, err) != 0 || choice(w, "via", via_names, ARRAY_LEN(via_names), &via, err) != 0 ||
        (doc_get(w, "null_keys") && choice(w, "null_keys", null_keys_names, ARRAY_LEN(null_keys_names), &nulls, err) != 0) ||
        read_target(r, w, err) != 0 || text(w, "location", r->location, sizeof(r->location), err) != 0 ||
        text(w, "project", r->project, sizeof(r->project), err) != 0 ||
        text(w, "staging_project", r->staging_project, sizeof(r->staging_project), err) != 0 ||
        text(w, "staging_dataset", r->staging_dataset, sizeof(r->staging_dataset), err) != 0 ||
        text(w, "partition_column", r->partition_column, sizeof(r->partition_column), err) != 0)
        return -1;
    struct bq_ref staging = {.table = "t"};
    memcpy(staging.project, r->staging_project, sizeof(staging.project));
    memcpy(staging.dataset, r->staging_dataset, sizeof(staging.dataset));
    if (r->has_target && !bq_ref_ok(&staging))
        return error_set(err, ERR_TASK, 0, "the run's record: write.staging_project and write.staging_dataset are no dataset's name");
    r->mode = (enum write_mode)mode;
    r->via = (enum write_via)via;
    r->null_keys = (enum null_keys)nulls;
    r->permits = (int)i64_min(i64_max(doc_int(w, "permits", 0), 0), PERMIT_SLOTS_MAX);
    r->disjoint = doc_bool(w, "disjoint", false);
    r->max_bytes_billed = doc_int(w, "max_bytes_billed", 0);
    r->layout = doc_get(w, "layout") ? doc_copy(doc_get(w, "layout")) : NULL;
    if (text(w, "base", r->base, sizeof(r->base), err) != 0)
        return -1;
    r->keys = names(doc_get(w, "keys"), &r->key_count);
    r->order_by = names(doc_get(w, "order_by"), &r->order_count);
    r->insert_only = names(doc_get(w, "insert_only"), &r->insert_only_count);
    const doc *schema = doc_get(w, "schema");
    if (schema == NULL)
        return r->has_target ? error_set(err, ERR_TASK, 0, "the run's record has a target without a schema") : 0;
    r->schema_doc = doc_copy(schema);
    r->schema = schema_parse(schema, err);
    return r->schema ? read_partition(r, doc_get(w, "partition"), err) : -1;
}

static int read_places(struct record *r, const doc *p, struct error *err)
{
    r->log_partition = (int32_t)doc_int(p, "log_partition", -1);
    r->log_offset = doc_int(p, "log_offset", -1);
    r->dead_partition = (int32_t)doc_int(p, "dead_partition", -1);
    r->dead_offset = doc_int(p, "dead_offset", -1);
    r->batches_seen = doc_int(p, "batches_seen", 0);
    const doc *starts = doc_get(p, "work_starts");
    r->work_partitions = (int32_t)doc_len(starts);
    r->work_starts = xcalloc(doc_len(starts) + 1, sizeof(*r->work_starts));
    for (size_t i = 0; i < doc_len(starts); i++)
        r->work_starts[i] = doc_int(doc_at(starts, i), NULL, 0);
    if (r->log_partition < 0 || r->log_offset < 0)
        return error_set(err, ERR_TASK, 0, "the run's record does not say where its log begins");
    return 0;
}

static int read_record(struct record *r, const doc *d, struct error *err)
{
    int64_t version = doc_int(d, "version", -1);
    if (version < 1 || version > RECORD_VERSION)
        return error_set(err, ERR_FATAL, 0, "a run's record has version %" PRId64 "; this program knows them up to %d: update it", version, RECORD_VERSION);
    if (text(d, "run", r->run, sizeof(r->run), err) != 0 || text(d, "batch", r->batch, sizeof(r->batch), err) != 0 ||
        text(d, "nonce", r->nonce, sizeof(r->nonce), err) != 0 || text(d, "queue", r->queue, sizeof(r->queue), err) != 0 ||
        text(d, "handler", r->handler, sizeof(r->handler), err) != 0 || text(d, "replaces", r->replaces, sizeof(r->replaces), err) != 0 ||
        text(d, "adopts", r->adopts, sizeof(r->adopts), err) != 0 || text(d, "redrives", r->redrives, sizeof(r->redrives), err) != 0 || id_check_run(r->run, err) != 0)
        return -1;
    r->by = xstrdup(doc_str(d, "by", ""));
    r->created_ms = doc_int(d, "created_ms", 0);
    r->params = doc_get(d, "params") ? doc_copy(doc_get(d, "params")) : NULL;
    r->spec = doc_get(d, "spec") ? doc_copy(doc_get(d, "spec")) : NULL;
    r->selection = doc_get(d, "selection") ? doc_copy(doc_get(d, "selection")) : NULL;
    r->left = doc_int(d, "left", 0);
    r->timeout_ms = doc_int(d, "timeout_ms", 0);
    r->attempts = doc_int(d, "attempts", 1);
    r->parallel = doc_int(d, "parallel", 0);
    const doc *f = doc_get(d, "finish");
    r->every_ms = doc_int(f, "every_ms", 0);
    r->finish = (struct fold_config){.tolerate_count = doc_int(f, "tolerate_count", 0),
                                     .tolerate_percent = doc_real(f, "tolerate_percent", 0),
                                     .stop_after = doc_int(f, "stop_after", 0)};
    return read_write(r, doc_get(d, "write"), err) != 0 || read_places(r, doc_get(d, "places"), err) != 0 ? -1 : 0;
}

struct record *record_parse(const char *bytes, size_t len, struct error *err)
{
    AUTO(doc_free_auto) doc *d = doc_parse(bytes, len, "run record", err);
    if (d == NULL)
        return NULL;
    struct record *r = xcalloc(1, sizeof(*r));
    if (read_record(r, d, err) != 0) {
        if (err && err->kind == ERR_USAGE) /* it was not the user who wrote it */
            err->kind = ERR_TASK;
        record_free(r);
        return NULL;
    }
    return r;
}

static void free_names(char **v)
{
    for (size_t i = 0; v != NULL && v[i] != NULL; i++)
        free(v[i]);
    free(v);
}

void record_free(struct record *r)
{
    if (r == NULL)
        return;
    free(r->by);
    doc_free(r->params);
    doc_free(r->schema_doc);
    doc_free(r->layout);
    schema_free(r->schema);
    free_names(r->keys);
    free_names(r->order_by);
    free_names(r->insert_only);
    free(r->work_starts);
    doc_free(r->spec);
    doc_free(r->selection);
    free(r);
}

void record_meaning(const struct record *r, char out[41])
{
    struct buf b = BUF_INIT(SIZE_MAX / 2);
    char target[1024] = "", hex[65];
    buf_xprintf(&b, "%s\n%s\n%s", r->batch, r->has_target ? bq_ref_text(&r->target, target, sizeof(target)) : "", write_mode_name(r->mode));
    for (size_t i = 0; i < r->key_count; i++)
        buf_xprintf(&b, "\n%s", r->keys[i]);
    if (r->null_keys != NULL_KEYS_REFUSE)
        buf_xprintf(&b, "\nNULL %s", null_keys_names[r->null_keys]);
    if (r->redrives[0] != '\0')
        buf_xprintf(&b, "\nredrives %s", r->redrives);
    sha256_hex(b.data, b.len, hex);
    memcpy(out, hex, 40);
    out[40] = '\0';
    buf_free(&b);
}

void record_permits_ref(const struct record *r, struct bq_ref *out)
{
    permits_table(&r->target, out);
}

void record_shard_ref(const struct record *r, const char *incarnation, struct bq_ref *out)
{
    char table[128];
    shard_table(table, r->run, incarnation);
    *out = (struct bq_ref){.project = ""};
    memcpy(out->project, r->staging_project, size_min(strlen(r->staging_project), sizeof(out->project) - 1));
    snprintf(out->dataset, sizeof(out->dataset), "%s", r->staging_dataset);
    snprintf(out->table, sizeof(out->table), "%s", table);
}

#define LABEL_RUN "bqfleet_run"
#define LABEL_NONCE "bqfleet_nonce"

void record_staging_labels(const struct record *r, struct bq_label out[STAGING_LABELS])
{
    out[0] = (struct bq_label){LABEL_RUN, r->run};
    out[1] = (struct bq_label){LABEL_NONCE, r->nonce};
}

bool record_owns_labels(const struct record *r, const doc *labels)
{
    return strcmp(doc_str(labels, LABEL_RUN, r->run), r->run) == 0 && strcmp(doc_str(labels, LABEL_NONCE, r->nonce), r->nonce) == 0;
}

doc *record_shard_schema(const struct record *r)
{
    static const char *const ours[] = {"bqfleet_item", "bqfleet_row", "bqfleet_load"}, *const types[] = {"INT64", "INT64", "STRING"};
    doc *fields = doc_array();
    const doc *own = doc_get(r->schema_doc, "fields");
    for (size_t i = 0; i < doc_len(own); i++)
        doc_add(fields, doc_copy(doc_at(own, i)));
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        doc_add(fields, doc_set_str(doc_set_str(doc_set_str(doc_object(), "name", ours[i]), "type", types[i]), "mode", "REQUIRED"));
    return doc_set(doc_object(), "fields", fields);
}
