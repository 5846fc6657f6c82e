#include "common/base/buf.h"
#include "common/base/yaml.h"

void strv_free(char **strv)
{
    if (strv == NULL)
        return;
    for (size_t i = 0; strv[i] != NULL; i++)
        free(strv[i]);
    free(strv);
}

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* A backslash at p: what it stands for, none for a broken line; returns the bytes read. */
static size_t add_escaped(struct buf *word, const char *p, bool in_quotes)
{
    if (p[1] == '\n')
        return 2;
    if (in_quotes && strchr("$`\"\\", p[1]) == NULL)
        buf_xputs(word, "\\");
    buf_xadd(word, p + 1, 1);
    return 2;
}

/* Reads one word at *at into word. -1: a quote stays open, or the text ends in a backslash. */
static int read_word(const char **at, struct buf *word)
{
    const char *p = *at;
    char quote = '\0';
    while (*p != '\0' && (quote != '\0' || strchr(" \t\r\n", *p) == NULL)) {
        if (*p == '\\' && quote != '\'') {
            if (p[1] == '\0')
                return -1;
            p += add_escaped(word, p, quote == '"');
        } else if (quote != '\0' && *p == quote) {
            quote = '\0';
            p++;
        } else if (quote == '\0' && (*p == '\'' || *p == '"')) {
            quote = *p++;
        } else {
            buf_xadd(word, p++, 1);
        }
    }
    *at = p;
    return quote == '\0' ? 0 : -1;
}

int strv_split(const char *text, char ***out, size_t *count, struct error *err)
{
    AUTO(buf_free) struct buf word = BUF_INIT(strlen(text));
    AUTO(strv_free_auto) char **strv = xcalloc(1, sizeof(*strv));
    size_t n = 0;
    for (const char *p = skip_space(text); *p != '\0'; p = skip_space(p)) {
        buf_clear(&word);
        if (read_word(&p, &word) != 0)
            return error_set(err, ERR_USAGE, 0, "\"%.200s\": a quote is not closed, or a backslash ends it", text);
        strv = xreallocarray(strv, n + 2, sizeof(*strv));
        strv[n++] = xstrndup(word.data == NULL ? "" : word.data, word.len);
        strv[n] = NULL;
    }
    *out = strv;
    *count = n;
    strv = NULL;
    return 0;
}
