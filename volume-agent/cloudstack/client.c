/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/cloudstack/client.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "volume-agent/cloudstack/signing.h"

#define DEFAULT_EXPIRY_MS 60000
#define ANSWER_MAX_BYTES (64u << 20)

struct DroverCloudStack {
    char *url;
    char *api_key;
    char *secret_key;
    long timeout_ms;
    atomic_bool reachable;
    _Atomic int64_t answered_at_ms; /* on the boot clock; 0: never */
    GMutex lock;
    GQueue idle; /* CURL handles with their open connections */
    DroverCloudSeen seen; /* may be NULL */
    void *seen_data;
};

static gpointer init_curl(gpointer unused)
{
    (void)unused;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return NULL;
}

static bool read_keys(DroverCloudStack *cloud, const char *path, GError **error)
{
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "CloudStack key file %s can be read by others: chmod 600 it", path);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error)) {
        g_prefix_error(error, "CloudStack key file: ");
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(g_strstrip(text), "\n", 3);
    bool ok = g_strv_length(lines) >= 2;
    if (ok) {
        cloud->api_key = g_strdup(g_strstrip(lines[0]));
        cloud->secret_key = g_strdup(g_strstrip(lines[1]));
        ok = *cloud->api_key && *cloud->secret_key;
    }
    for (char **line = lines; *line; line++)
        memset(*line, 0, strlen(*line));
    if (!ok)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "CloudStack key file %s must hold the API key in its first line and the secret key in its second",
                           path);
    return true;
}

DroverCloudStack *drover_cloudstack_new(const char *url, const char *key_file, int64_t timeout_ms, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    g_once(&once, init_curl, NULL);
    g_autoptr(DroverCloudStack) cloud = g_new0(DroverCloudStack, 1);
    g_mutex_init(&cloud->lock);
    g_queue_init(&cloud->idle);
    cloud->url = g_strdup(url);
    cloud->timeout_ms = (long)timeout_ms;
    if (!read_keys(cloud, key_file, error))
        return NULL;
    return g_steal_pointer(&cloud);
}

static void forget(char *secret)
{
    if (secret)
        memset(secret, 0, strlen(secret));
    g_free(secret);
}

void drover_cloudstack_free(DroverCloudStack *cloud)
{
    if (!cloud)
        return;
    g_queue_clear_full(&cloud->idle, curl_easy_cleanup);
    g_mutex_clear(&cloud->lock);
    g_free(cloud->url);
    forget(cloud->api_key);
    forget(cloud->secret_key);
    g_free(cloud);
}

/* ---- one HTTP exchange ---------------------------------------------------------------------------------------- */

static size_t collect(char *data, size_t size, size_t n, void *user_data)
{
    GString *answer = user_data;
    if (answer->len + size * n > ANSWER_MAX_BYTES)
        return 0;
    g_string_append_len(answer, data, (gssize)(size * n));
    return size * n;
}

static CURL *take_handle(DroverCloudStack *cloud)
{
    g_mutex_lock(&cloud->lock);
    CURL *curl = g_queue_pop_head(&cloud->idle);
    g_mutex_unlock(&cloud->lock);
    return curl ? curl : curl_easy_init();
}

static void give_handle(DroverCloudStack *cloud, CURL *curl)
{
    g_mutex_lock(&cloud->lock);
    g_queue_push_head(&cloud->idle, curl);
    g_mutex_unlock(&cloud->lock);
}

/* True when the request cannot have reached CloudStack. */
static bool never_sent(CURLcode code)
{
    return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_PROXY ||
           code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_URL_MALFORMAT ||
           code == CURLE_UNSUPPORTED_PROTOCOL;
}

static CURLcode exchange(DroverCloudStack *cloud, const char *body, bool once, GString *answer, long *status)
{
    CURL *curl = take_handle(cloud);
    curl_easy_reset(curl);
    /* On a connection that was used before libcurl sends a POST again, without a word, when it is closed before an answer
     * comes (Curl_retry_request). On a fresh one it does not. */
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, once ? 1L : 0L);
    curl_easy_setopt(curl, CURLOPT_URL, cloud->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, cloud->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, MIN(cloud->timeout_ms, 10000L));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    if (code == CURLE_OK)
        give_handle(cloud, curl);
    else
        curl_easy_cleanup(curl);
    return code;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

const char *drover_json_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static DroverErrorClass class_of(int error_code)
{
    switch (error_code) {
    case 429: /* throttled */
    case 500:
    case 502:
    case 503:
    case 504:
    case 530: /* internal: often a race with another job */
        return DROVER_ERROR_RETRYABLE;
    default: /* 401 who, 430 to 432 what, 531 whose, 533 no capacity */
        return DROVER_ERROR_PERMANENT;
    }
}

/* Explained in docs/errors.md. */
static const char *code_of(int error_code)
{
    switch (error_code) {
    case 401:
        return "DRV-CLOUDSTACK-KEY";
    case 432:
        return "DRV-CLOUDSTACK-ROLE";
    case 531:
        return "DRV-CLOUDSTACK-OWNER";
    case 533: /* hosts or storage */
    case 534: /* cannot be reached from where it must run */
    case 535: /* limits of an account */
        return "DRV-CLOUDSTACK-CAPACITY";
    case 429:
        return "DRV-CLOUDSTACK-BUSY";
    default:
        return class_of(error_code) == DROVER_ERROR_RETRYABLE ? "DRV-CLOUDSTACK-FAILED" : "DRV-CLOUDSTACK-REFUSED";
    }
}

static json_t *fail_by_answer(const char *command, long status, const json_t *response, DroverCloudFailure *failure,
                              GError **error)
{
    int code = (int)json_integer_value(json_object_get(response, "errorcode"));
    const char *text = drover_json_text(response, "errortext");
    failure->error_code = code ? code : (int)status;
    drover_fail(error, failure->expired ? DROVER_ERROR_RETRYABLE : class_of(failure->error_code), "%s: CloudStack %s: %s (%d)%s",
                code_of(failure->error_code), command, *text ? text : "refused without a reason", failure->error_code,
                failure->error_code == 401 ? ": check the key file, the clocks of both machines, and that this CloudStack knows the command" : "");
    return NULL;
}

static json_t *parse_answer(const char *command, long status, const GString *answer, DroverCloudFailure *failure,
                            GError **error)
{
    json_error_t why;
    json_t *root = json_loadb(answer->str, answer->len, 0, &why);
    /* {"<command>response": {...}}, or {"errorresponse": {...}} */
    json_t *response = json_is_object(root) ? json_object_iter_value(json_object_iter(root)) : NULL;
    if (!json_is_object(response)) {
        json_decref(root);
        failure->error_code = (int)status;
        /* A proxy that gave up says nothing about what lies behind it; one that refuses has passed nothing on. */
        failure->maybe_done = status < 400 || status >= 500;
        drover_fail(error, DROVER_ERROR_RETRYABLE, "%sCloudStack %s: HTTP status %ld with an answer that is no JSON",
                    status >= 500 ? "DRV-CLOUDSTACK-DOWN: " : "", command, status);
        return NULL;
    }
    json_incref(response);
    json_decref(root);
    if (status == 200 && !json_object_get(response, "errorcode"))
        return response;
    fail_by_answer(command, status, response, failure, error);
    json_decref(response);
    return NULL;
}

static void tell(const DroverCloudStack *cloud, const char *command, gint64 began_us, int error_code)
{
    if (cloud->seen)
        cloud->seen(cloud->seen_data, command, g_get_monotonic_time() - began_us, error_code);
}

void drover_cloudstack_observe(DroverCloudStack *cloud, DroverCloudSeen seen, void *data)
{
    cloud->seen = seen;
    cloud->seen_data = data;
}

json_t *drover_cloudstack_call(DroverCloudStack *cloud, const char *command, int64_t expires_at_ms,
                               const char *const *parameters, DroverCloudFailure *failure, GError **error)
{
    DroverCloudFailure unused;
    failure = failure ? failure : &unused;
    *failure = (DroverCloudFailure){0};
    int64_t expires_ms = expires_at_ms ? expires_at_ms : drover_now_ms() + DEFAULT_EXPIRY_MS;
    expires_ms -= expires_ms % 1000; /* it is written without fractions, so it dies at the full second */
    g_autofree char *iso = drover_iso8601(expires_ms);
    g_autofree char *expires = g_strdup_printf("%.19s+0000", iso);
    g_autoptr(GHashTable) all = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_insert(all, (gpointer) "command", (gpointer)command);
    g_hash_table_insert(all, (gpointer) "response", (gpointer) "json");
    g_hash_table_insert(all, (gpointer) "signatureVersion", (gpointer) "3");
    g_hash_table_insert(all, (gpointer) "expires", expires);
    g_hash_table_insert(all, (gpointer) "apiKey", cloud->api_key);
    for (; parameters && parameters[0]; parameters += 2)
        if (parameters[1] && *parameters[1])
            g_hash_table_insert(all, (gpointer)parameters[0], (gpointer)parameters[1]);
    char *body = drover_cloudstack_sign(all, cloud->secret_key);
    g_autoptr(GString) answer = g_string_new(NULL);
    long status = 0;
    gint64 began_us = g_get_monotonic_time();
    CURLcode code = exchange(cloud, body, expires_at_ms != 0, answer, &status);
    forget(body);
    if (code != CURLE_OK) {
        failure->maybe_done = !never_sent(code);
        atomic_store(&cloud->reachable, false);
        tell(cloud, command, began_us, -1);
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-CLOUDSTACK-DOWN: CloudStack %s: %s does not answer: %s", command,
                    cloud->url, curl_easy_strerror(code));
        return NULL;
    }
    failure->expired = status == 401 && drover_now_ms() >= expires_ms;
    atomic_store(&cloud->reachable, status < 500 || status >= 530);
    atomic_store(&cloud->answered_at_ms, drover_boottime_ms());
    json_t *response = parse_answer(command, status, answer, failure, error);
    tell(cloud, command, began_us, response ? 0 : failure->error_code);
    return response;
}

bool drover_cloudstack_is_reachable(DroverCloudStack *cloud)
{
    return atomic_load(&cloud->reachable);
}

int64_t drover_cloudstack_silence_ms(DroverCloudStack *cloud)
{
    return drover_boottime_ms() - atomic_load(&cloud->answered_at_ms);
}

bool drover_cloudstack_is_down(const GError *error)
{
    return error && g_str_has_prefix(error->message, "DRV-CLOUDSTACK-DOWN:");
}

DroverCloudJob drover_cloudstack_job(DroverCloudStack *cloud, const char *job_id, json_t **result, GError **error)
{
    const char *const parameters[] = {"jobid", job_id, NULL};
    DroverCloudFailure failure;
    json_t *answer = drover_cloudstack_call(cloud, "queryAsyncJobResult", 0, parameters, &failure, error);
    if (!answer) {
        if (failure.error_code != 431)
            return DROVER_CLOUD_JOB_RUNNING;
        g_clear_error(error);
        return DROVER_CLOUD_JOB_LOST;
    }
    /* Only the outer jobstatus counts: the object in jobresult has one of its own, which is 0 for ever. */
    json_int_t status = json_integer_value(json_object_get(answer, "jobstatus"));
    json_t *inner = json_object_get(answer, "jobresult");
    DroverCloudJob outcome = DROVER_CLOUD_JOB_RUNNING;
    if (status == 1) {
        *result = inner ? json_incref(inner) : json_object();
        outcome = DROVER_CLOUD_JOB_DONE;
    } else if (status != 0 && !json_is_object(inner)) {
        outcome = DROVER_CLOUD_JOB_LOST;
    } else if (status != 0) {
        g_autofree char *command = g_strdup(drover_json_text(answer, "cmd"));
        const char *dot = strrchr(command, '.');
        DroverCloudFailure unused = {0};
        fail_by_answer(dot ? dot + 1 : "job", 0, inner, &unused, error);
        outcome = DROVER_CLOUD_JOB_FAILED;
    }
    json_decref(answer);
    return outcome;
}
