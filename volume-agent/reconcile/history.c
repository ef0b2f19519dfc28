/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/reconcile/history.h"

#include <string.h>

#define CASE(name) DROVER__V1__VOLUME_OPERATION__OPERATION_##name

static void volume_free(gpointer data)
{
    DroverKnownVolume *volume = data;
    g_free(volume->id);
    g_free(volume->where);
    g_free(volume);
}

static void old_root_free(gpointer data)
{
    DroverOldRoot *root = data;
    g_free(root->volume_id);
    g_free(root->vm_id);
    g_free(root);
}

static DroverKnownVolume *volume_of(DroverHistory *history, const char *id)
{
    DroverKnownVolume *volume = g_hash_table_lookup(history->volumes, id);
    if (!volume && *id) {
        volume = g_new0(DroverKnownVolume, 1);
        volume->id = g_strdup(id);
        g_hash_table_insert(history->volumes, volume->id, volume);
    }
    return volume;
}

/* WHERE NULL: nobody knows. */
static void put(DroverHistory *history, const char *id, const char *where)
{
    DroverKnownVolume *volume = volume_of(history, id);
    if (volume) {
        g_free(volume->where);
        volume->where = g_strdup(where);
    }
}

static void put_all_of(DroverHistory *history, const char *vm_id, const char *where)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, history->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (g_strcmp0(((DroverKnownVolume *)value)->where, vm_id) == 0)
            put(history, ((DroverKnownVolume *)value)->id, where);
}

/* A creation that found the volume there says nothing of where it is. */
static void note_creation(DroverHistory *history, const DroverOperation *o, bool done)
{
    DroverKnownVolume *volume = volume_of(history, drover_operation_volume_id(o));
    if (!volume)
        return;
    volume->made = volume->made || done;
    volume->tried = volume->tried || !done;
    if (done && !o->result.already_done)
        put(history, volume->id, "");
}

static void note_old_root(DroverHistory *history, const DroverOperation *o)
{
    if (!o->result.old_root_volume_id || !*o->result.old_root_volume_id)
        return;
    DroverOldRoot *root = g_new0(DroverOldRoot, 1);
    root->volume_id = g_strdup(o->result.old_root_volume_id);
    root->vm_id = g_strdup(o->asked->swap_root->vm_id);
    g_ptr_array_add(history->old_roots, root);
}

static void note(DroverHistory *history, const DroverOperation *o, const char *appliance)
{
    bool done = o->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE;
    const char *volume_id = drover_operation_volume_id(o), *vm_id = drover_operation_vm_id(o);
    switch (o->asked->operation_case) {
    case CASE(CREATE_VOLUME):
        note_creation(history, o, done);
        break;
    case CASE(ATTACH_VOLUME):
        put(history, volume_id, done ? appliance : NULL);
        break;
    case CASE(DETACH_VOLUME):
        put(history, volume_id, done ? "" : NULL);
        break;
    case CASE(DELETE_VOLUME):
        if (done)
            g_hash_table_remove(history->volumes, volume_id);
        else
            put(history, volume_id, NULL);
        break;
    case CASE(SWAP_ROOT):
        note_old_root(history, o);
        put(history, volume_id, done ? vm_id : NULL);
        break;
    case CASE(ATTACH_TO_VM):
        put(history, volume_id, done ? vm_id : NULL);
        break;
    case CASE(DEPLOY_VM):
        g_hash_table_add(history->vms, g_strdup(vm_id));
        break;
    case CASE(CLEANUP_TEST_FAILOVER):
    case CASE(DESTROY_VM): {
        put_all_of(history, vm_id, done ? "" : NULL);
        const GPtrArray *back = o->result.volume_ids;
        for (guint i = 0; back && i < back->len; i++)
            put(history, g_ptr_array_index(back, i), done ? appliance : NULL);
        if (done)
            g_hash_table_remove(history->vms, vm_id);
        break;
    }
    case CASE(FORCE_SYNC): /* those that it deleted */
        for (guint i = 0; o->result.volume_ids && i < o->result.volume_ids->len; i++)
            g_hash_table_remove(history->volumes, g_ptr_array_index(o->result.volume_ids, i));
        break;
    default:
        break;
    }
}

DroverHistory *drover_history_new(const GPtrArray *ended, const char *appliance_vm_id)
{
    DroverHistory *history = g_new0(DroverHistory, 1);
    history->volumes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, volume_free);
    history->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    history->old_roots = g_ptr_array_new_with_free_func(old_root_free);
    for (guint i = 0; i < ended->len; i++)
        note(history, g_ptr_array_index(ended, i), appliance_vm_id);
    return history;
}

void drover_history_free(DroverHistory *history)
{
    if (!history)
        return;
    g_hash_table_unref(history->volumes);
    g_hash_table_unref(history->vms);
    g_ptr_array_unref(history->old_roots);
    g_free(history);
}

GPtrArray *drover_history_prunable(const GPtrArray *ended, int64_t before_ms)
{
    /* From the newest to the oldest: what is seen first is the last of its kind. */
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) gone = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    for (guint i = ended->len; i-- > 0;) {
        const DroverOperation *o = g_ptr_array_index(ended, i);
        Drover__V1__VolumeOperation__OperationCase kind = o->asked->operation_case;
        const char *volume_id = drover_operation_volume_id(o), *vm_id = drover_operation_vm_id(o);
        const char *object = *volume_id ? volume_id : vm_id;
        bool done = o->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE;
        if (done && (kind == CASE(DELETE_VOLUME) || kind == CASE(DESTROY_VM) || kind == CASE(CLEANUP_TEST_FAILOVER)))
            g_hash_table_add(gone, (gpointer)object);
        for (guint v = 0; kind == CASE(FORCE_SYNC) && o->result.volume_ids && v < o->result.volume_ids->len; v++)
            g_hash_table_add(gone, g_ptr_array_index(o->result.volume_ids, v));
        bool is_last = *object && !g_hash_table_contains(gone, object) &&
                       g_hash_table_add(seen, g_strdup_printf("%d %s", (int)kind, object));
        if (!is_last && o->updated_at_ms < before_ms)
            g_ptr_array_add(ids, g_strdup(o->asked->operation_id));
    }
    return ids;
}
