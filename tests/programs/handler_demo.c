#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A handler for tests and benchmarks, without any library: reads the exec protocol's lines, as many as come, and answers.
 *   handler_demo rows [N]     N rows an item (1): {"k":KEY,"v":ITEM}
 *   handler_demo none         no rows
 *   handler_demo crash KEY    like rows, but dies of SIGSEGV at that key
 *   handler_demo hang KEY     like rows, but never answers that key
 *   handler_demo deaf         reads nothing, says nothing
 */

static const char *field(const char *line, const char *name)
{
    const char *at = strstr(line, name);
    return at ? at + strlen(name) : NULL;
}

static void answer(const char *line, const char *mode, const char *arg)
{
    const char *item = field(line, "\"item\":"), *key = field(line, "\"key\":\"");
    if (item == NULL || key == NULL) {
        puts("{\"ready\":true}");
        return;
    }
    long long index = atoll(item);
    int key_len = (int)strcspn(key, "\"");
    int special = arg != NULL && strncmp(key, arg, (size_t)key_len) == 0 && arg[key_len] == '\0';
    if (special && strcmp(mode, "crash") == 0) {
        fflush(stdout);
        fputs("handler_demo dies as it was told to\n", stderr);
        abort();
    }
    if (special && strcmp(mode, "hang") == 0)
        return;
    long rows = strcmp(mode, "none") == 0 ? 0 : strcmp(mode, "rows") == 0 && arg != NULL ? atol(arg) : 1;
    for (long i = 0; i < rows; i++)
        printf("{\"item\":%lld,\"row\":{\"k\":\"%.*s\",\"v\":%lld}}\n", index, key_len, key, index);
    printf("{\"item\":%lld,\"done\":true}\n", index);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "rows", *arg = argc > 2 ? argv[2] : NULL;
    static char out[1 << 16];
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    if (strcmp(mode, "deaf") == 0)
        for (;;)
            pause();
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        answer(line, mode, arg);
        fflush(stdout);
    }
    free(line);
    return 0;
}
