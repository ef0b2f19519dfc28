/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis as Drover uses it: one connection that is made when it is needed and thrown away at the first error, and
 * scripts by their digest. A thin layer over hiredis.
 *
 * Blocking, with the time-out [redis] timeout for connecting and for each answer. One thread at a time per connection.
 * Every failure of the connection is RETRYABLE: call again after a while and the connection is made anew. Redis is a
 * view, so nothing here keeps data for later; the caller knows what to send again.
 */
#ifndef DROVER_LIB_REDIS_REDIS_H
#define DROVER_LIB_REDIS_REDIS_H

#include <glib.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/base/config.h"

/* [redis] address, sentinels, master-name, user, password, db, prefix, timeout. */
extern const DroverOption drover_redis_options[];

typedef struct DroverRedis DroverRedis;

/* Does not connect. CONFIG must outlive the result. PERMANENT when an address cannot be understood. */
DroverRedis *drover_redis_new(const DroverConfig *config, GError **error);
void drover_redis_free(DroverRedis *redis); /* NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRedis, drover_redis_free)

/* What all keys and channels begin with, e.g. "drover:". Owned by REDIS. */
const char *drover_redis_prefix(const DroverRedis *redis);
/* Address as a person would write it, for messages. Owned by REDIS. */
const char *drover_redis_where(const DroverRedis *redis);

/* Connects, authenticates, selects the database; does nothing while the connection is good. With Sentinel, asks for the
 * present master first and makes sure that it is one. */
bool drover_redis_connect(DroverRedis *redis, GError **error);
/* Counts connections made so far: a changed number means that loaded scripts and subscriptions may be gone. */
unsigned drover_redis_generation(const DroverRedis *redis);
void drover_redis_disconnect(DroverRedis *redis);

static inline void drover_redis_reply_free(redisReply *reply)
{
    if (reply)
        freeReplyObject(reply);
}
typedef redisReply DroverRedisReply;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRedisReply, drover_redis_reply_free)

/*
 * One command of strings, ended by NULL; connects if needed. The answer is the caller's; an error answer becomes ERROR
 * (see drover_redis_error_class) and NULL.
 */
redisReply *drover_redis_call(DroverRedis *redis, GError **error, ...) G_GNUC_NULL_TERMINATED;
redisReply *drover_redis_callv(DroverRedis *redis, int argc, const char **argv, const size_t *lens, GError **error);

/* Pipelining: queue commands, then take exactly as many answers, in order. An error answer is returned as it is; NULL
 * means that the connection is gone, and with it all answers still expected. */
bool drover_redis_append(DroverRedis *redis, int argc, const char **argv, const size_t *lens, GError **error);
redisReply *drover_redis_next(DroverRedis *redis, GError **error);

/* SCRIPT LOAD; SHA gets 40 hex digits and NUL. */
bool drover_redis_load(DroverRedis *redis, const char *script, char sha[41], GError **error);

/* RETRYABLE for what passes (loading, read-only after a failover, out of memory, missing script, …), else PERMANENT. */
int drover_redis_error_class(const char *error_text);

#endif
