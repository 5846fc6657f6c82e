#ifndef BQF_BASE_SCHEMA_H
#define BQF_BASE_SCHEMA_H

#include "common/base/doc.h"

/* A table's schema as tables.get gives it. Column names are case-insensitive. */
enum field_type {
    FIELD_STRING, FIELD_BYTES, FIELD_INT64, FIELD_FLOAT64, FIELD_BOOL, FIELD_NUMERIC, FIELD_BIGNUMERIC, FIELD_DATE, FIELD_DATETIME,
    FIELD_TIME, FIELD_TIMESTAMP, FIELD_JSON, FIELD_GEOGRAPHY, FIELD_INTERVAL, FIELD_RANGE, FIELD_STRUCT
};
enum field_mode { MODE_NULLABLE, MODE_REQUIRED, MODE_REPEATED };

struct field {
    char *name;
    enum field_type type;
    enum field_mode mode;
    int64_t max_length;        /* STRING characters, BYTES bytes; 0: none */
    int64_t precision, scale;  /* NUMERIC, BIGNUMERIC; 0: the type's own */
    enum field_type range_of;  /* FIELD_RANGE: DATE, DATETIME or TIMESTAMP */
    struct field *fields;      /* FIELD_STRUCT */
    size_t count;
    bool has_default;          /* defaultValueExpression: an omitted REQUIRED value is allowed */
    char *default_value;       /* the expression itself, SQL; NULL without one */
};

struct schema {
    struct field *fields;
    size_t count;
};

/* From {"fields":[...]} of the REST API. Legacy names (INTEGER, FLOAT, BOOLEAN, RECORD) are understood. The fields may also be written
 * short, as write.create's may: {"fields":["a:STRING REQUIRED","b:NUMERIC(10,2)"]} or {"fields":"a:STRING REQUIRED, b:INT64"}; and the
 * value of "fields" alone is understood too. NULL with ERR_FATAL. */
struct schema *schema_parse(const doc *, struct error *);
doc *schema_to_doc(const struct schema *); /* {"fields":[...]}: enough to create a table alike */
void schema_free(struct schema *);
DEFINE_AUTO(schema_free, struct schema *)
const struct field *schema_find(const struct schema *, const char *name); /* top level; NULL when absent */
const char *field_type_name(enum field_type);                             /* as in SQL: "INT64" */
/* The type in SQL, with ARRAY<> and STRUCT<>: "ARRAY<STRUCT<`a` INT64>>". Caller frees. */
char *field_sql_type(const struct field *);

#endif
