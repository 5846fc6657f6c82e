#include "common/base/config.h"

#include <setjmp.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/doc.h"

enum { RUN = 1, WORK = 2 };

struct settings {
    char *brokers, *progress, *token, *config, **kafka;
    int64_t parallel, linger_ms, load_size, prefetch;
    bool stats, colour, help;
};

#define AT(field) offsetof(struct settings, field)
static const struct opt rows[] = {
    {"brokers", OPT_STR, AT(brokers), NULL, 0, 0, RUN | WORK, "HOST:PORT,...", "Where Kafka is.", NULL},
    {"progress", OPT_STR, AT(progress), "auto", 0, OPT_ONCE, RUN, "HOW", "Progress on stderr.", "auto|plain|json|none"},
    {"token", OPT_SECRET, AT(token), NULL, 0, 0, RUN | WORK, "TOKEN", "Bearer token.", NULL},
    {"config", OPT_STR, AT(config), NULL, 0, 0, RUN | WORK, "FILE", "Settings as YAML.", NULL},
    {"kafka", OPT_LIST, AT(kafka), NULL, 0, 0, RUN | WORK, "KEY=VALUE", "A librdkafka property.", NULL},
    {"parallel", OPT_INT, AT(parallel), "cores", 1, 4096, RUN | WORK, "N", "Items at once.", NULL},
    {"linger", OPT_MS, AT(linger_ms), "2s", 0, 60000, RUN | WORK, "TIME",
     "Longest wait before a load starts, which is a sentence that does not fit on one line of the help.", NULL},
    {"load-size", OPT_SIZE, AT(load_size), "8MiB", 1024, 1 << 30, RUN | WORK, "SIZE", "Bytes of rows at which a load starts.", NULL},
    {"prefetch", OPT_INT, AT(prefetch), "16", 1, 100, WORK, "N", "Messages ahead.", NULL},
    {"stats", OPT_BOOL, AT(stats), "false", 0, 0, RUN, NULL, "Print the counters.", NULL},
    {"colour", OPT_BOOL, AT(colour), "true", 0, 0, RUN, NULL, "Print without colour.", NULL},
    {"help", OPT_BOOL, AT(help), "false", 0, 0, RUN | WORK, NULL, "Show this help.", NULL},
};

static const char *const (*env_pairs)[2]; /* ends with {NULL, NULL} */

static const char *fake_env(const char *name)
{
    for (size_t i = 0; env_pairs != NULL && env_pairs[i][0] != NULL; i++)
        if (strcmp(env_pairs[i][0], name) == 0)
            return env_pairs[i][1];
    return NULL;
}

struct loaded {
    struct settings s;
    struct config c;
    char **args;
    struct error err;
};

/* argv ends with a NULL. */
static int load(struct loaded *l, const char *const *argv, const char *file)
{
    *l = (struct loaded){.c = {.rows = rows, .count = ARRAY_LEN(rows), .who = RUN, .env = fake_env}};
    l->c.settings = &l->s;
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    return config_load(&l->c, argc, (char *const *)(uintptr_t)argv, file, &l->args, &l->err);
}

static void loaded_free(struct loaded *l)
{
    free(l->args);
    config_free(&l->c);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define FILE_NAME "test_base_config.tmp"

static int clean(void **state)
{
    (void)state;
    env_pairs = NULL;
    unlink(FILE_NAME);
    return 0;
}

static void a_flag_beats_a_variable_beats_the_file_beats_the_default(void **state)
{
    (void)state;
    static const char *const env[][2] = {
        {"BQFLEET_LINGER", "3s"}, {"BQFLEET_LOAD_SIZE", "2MiB"}, {"BQFLEET_PARALLEL", ""}, {"BQFLEET_PREFETCH", "junk of another program"}, {NULL, NULL}};
    env_pairs = env;
    write_file(FILE_NAME, "linger: 5s\nload-size: 3MiB\nparallel: 9\nprefetch: 50\n");
    AUTO(loaded_free) struct loaded l;
    assert_int_equal(load(&l, ARGV("--linger", "4s", "--config=" FILE_NAME), NULL), 0);
    assert_int_equal(l.s.linger_ms, 4000);
    assert_int_equal(l.s.load_size, 2 << 20);
    assert_int_equal(l.s.parallel, 9);
    assert_string_equal(l.s.progress, "auto");
    assert_int_equal(l.s.prefetch, 16);
    AUTO(free_ptr) char *shown = config_show(&l.c, true);
    AUTO(doc_free_auto) doc *d = doc_parse(shown, strlen(shown), "shown", NULL);
    const char *const want[][3] = {{"progress", "auto", "default"}, {"linger", "4s", "flag"}, {"load-size", "2MiB", "environment"}};
    size_t found = 0;
    for (size_t i = 0; i < doc_len(doc_get(d, "settings")); i++) {
        const doc *one = doc_at(doc_get(d, "settings"), i);
        for (size_t j = 0; j < ARRAY_LEN(want); j++)
            if (strcmp(doc_str(one, "name", ""), want[j][0]) == 0) {
                assert_string_equal(doc_str(one, "value", ""), want[j][1]);
                assert_string_equal(doc_str(one, "source", ""), want[j][2]);
                found++;
            }
    }
    assert_int_equal(found, ARRAY_LEN(want));
}

static void flags_come_in_every_usual_form_and_leave_the_rest(void **state)
{
    (void)state;
    AUTO(loaded_free) struct loaded l;
    assert_int_equal(load(&l, ARGV("spec.yaml", "--stats", "--no-colour", "-", "--kafka", "a=1", "--kafka=b=2", "--linger=1s", "--linger=7s", "--", "--x"), NULL), 0);
    assert_true(l.s.stats && !l.s.colour);
    assert_string_equal(l.s.kafka[0], "a=1");
    assert_string_equal(l.s.kafka[1], "b=2");
    assert_null(l.s.kafka[2]);
    assert_int_equal(l.s.linger_ms, 7000);
    assert_string_equal(l.args[0], "spec.yaml");
    assert_string_equal(l.args[1], "-");
    assert_string_equal(l.args[2], "--x");
    assert_null(l.args[3]);
    assert_true(l.s.parallel >= 1);
    AUTO(loaded_free) struct loaded short_help;
    assert_int_equal(load(&short_help, ARGV("-h"), NULL), 0);
    assert_true(short_help.s.help);
}

static void what_cannot_be_is_refused_and_says_where_it_stood(void **state)
{
    (void)state;
    const struct { const char *argv[3], *complaint; } bad[] = {
        {{"--paralel", "3"}, "unknown flag --paralel; did you mean --parallel?"},
        {{"--xyzzy"}, "unknown flag --xyzzy; see --help"},
        {{"--prefetch=3"}, "--prefetch does not apply here; see --help"},
        {{"--linger"}, "--linger: its value is missing; write --linger TIME"},
        {{"--linger", "--stats"}, "--linger: its value is missing; write --linger TIME"},
        {{"--linger", "30x"}, "--linger: \"30x\" is not a duration; write e.g. 250ms, 30s, 5m, 1h"},
        {{"--linger", "2m"}, "--linger: 2m is not between 0 ms and 1 min"},
        {{"--load-size", "1kB"}, "--load-size: 1kB is not between 1KiB and 1GiB"},
        {{"--parallel=0"}, "--parallel: 0 is not between 1 and 4096"},
        {{"--progress=plane"}, "--progress: \"plane\" is not one of auto|plain|json|none; did you mean \"plain\"?"},
        {{"--no-linger"}, "unknown flag --no-linger; did you mean --linger?"},
        {{"--no-stats=true"}, "--no-stats takes no value"},
        {{"-p", "3"}, "unknown flag -p; flags are words: --NAME; see --help"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct loaded l;
        assert_int_equal(load(&l, bad[i].argv, NULL), -1);
        assert_int_equal(l.err.kind, ERR_USAGE);
        assert_string_equal(l.err.text, bad[i].complaint);
        assert_null(l.s.progress);
    }
}

static void of_flags_that_repeat_the_last_counts_unless_all_would_be_meant(void **state)
{
    (void)state;
    AUTO(loaded_free) struct loaded l;
    assert_int_equal(load(&l, ARGV("--brokers", "a:1", "--brokers", "b:1"), NULL), 0);
    assert_string_equal(l.s.brokers, "b:1");
    AUTO(loaded_free) struct loaded once;
    assert_int_equal(load(&once, ARGV("--progress", "json", "--progress=none"), NULL), -1);
    assert_int_equal(once.err.kind, ERR_USAGE);
    assert_string_equal(once.err.text, "--progress is given twice (json, none), and takes one: call the command for each");
    static const char *const env[][2] = {{"BQFLEET_PROGRESS", "plain"}, {NULL, NULL}};
    env_pairs = env;
    AUTO(loaded_free) struct loaded beside;
    assert_int_equal(load(&beside, ARGV("--progress", "json"), NULL), 0);
    assert_string_equal(beside.s.progress, "json");
}

static void the_files_complaints_name_line_and_column(void **state)
{
    (void)state;
    const struct { const char *text, *complaint; } bad[] = {
        {"linger: 1s\nloadsize: 3\n", FILE_NAME ":2:1: unknown key \"loadsize\"; did you mean \"load-size\"?"},
        {"linger: 30\n", FILE_NAME ":1:9: linger: \"30\" is not a duration; write e.g. 250ms, 30s, 5m, 1h"},
        {"brokers: [a]\n", FILE_NAME ":1:10: brokers: a single value belongs here, not a list"},
        {"- a\n", FILE_NAME ":1:1: a map (KEY: VALUE lines) belongs here, not a list"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct loaded l;
        write_file(FILE_NAME, bad[i].text);
        assert_int_equal(load(&l, ARGV("x"), FILE_NAME), -1);
        assert_string_equal(l.err.text, bad[i].complaint);
    }
    struct loaded l;
    assert_int_equal(load(&l, ARGV("x"), "not/there.yaml"), -1);
    assert_string_equal(l.err.text, "not/there.yaml: cannot be read: No such file or directory");
}

static void lists_are_words_in_a_variable_and_lists_or_maps_in_the_file(void **state)
{
    (void)state;
    static const char *const env[][2] = {{"BQFLEET_KAFKA", "a=1 'b=two words'"}, {NULL, NULL}};
    env_pairs = env;
    AUTO(loaded_free) struct loaded l;
    assert_int_equal(load(&l, ARGV("x"), NULL), 0);
    assert_string_equal(l.s.kafka[1], "b=two words");
    env_pairs = NULL;
    write_file(FILE_NAME, "kafka:\n  security.protocol: SSL\n  x: 1\n");
    AUTO(loaded_free) struct loaded m;
    assert_int_equal(load(&m, ARGV("x"), FILE_NAME), 0);
    assert_string_equal(m.s.kafka[0], "security.protocol=SSL");
    assert_string_equal(m.s.kafka[1], "x=1");
    write_file(FILE_NAME, "kafka: [c=3]\n");
    AUTO(loaded_free) struct loaded n;
    assert_int_equal(load(&n, ARGV("x"), FILE_NAME), 0);
    assert_string_equal(n.s.kafka[0], "c=3");
}

static void a_secret_comes_from_a_file_and_is_never_shown(void **state)
{
    (void)state;
    static const char *const env[][2] = {{"BQFLEET_TOKEN_FILE", FILE_NAME}, {NULL, NULL}};
    static const char *const both[][2] = {{"BQFLEET_TOKEN_FILE", FILE_NAME}, {"BQFLEET_TOKEN", "x"}, {NULL, NULL}};
    env_pairs = env;
    write_file(FILE_NAME, "hush-hush\n");
    AUTO(loaded_free) struct loaded l;
    assert_int_equal(load(&l, ARGV("x"), NULL), 0);
    assert_string_equal(l.s.token, "hush-hush");
    AUTO(free_ptr) char *text = config_show(&l.c, false);
    AUTO(free_ptr) char *json = config_show(&l.c, true);
    assert_null(strstr(text, "hush"));
    assert_null(strstr(json, "hush"));
    assert_non_null(strstr(text, "(set)"));
    struct loaded none;
    env_pairs = both;
    assert_int_equal(load(&none, ARGV("x"), NULL), -1);
    assert_string_equal(none.err.text, "BQFLEET_TOKEN and BQFLEET_TOKEN_FILE are both set; one of them has to go");
    env_pairs = env;
    write_file(FILE_NAME, "\n");
    assert_int_equal(load(&none, ARGV("x"), NULL), -1);
    assert_string_equal(none.err.text, "BQFLEET_TOKEN_FILE: " FILE_NAME " is empty");
}

static void help_and_table_come_from_the_same_rows(void **state)
{
    (void)state;
    AUTO(free_ptr) char *help = config_help(rows, ARRAY_LEN(rows), RUN);
    assert_non_null(strstr(help, "  --load-size SIZE            Bytes of rows at which a load starts. [8MiB]\n"));
    assert_non_null(strstr(help, "  --no-colour                 Print without colour.\n"));
    assert_non_null(strstr(help, "(auto|plain|json|none) [auto]\n"));
    assert_null(strstr(help, "prefetch"));
    for (const char *p = help; *p != '\0'; p += strcspn(p, "\n") + 1) {
        size_t len = strcspn(p, "\n");
        assert_true(len <= 100 && len > 0 && p[len - 1] != ' ');
    }
    AUTO(free_ptr) char *table = config_markdown(rows, ARRAY_LEN(rows));
    assert_non_null(strstr(table, "| `--progress HOW` | `auto` | Progress on stderr. `auto\\|plain\\|json\\|none` |\n"));
    assert_non_null(strstr(table, "| `--prefetch N` | `16` | Messages ahead. |\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_flag_beats_a_variable_beats_the_file_beats_the_default, clean),
        cmocka_unit_test_teardown(flags_come_in_every_usual_form_and_leave_the_rest, clean),
        cmocka_unit_test_teardown(what_cannot_be_is_refused_and_says_where_it_stood, clean),
        cmocka_unit_test_teardown(of_flags_that_repeat_the_last_counts_unless_all_would_be_meant, clean),
        cmocka_unit_test_teardown(the_files_complaints_name_line_and_column, clean),
        cmocka_unit_test_teardown(lists_are_words_in_a_variable_and_lists_or_maps_in_the_file, clean),
        cmocka_unit_test_teardown(a_secret_comes_from_a_file_and_is_never_shown, clean),
        cmocka_unit_test_teardown(help_and_table_come_from_the_same_rows, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
