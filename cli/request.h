/* SPDX-License-Identifier: Apache-2.0 */
/* What a user asks for when submitting a job, from flags or from a job file, and the message that it becomes. */
#ifndef DROVER_CLI_REQUEST_H
#define DROVER_CLI_REQUEST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/session.h"
#include "cli/source.h"
#include "drover/v1/job.pb-c.h"

/* How the job treats the VM that it comes from. */
typedef struct {
    bool crash_consistent; /* snapshots without quiescing */
    char *power;           /* NULL, "ask", "force" or "manual": when the guest does not shut down at cutover */
    uint64_t shutdown_timeout_ms; /* 0: the default, like below */
    uint64_t snapshot_max_age_ms;
    bool keep_source_on;
} DroverSourcePolicy;

typedef struct {
    char *job_id; /* NULL: a random one, "mig-…" */
    char *name;   /* NULL: made from the first disk's file name */
    char *site;
    char *digest; /* NULL, "none", "xxh3" or "sha256" */
    bool failover;
    uint64_t bandwidth_limit; /* bytes per second */
    uint64_t range_bytes;
    uint64_t round_interval_ms;
    uint32_t priority;
    bool deep_verify; /* the last round compares all digests */
    DroverSourcePolicy source_policy;
    GStrv labels; /* "key=value"; may be NULL */
    GArray *disks; /* DroverSource */
    /* target */
    char *agent, *zone, *service_offering, *template_id, *os_type, *account, *domain, *project, *boot_type, *boot_mode;
    GStrv networks;
    GStrv details; /* "key=value" */
} DroverRequest;

void drover_request_init(DroverRequest *request);
void drover_request_clear(DroverRequest *request);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverRequest, drover_request_clear)

/*
 * Fills in what was left out (job id, name) and checks the rest; pure but for random ids. On failure *WHERE names the
 * part as in a job file, e.g. "disks[1].id" (newly allocated; WHERE may be NULL).
 */
bool drover_request_complete(DroverRequest *request, char **where, GError **error);

/* What CloudStack takes for a host name, made from TEXT: letters, digits and '-'. NULL when nothing is left. */
char *drover_vm_name_from(const char *text);

/* Looks at those disks that are files on this machine: format by content, size of raw images, which workers must find
 * again. Files that are not here are left as they are, with a note on standard error. Blocks on the file system. */
void drover_request_look(DroverRequest *request);

/* The target as a message, initialised by the caller. Texts are REQUEST's; what is made goes to POOL, which frees with g_free. */
void drover_request_target(const DroverRequest *request, Drover__V1__TargetSpec *target, GPtrArray *pool);

/* Publishes the job and waits for Kafka's acknowledgement. */
bool drover_request_submit(DroverSession *session, const DroverRequest *request, GError **error);

#endif
