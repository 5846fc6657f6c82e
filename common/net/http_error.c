#include "common/base/failures.h"
#include "common/base/units.h"
#include "common/net/http_curl.h"

/* What a transfer's end means: an answer, an error that says where and what, or once more on a fresh connection. */

static int timed_out(struct http_call *c, const char *what, int64_t ms)
{
    char span[32];
    return failure_set(&c->err, FROM_REQUEST, 0, "timeout", "%s: %s %s", c->where, what, units_show_ms(ms, span, sizeof(span)));
}

void call_explain_timeout(struct http_call *c)
{
    const struct http_request *r = &c->request;
    int64_t now = loop_now_us(c->owner->loop);
    c->status = 0;
    if (now >= c->started_us + r->whole_ms * US_PER_MS) {
        timed_out(c, "the request was not finished within", r->whole_ms);
        return;
    }
    switch (c->phase) {
    case PHASE_CONNECT:
        timed_out(c, "could not connect within", r->connect_ms);
        break;
    case PHASE_SEND:
        timed_out(c, "stalled: it took nothing of the request for", r->stall_ms);
        break;
    case PHASE_WAIT:
        timed_out(c, "no answer within", r->first_byte_ms);
        break;
    case PHASE_RECEIVE:
        timed_out(c, "stalled: nothing more of the answer came for", r->stall_ms);
        break;
    }
}

static void explain_refusal(struct http_call *c)
{
    char size[32];
    switch (c->refusal) {
    case REFUSED_BODY:
        failure_set(&c->err, FROM_REQUEST, 0, "tooLarge", "%s: the answer is too large: more than %s", c->where,
                    units_show_bytes((int64_t)c->body.max, size, sizeof(size)));
        break;
    case REFUSED_HEADERS:
        failure_set(&c->err, FROM_REQUEST, 0, "tooLarge", "%s: the answer's headers are too large: more than %s, or %d of them", c->where,
                    units_show_bytes(LIMIT_HTTP_HEADERS, size, sizeof(size)), LIMIT_HTTP_HEADER_COUNT);
        break;
    case REFUSED_READER:
        failure_set(&c->err, FROM_REQUEST, 0, "body", "%s: the request's body ended after %" PRId64 " of %" PRId64 " bytes", c->where, c->given,
                    c->body_len);
        break;
    case REFUSED_NOT:
        assert(false && "not refused");
    }
}

static void explain_broken(struct http_call *c, CURLcode code, int os_errno)
{
    static const char broken[] = "connection";
    const char *when = c->answered ? "in the middle of its answer" : "without an answer";
    if (os_errno != 0)
        failure_set(&c->err, FROM_REQUEST, 0, broken, "%s: the connection broke off %s: %s", c->where, when, strerror(os_errno));
    else if (code == CURLE_GOT_NOTHING || code == CURLE_PARTIAL_FILE || code == CURLE_SEND_FAIL_REWIND)
        failure_set(&c->err, FROM_REQUEST, 0, broken, "%s: closed the connection %s", c->where, when);
    else
        failure_set(&c->err, FROM_REQUEST, 0, broken, "%s: the connection broke off %s (%s)", c->where, when,
                    c->curl_text[0] ? c->curl_text : curl_easy_strerror(code));
}

static bool is_our_trust(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_PINNEDPUBKEYNOTMATCH;
}

/* libcurl names where it was going, "Failed to connect to HOST port N ...": with a proxy that is not where the request is for. */
static bool went_elsewhere(const struct http_call *c)
{
    const char *port = strrchr(c->where, ':'), *host = c->where + (c->where[0] == '['); /* libcurl leaves out the brackets of an address */
    AUTO(free_ptr) char *ours = xasprintf("%.*s port %s", (int)(port - host) - (host > c->where), host, port + 1);
    return strstr(c->curl_text, " port ") != NULL && strstr(c->curl_text, ours) == NULL;
}

static void explain(struct http_call *c, CURLcode code)
{
    long os_errno = 0;
    curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_errno);
    const char *text = c->curl_text[0] ? c->curl_text : curl_easy_strerror(code);
    if (c->refusal != REFUSED_NOT)
        explain_refusal(c);
    else if (code == CURLE_OPERATION_TIMEDOUT && c->phase == PHASE_CONNECT)
        timed_out(c, "could not connect within", c->request.connect_ms);
    else if (code == CURLE_COULDNT_CONNECT && went_elsewhere(c))
        failure_set(&c->err, FROM_REQUEST, 0, "connection", "%s: could not connect by the proxy (--proxy, HTTPS_PROXY): %s", c->where, c->curl_text);
    else if (code == CURLE_COULDNT_CONNECT)
        failure_set(&c->err, FROM_REQUEST, 0, "connection", "%s: could not connect: %s", c->where, os_errno ? strerror((int)os_errno) : text);
    else if (code == CURLE_COULDNT_RESOLVE_PROXY)
        failure_set(&c->err, FROM_REQUEST, 0, "name", "%s: the name of the proxy (--proxy, HTTPS_PROXY) cannot be resolved", c->where);
    else if (code == CURLE_COULDNT_RESOLVE_HOST)
        failure_set(&c->err, FROM_REQUEST, 0, "name", "%s: the name cannot be resolved", c->where);
    else if (is_our_trust(code))
        failure_set(&c->err, FROM_REQUEST, 0, "certificate", "%s: its certificate is not accepted: %s", c->where, text);
    else if (code == CURLE_URL_MALFORMAT)
        failure_set(&c->err, FROM_REQUEST, 0, "url", "not a URL: \"%.300s\"", c->url);
    else if (c->was_sent && (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY))
        failure_set(&c->err, FROM_REQUEST, 0, "noHttp", "%s: does not answer in HTTP", c->where);
    else if (c->was_sent)
        explain_broken(c, code, (int)os_errno);
    else
        failure_set(&c->err, FROM_REQUEST, 0, "connection", "%s: %s", c->where, text);
    c->err.code = c->err.kind == ERR_RETRY ? (int)os_errno : 0;
}

void call_take_result(struct http_call *c, CURLcode code)
{
    long status = 0;
    if (code == CURLE_OK)
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    c->status = (int)status;
    if (status == 0)
        explain(c, code == CURLE_OK ? CURLE_WEIRD_SERVER_REPLY : code);
}

bool call_can_retry(const struct http_call *c, CURLcode code)
{
    bool broke = code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_HTTP2 ||
                 code == CURLE_HTTP2_STREAM || code == CURLE_SEND_FAIL_REWIND;
    if (!broke || c->retried || c->answered || !c->was_sent)
        return false;
    if (c->request.read != NULL && c->given > 0)
        return false;
    long connects = 0;
    curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0;
}
