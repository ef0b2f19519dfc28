/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/bits.h"
#include "core/task/cells.h"
#include "core/job/receipt.h"
#include "core/task/task.h"
#include "core/task/verify.h"

static DroverJob *job_with_disk(DroverDisk **disk, DroverTask **task, uint64_t cells)
{
    DroverJob *job = drover_job_new("j");
    *disk = drover_job_add_disk(job, "d");
    (*disk)->capacity_bytes = cells * DROVER_CELL_BYTES - 100;
    (*disk)->generation = 2;
    (*disk)->cells = drover_cells_new((*disk)->capacity_bytes);
    (*disk)->verify = drover_verify_new();
    *task = drover_disk_add_task(*disk, "t", DROVER_TASK_COPY);
    (*task)->range = (DroverRange){0, (*disk)->capacity_bytes};
    return job;
}

static DroverCellDone done(uint64_t cell, uint8_t mark)
{
    DroverCellDone one = {.cell = cell, .root.len = 16, .data_bytes = 10, .skipped_bytes = 1};
    one.root.bytes[3] = mark;
    return one;
}

static DroverCheckpointFate fold(DroverDisk *disk, const char *task, uint64_t generation, DroverCellDone cell,
                                 GArray *fresh)
{
    uint64_t changed = 0;
    DroverCheckpoint checkpoint = {
        .task_id = task, .generation = generation, .key = "k", .cells = &cell, .n_cells = 1};
    return drover_cells_checkpoint(disk, &checkpoint, fresh, &changed);
}

static void test_fold(void **state)
{
    (void)state;
    DroverDisk *disk;
    DroverTask *task;
    g_autoptr(DroverJob) job = job_with_disk(&disk, &task, 10);
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    assert_int_equal(fold(disk, "t", 2, done(3, 1), fresh), DROVER_CHECKPOINT_FOLDED);
    assert_int_equal(fold(disk, "t", 2, done(3, 1), fresh), DROVER_CHECKPOINT_FOLDED); /* a late attempt */
    assert_int_equal(fold(disk, "t", 1, done(4, 1), fresh),
                     DROVER_CHECKPOINT_FOLDED); /* an older generation */
    assert_int_equal(fold(disk, "t", 2, done(10, 1), fresh), DROVER_CHECKPOINT_FOLDED); /* past the end */
    assert_int_equal(fresh->len, 1);
    assert_int_equal(drover_cells_count_done(disk->cells, &task->range), 1);
    assert_int_equal(fold(disk, "t", 2, done(3, 9), fresh), DROVER_CHECKPOINT_CHANGED);
    assert_int_equal(fold(disk, "unknown", 2, done(3, 1), fresh), DROVER_CHECKPOINT_OBSOLETE);
    assert_int_equal(task->checkpoint_keys->len, 5);
    task->status = DROVER_TASK_DONE;
    assert_int_equal(fold(disk, "t", 2, done(5, 1), fresh), DROVER_CHECKPOINT_OBSOLETE);
}

static void test_order_does_not_matter(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(3);
    GByteArray *expected = NULL;
    for (int round = 0; round < 50; round++) {
        DroverDisk *disk;
        DroverTask *task;
        g_autoptr(DroverJob) job = job_with_disk(&disk, &task, 20);
        g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
        uint64_t order[20];
        for (uint64_t i = 0; i < 20; i++)
            order[i] = i;
        for (int i = 19; i > 0; i--) {
            int k = g_rand_int_range(random, 0, i + 1);
            uint64_t swap = order[i];
            order[i] = order[k];
            order[k] = swap;
        }
        for (int i = 0; i < 20; i++)
            for (int again = g_rand_int_range(random, 1, 3); again > 0; again--)
                if (order[i] % 3 != 0)
                    fold(disk, "t", 2, done(order[i], (uint8_t)order[i]), fresh);
        DroverCounts counts;
        GByteArray *bits = drover_cells_done_bits(disk->cells, &task->range, &counts);
        assert_int_equal(counts.data, 13 * 10);
        assert_int_equal(counts.skipped, 13);
        if (expected == NULL) {
            expected = bits;
        } else {
            assert_memory_equal(bits->data, expected->data, expected->len);
            g_byte_array_unref(bits);
        }
    }
    g_byte_array_unref(expected);
}

static void test_repair(void **state)
{
    (void)state;
    DroverDisk *disk;
    DroverTask *task;
    g_autoptr(DroverJob) job = job_with_disk(&disk, &task, 10);
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    DroverTask *repair = drover_disk_add_task(disk, "r", DROVER_TASK_REPAIR);
    repair->range = (DroverRange){2 * DROVER_CELL_BYTES, DROVER_CELL_BYTES};
    fold(disk, "t", 2, done(2, 7), fresh);
    disk->cells->cell[2].checkpointed = false;
    disk->cells->cell[2].repairing = true;
    fold(disk, "t", 2, done(2, 7), fresh); /* read again by a new leader: says nothing */
    assert_true(disk->cells->cell[2].repairing);
    assert_int_equal(fresh->len, 1);
    assert_int_equal(drover_cells_count_done(disk->cells, &task->range),
                     1); /* the copy need not do it again */
    fold(disk, "r", 2, done(2, 7), fresh);
    assert_false(disk->cells->cell[2].repairing);
    assert_int_equal(fresh->len, 2);
    assert_int_equal(fold(disk, "r", 2, done(2, 8), fresh), DROVER_CHECKPOINT_CHANGED);
}

static void test_void(void **state)
{
    (void)state;
    DroverDisk *disk;
    DroverTask *task;
    g_autoptr(DroverJob) job = job_with_disk(&disk, &task, 4);
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    fold(disk, "t", 2, done(0, 1), fresh);
    fold(disk, "t", 2, done(1, 2), fresh);
    disk->cells->cell[0].verified = true;
    drover_cells_void_unverified(disk->cells);
    assert_int_equal(drover_cells_count_done(disk->cells, &task->range), 1);
    assert_int_equal(drover_cells_count_verified(disk->cells, &task->range), 1);
    disk->generation = 3;
    fold(disk, "t", 3, done(1, 2), fresh);
    assert_int_equal(fresh->len, 3);
    assert_int_equal(disk->cells->cell[1].data_bytes, 10);
    assert_int_equal(fold(disk, "t", 3, done(1, 5), fresh), DROVER_CHECKPOINT_CHANGED);
}

static void test_verify(void **state)
{
    (void)state;
    DroverLimits limits = DROVER_LIMITS_DEFAULT;
    limits.verify_cells = 4;
    DroverAt at = {.lease_ms = 1000};
    DroverCells *cells = drover_cells_new(20 * DROVER_CELL_BYTES);
    DroverVerify *verify = drover_verify_new();
    for (uint64_t i = 0; i < 6; i++) {
        cells->cell[i].checkpointed = true;
        drover_verify_add(verify, i, at.lease_ms);
    }
    const DroverVerifyBatch *first = drover_verify_next(verify, cells, false, &limits, &at, "a1", 1);
    assert_int_equal(first->cells->len, 4);
    assert_null(drover_verify_next(verify, cells, false, &limits, &at, "a1", 2)); /* not worth it yet */
    at.lease_ms += 500;
    assert_int_equal(drover_verify_next(verify, cells, false, &limits, &at, "a1", 3)->cells->len, 2);
    /* An answer to half of a batch: the other half is asked again. */
    uint64_t equal[] = {0, 1}, differing[] = {2};
    assert_false(drover_verify_answer(verify, 77, equal, 2, differing, 1, at.lease_ms));
    assert_true(drover_verify_answer(verify, 1, equal, 2, differing, 1, at.lease_ms));
    assert_false(drover_verify_answer(verify, 1, equal, 2, differing, 1, at.lease_ms));
    assert_int_equal(verify->pending->len, 1);
    assert_int_equal(g_array_index(verify->pending, uint64_t, 0), 3);
    /* Another life of the agent: everything outstanding again. */
    assert_int_equal(drover_verify_requeue(verify, "a1", &limits, &at), 0);
    assert_int_equal(drover_verify_requeue(verify, "a2", &limits, &at), 1);
    cells->cell[5].verified = true; /* settled otherwise */
    const DroverVerifyBatch *again = drover_verify_next(verify, cells, true, &limits, &at, "a2", 4);
    assert_int_equal(again->cells->len, 2);
    at.lease_ms += limits.verify_timeout_ms;
    assert_int_equal(drover_verify_requeue(verify, "a2", &limits, &at), 1);
    drover_verify_free(verify);
    drover_cells_free(cells);
}

/* Fixed values: a receipt must be checkable with sha256sum, by anyone, years later. */
static void test_receipt(void **state)
{
    (void)state;
    g_autofree char *receipt = drover_receipt("", "aa", "bb", "52 de c0");
    g_autofree char *expected =
        g_compute_checksum_for_string(G_CHECKSUM_SHA256, "drover-receipt-1\n\naa\nbb\n52 de c0\n", -1);
    assert_string_equal(receipt, expected);
    DroverRange range = {0, 512};
    g_autofree char *hash = drover_range_hash(&range, 1);
    g_autofree char *none = drover_range_hash(NULL, 0);
    assert_string_equal(none, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_not_equal(hash, none);
    DroverCells *cells = drover_cells_new(2 * DROVER_CELL_BYTES);
    cells->cell[0].root.len = cells->cell[1].root.len = 16;
    g_autofree char *before = drover_round_digest(cells);
    cells->cell[1].root.bytes[0] ^= 1;
    g_autofree char *after = drover_round_digest(cells);
    assert_string_not_equal(before, after);
    drover_cells_free(cells);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold),   cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_repair), cmocka_unit_test(test_void),
        cmocka_unit_test(test_verify), cmocka_unit_test(test_receipt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
