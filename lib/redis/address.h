/* SPDX-License-Identifier: Apache-2.0 */
/* Where a Redis server listens, as written in a configuration file. Pure. */
#ifndef DROVER_LIB_REDIS_ADDRESS_H
#define DROVER_LIB_REDIS_ADDRESS_H

#include <glib.h>
#include <stdbool.h>

typedef struct {
    char *host; /* NULL: PATH is set */
    int port;
    char *path; /* of a Unix socket */
} DroverRedisAddress;

/*
 * "host", "host:port", "[ipv6]:port", "/path/of/socket" or "unix:/path/of/socket". Without a port DEFAULT_PORT.
 * PERMANENT, naming TEXT and what is accepted, when it is none of these.
 */
bool drover_redis_address_parse(const char *text, int default_port, DroverRedisAddress *out, GError **error);
void drover_redis_address_clear(DroverRedisAddress *address);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverRedisAddress, drover_redis_address_clear)

#endif
