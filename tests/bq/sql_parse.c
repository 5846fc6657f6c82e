#include "tests/bq/sql_dedupe.h"

#include "common/bq/sql.h"

/*
 * The statements the product emits, and no others: every word must be as written here, and what is captured (tables, columns, types, keys, order)
 * must agree wherever it is repeated. So a change of the product's SQL is a change here, made by somebody who has thought about its meaning.
 */

/* The same list as was captured before. */
static bool columns_again(struct parser *in, const char *prefix)
{
    const struct names *want = &in->s->columns;
    for (size_t i = 0; i < want->count; i++)
        if (!is(in, i ? ", " : "") || !is(in, prefix) || !is_fmt(in, "`%s`", want->at[i]))
            return false;
    return true;
}

/* Captured the first time, wanted again afterwards. */
bool parse_columns(struct parser *in, const char *prefix)
{
    return in->s->columns.count > 0 ? columns_again(in, prefix) : column_list(in, prefix, &in->s->columns);
}

/* A type ends where its brackets are closed. */
static bool column_nulls(struct parser *in)
{
    struct names found = {0};
    bool good = true;
    do {
        good = is(in, "CAST(NULL AS ");
        const char *begin = in->p;
        for (int depth = 0; good && *in->p && !(depth == 0 && *in->p == ')'); in->p++)
            depth += (*in->p == '<') - (*in->p == '>');
        names_add(&found, begin, (size_t)(in->p - begin));
        good = good && is(in, ")");
    } while (good && is(in, ", "));
    if (in->s->types.count == 0) {
        in->s->types = found;
        return good && found.count == in->s->columns.count + (in->s->folds ? 3 : 0);
    }
    good = good && names_equal(&found, &in->s->types);
    names_free(&found);
    return good;
}

bool parse_nulls(struct parser *in)
{
    return (in->s->parts == NULL || in->s->dedupe != NULL || is(in, "CAST(NULL AS STRING), ")) && column_nulls(in);
}

/* --- order ----------------------------------------------------------------------------------------------------------------------------------- */

static void term_text(const struct term *t, const char *side, char *out, size_t size)
{
    if (t->form == TERM_PLAIN)
        snprintf(out, size, "%s.`%s`", side, t->column);
    else if (t->form == TERM_NOT_NAN)
        snprintf(out, size, "(NOT IS_NAN(%s.`%s`))", side, t->column);
    else
        snprintf(out, size, "IF(IS_NAN(%s.`%s`), NULL, %s.`%s`)", side, t->column, side, t->column);
}

bool parse_term(struct parser *in)
{
    struct parser at = *in;
    struct term t = {.form = TERM_PLAIN};
    const char *name = NULL;
    size_t len = 0;
    if (is(&at, "(NOT IS_NAN("))
        t.form = TERM_NOT_NAN;
    else if (is(&at, "IF(IS_NAN("))
        t.form = TERM_NUMBER;
    if (!is(&at, "bqfleet_r.") || !quoted(&at, &name, &len))
        return false;
    t.column = xstrndup(name, len);
    char text[1400];
    term_text(&t, "bqfleet_r", text, sizeof(text));
    struct stmt *s = in->s;
    s->order = xreallocarray(s->order, s->order_count + 1, sizeof(*s->order));
    s->order[s->order_count++] = t;
    return is(in, text) && is(in, " DESC NULLS LAST, ");
}

/* , IF(r.a IS NULL OR r.b IS NULL, r.bqfleet_X, NULL) for each of the three that say which row it is. */
static bool apart(struct parser *in)
{
    static const char *const own[] = {"bqfleet_load", "bqfleet_item", "bqfleet_row"};
    if (strncmp(in->p, ", IF(", 5) != 0)
        return true;
    for (size_t k = 0; k < ARRAY_LEN(own); k++) {
        struct names found = {0};
        bool good = is(in, ", IF(");
        do {
            const char *name = NULL;
            size_t len = 0;
            good = good && is(in, "bqfleet_r.") && quoted(in, &name, &len) && is(in, " IS NULL");
            if (good)
                names_add(&found, name, len);
        } while (good && is(in, " OR "));
        if (k == 0)
            in->s->apart = found;
        good = good && names_equal(&found, &in->s->apart) && is_fmt(in, ", bqfleet_r.%s, NULL)", own[k]);
        if (k > 0)
            names_free(&found);
        if (!good)
            return false;
    }
    return true;
}

static bool rank(struct parser *in)
{
    if (!is(in, "PARTITION BY ") || !column_list(in, "bqfleet_r.", &in->s->keys) || !apart(in) || !is(in, " ORDER BY "))
        return false;
    const char *age = in->s->ages ? "bqfleet_r.bqfleet_age DESC, " : "";
    while (!is_fmt(in, "%sbqfleet_r.bqfleet_item DESC, bqfleet_r.bqfleet_row DESC) AS bqfleet_rank", age))
        if (!parse_term(in))
            return false;
    return true;
}

/* The source's row ranks no lower than the target's, term by term. */
static bool guard(struct parser *in, size_t i)
{
    const struct stmt *s = in->s;
    char a[1400], b[1400];
    term_text(&s->order[i], "bqfleet_s", a, sizeof(a));
    term_text(&s->order[i], "bqfleet_t", b, sizeof(b));
    if (i + 1 == s->order_count)
        return is_fmt(in, "COALESCE(%s >= %s, ", a, b) && is_fmt(in, "%s IS NULL)", b);
    return is_fmt(in, "(COALESCE(%s > %s, ", a, b) && is_fmt(in, "%s IS NOT NULL AND ", a) && is_fmt(in, "%s IS NULL) OR (", b) &&
           is_fmt(in, "%s IS NOT DISTINCT FROM ", a) && is_fmt(in, "%s AND ", b) && guard(in, i + 1) && is(in, "))");
}

/* --- the source ------------------------------------------------------------------------------------------------------------------------------ */

static bool loads(struct parser *in)
{
    if (!is(in, "  WITH\n    bqfleet_loads AS (SELECT "))
        return false;
    if (is(in, "L.load, L.rows AS wanted FROM UNNEST(@loads) AS L),\n"))
        return true;
    in->s->by_side = true;
    return is(in, "L.load, L.number AS wanted FROM ") && ref(in, &in->s->side) && is(in, " AS L WHERE L.kind = 'load'),\n");
}

/* The load's name as the statement knows it: with the shard's age before it, in all of them or in none. */
static bool load_name(struct parser *in)
{
    struct stmt *s = in->s;
    size_t i = s->shard_count;
    if (is(in, "bqfleet_load FROM "))
        return s->ages == NULL;
    if (!is(in, "CONCAT('") || (i > 0 && s->ages == NULL))
        return false;
    s->ages = xreallocarray(s->ages, i + 1, sizeof(*s->ages));
    char *end = NULL;
    s->ages[i] = (int)strtol(in->p, &end, 10);
    bool digits = end > in->p && *in->p >= '0' && *in->p <= '9';
    in->p = end;
    return digits && is_fmt(in, "/', bqfleet_load) AS bqfleet_load, %d AS bqfleet_age FROM ", s->ages[i]);
}

/* The rows of a base, behind its columns: the last of the branches. */
static bool base(struct parser *in)
{
    struct stmt *s = in->s;
    return is(in, ", -1 AS bqfleet_item, -1 AS bqfleet_row, '' AS bqfleet_load") && (s->ages == NULL || is(in, ", -1 AS bqfleet_age")) && is(in, " FROM ") &&
           ref(in, &s->base) && is(in, "\n") && (s->has_base = true);
}

static bool staged(struct parser *in)
{
    struct stmt *s = in->s;
    if (!is(in, "    bqfleet_staged AS (\n"))
        return false;
    while (is(in, s->shard_count ? "      UNION ALL SELECT " : "      SELECT ")) {
        struct parser ahead = *in;
        s->shards = xreallocarray(s->shards, s->shard_count + 1, sizeof(*s->shards));
        if (!s->folds && s->shard_count > 0 && parse_columns(&ahead, "") && base(&ahead)) {
            in->p = ahead.p;
            break;
        }
        bool all = s->folds ? is(in, "* FROM ") : parse_columns(in, "") && is(in, ", bqfleet_item, bqfleet_row, ") && load_name(in);
        if (!all || !ref(in, &s->shards[s->shard_count++]) || !is(in, "\n"))
            return false;
    }
    return s->shard_count > 0 &&
           is(in, "    ),\n"
                  "    bqfleet_found AS (SELECT bqfleet_load AS load, COUNT(*) AS found FROM bqfleet_staged GROUP BY bqfleet_load)") &&
           (s->folds || is(in, ",\n"));
}

/* The partitions that the rows come to, if whole ones are replaced; as far as the columns of the rows. */
static bool parts(struct parser *in)
{
    if (!is(in, ",\n    bqfleet_parts AS (\n      SELECT DISTINCT "))
        return is(in, "\n  SELECT ");
    return part_id(in, "bqfleet_r") && is(in, " AS part\n      FROM bqfleet_rows AS bqfleet_r") &&
           (in->s->keys.count == 0 || is(in, " WHERE bqfleet_r.bqfleet_rank = 1")) && is(in, "\n    )\n  SELECT CAST(NULL AS STRING) AS bqfleet_part, ");
}

static bool accepted(struct parser *in)
{
    struct stmt *s = in->s;
    if (!is(in, "    bqfleet_rows AS (\n      SELECT bqfleet_r.*") || (is(in, ", ROW_NUMBER() OVER (") && !rank(in)) ||
        !is(in, "\n      FROM bqfleet_staged AS bqfleet_r\n"))
        return false;
    if (is(in, "      LEFT JOIN ")) {
        s->exclusions = true;
        bool good = s->by_side ? is(in, "(SELECT D.load, D.number AS item FROM ") && same_ref(in, &s->side) &&
                                     is(in, " AS D WHERE D.kind = 'exclusion') AS bqfleet_x")
                               : is(in, "UNNEST(@exclusions) AS bqfleet_x");
        if (!good || !is(in, " ON bqfleet_x.load = bqfleet_r.bqfleet_load AND bqfleet_x.item = bqfleet_r.bqfleet_item\n"))
            return false;
    }
    return is(in, s->has_base ? "      WHERE (bqfleet_r.bqfleet_item < 0 OR " : "      WHERE ") &&
           is(in, "bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)") && (!s->has_base || is(in, ")")) &&
           (!s->exclusions || is(in, " AND bqfleet_x.load IS NULL")) && is(in, "\n    )") && parts(in) && parse_columns(in, "bqfleet_r.") &&
           is(in, "\n  FROM bqfleet_rows AS bqfleet_r") && (s->keys.count == 0 || is(in, " WHERE bqfleet_r.bqfleet_rank = 1")) && is(in, "\n");
}

static bool literal(struct parser *in, char **out)
{
    if (!is(in, "'"))
        return false;
    struct buf b = BUF_INIT(1024 * 1024);
    for (; *in->p && *in->p != '\''; in->p++) {
        if (*in->p == '\\' && (in->p[1] == '\'' || in->p[1] == '\\'))
            in->p++;
        buf_xadd(&b, in->p, 1);
    }
    *out = b.len ? buf_steal(&b) : xstrdup("");
    buf_free(&b);
    return is(in, "'");
}

bool parse_fence(struct parser *in)
{
    struct fence *f = &in->s->fence;
    f->present = true;
    return is(in, "EXISTS (SELECT 1 FROM ") && ref(in, &f->table) &&
           is(in, " WHERE slot = @permit_slot AND token = @permit_token AND expires > CURRENT_TIMESTAMP())");
}

#define BRANCH "  UNION ALL\n  SELECT "
#define LOAD_CHECK "\n  FROM bqfleet_loads AS L LEFT JOIN bqfleet_found AS F ON F.load = L.load\n" \
                   "  WHERE IF(IFNULL(F.found, 0) = L.wanted, FALSE, ERROR(CONCAT('bqfleet: load ', L.load, ' has ', " \
                   "CAST(IFNULL(F.found, 0) AS STRING), ' staged rows instead of ', CAST(L.wanted AS STRING))))\n"
static bool checks(struct parser *in)
{
    const struct stmt *s = in->s;
    if (s->parts != NULL &&
        !(is(in, BRANCH "bqfleet_p.part, ") && column_nulls(in) && is(in, "\n  FROM bqfleet_parts AS bqfleet_p\n" BRANCH) && parse_nulls(in) &&
          is(in, "\n  FROM (SELECT COUNT(*) AS parts FROM bqfleet_parts) AS C\n  WHERE IF(C.parts <= 4000, FALSE, ERROR(CONCAT('bqfleet: the rows lie in ', "
                 "CAST(C.parts AS STRING), ' partitions; one job may change 4000')))\n")))
        return false;
    if (!is(in, BRANCH) || !parse_nulls(in) || !is(in, LOAD_CHECK))
        return false;
    if (s->by_side &&
        !(is(in, BRANCH) && parse_nulls(in) &&
          is(in, "\n  FROM (SELECT COUNTIF(D.kind = 'load') AS loads, COUNTIF(D.kind = 'exclusion') AS exclusions, "
                 "IFNULL(SUM(D.number), 0) AS total FROM ") &&
          same_ref(in, &s->side) &&
          is(in, " AS D) AS C\n"
                 "  WHERE IF(C.loads = @side_loads AND C.exclusions = @side_exclusions AND C.total = @side_total, FALSE, "
                 "ERROR(CONCAT('bqfleet: the side table lists ', CAST(C.loads AS STRING), ' loads and ', "
                 "CAST(C.exclusions AS STRING), ' exclusions, not what was written')))\n")))
        return false;
    if (!is(in, BRANCH))
        return true;
    return parse_nulls(in) && is(in, "\n  FROM UNNEST([1]) AS bqfleet_one\n  WHERE IF(") && parse_fence(in) &&
           is(in, ", FALSE, ERROR(CONCAT('bqfleet: the permit is lost', CAST(bqfleet_one AS STRING))))\n");
}

static bool source(struct parser *in)
{
    return loads(in) && staged(in) && accepted(in) && checks(in) && is(in, ") AS bqfleet_s");
}

/* --- the statements -------------------------------------------------------------------------------------------------------------------------- */

/* [(]t.p BETWEEN ... [OR t.p IS NULL)], or t.p IS NULL: the last of the conditions. */
static bool partitions(struct parser *in)
{
    struct stmt *s = in->s;
    const char *name = NULL;
    size_t len = 0;
    bool both = is(in, "(");
    if (!is(in, "bqfleet_t.") || !quoted(in, &name, &len))
        return false;
    s->part_column = xstrndup(name, len);
    s->part_range = is(in, " BETWEEN @part_lo AND @part_hi");
    s->part_null = both ? s->part_range && is(in, " OR ") && is_fmt(in, "bqfleet_t.`%s` IS NULL)", s->part_column) : !s->part_range && is(in, " IS NULL");
    return both ? s->part_null : s->part_range || s->part_null;
}

/* t.a = s.a, or (t.a = s.a OR (t.a IS NULL AND s.a IS NULL)). Nothing is passed when it is neither. */
static bool matched(struct parser *in)
{
    struct parser at = *in;
    const char *name = NULL;
    size_t len = 0;
    bool safe = is(&at, "(");
    if (!is(&at, "bqfleet_t.") || !quoted(&at, &name, &len))
        return false;
    AUTO(free_ptr) char *column = xstrndup(name, len);
    if (!is_fmt(&at, " = bqfleet_s.`%s`", column) ||
        (safe && !is_fmt(&at, " OR (bqfleet_t.`%s` IS NULL AND bqfleet_s.`%s` IS NULL))", column, column)))
        return false;
    names_add(&in->s->on, name, len);
    if (safe)
        names_add(&in->s->safe, name, len);
    in->p = at.p;
    return true;
}

/* t.a = s.a AND ... [AND the partitions] */
static bool condition(struct parser *in)
{
    if (!matched(in))
        return false;
    while (is(in, " AND "))
        if (!matched(in))
            return partitions(in) && is(in, "\n");
    return is(in, "\n");
}

static bool update(struct parser *in)
{
    struct stmt *s = in->s;
    if (!is(in, "WHEN MATCHED"))
        return true;
    if (s->order_count > 0) { /* a row that ranks higher must stay */
        s->guarded = true;
        if (!is(in, " AND ") || !guard(in, 0))
            return false;
    }
    if (!is(in, " THEN\n  UPDATE SET "))
        return false;
    do {
        const char *name = NULL;
        size_t len = 0;
        if (!quoted(in, &name, &len))
            return false;
        names_add(&s->set, name, len);
        if (!is_fmt(in, " = bqfleet_s.`%s`", s->set.at[s->set.count - 1]))
            return false;
    } while (is(in, ", "));
    return is(in, "\n");
}

static bool replaced_parts(struct parser *in)
{
    return is(in, "bqfleet_s.bqfleet_part = ") && part_id(in, "bqfleet_t") && (!is(in, " AND ") || partitions(in)) &&
           is(in, "\nWHEN MATCHED THEN\n  DELETE\n");
}

static bool merge(struct parser *in)
{
    struct stmt *s = in->s;
    if (!ref(in, &s->target) || !is(in, " AS bqfleet_t\nUSING (\n") || !source(in) || !is(in, "\nON "))
        return false;
    bool replace = s->parts != NULL || is(in, "FALSE\nWHEN NOT MATCHED BY SOURCE THEN\n  DELETE\n");
    s->kind = replace ? STMT_REPLACE : STMT_MERGE;
    if (s->parts != NULL ? !replaced_parts(in) : !replace && (!condition(in) || !update(in)))
        return false;
    return is(in, s->parts != NULL ? "WHEN NOT MATCHED AND bqfleet_s.bqfleet_part IS NULL THEN\n  INSERT (" : "WHEN NOT MATCHED THEN\n  INSERT (") && parse_columns(in, "") && is(in, ")\n  VALUES (") && parse_columns(in, "bqfleet_s.") && is(in, ")");
}

/* After the columns of a shard that shards are folded into. */
static bool fold(struct parser *in)
{
    in->s->folds = true;
    return is(in, ")\nSELECT ") && parse_columns(in, "bqfleet_s.") && is(in, ", bqfleet_s.bqfleet_item, bqfleet_s.bqfleet_row, bqfleet_s.bqfleet_load\nFROM (\n") &&
           loads(in) && !in->s->by_side && staged(in) && is(in, "\n  SELECT ") && parse_columns(in, "bqfleet_r.") &&
           is(in, ", bqfleet_r.bqfleet_item, bqfleet_r.bqfleet_row, bqfleet_r.bqfleet_load\n  FROM bqfleet_staged AS bqfleet_r "
                  "WHERE bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)\n" BRANCH) &&
           parse_nulls(in) && strcmp(in->s->types.at[in->s->columns.count], "INT64") == 0 && strcmp(in->s->types.at[in->s->columns.count + 1], "INT64") == 0 &&
           strcmp(in->s->types.at[in->s->columns.count + 2], "STRING") == 0 && is(in, LOAD_CHECK ") AS bqfleet_s");
}

static bool insert(struct parser *in)
{
    in->s->kind = STMT_INSERT;
    if (!ref(in, &in->s->target) || !is(in, " (") || !parse_columns(in, ""))
        return false;
    if (is(in, ", bqfleet_item, bqfleet_row, bqfleet_load"))
        return fold(in);
    return is(in, ")\nSELECT ") && parse_columns(in, "bqfleet_s.") && is(in, "\nFROM (\n") && source(in);
}

static bool statement(struct parser *in)
{
    struct stmt *s = in->s;
    if (is(in, "MERGE INTO "))
        return merge(in);
    if (is(in, "INSERT INTO "))
        return insert(in);
    if (is(in, "DELETE FROM ")) {
        s->kind = STMT_EMPTY;
        if (!ref(in, &s->target))
            return false;
        if (is(in, "\nWHERE FALSE")) {
            s->kind = STMT_NOTHING;
            s->target = (struct bq_ref){0};
            return true;
        }
        return is(in, "\nWHERE ") &&
               (is(in, "TRUE") || (is(in, "IF(") && parse_fence(in) && is(in, ", TRUE, ERROR('bqfleet: the permit is lost'))")));
    }
    if (is(in, "UPDATE ")) {
        s->kind = STMT_UPDATE;
        bool good = ref(in, &s->target) && is(in, " SET ") && update_shape(in->p, &s->update);
        in->p += good ? strlen(in->p) : 0;
        return good;
    }
    if (is(in, "SELECT 'bqfleet: nothing to write'")) {
        s->kind = STMT_NOTHING;
        return true;
    }
    s->kind = STMT_ERROR;
    return is(in, "SELECT ERROR(") && literal(in, &s->error) && is(in, ")");
}

struct stmt *stmt_parse(const char *sql, const char **at)
{
    struct stmt *s = xcalloc(1, sizeof(*s));
    struct parser in = {sql, s};
    bool good = statement(&in) && *in.p == '\0';
    *at = in.p;
    if (good)
        return s;
    stmt_free(s);
    s = xcalloc(1, sizeof(*s));
    s->range = range_parse(sql);
    s->group = s->range ? NULL : stmt_group_parse(sql, &s->target, at);
    s->kind = s->target.table[0] ? STMT_GROUP : STMT_SELECT;
    if (s->group || s->range)
        return s;
    stmt_free(s);
    s = xcalloc(1, sizeof(*s));
    in = (struct parser){sql, s};
    if (dedupe_stmt_parse(&in))
        return s;
    *at = in.p > *at ? in.p : *at;
    stmt_free(s);
    return NULL;
}

struct stmt *stmt_parse_view(const char *sql, const char **at)
{
    struct stmt *s = xcalloc(1, sizeof(*s));
    struct parser in = {sql, s};
    s->kind = STMT_VIEW;
    bool plain = is(&in, "SELECT ");
    bool good = plain ? parse_columns(&in, "") && is(&in, "\nFROM ") && ref(&in, &s->base) : loads(&in) && s->by_side && staged(&in) && s->has_base && accepted(&in) && s->exclusions;
    s->has_base = true;
    *at = in.p;
    if (good && *in.p == '\0')
        return s;
    stmt_free(s);
    return NULL;
}
