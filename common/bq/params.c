#include "common/bq/job.h"

/* Query parameters as the REST API takes them: {"name", "parameterType", "parameterValue"}, values always as text. */

doc *bq_params(void)
{
    return doc_array();
}

static doc *scalar_type(const char *type)
{
    return doc_set_str(doc_object(), "type", type);
}

static doc *scalar_value(const char *value)
{
    return doc_set(doc_object(), "value", value ? doc_string(value) : doc_null());
}

static doc *append(doc *params, const char *name, doc *type, doc *value)
{
    doc *param = doc_set_str(doc_object(), "name", name);
    doc_set(param, "parameterType", type);
    doc_set(param, "parameterValue", value);
    return doc_add(params, param);
}

static doc *array_type(doc *element)
{
    return doc_set(doc_set_str(doc_object(), "type", "ARRAY"), "arrayType", element);
}

doc *bq_param(doc *params, const char *name, const char *type, const char *value)
{
    return append(params, name, scalar_type(type), scalar_value(value));
}

doc *bq_param_int(doc *params, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return bq_param(params, name, "INT64", text);
}

doc *bq_param_array(doc *params, const char *name, const char *type, const char *const *values, size_t count)
{
    doc *elements = doc_array();
    for (size_t i = 0; i < count; i++)
        doc_add(elements, scalar_value(values[i]));
    return append(params, name, array_type(scalar_type(type)), doc_set(doc_object(), "arrayValues", elements));
}

doc *bq_param_structs(doc *params, const char *name, const char *const *fields, const char *const *types, size_t field_count,
                      const char *const *values, size_t count)
{
    doc *members = doc_array(), *elements = doc_array();
    for (size_t f = 0; f < field_count; f++)
        doc_add(members, doc_set(doc_set_str(doc_object(), "name", fields[f]), "type", scalar_type(types[f])));
    for (size_t i = 0; i < count; i++) {
        doc *row = doc_object();
        for (size_t f = 0; f < field_count; f++)
            doc_set(row, fields[f], scalar_value(values[i * field_count + f]));
        doc_add(elements, doc_set(doc_object(), "structValues", row));
    }
    doc *element = doc_set(doc_set_str(doc_object(), "type", "STRUCT"), "structTypes", members);
    return append(params, name, array_type(element), doc_set(doc_object(), "arrayValues", elements));
}
