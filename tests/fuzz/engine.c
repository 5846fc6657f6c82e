#include "tests/fuzz/fuzz.h"

/* libFuzzer's side of one target; BQF_FUZZ_TARGET is its name. */
#define TARGET2(name) fuzz_##name
#define TARGET(name) TARGET2(name)
void TARGET(BQF_FUZZ_TARGET)(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TARGET(BQF_FUZZ_TARGET)(data, size);
    return 0;
}
