/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/redis/redis.h"

#include <stdarg.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/redis/address.h"

#define REDIS_PORT 6379
#define SENTINEL_PORT 26379

const DroverOption drover_redis_options[] = {
    {"redis", "address", DROVER_OPTION_STRING, "127.0.0.1:6379", "HOST:PORT|PATH", "Redis server, or its Unix socket", 0},
    {"redis", "sentinels", DROVER_OPTION_LIST, NULL, "HOST:PORT,...",
     "Sentinels that know the present master; then address is not used", 0},
    {"redis", "master-name", DROVER_OPTION_STRING, "drover", "NAME", "Name of the master at the Sentinels", 0},
    {"redis", "user", DROVER_OPTION_STRING, NULL, "NAME", "ACL user; empty: the default user", 0},
    {"redis", "password", DROVER_OPTION_STRING, NULL, NULL, "Password", DROVER_OPTION_SECRET},
    {"redis", "db", DROVER_OPTION_INT, "0", "NUMBER", "Database number", 0},
    {"redis", "prefix", DROVER_OPTION_STRING, "drover:", "PREFIX",
     "What all keys and channels begin with; '{drover}:' keeps them in one slot of Redis Cluster", 0},
    {"redis", "timeout", DROVER_OPTION_DURATION, "5s", "TIME", "Longest wait for a connection or an answer", 0},
    DROVER_OPTION_END,
};

struct DroverRedis {
    const DroverConfig *config;
    DroverRedisAddress address;
    GArray *sentinels; /* DroverRedisAddress */
    char *where;
    struct timeval timeout;
    redisContext *context;
    unsigned generation;
};

DroverRedis *drover_redis_new(const DroverConfig *config, GError **error)
{
    g_autoptr(DroverRedis) redis = g_new0(DroverRedis, 1);
    redis->config = config;
    redis->sentinels = g_array_new(FALSE, TRUE, sizeof(DroverRedisAddress));
    g_array_set_clear_func(redis->sentinels, (GDestroyNotify)drover_redis_address_clear);
    const char *const *sentinels = drover_config_list(config, "redis.sentinels");
    for (; sentinels && *sentinels; sentinels++) {
        DroverRedisAddress a = {0};
        if (!drover_redis_address_parse(*sentinels, SENTINEL_PORT, &a, error))
            return NULL;
        g_array_append_val(redis->sentinels, a);
    }
    const char *address = drover_config_string(config, "redis.address");
    if (!drover_redis_address_parse(address, REDIS_PORT, &redis->address, error))
        return NULL;
    redis->where = redis->sentinels->len
                       ? g_strdup_printf("master '%s' of the Sentinels", drover_config_string(config, "redis.master-name"))
                       : g_strdup(address);
    int64_t ms = drover_config_int(config, "redis.timeout");
    redis->timeout = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    return g_steal_pointer(&redis);
}

void drover_redis_free(DroverRedis *redis)
{
    if (!redis)
        return;
    drover_redis_disconnect(redis);
    drover_redis_address_clear(&redis->address);
    g_array_unref(redis->sentinels);
    g_free(redis->where);
    g_free(redis);
}

const char *drover_redis_prefix(const DroverRedis *redis)
{
    return drover_config_string(redis->config, "redis.prefix");
}

const char *drover_redis_where(const DroverRedis *redis)
{
    return redis->where;
}

unsigned drover_redis_generation(const DroverRedis *redis)
{
    return redis->generation;
}

void drover_redis_disconnect(DroverRedis *redis)
{
    if (redis->context)
        redisFree(redis->context);
    redis->context = NULL;
}

int drover_redis_error_class(const char *text)
{
    static const char *const passing[] = {"LOADING",    "READONLY", "MASTERDOWN", "OOM",     "BUSY",  "NOREPLICAS",
                                          "NOSCRIPT",   "TRYAGAIN", "MISCONF",    "NOAUTH",  "NOPERM", "WRONGPASS",
                                          "CLUSTERDOWN", "UNBLOCKED", "MOVED",    "ASK",     "ERR max number of clients"};
    for (guint i = 0; i < G_N_ELEMENTS(passing); i++)
        if (g_str_has_prefix(text, passing[i]))
            return DROVER_ERROR_RETRYABLE;
    return DROVER_ERROR_PERMANENT;
}

/* The connection is of no use any more: says why and forgets it. */
static bool lost(DroverRedis *redis, const char *why, GError **error)
{
    drover_fail(error, DROVER_ERROR_RETRYABLE, "Redis at %s: %s. Is it running and reachable? See [redis] address",
                redis->where, why);
    drover_redis_disconnect(redis);
    return false;
}

static redisContext *open_context(const DroverRedisAddress *address, struct timeval timeout)
{
    redisContext *context = address->path ? redisConnectUnixWithTimeout(address->path, timeout)
                                          : redisConnectWithTimeout(address->host, address->port, timeout);
    if (context && !context->err) {
        redisSetTimeout(context, timeout);
        if (!address->path)
            redisEnableKeepAlive(context);
    }
    return context;
}

/* Asks the Sentinels, in order, for the master's address. */
static bool find_master(DroverRedis *redis, DroverRedisAddress *out, GError **error)
{
    const char *name = drover_config_string(redis->config, "redis.master-name");
    for (guint i = 0; i < redis->sentinels->len; i++) {
        redisContext *context = open_context(&g_array_index(redis->sentinels, DroverRedisAddress, i), redis->timeout);
        redisReply *r = context && !context->err
                            ? redisCommand(context, "SENTINEL get-master-addr-by-name %s", name)
                            : NULL;
        bool found = r && r->type == REDIS_REPLY_ARRAY && r->elements == 2;
        if (found)
            *out = (DroverRedisAddress){.host = g_strdup(r->element[0]->str), .port = atoi(r->element[1]->str)};
        drover_redis_reply_free(r);
        if (context)
            redisFree(context);
        if (found)
            return true;
    }
    return drover_fail(error, DROVER_ERROR_RETRYABLE,
                       "No Sentinel of [redis] sentinels knows a master named '%s', or none can be reached", name);
}

static bool is_master(const redisReply *role)
{
    return role->type == REDIS_REPLY_ARRAY && role->elements > 0 && role->element[0]->type == REDIS_REPLY_STRING &&
           strcmp(role->element[0]->str, "master") == 0;
}

static bool greet(DroverRedis *redis, GError **error)
{
    const char *user = drover_config_string(redis->config, "redis.user");
    const char *password = drover_config_string(redis->config, "redis.password");
    if (*password) {
        g_autoptr(DroverRedisReply) r = *user ? drover_redis_call(redis, error, "AUTH", user, password, NULL)
                                              : drover_redis_call(redis, error, "AUTH", password, NULL);
        if (!r)
            return false;
    }
    int64_t db = drover_config_int(redis->config, "redis.db");
    g_autofree char *number = g_strdup_printf("%" G_GINT64_FORMAT, db);
    g_autoptr(DroverRedisReply) selected = drover_redis_call(redis, error, "SELECT", number, NULL);
    if (!selected)
        return false;
    if (redis->sentinels->len == 0)
        return true;
    g_autoptr(DroverRedisReply) role = drover_redis_call(redis, error, "ROLE", NULL);
    if (!role)
        return false;
    return is_master(role) || lost(redis, "the server that the Sentinels name is not the master (yet)", error);
}

bool drover_redis_connect(DroverRedis *redis, GError **error)
{
    if (redis->context)
        return true;
    g_auto(DroverRedisAddress) master = {0};
    if (redis->sentinels->len && !find_master(redis, &master, error))
        return false;
    redis->context = open_context(redis->sentinels->len ? &master : &redis->address, redis->timeout);
    if (!redis->context || redis->context->err)
        return lost(redis, redis->context ? redis->context->errstr : "out of memory", error);
    redis->generation++;
    if (greet(redis, error))
        return true;
    drover_redis_disconnect(redis);
    return false;
}

bool drover_redis_append(DroverRedis *redis, int argc, const char **argv, const size_t *lens, GError **error)
{
    if (!drover_redis_connect(redis, error))
        return false;
    if (redisAppendCommandArgv(redis->context, argc, argv, lens) != REDIS_OK)
        return lost(redis, redis->context->errstr, error);
    return true;
}

redisReply *drover_redis_next(DroverRedis *redis, GError **error)
{
    void *reply = NULL;
    if (!redis->context) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "Redis at %s: not connected", redis->where);
        return NULL;
    }
    if (redisGetReply(redis->context, &reply) != REDIS_OK) {
        lost(redis, redis->context->errstr, error);
        return NULL;
    }
    return reply;
}

redisReply *drover_redis_callv(DroverRedis *redis, int argc, const char **argv, const size_t *lens, GError **error)
{
    if (!drover_redis_append(redis, argc, argv, lens, error))
        return NULL;
    redisReply *reply = drover_redis_next(redis, error);
    if (!reply || reply->type != REDIS_REPLY_ERROR)
        return reply;
    int error_class = drover_redis_error_class(reply->str);
    drover_fail(error, error_class, "Redis at %s refused %s: %s", redis->where, argv[0], reply->str);
    /* A master that became a replica stays one: find the new one. */
    if (g_str_has_prefix(reply->str, "READONLY"))
        drover_redis_disconnect(redis);
    freeReplyObject(reply);
    return NULL;
}

redisReply *drover_redis_call(DroverRedis *redis, GError **error, ...)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    va_list list;
    va_start(list, error);
    for (const char *arg = va_arg(list, const char *); arg; arg = va_arg(list, const char *))
        g_ptr_array_add(args, (gpointer)arg);
    va_end(list);
    return drover_redis_callv(redis, (int)args->len, (const char **)args->pdata, NULL, error);
}

bool drover_redis_load(DroverRedis *redis, const char *script, char sha[41], GError **error)
{
    g_autoptr(DroverRedisReply) r = drover_redis_call(redis, error, "SCRIPT", "LOAD", script, NULL);
    if (!r)
        return false;
    if (r->type != REDIS_REPLY_STRING || r->len != 40)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Redis at %s gave no digest for a script", redis->where);
    memcpy(sha, r->str, 41);
    return true;
}
