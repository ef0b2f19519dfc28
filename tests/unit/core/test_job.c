/* SPDX-License-Identifier: Apache-2.0 */
/* The job machine: every point of its life, every input, long random sequences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/task/task.h"
#include "tests/unit/core/sim.h"

static DroverFault retryable = {DROVER_ERROR_RETRYABLE, (char *)"DRV-BUSY", (char *)"DRV-BUSY: busy"};
static DroverFault permanent = {DROVER_ERROR_PERMANENT, (char *)"DRV-NO", (char *)"DRV-NO: cannot be"};

static void test_completes(void **state)
{
    (void)state;
    for (unsigned disks = 1; disks <= 5; disks++)
        for (int failover = 0; failover < 2; failover++) {
            Sim *sim = sim_new(disks, failover);
            sim_finish(sim);
            assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
            assert_int_equal(g_hash_table_size(sim->volumes), disks);
            assert_int_equal(g_hash_table_size(sim->exports), 0);
            assert_string_equal(sim->vm_state, failover ? "Running" : "");
            assert_int_equal(sim->job->setup_percent, 100);
            for (guint i = 0; i < disks; i++) {
                const DroverDisk *disk = sim->job->disks->pdata[i];
                assert_int_equal(strlen(disk->receipt), 64);
                assert_string_equal(g_hash_table_lookup(sim->volumes, disk->volume_id), sim->vm_id);
                assert_int_equal(disk->sync_status, DROVER_SYNC_COMPLETED);
            }
            sim_free(sim);
        }
}

static unsigned steps_to_complete(unsigned disks, bool failover)
{
    unsigned steps = 0;
    Sim *sim = sim_new(disks, failover);
    while (sim_fair(sim))
        steps++;
    sim_free(sim);
    return steps;
}

static void test_cancel_at_every_point(void **state)
{
    (void)state;
    for (int failover = 0; failover < 2; failover++)
        for (unsigned cut = 0, all = steps_to_complete(2, failover); cut < all; cut++) {
            Sim *sim = sim_new(2, failover);
            for (unsigned i = 0; i < cut; i++)
                sim_fair(sim);
            sim_command(sim, DROVER_INPUT_CANCEL);
            sim_finish(sim);
            assert_int_equal(sim->job->phase, DROVER_PHASE_CANCELLED);
            assert_int_equal(sim->job->ledger->len, 0);
            assert_true(sim_is_clean(sim));
            sim_free(sim);
        }
}

static bool has_all_receipts(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (*((const DroverDisk *)job->disks->pdata[i])->receipt == '\0')
            return false;
    return true;
}

static void test_every_operation_fails_once(void **state)
{
    (void)state;
    for (unsigned which = 0;; which++) {
        Sim *sim = sim_new(2, true);
        bool failed = false, kept = false;
        while (!failed && sim_fair(sim))
            if (sim->operations == which && sim->inbox->len > 0) {
                kept = has_all_receipts(sim->job);
                sim_operate(sim, 0, &permanent);
                failed = true;
            }
        if (!failed) {
            sim_free(sim);
            assert_true(which > 10);
            return;
        }
        sim_finish(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
        assert_string_equal(sim->job->error.code, "DRV-NO");
        if (kept) { /* a failed hand-over does not cost the finished copy */
            assert_int_equal(g_hash_table_size(sim->volumes), 2);
            assert_int_equal(sim->job->ledger->len, 2);
            sim_command(sim, DROVER_INPUT_FAILOVER);
            sim_finish(sim);
            assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
            assert_string_equal(sim->vm_state, "Running");
            sim_command(sim, DROVER_INPUT_CLEANUP);
            sim_finish(sim);
        }
        assert_true(sim_is_clean(sim));
        assert_int_equal(sim->job->ledger->len, 0);
        sim_free(sim);
    }
}

static void test_retryable_failures_are_repeated(void **state)
{
    (void)state;
    Sim *sim = sim_new(1, true);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (bool more = true; more;) {
        if (sim->inbox->len > 0) {
            const DroverOperation *op = sim->inbox->pdata[0];
            if (g_hash_table_add(seen, g_strdup(drover_op_name(op->kind)))) {
                sim_operate(sim, 0, &retryable);
                continue;
            }
        }
        more = sim_fair(sim);
    }
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_int_equal(g_hash_table_size(sim->volumes), 1); /* the repetition named the same volume */
    sim_free(sim);
}

static void test_too_many_failures(void **state)
{
    (void)state;
    Sim *sim = sim_new(1, false);
    for (unsigned i = 0; i < 1000 && !drover_phase_is_ended(sim->job->phase); i++) {
        const DroverOperation *op = sim->inbox->len > 0 ? sim->inbox->pdata[0] : NULL;
        if (op != NULL && op->kind == DROVER_OP_ATTACH_VOLUME)
            sim_operate(sim, 0, &retryable);
        else
            sim_fair(sim);
    }
    assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
    assert_string_equal(sim->job->error.code, "DRV-BUSY");
    assert_true(sim_is_clean(sim));
    sim_free(sim);
}

static void test_undo_that_fails_leaves_a_ledger(void **state)
{
    (void)state;
    Sim *sim = sim_new(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    sim_command(sim, DROVER_INPUT_CANCEL);
    for (unsigned i = 0; i < 1000 && !drover_phase_is_ended(sim->job->phase); i++) {
        const DroverOperation *op = sim->inbox->len > 0 ? sim->inbox->pdata[0] : NULL;
        if (op != NULL && op->kind == DROVER_OP_DELETE_VOLUME)
            sim_operate(sim, 0, &permanent);
        else
            sim_fair(sim);
    }
    assert_int_equal(sim->job->phase, DROVER_PHASE_CANCELLED);
    assert_int_equal(sim->job->ledger->len, 1);
    sim_command(sim, DROVER_INPUT_CLEANUP);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_CANCELLED);
    assert_true(sim_is_clean(sim));
    sim_free(sim);
}

static void test_failover_after_parking(void **state)
{
    (void)state;
    Sim *sim = sim_new(3, false);
    sim_finish(sim);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    sim_finish(sim);
    assert_string_equal(sim->job->failover_status, "completed");
    assert_string_equal(sim->vm_state, "Running");
    unsigned before = sim->operations;
    sim_command(sim, DROVER_INPUT_FAILOVER); /* once is enough */
    sim_finish(sim);
    assert_int_equal(sim->operations, before);
    sim_free(sim);
}

static void test_failover_that_does_not_fit(void **state)
{
    (void)state;
    Sim *sim = sim_new(2, false);
    sim_finish(sim);
    sim_command(sim, DROVER_INPUT_FAILOVER);
    assert_int_equal(sim->inbox->len, 1);
    sim_operate(sim, 0, &permanent);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(sim->job->failover_status, "failed");
    assert_string_equal(sim->vm_id, "");
    sim_command(sim, DROVER_INPUT_FAILOVER);
    sim_finish(sim);
    assert_string_equal(sim->vm_state, "Running");
    sim_free(sim);
}

static void test_target_too_small(void **state)
{
    (void)state;
    Sim *sim = sim_new(2, true);
    ((DroverDisk *)sim->job->disks->pdata[1])->wanted_size_bytes = 1 << 20;
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
    assert_string_equal(sim->job->error.code, "DRV-TARGET-TOO-SMALL");
    assert_int_equal(sim->operations, 0);
    sim_free(sim);
}

static void test_repairs_are_bounded(void **state)
{
    (void)state;
    Sim *sim = sim_new(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    DroverDisk *disk = sim->job->disks->pdata[0];
    for (unsigned i = 0; i < 20 && sim->job->phase == DROVER_PHASE_COPYING; i++)
        for (guint t = disk->tasks->len; t-- > 0;)
            if (((DroverTask *)disk->tasks->pdata[t])->status == DROVER_TASK_READY) {
                sim_run_task(sim, disk, disk->tasks->pdata[t], true);
                break;
            }
    assert_string_equal(sim->job->error.code, "DRV-TARGET-CORRUPT");
    sim_finish(sim);
    assert_true(sim_is_clean(sim));
    sim_free(sim);
}

static void test_poisoned_generation(void **state)
{
    (void)state;
    Sim *sim = sim_new(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    sim_fair(sim); /* one task is read back */
    DroverDisk *disk = sim->job->disks->pdata[0];
    DroverCell *last = &disk->cells->cell[disk->cells->n - 1];
    last->checkpointed = true; /* written, not read back */
    DroverInput input = {.kind = DROVER_INPUT_POISONED, .disk_id = disk->disk_id, .fault = &retryable};
    sim_input(sim, &input);
    assert_false(last->checkpointed);
    assert_true(disk->cells->cell[0].verified);
    assert_int_equal(disk->generation, 2);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    sim_free(sim);
}

/* Any input at any time: the state stays legal, and afterwards the job still comes to an end. */
static void disturb(Sim *sim, GRand *random)
{
    static const DroverInputKind commands[] = {
        DROVER_INPUT_CANCEL, DROVER_INPUT_FAILOVER, DROVER_INPUT_CLEANUP, DROVER_INPUT_PAUSE,
        DROVER_INPUT_RESUME, DROVER_INPUT_SYNC,     DROVER_INPUT_TICK};
    g_autofree char *disk_id = g_strdup_printf("disk%d", g_rand_int_range(random, 0, 4));
    switch (g_rand_int_range(random, 0, 12)) {
    case 0:
        if (g_rand_int_range(random, 0, 6) == 0)
            sim_command(sim, commands[g_rand_int_range(random, 0, G_N_ELEMENTS(commands))]);
        break;
    case 1:
        if (sim->inbox->len > 0 && g_rand_int_range(random, 0, 6) == 0)
            sim_operate(sim, (guint)g_rand_int_range(random, 0, (gint32)sim->inbox->len), &permanent);
        break;
    case 2:
    case 3:
        if (sim->inbox->len > 0)
            sim_operate(sim, (guint)g_rand_int_range(random, 0, (gint32)sim->inbox->len),
                        g_rand_boolean(random) ? &retryable : NULL);
        break;
    case 4: { /* a result of something that nobody waits for */
        DroverOperationResult result = {.volume_id = "v", .vm_id = "w", .generation = 1};
        DroverInput input = {
            .kind = DROVER_INPUT_OPERATION_DONE, .operation_id = "job-1/-/r0/start-vm/1", .result = &result};
        if (g_hash_table_contains(sim->executed, input.operation_id) || sim->inbox->len == 0)
            sim_input(sim, &input);
        break;
    }
    case 5: {
        DroverInput input = {.kind = DROVER_INPUT_AGENT, .text = "appliance-1"};
        sim_input(sim, &input);
        break;
    }
    case 6: {
        DroverInput input = {.kind = DROVER_INPUT_POISONED, .disk_id = disk_id, .fault = &retryable};
        if (g_rand_int_range(random, 0, 4) == 0)
            sim_input(sim, &input);
        break;
    }
    case 7: {
        DroverInput input = {.kind = DROVER_INPUT_FAULT, .fault = &permanent};
        if (g_rand_int_range(random, 0, 40) == 0)
            sim_input(sim, &input);
        break;
    }
    case 8:
        sim->at.now_ms += g_rand_int_range(random, 0, 100000);
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
    for (guint32 seed = 1; seed <= 1500; seed++) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        Sim *sim = sim_new((unsigned)g_rand_int_range(random, 1, 4), g_rand_boolean(random));
        for (int i = g_rand_int_range(random, 0, 150); i > 0; i--)
            disturb(sim, random);
        sim_command(sim, DROVER_INPUT_RESUME);
        sim_finish(sim);
        sim_command(sim, DROVER_INPUT_CLEANUP);
        sim_finish(sim);
        if (sim->job->ledger->len > 0 || !sim_is_clean(sim))
            fail_msg("seed %u: something is left behind", seed);
        sim_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completes),
        cmocka_unit_test(test_cancel_at_every_point),
        cmocka_unit_test(test_every_operation_fails_once),
        cmocka_unit_test(test_retryable_failures_are_repeated),
        cmocka_unit_test(test_too_many_failures),
        cmocka_unit_test(test_undo_that_fails_leaves_a_ledger),
        cmocka_unit_test(test_failover_after_parking),
        cmocka_unit_test(test_failover_that_does_not_fit),
        cmocka_unit_test(test_target_too_small),
        cmocka_unit_test(test_repairs_are_bounded),
        cmocka_unit_test(test_poisoned_generation),
        cmocka_unit_test(test_random_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
