#include "coordinator/spec_internal.h"

#include <strings.h>

#include "common/bq/permits.h"

static const char *const modes[] = {"merge", "append", "replace", "replace-partitions", "none"};
static const enum write_mode mode_of[] = {WRITE_MERGE, WRITE_APPEND, WRITE_REPLACE, WRITE_REPLACE_PARTITIONS, WRITE_NONE};
static const char *const vias[] = {"staging", "direct", "worker-tables"};
#define MAX_LABELS 48 /* BigQuery takes 64 a job; the rest is for our own */

/* Columns: names that can be quoted, none twice. */
static int read_columns(struct yaml *write, const char *key, char ***out, size_t *count, struct error *err)
{
    if (yaml_want_strv(write, key, out, count, err) != 0)
        return -1;
    struct yaml *list = yaml_get(write, key);
    for (size_t i = 0; i < *count; i++) {
        const struct yaml *at = list->type == YAML_LIST ? list->items[i] : list;
        const char *name = (*out)[i];
        if (!sql_identifier_ok(name))
            return yaml_error(at, err, "write.%s: \"%s\" is no name of a column", key, name);
        for (size_t k = 0; k < i; k++)
            if (strcasecmp((*out)[k], name) == 0)
                return yaml_error(at, err, "write.%s: \"%s\" is given twice (names of columns know no upper and lower case)", key, name);
    }
    return 0;
}

static bool among(const char *name, char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

static int refuse(struct yaml *write, const char *key, const char *why, struct error *err)
{
    const struct yaml *n = yaml_get(write, key);
    return yaml_is_null(n) ? 0 : yaml_error(n, err, "write.%s: %s", key, why);
}

/* Readers see a view, which shows every row of a load or one of each key. */
static int check_worker_tables(struct spec *s, struct yaml *write, struct error *err)
{
    enum write_mode mode = s->write.mode;
    if (mode != WRITE_MERGE && mode != WRITE_APPEND)
        return yaml_error(yaml_get(write, "via"), err, "write.via: worker-tables shows rows beside those that were there before, and mode: %s is to take these away; "
                          "write via: staging, or mode: merge or append", write_mode_name(mode));
    if (mode == WRITE_APPEND && refuse(write, "keys", "with via: worker-tables, mode: append shows every row; mode: merge shows each key once", err) != 0)
        return -1;
    if (s->write.null_keys == NULL_KEYS_DISTINCT)
        return yaml_error(yaml_get(write, "null_keys"), err, "write.null_keys: distinct is not for via: worker-tables; write equal, or refuse");
    if (s->write.permits > 0)
        return yaml_error(yaml_get(write, "permits"), err, "write.permits: with via: worker-tables no statement changes a table that others write; leave it out");
    return refuse(write, "insert_only", "with via: worker-tables rows are shown as they were loaded; leave it out, or write via: staging", err);
}

/* What goes together. */
static int check_combination(struct spec *s, struct yaml *write, struct error *err)
{
    enum write_mode mode = s->write.mode;
    if (mode == WRITE_NONE) {
        static const char *const useless[] = {"table", "keys", "null_keys", "order_by", "insert_only", "staging", "create", "via", "permits", "disjoint"};
        for (size_t i = 0; i < ARRAY_LEN(useless); i++)
            if (refuse(write, useless[i], "means nothing with mode: none, which writes no table (rows go to stdout, or to --to FILE); "
                       "leave it out (`--set write.table=` leaves out a table)", err) != 0)
                return -1;
        return 0;
    }
    if (spec_require(write, "write", "table", "name the target as dataset.table, or write mode: none", err) != 0)
        return -1;
    if (mode == WRITE_MERGE && s->write.key_count == 0)
        return yaml_error(write, err, "write.keys is missing; mode: merge needs the columns that tell rows apart (or write mode: append)");
    if ((mode == WRITE_REPLACE || mode == WRITE_REPLACE_PARTITIONS) && s->write.via == VIA_DIRECT)
        return yaml_error(yaml_get(write, "via"), err, "write.via: direct writes in many increments, and with mode: %s each would delete what the others "
                          "wrote; write via: staging, or mode: merge or append", write_mode_name(mode));
    if (s->write.via == VIA_WORKER_TABLES && check_worker_tables(s, write, err) != 0)
        return -1;
    if (s->write.via == VIA_DIRECT && s->write.permits == 0)
        return yaml_error(yaml_get(write, "permits"), err, "write.permits: workers that write directly must take turns at the table; leave it out, or write 1 or more");
    if (mode != WRITE_MERGE && refuse(write, "insert_only", "only mode: merge updates rows, so only there a column can be kept", err) != 0)
        return -1;
    if (s->write.key_count == 0 && refuse(write, "null_keys", "says how NULL compares in the columns of write.keys, which is missing", err) != 0)
        return -1;
    if (s->write.key_count == 0 && refuse(write, "order_by", "says which row wins among equal keys, and write.keys is missing", err) != 0)
        return -1;
    for (size_t i = 0; i < s->write.insert_only_count; i++)
        if (among(s->write.insert_only[i], s->write.keys, s->write.key_count))
            return yaml_error(yaml_get(write, "insert_only"), err, "write.insert_only: \"%s\" is a key, and keys never change",
                              s->write.insert_only[i]);
    return 0;
}


static bool label_ok(const char *text, bool is_name)
{
    size_t len = strlen(text);
    if (len > 63 || (is_name && (len == 0 || text[0] < 'a' || text[0] > 'z')))
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static int read_labels(struct spec *s, struct yaml *write, struct error *err)
{
    struct yaml *labels = NULL;
    if (yaml_want_map(write, "labels", &labels, err) != 0 || labels == NULL)
        return labels == NULL && yaml_is_null(yaml_get(write, "labels")) ? 0 : -1;
    if (labels->count > MAX_LABELS)
        return yaml_error(labels, err, "write.labels: at most %d of them", MAX_LABELS);
    s->write.labels = doc_object();
    for (size_t i = 0; i < labels->count; i++) {
        const struct yaml *key = labels->keys[i], *value = labels->items[i];
        if (!label_ok(key->value, true) || strncmp(key->value, "bqfleet", 7) == 0)
            return yaml_error(key, err, "write.labels: \"%s\" is no name for a label of yours: a-z first, then a-z, 0-9, _ and -, at most 63 "
                              "characters, not beginning with bqfleet", key->value);
        if (value->type != YAML_SCALAR || !label_ok(value->value, false))
            return yaml_error(value, err, "write.labels.%s: a text of at most 63 characters out of a-z, 0-9, _ and - belongs here", key->value);
        doc_set_str(s->write.labels, key->value, value->value);
    }
    return 0;
}

static int check_names(struct spec *s, struct yaml *write, struct error *err)
{
    struct bq_ref ref;
    /* The project may not be known yet: any valid name will do for the syntax. */
    const char *project = s->project != NULL ? s->project : "project";
    if (s->write.table != NULL && bq_ref_parse(s->write.table, project, &ref, err) != 0)
        return spec_at(yaml_get(write, "table"), "write.table", err);
    if (s->write.staging == NULL)
        return 0;
    AUTO(free_ptr) char *table = xasprintf("%s.t", s->write.staging);
    if (bq_ref_parse(table, project, &ref, err) != 0)
        return yaml_error(yaml_get(write, "staging"), err, "write.staging: \"%s\" is no dataset; write dataset or project.dataset",
                          s->write.staging);
    return 0;
}

/* "auto", or how many statements may run on the target at once. */
static int read_permits(struct spec *s, struct yaml *write, struct error *err)
{
    const struct yaml *n = yaml_get(write, "permits");
    s->write.permits = -1;
    if (yaml_is_null(n) || (n->type == YAML_SCALAR && strcmp(n->value, "auto") == 0))
        return 0;
    if (yaml_want_int(write, "permits", 0, PERMIT_SLOTS_MAX, &s->write.permits, err) == 0)
        return 0;
    return yaml_error(n, err, "write.permits: neither auto nor a number from 0 to %d", PERMIT_SLOTS_MAX);
}

int spec_read_write(struct spec *s, struct yaml *write, struct yaml *root, struct error *err)
{
    static const char *const keys[] = {"table", "mode", "via", "keys", "null_keys", "order_by", "insert_only", "staging", "location", "labels",
                                       "max_bytes_billed", "create", "permits", "disjoint"};
    int mode = 0, via = VIA_STAGING, nulls = NULL_KEYS_REFUSE;
    if (spec_section(root, "write", true, keys, ARRAY_LEN(keys), &write, err) != 0 ||
        yaml_want_enum(write, "via", vias, ARRAY_LEN(vias), &via, err) != 0 ||
        yaml_want_enum(write, "mode", modes, ARRAY_LEN(modes), &mode, err) != 0 ||
        yaml_want_enum(write, "null_keys", null_keys_names, ARRAY_LEN(null_keys_names), &nulls, err) != 0)
        return -1;
    s->write.null_keys = (enum null_keys)nulls;
    s->write.mode = mode_of[mode];
    s->write.via = (enum write_via)via;
    if (yaml_want_str(write, "table", &s->write.table, err) != 0 ||
        read_columns(write, "keys", &s->write.keys, &s->write.key_count, err) != 0 ||
        read_columns(write, "order_by", &s->write.order_by, &s->write.order_count, err) != 0 ||
        read_columns(write, "insert_only", &s->write.insert_only, &s->write.insert_only_count, err) != 0 ||
        yaml_want_str(write, "staging", &s->write.staging, err) != 0 || yaml_want_str(write, "location", &s->write.location, err) != 0 ||
        read_permits(s, write, err) != 0 || yaml_want_bool(write, "disjoint", &s->write.disjoint, err) != 0 ||
        yaml_want_size(write, "max_bytes_billed", &s->write.max_bytes_billed, err) != 0 || read_labels(s, write, err) != 0 ||
        check_combination(s, write, err) != 0 || check_names(s, write, err) != 0)
        return -1;
    return spec_read_create(s, yaml_get(write, "create"), err);
}
