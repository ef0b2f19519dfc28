/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "lib/base/config.h"
#include "lib/base/drain.h"
#include "lib/base/log.h"
#include "worker/control.h"
#include "worker/heartbeat.h"
#include "worker/intake.h"
#include "worker/options.h"
#include "worker/rundir.h"
#include "worker/slots.h"
#include "worker/vsphere/pool.h"
#include "worker/vsphere/source.h"
#include "worker/worker.h"

#define LAST_RECORDS_MS 5000
#define SLOTS_END_US (10 * G_TIME_SPAN_SECOND) /* after being revoked, tasks have only files and sockets to close */

static void beat(void *user_data)
{
    DroverHeart **heart = user_data;
    if (*heart != NULL)
        drover_heart_now(*heart);
}

/* Tasks stop at their next checkpoint and are handed back; those that do not get there in time are dropped. */
static void drain(DroverWorker *worker, DroverHeart *heart)
{
    drover_info("worker.draining", "Stopping running tasks at their next checkpoint");
    drover_heart_set_draining(heart);
    drover_running_close(worker->running);
    if (drover_running_wait_empty(worker->running, g_get_monotonic_time() + (int64_t)worker->drain_timeout_ms * 1000))
        return;
    drover_warning("worker.drain_timeout", "Tasks that reach no checkpoint in time are dropped");
    drover_running_revoke_all(worker->running);
    drover_running_wait_empty(worker->running, g_get_monotonic_time() + SLOTS_END_US);
}

static bool run(DroverWorker *worker, GError **error)
{
    DroverHeart *heart = NULL;
    worker->reporter = drover_reporter_new(worker->producer, &worker->name, (int)worker->checkpoint_wait_ms);
    worker->running = drover_running_table_new(worker->copy_slots, worker->source_slots, beat, &heart);
    DroverControl *control = drover_control_start(worker, error);
    DroverSlots *slots = control == NULL ? NULL : drover_slots_new(worker, error);
    bool ok = slots != NULL;
    if (ok) {
        heart = drover_heart_new(worker);
        drover_heart_start(heart);
        ok = !drover_control_wait_ready(control) || drover_intake_run(worker, control, slots, heart, error);
        drain(worker, heart);
    }
    drover_slots_free(slots);
    DroverHeart *last = heart;
    heart = NULL;
    drover_heart_free(last, true);
    drover_control_stop(control);
    drover_running_table_free(worker->running);
    return ok;
}

static int work(DroverWorker *worker, const DroverConfig *config, GError **error)
{
    g_autoptr(DroverRunDir) dir =
        drover_run_dir_open(drover_config_string(config, "worker.run-dir"), worker->name.process_id, error);
    if (dir == NULL)
        return EXIT_FAILURE;
    worker->socket_dir = g_strdup(drover_run_dir_path(dir));
    if (*worker->vcenters_file != '\0') {
        worker->vsphere.kind = &drover_source_vsphere;
        worker->vsphere.vcenters = drover_vcenter_pool_new(worker->vcenters_file);
    }
    worker->kafka = drover_kafka_new(config, worker->name.process_id, error);
    worker->producer = worker->kafka == NULL ? NULL : drover_producer_new(worker->kafka, error);
    drover_info("worker.started", "Ready to take tasks", F_S("process_id", worker->name.process_id),
                F_S("instance_id", worker->name.instance_id), F_S("site", worker->name.site),
                F_U("copy_slots", worker->copy_slots), F_U("source_slots", worker->source_slots));
    bool ok = worker->producer != NULL && run(worker, error);
    ok = ok && drover_producer_flush(worker->producer, LAST_RECORDS_MS, error);
    /* The producer first: its last callbacks still reach the reporter. */
    drover_producer_free(worker->producer);
    drover_reporter_free(worker->reporter);
    drover_kafka_free(worker->kafka);
    drover_vcenter_pool_free(worker->vsphere.vcenters);
    g_free(worker->socket_dir);
    drover_info("worker.stopped", ok ? "Drained" : "Stopped because of an error");
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static const DroverOption *const tables[] = {drover_worker_options, drover_fleet_options, drover_vsphere_options, NULL};
    drover_drain_install();
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverConfig) config = drover_config_parse("drover-worker", "",
                                                         "Reads disks at the source and copies them to the volume "
                                                         "agents' exports. Start as many as you like: they share\n"
                                                         "the work of their site. Keeps no state; kill it at any time.",
                                                         tables, &argc, &argv, &error);
    DroverWorker worker = {0};
    if (config == NULL || !drover_worker_configure(&worker, config, &error)) {
        g_printerr("drover-worker: %s\n", error->message);
        return 2;
    }
    int status = work(&worker, config, &error);
    if (error != NULL)
        drover_error("worker.failed", error->message);
    drover_worker_clear(&worker);
    return status;
}
