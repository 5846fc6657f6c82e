#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first. */
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/base/spares.h"

static void objects_of_every_size_are_whole_and_apart(void **state)
{
    (void)state;
    struct spares s = {.kept = 0};
    enum { SIZES = SPARES_STEP * SPARES_SIZES + 100 };
    unsigned char *all[SIZES + 1];
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size <= SIZES; size++) {
            all[size] = spares_take(&s, size);
            memset(all[size], (int)(size % 251), size);
        }
        for (size_t size = 1; size <= SIZES; size++) {
            for (size_t i = 0; i < size; i++)
                assert_int_equal(all[size][i], size % 251);
            spares_give(&s, all[size], size);
        }
    }
    spares_free(&s);
}

static void no_more_than_the_limit_is_kept(void **state)
{
    (void)state;
    struct spares s = {.kept = 0};
    enum { COUNT = 2 * LIMIT_SPARES / 512 };
    void **all = xcalloc(COUNT, sizeof(*all));
    for (size_t i = 0; i < COUNT; i++)
        all[i] = spares_take(&s, 500);
    for (size_t i = 0; i < COUNT; i++)
        spares_give(&s, all[i], 500);
    assert_true(s.kept <= LIMIT_SPARES);
    free(all);
    spares_free(&s);
    assert_int_equal(s.kept, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_of_every_size_are_whole_and_apart),
        cmocka_unit_test(no_more_than_the_limit_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
