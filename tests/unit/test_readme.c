#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/buf.h"
#include "common/fleet/settings.h"

/* The README's table of settings is printed from the same rows as --help. With BQF_UPDATE_README=1 the table is written. */

static const char begin_mark[] = "<!-- settings -->\n", end_mark[] = "<!-- /settings -->";

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

static void the_readme_lists_every_setting(void **state)
{
    (void)state;
    AUTO(free_ptr) char *readme = read_all(BQF_SOURCE_DIR "/README.md");
    AUTO(free_ptr) char *table = config_markdown(settings_rows, settings_count);
    char *from = strstr(readme, begin_mark), *to = strstr(readme, end_mark);
    assert_true(from != NULL && to != NULL && from < to);
    from += strlen(begin_mark);
    if (getenv("BQF_UPDATE_README") != NULL) {
        FILE *f = fopen(BQF_SOURCE_DIR "/README.md", "wb");
        assert_non_null(f);
        fprintf(f, "%.*s%s%s", (int)(from - readme), readme, table, to);
        assert_int_equal(fclose(f), 0);
        return;
    }
    AUTO(free_ptr) char *shown = xstrndup(from, (size_t)(to - from));
    assert_string_equal(shown, table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_readme_lists_every_setting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
