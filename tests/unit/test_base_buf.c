#include "common/base/buf.h"
#include "common/base/error.h"

#include <setjmp.h>
#include <cmocka.h>

static void buffer_refuses_what_passes_its_ceiling_and_stays_as_it_was(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT(5);
    assert_int_equal(buf_puts(&b, "abc"), 0);
    assert_int_equal(buf_puts(&b, "def"), -1);
    assert_int_equal(buf_printf(&b, "%d", 123), -1);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_string_equal(b.data, "abc");
    assert_int_equal(buf_puts(&b, "de"), 0);
    assert_int_equal(b.len, 5);
}

static void buffer_keeps_what_was_not_consumed(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT(1000);
    for (int i = 0; i < 100; i++)
        buf_xprintf(&b, "%02d ", i);
    buf_consume(&b, 3 * 98);
    assert_string_equal(b.data, "98 99 ");
    buf_consume(&b, 6);
    assert_string_equal(b.data, "");
}

static void stolen_text_leaves_an_empty_buffer_with_the_same_ceiling(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(3);
    AUTO(free_ptr) char *empty = buf_steal(&b);
    assert_string_equal(empty, "");
    buf_xputs(&b, "abc");
    AUTO(free_ptr) char *text = buf_steal(&b);
    assert_string_equal(text, "abc");
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_puts(&b, "abcd"), -1);
    buf_free(&b);
}

static void error_text_that_is_too_long_ends_in_dots(void **state)
{
    (void)state;
    char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    struct error err = ERROR_INIT;
    assert_int_equal(error_set(&err, ERR_TASK, 7, "%s", big), -1);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_string_equal(err.text + sizeof(err.text) - 4, "...");
    assert_int_equal(error_prefix(&err, "item %d", 4), -1);
    assert_memory_equal(err.text, "item 4: xxx", 11);
    assert_string_equal(err.text + sizeof(err.text) - 4, "...");
    assert_int_equal(error_set(NULL, ERR_TASK, 0, "nobody asks"), -1);
}

static void error_kinds_have_names_that_read_back(void **state)
{
    (void)state;
    for (int k = ERR_NONE; k <= ERR_USAGE; k++)
        assert_int_equal(error_kind_parse(error_kind_name((enum error_kind)k)), k);
    assert_int_equal(error_kind_parse("rety"), ERR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_refuses_what_passes_its_ceiling_and_stays_as_it_was),
        cmocka_unit_test(buffer_keeps_what_was_not_consumed),
        cmocka_unit_test(stolen_text_leaves_an_empty_buffer_with_the_same_ceiling),
        cmocka_unit_test(error_text_that_is_too_long_ends_in_dots),
        cmocka_unit_test(error_kinds_have_names_that_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
