/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what: bearer tokens with roles. The file [agent] rest-tokens holds one token a line, never the
 * token itself:
 *
 *   NAME ROLE sha256:HEX            SHA-256 of the token
 *   NAME ROLE sha256:SALT:HEX       SHA-256 of SALT followed by the token
 *
 * ROLE is read, operate or admin; each includes those before it. Empty lines and lines that begin with '#'
 * are skipped. Pure, except for the keyring, which reads the file.
 */
#ifndef DROVER_VOLUME_AGENT_REST_ACCESS_H
#define DROVER_VOLUME_AGENT_REST_ACCESS_H

#include <glib.h>
#include <stdbool.h>

typedef enum { DROVER_REST_PUBLIC, DROVER_REST_READ, DROVER_REST_OPERATE, DROVER_REST_ADMIN } DroverRestRole;
const char *drover_rest_role_name(DroverRestRole role);
/* A caller with the role HAS may use what NEEDS says. */
bool drover_rest_role_allows(DroverRestRole has, DroverRestRole needs);

typedef struct DroverRestTokens DroverRestTokens;
/* PERMANENT with the number of the line that is wrong; its content is not repeated. */
DroverRestTokens *drover_rest_tokens_parse(const char *text, GError **error);
void drover_rest_tokens_free(DroverRestTokens *tokens);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRestTokens, drover_rest_tokens_free)

/*
 * Whose token PRESENTED is: *NAME (newly allocated) and *ROLE. Compares with every entry, each in constant
 * time, so that the time it takes tells nothing.
 */
bool drover_rest_tokens_find(const DroverRestTokens *tokens, const char *presented, char **name,
                             DroverRestRole *role);

/* The token in the value of an Authorization header: what follows "Bearer " (in any case); NULL when there is
 * none. Points into HEADER. */
const char *drover_rest_bearer(const char *header);

/* The file, read again whenever it has changed; any thread. A file that has become unreadable or wrong leaves
 * the tokens as they were, with a log line. PATH "": no tokens, everybody is "local" with the role admin. */
typedef struct DroverRestKeyring DroverRestKeyring;
DroverRestKeyring *drover_rest_keyring_new(const char *path, GError **error);
void drover_rest_keyring_free(DroverRestKeyring *keyring);
bool drover_rest_keyring_find(DroverRestKeyring *keyring, const char *presented, char **name,
                              DroverRestRole *role);

#endif
