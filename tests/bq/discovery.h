#ifndef BQF_TESTS_BQ_DISCOVERY_H
#define BQF_TESTS_BQ_DISCOVERY_H

#include "common/base/doc.h"

/*
 * Whether requests and answers are as BigQuery's discovery document says: method, path, query parameters, the names and types of all fields. What the
 * document does not know is wrong, and so is in a request what is only put out, or deprecated. Pure functions over tests/golden/rest/bigquery.json,
 * which discovery.py makes.
 */

struct discovery_request {
    const char *method, *path, *query; /* "POST"; decoded; as sent, "" when there is none */
    const char *content_type;          /* NULL: none */
    const char *body;
    size_t len;
};
/* NULL: it is well, and *answer names the schema of a good answer's body (NULL: it has none). Else what is wrong; the caller frees. */
char *discovery_check_request(const struct discovery_request *, const char **answer);
char *discovery_check_answer(const char *schema, const doc *body);

#endif
