#ifndef BQF_TESTS_SUPPORT_AUTH_H
#define BQF_TESTS_SUPPORT_AUTH_H

#include "common/bq/auth_source.h"
#include "tests/bq/jwt.h"
#include "tests/unit/support_bqscript.h"

/* For tests of credentials: an environment and files of one's own, and what came of asking for a header. */

/* Empty but for CLOUDSDK_CONFIG, which is a directory that is empty, too. log lines are collected. */
void place_begin(void);
void place_end(void);
const char *place_env(const char *name);
void place_set(const char *name, const char *value);
/* Writes a file that only its owner can read; its path is good until place_end. */
const char *place_file(const char *name, const char *text);
const char *place_log(void); /* all lines so far */

struct told { int calls; char header[256]; struct error err; };
void told_cb(void *arg, const char *header, const struct error *);
bool told_came(void *arg);

/* auth_choose with adc, in the script's world and the place's environment. */
struct auth *open_adc(struct script *, struct error *);
/* The same from this file, which must be good. */
struct auth *open_doc(struct script *, const char *json);
/* Asks, and waits for at most an hour. */
struct told ask_header(struct script *, struct auth *);
#define assert_has(text, part) \
    do { if (!strstr((text), (part))) fail_msg("no \"%s\" in: %s", (part), (text)); } while (0)
#define assert_lacks(text, part) \
    do { if (strstr((text), (part))) fail_msg("\"%s\" in: %s", (part), (text)); } while (0)

/* A new RSA key: its private part as PEM (the caller frees it), and itself for checks. */
jwt_key *make_key(char **pem);
char *public_pem(jwt_key *); /* the caller frees it */

#endif
