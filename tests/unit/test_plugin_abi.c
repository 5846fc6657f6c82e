#include "include/bqfleet/handler.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dlfcn.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/host/lines.h"
#include "tests/unit/support_golden.h"

/* What plugins were built with must stay: sizes, offsets, values and names of the public header, as they were recorded. A member at the end is an addition
 * (the recorded lines stay, new ones come); everything else needs another BQFLEET_ABI. */

#define MEMBER(type, name) \
    buf_xprintf(out, "  %s %zu %zu\n", #name, offsetof(struct type, name), sizeof(((struct type *)0)->name))
#define STRUCT(type) buf_xprintf(out, "struct %s %zu\n", #type, sizeof(struct type))
#define VALUE(name) buf_xprintf(out, "%s %d\n", #name, (int)(name))

static void layouts(struct buf *out)
{
    STRUCT(bqfleet_text);
    MEMBER(bqfleet_text, data);
    MEMBER(bqfleet_text, len);
    STRUCT(bqfleet_host);
    MEMBER(bqfleet_host, abi);
    MEMBER(bqfleet_host, size);
    MEMBER(bqfleet_host, emit);
    MEMBER(bqfleet_host, fail);
    MEMBER(bqfleet_host, progress);
    STRUCT(bqfleet_hello);
    MEMBER(bqfleet_hello, size);
    MEMBER(bqfleet_hello, run);
    MEMBER(bqfleet_hello, batch);
    MEMBER(bqfleet_hello, params);
    MEMBER(bqfleet_hello, schema);
    STRUCT(bqfleet_item);
    MEMBER(bqfleet_item, size);
    MEMBER(bqfleet_item, index);
    MEMBER(bqfleet_item, key);
    MEMBER(bqfleet_item, payload);
    MEMBER(bqfleet_item, attempt);
    MEMBER(bqfleet_item, deadline_ms);
    STRUCT(bqfleet_handler);
    MEMBER(bqfleet_handler, abi);
    MEMBER(bqfleet_handler, size);
    MEMBER(bqfleet_handler, name);
    MEMBER(bqfleet_handler, process);
    MEMBER(bqfleet_handler, open);
    MEMBER(bqfleet_handler, close);
    VALUE(BQFLEET_ABI);
    VALUE(BQFLEET_HOST_ABI);
    VALUE(BQFLEET_DONE);
    VALUE(BQFLEET_RETRY);
    VALUE(BQFLEET_TASK);
    VALUE(BQFLEET_FATAL);
}

/* Sizes say nothing of what functions take. */
#define SAME(type, name, signature) _Static_assert(_Generic(((struct type *)0)->name, signature: 1, default: 0), #name " takes something else")
SAME(bqfleet_host, emit, int (*)(struct bqfleet_call *, const char *, size_t));
SAME(bqfleet_host, fail, int (*)(struct bqfleet_call *, int, const char *, size_t));
SAME(bqfleet_host, progress, void (*)(struct bqfleet_call *, double));
SAME(bqfleet_handler, process, int (*)(void *, const struct bqfleet_host *, struct bqfleet_call *, const struct bqfleet_item *));
SAME(bqfleet_handler, open, int (*)(const struct bqfleet_host *, struct bqfleet_call *, const struct bqfleet_hello *, void **));
SAME(bqfleet_handler, close, void (*)(void *));

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every name of ours that the header says anything about. */
static void names(struct buf *out)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    struct error err = ERROR_INIT;
    size_t len = 0, count = 0;
    AUTO(free_ptr) char *text = file_read(BQF_SOURCE_DIR "/include/bqfleet/handler.h", 1 << 20, &len, &err);
    assert_non_null(text);
    AUTO(free_ptr) char **found = xcalloc(len, sizeof(*found));
    for (char *p = text; *(p += strcspn(p, letters)) != '\0';) {
        size_t n = strspn(p, letters);
        if (strncasecmp(p, "bqfleet_", 8) == 0)
            found[count++] = xstrndup(p, n);
        p += n;
    }
    qsort(found, count, sizeof(*found), by_text);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(found[i], found[i - 1]) != 0)
            buf_xprintf(out, "name %s\n", found[i]);
    for (size_t i = 0; i < count; i++)
        free(found[i]);
}

static void the_interface_is_the_one_that_was_recorded(void **state)
{
    (void)state;
    if (sizeof(void *) != 8) /* the record is of 64 bits */
        skip();
    struct buf out = BUF_INIT(1 << 16);
    layouts(&out);
    names(&out);
    golden_compare("../abi/handler.txt", out.data);
    buf_free(&out);
}

/* The library of the tests, built by its own rules: one function is all that it shows. */
static void a_plugin_exports_one_function(void **state)
{
    (void)state;
    AUTO(free_ptr) char *exe = realpath("/proc/self/exe", NULL);
    AUTO(free_ptr) char *path = xasprintf("%.*s/plugin_demo.so", (int)(strrchr(exe, '/') - exe), exe);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fail_msg("%s", dlerror());
    assert_non_null(dlsym(library, "bqfleet_plugin"));
    assert_null(dlsym(library, "demo_process"));
    dlclose(library);
}

/* --- the lines that a host reads ----------------------------------------------------------------------------------------------------------------- */

static int parse(const char *line, struct bqfleet_hello *hello, struct bqfleet_item *item, struct buf *scratch)
{
    struct error err = ERROR_INIT;
    return line_parse(line, strlen(line), hello, item, scratch, &err);
}

static bool is(struct bqfleet_text t, const char *text)
{
    return t.data != NULL && t.len == strlen(text) && memcmp(t.data, text, t.len) == 0;
}

static void an_item_is_taken_apart(void **state)
{
    (void)state;
    struct buf scratch = BUF_INIT(4096);
    struct bqfleet_hello hello;
    struct bqfleet_item item;
    assert_int_equal(parse("{\"item\":7,\"key\":\"a\\\"\\u00e9\\u0000b\",\"attempt\":2,\"deadline_ms\":1767225600000,\"later\":[{}],\"payload\":{\"a\":[1,\"}\"]}}", &hello,
                           &item, &scratch), LINE_ITEM);
    assert_int_equal(item.index, 7);
    assert_int_equal(item.key.len, 6);
    assert_memory_equal(item.key.data, "a\"\xc3\xa9\0b", 6);
    assert_int_equal(item.attempt, 2);
    assert_int_equal(item.deadline_ms, 1767225600000);
    assert_true(is(item.payload, "{\"a\":[1,\"}\"]}"));
    assert_int_equal(parse("{\"item\":0,\"key\":\"\",\"attempt\":1,\"deadline_ms\":1}", &hello, &item, &scratch), LINE_ITEM);
    assert_true(is(item.key, "") && is(item.payload, "null"));
    buf_free(&scratch);
}

static void a_hello_is_taken_apart(void **state)
{
    (void)state;
    struct buf scratch = BUF_INIT(4096);
    struct bqfleet_hello hello;
    struct bqfleet_item item;
    assert_int_equal(parse("{\"hello\":1,\"run\":\"r\",\"batch\":\"b \\u00fc\",\"params\":{\"season\":2025},\"schema\":null}", &hello, &item, &scratch), LINE_HELLO);
    assert_true(is(hello.run, "r") && is(hello.batch, "b \xc3\xbc") && is(hello.params, "{\"season\":2025}") && is(hello.schema, "null"));
    assert_int_equal(parse("{\"hello\":1}", &hello, &item, &scratch), LINE_HELLO);
    assert_true(is(hello.run, "") && is(hello.params, "null"));
    buf_free(&scratch);
}

static void what_is_neither_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "[]", "{}", "{\"hello\":1,\"item\":0}", "{\"item\":-1}", "{\"item\":0,\"key\":7}", "{\"item\":0,\"key\":\"a", "{\"item\":0,}"};
    struct buf scratch = BUF_INIT(4096);
    struct bqfleet_hello hello;
    struct bqfleet_item item;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(parse(bad[i], &hello, &item, &scratch), -1);
    buf_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interface_is_the_one_that_was_recorded),
        cmocka_unit_test(a_plugin_exports_one_function),
        cmocka_unit_test(an_item_is_taken_apart),
        cmocka_unit_test(a_hello_is_taken_apart),
        cmocka_unit_test(what_is_neither_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
