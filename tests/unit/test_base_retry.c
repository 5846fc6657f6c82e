#include "common/base/metrics.h"
#include "common/base/retry.h"

#include <setjmp.h>
#include <cmocka.h>

static void delays_keep_their_promises_whatever_the_numbers(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 11);
    for (int round = 0; round < 200000; round++) {
        struct retry_policy p = {.base_ms = (int64_t)rnd_below(&rnd, 5000), .cap_ms = (int64_t)rnd_below(&rnd, 100000),
                                 .max_tries = (int)rnd_below(&rnd, 6), .budget_ms = (int64_t)rnd_below(&rnd, 3) * 30000};
        if (rnd_below(&rnd, 50) == 0)
            p.base_ms = p.cap_ms = INT64_MAX;
        struct error err = {.kind = (enum error_kind)rnd_below(&rnd, ERR_USAGE + 1)};
        err.retry_after_ms = rnd_below(&rnd, 2) ? (int64_t)rnd_below(&rnd, 60000) : 0;
        int failures = 1 + (int)rnd_below(&rnd, 100);
        int64_t elapsed = (int64_t)rnd_below(&rnd, 90000);
        int64_t delay = retry_delay(&p, failures, elapsed, &err, rnd_real(&rnd));
        bool may = err.kind == ERR_RETRY || (err.kind == ERR_QUOTA && err.retry_after_ms > 0);
        bool tries_left = p.max_tries == 0 || failures < p.max_tries;
        bool time_left = p.budget_ms == 0 || (elapsed < p.budget_ms && elapsed + err.retry_after_ms <= p.budget_ms);
        assert_int_equal(delay >= 0, may && tries_left && time_left);
        if (delay < 0)
            continue;
        assert_true(delay >= err.retry_after_ms);
        assert_true(delay - err.retry_after_ms <= p.cap_ms);
        assert_true(p.budget_ms == 0 || elapsed + delay <= p.budget_ms);
    }
}

static void the_jitter_fills_a_width_that_doubles_to_its_cap(void **state)
{
    (void)state;
    const struct retry_policy p = {.base_ms = 100, .cap_ms = 1000};
    const struct error err = {.kind = ERR_RETRY};
    const int64_t widths[] = {200, 400, 800, 1000, 1000};
    for (int failures = 1; failures <= 5; failures++) {
        assert_int_equal(retry_delay(&p, failures, 0, &err, 0), 0);
        assert_int_equal(retry_delay(&p, failures, 0, &err, 0.5), widths[failures - 1] / 2);
        assert_in_range(retry_delay(&p, failures, 0, &err, 0.9999999), widths[failures - 1] - 1, widths[failures - 1]);
    }
}

static void metrics_are_printed_from_their_rows(void **state)
{
    (void)state;
    struct metrics m = {{0}};
    metric_add(&m, METRIC_ROWS, 3);
    metric_add(&m, METRIC_ROWS, 4);
    metric_set(&m, METRIC_BUFFER_BYTES, 5);
    metric_add(NULL, METRIC_ROWS, 1);
    AUTO(free_ptr) char *table = metrics_table(&m);
    assert_string_equal(table, "rows_total 7\nbuffer_bytes 5\n");
    AUTO(free_ptr) char *text = metrics_text(&m);
    assert_non_null(strstr(text, "# HELP bqfleet_rows_total Rows taken from handlers.\n# TYPE bqfleet_rows_total counter\nbqfleet_rows_total 7\n"));
    assert_non_null(strstr(text, "# TYPE bqfleet_buffer_bytes gauge\nbqfleet_buffer_bytes 5\n"));
    assert_non_null(strstr(text, "bqfleet_loads_total 0\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_keep_their_promises_whatever_the_numbers),
        cmocka_unit_test(the_jitter_fills_a_width_that_doubles_to_its_cap),
        cmocka_unit_test(metrics_are_printed_from_their_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
