/* SPDX-License-Identifier: Apache-2.0 */
#include "core/task/verify.h"

static void batch_free(void *data)
{
    DroverVerifyBatch *batch = data;
    g_array_unref(batch->cells);
    g_free(batch->agent_instance);
    g_free(batch);
}

DroverVerify *drover_verify_new(void)
{
    DroverVerify *verify = g_new0(DroverVerify, 1);
    verify->pending = g_array_new(false, false, sizeof(uint64_t));
    verify->batches = g_ptr_array_new_with_free_func(batch_free);
    return verify;
}

void drover_verify_free(DroverVerify *verify)
{
    if (verify == NULL)
        return;
    g_array_unref(verify->pending);
    g_ptr_array_unref(verify->batches);
    g_free(verify);
}

void drover_verify_add(DroverVerify *verify, uint64_t cell, int64_t lease_ms)
{
    if (verify->pending->len == 0)
        verify->pending_since_ms = lease_ms;
    g_array_append_val(verify->pending, cell);
}

static bool contains(const uint64_t *cells, size_t n, uint64_t cell)
{
    for (size_t i = 0; i < n; i++)
        if (cells[i] == cell)
            return true;
    return false;
}

static void drop_settled(DroverVerify *verify, const DroverCells *cells)
{
    guint kept = 0;
    for (guint i = 0; i < verify->pending->len; i++) {
        uint64_t index = g_array_index(verify->pending, uint64_t, i);
        const DroverCell *cell = &cells->cell[index];
        if (cell->checkpointed && !cell->verified && !cell->repairing)
            g_array_index(verify->pending, uint64_t, kept++) = index;
    }
    g_array_set_size(verify->pending, kept);
}

const DroverVerifyBatch *drover_verify_next(DroverVerify *verify, const DroverCells *cells, bool flush,
                                            const DroverLimits *limits, const DroverAt *at,
                                            const char *agent_instance, uint64_t sequence)
{
    if (verify->pending->len == 0 || at->lease_ms < verify->not_before_ms)
        return NULL;
    drop_settled(verify, cells);
    guint n = MIN(verify->pending->len, limits->verify_cells);
    bool due = flush || n >= limits->verify_cells ||
               at->lease_ms - verify->pending_since_ms >= limits->verify_wait_ms;
    if (n == 0 || !due)
        return NULL;
    DroverVerifyBatch *batch = g_new0(DroverVerifyBatch, 1);
    batch->sequence = sequence;
    batch->sent_lease_ms = at->lease_ms;
    batch->agent_instance = g_strdup(agent_instance);
    batch->cells = g_array_new(false, false, sizeof(uint64_t));
    g_array_append_vals(batch->cells, verify->pending->data, n);
    g_array_remove_range(verify->pending, 0, n);
    verify->pending_since_ms = at->lease_ms;
    g_ptr_array_add(verify->batches, batch);
    return batch;
}

static void put_back(DroverVerify *verify, guint index, int64_t lease_ms, const uint64_t *verified,
                     size_t n_verified, const uint64_t *mismatched, size_t n_mismatched)
{
    DroverVerifyBatch *batch = verify->batches->pdata[index];
    for (guint i = 0; i < batch->cells->len; i++) {
        uint64_t cell = g_array_index(batch->cells, uint64_t, i);
        if (!contains(verified, n_verified, cell) && !contains(mismatched, n_mismatched, cell))
            drover_verify_add(verify, cell, lease_ms);
    }
    g_ptr_array_remove_index(verify->batches, index);
}

bool drover_verify_answer(DroverVerify *verify, uint64_t sequence, const uint64_t *verified,
                          size_t n_verified, const uint64_t *mismatched, size_t n_mismatched,
                          int64_t lease_ms)
{
    for (guint i = 0; i < verify->batches->len; i++) {
        const DroverVerifyBatch *batch = verify->batches->pdata[i];
        if (batch->sequence == sequence) {
            put_back(verify, i, lease_ms, verified, n_verified, mismatched, n_mismatched);
            return true;
        }
    }
    return false;
}

unsigned drover_verify_requeue(DroverVerify *verify, const char *agent_instance, const DroverLimits *limits,
                               const DroverAt *at)
{
    unsigned count = 0;
    for (guint i = verify->batches->len; i-- > 0;) {
        const DroverVerifyBatch *batch = verify->batches->pdata[i];
        bool other = agent_instance != NULL && g_strcmp0(batch->agent_instance, agent_instance) != 0;
        if (other || at->lease_ms - batch->sent_lease_ms >= limits->verify_timeout_ms) {
            put_back(verify, i, at->lease_ms, NULL, 0, NULL, 0);
            count++;
        }
    }
    return count;
}
