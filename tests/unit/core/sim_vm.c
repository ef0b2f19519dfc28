/* SPDX-License-Identifier: Apache-2.0 */
/* The source VM, and a worker that does with it what tasks say: it observes first, so a repetition changes nothing. */
#include "tests/unit/core/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/job/ledger.h"
#include "core/job/source_vm.h"
#include "core/task/task.h"

static const DroverFault lost = {DROVER_ERROR_RETRYABLE, (char *)"DRV-WORKER-LOST", (char *)"DRV-WORKER-LOST: lost"};

void sim_vm_check_inspection(Sim *sim)
{
    g_autofree char *name = drover_source_snapshot_name(sim->job);
    if (g_strcmp0(sim->vm.snapshot, name) != 0)
        sim_problem(sim, "inspecting without snapshot %s", name);
    if (sim->job->final_round && (!sim->vm.off || sim->vm.frozen != sim->vm.changes))
        sim_problem(sim, "the last round reads a VM that was not off");
}

static void take_snapshot(Sim *sim)
{
    SimVm *vm = &sim->vm;
    const DroverLedgerEntry *entry = drover_ledger_find(sim->job, DROVER_LEDGER_SNAPSHOT, "");
    if (entry == NULL) {
        sim_problem(sim, "a snapshot that no ledger knows");
        return;
    }
    if (g_strcmp0(vm->snapshot, entry->operation_id) == 0)
        return;
    if (vm->snapshot != NULL)
        sim_problem(sim, "snapshot %s on top of %s", entry->operation_id, vm->snapshot);
    g_free(vm->snapshot);
    vm->snapshot = g_strdup(entry->operation_id);
    vm->frozen = vm->changes;
    vm->snapshots++;
}

static void remove_snapshot(Sim *sim)
{
    SimVm *vm = &sim->vm;
    const DroverLedgerEntry *entry = drover_ledger_find(sim->job, DROVER_LEDGER_SNAPSHOT, "");
    if (entry == NULL || g_strcmp0(vm->snapshot, entry->operation_id) != 0)
        return;
    bool final = !drover_phase_is_undoing(sim->job->phase) && sim->job->phase != DROVER_PHASE_PREPARE;
    for (guint i = 0; final && i < sim->job->disks->len; i++) {
        const DroverDisk *disk = sim->job->disks->pdata[i];
        g_autofree char *change_id = g_strdup_printf("%u", vm->frozen);
        if (!g_str_equal(disk->change_id, change_id) && !g_str_equal(disk->base_change_id, change_id))
            sim_problem(sim, "snapshot %s goes before change id %s is on record", vm->snapshot, change_id);
    }
    g_clear_pointer(&vm->snapshot, g_free);
}

static void act(Sim *sim, const DroverTask *task)
{
    SimVm *vm = &sim->vm;
    switch ((DroverSourceAction)task->action) {
    case DROVER_SOURCE_PREFLIGHT:
    case DROVER_SOURCE_LOOK:
        break;
    case DROVER_SOURCE_SNAPSHOT:
        take_snapshot(sim);
        break;
    case DROVER_SOURCE_REMOVE_SNAPSHOT:
        remove_snapshot(sim);
        break;
    case DROVER_SOURCE_POWER_OFF:
        vm->off = vm->guarded = true;
        break;
    case DROVER_SOURCE_POWER_ON:
        if (g_str_equal(sim->vm_state, "Running") && *sim->vm_id != '\0')
            sim_problem(sim, "the source VM starts while the target VM runs");
        vm->off = drover_source_was_off(sim->job);
        vm->guarded = false;
        break;
    }
    if (!vm->off)
        vm->changes++; /* the guest goes on writing */
}

static void report(Sim *sim, const DroverTask *task)
{
    DroverSourceDisk disks[8];
    size_t n = 0;
    for (; n < sim->job->disks->len; n++)
        disks[n] = (DroverSourceDisk){2000 + (int32_t)n, 5 * 128 * (UINT64_C(1) << 20) + 512, "datastore-1"};
    DroverSourceFinding finding = {"error", sim->vm.finding, sim->vm.finding, 0};
    bool judges = task->action == DROVER_SOURCE_PREFLIGHT || task->action == DROVER_SOURCE_LOOK;
    bool looks = judges || task->action == DROVER_SOURCE_SNAPSHOT;
    DroverSourceReport told = {
        .findings = &finding,
        .n_findings = judges && sim->vm.finding != NULL,
        .disks = disks,
        .n_disks = looks ? n : 0,
        .other_keys = &sim->vm.extra_key,
        .n_other_keys = looks && sim->vm.extra_key != 0,
        .snapshot_moref = task->action == DROVER_SOURCE_SNAPSHOT ? "snapshot-1" : "",
        .power_state = sim->vm.off ? "poweredOff" : "poweredOn",
        .host = "host-9",
        .firmware = "efi",
        .guest_id = "debian12_64Guest",
        .snapshot_at_ms = sim->at.now_ms,
    };
    DroverInput input = {.kind = DROVER_INPUT_SOURCE_DONE, .action = task->action, .source = &told};
    sim_input(sim, &input);
}

void sim_vm_claim(Sim *sim, DroverTask *task)
{
    if (task->status == DROVER_TASK_READY)
        drover_task_assign(task, "worker-1", 0, &sim->at);
    if (task->status == DROVER_TASK_ASSIGNED)
        assert_int_equal(drover_task_claimed(task, task->attempt, "worker-1", "w1", &sim->at), DROVER_TASK_ACCEPTED);
}

void sim_vm_run(Sim *sim, DroverTask *task, SimVmOutcome outcome)
{
    sim_vm_claim(sim, task);
    if (outcome != SIM_VM_LOST)
        act(sim, task);
    if (outcome == SIM_VM_TOLD) {
        assert_int_equal(drover_task_finished(task, task->attempt, "w1", &sim->at), DROVER_TASK_ACCEPTED);
        report(sim, task);
        return;
    }
    if (drover_task_failed(task, task->attempt, "w1", &lost, &sim->limits, &sim->at) == DROVER_TASK_GIVEN_UP) {
        DroverInput input = {.kind = DROVER_INPUT_SOURCE_FAILED, .action = task->action, .fault = &lost};
        sim_input(sim, &input);
    } else {
        sim_command(sim, DROVER_INPUT_TICK);
    }
}

bool sim_vm_release(Sim *sim)
{
    DroverTask *task = sim->vm.present ? drover_source_task(sim->job) : NULL;
    if (task == NULL || task->status != DROVER_TASK_CLAIMED)
        return false;
    if (drover_phase_is_undoing(sim->job->phase) && !drover_source_action_undoes(task->action)) {
        assert_int_equal(drover_task_released(task, task->attempt, "w1", &sim->at), DROVER_TASK_AGAIN);
        sim_command(sim, DROVER_INPUT_TICK);
    } else {
        sim_vm_run(sim, task, SIM_VM_TOLD);
    }
    return true;
}
