/* SPDX-License-Identifier: Apache-2.0 */
/* The processes of the fleet as their heartbeats describe them. Pure. */
#ifndef DROVER_CORE_DISPATCH_FLEET_H
#define DROVER_CORE_DISPATCH_FLEET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/at.h"

/* Values equal drover.v1.Role. */
typedef enum {
    DROVER_ROLE_SCHEDULER = 1,
    DROVER_ROLE_WORKER = 2,
    DROVER_ROLE_VOLUME_AGENT = 3,
    DROVER_ROLE_PROGRESS_AGGREGATOR = 4,
} DroverRole;

typedef struct {
    char *task_id;
    uint32_t attempt;
} DroverRunning;

typedef struct {
    char *process_id;
    char *instance_id;
    DroverRole role;
    char *site; /* agents: the agent's name */
    int64_t started_at_ms;
    uint64_t sequence;
    int64_t interval_ms; /* until the next heartbeat */
    bool draining;
    bool stopped;
    int64_t seen_lease_ms; /* on the leader's clock */
    /* workers */
    uint32_t copy_slots;
    uint32_t source_slots;
    GArray *copy_partitions;   /* int32_t */
    GArray *source_partitions; /* int32_t */
    GArray *running;           /* DroverRunning */
    /* agents */
    uint32_t device_slots;
    uint32_t free_device_slots;
    bool appliance_draining; /* to be emptied; the agent itself goes on working */
    char *scope;             /* appliances of the same scope can take each other's volumes over; "": the common one */
} DroverProcess;

DroverProcess *drover_process_new(const char *process_id, const char *instance_id, DroverRole role,
                                  const char *site);
void drover_process_free(DroverProcess *process);

typedef struct {
    GHashTable *processes; /* process_id -> DroverProcess */
} DroverFleet;

DroverFleet *drover_fleet_new(void);
void drover_fleet_free(DroverFleet *fleet);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverFleet, drover_fleet_free)

/*
 * Takes over HEARTBEAT (always consumed), AGE_MS old. Returns the process when it was news, NULL for one of
 * an older life or with an older sequence.
 */
const DroverProcess *drover_fleet_heartbeat(DroverFleet *fleet, DroverProcess *heartbeat, int64_t age_ms,
                                            const DroverAt *at);

const DroverProcess *drover_fleet_get(const DroverFleet *fleet, const char *process_id);

/* Can be given work: heard of lately (three intervals, 5 s at least), not draining, not stopped. */
bool drover_process_is_ready(const DroverProcess *process, const DroverAt *at);

/* Copy slots of all ready workers of SITE. */
uint32_t drover_fleet_copy_slots(const DroverFleet *fleet, const char *site, const DroverAt *at);

/* The newest ready process of agent AGENT, or NULL. */
const DroverProcess *drover_fleet_agent(const DroverFleet *fleet, const char *agent, const DroverAt *at);

/* The newest process of agent AGENT that was ever heard of, or NULL. */
const DroverProcess *drover_fleet_agent_known(const DroverFleet *fleet, const char *agent);

/* Ready processes of ROLE (and SITE, unless NULL), sorted by process id. New array, elements borrowed. */
GPtrArray *drover_fleet_ready(const DroverFleet *fleet, DroverRole role, const char *site,
                              const DroverAt *at);

#endif
