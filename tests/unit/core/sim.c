/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/core/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/dispatch/queue.h"
#include "core/job/source_vm.h"
#include "core/task/task.h"
#include "core/task/verify.h"

#define MIB (UINT64_C(1) << 20)
#define CAPACITY (5 * 128 * MIB + 512)

static const char *const sites[] = {"site-1", NULL};
static const char *const agents[] = {"appliance-1", NULL};

static void checkpoint_free(void *data)
{
    SimCheckpoint *checkpoint = data;
    g_free(checkpoint->disk_id);
    g_free(checkpoint->task_id);
    g_free(checkpoint);
}

static void take_outputs(Sim *sim)
{
    for (guint i = 0; i < sim->outputs->len; i++) {
        const DroverOutput *output = sim->outputs->pdata[i];
        if (output->kind == DROVER_OUTPUT_OPERATION)
            g_ptr_array_add(sim->inbox, drover_operation_copy(output->operation));
    }
    g_ptr_array_set_size(sim->outputs, 0);
}

static Sim *make(unsigned disks, bool failover, bool vm)
{
    Sim *sim = g_new0(Sim, 1);
    sim->limits = DROVER_LIMITS_DEFAULT;
    sim->at = (DroverAt){.now_ms = 1000000, .lease_ms = 1000, .copy_slots = 4};
    sim->outputs = drover_outputs_new();
    sim->inbox = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    sim->volumes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    sim->exports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    sim->executed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    sim->checkpoints = g_ptr_array_new_with_free_func(checkpoint_free);
    sim->vm_id = g_strdup("");
    sim->vm_state = g_strdup("");
    g_autoptr(GBytes) spec = g_bytes_new("", 0);
    g_autofree DroverDiskRequest *wanted = g_new0(DroverDiskRequest, disks);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < disks; i++) {
        char *id = g_strdup_printf("disk%u", i), *path = g_strdup_printf("/images/%u.raw", i);
        g_ptr_array_add(names, id);
        g_ptr_array_add(names, path);
        wanted[i] = (DroverDiskRequest){.disk_id = id,
                                        .source_kind = vm ? "vsphere" : "file",
                                        .source = path,
                                        .vm = vm ? "vc1/vm-7" : "",
                                        .source_key = vm ? 2000 + (int32_t)i : 0,
                                        .spec = spec};
    }
    DroverSourceVm source = {.present = vm,
                             .vcenter = (char *)"vc1",
                             .vm_moref = (char *)"vm-7",
                             .vm_uuid = (char *)"42",
                             .snapshot_max_age_ms = DROVER_SNAPSHOT_MAX_AGE_MS};
    sim->vm.present = vm;
    DroverRequest request = {.job_id = "job-1",
                             .name = "web01",
                             .site = "",
                             .agent = "",
                             .submitter = "",
                             .failover = failover,
                             .source = vm ? &source : NULL,
                             .disks = wanted,
                             .n_disks = disks,
                             .spec = spec};
    DroverPlaces places = {sites, agents};
    sim->job = drover_job_submit(&request, &places, &sim->limits, &sim->at, sim->outputs);
    take_outputs(sim);
    return sim;
}

Sim *sim_new(unsigned disks, bool failover)
{
    return make(disks, failover, false);
}

Sim *sim_new_vm(unsigned disks, bool failover)
{
    return make(disks, failover, true);
}

void sim_free(Sim *sim)
{
    drover_job_free(sim->job);
    g_ptr_array_unref(sim->outputs);
    g_ptr_array_unref(sim->inbox);
    g_ptr_array_unref(sim->checkpoints);
    g_hash_table_unref(sim->volumes);
    g_hash_table_unref(sim->exports);
    g_hash_table_unref(sim->executed);
    g_free(sim->vm_id);
    g_free(sim->vm_state);
    g_free(sim->problem);
    g_free(sim->vm.snapshot);
    g_free(sim);
}

void sim_input(Sim *sim, const DroverInput *input)
{
    sim->at.random = sim->at.random * 1664525u + 1013904223u;
    drover_job_step(sim->job, input, &sim->limits, &sim->at, sim->outputs);
    take_outputs(sim);
    sim_check(sim);
    if (sim->before != NULL)
        sim->before(sim);
}

void sim_command(Sim *sim, DroverInputKind kind)
{
    DroverInput input = {.kind = kind, .text = "because", .failover = DROVER_FAILOVER_LIVE};
    sim_input(sim, &input);
}

/* ---- the agent */

void sim_problem(Sim *sim, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (sim->problem == NULL)
        sim->problem = g_strdup_vprintf(format, args);
    va_end(args);
}

static const char *place_of(const Sim *sim, const char *volume_id)
{
    const char *place = g_hash_table_lookup(sim->volumes, volume_id);
    return place != NULL ? place : "gone";
}

static void put(Sim *sim, const char *volume_id, const char *place)
{
    g_hash_table_replace(sim->volumes, g_strdup(volume_id), g_strdup(place));
}

static void execute(Sim *sim, const DroverOperation *op, DroverOperationResult *result)
{
    const char *place = place_of(sim, op->volume_id);
    bool open = g_hash_table_contains(sim->exports, op->volume_id);
    switch (op->kind) {
    case DROVER_OP_CREATE_VOLUME:
        if (op->size_bytes < CAPACITY)
            sim_problem(sim, "volume of %" G_GUINT64_FORMAT " bytes", op->size_bytes);
        put(sim, op->custom_id, "");
        result->volume_id = op->custom_id;
        break;
    case DROVER_OP_ATTACH_VOLUME:
        if (*place != '\0')
            sim_problem(sim, "attaching a volume at %s", place);
        put(sim, op->volume_id, "appliance");
        result->device_path = "/dev/vdb";
        result->device_size_bytes = MAX(CAPACITY, op->size_bytes); /* volumes are whole GiB */
        break;
    case DROVER_OP_DETACH_VOLUME:
        if (open)
            sim_problem(sim, "detaching under an export");
        if (*place == '\0' && !op->undo)
            sim_problem(sim, "detaching a free volume");
        if (g_str_equal(place, sim->vm_id) && *sim->vm_id != '\0' && g_str_equal(sim->vm_state, "Running"))
            sim_problem(sim, "detaching from a running VM");
        if (!g_str_equal(place, "gone"))
            put(sim, op->volume_id, "");
        break;
    case DROVER_OP_DELETE_VOLUME:
        if (*place != '\0' && !g_str_equal(place, "gone"))
            sim_problem(sim, "deleting a volume at %s", place);
        g_hash_table_remove(sim->volumes, op->volume_id);
        break;
    case DROVER_OP_OPEN_EXPORT:
        if (!g_str_equal(place, "appliance"))
            sim_problem(sim, "opening a volume at %s", place);
        g_hash_table_replace(sim->exports, g_strdup(op->volume_id), g_strdup("open"));
        result->generation = op->generation;
        result->token = "0123456789abcdef0123456789abcdef";
        result->export_name = "migration-vol-x";
        result->nbd_host = "127.0.0.1";
        result->nbd_port = 10809;
        break;
    case DROVER_OP_CLOSE_EXPORT:
        g_hash_table_remove(sim->exports, op->volume_id);
        break;
    case DROVER_OP_DEPLOY_VM:
        if (*sim->vm_id != '\0' && !g_str_equal(sim->vm_id, op->custom_id))
            sim_problem(sim, "a second VM");
        g_free(sim->vm_id);
        sim->vm_id = g_strdup(op->custom_id);
        g_free(sim->vm_state);
        sim->vm_state = g_strdup("Stopped");
        result->vm_id = sim->vm_id;
        result->vm_state = sim->vm_state;
        break;
    case DROVER_OP_SWAP_ROOT:
    case DROVER_OP_ATTACH_TO_VM:
        if (*place != '\0' || !g_str_equal(op->vm_id, sim->vm_id) || *sim->vm_id == '\0')
            sim_problem(sim, "giving a volume at %s to VM %s", place, op->vm_id);
        if (op->kind == DROVER_OP_ATTACH_TO_VM && (op->device_id == 0 || op->device_id == 3))
            sim_problem(sim, "device id %u", op->device_id);
        put(sim, op->volume_id, sim->vm_id);
        break;
    case DROVER_OP_START_VM:
    case DROVER_OP_STOP_VM:
        if (op->kind == DROVER_OP_START_VM && sim->vm.present && !sim->vm.off)
            sim_problem(sim, "the target VM starts while the source VM runs");
        g_free(sim->vm_state);
        sim->vm_state = g_strdup(op->kind == DROVER_OP_START_VM ? "Running" : "Stopped");
        result->vm_state = sim->vm_state;
        break;
    case DROVER_OP_PREFLIGHT_TARGET:
        if (*sim->vm_id != '\0' || (g_hash_table_size(sim->volumes) > 0 && !sim->job->failover_requested))
            sim_problem(sim, "asking whether the job fits when something is made already");
        if (drover_source_is_off(sim->job))
            sim_problem(sim, "asking whether the job fits while nobody serves");
        break;
    case DROVER_OP_DESTROY_VM: {
        GHashTableIter iter;
        void *id, *at;
        g_hash_table_iter_init(&iter, sim->volumes);
        while (g_hash_table_iter_next(&iter, &id, &at))
            if (*sim->vm_id != '\0' && g_str_equal(at, sim->vm_id))
                g_hash_table_iter_replace(&iter, g_strdup(""));
        if (!g_str_equal(op->vm_id, sim->vm_id) && *sim->vm_id != '\0')
            sim_problem(sim, "destroying VM %s", op->vm_id);
        g_free(sim->vm_id);
        sim->vm_id = g_strdup("");
        break;
    }
    }
}

void sim_operate(Sim *sim, guint index, const DroverFault *fault)
{
    g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    DroverOperation *op = g_ptr_array_steal_index(sim->inbox, index);
    g_ptr_array_add(keep, op);
    if (!g_hash_table_add(sim->executed, g_strdup(op->operation_id)))
        sim_problem(sim, "operation %s twice", op->operation_id);
    sim->operations++;
    DroverOperationResult result = {0};
    /* The worst failure: the object was made, but nobody says so. */
    if (fault == NULL || op->kind == DROVER_OP_CREATE_VOLUME || op->kind == DROVER_OP_DEPLOY_VM)
        execute(sim, op, &result);
    DroverInput input = {.kind = fault == NULL ? DROVER_INPUT_OPERATION_DONE : DROVER_INPUT_OPERATION_FAILED,
                         .operation_id = op->operation_id,
                         .result = &result,
                         .fault = fault};
    sim_input(sim, &input);
}

/* ---- workers */

static void inspect(Sim *sim, const DroverDisk *disk)
{
    const uint64_t buckets[] = {128 * MIB, 0, 64 * MIB, 0, 1 * MIB, 512};
    g_autofree char *disk_id = g_strdup(disk->disk_id);
    g_autoptr(GBytes) identity = g_bytes_new("", 0);
    g_autofree char *change_id = g_strdup_printf("%u", sim->vm.frozen);
    g_autoptr(GArray) areas = g_array_new(false, false, sizeof(DroverRange));
    if (sim->vm.present)
        sim_vm_check_inspection(sim);
    DroverInspection found = {.identity = identity,
                              .change_id = sim->vm.present ? change_id : "",
                              .areas = sim->vm.present && sim->job->round > 0 ? areas : NULL,
                              .format = "raw",
                              .capacity_bytes = CAPACITY,
                              .allocated_bytes = 193 * MIB + 512,
                              .extents_available = true,
                              .frozen = true,
                              .bucket_bytes = 128 * MIB,
                              .buckets = buckets,
                              .n_buckets = G_N_ELEMENTS(buckets)};
    DroverInput input = {.kind = DROVER_INPUT_INSPECTED, .disk_id = disk_id, .inspection = &found};
    sim_input(sim, &input);
}

static void checkpoint_cells(Sim *sim, DroverDisk *disk, const DroverTask *task)
{
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    for (size_t i = drover_cells_begin(&task->range); i < drover_cells_end(&task->range); i++) {
        SimCheckpoint *record = g_new0(SimCheckpoint, 1);
        record->disk_id = g_strdup(disk->disk_id);
        record->task_id = g_strdup(task->task_id);
        record->generation = disk->generation;
        record->cell = (DroverCellDone){.cell = i, .root.len = 16, .data_bytes = 7};
        record->cell.root.bytes[0] = (uint8_t)i;
        g_ptr_array_add(sim->checkpoints, record);
        uint64_t changed = 0;
        DroverCheckpoint checkpoint = {.task_id = task->task_id,
                                       .generation = disk->generation,
                                       .key = "k",
                                       .cells = &record->cell,
                                       .n_cells = 1};
        assert_int_equal(drover_cells_checkpoint(disk, &checkpoint, fresh, &changed),
                         DROVER_CHECKPOINT_FOLDED);
    }
}

static void settle(Sim *sim, DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        size_t cells = drover_cells_end(&task->range) - drover_cells_begin(&task->range);
        if (drover_task_moves_data(task) && task->status == DROVER_TASK_COPIED &&
            drover_cells_count_verified(disk->cells, &task->range) == cells)
            drover_task_done(task, &sim->at);
    }
}

static void read_back(Sim *sim, DroverDisk *disk, const DroverTask *task, bool mismatch)
{
    size_t begin = drover_cells_begin(&task->range), end = drover_cells_end(&task->range);
    for (size_t i = begin; i < end; i++)
        if (disk->cells->cell[i].checkpointed && !(mismatch && i == begin))
            disk->cells->cell[i].verified = true;
    if (mismatch && disk->cells->cell[begin].checkpointed && !disk->cells->cell[begin].verified)
        drover_job_repair(sim->job, disk, begin, begin, &sim->limits, &sim->at, sim->outputs);
    take_outputs(sim);
}

void sim_run_task(Sim *sim, DroverDisk *disk, DroverTask *task, bool mismatch)
{
    if (task->kind == DROVER_TASK_SOURCE_VM) {
        sim_vm_run(sim, task, SIM_VM_TOLD);
        return;
    }
    drover_task_assign(task, "worker-1", 0, &sim->at);
    assert_int_equal(drover_task_claimed(task, task->attempt, "worker-1", "w1", &sim->at),
                     DROVER_TASK_ACCEPTED);
    assert_int_equal(drover_task_finished(task, task->attempt, "w1", &sim->at), DROVER_TASK_ACCEPTED);
    if (task->kind == DROVER_TASK_INSPECT) {
        inspect(sim, disk);
        return;
    }
    checkpoint_cells(sim, disk, task);
    read_back(sim, disk, task, mismatch);
    if (disk->cells != NULL)
        settle(sim, disk);
    sim_command(sim, DROVER_INPUT_TICK);
}

static DroverTask *next_task(const Sim *sim, DroverDisk **disk)
{
    for (guint d = 0; d < sim->job->disks->len; d++) {
        *disk = sim->job->disks->pdata[d];
        for (guint t = 0; t < (*disk)->tasks->len; t++)
            if (drover_queue_is_eligible(sim->job, *disk, (*disk)->tasks->pdata[t], &sim->at))
                return (*disk)->tasks->pdata[t];
    }
    return NULL;
}

bool sim_fair(Sim *sim)
{
    DroverDisk *disk = NULL;
    if (sim->inbox->len > 0) {
        sim_operate(sim, 0, NULL);
        return true;
    }
    if (sim_vm_release(sim))
        return true;
    DroverTask *task = next_task(sim, &disk);
    if (task != NULL) {
        sim_run_task(sim, disk, task, false);
        return true;
    }
    if (drover_job_wants_agent(sim->job)) {
        DroverInput input = {.kind = DROVER_INPUT_AGENT, .text = "appliance-1"};
        sim_input(sim, &input);
        return true;
    }
    if (drover_phase_is_ended(sim->job->phase))
        return false;
    sim->at.now_ms += 1000;
    sim->at.lease_ms += 1000;
    sim_command(sim, DROVER_INPUT_TICK);
    return true;
}

void sim_finish(Sim *sim)
{
    unsigned steps = 0;
    while (sim_fair(sim))
        if (++steps > 5000)
            fail_msg("the job does not end: it is %s", drover_phase_name(sim->job->phase));
    assert_true(drover_phase_is_ended(sim->job->phase));
}

void sim_check(const Sim *sim)
{
    g_autofree char *wrong = drover_job_check(sim->job);
    if (wrong != NULL)
        fail_msg("%s: %s", drover_phase_name(sim->job->phase), wrong);
    if (sim->problem != NULL)
        fail_msg("%s: %s", drover_phase_name(sim->job->phase), sim->problem);
}

bool sim_is_clean(const Sim *sim)
{
    return g_hash_table_size(sim->volumes) == 0 && g_hash_table_size(sim->exports) == 0 &&
           *sim->vm_id == '\0' && sim->vm.snapshot == NULL;
}
