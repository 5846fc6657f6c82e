#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/failures.h"
#include "common/fleet/settings.h"

/* Tables in the documentation are printed from the rows that decide: settings, failures. With BQF_UPDATE_README=1 they are written. */

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    struct buf b = BUF_INIT(1 << 20);
    for (int c; (c = fgetc(f)) != EOF;) {
        const char one = (char)c;
        buf_xadd(&b, &one, 1);
    }
    fclose(f);
    return buf_steal(&b);
}

static void shows(const char *path, const char *begin_mark, const char *end_mark, const char *table)
{
    AUTO(free_ptr) char *text = read_all(path);
    char *from = strstr(text, begin_mark), *to = strstr(text, end_mark);
    assert_true(from != NULL && to != NULL && from < to);
    from += strlen(begin_mark);
    if (getenv("BQF_UPDATE_README") != NULL) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fprintf(f, "%.*s%s%s", (int)(from - text), text, table, to);
        assert_int_equal(fclose(f), 0);
        return;
    }
    AUTO(free_ptr) char *shown = xstrndup(from, (size_t)(to - from));
    assert_string_equal(shown, table);
}

static void the_readme_lists_every_setting(void **state)
{
    (void)state;
    AUTO(free_ptr) char *table = config_markdown(settings_rows, settings_count);
    shows(BQF_SOURCE_DIR "/README.md", "<!-- settings -->\n", "<!-- /settings -->", table);
}

static void the_docs_list_every_failure(void **state)
{
    (void)state;
    AUTO(free_ptr) char *table = failures_markdown();
    shows(BQF_SOURCE_DIR "/docs/errors.md", "<!-- errors -->\n", "<!-- /errors -->", table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_readme_lists_every_setting), cmocka_unit_test(the_docs_list_every_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
