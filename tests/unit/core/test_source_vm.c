/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs whose disks belong to a VM: order, power, and that nothing stays behind whatever happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/dispatch/admission.h"
#include "core/job/ledger.h"
#include "core/job/source_vm.h"
#include "core/task/task.h"
#include "tests/unit/core/sim.h"

static DroverFault permanent = {DROVER_ERROR_PERMANENT, (char *)"DRV-NO", (char *)"DRV-NO: cannot be"};

static void sync_job(Sim *sim)
{
    DroverInput input = {.kind = DROVER_INPUT_SYNC};
    sim_input(sim, &input);
}

static void expect_released(const Sim *sim, bool off)
{
    assert_null(sim->vm.snapshot);
    assert_null(drover_ledger_find(sim->job, DROVER_LEDGER_SNAPSHOT, ""));
    assert_null(drover_ledger_find(sim->job, DROVER_LEDGER_SOURCE_POWER, ""));
    assert_int_equal(sim->vm.off, off);
}

static void test_rounds(void **state)
{
    (void)state;
    for (unsigned disks = 1; disks <= 3; disks++) {
        Sim *sim = sim_new_vm(disks, false);
        sim_finish(sim);
        for (unsigned round = 0; round < 3; round++) {
            assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
            assert_int_equal(sim->vm.snapshots, round + 1); /* one for all disks */
            expect_released(sim, false);
            sim_finish(sim);
            sync_job(sim);
            sim_finish(sim);
        }
        assert_int_equal(((const DroverDisk *)sim->job->disks->pdata[0])->sync_type, DROVER_SYNC_INCREMENTAL);
        sim_free(sim);
    }
}

static void test_failover_at_once(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(2, true);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(sim->vm_state, "Running");
    assert_int_equal(sim->job->round, 1); /* the first over a running VM, the last over one that is off */
    assert_true(sim->vm.guarded);
    expect_released(sim, true);
    sim_free(sim);
}

static void test_failover_when_told(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(2, false);
    sim_finish(sim);
    assert_false(sim->vm.off);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    sim_finish(sim);
    assert_string_equal(sim->vm_state, "Running");
    assert_true(sim->job->final_round);
    expect_released(sim, true);
    sim_free(sim);
}

static bool asks_whether_it_fits(const Sim *sim)
{
    const DroverOperation *op = sim->inbox->len > 0 ? sim->inbox->pdata[0] : NULL;
    return op != NULL && op->kind == DROVER_OP_PREFLIGHT_TARGET;
}

/* Asked for later, refused by the target: nothing was touched, and it may be asked for again. */
static void test_failover_that_does_not_fit(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(2, false);
    sim_finish(sim);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    for (int i = 0; i < 1000 && !asks_whether_it_fits(sim); i++)
        sim_fair(sim);
    assert_true(asks_whether_it_fits(sim));
    assert_int_equal(sim->vm.snapshots, 1);
    sim_operate(sim, 0, &permanent);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(sim->job->failover_status, "failed");
    assert_string_equal(sim->vm_id, "");
    expect_released(sim, false);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    sim_finish(sim);
    assert_string_equal(sim->job->failover_status, "completed");
    expect_released(sim, true);
    sim_free(sim);
}

static void test_long_rounds_come_before_the_last(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(1, true);
    while (sim->job->round == 0 && sim_fair(sim)) {
        sim->at.now_ms += 60000; /* everything is slow */
        sim->at.lease_ms += 1000;
    }
    assert_int_equal(sim->job->round, 1);
    assert_false(sim->job->final_round);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_true(sim->job->final_round);
    assert_true(sim->job->round >= 2);
    sim_free(sim);
}

/* The comparison is made while the source still serves; the last round after it is short. */
static void test_comparison_before_the_cutover(void **state)
{
    (void)state;
    for (int told = 0; told < 2; told++) {
        Sim *sim = sim_new_vm(1, !told);
        sim->job->deep_verify_before_cutover = true;
        if (told) {
            sim_finish(sim);
            sim_command(sim, DROVER_INPUT_FAILOVER);
        }
        sim_finish(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        assert_string_equal(sim->vm_state, "Running");
        assert_int_equal(sim->job->rounds->len, 3);
        assert_int_equal(g_array_index(sim->job->rounds, DroverRoundSummary, 1).sync_type, DROVER_SYNC_DEEP_VERIFY);
        assert_int_equal(g_array_index(sim->job->rounds, DroverRoundSummary, 2).sync_type, DROVER_SYNC_INCREMENTAL);
        assert_true(sim->job->final_round);
        sim_free(sim);
    }
}

static void test_power_is_left_alone(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(1, true);
    sim->job->source.keep_on = true;
    sim->vm.off = true; /* somebody else did it */
    sim_finish(sim);
    assert_string_equal(sim->vm_state, "Running");
    assert_int_equal(sim->job->round, 0);
    assert_false(sim->vm.guarded);
    sim_free(sim);
}

static DroverTask *run_until(Sim *sim, int action)
{
    for (int i = 0; i < 5000; i++) {
        DroverTask *task = drover_source_task(sim->job);
        if (task != NULL && task->action == action)
            return task;
        if (!sim_fair(sim))
            break;
    }
    fail_msg("no task %s", drover_source_action_name(action));
    return NULL;
}

static void give_up(Sim *sim, DroverTask *task, const DroverFault *fault)
{
    sim_vm_claim(sim, task);
    assert_int_equal(drover_task_failed(task, task->attempt, "w1", fault, &sim->limits, &sim->at), DROVER_TASK_GIVEN_UP);
    DroverInput input = {.kind = DROVER_INPUT_SOURCE_FAILED, .action = task->action, .fault = fault};
    sim_input(sim, &input);
}

/* The guest did not go off, and a person is to decide: nothing is undone. */
static void test_guest_that_stays(void **state)
{
    (void)state;
    DroverFault wait = {DROVER_ERROR_PERMANENT, (char *)"DRV-SOURCE-POWER-WAIT", (char *)"DRV-SOURCE-POWER-WAIT: on"};
    Sim *sim = sim_new_vm(2, true);
    give_up(sim, run_until(sim, DROVER_SOURCE_POWER_OFF), &wait);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(sim->job->failover_status, "failed");
    assert_int_equal(g_hash_table_size(sim->volumes), 2);
    expect_released(sim, false);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    sim_finish(sim);
    assert_string_equal(sim->vm_state, "Running");
    expect_released(sim, true);
    sim_free(sim);
}

static void test_switched_on_again(void **state)
{
    (void)state;
    for (int off_before = 0; off_before < 2; off_before++) {
        Sim *sim = sim_new_vm(2, true);
        sim->vm.off = off_before;
        while (sim->inbox->len == 0 || ((DroverOperation *)sim->inbox->pdata[0])->kind != DROVER_OP_START_VM)
            sim_fair(sim);
        assert_true(sim->vm.guarded);
        sim_operate(sim, 0, &permanent);
        sim_finish(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
        assert_int_equal(g_hash_table_size(sim->volumes), 2); /* the copy is kept */
        assert_string_equal(sim->vm_id, "");
        assert_false(sim->vm.guarded);
        expect_released(sim, off_before);
        sim_free(sim);
    }
}

static void test_snapshot_that_stays(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(1, false);
    give_up(sim, run_until(sim, DROVER_SOURCE_REMOVE_SNAPSHOT), &permanent);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED); /* the copy is good, the ledger says what is left */
    assert_non_null(sim->vm.snapshot);
    assert_non_null(drover_ledger_find(sim->job, DROVER_LEDGER_SNAPSHOT, ""));
    sync_job(sim);
    give_up(sim, run_until(sim, DROVER_SOURCE_REMOVE_SNAPSHOT), &permanent); /* none on top of it */
    sim_command(sim, DROVER_INPUT_TICK);
    assert_string_equal(sim->job->error.code, "DRV-SOURCE-SNAPSHOT-STUCK");
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
    assert_null(sim->vm.snapshot); /* the undoing got it */
    sim_free(sim);
}

static void test_findings_stop_the_job(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(1, false);
    sim->vm.finding = "DRV-SOURCE-CBT-SNAPSHOTS";
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
    assert_string_equal(sim->job->error.code, "DRV-SOURCE-CBT-SNAPSHOTS");
    assert_int_equal(sim->operations, 0);
    assert_int_equal(sim->vm.snapshots, 0);
    sim_free(sim);
}

static void test_a_disk_is_added(void **state)
{
    (void)state;
    for (int from_the_start = 0; from_the_start < 2; from_the_start++) {
        Sim *sim = sim_new_vm(1, false);
        sim->vm.extra_key = from_the_start ? 2009 : 0;
        sim_finish(sim);
        sim->vm.extra_key = 2009;
        sync_job(sim);
        sim_finish(sim);
        if (from_the_start) {
            assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        } else {
            assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
            assert_string_equal(sim->job->error.code, "DRV-SOURCE-DISK-ADDED");
            assert_int_equal(g_hash_table_size(sim->volumes), 1);
        }
        expect_released(sim, false);
        sim_free(sim);
    }
}

/* At every point: cancelled; its worker lost before and after the deed. */
static void test_every_point(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++)
        for (unsigned cut = 0, ended = 0; !ended; cut++) {
            Sim *sim = sim_new_vm(2, true);
            for (unsigned i = 0; i < cut && !ended; i++)
                ended = !sim_fair(sim);
            DroverTask *task = drover_source_task(sim->job);
            if (task != NULL && how != 1)
                sim_vm_run(sim, task, how == 2 ? SIM_VM_ACTED : SIM_VM_LOST);
            else if (task != NULL)
                sim_vm_claim(sim, task);
            if (how < 2 && !ended)
                sim_command(sim, DROVER_INPUT_CANCEL);
            sim_finish(sim);
            if (sim->job->phase == DROVER_PHASE_COMPLETED) {
                assert_string_equal(sim->vm_state, "Running");
                expect_released(sim, true);
            } else {
                assert_int_equal(sim->job->phase, DROVER_PHASE_CANCELLED);
                assert_true(sim_is_clean(sim));
                expect_released(sim, false);
                assert_false(sim->vm.guarded);
            }
            sim_free(sim);
        }
}

static void disturb(Sim *sim, GRand *random)
{
    static const DroverInputKind commands[] = {DROVER_INPUT_CANCEL, DROVER_INPUT_FAILOVER, DROVER_INPUT_CLEANUP,
                                               DROVER_INPUT_PAUSE,  DROVER_INPUT_RESUME,   DROVER_INPUT_SYNC};
    DroverTask *task = drover_source_task(sim->job);
    bool may_run = task != NULL && (task->status == DROVER_TASK_CLAIMED || task->not_before_at_ms <= sim->at.now_ms);
    switch (g_rand_int_range(random, 0, 10)) {
    case 0:
        if (g_rand_int_range(random, 0, 4) == 0)
            sim_command(sim, commands[g_rand_int_range(random, 0, G_N_ELEMENTS(commands))]);
        break;
    case 1:
        if (sim->inbox->len > 0 && g_rand_int_range(random, 0, 8) == 0)
            sim_operate(sim, 0, &permanent);
        break;
    case 2:
        if (may_run)
            sim_vm_run(sim, task, (SimVmOutcome)g_rand_int_range(random, 0, 3));
        break;
    case 3:
        if (may_run)
            sim_vm_claim(sim, task);
        break;
    case 4:
        if (may_run && g_rand_int_range(random, 0, 10) == 0)
            give_up(sim, task, &permanent);
        break;
    case 5: {
        DroverInput input = {.kind = DROVER_INPUT_FAULT, .fault = &permanent};
        if (g_rand_int_range(random, 0, 30) == 0)
            sim_input(sim, &input);
        break;
    }
    case 6:
        sim->at.now_ms += g_rand_int_range(random, 0, 100000);
        if (sim->job->phase > DROVER_PHASE_PREFLIGHT)
            sim->vm.finding = g_rand_int_range(random, 0, 4) == 0 ? "DRV-SOURCE-SPACE" : NULL;
        sim_command(sim, DROVER_INPUT_TICK);
        break;
    default:
        sim_fair(sim);
        break;
    }
}

static void test_random_sequences(void **state)
{
    (void)state;
    for (guint32 seed = 1; seed <= 3000; seed++) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        Sim *sim = sim_new_vm((unsigned)g_rand_int_range(random, 1, 4), g_rand_boolean(random));
        for (int i = g_rand_int_range(random, 0, 200); i > 0; i--)
            disturb(sim, random);
        sim->vm.finding = NULL;
        sim_command(sim, DROVER_INPUT_RESUME);
        sim_finish(sim);
        bool served = g_str_equal(sim->vm_state, "Running") && *sim->vm_id != '\0';
        bool left = drover_ledger_find(sim->job, DROVER_LEDGER_SOURCE_POWER, "") != NULL;
        if (!served && sim->vm.off && !left && !g_str_equal(sim->job->failover_status, "completed"))
            fail_msg("seed %u: neither VM runs, and nothing says so: %s, failover %s, VM \"%s\" %s, power before %s", seed,
                     drover_phase_name(sim->job->phase), sim->job->failover_status, sim->vm_id, sim->vm_state,
                     sim->job->source.power_state);
        sim_command(sim, DROVER_INPUT_CLEANUP);
        sim_finish(sim);
        if (sim->job->ledger->len > 0 || !sim_is_clean(sim))
            fail_msg("seed %u: something is left behind", seed);
        sim_free(sim);
    }
}

/* ---- a snapshot that gets too old */

static DroverTask *next_copy(const DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (task->kind == DROVER_TASK_COPY && task->status == DROVER_TASK_READY)
            return task;
    }
    return NULL;
}

static void run_until_copying(Sim *sim, uint32_t round)
{
    for (int i = 0; i < 1000 && (sim->job->phase != DROVER_PHASE_COPYING || sim->job->round != round); i++)
        sim_fair(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COPYING);
}

static void test_rebase(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(2, false);
    sim->job->range_bytes = 2 * DROVER_CELL_BYTES;
    run_until_copying(sim, 0);
    DroverDisk *disk = sim->job->disks->pdata[0];
    sim->at.now_ms += DROVER_SNAPSHOT_MAX_AGE_MS + 1;
    sim_command(sim, DROVER_INPUT_TICK);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COPYING); /* nothing is copied yet: a younger one would not help */
    sim_run_task(sim, disk, next_copy(disk), false);
    g_autofree char *base = g_strdup(disk->found_change_id);
    assert_int_equal(sim->job->phase, DROVER_PHASE_REPLICATING);
    assert_string_equal(disk->base_change_id, base);
    assert_string_equal(disk->change_id, "");
    run_until_copying(sim, 1);
    assert_string_equal(disk->base_change_id, "");
    assert_null(disk->carried);
    assert_int_equal(disk->sync_type, DROVER_SYNC_INCREMENTAL);
    uint64_t planned = 0;
    for (guint i = 0; i < disk->tasks->len; i++)
        planned += ((const DroverTask *)disk->tasks->pdata[i])->planned_bytes;
    assert_int_equal(planned, disk->capacity_bytes - 2 * DROVER_CELL_BYTES);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_int_equal(sim->vm.snapshots, 2);
    assert_int_equal(sim->job->rounds->len, 2);
    expect_released(sim, false);
    sim_free(sim);
}

/* A disk that is soon done each time does not cut the other one short for ever. */
static void test_rebase_needs_progress(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(2, false);
    sim->job->range_bytes = 2 * DROVER_CELL_BYTES;
    run_until_copying(sim, 0);
    DroverDisk *large = sim->job->disks->pdata[0], *small = sim->job->disks->pdata[1];
    for (DroverTask *task = next_copy(small); task != NULL; task = next_copy(small))
        sim_run_task(sim, small, task, false);
    while (sim->job->operations->len > 0)
        sim_operate(sim, 0, NULL);
    assert_string_not_equal(small->receipt, "");
    sim->at.now_ms += DROVER_SNAPSHOT_MAX_AGE_MS + 1;
    sim_command(sim, DROVER_INPUT_TICK);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COPYING);
    sim_run_task(sim, large, next_copy(large), false);
    assert_int_equal(sim->job->phase, DROVER_PHASE_REPLICATING);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    expect_released(sim, false);
    sim_free(sim);
}

/* The datastore fills while a round holds its snapshot: that goes at once, and none is taken before there is room. */
static void test_rebase_for_room(void **state)
{
    (void)state;
    Sim *sim = sim_new_vm(1, false);
    sim->job->range_bytes = 2 * DROVER_CELL_BYTES;
    run_until_copying(sim, 0);
    DroverDisk *disk = sim->job->disks->pdata[0];
    assert_null(drover_source_task(sim->job));
    for (int i = 0; i < 3; i++) {
        sim->vm.finding = i < 2 ? NULL : "DRV-SOURCE-SPACE";
        sim->at.now_ms += sim->limits.source_look_ms;
        sim_command(sim, DROVER_INPUT_TICK);
        DroverTask *look = drover_source_task(sim->job);
        assert_non_null(look);
        assert_int_equal(look->action, DROVER_SOURCE_LOOK);
        if (i == 1) { /* nobody could look: the copy goes on */
            give_up(sim, look, &permanent);
            assert_int_equal(sim->job->phase, DROVER_PHASE_COPYING);
        } else {
            sim_vm_run(sim, look, SIM_VM_TOLD);
        }
    }
    unsigned looks = 0;
    for (guint i = 0; i < disk->tasks->len; i++)
        looks += ((const DroverTask *)disk->tasks->pdata[i])->action == DROVER_SOURCE_LOOK;
    assert_int_equal(looks, 1);
    assert_int_equal(disk->retired->len, 2);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COPYING); /* nothing is copied yet */
    assert_string_not_equal(sim->job->source.short_of_room, "");
    sim_run_task(sim, disk, next_copy(disk), false);
    assert_int_equal(sim->job->phase, DROVER_PHASE_REPLICATING);
    for (int i = 0; i < 1000; i++)
        sim_fair(sim);
    assert_null(sim->vm.snapshot);
    assert_int_equal(sim->job->phase, DROVER_PHASE_PREPARE);
    assert_int_equal(sim->job->round, 1);
    sim->vm.finding = NULL;
    sim->at.now_ms += sim->limits.source_look_ms;
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_int_equal(sim->job->rounds->len, 2);
    assert_string_equal(sim->job->source.short_of_room, "");
    expect_released(sim, false);
    sim_free(sim);
}

/* ---- admission */

static void test_admission(void **state)
{
    (void)state;
    DroverLimits limits = {.transfers_per_host = 2, .transfers_per_vm_disk = 1};
    g_autoptr(DroverAdmission) admission = drover_admission_new(&limits);
    Sim *sims[3];
    for (int i = 0; i < 3; i++) {
        sims[i] = sim_new_vm(2, false);
        drover_set_string(&sims[i]->job->job_id, i == 0 ? "a" : i == 1 ? "b" : "c");
        drover_set_string(&sims[i]->job->source.host, i < 2 ? "host-1" : "host-2");
    }
    const DroverDisk *first = sims[0]->job->disks->pdata[0], *second = sims[0]->job->disks->pdata[1];
    g_autofree char *free_at_first = drover_admission_refuse(admission, sims[0]->job, first);
    assert_null(free_at_first);
    drover_admission_count(admission, sims[0]->job, first);
    g_autofree char *same_disk = drover_admission_refuse(admission, sims[0]->job, first);
    assert_non_null(strstr(same_disk, "disk0"));
    g_autofree char *other_disk = drover_admission_refuse(admission, sims[0]->job, second);
    assert_null(other_disk);
    drover_admission_count(admission, sims[0]->job, second);
    g_autofree char *same_host = drover_admission_refuse(admission, sims[1]->job, sims[1]->job->disks->pdata[0]);
    assert_non_null(strstr(same_host, "host-1"));
    g_autoptr(GPtrArray) jobs = g_ptr_array_new();
    for (int i = 0; i < 3; i++)
        g_ptr_array_add(jobs, sims[i]->job);
    g_auto(GStrv) full = drover_admission_full_hosts(admission, jobs, sims[0]->job->source.vcenter);
    assert_int_equal(g_strv_length(full), 1);
    assert_string_equal(full[0], "host-1");
    g_auto(GStrv) elsewhere = drover_admission_full_hosts(admission, jobs, "another");
    assert_int_equal(g_strv_length(elsewhere), 0);
    g_autofree char *other_host = drover_admission_refuse(admission, sims[2]->job, sims[2]->job->disks->pdata[0]);
    assert_null(other_host);
    for (int i = 0; i < 3; i++)
        sim_free(sims[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_failover_at_once),
        cmocka_unit_test(test_failover_when_told),
        cmocka_unit_test(test_failover_that_does_not_fit),
        cmocka_unit_test(test_long_rounds_come_before_the_last),
        cmocka_unit_test(test_comparison_before_the_cutover),
        cmocka_unit_test(test_power_is_left_alone),
        cmocka_unit_test(test_guest_that_stays),
        cmocka_unit_test(test_switched_on_again),
        cmocka_unit_test(test_snapshot_that_stays),
        cmocka_unit_test(test_findings_stop_the_job),
        cmocka_unit_test(test_a_disk_is_added),
        cmocka_unit_test(test_every_point),
        cmocka_unit_test(test_random_sequences),
        cmocka_unit_test(test_rebase),
        cmocka_unit_test(test_rebase_needs_progress),
        cmocka_unit_test(test_rebase_for_room),
        cmocka_unit_test(test_admission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
