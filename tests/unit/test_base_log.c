#include "common/base/log.h"

#include <setjmp.h>
#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/doc.h"

static int64_t noon(void *clock)
{
    (void)clock;
    return INT64_C(1769860800123);
}

static void keep(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)level;
    struct buf *b = arg;
    buf_clear(b);
    buf_xadd(b, line, len);
}

static int in_utc(void **state)
{
    (void)state;
    return setenv("TZ", "UTC", 1);
}

static void plain_lines_name_their_item(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf line = BUF_INIT(20000);
    log_sink(keep, &line);
    log_setup(LOG_INFO, LOG_PLAIN, noon, NULL);
    const struct log_ctx ctx = {.run = "r1", .item1 = LOG_ITEM(42), .attempt = 2};
    log_line(LOG_WARN, &ctx, "took %d s", 3);
    assert_string_equal(line.data, "12:00:00 warn  [run r1 item 42 attempt 2] took 3 s");
    log_info("started");
    assert_string_equal(line.data, "12:00:00 info  started");
    log_sink(NULL, NULL);
}

static void foreign_text_can_neither_break_a_line_nor_a_terminal(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf line = BUF_INIT(20000);
    log_sink(keep, &line);
    log_setup(LOG_INFO, LOG_PLAIN, noon, NULL);
    log_err("%s", "a\nb\x1b[31m\tc\x7f \xc2\x9b \xff \xc3\xa4 \"q\"");
    assert_string_equal(line.data, "12:00:00 error a\\nb\\x1b[31m\\tc\\x7f \\x9b \\xff \xc3\xa4 \"q\"");
    log_setup(LOG_INFO, LOG_JSON, noon, NULL);
    log_err("%s", "a\n\"b\"\\\x01\xff");
    AUTO(doc_free_auto) doc *d = doc_parse(line.data, line.len, "line", NULL);
    assert_string_equal(doc_str(d, "msg", ""), "a\n\"b\"\\\x01\xef\xbf\xbd");
    log_sink(NULL, NULL);
}

static void json_lines_carry_all_fields(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf line = BUF_INIT(20000);
    log_sink(keep, &line);
    log_setup(LOG_DEBUG, LOG_JSON, noon, NULL);
    const struct log_ctx ctx = {.run = "r1", .worker = "w\"1", .job = "j", .item1 = LOG_ITEM(0), .attempt = 1, .partition1 = 1};
    log_line(LOG_DEBUG, &ctx, "hello");
    assert_string_equal(line.data, "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"debug\",\"msg\":\"hello\",\"run\":\"r1\",\"item\":0,"
                                   "\"attempt\":1,\"worker\":\"w\\\"1\",\"job\":\"j\",\"partition\":0}");
    log_sink(NULL, NULL);
}

static void a_line_that_is_too_long_is_cut_and_still_whole_json(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf line = BUF_INIT(20000);
    AUTO(free_ptr) char *big = xmalloc(40001);
    for (size_t i = 0; i < 40000; i += 2)
        memcpy(big + i, "\xc3\xa4", 2);
    big[40000] = '\0';
    const struct log_ctx ctx = {.run = big, .item1 = LOG_ITEM(7)};
    log_sink(keep, &line);
    log_setup(LOG_INFO, LOG_JSON, noon, NULL);
    log_line(LOG_INFO, &ctx, "x%s", big);
    assert_in_range(line.len, 16000, 16384);
    AUTO(doc_free_auto) doc *d = doc_parse(line.data, line.len, "line", NULL);
    assert_int_equal(doc_int(d, "item", -1), 7);
    const char *msg = doc_str(d, "msg", "");
    assert_string_equal(msg + strlen(msg) - 3, "...");
    log_setup(LOG_INFO, LOG_PLAIN, noon, NULL);
    log_line(LOG_INFO, NULL, "%s", big);
    assert_in_range(line.len, 16000, 16384);
    assert_string_equal(line.data + line.len - 3, "...");
    log_sink(NULL, NULL);
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf line = BUF_INIT(20000);
    log_sink(keep, &line);
    enum log_level level;
    assert_int_equal(log_level_parse("warn", &level, NULL), 0);
    log_setup(level, LOG_PLAIN, noon, NULL);
    log_info("quiet");
    assert_int_equal(line.len, 0);
    assert_true(log_enabled(LOG_ERROR) && !log_enabled(LOG_INFO));
    struct error err = ERROR_INIT;
    assert_int_equal(log_level_parse("loud", &level, &err), -1);
    assert_non_null(strstr(err.text, "debug, info, warn or error"));
    log_sink(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_name_their_item),
        cmocka_unit_test(foreign_text_can_neither_break_a_line_nor_a_terminal),
        cmocka_unit_test(json_lines_carry_all_fields),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_whole_json),
        cmocka_unit_test(lines_below_the_level_are_not_written),
    };
    return cmocka_run_group_tests(tests, in_utc, NULL);
}
