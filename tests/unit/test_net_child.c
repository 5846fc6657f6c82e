#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/net/child.h"

#define WAIT (30 * US_PER_S)

struct run {
    struct loop *loop;
    struct children *children;
    struct child *child;
    struct buf out, err;
    size_t total;     /* bytes of stdout taken */
    size_t take_max;  /* bytes taken in one call; 0: all */
    size_t given_max; /* the most that was offered at once */
    int64_t rest_us, seen_us[2]; /* a rest after each output; when the first and when the last one came */
    bool in_start, stop_taking, resume_inside, drop_at_output;
    int drained, exits, status;
    char text[64];
};

static size_t on_out(void *arg, const char *data, size_t len)
{
    struct run *r = arg;
    assert_false(r->in_start);
    assert_int_equal(r->exits, 0);
    r->given_max = size_max(r->given_max, len);
    if (r->stop_taking)
        return 0;
    size_t n = r->take_max > 0 ? size_min(r->take_max, len) : len;
    if (r->out.len + n <= r->out.max)
        buf_xadd(&r->out, data, n);
    r->total += n;
    if (r->resume_inside)
        child_resume(r->child);
    r->seen_us[1] = loop_now_us(r->loop);
    if (r->seen_us[0] == 0)
        r->seen_us[0] = r->seen_us[1];
    if (r->rest_us > 0)
        child_rest(r->child, r->rest_us);
    if (r->drop_at_output) {
        child_drop(r->child);
        r->child = NULL;
        assert_memory_equal(data, "x", 1); /* still readable */
    }
    return n;
}

static void on_err(void *arg, const char *data, size_t len)
{
    struct run *r = arg;
    assert_int_equal(r->exits, 0);
    buf_xadd(&r->err, data, len);
}

static void on_drained(void *arg)
{
    struct run *r = arg;
    r->drained++;
    if (r->child != NULL)
        assert_int_equal(child_unsent(r->child), 0);
}

static void on_exited(void *arg, int status, const char *text)
{
    struct run *r = arg;
    r->exits++;
    r->status = status;
    snprintf(r->text, sizeof(r->text), "%s", text);
}

static int set_up(void **state)
{
    struct run *r = xcalloc(1, sizeof(*r));
    r->loop = loop_new();
    r->children = children_posix(r->loop);
    r->out = r->err = BUF_INIT(1024 * 1024);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct run *r = *state;
    child_drop(r->child);
    children_free(r->children);
    loop_free(r->loop);
    buf_free(&r->out);
    buf_free(&r->err);
    free(r);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        return -1; /* somebody was not reaped */
    return errno == ECHILD ? 0 : -1;
}

static struct child *start_spec(struct run *r, const struct child_spec *spec, struct error *err)
{
    static const struct child_events events = {.out = on_out, .err = on_err, .drained = on_drained, .exited = on_exited};
    r->in_start = true;
    r->child = child_start(r->children, spec, &events, r, err);
    r->in_start = false;
    return r->child;
}

static void start(struct run *r, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct error err = ERROR_INIT;
    if (start_spec(r, &(struct child_spec){.argv = argv}, &err) == NULL)
        fail_msg("%s", err.text);
}

static bool has_exited(void *arg)
{
    return ((struct run *)arg)->exits > 0;
}

static bool has_output(void *arg)
{
    return ((struct run *)arg)->out.len > 0;
}

static bool was_drained(void *arg)
{
    return ((struct run *)arg)->drained > 0;
}

static void finish(struct run *r)
{
    assert_true(loop_until(r->loop, has_exited, r, WAIT));
    assert_int_equal(r->exits, 1);
}

static void a_child_echoes_what_it_is_told_and_ends_with_its_stdin(void **state)
{
    struct run *r = *state;
    start(r, "cat; echo to-err >&2");
    assert_int_equal(child_write(r->child, "one\n", 4), 0);
    assert_int_equal(child_write(r->child, "two\n", 4), 0);
    child_close_stdin(r->child);
    assert_int_equal(child_write(r->child, "three\n", 6), -1);
    finish(r);
    assert_string_equal(r->out.data, "one\ntwo\n");
    assert_string_equal(r->err.data, "to-err\n");
    assert_int_equal(r->status, 0);
    assert_string_equal(r->text, "exit status 0");
}

static void exit_status_and_signal_are_told_apart(void **state)
{
    struct run *r = *state;
    start(r, "exit 3");
    finish(r);
    assert_true(WIFEXITED(r->status));
    assert_string_equal(r->text, "exit status 3");
    child_drop(r->child);
    r->exits = 0;
    start(r, "kill -9 $$");
    finish(r);
    assert_true(WIFSIGNALED(r->status));
    assert_string_equal(r->text, "killed by signal 9 (Killed)");
}

static void all_output_comes_before_the_exit(void **state)
{
    struct run *r = *state;
    r->out.max = 0;
    start(r, "head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2");
    finish(r); /* on_out and on_err assert that nothing comes later */
    assert_int_equal(r->total, 3000000);
    assert_int_equal(r->err.len, 100000);
    assert_true(r->given_max <= 256 * 1024);
}

static void a_program_that_does_not_exist_is_an_error_of_the_start(void **state)
{
    struct run *r = *state;
    const char *const argv[] = {"no-such-program-anywhere", NULL};
    struct error err = ERROR_INIT;
    assert_null(start_spec(r, &(struct child_spec){.argv = argv}, &err));
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "cannot start \"no-such-program-anywhere\": No such file or directory");
    const char *const not_executable[] = {"/etc/passwd", NULL};
    assert_null(start_spec(r, &(struct child_spec){.argv = not_executable}, &err));
    assert_string_equal(err.text, "cannot start \"/etc/passwd\": Permission denied");
    const char *const good[] = {"true", NULL};
    assert_null(start_spec(r, &(struct child_spec){.argv = good, .dir = "/no/such/folder"}, &err));
    assert_string_equal(err.text, "cannot start \"true\" in folder \"/no/such/folder\": No such file or directory");
}

static void environment_and_folder_are_the_childs_own(void **state)
{
    struct run *r = *state;
    setenv("BQF_TEST_KEPT", "kept", 1);
    setenv("BQF_TEST_CHANGED", "old", 1);
    const char *const argv[] = {"sh", "-c", "echo $BQF_TEST_KEPT $BQF_TEST_CHANGED $BQF_TEST_NEW; pwd; env | grep -c BQF_TEST_", NULL};
    const char *const env[] = {"BQF_TEST_CHANGED=new", "BQF_TEST_NEW=a=b", NULL};
    assert_non_null(start_spec(r, &(struct child_spec){.argv = argv, .env = env, .dir = "/usr"}, NULL));
    finish(r);
    assert_string_equal(r->out.data, "kept new a=b\n/usr\n3\n");
}

static void the_child_gets_three_descriptors_and_clean_signals(void **state)
{
    struct run *r = *state;
    int inherited[2];
    assert_int_equal(pipe(inherited), 0); /* not close-on-exec, as of a careless library */
    start(r, "ls /proc/self/fd | wc -l; grep -E 'SigIgn|SigBlk' /proc/self/status | awk '{print $2}'");
    finish(r);
    /* ls itself opens a fourth: the folder */
    assert_string_equal(r->out.data, "4\n0000000000000000\n0000000000000000\n");
    close(inherited[0]);
    close(inherited[1]);
}

static void writing_to_a_closed_stdin_is_an_answer_and_not_our_death(void **state)
{
    struct run *r = *state;
    start(r, "exec 0<&-; echo closed; sleep 60");
    assert_true(loop_until(r->loop, has_output, r, WAIT));
    assert_int_equal(child_write(r->child, "x", 1), -1);
    assert_int_equal(child_write(r->child, "x", 1), -1);
    child_kill(r->child, SIGKILL);
    finish(r);
}

static void what_the_pipe_does_not_take_is_kept_and_reported_when_gone(void **state)
{
    struct run *r = *state;
    enum { LEN = 1500 * 1024 }; /* more than the pipe's 1 MiB */
    char *big = xmalloc(LEN);
    memset(big, 'y', LEN);
    start(r, "read line; wc -c");
    assert_int_equal(child_write(r->child, big, LEN), 0);
    assert_true(child_unsent(r->child) > 0);
    assert_int_equal(r->drained, 0);
    assert_int_equal(child_write(r->child, "\n12345", 6), 0);
    assert_true(loop_until(r->loop, was_drained, r, WAIT));
    assert_int_equal(r->drained, 1);
    child_close_stdin(r->child);
    finish(r);
    assert_int_equal(strtol(r->out.data, NULL, 10), 5);
    free(big);
}

static void a_reader_that_leaves_in_mid_write_is_noticed(void **state)
{
    struct run *r = *state;
    enum { LEN = 5 * 1024 * 1024 };
    char *big = xcalloc(1, LEN);
    char wait[] = "/tmp/test_net_child.XXXXXX", script[160];
    int fd = mkstemp(wait);
    assert_true(fd >= 0);
    close(fd);
    snprintf(script, sizeof(script), "while [ -e %s ]; do sleep 0.01; done; head -c 10 >/dev/null; exec 0<&-; sleep 60", wait);
    start(r, script);
    int written = child_write(r->child, big, LEN); /* it has not left yet, however slow we are */
    unlink(wait);
    assert_int_equal(written, 0);
    assert_true(loop_until(r->loop, was_drained, r, WAIT));
    assert_int_equal(child_write(r->child, "x", 1), -1);
    free(big);
}

static void close_after_a_long_write_sends_all_of_it_first(void **state)
{
    struct run *r = *state;
    enum { LEN = 5 * 1024 * 1024 };
    char *big = xcalloc(1, LEN);
    start(r, "wc -c");
    assert_int_equal(child_write(r->child, big, LEN), 0);
    child_close_stdin(r->child);
    finish(r);
    assert_int_equal(strtol(r->out.data, NULL, 10), LEN);
    free(big);
}

static void back_pressure_stops_the_child_and_nothing_is_lost(void **state)
{
    struct run *r = *state;
    r->out.max = 0;
    r->stop_taking = true;
    start(r, "head -c 100000000 /dev/zero | tr '\\0' x");
    assert_false(loop_until(r->loop, has_exited, r, 200 * US_PER_MS)); /* blocked: 100 MB fit into no pipe */
    assert_int_equal(r->total, 0);
    assert_true(r->given_max <= 256 * 1024);
    r->stop_taking = false;
    r->take_max = 100000; /* less than is offered: every call is a partial one */
    while (r->exits == 0) {
        child_resume(r->child);
        assert_true(loop_step(r->loop, WAIT));
    }
    assert_int_equal(r->total, 100000000);
    assert_true(r->given_max <= 256 * 1024);
}

static void a_resume_from_inside_the_callback_counts(void **state)
{
    struct run *r = *state;
    r->out.max = 0;
    r->take_max = 50000;
    r->resume_inside = true;
    start(r, "head -c 5000000 /dev/zero");
    finish(r);
    assert_int_equal(r->total, 5000000);
}

static void a_rest_puts_reading_off_and_loses_nothing(void **state)
{
    struct run *r = *state;
    r->rest_us = 100 * US_PER_MS;
    start(r, "echo x; read line; echo y");
    assert_true(loop_until(r->loop, has_output, r, WAIT));
    assert_int_equal(child_write(r->child, "\n", 1), 0);
    finish(r);
    assert_string_equal(r->out.data, "x\ny\n");
    assert_true(r->seen_us[1] - r->seen_us[0] >= r->rest_us);
}

/* A zombie that nobody reaps does not count. */
static bool process_runs(long pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return false;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    fclose(f);
    return state != 'Z';
}

static void kill_reaches_the_whole_group_even_if_it_hangs(void **state)
{
    struct run *r = *state;
    start(r, "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & echo $$; wait");
    long pids[2] = {0, 0};
    while (pids[1] == 0) {
        assert_true(loop_step(r->loop, WAIT));
        if (r->out.len > 0)
            sscanf(r->out.data, "%ld %ld", &pids[0], &pids[1]);
    }
    child_kill(r->child, SIGTERM);
    assert_false(loop_until(r->loop, has_exited, r, 100 * US_PER_MS));
    child_kill(r->child, SIGKILL);
    finish(r);
    assert_string_equal(r->text, "killed by signal 9 (Killed)");
    for (int64_t end = loop_now_us(r->loop) + WAIT; process_runs(pids[0]) || process_runs(pids[1]);) {
        assert_true(loop_now_us(r->loop) < end);
        loop_step(r->loop, 10 * US_PER_MS); /* nothing on the loop tells about a grandchild */
    }
}

static void a_grandchild_that_keeps_the_pipes_does_not_hold_up_the_exit(void **state)
{
    struct run *r = *state;
    start(r, "sleep 60 & echo started; exit 4");
    int64_t begin = loop_now_us(r->loop);
    finish(r);
    assert_string_equal(r->out.data, "started\n");
    assert_string_equal(r->text, "exit status 4");
    assert_in_range(loop_now_us(r->loop) - begin, 0, 20 * US_PER_S);
}

static void a_pause_longer_than_the_grace_loses_nothing(void **state)
{
    struct run *r = *state;
    r->out.max = 0;
    r->stop_taking = true;
    start(r, "head -c 60000 /dev/zero; sleep 60 & exit 0");
    assert_false(loop_until(r->loop, has_exited, r, 1300 * US_PER_MS)); /* the grace passes; the sleeper is killed */
    r->stop_taking = false;
    child_resume(r->child);
    finish(r);
    assert_int_equal(r->total, 60000);
}

static void dropping_kills_and_reaps_without_a_word(void **state)
{
    struct run *r = *state;
    r->drop_at_output = true;
    start(r, "printf x; while :; do sleep 1; done");
    while (r->child != NULL)
        assert_true(loop_step(r->loop, WAIT));
    loop_step(r->loop, 100 * US_PER_MS);
    assert_int_equal(r->exits, 0);
    r->drop_at_output = false;
    start(r, "sleep 60");
    child_drop(r->child); /* before it said anything */
    r->child = NULL;
    start(r, "sleep 60"); /* the factory takes this one down */
    r->child = NULL;
}

static void many_children_at_once_keep_to_themselves(void **state)
{
    struct run *r = *state;
    enum { N = 20 };
    static struct run runs[N];
    for (int i = 0; i < N; i++) {
        char script[64];
        runs[i] = (struct run){.loop = r->loop, .children = r->children, .out = BUF_INIT(1000), .err = BUF_INIT(1000)};
        snprintf(script, sizeof(script), "read x; echo %d $x; exit %d", i, i);
        start(&runs[i], script);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(child_write(runs[i].child, "hi\n", 3), 0);
    for (int i = 0; i < N; i++) {
        finish(&runs[i]);
        char expected[32];
        snprintf(expected, sizeof(expected), "%d hi\n", i);
        assert_string_equal(runs[i].out.data, expected);
        assert_int_equal(WEXITSTATUS(runs[i].status), i);
        child_drop(runs[i].child);
        buf_free(&runs[i].out);
        buf_free(&runs[i].err);
    }
}

static size_t count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    size_t n = 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void no_descriptor_is_left_behind(void **state)
{
    struct run *r = *state;
    size_t before = count_descriptors();
    for (int i = 0; i < 5; i++) {
        r->exits = 0;
        start(r, "echo x");
        finish(r);
        child_drop(r->child);
        const char *const argv[] = {"no-such-program-anywhere", NULL};
        assert_null(start_spec(r, &(struct child_spec){.argv = argv}, NULL));
    }
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_child_echoes_what_it_is_told_and_ends_with_its_stdin),
        CASE(exit_status_and_signal_are_told_apart),
        CASE(all_output_comes_before_the_exit),
        CASE(a_program_that_does_not_exist_is_an_error_of_the_start),
        CASE(environment_and_folder_are_the_childs_own),
        CASE(the_child_gets_three_descriptors_and_clean_signals),
        CASE(writing_to_a_closed_stdin_is_an_answer_and_not_our_death),
        CASE(what_the_pipe_does_not_take_is_kept_and_reported_when_gone),
        CASE(a_reader_that_leaves_in_mid_write_is_noticed),
        CASE(close_after_a_long_write_sends_all_of_it_first),
        CASE(back_pressure_stops_the_child_and_nothing_is_lost),
        CASE(a_resume_from_inside_the_callback_counts),
        CASE(a_rest_puts_reading_off_and_loses_nothing),
        CASE(kill_reaches_the_whole_group_even_if_it_hangs),
        CASE(a_grandchild_that_keeps_the_pipes_does_not_hold_up_the_exit),
        CASE(a_pause_longer_than_the_grace_loses_nothing),
        CASE(dropping_kills_and_reaps_without_a_word),
        CASE(many_children_at_once_keep_to_themselves),
        CASE(no_descriptor_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
