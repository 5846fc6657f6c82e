#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/log.h"

_Noreturn void fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
    abort();
}

static void on_line(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    json_error_t e;
    json_t *parsed = json_loadb(line, len, 0, &e);
    CHECK(json_is_object(parsed));
    json_decref(parsed);
}

static int64_t noon(void *arg)
{
    (void)arg;
    return INT64_C(1767268800000);
}

void fuzz_begin(void)
{
    log_setup(LOG_INFO, LOG_JSON, noon, NULL);
    log_sink(on_line, NULL);
}

struct input input_of(const uint8_t *data, size_t size)
{
    return (struct input){.p = data, .end = data + size};
}

size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->p);
}

unsigned input_byte(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

int64_t input_small(struct input *in, int64_t below)
{
    int64_t v = input_byte(in);
    return (below > 256 ? v * 256 + input_byte(in) : v) % below;
}

char *input_text(struct input *in, char end, size_t *len)
{
    const uint8_t *stop = in->p < in->end ? memchr(in->p, end, input_left(in)) : NULL;
    size_t n = stop ? (size_t)(stop - in->p) : input_left(in);
    char *text = xmalloc(n + 1); /* of just this size, so that a byte too far is seen */
    if (n > 0)
        memcpy(text, in->p, n);
    text[n] = '\0';
    in->p += n + (stop ? 1 : 0);
    if (len)
        *len = n;
    return text;
}

char *input_rest(struct input *in, size_t *len)
{
    size_t n = input_left(in);
    char *text = xmalloc(n + 1);
    if (n > 0)
        memcpy(text, in->p, n);
    text[n] = '\0';
    in->p = in->end;
    if (len)
        *len = n;
    return text;
}

const char *fuzz_file(const void *data, size_t len)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        CHECK(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(len == 0 || pwrite(fd, data, len, 0) == (ssize_t)len);
    return path;
}
