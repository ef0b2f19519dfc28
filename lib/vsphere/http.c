/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/http.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>

#include "lib/base/error.h"

#define CONNECT_TIMEOUT_MS 20000u

struct DroverVsphereHttp {
    const DroverVcenter *vcenter;
    CURLM *multi;
    CURL *easy;
    char seen[3 * 32]; /* SHA-256 of the certificate that was shown last, "" before */
    bool refused;      /* it is not the pinned one */
    bool too_large;
    char failure[CURL_ERROR_SIZE];
};

void drover_vsphere_http_free(DroverVsphereHttp *http)
{
    if (http == NULL)
        return;
    curl_easy_cleanup(http->easy);
    curl_multi_cleanup(http->multi);
    g_free(http);
}

void drover_vsphere_http_forget_cookies(DroverVsphereHttp *http)
{
    curl_easy_setopt(http->easy, CURLOPT_COOKIELIST, "ALL");
}

/* ---- who the server is ----------------------------------------------------------------------------------------- */

static void thumbprint_of(X509 *certificate, const EVP_MD *algorithm, char out[3 * 32])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    out[0] = '\0';
    if (certificate == NULL || X509_digest(certificate, algorithm, bytes, &len) != 1)
        return;
    for (unsigned i = 0; i < len && i < 32; i++)
        g_snprintf(out + 3 * i, 4, "%02X%s", bytes[i], i + 1 < len ? ":" : "");
}

/* Instead of OpenSSL's own check; runs inside the handshake, so that nothing was sent to an impostor. */
static int check_certificate(X509_STORE_CTX *store, void *data)
{
    DroverVsphereHttp *http = data;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    thumbprint_of(leaf, EVP_sha256(), http->seen);
    const char *pinned = http->vcenter->thumbprint;
    if (*pinned == '\0')
        return X509_verify_cert(store);
    char sha1[3 * 32];
    thumbprint_of(leaf, EVP_sha1(), sha1);
    bool is_pinned = strcmp(pinned, http->seen) == 0 || strcmp(pinned, sha1) == 0;
    http->refused = !is_pinned;
    X509_STORE_CTX_set_error(store, is_pinned ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return is_pinned ? 1 : 0;
}

static CURLcode set_up_tls(CURL *easy, void *context, void *data)
{
    (void)easy;
    SSL_CTX_set_cert_verify_callback(context, check_certificate, data);
    return CURLE_OK;
}

/* ---- one exchange ---------------------------------------------------------------------------------------------- */

typedef struct {
    DroverVsphereHttp *http;
    GByteArray *answer;
} Sink;

static size_t collect(char *data, size_t size, size_t n, void *user_data)
{
    Sink *sink = user_data;
    if (sink->answer->len + size * n > DROVER_VSPHERE_ANSWER_MAX) {
        sink->http->too_large = true;
        return 0;
    }
    g_byte_array_append(sink->answer, (const guint8 *)data, (guint)(size * n));
    return size * n;
}

/* What stays the same. */
static void set_up(DroverVsphereHttp *http)
{
    CURL *easy = http->easy;
    const DroverVcenter *vcenter = http->vcenter;
    curl_easy_setopt(easy, CURLOPT_URL, vcenter->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_COOKIEFILE, "");
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->failure);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, *vcenter->thumbprint ? 0L : 2L);
    if (*vcenter->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, vcenter->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, set_up_tls);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, http);
}

static void set_call(DroverVsphereHttp *http, const DroverVspherePost *post, struct curl_slist *headers, Sink *sink)
{
    CURL *easy = http->easy;
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)post->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(post->timeout_ms, CONNECT_TIMEOUT_MS));
    /* On a connection that was used before libcurl sends a POST again, without a word, when it is closed before an answer
     * comes. On a fresh one it does not. */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, post->once ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, post->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, sink);
}

static gpointer init_curl(gpointer unused)
{
    (void)unused;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return NULL;
}

DroverVsphereHttp *drover_vsphere_http_new(const DroverVcenter *vcenter)
{
    static GOnce once = G_ONCE_INIT;
    g_once(&once, init_curl, NULL);
    DroverVsphereHttp *http = g_new0(DroverVsphereHttp, 1);
    http->vcenter = vcenter;
    http->multi = curl_multi_init();
    http->easy = curl_easy_init();
    g_assert(http->multi != NULL && http->easy != NULL);
    set_up(http);
    return http;
}

/* CURLE_OK also when cancelled: the caller asks. */
static CURLcode run(DroverVsphereHttp *http, GCancellable *cancel)
{
    GPollFD poll = {.fd = -1};
    bool has_fd = cancel != NULL && g_cancellable_make_pollfd(cancel, &poll);
    CURLcode result = CURLE_OK;
    curl_multi_add_handle(http->multi, http->easy);
    for (int running = 1; running > 0 && !g_cancellable_is_cancelled(cancel);) {
        CURLMcode code = curl_multi_perform(http->multi, &running);
        struct curl_waitfd extra = {.fd = poll.fd, .events = CURL_WAIT_POLLIN};
        if (code == CURLM_OK && running > 0)
            code = curl_multi_poll(http->multi, has_fd ? &extra : NULL, has_fd ? 1 : 0, 1000, NULL);
        if (code != CURLM_OK) {
            g_strlcpy(http->failure, curl_multi_strerror(code), sizeof http->failure);
            result = CURLE_SEND_ERROR;
            break;
        }
    }
    int left = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(http->multi, &left)) != NULL;)
        if (message->msg == CURLMSG_DONE)
            result = message->data.result;
    curl_multi_remove_handle(http->multi, http->easy);
    if (has_fd)
        g_cancellable_release_fd(cancel);
    return result;
}

static bool fail_tls(const DroverVsphereHttp *http, const char *why, GError **error)
{
    const DroverVcenter *vcenter = http->vcenter;
    if (http->refused)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-VCENTER-TLS: vCenter %s (%s) shows another certificate than the pinned one: %s (SHA-256). "
                           "If that is right, set thumbprint to it", vcenter->name, vcenter->url, http->seen);
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-VCENTER-TLS: the certificate of vCenter %s (%s) is not trusted: %s. Its SHA-256 is %s: set "
                       "ca-file, or thumbprint to that if it is right", vcenter->name, vcenter->url, why,
                       *http->seen ? http->seen : "not known");
}

static bool fail_by_code(DroverVsphereHttp *http, const DroverVspherePost *post, CURLcode code, GError **error)
{
    const DroverVcenter *vcenter = http->vcenter;
    const char *why = *http->failure ? http->failure : curl_easy_strerror(code);
    curl_off_t connected_us = 0;
    curl_easy_getinfo(http->easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
    if (http->too_large)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-VCENTER-ANSWER: vCenter %s answers %s with more than %u MiB", vcenter->name, post->method,
                           DROVER_VSPHERE_ANSWER_MAX >> 20);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
        return fail_tls(http, why, error);
    case CURLE_SSL_CONNECT_ERROR:
        if (http->refused)
            return fail_tls(http, why, error);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        if (connected_us > 0)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-TIMEOUT: vCenter %s did not answer %s within %u ms",
                               vcenter->name, post->method, post->timeout_ms);
        break;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-CONFIG: url of vCenter %s: %s", vcenter->name, why);
    default:
        break;
    }
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE: vCenter %s (%s) did not answer %s: %s",
                       vcenter->name, vcenter->url, post->method, why);
}

static bool check_status(const DroverVsphereHttp *http, const DroverVspherePost *post, long status, GError **error)
{
    const DroverVcenter *vcenter = http->vcenter;
    if (status == 200 || status == 500)
        return true;
    if (status > 500 || status == 429 || status == 408)
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-VCENTER-UNREACHABLE: vCenter %s (%s) answers %s with HTTP status %ld; is it starting?",
                           vcenter->name, vcenter->url, post->method, status);
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-VCENTER-ANSWER: %s (%s) answers %s with HTTP status %ld; its SDK is usually at /sdk",
                       vcenter->url, vcenter->name, post->method, status);
}

bool drover_vsphere_http_post(DroverVsphereHttp *http, const DroverVspherePost *post, GByteArray *answer,
                              GCancellable *cancel, GError **error)
{
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return false;
    g_autofree char *action = g_strconcat("SOAPAction: ", post->version, NULL);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: text/xml; charset=utf-8");
    headers = curl_slist_append(headers, action);
    headers = curl_slist_append(headers, "Expect:");
    Sink sink = {.http = http, .answer = answer};
    g_byte_array_set_size(answer, 0);
    http->failure[0] = '\0';
    http->seen[0] = '\0';
    http->refused = http->too_large = false;
    set_call(http, post, headers, &sink);
    CURLcode code = run(http, cancel);
    long status = 0;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    /* What was asked for lies in the caller's memory. */
    curl_easy_setopt(http->easy, CURLOPT_POSTFIELDS, "");
    curl_easy_setopt(http->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (g_cancellable_set_error_if_cancelled(cancel, error))
        return false;
    if (code != CURLE_OK)
        return fail_by_code(http, post, code, error);
    return check_status(http, post, status, error);
}
