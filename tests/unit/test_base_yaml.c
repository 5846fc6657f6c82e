#include "common/base/yaml.h"

#include <setjmp.h>
#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/doc.h"

static const char *fake_env(const char *name)
{
    return strcmp(name, "WHO") == 0 ? "x: y" : strcmp(name, "N_1") == 0 ? "7" : NULL;
}

static struct yaml *parsed(const char *text)
{
    struct error err = ERROR_INIT;
    struct yaml *root = yaml_parse(text, strlen(text), "spec.yaml", fake_env, &err);
    if (root == NULL)
        fail_msg("%s", err.text);
    return root;
}

static void text_that_cannot_be_read_is_refused_with_line_and_column(void **state)
{
    (void)state;
    const struct { const char *text, *complaint; } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "spec.yaml:3:1: \"a\" is given twice; the first time on line 1"},
        {"a: &x 1\nb: *x\n", "spec.yaml:1:4: anchors"},
        {"a: !!str 1\n", "spec.yaml:1:4: anchors"},
        {"a: [1, 2\nb: 3\n", "spec.yaml:2:"},
        {"a: 1\n---\nb: 2\n", "spec.yaml:2:1: a second document"},
        {"? [a]\n: 1\n", "spec.yaml:1:3: a key must be"},
        {"a: \"x\\0y\"\n", "spec.yaml:1:4: a text with a NUL"},
        {"ab: 1\nc\xff: 2\n", "spec.yaml:2:2: "},
        {"a:\n  b: ${NOT_THERE}\n", "spec.yaml:2:6: ${NOT_THERE} is not set in the environment"},
        {"a: ${x-y}\n", "spec.yaml:1:4: \"${x-y}\" is not ${NAME}"},
        {"a: 1\n  b: 2\n", "spec.yaml:2:4: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_null(yaml_parse(bad[i].text, strlen(bad[i].text), "spec.yaml", fake_env, &err));
        assert_int_equal(err.kind, ERR_USAGE);
        if (strncmp(err.text, bad[i].complaint, strlen(bad[i].complaint)) != 0)
            fail_msg("\"%s\" instead of \"%s\"", err.text, bad[i].complaint);
    }
}

static void nesting_has_a_bound(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf text = BUF_INIT(10000);
    for (int i = 0; i < 65; i++)
        buf_xputs(&text, "[");
    struct error err = ERROR_INIT;
    assert_null(yaml_parse(text.data, text.len, "f", NULL, &err));
    assert_string_equal(err.text, "f:1:65: too many maps and lists inside each other");
}

static void an_unknown_key_is_named_with_the_nearest_known_one(void **state)
{
    (void)state;
    static const char *const names[] = {"table", "mode"};
    AUTO(yaml_free_auto) struct yaml *root = parsed("write:\n  mode: x\n  tabel: d.t\n");
    struct error err = ERROR_INIT;
    assert_int_equal(yaml_only(yaml_get(root, "write"), names, 2, &err), -1);
    assert_string_equal(err.text, "spec.yaml:3:3: unknown key \"tabel\"; did you mean \"table\"?");
    assert_int_equal(yaml_only(root, names, 2, &err), -1);
    assert_string_equal(err.text, "spec.yaml:1:1: unknown key \"write\"; known here: table, mode");
    assert_int_equal(yaml_only(NULL, names, 2, &err), 0);
    assert_int_equal(yaml_only(yaml_get(yaml_get(root, "write"), "mode"), names, 2, &err), -1);
}

static void values_of_the_wrong_kind_are_refused_with_their_place(void **state)
{
    (void)state;
    AUTO(yaml_free_auto) struct yaml *m = parsed("t: 30x\nn: five\nq: '5'\nb: yes\ns: [a]\nl: {a: 1}\ne: mrge\nk: [a, ~]\nz: 8Mi\nm: 12\n");
    static const char *const modes[] = {"merge", "append"};
    struct error err = ERROR_INIT;
    int64_t n = -1;
    bool b;
    char *s, **v;
    size_t count;
    int e;
    struct yaml *map;
    assert_int_equal(yaml_want_ms(m, "t", &n, &err), -1);
    assert_string_equal(err.text, "spec.yaml:1:4: t: \"30x\" is not a duration; write e.g. 250ms, 30s, 5m, 1h");
    assert_int_equal(yaml_want_int(m, "n", 0, 9, &n, &err), -1);
    assert_string_equal(err.text, "spec.yaml:2:4: n: \"five\" is not a whole number");
    assert_int_equal(yaml_want_int(m, "q", 0, 9, &n, &err), -1);
    assert_string_equal(err.text, "spec.yaml:3:4: q: a number belongs here, and \"5\" in quotes is a text");
    assert_int_equal(yaml_want_int(m, "m", 0, 9, &n, &err), -1);
    assert_string_equal(err.text, "spec.yaml:10:4: m: 12 is not between 0 and 9");
    assert_int_equal(yaml_want_bool(m, "b", &b, &err), -1);
    assert_string_equal(err.text, "spec.yaml:4:4: b: \"yes\" is neither true nor false");
    assert_int_equal(yaml_want_str(m, "s", &s, &err), -1);
    assert_string_equal(err.text, "spec.yaml:5:4: s: a single value belongs here, not a list");
    assert_int_equal(yaml_want_strv(m, "l", &v, &count, &err), -1);
    assert_int_equal(yaml_want_strv(m, "k", &v, &count, &err), -1);
    assert_string_equal(err.text, "spec.yaml:8:8: k: a list of plain values belongs here, and this one is empty");
    assert_int_equal(yaml_want_map(m, "s", &map, &err), -1);
    assert_int_equal(yaml_want_enum(m, "e", modes, 2, &e, &err), -1);
    assert_string_equal(err.text, "spec.yaml:7:4: e: \"mrge\" is not one of merge, append; did you mean \"merge\"?");
    assert_int_equal(yaml_want_size(m, "z", &n, &err), -1);
    assert_int_equal(n, -1);
}

static void absent_and_null_values_leave_what_was_there(void **state)
{
    (void)state;
    AUTO(yaml_free_auto) struct yaml *m = parsed("a:\nb: ~\nc: null\nd: ''\n");
    int64_t n = 5;
    bool b = true;
    char *s = NULL;
    const char *const keys[] = {"a", "b", "c", "nowhere"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_int_equal(yaml_want_int(m, keys[i], 0, 9, &n, NULL), 0);
        assert_int_equal(yaml_want_bool(m, keys[i], &b, NULL), 0);
        assert_int_equal(yaml_want_str(m, keys[i], &s, NULL), 0);
    }
    assert_true(n == 5 && b && s == NULL);
    assert_int_equal(yaml_want_str(m, "d", &s, NULL), 0);
    assert_string_equal(s, "");
    free(s);
    AUTO(yaml_free_auto) struct yaml *nothing = parsed("# only a comment\n");
    assert_true(yaml_is_null(nothing));
}

static void variables_are_texts_and_never_yaml(void **state)
{
    (void)state;
    AUTO(yaml_free_auto) struct yaml *m = parsed("a: ${WHO}\nn: ${N_1}\nl: ['${N_1}${N_1}', \"$${WHO}\", $N]\n");
    int64_t n = 0;
    AUTO(free_ptr) char *s = NULL;
    assert_int_equal(yaml_want_str(m, "a", &s, NULL), 0);
    assert_string_equal(s, "x: y");
    assert_int_equal(yaml_want_int(m, "n", 0, 9, &n, NULL), 0);
    assert_int_equal(n, 7);
    AUTO(strv_free_auto) char **v = NULL;
    size_t count = 0;
    assert_int_equal(yaml_want_strv(m, "l", &v, &count, NULL), 0);
    assert_int_equal(count, 3);
    assert_string_equal(v[0], "77");
    assert_string_equal(v[1], "${WHO}");
    assert_string_equal(v[2], "$N");
    assert_null(v[3]);
}

static void documents_follow_the_core_schema(void **state)
{
    (void)state;
    AUTO(yaml_free_auto) struct yaml *m = parsed("{a: 1, b: '1', c: 1.5, d: true, e: \"true\", f: ~, g: 0x1f, h: 0o17, i: 1e3, j: -.5, k: 1., l: x,"
                                                 " m: [], n: {}, o: yes, p: .nan, q: 1_000, r: -3, s: 12345678901234567890, t: ., u: 1e}");
    AUTO(doc_free_auto) doc *d = yaml_to_doc(m);
    AUTO(doc_free_auto) doc *want = NULL;
    const char *text = "{\"a\":1,\"b\":\"1\",\"c\":1.5,\"d\":true,\"e\":\"true\",\"f\":null,\"g\":31,\"h\":15,\"i\":1000.0,\"j\":-0.5,\"k\":1.0,"
                       "\"l\":\"x\",\"m\":[],\"n\":{},\"o\":\"yes\",\"p\":\".nan\",\"q\":\"1_000\",\"r\":-3,\"s\":12345678901234567000.0,"
                       "\"t\":\".\",\"u\":\"1e\"}";
    want = doc_parse(text, strlen(text), "want", NULL);
    AUTO(free_ptr) char *shown = doc_text(d);
    if (!doc_equal(d, want))
        fail_msg("%s", shown);
}

static void set_replaces_adds_and_complains_by_its_path(void **state)
{
    (void)state;
    AUTO(yaml_free_auto) struct yaml *root = parsed("write: {table: a.b, keys: [x]}\n");
    struct error err = ERROR_INIT;
    const char *const good[] = {"write.table=c.d", "write.keys=[p, q]", "write.keys.2=r", "finish.every=60s", "job.params.season=2025", "batch=a=b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(yaml_set(root, good[i], &err), 0);
    AUTO(doc_free_auto) doc *d = yaml_to_doc(root);
    AUTO(free_ptr) char *text = doc_text(d);
    assert_string_equal(text, "{\"write\":{\"table\":\"c.d\",\"keys\":[\"p\",\"q\",\"r\"]},\"finish\":{\"every\":\"60s\"},"
                              "\"job\":{\"params\":{\"season\":2025}},\"batch\":\"a=b\"}");
    const char *const bad[] = {"write", "=x", "write.table.x=1", "write..x=1", "write.keys.9=1", "write.keys.x=1", "a=[", "a.=1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(yaml_set(root, bad[i], &err), -1);
        assert_memory_equal(err.text, "--set ", 6);
    }
    assert_int_equal(yaml_set(root, "job.timeout=30x", &err), 0);
    int64_t ms;
    assert_int_equal(yaml_want_ms(yaml_get(root, "job"), "timeout", &ms, &err), -1);
    assert_string_equal(err.text, "--set job.timeout: timeout: \"30x\" is not a duration; write e.g. 250ms, 30s, 5m, 1h");
}

static void words_are_split_as_a_shell_does(void **state)
{
    (void)state;
    AUTO(strv_free_auto) char **v = NULL;
    size_t n = 0;
    struct error err = ERROR_INIT;
    assert_int_equal(strv_split(" a 'b c'd \"e \\\"f\\\" \\x\" g\\ h '' \"$i\" | ", &v, &n, &err), 0);
    const char *const want[] = {"a", "b cd", "e \"f\" \\x", "g h", "", "$i", "|"};
    assert_int_equal(n, ARRAY_LEN(want));
    for (size_t i = 0; i < n; i++)
        assert_string_equal(v[i], want[i]);
    char **none = NULL;
    assert_int_equal(strv_split("  ", &none, &n, &err), 0);
    assert_true(n == 0 && none != NULL && none[0] == NULL);
    strv_free(none);
    const char *const bad[] = {"'a", "\"a", "a\\", "\"a\\"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(strv_split(bad[i], &none, &n, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_cannot_be_read_is_refused_with_line_and_column),
        cmocka_unit_test(nesting_has_a_bound),
        cmocka_unit_test(an_unknown_key_is_named_with_the_nearest_known_one),
        cmocka_unit_test(values_of_the_wrong_kind_are_refused_with_their_place),
        cmocka_unit_test(absent_and_null_values_leave_what_was_there),
        cmocka_unit_test(variables_are_texts_and_never_yaml),
        cmocka_unit_test(documents_follow_the_core_schema),
        cmocka_unit_test(set_replaces_adds_and_complains_by_its_path),
        cmocka_unit_test(words_are_split_as_a_shell_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
