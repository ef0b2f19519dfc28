/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the leader knows, derived from topics alone: dropped and rebuilt whenever a transaction was
 * aborted or the leadership changes hands. One thread. No I/O: what is to be written collects in the outbox.
 */
#ifndef DROVER_SCHEDULER_WORLD_H
#define DROVER_SCHEDULER_WORLD_H

#include "core/dispatch/fleet.h"
#include "core/dispatch/grants.h"
#include "core/job/job.h"
#include "core/job/spec.h"
#include "scheduler/options.h"
#include "scheduler/outbox.h"

typedef struct {
    const SchedulerOptions *options;
    GHashTable *jobs;    /* job_id -> DroverJob */
    GHashTable *touched; /* set of DroverJob: may have changed since the last commit */
    DroverFleet *fleet;
    GHashTable *offsets; /* "topic/partition" -> int64_t *: next input */
    bool offsets_dirty;
    GHashTable *exports;  /* volume_id -> WorldExport */
    GHashTable *grants;   /* job_id -> DroverGrants */
    GHashTable *controls; /* job_id -> uint64_t *: last version on drover.control */
    Outbox *outbox;
    GPtrArray *handed_out; /* DroverTask of the batch under way */
    GRand *random;
    int64_t now_ms;            /* Unix time of the batch under way */
    int64_t boot_ms;           /* CLOCK_BOOTTIME */
    int64_t lease_ms;          /* the leader's own clock: stands still while replaying, never jumps */
    bool replaying;            /* inputs are old: nothing is concluded from silence */
    int64_t last_old_input_ms; /* on CLOCK_BOOTTIME */
    uint64_t verify_sequence;
    uint64_t tasks_ready; /* for the heartbeat */
    uint64_t tasks_running;
    int64_t next_check_ms; /* the first two on CLOCK_BOOTTIME */
    int64_t next_grant_ms;
    int64_t next_expiry_ms;
} World;

/* What the agent's journal says about an open export. */
typedef struct {
    uint64_t generation;
    char *token;
} WorldExport;

World *world_new(const SchedulerOptions *options);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* The moment for a decision about JOB (NULL: none in particular). */
DroverAt world_at(World *world, const DroverJob *job);
DroverPlaces world_places(const World *world);

/* JOB may have changed. */
void world_touch(World *world, DroverJob *job);
/* A step of the job machine; its outputs go to the outbox. */
void world_step(World *world, DroverJob *job, const DroverInput *input);
/* Sends the outputs of a step that was made elsewhere. */
void world_outputs(World *world, DroverJob *job, GPtrArray *outputs);
void world_audit(World *world, DroverJob *job, const char *disk_id, const char *level, const char *event,
                 const char *format, ...) G_GNUC_PRINTF(6, 7);

/* Jobs that have not ended. New array, elements borrowed. */
GPtrArray *world_active(const World *world);

/* Takes the token for DISK from what the journal said, if it is there. */
void world_find_token(const World *world, DroverDisk *disk);

/* Tombstones the checkpoints of an ended task. */
void world_drop_checkpoints(World *world, const DroverJob *job, DroverTask *task);

/* Puts all changed records and the input offsets into the outbox; false when there is nothing to write. */
bool world_collect(World *world);

#endif
