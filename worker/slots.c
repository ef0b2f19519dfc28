/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/slots.h"

#include "worker/handlers.h"

struct DroverSlots {
    DroverWorker *worker;
    GThreadPool *pool;
};

static void execute(gpointer data, gpointer user_data)
{
    DroverRunning *running = data;
    DroverWorker *worker = user_data;
    const DroverTask *task = drover_running_task(running);
    if (task->kind == DROVER_TASK_COPY && task->compare)
        drover_handle_compare(worker, running);
    else if (task->kind == DROVER_TASK_COPY)
        drover_handle_copy(worker, running);
    else if (task->kind == DROVER_TASK_SOURCE_VM)
        drover_handle_source_vm(worker, running);
    else
        drover_handle_inspect(worker, running);
    drover_running_end(worker->running, running);
}

DroverSlots *drover_slots_new(DroverWorker *worker, GError **error)
{
    int threads = (int)(worker->copy_slots + worker->source_slots);
    GThreadPool *pool = g_thread_pool_new(execute, worker, threads, true, error);
    if (pool == NULL)
        return NULL;
    DroverSlots *slots = g_new0(DroverSlots, 1);
    slots->worker = worker;
    slots->pool = pool;
    return slots;
}

void drover_slots_run(DroverSlots *slots, DroverRunning *running)
{
    g_thread_pool_push(slots->pool, running, NULL);
}

void drover_slots_free(DroverSlots *slots)
{
    if (slots == NULL)
        return;
    g_thread_pool_free(slots->pool, false, true);
    g_free(slots);
}
