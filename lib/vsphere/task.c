/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/task.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/property.h"

/* One WaitForUpdatesEx has the session for so long: other threads' calls wait for it. */
#define LOOK_SECONDS 2
/* A vCenter that restarts takes some minutes; its hosts go on with their tasks meanwhile. */
#define OUTAGE_US (10 * G_TIME_SPAN_MINUTE)
#define REFUSALS_MAX 5
#define PAUSE_FIRST_MS 500
#define PAUSE_MAX_MS 15000

void drover_vsphere_outcome_clear(DroverVsphereOutcome *outcome)
{
    g_clear_pointer(&outcome->fault, drover_vsphere_fault_free);
    g_clear_pointer(&outcome->result, g_free);
}

static GCancellable *cancel_of(const DroverVsphereWait *wait)
{
    return wait != NULL ? wait->cancel : NULL;
}

static void tell(const DroverVsphereWait *wait, int percent, const char *state, const char *reason)
{
    if (wait != NULL && wait->progress != NULL)
        wait->progress(wait->data, percent, state, reason);
}

/* ---- what is known of a task ----------------------------------------------------------------------------------- */

typedef struct {
    const char *task;
    char *collector; /* of our own, so that no other wait takes our updates; NULL: none yet */
    char *version;
    char *state;
    char *reason;
    int percent;
    bool gone;
} Watch;

static void watch_clear(Watch *watch)
{
    g_free(watch->collector);
    g_free(watch->version);
    g_free(watch->state);
    g_free(watch->reason);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Watch, watch_clear)

/* What vCenter does in the task, else who started it: a queued one waits behind others of the same object. */
static char *reason_of(const xmlNode *info)
{
    g_autofree char *description = drover_soap_text(info, "description.message");
    if (*description)
        return g_steal_pointer(&description);
    const xmlNode *reason = drover_soap_child(info, "reason");
    g_autofree char *kind = drover_soap_type(reason);
    g_autofree char *user = drover_soap_text(reason, "userName");
    g_autofree char *name = drover_soap_text(info, "name");
    const char *what = g_str_has_prefix(kind, "TaskReason") ? kind + strlen("TaskReason") : kind;
    return g_strdup_printf("%s%s%s%s%s", name, *name && *what ? ", started by " : "", what, *user ? " " : "", user);
}

/* True when the task has ended. */
static bool take_info(Watch *watch, const xmlNode *info, DroverVsphereOutcome *outcome)
{
    g_free(watch->state);
    watch->state = drover_soap_text(info, "state");
    g_free(watch->reason);
    watch->reason = reason_of(info);
    watch->percent = (int)CLAMP(drover_soap_int(info, "progress", -1), -1, 100);
    if (strcmp(watch->state, "error") == 0) {
        outcome->fault = drover_soap_localized_fault(drover_soap_child(info, "error"));
        outcome->result = g_strdup("");
        return true;
    }
    if (strcmp(watch->state, "success") != 0)
        return false;
    outcome->result = drover_soap_text(info, "result");
    return true;
}

static bool take_updates(Watch *watch, const xmlNode *set, DroverVsphereOutcome *outcome)
{
    const xmlNode *filter = drover_soap_child(set, "filterSet");
    for (; filter; filter = drover_soap_next(filter)) {
        watch->gone |= drover_soap_child(filter, "missingSet") != NULL;
        const xmlNode *object = drover_soap_child(filter, "objectSet");
        for (; object; object = drover_soap_next(object)) {
            g_autofree char *kind = drover_soap_text(object, "kind");
            watch->gone |= strcmp(kind, "leave") == 0;
            const xmlNode *change = drover_soap_child(object, "changeSet");
            for (; change; change = drover_soap_next(change)) {
                g_autofree char *name = drover_soap_text(change, "name");
                const xmlNode *val = drover_soap_child(change, "val");
                if (strcmp(name, "info") == 0 && val != NULL && take_info(watch, val, outcome))
                    return true;
            }
        }
    }
    return false;
}

/* ---- looking --------------------------------------------------------------------------------------------------- */

static void stop_looking(DroverVsphere *vsphere, Watch *watch, bool in_session)
{
    if (watch->collector != NULL && in_session) {
        bool expired = false;
        DroverVsphereHow quietly = {.take_faults = true, .expired = &expired};
        g_autoptr(DroverSoapAnswer) unused = drover_vsphere_call(
            vsphere, drover_soap_writer_new("DestroyPropertyCollector", "PropertyCollector", watch->collector), &quietly, NULL);
    }
    g_clear_pointer(&watch->collector, g_free);
    g_clear_pointer(&watch->version, g_free);
}

static bool start_looking(DroverVsphere *vsphere, Watch *watch, const DroverVsphereHow *how, GError **error)
{
    g_autoptr(DroverSoapAnswer) made = drover_vsphere_call(
        vsphere,
        drover_vsphere_service_request(vsphere, "CreatePropertyCollector", DROVER_VSPHERE_PROPERTY_COLLECTOR), how, error);
    if (made == NULL)
        return false;
    watch->collector = drover_soap_content(drover_soap_answer_value(made));
    watch->version = g_strdup("");
    DroverSoapWriter *request = drover_soap_writer_new("CreateFilter", "PropertyCollector", watch->collector);
    drover_soap_put_open(request, "spec", NULL);
    drover_soap_put_open(request, "propSet", NULL);
    drover_soap_put_text(request, "type", "Task");
    drover_soap_put_text(request, "pathSet", "info");
    drover_soap_put_close(request);
    drover_soap_put_open(request, "objectSet", NULL);
    drover_soap_put_moref(request, "obj", "Task", watch->task);
    drover_soap_put_close(request);
    drover_soap_put_close(request);
    drover_soap_put_bool(request, "partialUpdates", false);
    DroverVsphereHow asking = *how;
    asking.take_faults = true;
    g_autoptr(DroverSoapAnswer) answer = drover_vsphere_call(vsphere, request, &asking, error);
    if (answer == NULL)
        return false;
    const DroverVsphereFault *fault = drover_soap_answer_fault(answer);
    watch->gone = drover_vsphere_fault_is(fault, "ManagedObjectNotFound");
    return fault == NULL || watch->gone || drover_vsphere_fault_fail(fault, "CreateFilter", error);
}

/* One look of at most LOOK_SECONDS; *ENDED says whether the task has. */
static bool look(DroverVsphere *vsphere, Watch *watch, const DroverVsphereHow *how, DroverVsphereOutcome *outcome,
                 bool *ended, GError **error)
{
    if (watch->collector == NULL && (!start_looking(vsphere, watch, how, error) || watch->gone))
        return watch->gone;
    DroverSoapWriter *request = drover_soap_writer_new("WaitForUpdatesEx", "PropertyCollector", watch->collector);
    drover_soap_put_text(request, "version", watch->version);
    drover_soap_put_open(request, "options", NULL);
    drover_soap_put_int(request, "maxWaitSeconds", LOOK_SECONDS);
    drover_soap_put_close(request);
    DroverVsphereHow asking = *how;
    asking.longer_ms = LOOK_SECONDS * 1000;
    g_autoptr(DroverSoapAnswer) answer = drover_vsphere_call(vsphere, request, &asking, error);
    if (answer == NULL)
        return false;
    const xmlNode *set = drover_soap_answer_value(answer);
    if (set == NULL)
        return true; /* nothing new */
    g_free(watch->version);
    watch->version = drover_soap_text(set, "version");
    *ended = take_updates(watch, set, outcome);
    return true;
}

static bool pause_ms(int ms, GCancellable *cancel, GError **error)
{
    GPollFD fd = {.fd = -1};
    if (cancel != NULL && g_cancellable_make_pollfd(cancel, &fd)) {
        g_poll(&fd, 1, ms);
        g_cancellable_release_fd(cancel);
    } else {
        g_usleep((gulong)ms * 1000);
    }
    return !g_cancellable_set_error_if_cancelled(cancel, error);
}

/* Whether a failed look may be tried again. An outage is waited out; what vCenter refuses again and again is not. */
static bool is_worth_another(const GError *why, unsigned refusals, gint64 silent_us)
{
    if (why->domain != DROVER_ERROR || why->code != DROVER_ERROR_RETRYABLE)
        return false;
    bool silent = g_str_has_prefix(why->message, "DRV-VCENTER-UNREACHABLE") ||
                  g_str_has_prefix(why->message, "DRV-VCENTER-TIMEOUT");
    return silent ? silent_us < OUTAGE_US : refusals < REFUSALS_MAX;
}

bool drover_vsphere_wait_task(DroverVsphere *vsphere, const char *task, const DroverVsphereWait *wait,
                              DroverVsphereOutcome *outcome, GError **error)
{
    g_auto(Watch) watch = {.task = task, .state = g_strdup("running"), .reason = g_strdup(""), .percent = -1};
    gint64 heard_us = g_get_monotonic_time();
    unsigned refusals = 0;
    for (bool ended = false; !ended && !watch.gone;) {
        bool expired = false;
        DroverVsphereHow how = {.cancel = cancel_of(wait), .expired = &expired};
        g_autoptr(GError) why = NULL;
        if (look(vsphere, &watch, &how, outcome, &ended, &why)) {
            heard_us = g_get_monotonic_time();
            refusals = 0;
            if (!ended && !watch.gone)
                tell(wait, watch.percent, watch.state, watch.reason);
            if (ended || watch.gone)
                stop_looking(vsphere, &watch, true);
            continue;
        }
        refusals++;
        stop_looking(vsphere, &watch, false);
        if (!is_worth_another(why, refusals, g_get_monotonic_time() - heard_us)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (expired && refusals == 1)
            continue;
        tell(wait, watch.percent, watch.state, why->message);
        if (!pause_ms(MIN(PAUSE_FIRST_MS << MIN(refusals - 1, 10), PAUSE_MAX_MS), how.cancel, error))
            return false;
    }
    return !watch.gone || drover_fail(error, DROVER_ERROR_RETRYABLE,
                                      "DRV-VCENTER-FAULT: vCenter knows nothing of its task %s any more; whether it was done "
                                      "must be looked up", task);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

bool drover_vsphere_run_task(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereWait *wait,
                             DroverVsphereOutcome *outcome, GError **error)
{
    static const DroverVsphereWait nothing = {0};
    DroverVsphereHow how = {.cancel = cancel_of(wait), .wait = wait ? wait : &nothing, .take_faults = true};
    g_autoptr(DroverSoapAnswer) answer = drover_vsphere_call(vsphere, request, &how, error);
    if (answer == NULL)
        return false;
    const DroverVsphereFault *fault = drover_soap_answer_fault(answer);
    if (fault != NULL) {
        outcome->fault = drover_vsphere_fault_copy(fault);
        outcome->result = g_strdup("");
        return true;
    }
    g_autofree char *task = drover_soap_content(drover_soap_answer_value(answer));
    return drover_vsphere_wait_task(vsphere, task, wait, outcome, error);
}

bool drover_vsphere_do_task(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereWait *wait,
                            char **result, GError **error)
{
    g_autofree char *what =
        g_strdup_printf("%s of %s", drover_soap_writer_method(request), drover_soap_writer_target(request));
    g_auto(DroverVsphereOutcome) outcome = {0};
    if (!drover_vsphere_run_task(vsphere, request, wait, &outcome, error))
        return false;
    if (outcome.fault != NULL)
        return drover_vsphere_fault_fail(outcome.fault, what, error);
    if (result != NULL)
        *result = g_steal_pointer(&outcome.result);
    return true;
}

/* ---- tasks of others ------------------------------------------------------------------------------------------- */

/* A task on the VM that has not ended; NULL: none. */
static char *unfinished(const DroverVsphereProperties *all)
{
    for (guint i = 0; i < all->objects->len; i++) {
        const DroverVsphereObject *object = all->objects->pdata[i];
        g_autofree char *state = drover_soap_text(drover_vsphere_value(object, "info"), "state");
        if (strcmp(object->type, "Task") == 0 && (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0))
            return g_strdup(object->moref);
    }
    return NULL;
}

bool drover_vsphere_wait_idle(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error)
{
    static const char *const vm_paths[] = {"recentTask", NULL};
    static const char *const task_paths[] = {"info", NULL};
    static const DroverVspherePropertySet sets[] = {{"VirtualMachine", vm_paths}, {"Task", task_paths}};
    static const DroverVsphereStep step = {"VirtualMachine", "recentTask", false};
    const DroverVsphereQuestion question = {.sets = sets,
                                            .n_sets = G_N_ELEMENTS(sets),
                                            .object_type = "VirtualMachine",
                                            .moref = vm,
                                            .steps = &step,
                                            .n_steps = 1};
    for (;;) {
        g_autoptr(DroverVsphereProperties) all = drover_vsphere_retrieve(vsphere, &question, cancel_of(wait), error);
        if (all == NULL)
            return false;
        g_autofree char *task = unfinished(all);
        if (task == NULL)
            return true;
        g_auto(DroverVsphereOutcome) unused = {0};
        if (!drover_vsphere_wait_task(vsphere, task, wait, &unused, error))
            return false;
    }
}
