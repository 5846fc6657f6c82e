#include "common/base/ids.h"

#include <setjmp.h>
#include <cmocka.h>

static void ids_sort_by_their_time_and_never_repeat(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 1);
    char before[ID_LEN + 1] = "", id[ID_LEN + 1];
    for (int64_t ms = 1700000000000; ms < 1700000000000 + 5000; ms += 7) {
        id_new(id, ms, &rnd);
        assert_int_equal(strlen(id), ID_LEN);
        assert_int_equal(strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz"), ID_LEN);
        assert_true(strcmp(before, id) < 0);
        memcpy(before, id, sizeof(id));
    }
    char twin[ID_LEN + 1];
    id_new(id, 5, &rnd);
    id_new(twin, 5, &rnd);
    assert_memory_equal(id, twin, 10);
    assert_string_not_equal(id, twin);
}

static void a_new_id_is_a_run_id(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_system(&rnd);
    char id[ID_LEN + 1];
    id_new(id, 1700000000000, &rnd);
    assert_int_equal(id_check_run(id, NULL), 0);
    assert_int_equal(id_check_name("run id", id, NULL), 0);
}

static void names_that_cannot_be_are_refused_with_their_word(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char longest[130];
    memset(longest, 'a', 129);
    longest[129] = '\0';
    assert_int_equal(id_check_name("queue", longest + 1, &err), 0);
    assert_int_equal(id_check_name("queue", longest, &err), -1);
    assert_int_equal(id_check_name("queue", "A.b_c-9", &err), 0);
    const char *const bad[] = {"", ".a", "-a", "a b", "a/b", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(id_check_name("queue", bad[i], &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_memory_equal(err.text, "queue \"a\n\": ", 12);
    const char *const bad_runs[] = {"", "Run", "a.b", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < ARRAY_LEN(bad_runs); i++)
        assert_int_equal(id_check_run(bad_runs[i], &err), -1);
}

static void digests_are_the_published_ones(void **state)
{
    (void)state;
    char hex[65];
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(hash_bytes(HASH_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(hash_bytes(hash_bytes(HASH_START, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

static void the_same_seed_gives_the_same_numbers_and_another_seed_others(void **state)
{
    (void)state;
    struct rnd a, b, c;
    rnd_seeded(&a, 42);
    rnd_seeded(&b, 42);
    rnd_seeded(&c, 43);
    assert_true(rnd_u64(&a) == rnd_u64(&b));
    assert_true(rnd_u64(&b) != rnd_u64(&c));
    assert_true(rnd_u64(&a) != 0);
    char x[21], y[21];
    rnd_text(&a, x, 20);
    rnd_text(&b, y, 20);
    assert_string_equal(x, y);
    assert_int_equal(strlen(x), 20);
}

static void numbers_below_a_bound_reach_all_of_it_evenly(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 7);
    int hits[5] = {0};
    for (int i = 0; i < 50000; i++)
        hits[rnd_below(&rnd, 5)]++;
    for (int i = 0; i < 5; i++)
        assert_in_range(hits[i], 9500, 10500);
    assert_true(rnd_below(&rnd, 1) == 0);
    uint64_t third = UINT64_C(1) << 62; /* 2^64 is four of these, and a bound of three leaves one over */
    int low = 0;
    for (int i = 0; i < 3000; i++) {
        uint64_t n = rnd_below(&rnd, 3 * third);
        assert_true(n < 3 * third);
        low += n < third;
        double real = rnd_real(&rnd);
        assert_true(real >= 0 && real < 1);
    }
    assert_in_range(low, 880, 1120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_sort_by_their_time_and_never_repeat),
        cmocka_unit_test(a_new_id_is_a_run_id),
        cmocka_unit_test(names_that_cannot_be_are_refused_with_their_word),
        cmocka_unit_test(digests_are_the_published_ones),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers_and_another_seed_others),
        cmocka_unit_test(numbers_below_a_bound_reach_all_of_it_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
