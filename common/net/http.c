#include "common/net/http.h"

#include <strings.h>
#include <time.h>

const char *http_header(const struct http_response *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
int64_t http_date_ms(const struct http_response *r)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *text = http_header(r, "Date");
    struct tm tm = {0};
    char month[4] = "";
    if (text == NULL || sscanf(text, "%*3s, %2d %3s %4d %2d:%2d:%2d", &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6)
        return 0;
    const char *at = strstr(months, month);
    if (at == NULL || strlen(month) != 3)
        return 0;
    tm.tm_mon = (int)((at - months) / 3);
    tm.tm_year -= 1900;
    return (int64_t)timegm(&tm) * 1000;
}

static bool is_unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~", c) != NULL);
}

void http_escape(struct buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (is_unreserved(*p))
            buf_xadd(out, p, 1);
        else
            buf_xprintf(out, "%%%02X", *p);
    }
}
