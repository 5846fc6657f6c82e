#include <libgen.h>
#include <unistd.h>

#include "tests/unit/support_worker.h"

/* The same worker on a real loop with real processes: handler_demo.c and a shell. */

static char demo[4096];

static void find_demo(void)
{
    char self[3072];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(demo, sizeof(demo), "%s/handler_demo", dirname(self));
}

static void set_argv(struct kit *k, const char *const *argv)
{
    struct handler_def *d = &k->defs.v[0];
    strv_free(d->argv);
    size_t n = 0;
    while (argv[n] != NULL)
        n++;
    d->argv = xcalloc(n + 1, sizeof(*d->argv));
    for (size_t i = 0; i < n; i++)
        d->argv[i] = xstrdup(argv[i]);
}

static void run(struct kit *k, enum handler_kind kind, const char *const *argv, int64_t timeout_ms, int64_t window, int items)
{
    kit_open_real(k, kind);
    set_argv(k, argv);
    k->defs.v[0].window = window;
    struct record *r = kit_record(k);
    r->timeout_ms = timeout_ms;
    r->attempts = 2;
    kit_run(k, r);
    kit_publish(k, items);
    kit_start(k);
    assert_true(kit_wait(k, all_done, 60));
    assert_true(kit_wait(k, all_committed, 10));
}

static void a_thousand_items_through_real_pipes(void **state)
{
    (void)state;
    struct kit k;
    run(&k, HANDLER_EXEC, (const char *const[]){demo, "rows", "3", NULL}, 30000, 8, 1000);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 3000);
    kit_drain(&k, 5000);
    kit_close(&k);
}

static void a_real_crash_and_a_real_hang(void **state)
{
    (void)state;
    struct kit k;
    run(&k, HANDLER_EXEC, (const char *const[]){demo, "crash", "k5", NULL}, 30000, 2, 40);
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(k.fold->failures[0].reason, "crash");
    assert_non_null(strstr(k.fold->failures[0].text, "dies as it was told to"));
    assert_int_equal(kit_rows(&k), 39);
    kit_close(&k);
    run(&k, HANDLER_EXEC, (const char *const[]){demo, "hang", "k7", NULL}, 300, 1, 40);
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(k.fold->failures[0].reason, "timeout");
    assert_int_equal(kit_rows(&k), 39);
    kit_close(&k);
}

static void a_shell_command_for_each_item(void **state)
{
    (void)state;
    static const char script[] = "read -r payload; case $0 in k3) echo broken >&2; exit 3;; esac; echo progress; printf '{\"k\":\"%s\",\"v\":%d}\\n' \"$0\" 1";
    struct kit k;
    run(&k, HANDLER_COMMAND, (const char *const[]){"sh", "-c", script, "{key}", NULL}, 30000, 1, 12);
    assert_int_equal(k.fold->failed, 1);
    assert_non_null(strstr(k.fold->failures[0].text, "broken"));
    assert_int_equal(kit_rows(&k), 11);
    kit_close(&k);
}

int main(void)
{
    find_demo();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_items_through_real_pipes),
        cmocka_unit_test(a_real_crash_and_a_real_hang),
        cmocka_unit_test(a_shell_command_for_each_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
