/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a call of which no answer is known: of an earlier life of the agent, or of a connection that broke. */
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/owner.h"

#define ASK_MS 500

typedef enum {
    VOLUME_EXISTS,
    VOLUME_ATTACHED,
    VOLUME_DETACHED,
    VOLUME_OWNED,
    VOLUME_GROWN,
    VOLUME_GONE,
    SNAPSHOT_EXISTS, /* object: its volume; wanted: its name */
    SNAPSHOT_GONE,
    VM_EXISTS,
    VM_RUNNING,
    VM_TYPED,
    VM_STOPPED,
    VM_GONE
} Effect;

static const struct {
    const char *command;
    Effect effect;
} effects[] = {
    {"createVolume", VOLUME_EXISTS},          {"attachVolume", VOLUME_ATTACHED},   {"detachVolume", VOLUME_DETACHED},
    {"deleteVolume", VOLUME_GONE},            {"deployVirtualMachine", VM_EXISTS}, {"startVirtualMachine", VM_RUNNING},
    {"stopVirtualMachine", VM_STOPPED},       {"destroyVirtualMachine", VM_GONE},
    {"assignVolume", VOLUME_OWNED},           {"resizeVolume", VOLUME_GROWN},
    {"createSnapshot", SNAPSHOT_EXISTS},      {"deleteSnapshot", SNAPSHOT_GONE},
    {"updateVirtualMachine", VM_TYPED},
};

static bool shows(Effect effect, const json_t *object, const char *wanted)
{
    g_autofree char *owner = NULL;
    const char *state = drover_json_text(object, "state");
    switch (effect) {
    case VOLUME_EXISTS:
    case SNAPSHOT_EXISTS:
    case VM_EXISTS:
        return object;
    case VOLUME_ATTACHED:
        return *drover_json_text(object, "virtualmachineid");
    case VOLUME_DETACHED:
        return !*drover_json_text(object, "virtualmachineid");
    case VOLUME_OWNED:
        owner = drover_owner_of(object);
        return strcmp(owner, wanted) == 0;
    case VOLUME_GROWN:
        return object && (guint64)json_integer_value(json_object_get(object, "size")) >= g_ascii_strtoull(wanted, NULL, 10);
    case VM_RUNNING:
        return strcmp(state, "Running") == 0;
    case VM_TYPED:
        return strcmp(drover_json_text(object, "ostypeid"), wanted) == 0;
    case VM_STOPPED:
        return strcmp(state, "Stopped") == 0;
    case VOLUME_GONE:
    case SNAPSHOT_GONE:
    case VM_GONE:
    default:
        return !object;
    }
}

static bool look_at(const DroverOpContext *context, const DroverOperation *operation, Effect effect, json_t **object, GError **error)
{
    if (effect >= VM_EXISTS)
        return drover_look_vm(context, operation->object_id, object, error);
    if (effect == SNAPSHOT_EXISTS)
        return drover_look_snapshot_named(context, operation->object_id, operation->wanted ? operation->wanted : "", object, error);
    if (effect == SNAPSHOT_GONE)
        return drover_look_snapshot(context, operation->object_id, object, error);
    return drover_look_volume(context, operation->object_id, object, error);
}

/*
 * Operations call only for what is not the case yet, and send each call once. So an effect that can be seen is that call's:
 * it has arrived, and nothing is left to wait for. (That it cannot be seen proves nothing before the signature has died.)
 */
static bool has_taken_effect(const DroverOpContext *context, const DroverOperation *operation, bool *seen, GError **error)
{
    *seen = false;
    for (size_t i = 0; operation->object_id && *operation->object_id && i < G_N_ELEMENTS(effects); i++) {
        if (g_strcmp0(effects[i].command, operation->command) != 0)
            continue;
        json_t *object = NULL;
        if (!look_at(context, operation, effects[i].effect, &object, error))
            return false;
        *seen = shows(effects[i].effect, object, operation->wanted ? operation->wanted : "");
        json_decref(object);
    }
    return true;
}

static bool wait_until_idle(const DroverOpContext *context, const DroverOperation *operation, GError **error)
{
    const char *objects[] = {drover_operation_volume_id(operation), drover_operation_vm_id(operation),
                             operation->object_id ? operation->object_id : "",
                             drover_operation_uses_appliance(operation) ? context->appliance_vm_id : ""};
    for (size_t i = 0; i < G_N_ELEMENTS(objects); i++)
        if (*objects[i] && !drover_look_until_idle(context, objects[i], error))
            return false;
    return true;
}

static bool settle_intent(const DroverOpContext *context, const DroverOperation *operation, GError **error)
{
    /* A clock that was set back must not keep us waiting for ever. */
    int64_t left_ms = CLAMP(operation->intent_expires_at_ms - drover_now_ms(), 0, context->call_expiry_ms);
    int64_t deadline_ms = drover_boottime_ms() + left_ms;
    drover_info("operation.settle", "Finding out what became of a call without an answer",
                F_S("operation_id", operation->asked->operation_id), F_S("command", operation->command), F_I("at_most_ms", left_ms));
    for (;;) {
        bool seen = false;
        g_autoptr(GError) why = NULL;
        bool asked = has_taken_effect(context, operation, &seen, &why);
        left_ms = deadline_ms - drover_boottime_ms();
        if (seen || left_ms <= 0) {
            /* It may have been accepted and wait its turn; or others of its kind may. */
            if (asked)
                return wait_until_idle(context, operation, error);
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (!drover_op_sleep(context, MIN(left_ms, ASK_MS), error))
            return false;
    }
}

bool drover_op_settle(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING) {
        g_autoptr(GError) why = NULL;
        if (!drover_op_await_job(context, operation, NULL, &why)) {
            if (!drover_op_is_settled(operation)) {
                g_propagate_error(error, g_steal_pointer(&why));
                return false;
            }
            /* However it ended, looking tells what is the case now. */
            drover_info("operation.job_ended", why->message, F_S("operation_id", operation->asked->operation_id));
        }
    } else if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT &&
               !settle_intent(context, operation, error)) {
        return false;
    }
    drover_op_clear_intent(operation);
    return true;
}

bool drover_op_is_settled(const DroverOperation *operation)
{
    return operation->state != DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING &&
           operation->state != DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT;
}
