#include "tests/sim/check.h"

#include <getopt.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"

/* Runs seeds, each in a process of its own, so that one that dies is just one that failed. */

#define SEED_CPU_S 120 /* of one seed: beyond it something turns in a circle */

struct options { uint64_t first, seeds, seed; int jobs; bool one, trace; int64_t soak_ms; const char *file, *junit; };
struct totals { struct report sum; int64_t broken[INV_COUNT]; char *first[INV_COUNT];  int64_t *sizes; size_t count, cap; int violations; int64_t longest_ms; uint64_t longest_seed; double cpu_most; uint64_t cpu_seed; double cpu; };
struct place { pid_t pid; uint64_t seed; struct report *report; };

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void no_line(void *arg, enum log_level level, const char *line, size_t len)
{
    (void)arg, (void)level;
    if (trace_on())
        trace("", "%.*s", (int)len, line);
}

static int64_t no_time(void *arg)
{
    (void)arg;
    return 0;
}

static void quiet_log(bool all)
{
    log_setup(all ? LOG_DEBUG : LOG_ERROR, LOG_PLAIN, no_time, NULL);
    log_sink(no_line, NULL);
}

/* --- what came of it ----------------------------------------------------------------------------------------------------------------------------------- */

static void show_violation(const struct report *r)
{
    printf("seed %" PRIu64 " breaks invariant %d (%s) at %" PRId64 " ms: %s\n  replay: tests/sim/run --seed %" PRIu64 " --trace\n", r->seed, r->violation,
           invariant_name(r->violation), r->virtual_ms, r->text, r->seed);
    fflush(stdout);
}

static void add(struct totals *t, const struct report *r, double cpu)
{
    if (r->violation != 0) {
        t->violations++;
        if (t->broken[r->violation]++ == 0)
            t->first[r->violation] = xasprintf("seed %" PRIu64 ": %s", r->seed, r->text);
        show_violation(r);
    }
    if (t->count == t->cap)
        t->sizes = xreallocarray(t->sizes, t->cap = t->cap * 2 + 1024, sizeof(*t->sizes));
    t->sizes[t->count++] = r->items;
    t->sum.items += r->items;
    t->sum.workers += r->workers;
    t->sum.statements += r->statements;
    t->sum.loads += r->loads;
    t->sum.requests += r->requests;
    t->sum.faults += r->faults;
    t->sum.runs += r->runs;
    t->sum.rows += r->rows;
    t->sum.commits += r->commits;
    t->sum.virtual_ms += r->virtual_ms;
    for (int i = 0; i < DEED_COUNT; i++)
        t->sum.deeds[i] += r->deeds[i];
    for (size_t i = 0; i < ARRAY_LEN(r->ends); i++)
        t->sum.ends[i] += r->ends[i];
    for (int i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        t->sum.chaos[i] += r->chaos[i];
    if (r->wait_ms > t->longest_ms) {
        t->longest_ms = r->wait_ms;
        t->longest_seed = r->seed;
    }
    t->cpu += cpu;
    if (cpu > t->cpu_most) {
        t->cpu_most = cpu;
        t->cpu_seed = r->seed;
    }
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void show_totals(struct totals *t, int64_t took_ms)
{
    static const char *const ends[16] = {"withdrawn", "", "written", "", "", "", "", "", "accepted", "adopted", "cancelled", "abandoned", "fatal", "lost", "", "failed"};
    if (t->count == 0)
        return;
    qsort(t->sizes, t->count, sizeof(t->sizes[0]), by_size);
    printf("%zu seeds in %" PRId64 " s (%.3f s of CPU each, %.1f at most: seed %" PRIu64 "), %.0f h of virtual time; items: %" PRId64 ", median %" PRId64 ", mean %" PRId64 ", most %"
           PRId64 "\n", t->count, took_ms / 1000, t->cpu / (double)t->count, t->cpu_most, t->cpu_seed, (double)t->sum.virtual_ms / 3600000, t->sum.items,
           t->sizes[t->count / 2], t->sum.items / (int64_t)t->count, t->sizes[t->count - 1]);
    printf("%" PRId64 " runs:", t->sum.runs);
    for (int i = 0; i < 16; i++)
        if (t->sum.ends[i] > 0)
            printf(" %" PRId64 " %s", t->sum.ends[i], ends[i]);
    printf("; %" PRId64 " requests, %" PRId64 " loads, %" PRId64 " statements, %" PRId64 " rows in targets, %" PRId64 " commits\n", t->sum.requests, t->sum.loads, t->sum.statements,
           t->sum.rows, t->sum.commits);
    for (int i = 0; i < DEED_COUNT; i++)
        printf("%s%" PRId64 " %s", i ? ", " : "", t->sum.deeds[i], deed_name((enum deed)i));
    printf("\n%" PRId64 " faults of BigQuery struck:", t->sum.faults);
    for (int i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        if (t->sum.chaos[i] > 0)
            printf(" %s %" PRId64, bqmodel_chaos_name((enum bqmodel_chaos_kind)i), t->sum.chaos[i]);
    printf("\nlongest wait after the calm: %.0f s (seed %" PRIu64 ")\n%d violations\n", (double)t->longest_ms / 1000, t->longest_seed, t->violations);
}

static void put_xml(FILE *f, const char *text)
{
    for (; *text; text++)
        if (strchr("<>&\"", *text) != NULL || (unsigned char)*text < ' ' || (unsigned char)*text > '~')
            fprintf(f, "&#%d;", (unsigned char)*text < ' ' ? ' ' : (unsigned char)*text);
        else
            fputc(*text, f);
}

/* A test for each invariant: no seed breaks it. */
static void write_junit(const struct totals *t, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return;
    fprintf(f, "<testsuite name=\"simulation\" tests=\"%d\">\n", INV_COUNT - 1);
    for (int i = 1; i < INV_COUNT; i++) {
        fprintf(f, "<testcase classname=\"simulation\" name=\"%zu seeds: ", t->count);
        put_xml(f, invariant_name(i));
        fputs("\">", f);
        if (t->broken[i] > 0) {
            fprintf(f, "<failure message=\"%" PRId64 " seeds break it\">", t->broken[i]);
            put_xml(f, t->first[i]);
            fputs("</failure>", f);
        }
        fputs("</testcase>\n", f);
    }
    fputs("</testsuite>\n", f);
    fclose(f);
}

/* --- one seed after the other ------------------------------------------------------------------------------------------------------------------------------ */

/* Built with counters of lines and branches (tests/sim/coverage), it has this. */
extern void __gcov_dump(void) __attribute__((weak));

static void begin(struct place *p, uint64_t seed)
{
    memset(p->report, 0, sizeof(*p->report));
    p->report->seed = p->seed = seed;
    fflush(NULL);
    p->pid = fork();
    if (p->pid != 0)
        return;
    setrlimit(RLIMIT_CPU, &(struct rlimit){SEED_CPU_S, SEED_CPU_S});
    sim_run(seed, p->report);
    if (__gcov_dump)
        __gcov_dump();
    _Exit(0);
}

static void finish(struct totals *t, struct place *p, int status, const struct rusage *used)
{
    struct report *r = p->report;
    double cpu = (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) + (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / 1e6;
    bool died = r->violation == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (died) {
        r->violation = INV_CRASH;
        snprintf(r->text, sizeof(r->text), "its process ended with %s %d; what it said is above", WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    p->pid = 0;
    add(t, r, cpu);
}

static void wait_one(struct totals *t, struct place *places, int jobs)
{
    int status;
    struct rusage used;
    pid_t pid = wait4(-1, &status, 0, &used);
    for (int i = 0; i < jobs; i++)
        if (places[i].pid == pid)
            finish(t, &places[i], status, &used);
}

/* A file has a seed at the beginning of each line; what follows is for people. */
static bool next_seed(const struct options *o, FILE *file, uint64_t *at, uint64_t *seed, int64_t began_ms)
{
    char line[512];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (line[0] >= '0' && line[0] <= '9') {
            *seed = strtoull(line, NULL, 10);
            return true;
        }
    if (o->soak_ms > 0 ? now_ms() - began_ms >= o->soak_ms : *at >= o->first + o->seeds)
        return false;
    *seed = (*at)++;
    return true;
}

static int run_many(const struct options *o)
{
    struct totals t = {.count = 0};
    struct place places[64] = {{0}};
    int jobs = o->jobs < 1 ? 1 : o->jobs > 64 ? 64 : o->jobs, busy = 0;
    uint64_t at = o->first, seed;
    int64_t began_ms = now_ms();
    FILE *file = o->file ? fopen(o->file, "r") : NULL;
    for (int i = 0; i < jobs; i++) {
        places[i].report = mmap(NULL, sizeof(struct report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert(places[i].report != MAP_FAILED);
    }
    while (next_seed(o, file, &at, &seed, began_ms)) {
        if (busy == jobs) {
            wait_one(&t, places, jobs);
            busy--;
        }
        for (int i = 0; i < jobs; i++)
            if (places[i].pid == 0) {
                begin(&places[i], seed);
                busy++;
                break;
            }
    }
    for (; busy > 0; busy--)
        wait_one(&t, places, jobs);
    show_totals(&t, now_ms() - began_ms);
    if (o->junit && t.count > 0)
        write_junit(&t, o->junit);
    for (int i = 0; i < INV_COUNT; i++)
        free(t.first[i]);
    if (file)
        fclose(file);
    free(t.sizes);
    return t.violations > 0;
}

static int run_one(const struct options *o)
{
    struct report r = {.seed = o->seed};
    quiet_log(o->trace);
    if (o->trace)
        trace_to(NULL, stdout);
    sim_run(o->seed, &r);
    printf("seed %" PRIu64 ": %" PRId64 " items, %" PRId64 " runs, %" PRId64 " ms of virtual time, settled %" PRId64 " ms after the calm\n", r.seed, r.items, r.runs, r.virtual_ms,
           r.wait_ms);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"first", 1, NULL, 'f'}, {"seeds", 1, NULL, 'n'}, {"seed", 1, NULL, 's'}, {"jobs", 1, NULL, 'j'}, {"trace", 0, NULL, 't'},
                                          {"soak", 1, NULL, 'm'}, {"file", 1, NULL, 'l'}, {"junit", 1, NULL, 'x'}, {0}};
    struct options o = {.first = 1, .seeds = 100, .jobs = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'f': o.first = strtoull(optarg, NULL, 10); break;
        case 'n': o.seeds = strtoull(optarg, NULL, 10); break;
        case 's': o.seed = strtoull(optarg, NULL, 10); o.one = true; break;
        case 'j': o.jobs = atoi(optarg); break;
        case 't': o.trace = true; break;
        case 'm': o.soak_ms = (int64_t)(strtod(optarg, NULL) * 60000); break;
        case 'l': o.file = optarg; break;
        case 'x': o.junit = optarg; break;
        default: return 2;
        }
    }
    quiet_log(false);
    return o.one ? run_one(&o) : run_many(&o);
}
