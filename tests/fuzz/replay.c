#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/fuzz/fuzz.h"

/* Gives every file of tests/fuzz/corpus to its target, in the ordinary sanitizer build: what fuzzing once found stays found. */

#define TARGET(name) void fuzz_##name(const uint8_t *data, size_t size);
#include "fuzz_targets.h"
#undef TARGET
static const struct { const char *name; void (*run)(const uint8_t *, size_t); } targets[] = {
#define TARGET(name) {#name, fuzz_##name},
#include "fuzz_targets.h"
#undef TARGET
};
#define FILE_MOST (4 * 1024 * 1024) /* bytes of a file of the corpus */

static int no_dots(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* How many files there were. */
static int replay(const char *folder, void (*run)(const uint8_t *, size_t))
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, no_dots, alphasort);
    for (int i = 0; i < n; i++) {
        AUTO(free_ptr) char *path = xasprintf("%s/%s", folder, names[i]->d_name);
        struct error err = ERROR_INIT;
        size_t len;
        AUTO(free_ptr) char *text = file_read(path, FILE_MOST, &len, &err);
        if (text == NULL) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        AUTO(free_ptr) uint8_t *bytes = xmalloc(len > 0 ? len : 1); /* of just this size */
        memcpy(bytes, text, len);
        fprintf(stderr, "%s\n", path); /* names the one that fails */
        run(bytes, len);
        free(names[i]);
    }
    free(names);
    return n;
}

int main(int argc, char **argv)
{
    bool failed = false;
    fuzz_begin();
    printf("[==========] Running %zu test(s).\n", ARRAY_LEN(targets));
    fflush(stdout);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (argc > 1 && strcmp(argv[1], targets[i].name) != 0)
            continue;
        AUTO(free_ptr) char *folder = xasprintf("%s/%s", BQF_FUZZ_CORPUS, targets[i].name);
        int files = replay(folder, targets[i].run);
        if (files <= 0)
            fprintf(stderr, "%s holds no files\n", folder);
        failed |= files <= 0;
        printf("[ %8s ] %s_takes_its_corpus\n", files > 0 ? "OK" : "FAILED", targets[i].name);
        fflush(stdout);
    }
    return failed;
}
