/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/leader.h"

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "scheduler/apply.h"
#include "scheduler/beat.h"
#include "scheduler/dispatch.h"
#include "scheduler/rebuild.h"
#include "scheduler/world.h"

#define INIT_TIMEOUT_MS 30000
#define COMMIT_TIMEOUT_MS 15000
#define IDLE_POLL_MS 50
#define STANDBY_POLL_MS 200
#define LAG_MS 5000        /* inputs older than this: conclude nothing from silence */
#define CATCH_UP_MS 2000   /* so long after the last of them, and after a takeover */
#define CLOCK_STEP_MS 1000 /* most that the lease clock moves at once: a stall of ours is nobody's silence   \
                            */
#define RETRY_WAIT_MS 1000
#define SUSPEND_MS 3000 /* how long a lost nomination may come back */

typedef struct {
    const DroverKafka *kafka;
    const SchedulerOptions *options;
    DroverConsumer *nomination;
    Beat *beat;
    char *last_error; /* shown once, not five times a second */
} Scheduler;

static bool is_nominated(Scheduler *scheduler, int timeout_ms)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverRecord) record = drover_consumer_poll(scheduler->nomination, timeout_ms, &error);
    if (error != NULL && g_strcmp0(error->message, scheduler->last_error) != 0) {
        drover_warning("kafka.nomination", error->message);
        g_free(scheduler->last_error);
        scheduler->last_error = g_strdup(error->message);
    }
    g_autoptr(GArray) owned = drover_consumer_owned(scheduler->nomination, "drover.leader");
    return owned->len > 0;
}

static bool still_wanted(void *data)
{
    return !drover_drain_requested() && is_nominated(data, 0);
}

/*
 * Every change of the group's members takes the partition away and mostly gives it back. Until then nothing
 * is written; afterwards the world is still right unless somebody else has led meanwhile, and then our epoch
 * is fenced.
 */
static bool comes_back(Scheduler *scheduler)
{
    int64_t deadline_ms = drover_boottime_ms() + SUSPEND_MS;
    drover_info("leader.suspended", "The nomination is being decided anew",
                F_S("process_id", scheduler->options->process_id));
    while (!drover_drain_requested() && drover_boottime_ms() < deadline_ms)
        if (is_nominated(scheduler, STANDBY_POLL_MS))
            return true;
    return false;
}

static bool still_leader(Scheduler *scheduler)
{
    return still_wanted(scheduler) || comes_back(scheduler);
}

static void move_clocks(World *world)
{
    int64_t boot_ms = drover_boottime_ms();
    world->now_ms = drover_now_ms();
    if (!world->replaying)
        world->lease_ms += CLAMP(boot_ms - world->boot_ms, 0, CLOCK_STEP_MS);
    world->boot_ms = boot_ms;
}

/* Applies what has come: until the batch is full, its time is up, or nothing more is there. */
static bool read_batch(World *world, DroverConsumer *inputs, GError **error)
{
    const SchedulerOptions *options = world->options;
    int64_t deadline_ms = 0, oldest_ms = G_MAXINT64;
    unsigned n = 0;
    for (; n < options->batch_inputs; n++) {
        int timeout_ms = n == 0 ? IDLE_POLL_MS : (int)CLAMP(deadline_ms - drover_boottime_ms(), 0, 5);
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(inputs, timeout_ms, &failure);
        if (failure != NULL && drover_error_class(failure) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
        if (record == NULL)
            break;
        if (n == 0)
            deadline_ms = drover_boottime_ms() + options->batch_time_ms;
        if (apply_is_input(record->topic) && record->timestamp_ms > 0)
            oldest_ms = MIN(oldest_ms, record->timestamp_ms);
        apply_record(world, record);
        if (drover_boottime_ms() >= deadline_ms)
            break;
    }
    if (oldest_ms != G_MAXINT64 && world->now_ms - oldest_ms > LAG_MS)
        world->last_old_input_ms = world->boot_ms;
    world->replaying = world->boot_ms - world->last_old_input_ms < CATCH_UP_MS;
    return true;
}

static bool write_batch(const World *world, DroverProducer *producer, GError **error)
{
    g_autoptr(GError) failure = NULL;
    if (!drover_producer_begin(producer, error))
        return false;
    if (!outbox_send(world->outbox, producer, world->options->process_id, &failure)) {
        if (!drover_producer_abort(producer, COMMIT_TIMEOUT_MS, error))
            return false;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    if (!drover_producer_commit(producer, COMMIT_TIMEOUT_MS, error))
        return false;
    outbox_clear(world->outbox);
    return true;
}

static void beat_as_leader(Scheduler *scheduler, const World *world, bool now)
{
    g_autoptr(GPtrArray) active = world_active(world);
    BeatStatus status = {true, active->len, world->tasks_ready, world->tasks_running};
    beat_send(scheduler->beat, &status, now);
}

/* Leads with one world until it must be dropped. True: orderly end (draining, nomination lost). */
static bool lead(Scheduler *scheduler, DroverProducer *producer, World *world, DroverConsumer *inputs,
                 GError **error)
{
    world->boot_ms = world->last_old_input_ms = drover_boottime_ms();
    beat_as_leader(scheduler, world, true);
    while (still_leader(scheduler)) {
        move_clocks(world);
        if (!read_batch(world, inputs, error))
            return false;
        dispatch_run(world);
        if (!world_collect(world)) {
            beat_as_leader(scheduler, world, false);
            continue;
        }
        /* The last look before writing: whoever lost the nomination writes nothing more. */
        if (!still_leader(scheduler))
            return true;
        if (!write_batch(world, producer, error))
            return false;
        dispatch_written(world);
        beat_as_leader(scheduler, world, false);
    }
    return true;
}

/* One term of office. True: stand by again (or drain). */
static bool serve_term(Scheduler *scheduler, GError **error)
{
    drover_info("leader.nominated", "Nominated as leader", F_S("process_id", scheduler->options->process_id));
    g_autoptr(DroverProducer) producer =
        drover_producer_new_transactional(scheduler->kafka, "scheduler", INIT_TIMEOUT_MS, error);
    if (producer == NULL)
        return false;
    while (still_wanted(scheduler)) {
        g_autoptr(GError) failure = NULL;
        g_autoptr(DroverConsumer) inputs = NULL;
        g_autoptr(World) world =
            rebuild_world(scheduler->kafka, scheduler->options, still_wanted, scheduler, &inputs, &failure);
        if (world != NULL && lead(scheduler, producer, world, inputs, &failure))
            break;
        if (failure == NULL)
            break;
        if (drover_error_class(failure) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
        drover_warning(
            "leader.replay",
            "A transaction was aborted or an input could not be read: starting again from the state",
            F_S("error", failure->message));
        drover_drain_wait(RETRY_WAIT_MS);
    }
    drover_info("leader.stopped", "No longer leader", F_S("process_id", scheduler->options->process_id));
    return true;
}

bool scheduler_run(const DroverKafka *kafka, const SchedulerOptions *options, GError **error)
{
    static const char *const topics[] = {"drover.leader", NULL};
    Scheduler scheduler = {.kafka = kafka, .options = options};
    g_autoptr(Beat) beat = beat_new(kafka, options, error);
    scheduler.beat = beat;
    if (beat == NULL)
        return false;
    g_autoptr(DroverConsumer) nomination = drover_consumer_new_group(
        kafka, "scheduler", topics, options->leader_session_timeout_ms, false, NULL, NULL, error);
    scheduler.nomination = nomination;
    if (nomination == NULL)
        return false;
    drover_info("scheduler.standby", "Standing by", F_S("process_id", options->process_id));
    while (!drover_drain_requested()) {
        static const BeatStatus standby = {0};
        if (is_nominated(&scheduler, STANDBY_POLL_MS) && !serve_term(&scheduler, error))
            return false;
        beat_send(beat, &standby, false);
    }
    beat_stop(beat);
    g_free(scheduler.last_error);
    return true;
}
