/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a VM of a vCenter can be migrated, from facts alone. Nothing is asked and nothing is changed here. Each finding
 * has a stable code; docs/vmware.md tells cause and way out of each. Pure.
 */
#ifndef DROVER_CORE_PREFLIGHT_PREFLIGHT_H
#define DROVER_CORE_PREFLIGHT_PREFLIGHT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/vsphere/vm.h"

typedef enum { DROVER_FINDING_INFO, DROVER_FINDING_WARNING, DROVER_FINDING_ERROR } DroverSeverity;
const char *drover_severity_name(DroverSeverity severity); /* info, warning, error */

typedef struct {
    DroverSeverity severity; /* an error stops the job */
    const char *code;        /* static, "DRV-…" */
    char *message;           /* what, on what, what to do; without the code */
    int32_t disk_key;        /* 0: the whole VM */
} DroverFinding;
void drover_finding_free(DroverFinding *finding);

/* Rights that a migration needs on the VM, and what for: the role of docs/vmware.md. */
typedef struct {
    const char *privilege; /* as the API names it */
    const char *label;     /* as the vSphere Client shows it */
    const char *why;
} DroverPrivilege;
extern const DroverPrivilege drover_privileges[];
extern const size_t drover_privileges_n;
/* Their names for drover_vsphere_missing_privileges(); NULL-terminated, static. */
const char *const *drover_privilege_names(void);

typedef enum { DROVER_REACH_UNKNOWN, DROVER_REACH_OPEN, DROVER_REACH_CLOSED } DroverReach;

/* What is known beyond the VM itself; all zero: nothing. Borrowed. */
typedef struct {
    const char *const *missing_privileges; /* NULL: not asked */
    const char *own_snapshot_prefix;       /* snapshots whose names begin so are Drover's own; NULL: "drover" */
    unsigned nfc_running;                  /* transfers on the VM's ESXi host */
    unsigned nfc_limit;                    /* 0: not known */
    DroverReach port_902;                  /* of the VM's ESXi host, from the machine that will read */
    bool target_known;
    const char *target_boot_type;          /* BIOS, UEFI; NULL or "": BIOS */
    const char *target_boot_mode;          /* LEGACY, SECURE; NULL or "": LEGACY */
    uint64_t changed_bytes_per_hour;       /* of the whole VM; 0: not known */
    uint64_t snapshot_max_age_ms;          /* 0: 24 hours */
} DroverPreflightFacts;

/* Findings about VM and those of its disks that DISK_KEYS lists (n 0: all), errors first; DroverFinding. MORE may be NULL. */
GPtrArray *drover_preflight_source(const DroverVsphereVm *vm, const int32_t *disk_keys, size_t n,
                                   const DroverPreflightFacts *more);
/* The same, about room for snapshots on the VM's datastores only (DRV-SOURCE-SPACE, -DATASTORE). */
GPtrArray *drover_preflight_room(const DroverVsphereVm *vm, const int32_t *disk_keys, size_t n);
/* The worst severity among FINDINGS is an error. */
bool drover_preflight_stops(const GPtrArray *findings);

/*
 * Room that snapshots of one round may take on a datastore, for CAPACITY_BYTES of disks on it.
 *   likely: 10 % of the capacity, at least 1 GiB, or, if the change rate is known, what it writes during the snapshot's
 *           longest life; less free space is a warning, and an error when the change rate is known
 *   least:  2 % of the capacity, at least 512 MiB: less is an error
 * Neither exceeds the capacity: a snapshot's file does not grow beyond the disk.
 */
typedef struct {
    uint64_t least_bytes;
    uint64_t likely_bytes;
} DroverSnapshotRoom;
DroverSnapshotRoom drover_snapshot_room(uint64_t capacity_bytes, const DroverPreflightFacts *more,
                                        uint64_t vm_capacity_bytes);

#endif
