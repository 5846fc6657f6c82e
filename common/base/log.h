#ifndef BQF_BASE_LOG_H
#define BQF_BASE_LOG_H

#include "common/base/error.h"

/* The log of the process, on stderr: plain lines on a terminal, one JSON object a line elsewhere (or as told). */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_AUTO, LOG_PLAIN, LOG_JSON };

/* What a line is about; zero or NULL fields are left out. item and partition count from 0, so they are given plus one. */
struct log_ctx {
    const char *run, *worker, *job, *handler, *topic;
    int64_t item1;      /* item + 1 */
    int attempt;        /* from 1 */
    int32_t partition1; /* partition + 1 */
};
#define LOG_ITEM(index) ((int64_t)(index) + 1)

void log_setup(enum log_level, enum log_format, int64_t (*wall_ms)(void *), void *clock);
/* Called around each line, so that progress on the same terminal can be wiped and drawn again. NULL: none. */
void log_around(void (*before)(void *), void (*after)(void *), void *arg);
/* Where lines go (without their line break) instead of stderr: for tests. NULL: stderr. */
void log_sink(void (*sink)(void *, enum log_level, const char *line, size_t len), void *arg);
bool log_enabled(enum log_level);
void log_line(enum log_level, const struct log_ctx *, const char *fmt, ...) PRINTF_LIKE(3, 4);
int log_level_parse(const char *name, enum log_level *, struct error *);

#define log_debug(...) log_line(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, NULL, __VA_ARGS__)
#define log_err(...) log_line(LOG_ERROR, NULL, __VA_ARGS__)

#endif
