#include "tests/unit/support_query.h"

void query_open(struct kit *k, const char *sql, int64_t window)
{
    kit_open(k, HANDLER_QUERY);
    k->defs.v[0].sql = xstrdup(sql);
    k->defs.v[0].window = window;
    k->options.parallel = 2;
}

void query_begin(struct kit *k, int items)
{
    kit_run(k, kit_record(k));
    kit_publish(k, items);
    kit_start(k);
}

bool query_fatal(struct kit *k)
{
    return k->fatal[0] != '\0';
}

int64_t query_jobs(struct kit *k, const char *beginning)
{
    int64_t n = 0;
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k->model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        n += strncmp(doc_str(doc_at(jobs, i), "jobReference.jobId", ""), beginning, strlen(beginning)) == 0;
    return n;
}

static const struct fold_load *accepted(const struct fold *f, const char *id)
{
    for (size_t i = 0; i < f->load_count; i++)
        if (strcmp(f->loads[i].id, id) == 0 && f->loads[i].cut != LOAD_UNNEEDED)
            return &f->loads[i];
    return NULL;
}

static bool excluded(const struct fold *f, const struct fold_load *l, int64_t item)
{
    for (size_t i = 0; i < l->exclusion_count; i++)
        if (f->exclusions[l->first_exclusion + i].item == item)
            return true;
    return false;
}

struct numbered { int64_t item, number; const char *load; };

static void count_row(struct kit *k, const doc *row, int64_t *found, int64_t *values, int64_t *rows, int64_t *numbers)
{
    const struct fold_load *l = accepted(k->fold, doc_str(row, "bqfleet_load", ""));
    int64_t item = doc_int(row, "bqfleet_item", -1), number = doc_int(row, "bqfleet_row", -1);
    if (l == NULL)
        return;
    found[l - k->fold->loads]++;
    assert_true(item >= 0 && item < k->next_item);
    if (excluded(k->fold, l, item))
        return;
    assert_true(number >= 0 && number < 62);
    assert_int_equal(numbers[item] >> number & 1, 0);
    numbers[item] |= INT64_C(1) << number;
    values[item] += doc_int(row, "v", 0);
    rows[item]++;
}

void query_written(struct kit *k, int64_t *values, int64_t *rows)
{
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k->model);
    AUTO(free_ptr) int64_t *found = xcalloc(k->fold->load_count + 1, sizeof(*found)), *numbers = xcalloc((size_t)k->next_item + 1, sizeof(*numbers));
    for (size_t t = 0; t < doc_len(tables); t++) {
        AUTO(doc_free_auto) doc *list = bqmodel_rows(k->model, doc_str(doc_at(tables, t), NULL, ""));
        for (size_t i = 0; i < doc_len(list); i++)
            count_row(k, doc_at(list, i), found, values, rows, numbers);
    }
    for (size_t i = 0; i < k->fold->load_count; i++)
        if (k->fold->loads[i].cut != LOAD_UNNEEDED)
            assert_int_equal(found[i], k->fold->loads[i].rows);
}

void query_assert_numbers(struct kit *k, int64_t count)
{
    AUTO(free_ptr) int64_t *values = xcalloc((size_t)k->next_item + 1, sizeof(*values)), *rows = xcalloc((size_t)k->next_item + 1, sizeof(*rows));
    query_written(k, values, rows);
    for (int64_t i = 0; i < count; i++) {
        bool failed = fold_is_failed(k->fold, i);
        assert_int_equal(rows[i], failed ? 0 : 1);
        assert_int_equal(values[i], failed ? 0 : i);
    }
    assert_null(bqmodel_unknown_statement(k->model));
}
