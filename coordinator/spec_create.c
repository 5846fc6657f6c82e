#include "coordinator/spec_internal.h"

#include "common/base/schema.h"

/*
 * write.create: the schema of a target that does not exist yet. Long: {fields: ..., partition_by: ..., cluster_by: ...}; short: the columns
 * themselves, {player_id: STRING REQUIRED, score: FLOAT64}. fields is such a map too, or a list of {name, type, mode} or "name:TYPE MODE".
 */
static const char *const long_keys[] = {"fields", "partition_by", "cluster_by"};

static bool is_long(struct yaml *create)
{
    for (size_t i = 0; i < ARRAY_LEN(long_keys); i++)
        if (yaml_get(create, long_keys[i]) != NULL)
            return true;
    return false;
}

/* One column as schema_parse takes it; a mistake in it is told at its own place. NULL with err. */
static doc *column_doc(const struct yaml *name, struct yaml *value, struct error *err)
{
    static const char *const keys[] = {"name",  "type",         "mode",        "fields",           "description", "maxLength",
                                       "precision", "scale", "defaultValueExpression", "rangeElementType"};
    AUTO(doc_free_auto) doc *column = NULL;
    if (name != NULL) {
        if (value->type != YAML_SCALAR || yaml_is_null(value)) {
            yaml_error(value, err, "write.create: the type of column \"%s\" belongs here, e.g. STRING or INT64 REQUIRED", name->value);
            return NULL;
        }
        AUTO(free_ptr) char *text = xasprintf("%s:%s", name->value, value->value);
        column = doc_string(text);
    } else {
        if (value->type == YAML_MAP && yaml_only(value, keys, ARRAY_LEN(keys), err) != 0)
            return NULL;
        if (value->type == YAML_LIST || yaml_is_null(value)) {
            yaml_error(value, err, "write.create: a column belongs here: {name: N, type: T, mode: M}");
            return NULL;
        }
        column = yaml_to_doc(value);
    }
    AUTO(doc_free_auto) doc *alone = doc_set(doc_object(), "fields", doc_add(doc_array(), doc_ref(column)));
    AUTO(schema_free_auto) struct schema *schema = schema_parse(alone, err);
    if (schema == NULL) {
        spec_at(name != NULL ? name : value, "write.create", err);
        return NULL;
    }
    return doc_ref(column);
}

static struct schema *read_fields(struct yaml *fields, struct error *err)
{
    if (fields->type == YAML_SCALAR) {
        AUTO(doc_free_auto) doc *text = doc_set_str(doc_object(), "fields", fields->value);
        struct schema *schema = schema_parse(text, err);
        if (schema == NULL)
            spec_at(fields, "write.create", err);
        return schema;
    }
    AUTO(doc_free_auto) doc *all = doc_array();
    for (size_t i = 0; i < fields->count; i++) {
        doc *column = column_doc(fields->type == YAML_MAP ? fields->keys[i] : NULL, fields->items[i], err);
        if (column == NULL)
            return NULL;
        doc_add(all, column);
    }
    AUTO(doc_free_auto) doc *whole = doc_set(doc_object(), "fields", doc_ref(all));
    struct schema *schema = schema_parse(whole, err);
    if (schema == NULL)
        spec_at(fields, "write.create", err);
    return schema;
}

static const struct field *partition_field(const struct schema *schema, const struct yaml *at, const char *name, struct error *err)
{
    const struct field *f = schema_find(schema, name);
    if (f == NULL) {
        yaml_error(at, err, "write.create.partition_by: there is no column \"%s\" in fields", name);
        return NULL;
    }
    bool fits = f->type == FIELD_DATE || f->type == FIELD_TIMESTAMP || f->type == FIELD_DATETIME || f->type == FIELD_INT64;
    if (fits && f->mode != MODE_REPEATED)
        return f;
    yaml_error(at, err, "write.create.partition_by: column \"%s\" is no DATE, TIMESTAMP, DATETIME or INT64", name);
    return NULL;
}

static doc *time_partitioning(const struct field *f, const char *by)
{
    doc *inner = doc_set_str(doc_set_str(doc_object(), "type", by), "field", f->name);
    return doc_set(doc_object(), "timePartitioning", inner);
}

static doc *range_partitioning(const struct field *f, struct yaml *at, struct error *err)
{
    int64_t start = 0, end = 0, interval = 0;
    if (spec_require(at, "write.create.partition_by", "end", "an INT64 column is partitioned by start, end (not included) and interval", err) != 0 ||
        spec_require(at, "write.create.partition_by", "interval", "an INT64 column is partitioned by start, end and interval", err) != 0 ||
        yaml_want_int(at, "start", INT64_MIN, INT64_MAX, &start, err) != 0 || yaml_want_int(at, "end", INT64_MIN, INT64_MAX, &end, err) != 0 ||
        yaml_want_int(at, "interval", 1, INT64_MAX, &interval, err) != 0)
        return NULL;
    if (end <= start) {
        yaml_error(at, err, "write.create.partition_by: end is not above start");
        return NULL;
    }
    doc *range = doc_set_int_text(doc_set_int_text(doc_set_int_text(doc_object(), "start", start), "end", end), "interval", interval);
    return doc_set(doc_object(), "rangePartitioning", doc_set(doc_set_str(doc_object(), "field", f->name), "range", range));
}

/* partition_by: COLUMN, {column: C, by: DAY|HOUR|MONTH|YEAR}, or {column: C, start: 0, end: 100, interval: 10}. */
static int read_partitioning(struct spec *s, const struct schema *schema, struct yaml *at, struct error *err)
{
    static const char *const keys[] = {"column", "by", "start", "end", "interval"};
    static const char *const units[] = {"DAY", "HOUR", "MONTH", "YEAR"};
    AUTO(free_ptr) char *name = NULL;
    int unit = 0;
    if (at->type == YAML_SCALAR)
        name = xstrdup(at->value);
    else if (yaml_only(at, keys, ARRAY_LEN(keys), err) != 0 ||
             spec_require(at, "write.create.partition_by", "column", "name the column", err) != 0 ||
             yaml_want_str(at, "column", &name, err) != 0 || yaml_want_enum(at, "by", units, ARRAY_LEN(units), &unit, err) != 0)
        return -1;
    const struct field *f = partition_field(schema, at, name, err);
    if (f == NULL)
        return -1;
    if (f->type == FIELD_INT64 && at->type == YAML_SCALAR)
        return yaml_error(at, err, "write.create.partition_by: an INT64 column needs {column: %s, start: S, end: E, interval: I}", name);
    if (f->type == FIELD_INT64 && yaml_get(at, "by") != NULL)
        return yaml_error(yaml_get(at, "by"), err, "write.create.partition_by: by is for columns of time; an INT64 has start, end and interval");
    if (f->type == FIELD_DATE && unit == 1)
        return yaml_error(yaml_get(at, "by"), err, "write.create.partition_by: a DATE has no hours");
    s->write.create_partitioning = f->type == FIELD_INT64 ? range_partitioning(f, at, err) : time_partitioning(f, units[unit]);
    return s->write.create_partitioning != NULL ? 0 : -1;
}

int spec_read_create(struct spec *s, struct yaml *create, struct error *err)
{
    if (yaml_is_null(create))
        return 0;
    struct yaml *fields = create;
    if (create->type == YAML_MAP && is_long(create)) {
        if (yaml_only(create, long_keys, ARRAY_LEN(long_keys), err) != 0 ||
            spec_require(create, "write.create", "fields", "give the columns, e.g. fields: {id: STRING REQUIRED, score: FLOAT64}", err) != 0)
            return -1;
        fields = yaml_get(create, "fields");
    }
    AUTO(schema_free_auto) struct schema *schema = read_fields(fields, err);
    if (schema == NULL)
        return -1;
    s->write.create = schema_to_doc(schema);
    if (fields == create)
        return 0;
    struct yaml *by = yaml_get(create, "partition_by"), *cluster = yaml_get(create, "cluster_by");
    if (!yaml_is_null(by) && read_partitioning(s, schema, by, err) != 0)
        return -1;
    if (yaml_want_str(create, "cluster_by", &s->write.create_cluster, err) != 0)
        return -1;
    if (s->write.create_cluster != NULL && schema_find(schema, s->write.create_cluster) == NULL)
        return yaml_error(cluster, err, "write.create.cluster_by: there is no column \"%s\" in fields", s->write.create_cluster);
    return 0;
}
