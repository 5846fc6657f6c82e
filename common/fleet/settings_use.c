#include <time.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/yaml.h"
#include "common/fleet/settings.h"

#define PROPERTIES_MAX (64 * 1024) /* bytes of a file of librdkafka properties */

/* The log has to work before there is a loop, so it has the system's clock. */
static int64_t wall_ms(void *unused)
{
    (void)unused;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int settings_log(const struct settings *s, struct error *err)
{
    enum log_level level = LOG_INFO;
    if (s->log_level != NULL && log_level_parse(s->log_level, &level, err) != 0)
        return -1;
    const char *format = s->log_format != NULL ? s->log_format : "auto";
    log_setup(level, strcmp(format, "json") == 0 ? LOG_JSON : strcmp(format, "plain") == 0 ? LOG_PLAIN : LOG_AUTO, wall_ms, NULL);
    return 0;
}

static void add_property(char ***all, size_t *count, const char *text)
{
    *all = xreallocarray(*all, *count + 2, sizeof(**all));
    (*all)[(*count)++] = xstrdup(text);
    (*all)[*count] = NULL;
}

int settings_check_ca(const struct settings *s, struct error *err)
{
    size_t len = 0;
    if (s->ca_file == NULL)
        return 0;
    AUTO(free_ptr) char *text = file_read(s->ca_file, LIMIT_CA_FILE, &len, err);
    if (text == NULL) {
        error_prefix(err, "--ca-file");
        return -1;
    }
    if (strstr(text, "-----BEGIN ") == NULL)
        return error_set(err, ERR_USAGE, 0, "--ca-file: %s: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", s->ca_file);
    return 0;
}

char **settings_kafka(const struct settings *s, struct error *err)
{
    size_t count = 0, len = 0;
    char **all = xcalloc(1, sizeof(*all));
    AUTO(free_ptr) char *text = s->kafka_file != NULL ? file_read(s->kafka_file, PROPERTIES_MAX, &len, err) : NULL;
    if (s->kafka_file != NULL && text == NULL) {
        strv_free(all);
        return NULL;
    }
    char *rest = text, *line;
    while (rest != NULL && (line = strsep(&rest, "\r\n")) != NULL) {
        line += strspn(line, " \t");
        if (*line != '\0' && *line != '#')
            add_property(&all, &count, line);
    }
    for (size_t i = 0; s->kafka != NULL && s->kafka[i] != NULL; i++)
        add_property(&all, &count, s->kafka[i]);
    return all;
}

bool settings_paced(const struct settings *s, const char *url)
{
    const char *how = s->pace ? s->pace : "auto";
    return strcmp(how, "on") == 0 || (strcmp(how, "auto") == 0 && strstr(url, "googleapis.com") != NULL);
}
