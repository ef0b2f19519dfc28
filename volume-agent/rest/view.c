/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/view.h"

#include <string.h>

#include "volume-agent/rest/record.h"
#include "volume-agent/rest/request.h"

#define LOOK_MS 100
#define N_STATES 5

struct DroverRestView {
    GMutex lock;
    GCond changed;
    GHashTable *by_id;     /* operation id -> DroverOperation, owned */
    GPtrArray *in_order;   /* the same, by sequence */
    GHashTable *submitted; /* operation id -> DroverOperation, owned; in none of the above */
    DroverRestEndedFunc on_end;
    void *on_end_data;
};

static void operation_free(gpointer data)
{
    drover_operation_free(data);
}

static guint position(const GPtrArray *in_order, uint64_t sequence)
{
    guint low = 0, high = in_order->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        if (((const DroverOperation *)g_ptr_array_index(in_order, middle))->sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes the operation with this id out of the order, and frees it. */
static void drop(DroverRestView *view, const char *operation_id)
{
    DroverOperation *known = g_hash_table_lookup(view->by_id, operation_id);
    if (!known)
        return;
    for (guint at = position(view->in_order, known->sequence); at < view->in_order->len; at++) {
        if (g_ptr_array_index(view->in_order, at) == known) {
            g_ptr_array_remove_index(view->in_order, at);
            break;
        }
    }
    g_hash_table_remove(view->by_id, operation_id);
}

/* Takes OPERATION. Called with the lock held. */
static void put(DroverRestView *view, DroverOperation *operation)
{
    const char *id = operation->asked->operation_id;
    g_hash_table_remove(view->submitted, id);
    drop(view, id);
    g_hash_table_insert(view->by_id, operation->asked->operation_id, operation);
    g_ptr_array_insert(view->in_order, (gint)position(view->in_order, operation->sequence), operation);
}

/* Through its packed form, which has all that is durable. */
static DroverOperation *unpack(GBytes *value)
{
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(value, &len);
    Drover__V1__JournalRecord *record = drover__v1__journal_record__unpack(NULL, len, data);
    DroverOperation *operation = record && record->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_OPERATION
                                     ? drover_operation_unpack(record->operation)
                                     : NULL;
    if (record)
        drover__v1__journal_record__free_unpacked(record, NULL);
    return operation;
}

DroverRestView *drover_rest_view_new(const GPtrArray *operations)
{
    DroverRestView *view = g_new0(DroverRestView, 1);
    g_mutex_init(&view->lock);
    g_cond_init(&view->changed);
    view->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, operation_free);
    view->in_order = g_ptr_array_new();
    view->submitted = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, operation_free);
    for (guint i = 0; i < operations->len; i++) {
        g_autoptr(GBytes) packed = drover_operation_pack(g_ptr_array_index(operations, i), "", "");
        put(view, unpack(packed));
    }
    return view;
}

void drover_rest_view_free(DroverRestView *view)
{
    if (!view)
        return;
    g_ptr_array_unref(view->in_order);
    g_hash_table_unref(view->by_id);
    g_hash_table_unref(view->submitted);
    g_mutex_clear(&view->lock);
    g_cond_clear(&view->changed);
    g_free(view);
}

void drover_rest_view_seen(void *data, const char *key, GBytes *value)
{
    DroverRestView *view = data;
    if (!g_str_has_prefix(key, "op/"))
        return;
    DroverOperation *operation = value ? unpack(value) : NULL;
    g_mutex_lock(&view->lock);
    if (operation)
        put(view, operation);
    else if (!value)
        drop(view, key + strlen("op/"));
    if (operation && drover_operation_is_ended(operation) && view->on_end)
        view->on_end(view->on_end_data, drover_operation_kind(operation), drover_rest_state(operation, false),
                     MAX(operation->updated_at_ms - operation->accepted_at_ms, 0));
    g_cond_broadcast(&view->changed);
    g_mutex_unlock(&view->lock);
}

/* ---- operations
 * ------------------------------------------------------------------------------------------------- */

/* Called with the lock held. */
static DroverOperation *find(DroverRestView *view, const char *operation_id, bool *submitted)
{
    DroverOperation *found = g_hash_table_lookup(view->by_id, operation_id);
    *submitted = !found;
    return found ? found : g_hash_table_lookup(view->submitted, operation_id);
}

static Drover__V1__VolumeOperation *copy_of(const Drover__V1__VolumeOperation *from)
{
    size_t len = drover__v1__volume_operation__get_packed_size(from);
    g_autofree uint8_t *bytes = g_malloc(len + 1);
    drover__v1__volume_operation__pack(from, bytes);
    return drover__v1__volume_operation__unpack(NULL, len, bytes);
}

DroverRestSubmission drover_rest_view_submit(DroverRestView *view,
                                             const Drover__V1__VolumeOperation *operation)
{
    DroverRestSubmission outcome = DROVER_REST_NEW;
    bool submitted = false;
    g_mutex_lock(&view->lock);
    const DroverOperation *known = find(view, operation->operation_id, &submitted);
    if (known) {
        outcome =
            drover_rest_same_operation(known->asked, operation) ? DROVER_REST_KNOWN : DROVER_REST_DIFFERENT;
    } else {
        DroverOperation *copy = drover_operation_new(copy_of(operation));
        g_hash_table_insert(view->submitted, copy->asked->operation_id, copy);
    }
    g_mutex_unlock(&view->lock);
    return outcome;
}

void drover_rest_view_withdraw(DroverRestView *view, const char *operation_id)
{
    g_mutex_lock(&view->lock);
    g_hash_table_remove(view->submitted, operation_id);
    g_mutex_unlock(&view->lock);
}

json_t *drover_rest_view_operation(DroverRestView *view, const char *operation_id, bool *ended)
{
    bool submitted = false;
    g_mutex_lock(&view->lock);
    const DroverOperation *operation = find(view, operation_id, &submitted);
    json_t *json = operation ? drover_rest_operation_json(operation, submitted) : NULL;
    if (ended)
        *ended = operation && !submitted && drover_operation_is_ended(operation);
    g_mutex_unlock(&view->lock);
    return json;
}

void drover_rest_view_wait(DroverRestView *view, const char *operation_id, bool ended, int64_t timeout_ms,
                           bool (*stopping)(void))
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * 1000;
    g_mutex_lock(&view->lock);
    while (!stopping() && g_get_monotonic_time() < deadline) {
        const DroverOperation *operation = g_hash_table_lookup(view->by_id, operation_id);
        if (operation && (!ended || drover_operation_is_ended(operation)))
            break;
        g_cond_wait_until(&view->changed, &view->lock,
                          MIN(deadline, g_get_monotonic_time() + LOOK_MS * 1000));
    }
    g_mutex_unlock(&view->lock);
}

static bool is(const char *wanted, const char *value)
{
    return !wanted || !*wanted || strcmp(wanted, value) == 0;
}

static bool concerns_volume(const DroverOperation *operation, const char *volume_id)
{
    if (is(volume_id, drover_operation_volume_id(operation)))
        return true;
    const GPtrArray *ids = operation->result.volume_ids;
    return ids && g_ptr_array_find_with_equal_func((GPtrArray *)ids, volume_id, g_str_equal, NULL);
}

static bool passes(const DroverRestFilter *filter, const DroverOperation *operation)
{
    return is(filter->kind, drover_operation_kind(operation)) &&
           is(filter->state, drover_rest_state(operation, false)) &&
           is(filter->job_id, operation->asked->job_id) &&
           is(filter->vm_id, drover_operation_vm_id(operation)) &&
           concerns_volume(operation, filter->volume_id);
}

json_t *drover_rest_view_list(DroverRestView *view, const DroverRestFilter *filter, uint64_t before,
                              unsigned limit, uint64_t *next)
{
    json_t *array = json_array();
    *next = 0;
    g_mutex_lock(&view->lock);
    guint i = before ? position(view->in_order, before) : view->in_order->len;
    uint64_t last = 0;
    while (i-- > 0) {
        const DroverOperation *operation = g_ptr_array_index(view->in_order, i);
        if (!passes(filter, operation))
            continue;
        if (json_array_size(array) == limit) {
            *next = last;
            break;
        }
        json_array_append_new(array, drover_rest_operation_json(operation, false));
        last = operation->sequence;
    }
    g_mutex_unlock(&view->lock);
    return array;
}

/* FUNC for all that have not ended, submitted ones too, until it returns true. Called with the lock held. */
static bool any_open(DroverRestView *view, bool (*func)(const DroverOperation *, gconstpointer),
                     gconstpointer data)
{
    bool found = false;
    for (guint i = view->in_order->len; !found && i-- > 0;) {
        const DroverOperation *operation = g_ptr_array_index(view->in_order, i);
        found = !drover_operation_is_ended(operation) && func(operation, data);
    }
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, view->submitted);
    while (!found && g_hash_table_iter_next(&iter, NULL, &value))
        found = func(value, data);
    return found;
}

typedef struct {
    const char *volume_id;
    json_t *ids;
} OpenOn;

static bool add_open(const DroverOperation *operation, gconstpointer data)
{
    const OpenOn *on = data;
    if (concerns_volume(operation, on->volume_id))
        json_array_append_new(on->ids, json_string(operation->asked->operation_id));
    return false;
}

json_t *drover_rest_view_open_on(DroverRestView *view, const char *volume_id)
{
    const OpenOn on = {volume_id, json_array()};
    g_mutex_lock(&view->lock);
    any_open(view, add_open, &on);
    g_mutex_unlock(&view->lock);
    return on.ids;
}

static bool makes(const DroverOperation *operation, gconstpointer volume_id)
{
    return operation->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_VOLUME &&
           strcmp(operation->asked->create_volume->custom_id, volume_id) == 0;
}

bool drover_rest_view_is_coming(DroverRestView *view, const char *volume_id)
{
    g_mutex_lock(&view->lock);
    bool coming = any_open(view, makes, volume_id);
    g_mutex_unlock(&view->lock);
    return coming;
}

static uint64_t opens(const DroverOperation *operation, const char *volume_id)
{
    const Drover__V1__VolumeOperation *asked = operation->asked;
    bool fits = asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_OPEN_EXPORT &&
                is(volume_id, asked->open_export->volume_id);
    return fits ? asked->open_export->generation : 0;
}

uint64_t drover_rest_view_generation(DroverRestView *view, const char *volume_id)
{
    uint64_t highest = 0;
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&view->lock);
    for (guint i = 0; i < view->in_order->len; i++)
        highest = MAX(highest, opens(g_ptr_array_index(view->in_order, i), volume_id));
    g_hash_table_iter_init(&iter, view->submitted);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        highest = MAX(highest, opens(value, volume_id));
    g_mutex_unlock(&view->lock);
    return highest;
}

uint64_t drover_rest_view_generation_of(DroverRestView *view, const char *operation_id)
{
    bool submitted = false;
    g_mutex_lock(&view->lock);
    const DroverOperation *operation = find(view, operation_id, &submitted);
    uint64_t generation = operation ? opens(operation, "") : 0;
    g_mutex_unlock(&view->lock);
    return generation;
}

/* ---- metrics
 * ---------------------------------------------------------------------------------------------------- */

void drover_rest_view_count(DroverRestView *view, DroverRestCountFunc func, void *data)
{
    static const char *const states[N_STATES] = {"submitted", "accepted", "running", "done", "failed"};
    g_autoptr(GHashTable) kinds =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free); /* kind -> uint64_t[N_STATES] */
    GHashTableIter iter;
    gpointer key, value;
    g_mutex_lock(&view->lock);
    for (int pass = 0; pass < 2; pass++) {
        g_hash_table_iter_init(&iter, pass ? view->submitted : view->by_id);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            const char *kind = drover_operation_kind(value), *state = drover_rest_state(value, pass == 1);
            uint64_t *counts = g_hash_table_lookup(kinds, kind);
            if (!counts)
                g_hash_table_insert(kinds, (gpointer)kind, counts = g_new0(uint64_t, N_STATES));
            for (int i = 0; i < N_STATES; i++)
                counts[i] += strcmp(states[i], state) == 0;
        }
    }
    g_mutex_unlock(&view->lock);
    g_hash_table_iter_init(&iter, kinds);
    while (g_hash_table_iter_next(&iter, &key, &value))
        for (int i = 0; i < N_STATES; i++)
            if (((uint64_t *)value)[i] > 0)
                func(data, key, states[i], ((uint64_t *)value)[i]);
}

void drover_rest_view_on_end(DroverRestView *view, DroverRestEndedFunc func, void *data)
{
    g_mutex_lock(&view->lock);
    view->on_end = func;
    view->on_end_data = data;
    g_mutex_unlock(&view->lock);
}
