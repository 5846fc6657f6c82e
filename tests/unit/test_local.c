#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "coordinator/local.h"
#include "tests/bq/bqmodel.h"

/* Runs in one process: the real loop, real children, the model of BigQuery on a socket in another process. */

static struct {
    char folder[64], url[64], spec[128];
    pid_t model;
    struct settings settings;
    struct command_env env;
} here;

static const char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

/* --- the model's process -------------------------------------------------------------------------------------------------------------------- */

static void serve_model(int port_to)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not longer than the test, however that ends */
    struct loop *loop = loop_new();
    struct bqmodel *m = bqmodel_new(loop, NULL);
    struct error err = ERROR_INIT;
    int port = bqmodel_serve(m, "127.0.0.1", 0, &err);
    bqmodel_add_table(m, "ds.t", "k:STRING REQUIRED, v:INT64");
    bqmodel_add_table(m, "ds.u", "k:STRING REQUIRED, v:INT64");
    if (write(port_to, &port, sizeof(port)) != (ssize_t)sizeof(port))
        _exit(1);
    loop_run(loop);
    _exit(0);
}

static int open_here(void **state)
{
    (void)state;
    int pipes[2], port = -1;
    snprintf(here.folder, sizeof(here.folder), "/tmp/test_local.XXXXXX");
    assert_non_null(mkdtemp(here.folder));
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    here.model = fork();
    if (here.model == 0)
        serve_model(pipes[1]);
    assert_int_equal(read(pipes[0], &port, sizeof(port)), sizeof(port));
    close(pipes[0]);
    close(pipes[1]);
    snprintf(here.url, sizeof(here.url), "http://127.0.0.1:%d", port);
    here.settings = (struct settings){.bigquery_url = here.url, .project = (char *)(uintptr_t)"local", .parallel = 3, .buffer = 1 << 24,
                                      .load_size = 1 << 20, .linger_ms = 20, .wait_ms = 10000, .requests = 8, .grace_ms = 1000,
                                      .progress = (char *)(uintptr_t)"none", .compress = (char *)(uintptr_t)"none", .output = (char *)(uintptr_t)"json", .limit = 3};
    here.env = (struct command_env){.settings = &here.settings, .env = no_environment};
    return 0;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s, (void)type, (void)ftw;
    return remove(path);
}

static int close_here(void **state)
{
    (void)state;
    kill(here.model, SIGKILL);
    waitpid(here.model, NULL, 0);
    return nftw(here.folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- specs, and what came of them --------------------------------------------------------------------------------------------------------------- */

static char *path_of(const char *name)
{
    static char path[2][128];
    static int at;
    at = !at;
    snprintf(path[at], sizeof(path[at]), "%s/%s", here.folder, name);
    return path[at];
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* One process an item; its key is $1, items "bad..." fail. */
static char *write_spec(const char *write, const char *more)
{
    write_file("handler.sh", "case $1 in bad*) echo no good >&2; exit 3;; slow*) sleep 30;; esac\n"
                             "echo \"{\\\"k\\\":\\\"$1\\\",\\\"v\\\":${#1}}\"\n");
    AUTO(free_ptr) char *text = xasprintf("batch: b\nitems: {file: items.ndjson, key: k}\njob: {handler: h, attempts: 1}\n"
                                          "handlers: {h: {command: [sh, handler.sh, '{key}']}}\nwrite: %s\n%s", write, more);
    write_file("spec.yaml", text);
    snprintf(here.spec, sizeof(here.spec), "%s", path_of("spec.yaml"));
    return here.spec;
}

#define MERGE "{table: ds.t, mode: merge, keys: [k]}"

/* stdout of what fn does, as text. */
static char *said(int (*fn)(struct command_env *, const char *), const char *spec, int *code)
{
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    FILE *f = fopen(path_of("stdout"), "w");
    assert_non_null(f);
    assert_true(dup2(fileno(f), STDOUT_FILENO) >= 0);
    *code = fn(&here.env, spec);
    fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    fclose(f);
    struct error err = ERROR_INIT;
    size_t len;
    char *text = file_read(path_of("stdout"), 1 << 20, &len, &err);
    assert_non_null(text);
    return text;
}

static doc *run(const char *spec, int *code)
{
    AUTO(free_ptr) char *text = said(local_run, spec, code);
    struct error err = ERROR_INIT;
    return *text ? doc_parse(text, strlen(text), "stdout", &err) : NULL;
}

static void merged_rows_are_counted(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"bb\"}\n{\"k\":\"ccc\"}\n");
    char *spec = write_spec(MERGE, "");
    AUTO(doc_free_auto) doc *first = run(spec, &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_int_equal(doc_int(first, "inserted", 0), 3);
    AUTO(doc_free_auto) doc *second = run(spec, &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_int_equal(doc_int(second, "inserted", -1), 0);
    assert_int_equal(doc_int(second, "updated", -1), 3);
    assert_string_equal(doc_str(second, "state", ""), "written");
}

static void a_run_repeated_under_its_id_is_not_done_again(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"bb\"}\n");
    char *spec = write_spec("{table: ds.t, mode: append}", "");
    here.settings.run_id = (char *)(uintptr_t)"nightly";
    doc_free(run(spec, &code));
    assert_int_equal(code, EXIT_WRITTEN);
    AUTO(doc_free_auto) doc *again = run(spec, &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_string_equal(doc_str(again, "text", ""), "by an earlier process; nothing was done again");
    assert_int_equal(doc_int(again, "inserted", 0), 2);
    /* The same id for something else is no success. */
    AUTO(doc_free_auto) doc *other_mode = run(write_spec(MERGE, ""), &code);
    assert_null(other_mode);
    assert_int_equal(code, EXIT_UNFINISHED);
    AUTO(doc_free_auto) doc *other_table = run(write_spec("{table: ds.u, mode: append}", ""), &code);
    assert_null(other_table);
    assert_int_equal(code, EXIT_UNFINISHED);
    here.settings.run_id = NULL;
    /* A replace counts what it deletes: two rows, not four. */
    AUTO(doc_free_auto) doc *replaced = run(write_spec("{table: ds.t, mode: replace}", ""), &code);
    assert_int_equal(doc_int(replaced, "deleted", 0), 2);
}

static void too_many_failures_hold_the_run_and_are_listed(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"bad1\",\"more\":[1]}\n{\"k\":\"ccc\"}\n");
    here.settings.failed = xstrdup(path_of("failed.ndjson"));
    AUTO(doc_free_auto) doc *held = run(write_spec(MERGE, ""), &code);
    assert_int_equal(code, EXIT_HELD);
    assert_string_equal(doc_str(held, "state", ""), "held");
    struct error err = ERROR_INIT;
    size_t len;
    AUTO(free_ptr) char *text = file_read(here.settings.failed, 1 << 16, &len, &err);
    assert_non_null(text);
    AUTO(doc_free_auto) doc *line = doc_parse(text, len, "failed", &err);
    assert_string_equal(doc_str(line, "k", ""), "bad1");
    assert_int_equal(doc_int(line, "more.0", 0), 1);
    assert_non_null(doc_get(line, "_bqfleet.error"));
    free(here.settings.failed);
    here.settings.failed = NULL;
    AUTO(doc_free_auto) doc *taken = run(write_spec(MERGE, "finish: {tolerate: 1}"), &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_int_equal(doc_int(taken, "inserted", 0), 2); /* the held run had written nothing */
    assert_int_equal(doc_int(taken, "failed", 0), 1);
    assert_string_equal(doc_str(taken, "failed_items.0.key", ""), "bad1");
}

static void rows_go_to_stdout_when_nothing_is_written(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"bb\"}\n");
    AUTO(free_ptr) char *text = said(local_run, write_spec("{mode: none}", ""), &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_non_null(strstr(text, "\"k\":\"a\""));
    assert_non_null(strstr(text, "\"k\":\"bb\""));
    assert_null(strstr(text, "state"));
}

static void trying_takes_few_items_checks_them_and_writes_nothing(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"bb\"}\n{\"k\":\"bad\"}\n{\"k\":\"dddd\"}\n");
    char *spec = write_spec(MERGE, "");
    here.settings.limit = 2;
    AUTO(free_ptr) char *two = said(local_try, spec, &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_null(strstr(two, "dddd"));
    here.settings.item = (char *)(uintptr_t)"dddd";
    AUTO(free_ptr) char *one = said(local_try, spec, &code);
    assert_int_equal(code, EXIT_WRITTEN);
    assert_non_null(strstr(one, "\"v\":4"));
    assert_null(strstr(one, "bb"));
    here.settings.item = (char *)(uintptr_t)"bad";
    free(said(local_try, spec, &code));
    assert_int_equal(code, EXIT_NO);
    here.settings.item = (char *)(uintptr_t)"nobody";
    free(said(local_try, spec, &code));
    assert_int_equal(code, EXIT_USAGE);
    here.settings.item = NULL;
    AUTO(doc_free_auto) doc *after = run(spec, &code); /* all is still to be inserted */
    assert_int_equal(code, EXIT_HELD);
    assert_int_equal(doc_int(after, "done", 0), 4);
}

/* Sends us the signal once a handler is at work. */
static pid_t interrupt_when(const char *file, int signo)
{
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child != 0)
        return child;
    for (int i = 0; i < 2000 && access(file, F_OK) != 0; i++)
        usleep(5000);
    kill(parent, signo);
    _exit(0);
}

static void an_interrupt_cancels_and_says_that_nothing_was_written(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n{\"k\":\"slow\"}\n");
    char *spec = write_spec(MERGE, "");
    /* Before all is published, an interrupt has another ending. */
    write_file("handler.sh", "[ $1 = a ] && { echo '{\"k\":\"a\",\"v\":1}'; exit 0; }\nsleep 1; touch seen; sleep 60\n");
    pid_t hand = interrupt_when(path_of("seen"), SIGINT);
    AUTO(doc_free_auto) doc *cut = run(spec, &code);
    waitpid(hand, NULL, 0);
    assert_int_equal(code, 128 + SIGINT);
    assert_string_equal(doc_str(cut, "state", ""), "cancelled");
    assert_int_equal(doc_int(cut, "inserted", -1), 0);
    write_file("items.ndjson", "{\"k\":\"a\"}\n"); /* the next run finds nothing of it */
    AUTO(doc_free_auto) doc *next = run(write_spec(MERGE, ""), &code);
    assert_int_equal(doc_int(next, "inserted", 0), 1);
}

static void an_interrupt_does_not_wait_for_ever_for_bigquery(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\n");
    char *spec = write_spec(MERGE, "");
    AUTO(free_ptr) char *handler = xasprintf("kill -9 %d; touch seen; sleep 60\n", (int)here.model);
    write_file("handler.sh", handler);
    pid_t hand = interrupt_when(path_of("seen"), SIGTERM);
    AUTO(doc_free_auto) doc *none = run(spec, &code);
    waitpid(hand, NULL, 0);
    assert_int_equal(code, 128 + SIGTERM);
    assert_null(none);
}

static void an_item_that_does_not_parse_ends_it_with_nothing_written(void **state)
{
    (void)state;
    int code;
    write_file("items.ndjson", "{\"k\":\"a\"}\nnonsense\n");
    AUTO(doc_free_auto) doc *none = run(write_spec(MERGE, ""), &code);
    assert_int_equal(code, EXIT_USAGE);
    assert_null(none);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_here, close_here)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(merged_rows_are_counted),
        T(a_run_repeated_under_its_id_is_not_done_again),
        T(too_many_failures_hold_the_run_and_are_listed),
        T(rows_go_to_stdout_when_nothing_is_written),
        T(trying_takes_few_items_checks_them_and_writes_nothing),
        T(an_interrupt_cancels_and_says_that_nothing_was_written),
        T(an_interrupt_does_not_wait_for_ever_for_bigquery),
        T(an_item_that_does_not_parse_ends_it_with_nothing_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
