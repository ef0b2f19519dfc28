/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/session.h"

#include <stdatomic.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/http.h"
#include "lib/vsphere/session_limit.h"
#include "lib/vsphere/turn.h"

/* vCenter ends a session after 30 minutes without a call, unless its administrator chose otherwise. */
#define KEEP_ALIVE_US (4 * G_TIME_SPAN_MINUTE)
#define UNIMPORTANT_MS 5000u /* deadline of calls whose answer nobody needs; close waits for them */
/* Answered by every vCenter since 6.7; the server's own version is used once it is known. */
#define FIRST_VERSION "urn:vim25/6.7"

struct DroverVsphere {
    const DroverVcenter *vcenter;
    char *limit_key;
    bool counted;
    char *services[DROVER_VSPHERE_SERVICES];
    char *service_types[DROVER_VSPHERE_SERVICES];
    char *version; /* SOAPAction */
    char *api_version;
    char *instance_uuid;

    DroverVsphereTurn turn; /* at what follows, had while a call is on the wire */
    DroverVsphereHttp *http;
    char *session_key; /* "" while not logged in; changed under key_lock, too */
    GMutex key_lock;
    gint64 called_us;

    GThread *keeper;
    GMutex keeper_lock;
    GCond keeper_wakes;
    bool closing;
    _Atomic gint64 keep_alive_us;
};

static const char *const service_names[DROVER_VSPHERE_SERVICES] = {
    [DROVER_VSPHERE_SESSION_MANAGER] = "sessionManager",
    [DROVER_VSPHERE_PROPERTY_COLLECTOR] = "propertyCollector",
    [DROVER_VSPHERE_VIEW_MANAGER] = "viewManager",
    [DROVER_VSPHERE_ROOT_FOLDER] = "rootFolder",
    [DROVER_VSPHERE_AUTHORIZATION_MANAGER] = "authorizationManager",
};

DroverSoapWriter *drover_vsphere_service_request(const DroverVsphere *vsphere, const char *method,
                                                 DroverVsphereService service)
{
    return drover_soap_writer_new(method, vsphere->service_types[service], vsphere->services[service]);
}

const char *drover_vsphere_service_moref(const DroverVsphere *vsphere, DroverVsphereService service)
{
    return vsphere->services[service];
}

char *drover_vsphere_session_key(DroverVsphere *vsphere)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&vsphere->key_lock);
    return g_strdup(vsphere->session_key);
}

const char *drover_vsphere_api_version(const DroverVsphere *vsphere)
{
    return vsphere->api_version;
}

const char *drover_vsphere_instance_uuid(const DroverVsphere *vsphere)
{
    return vsphere->instance_uuid;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

static char *doing(const DroverSoapWriter *request)
{
    return g_strdup_printf("%s of %s", drover_soap_writer_method(request), drover_soap_writer_target(request));
}

/* One exchange, whatever the session's state. It is our turn. */
static DroverSoapAnswer *exchange(DroverVsphere *vsphere, DroverSoapWriter *request, unsigned timeout_ms, bool once,
                                  GCancellable *cancel, GError **error)
{
    const char *method = drover_soap_writer_method(request);
    DroverVspherePost post = {.method = method, .version = vsphere->version, .timeout_ms = timeout_ms, .once = once};
    post.body = drover_soap_writer_end(request, &post.len);
    g_autoptr(GByteArray) body = g_byte_array_new();
    if (!drover_vsphere_http_post(vsphere->http, &post, body, cancel, error))
        return NULL;
    vsphere->called_us = g_get_monotonic_time();
    return drover_soap_answer_parse(method, (const char *)body->data, body->len, error);
}

static DroverSoapAnswer *exchange_or_fail(DroverVsphere *vsphere, DroverSoapWriter *request, GCancellable *cancel,
                                          GError **error)
{
    g_autoptr(DroverSoapAnswer) answer =
        exchange(vsphere, request, vsphere->vcenter->call_timeout_ms, false, cancel, error);
    if (answer != NULL && drover_soap_answer_fault(answer) != NULL) {
        g_autofree char *what = doing(request);
        drover_vsphere_fault_fail(drover_soap_answer_fault(answer), what, error);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static void set_key(DroverVsphere *vsphere, char *key)
{
    g_mutex_lock(&vsphere->key_lock);
    g_free(vsphere->session_key);
    vsphere->session_key = key;
    g_mutex_unlock(&vsphere->key_lock);
}

static bool log_in(DroverVsphere *vsphere, GCancellable *cancel, GError **error)
{
    drover_vsphere_http_forget_cookies(vsphere->http);
    set_key(vsphere, g_strdup(""));
    g_autoptr(DroverSoapWriter) request = drover_vsphere_service_request(vsphere, "Login", DROVER_VSPHERE_SESSION_MANAGER);
    drover_soap_put_text(request, "userName", vsphere->vcenter->user);
    drover_soap_put_text(request, "password", vsphere->vcenter->password);
    g_autoptr(DroverSoapAnswer) answer = exchange_or_fail(vsphere, request, cancel, error);
    if (answer == NULL)
        return false;
    set_key(vsphere, drover_soap_text(drover_soap_answer_value(answer), "key"));
    return *vsphere->session_key || drover_fail(error, DROVER_ERROR_PERMANENT,
                                                "DRV-VCENTER-ANSWER: vCenter %s accepts the login without a session",
                                                vsphere->vcenter->name);
}

/* RetrievePropertiesEx without a session is answered, with NotAuthenticated for each property. */
static bool is_missing_session(const DroverSoapAnswer *answer)
{
    const DroverVsphereFault *fault = drover_soap_answer_fault(answer);
    if (fault != NULL)
        return drover_vsphere_fault_is(fault, "NotAuthenticated");
    const xmlNode *object = drover_soap_child(drover_soap_answer_value(answer), "objects");
    for (; object; object = drover_soap_next(object)) {
        const xmlNode *missing = drover_soap_child(object, "missingSet");
        for (; missing; missing = drover_soap_next(missing)) {
            g_autoptr(DroverVsphereFault) why = drover_soap_localized_fault(drover_soap_child(missing, "fault"));
            if (drover_vsphere_fault_is(why, "NotAuthenticated"))
                return true;
        }
    }
    return false;
}

static bool may_go_on(const DroverVsphereHow *how, GError **error)
{
    const DroverVsphereWait *wait = how->wait;
    return wait == NULL || wait->may_go_on == NULL || wait->may_go_on(wait->data, error);
}

static DroverSoapAnswer *call_in_turn(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereHow *how,
                                     GError **error)
{
    bool renewed = false;
    if (*vsphere->session_key == '\0') { /* a renewal failed */
        if (!log_in(vsphere, how->cancel, error))
            return NULL;
        renewed = true;
        if (how->expired != NULL) {
            *how->expired = true;
            drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-FAULT: the session with vCenter ended");
            return NULL;
        }
    }
    for (;;) {
        if (!may_go_on(how, error))
            return NULL;
        g_autoptr(DroverSoapAnswer) answer = exchange(vsphere, request, vsphere->vcenter->call_timeout_ms + how->longer_ms,
                                                      how->wait != NULL, how->cancel, error);
        if (answer == NULL || !is_missing_session(answer) || renewed)
            return g_steal_pointer(&answer);
        if (!log_in(vsphere, how->cancel, error))
            return NULL;
        renewed = true;
        if (how->expired != NULL) {
            *how->expired = true;
            drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-FAULT: the session with vCenter ended");
            return NULL;
        }
    }
}

DroverSoapAnswer *drover_vsphere_call(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereHow *how,
                                      GError **error)
{
    g_autoptr(DroverSoapWriter) owned = request;
    if (!drover_vsphere_turn_take(&vsphere->turn, how->cancel, error))
        return NULL;
    g_autoptr(DroverSoapAnswer) answer = call_in_turn(vsphere, owned, how, error);
    drover_vsphere_turn_give(&vsphere->turn);
    if (answer == NULL)
        return NULL;
    const DroverVsphereFault *fault = drover_soap_answer_fault(answer);
    g_autofree char *what = doing(owned);
    if (fault != NULL && (!how->take_faults || drover_vsphere_fault_is(fault, "NotAuthenticated"))) {
        drover_vsphere_fault_fail(fault, what, error);
        return NULL;
    }
    if (fault == NULL && is_missing_session(answer)) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-FAULT: %s: vCenter forgot the session right after the login",
                    what);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

/* ---- keeping it alive ------------------------------------------------------------------------------------------ */

static void say_something(DroverVsphere *vsphere)
{
    /* When it fails, the next call notices. */
    g_autoptr(DroverSoapWriter) request = drover_soap_writer_new("CurrentTime", "ServiceInstance", "ServiceInstance");
    g_autoptr(DroverSoapAnswer) unused = exchange(vsphere, request, UNIMPORTANT_MS, false, NULL, NULL);
}

/* Anything that has the turn is a call itself. */
static void keep_alive(DroverVsphere *vsphere)
{
    if (!drover_vsphere_turn_take(&vsphere->turn, NULL, NULL))
        return;
    if (*vsphere->session_key && g_get_monotonic_time() - vsphere->called_us >= atomic_load(&vsphere->keep_alive_us) / 2)
        say_something(vsphere);
    drover_vsphere_turn_give(&vsphere->turn);
}

static gpointer keeper_main(gpointer data)
{
    DroverVsphere *vsphere = data;
    g_mutex_lock(&vsphere->keeper_lock);
    while (!vsphere->closing) {
        gint64 until_us = g_get_monotonic_time() + atomic_load(&vsphere->keep_alive_us);
        if (g_cond_wait_until(&vsphere->keeper_wakes, &vsphere->keeper_lock, until_us))
            continue;
        g_mutex_unlock(&vsphere->keeper_lock);
        keep_alive(vsphere);
        g_mutex_lock(&vsphere->keeper_lock);
    }
    g_mutex_unlock(&vsphere->keeper_lock);
    return NULL;
}

void drover_vsphere_keep_alive_every(DroverVsphere *vsphere, unsigned ms)
{
    atomic_store(&vsphere->keep_alive_us, (gint64)ms * G_TIME_SPAN_MILLISECOND);
    g_mutex_lock(&vsphere->keeper_lock);
    g_cond_signal(&vsphere->keeper_wakes);
    g_mutex_unlock(&vsphere->keeper_lock);
}

/* ---- open and close -------------------------------------------------------------------------------------------- */

static bool is_version(const char *text)
{
    return *text && strspn(text, "0123456789.") == strlen(text);
}

static bool get_to_know(DroverVsphere *vsphere, GCancellable *cancel, GError **error)
{
    g_autoptr(DroverSoapWriter) request =
        drover_soap_writer_new("RetrieveServiceContent", "ServiceInstance", "ServiceInstance");
    g_autoptr(DroverSoapAnswer) answer = exchange_or_fail(vsphere, request, cancel, error);
    if (answer == NULL)
        return false;
    const xmlNode *content = drover_soap_answer_value(answer);
    for (int i = 0; i < DROVER_VSPHERE_SERVICES; i++) {
        vsphere->services[i] = drover_soap_text(content, service_names[i]);
        vsphere->service_types[i] = drover_soap_moref_type(drover_soap_child(content, service_names[i]));
        if (*vsphere->services[i] == '\0')
            return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER: %s has no %s; is it a vCenter?",
                               vsphere->vcenter->url, service_names[i]);
    }
    vsphere->api_version = drover_soap_text(content, "about.apiVersion");
    vsphere->instance_uuid = drover_soap_text(content, "about.instanceUuid");
    if (is_version(vsphere->api_version)) {
        g_free(vsphere->version);
        vsphere->version = g_strconcat(DROVER_VIM_NS "/", vsphere->api_version, NULL);
    }
    return true;
}

DroverVsphere *drover_vsphere_open(const DroverVcenter *vcenter, GCancellable *cancel, GError **error)
{
    g_autoptr(DroverVsphere) vsphere = g_new0(DroverVsphere, 1);
    drover_vsphere_turn_init(&vsphere->turn);
    g_mutex_init(&vsphere->key_lock);
    atomic_store(&vsphere->keep_alive_us, KEEP_ALIVE_US);
    g_mutex_init(&vsphere->keeper_lock);
    g_cond_init(&vsphere->keeper_wakes);
    vsphere->vcenter = vcenter;
    vsphere->version = g_strdup(FIRST_VERSION);
    vsphere->session_key = g_strdup("");
    vsphere->limit_key = g_strconcat(vcenter->user, " ", vcenter->url, NULL);
    vsphere->http = drover_vsphere_http_new(vcenter);
    if (!drover_vsphere_session_take(vsphere->limit_key, vcenter->sessions, cancel, error))
        return NULL;
    vsphere->counted = true;
    if (!get_to_know(vsphere, cancel, error) || !log_in(vsphere, cancel, error))
        return NULL;
    vsphere->keeper = g_thread_new("vsphere-keeper", keeper_main, vsphere);
    return g_steal_pointer(&vsphere);
}

static void log_out(DroverVsphere *vsphere)
{
    if (*vsphere->session_key == '\0')
        return;
    g_autoptr(DroverSoapWriter) request = drover_vsphere_service_request(vsphere, "Logout", DROVER_VSPHERE_SESSION_MANAGER);
    g_autoptr(DroverSoapAnswer) unused = exchange(vsphere, request, UNIMPORTANT_MS, false, NULL, NULL);
}

void drover_vsphere_close(DroverVsphere *vsphere)
{
    if (vsphere == NULL)
        return;
    if (vsphere->keeper != NULL) {
        g_mutex_lock(&vsphere->keeper_lock);
        vsphere->closing = true;
        g_cond_signal(&vsphere->keeper_wakes);
        g_mutex_unlock(&vsphere->keeper_lock);
        g_thread_join(vsphere->keeper);
        log_out(vsphere);
    }
    if (vsphere->counted)
        drover_vsphere_session_give(vsphere->limit_key);
    drover_vsphere_http_free(vsphere->http);
    for (int i = 0; i < DROVER_VSPHERE_SERVICES; i++) {
        g_free(vsphere->services[i]);
        g_free(vsphere->service_types[i]);
    }
    g_free(vsphere->limit_key);
    g_free(vsphere->version);
    g_free(vsphere->api_version);
    g_free(vsphere->instance_uuid);
    g_free(vsphere->session_key);
    drover_vsphere_turn_clear(&vsphere->turn);
    g_mutex_clear(&vsphere->key_lock);
    g_mutex_clear(&vsphere->keeper_lock);
    g_cond_clear(&vsphere->keeper_wakes);
    g_free(vsphere);
}
