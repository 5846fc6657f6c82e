#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/support_alloc.h"

#define MOST_CALLS 20000   /* of one try: far more than any of them makes */
#define ALARM_SECONDS 60   /* of one try */
#define SAID_SIZE 4096     /* bytes kept of what a child said */
#define NOT_REACHED 77     /* the child's status when it was right and no call was refused */

enum tried { TRIED_RIGHT, TRIED_ERROR, TRIED_OUT_OF_MEMORY, TRIED_WRONG };

static struct { long asked, nth; bool later; } plan;

/* Looked up, for our own calls may be taken, too. */
static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    char *(*strdup)(const char *);
} real;

static bool refused(void)
{
    if (plan.nth == 0)
        return false;
    plan.asked++;
    bool no = plan.later ? plan.asked >= plan.nth : plan.asked == plan.nth;
    if (no)
        errno = ENOMEM;
    return no;
}

static void *our_malloc(size_t size)
{
    return refused() ? NULL : real.malloc(size);
}

static void *our_calloc(size_t count, size_t size)
{
    return refused() ? NULL : real.calloc(count, size);
}

static void *our_realloc(void *p, size_t size)
{
    return refused() ? NULL : real.realloc(p, size);
}

static char *our_strdup(const char *s)
{
    return refused() ? NULL : real.strdup(s);
}

static uintptr_t ours(const char *name)
{
    if (strcmp(name, "malloc") == 0)
        return (uintptr_t)our_malloc;
    if (strcmp(name, "calloc") == 0)
        return (uintptr_t)our_calloc;
    if (strcmp(name, "realloc") == 0)
        return (uintptr_t)our_realloc;
    return strcmp(name, "strdup") == 0 ? (uintptr_t)our_strdup : 0;
}

/* The table may have been made read-only once it was filled. */
static void put(uintptr_t *slot, uintptr_t value)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)slot & ~(page - 1);
    if (mprotect((void *)first, page, PROT_READ | PROT_WRITE) != 0)
        abort();
    *slot = value;
}

struct hunt { const char *library; int found; };

static void take_entries(const struct dl_phdr_info *info, struct hunt *h, const ElfW(Rela) *entry, size_t bytes, const ElfW(Sym) *symbols, const char *names)
{
    for (size_t i = 0; entry != NULL && i < bytes / sizeof(*entry); i++) {
#if __SIZEOF_POINTER__ == 8
        size_t symbol = ELF64_R_SYM(entry[i].r_info);
#else
        size_t symbol = ELF32_R_SYM(entry[i].r_info);
#endif
        uintptr_t value = symbol > 0 ? ours(names + symbols[symbol].st_name) : 0;
        if (value == 0)
            continue;
        put((uintptr_t *)(info->dlpi_addr + entry[i].r_offset), value);
        h->found++;
    }
}

static int take_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct hunt *h = arg;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *base = slash != NULL ? slash + 1 : "";
    size_t len = strlen(h->library);
    if (len > 0 ? strncmp(base, h->library, len) != 0 : info->dlpi_name[0] != '\0')
        return 0;
    const ElfW(Dyn) *d = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            d = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    const ElfW(Sym) *symbols = NULL;
    const ElfW(Rela) *table = NULL, *calls = NULL;
    const char *names = NULL;
    size_t table_bytes = 0, calls_bytes = 0;
    for (; d != NULL && d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_SYMTAB: symbols = (const ElfW(Sym) *)d->d_un.d_ptr; break;
        case DT_STRTAB: names = (const char *)d->d_un.d_ptr; break;
        case DT_RELA: table = (const ElfW(Rela) *)d->d_un.d_ptr; break;
        case DT_RELASZ: table_bytes = d->d_un.d_val; break;
        case DT_JMPREL: calls = (const ElfW(Rela) *)d->d_un.d_ptr; break;
        case DT_PLTRELSZ: calls_bytes = d->d_un.d_val; break;
        default: break;
        }
    }
    take_entries(info, h, table, table_bytes, symbols, names);
    take_entries(info, h, calls, calls_bytes, symbols, names);
    return 1;
}

static void *look_up(const char *name)
{
    void *p = dlsym(RTLD_DEFAULT, name);
    if (p == NULL)
        abort();
    return p;
}

static bool take(const char *library)
{
    *(void **)&real.malloc = look_up("malloc");
    *(void **)&real.calloc = look_up("calloc");
    *(void **)&real.realloc = look_up("realloc");
    *(void **)&real.strdup = look_up("strdup");
    struct hunt h = {.library = library};
    dl_iterate_phdr(take_library, &h);
    return h.found > 0;
}

void alloc_refuse_no_more(void)
{
    plan.nth = 0;
}

static _Noreturn void child(const char *library, long nth, bool later, tried_fn *fn, void *arg)
{
    alarm(ALARM_SECONDS);
    if (!take(library))
        _exit(3);
    plan.nth = nth;
    plan.later = later;
    int rc = fn(arg);
    if (rc == 0 && plan.asked < nth)
        rc = plan.asked > 0 ? NOT_REACHED : 4;
    _exit(rc);
}

/* Reads all that it says, so that it cannot block. */
static int wait_for(pid_t pid, int fd, char *said)
{
    size_t len = 0;
    char rest[512];
    for (;;) {
        bool keep = len < SAID_SIZE - 1;
        ssize_t n = keep ? read(fd, said + len, SAID_SIZE - 1 - len) : read(fd, rest, sizeof(rest));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += keep ? (size_t)n : 0;
    }
    said[len] = '\0';
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

/* True when no call was left to refuse, and the result was right. */
static bool try_one(const char *library, long nth, bool later, tried_fn *fn, void *arg, long *counts)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka takes it for a failed assertion of the test */
        signal(SIGSEGV, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        child(library, nth, later, fn, arg);
    }
    close(fds[1]);
    char said[SAID_SIZE];
    int status = wait_for(pid, fds[0], said);
    close(fds[0]);
    enum tried how = TRIED_WRONG;
    if (WIFEXITED(status) && (WEXITSTATUS(status) <= 1 || WEXITSTATUS(status) == NOT_REACHED))
        how = WEXITSTATUS(status) == 1 ? TRIED_ERROR : TRIED_RIGHT;
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, "bqfleet: ") != NULL && strstr(said, "Assertion") == NULL)
        how = TRIED_OUT_OF_MEMORY;
    counts[how]++;
    if (how == TRIED_WRONG)
        fail_msg("%s: call %ld%s refused: status %#x, and it said: %s", library, nth, later ? " and all later ones" : "", (unsigned)status, said);
    return WIFEXITED(status) && WEXITSTATUS(status) == NOT_REACHED;
}

void alloc_fail_each(const char *library, tried_fn *fn, void *arg)
{
    for (int later = 0; later <= 1; later++) {
        long counts[TRIED_WRONG + 1] = {0}, nth = 1;
        while (!try_one(library, nth, later, fn, arg, counts)) {
            nth += nth < 32 ? 1 : nth / 16;
            assert_true(nth <= MOST_CALLS);
        }
        assert_true(nth > 1);
        print_message("%-14s %s of %ld calls refused: %ld right all the same, %ld errors, %ld ended with a message\n", *library ? library : "all",
                      later ? "a tail" : "one   ", nth - 1, counts[TRIED_RIGHT] - 1, counts[TRIED_ERROR], counts[TRIED_OUT_OF_MEMORY]);
    }
}
