/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <string.h>

#include "drover/v1/task.pb-c.h"
#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/agent.h"

#define POLL_MS 200
#define BATCH_RECORDS 200
#define BATCH_WAIT_MS 5
#define FLUSH_MS 30000

/* What came in one go, accepted in one transaction. */
typedef struct {
    GPtrArray *operations; /* DroverOperation, not owned */
    GPtrArray *requests;   /* DroverVerifyRequest, not owned */
    int64_t next_offset;
    bool poison; /* some went to the dead letters */
} Batch;

static DroverVerifyRequest *verify_request(const Drover__V1__Task *task)
{
    const Drover__V1__VerifyTask *asked = task->verify;
    g_autoptr(DroverVerifyRequest) request = drover_verify_request_new();
    request->job_id = g_strdup(task->job_id);
    request->disk_id = g_strdup(task->disk_id);
    request->task_id = g_strdup(task->task_id);
    request->attempt = task->attempt;
    request->round = task->round;
    request->volume_id = g_strdup(asked->volume_id);
    request->generation = asked->generation;
    request->sequence = asked->sequence;
    request->digest = (DroverDigestAlgorithm)asked->digest;
    request->capacity_bytes = asked->capacity_bytes;
    size_t len = drover_digest_len(request->digest);
    for (size_t i = 0; i < asked->n_cells; i++) {
        const Drover__V1__CellDigest *from = asked->cells[i];
        if (from->digest.len != len || len == 0)
            return NULL;
        DroverVerifyCell cell = {.cell = from->cell};
        cell.expected.len = (uint8_t)len;
        memcpy(cell.expected.bytes, from->digest.data, len);
        if (from->n_ranges > 0)
            cell.ranges = g_array_new(FALSE, FALSE, sizeof(DroverRange));
        for (size_t r = 0; r < from->n_ranges; r++) {
            DroverRange range = {from->ranges[r]->offset, from->ranges[r]->length};
            g_array_append_val(cell.ranges, range);
        }
        g_array_append_val(request->cells, cell);
    }
    return g_steal_pointer(&request);
}

static bool is_known(const DroverAgent *agent, const Batch *batch, const char *operation_id)
{
    for (guint i = 0; i < batch->operations->len; i++)
        if (strcmp(((DroverOperation *)g_ptr_array_index(batch->operations, i))->asked->operation_id, operation_id) == 0)
            return true;
    return drover_executor_knows(agent->executor, operation_id);
}

/* Takes one record into BATCH; NULL, or why it cannot be used. */
static const char *take(DroverAgent *agent, Batch *batch, const DroverRecord *record)
{
    Drover__V1__Task *task = record->value ? drover__v1__task__unpack(NULL, record->len, record->value) : NULL;
    if (!task)
        return "not a drover.v1.Task";
    const char *problem = NULL;
    if (task->body_case == DROVER__V1__TASK__BODY_OPERATION) {
        if (!*task->operation->operation_id || !drover_id_is_valid(task->operation->job_id)) {
            problem = "an operation without a valid operation_id and job_id";
        } else if (!is_known(agent, batch, task->operation->operation_id)) {
            DroverOperation *operation = drover_operation_new(g_steal_pointer(&task->operation));
            task->body_case = DROVER__V1__TASK__BODY__NOT_SET;
            operation->sequence = drover_executor_next_sequence(agent->executor);
            operation->accepted_at_ms = operation->updated_at_ms = drover_now_ms();
            g_ptr_array_add(batch->operations, operation);
        }
    } else if (task->body_case == DROVER__V1__TASK__BODY_VERIFY) {
        DroverVerifyRequest *request = verify_request(task);
        if (request)
            g_ptr_array_add(batch->requests, request);
        else
            problem = "a read-back request whose digests do not fit its algorithm";
    } else {
        problem = "a task of a kind that volume agents do not know";
    }
    drover__v1__task__free_unpacked(task, NULL);
    return problem;
}

/* Accepted means journalled: the offset moves in the same transaction. */
static bool accept(DroverAgent *agent, Batch *batch)
{
    size_t n = batch->operations->len + 1;
    g_autofree DroverJournalEntry *entries = g_new0(DroverJournalEntry, n);
    for (guint i = 0; i < batch->operations->len; i++) {
        const DroverOperation *operation = g_ptr_array_index(batch->operations, i);
        entries[i].key = g_strconcat("op/", operation->asked->operation_id, NULL);
        entries[i].value = drover_operation_pack(operation, agent->name, agent->instance_id);
    }
    entries[n - 1].key = g_strdup("offset");
    entries[n - 1].value = drover_offset_pack(batch->next_offset);
    if (!drover_journal_write(agent->context.journal, entries, n))
        return false;
    for (guint i = 0; i < batch->operations->len; i++) {
        DroverOperation *operation = g_ptr_array_index(batch->operations, i);
        drover_info("operation.accepted", "Accepted an operation", F_S("operation_id", operation->asked->operation_id),
                    F_S("job_id", operation->asked->job_id), F_S("kind", drover_operation_kind(operation)));
        drover_executor_add(agent->executor, operation);
    }
    for (guint i = 0; i < batch->requests->len; i++)
        drover_verifier_submit(agent->verifier, g_ptr_array_index(batch->requests, i));
    return true;
}

static void note_progress(DroverAgent *agent, const DroverConsumer *consumer)
{
    atomic_store(&agent->intake.lag, drover_consumer_lag(consumer));
    if (drover_consumer_at_end(consumer))
        atomic_store(&agent->intake.current_at_ms, drover_boottime_ms());
}

/* Reads what is there, at most a batch. False: cannot go on. */
static bool read_batch(DroverAgent *agent, DroverConsumer *consumer, Batch *batch, GError **error)
{
    for (int n = 0; n < BATCH_RECORDS; n++) {
        g_autoptr(GError) why = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(consumer, n == 0 ? POLL_MS : BATCH_WAIT_MS, &why);
        if (why && drover_error_class(why) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (why)
            atomic_store(&agent->intake.error_at_ms, drover_boottime_ms());
        if (!record)
            return true;
        const char *problem = take(agent, batch, record);
        if (problem && !drover_dlq_send(agent->producer, record, agent->name, problem, error))
            return false;
        batch->poison = batch->poison || problem;
        batch->next_offset = record->offset + 1;
    }
    return true;
}

bool drover_agent_intake(DroverAgent *agent, int64_t next_offset, GError **error)
{
    g_autofree char *topic = g_strconcat("drover.tasks.", agent->name, NULL);
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(agent->kafka, error);
    if (!consumer ||
        !drover_consumer_assign_topic(consumer, topic, next_offset >= 0 ? next_offset : DROVER_OFFSET_BEGINNING, 30000, error))
        return false;
    while (!drover_drain_requested()) {
        g_autoptr(GPtrArray) operations = g_ptr_array_new();
        g_autoptr(GPtrArray) requests = g_ptr_array_new();
        Batch batch = {operations, requests, -1, false};
        if (!read_batch(agent, consumer, &batch, error))
            return false;
        /* The offset passes over poison only when the dead letter is safe. */
        if (batch.poison && !drover_producer_flush(agent->producer, FLUSH_MS, error))
            return false;
        if (batch.next_offset >= 0 && !accept(agent, &batch))
            return drover_fail(error, DROVER_ERROR_FATAL, "The journal of this agent is lost");
        note_progress(agent, consumer);
    }
    return true;
}
