#include <fcntl.h>
#include <stdarg.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/base/buf.h"
#include "tests/unit/support_items.h"

/* Items from every kind of source, and what is said about those that are wrong. */

static char folder[] = "/tmp/bqfleet_items_XXXXXX";
static char path[64];

static void write_file(const char *text, size_t len)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

static void begin_file(struct reading *r, enum items_kind kind, const char *key, const char *text)
{
    write_file(text, strlen(text));
    reading_begin(r, kind, path, key, NULL);
    reading_open(r);
}

static void ndjson_lines_are_payloads_with_a_key(void **state)
{
    (void)state;
    struct reading r;
    begin_file(&r, ITEMS_FILE, "id", "\xef\xbb\xbf{\"id\": \"a\", \"x\": 1}\r\n\n   \n{\"id\":7}\n{\"x\":[{\"id\":\"no\"}],\"id\":\"\xc3\xa4\"}");
    gives(&r, 0, "a", "{\"id\": \"a\", \"x\": 1}");
    gives(&r, 1, "7", "{\"id\":7}");
    gives(&r, 2, "\xc3\xa4", NULL);
    ends(&r);
    assert_true(items_keys_checked(r.items));
    assert_int_equal(items_expected(r.items), -1);
    reading_end(&r);
}

static void a_line_that_is_no_item_ends_it_with_file_and_line(void **state)
{
    (void)state;
    const struct { const char *text, *said; } bad[] = {
        {"{\"id\":1}\n{\"id\":2\n", ":2: not a line of JSON: column "},
        {"\n\n[1]\n", ":3: not a JSON object"},
        {"{\"x\":1}\n", ":1: the field \"id\" (items.key) is missing"},
        {"{\"id\":null}\n", ":1: the field \"id\" (items.key) is null"},
        {"{\"id\":\"\"}\n", ":1: the field \"id\" (items.key) is empty"},
        {"{\"id\":1.5}\n", ":1: the field \"id\" (items.key) is neither a string nor an integer"},
        {"{\"id\":\"a\\u0000b\"}\n", ":1: the field \"id\" (items.key) is a text with a NUL inside"},
        {"{\"id\":1,\"id\":2}\n", ":1: not a line of JSON: "},
        {"{\"id\":1}\n{\"id\":2}\n\n{\"id\":\"1\"}\n", ":4: the key \"1\" is used twice, first in line 1"},
        {"{\"id\":\"\xff\"}\n", ":1: not a line of JSON: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reading r;
        begin_file(&r, ITEMS_FILE, "id", bad[i].text);
        ends_in_error(&r, bad[i].said);
        reading_end(&r);
    }
}

static void an_item_over_the_limit_fails_alone_and_keeps_its_key(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(16 << 20);
    AUTO(free_ptr) char *large = xmalloc(LIMIT_PAYLOAD + 1);
    AUTO(free_ptr) char *key = xcalloc(1, LIMIT_KEY + 2);
    memset(large, 'x', LIMIT_PAYLOAD);
    large[LIMIT_PAYLOAD] = '\0';
    memset(key, 'k', LIMIT_KEY + 1);
    buf_xprintf(&text, "{\"id\":\"a\"}\n{\"list\":[1,{\"id\":\"wrong\"},\"}\\\"\"],\"id\":\"big\",\"x\":\"%s\"}\n", large);
    buf_xprintf(&text, "{\"x\":\"%s\",\"id\":\"late\"}\n{\"id\":\"%s\"}\n{\"id\":\"b\"}\n", large, key);
    write_file(text.data, text.len);
    struct reading r;
    reading_begin(&r, ITEMS_FILE, path, "id", NULL);
    reading_open(&r);
    gives(&r, 0, "a", NULL);
    fails_alone(&r, 1, "big", ":2: the item has more than 921600 bytes");
    fails_alone(&r, 2, "", ":3: the item has more than 921600 bytes");
    key[LIMIT_KEY] = '\0';
    fails_alone(&r, 3, key, "its key has more than 1024 bytes");
    gives(&r, 4, "b", NULL);
    ends(&r);
    reading_end(&r);
    buf_free(&text);
}

static void csv_records_become_objects_of_strings(void **state)
{
    (void)state;
    struct reading r;
    begin_file(&r, ITEMS_CSV, "id", "\xef\xbb\xbfid,name,\"a \"\"note\"\"\"\r\n1,Jos\xc3\xa9,x\r\n\r\n2,\"Smith, \"\"J\"\"\",\"two\r\nlines\"\n3,,\n\"4\",t\tt,a\"b");
    gives(&r, 0, "1", "{\"id\":\"1\",\"name\":\"Jos\xc3\xa9\",\"a \\\"note\\\"\":\"x\"}");
    gives(&r, 1, "2", "{\"id\":\"2\",\"name\":\"Smith, \\\"J\\\"\",\"a \\\"note\\\"\":\"two\\u000d\\nlines\"}");
    gives(&r, 2, "3", "{\"id\":\"3\",\"name\":\"\",\"a \\\"note\\\"\":\"\"}");
    gives(&r, 3, "4", "{\"id\":\"4\",\"name\":\"t\\tt\",\"a \\\"note\\\"\":\"a\\\"b\"}");
    ends(&r);
    reading_end(&r);
}

static void csv_of_one_column_and_of_no_record_is_fine(void **state)
{
    (void)state;
    struct reading r;
    begin_file(&r, ITEMS_CSV, "id", "id\na\n\n\"b\"");
    gives(&r, 0, "a", "{\"id\":\"a\"}");
    gives(&r, 1, "b", "{\"id\":\"b\"}");
    ends(&r);
    reading_end(&r);
    begin_file(&r, ITEMS_CSV, "id", "id,x");
    ends(&r);
    reading_end(&r);
}

static void csv_that_is_damaged_is_told_with_its_line(void **state)
{
    (void)state;
    const struct { const char *text, *said; } bad[] = {
        {"", ":1: no header"},
        {"idd,x\n1,2\n", ":1: the header has no column \"id\" (items.key); did you mean \"idd\"?"},
        {"id,id\n", ":1: the header names column \"id\" twice"},
        {"id,,x\n", ":1: the header's column 2 has no name"},
        {"id,x\n1\n", ":2: 1 field, and the header has 2 columns"},
        {"id,x\n1,2\n1,2,3\n", ":3: more fields than the 2 columns"},
        {"id,x\n1,\"a\nb\"\n2,\"c\n\n", ":4: a quote is opened in this line and never closed"},
        {"id,x\n1,\"a\"b\n", ":2: text after a closing quote"},
        {"id,x\n1,\"a\nb\"\n,2\n", ":4: column \"id\", which is the key, is empty"},
        {"id,x\n1,\"a\nb\"\n1,2\n", ":4: the key \"1\" is used twice, first in line 2"},
        {"id,x\n1,\xff\n", ":2: column \"x\" is not UTF-8 text"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reading r;
        begin_file(&r, ITEMS_CSV, "id", bad[i].text);
        ends_in_error(&r, bad[i].said);
        reading_end(&r);
    }
}

static void a_csv_record_over_the_limit_fails_alone(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(16 << 20);
    AUTO(free_ptr) char *large = xmalloc(LIMIT_PAYLOAD + 1);
    memset(large, 'x', LIMIT_PAYLOAD);
    large[LIMIT_PAYLOAD] = '\0';
    buf_xprintf(&text, "x,id\n%s%s,big\ny,b\n", large, large);
    write_file(text.data, text.len);
    struct reading r;
    reading_begin(&r, ITEMS_CSV, path, "id", NULL);
    reading_open(&r);
    fails_alone(&r, 0, "big", ":2: the item has more than");
    gives(&r, 1, "b", "{\"x\":\"y\",\"id\":\"b\"}");
    ends(&r);
    reading_end(&r);
    buf_free(&text);
}

static void lines_are_keys_without_payload(void **state)
{
    (void)state;
    struct reading r;
    begin_file(&r, ITEMS_LINES, NULL, "a\r\n\n  \n b c\n\"d\"");
    gives(&r, 0, "a", "");
    gives(&r, 1, " b c", "");
    gives(&r, 2, "\"d\"", "");
    ends(&r);
    reading_end(&r);
    begin_file(&r, ITEMS_LINES, NULL, "a\nb\na\n");
    ends_in_error(&r, ":3: the key \"a\" is used twice, first in line 1");
    reading_end(&r);
    begin_file(&r, ITEMS_LINES, NULL, "a\nb\xff\n");
    ends_in_error(&r, ":2: not a line of UTF-8 text (byte 2)");
    reading_end(&r);
}

static void lists_and_ranges_know_how_many_they_are(void **state)
{
    (void)state;
    struct reading r;
    char *list[] = {(char *)"x", (char *)"y", (char *)"x", NULL};
    reading_begin(&r, ITEMS_LIST, path, NULL, NULL);
    r.spec.items.list = list;
    r.spec.items.list_count = 2;
    reading_open(&r);
    assert_int_equal(items_expected(r.items), 2);
    gives(&r, 0, "x", "");
    gives(&r, 1, "y", "");
    ends(&r);
    items_close(r.items);
    r.spec.items.list_count = 3;
    reading_open(&r);
    ends_in_error(&r, "spec.yaml:3:5: items.list, value 3: the key \"x\" is used twice, first in value 1");
    reading_end(&r);

    reading_begin(&r, ITEMS_RANGE, path, NULL, NULL);
    r.spec.items.from = -1;
    r.spec.items.to = 1;
    reading_open(&r);
    assert_int_equal(items_expected(r.items), 3);
    gives(&r, 0, "-1", "");
    gives(&r, 1, "0", "");
    gives(&r, 2, "1", "");
    ends(&r);
    assert_true(items_keys_checked(r.items));
    reading_end(&r);
}

static void a_source_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct reading r;
    reading_begin(&r, ITEMS_FILE, path, "id", NULL);
    r.spec.items.source = (char *)"/nowhere/items";
    assert_null(items_open(&r.spec, &r.world, NULL, NULL, NULL, &r.err));
    assert_int_equal(r.err.kind, ERR_USAGE);
    assert_string_equal(r.err.text, "spec.yaml:3:5: items: /nowhere/items: cannot be read: No such file or directory");
    r.spec.items.source = folder;
    assert_null(items_open(&r.spec, &r.world, NULL, NULL, NULL, &r.err));
    assert_non_null(strstr(r.err.text, "it is a folder"));
    loop_free(r.world.loop);
}

static void a_pipe_is_waited_for_without_blocking(void **state)
{
    (void)state;
    struct reading r;
    char fifo[80];
    snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int keep = open(fifo, O_RDWR); /* so that neither side's open waits */
    reading_begin(&r, ITEMS_CSV, path, "id", NULL);
    r.spec.items.source = fifo;
    reading_open(&r);
    int out = open(fifo, O_WRONLY);
    close(keep);
    struct item item;
    assert_int_equal(items_next(r.items, &item, &r.err), 2);
    assert_int_equal(write(out, "id,x\n1,\"a", 9), 9);
    assert_int_equal(items_next(r.items, &item, &r.err), 2);
    assert_int_equal(write(out, "b\"\n2,c", 6), 6);
    gives(&r, 0, "1", "{\"id\":\"1\",\"x\":\"ab\"}"); /* what was read before the wait is still there */
    assert_int_equal(items_next(r.items, &item, &r.err), 2);
    close(out);
    gives(&r, 1, "2", "{\"id\":\"2\",\"x\":\"c\"}");
    ends(&r);
    reading_end(&r);
    unlink(fifo);
}

static void keys_are_compared_up_to_a_million_and_that_is_told(void **state)
{
    (void)state;
    FILE *f = fopen(path, "w");
    for (int64_t i = 0; i <= LIMIT_UNIQUE_KEYS; i++)
        fprintf(f, "%" PRId64 "\n", i);
    fprintf(f, "5\n");
    fclose(f);
    struct reading r;
    struct item item;
    reading_begin(&r, ITEMS_LINES, path, NULL, NULL);
    reading_open(&r);
    for (int64_t i = 0; i < LIMIT_UNIQUE_KEYS; i++)
        if (items_next(r.items, &item, &r.err) != 1)
            fail_msg("%s", r.err.text);
    assert_true(items_keys_checked(r.items));
    assert_int_equal(items_next(r.items, &item, &r.err), 1);
    assert_false(items_keys_checked(r.items));
    assert_int_equal(items_next(r.items, &item, &r.err), 1); /* "5" again */
    ends(&r);
    reading_end(&r);
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/items", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ndjson_lines_are_payloads_with_a_key),
        cmocka_unit_test(a_line_that_is_no_item_ends_it_with_file_and_line),
        cmocka_unit_test(an_item_over_the_limit_fails_alone_and_keeps_its_key),
        cmocka_unit_test(csv_records_become_objects_of_strings),
        cmocka_unit_test(csv_of_one_column_and_of_no_record_is_fine),
        cmocka_unit_test(csv_that_is_damaged_is_told_with_its_line),
        cmocka_unit_test(a_csv_record_over_the_limit_fails_alone),
        cmocka_unit_test(lines_are_keys_without_payload),
        cmocka_unit_test(lists_and_ranges_know_how_many_they_are),
        cmocka_unit_test(a_source_that_is_not_there_is_named),
        cmocka_unit_test(a_pipe_is_waited_for_without_blocking),
        cmocka_unit_test(keys_are_compared_up_to_a_million_and_that_is_told),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
