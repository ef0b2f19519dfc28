/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation as the agent works with it: what was asked (fields of newer versions survive in it) and how far it has come.
 * The executor owns operations; its thread that runs one is the only writer of its progress.
 */
#ifndef DROVER_VOLUME_AGENT_JOURNAL_OPERATION_H
#define DROVER_VOLUME_AGENT_JOURNAL_OPERATION_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "drover/v1/operation.pb-c.h"

typedef struct {
    char *volume_id;
    char *vm_id;
    char *device_path;
    char *device_serial;
    uint64_t device_size_bytes;
    char *export_name;
    uint64_t generation;
    char *token;
    char *nbd_host;
    uint32_t nbd_port;
    char *old_root_volume_id;
    char *vm_state;
    char *snapshot_id;
    bool already_done;
    GPtrArray *volume_ids; /* strings; NULL: none */
    char *report;          /* JSON */
    GPtrArray *findings;   /* Drover__V1__Finding; NULL: none */
} DroverOperationResult;

typedef struct {
    Drover__V1__VolumeOperation *asked; /* owned */
    Drover__V1__OperationState state;
    uint32_t step;           /* changing calls that are done */
    char *command;           /* of the last intent */
    char *object_id;         /* volume or VM that it works on */
    char *wanted;            /* what that object shows once the command has taken effect; "" or NULL where the command tells */
    int64_t intent_at_ms;
    int64_t intent_expires_at_ms;
    char *cloud_job_id;      /* WAITING: the async job of that command */
    DroverOperationResult result;
    int error_class;         /* FAILED: DroverErrorClass */
    char *error_message;
    int64_t accepted_at_ms;
    int64_t updated_at_ms;
    uint64_t sequence;
    GPtrArray *claims;       /* ids of VMs and volumes that it turned out to touch beyond those asked; NULL: none */
    /* not in the record; the executor's */
    bool running;
    bool yields;             /* somebody is at work on what it claimed last: it ends this attempt and takes its turn */
} DroverOperation;

/* Takes ASKED. */
DroverOperation *drover_operation_new(Drover__V1__VolumeOperation *asked);
void drover_operation_free(DroverOperation *operation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverOperation, drover_operation_free)

bool drover_operation_is_ended(const DroverOperation *operation); /* DONE or FAILED */
const char *drover_operation_kind(const DroverOperation *operation); /* "create-volume", ...; "unknown" */

/* The volume and the VM that it works on; "" when there is none, or none yet. Owned by OPERATION. */
const char *drover_operation_volume_id(const DroverOperation *operation);
const char *drover_operation_vm_id(const DroverOperation *operation);
/* It plugs into or unplugs from the appliance. */
bool drover_operation_uses_appliance(const DroverOperation *operation);

/* Adds VOLUME_ID to result->volume_ids, unless it is there. */
void drover_operation_add_volume(DroverOperation *operation, const char *volume_id);

/* Appends a finding of a preflight. */
void drover_operation_add_finding(DroverOperation *operation, const char *severity, const char *code, const char *message,
                                  int32_t disk_key);

/* Adds ID to claims, unless it is there. */
void drover_operation_add_claim(DroverOperation *operation, const char *id);

/* Replaces *FIELD by a copy of VALUE. */
void drover_set_text(char **field, const char *value);

/* All of it that is durable. */
DroverOperation *drover_operation_copy(const DroverOperation *operation);

/* The journal record, packed; newly allocated. */
GBytes *drover_operation_pack(const DroverOperation *operation, const char *agent, const char *instance_id);
/* From a record; NULL when it has no operation in it. */
DroverOperation *drover_operation_unpack(const Drover__V1__JournalOperation *record);

/* An open export, as journalled. */
typedef struct {
    char *volume_id;
    char *job_id;
    char *disk_id;
    char *export_name;
    uint64_t generation;
    char *token;
    bool writable;
    char *device_path;
    char *device_serial;
    uint64_t size_bytes;
} DroverExportRecord;
DroverExportRecord *drover_export_record_copy(const DroverExportRecord *from);
void drover_export_record_free(DroverExportRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverExportRecord, drover_export_record_free)
GBytes *drover_export_record_pack(const DroverExportRecord *record);
DroverExportRecord *drover_export_record_unpack(const Drover__V1__JournalExport *record);

/* A tracked snapshot, as journalled. */
typedef struct {
    char *snapshot_id;
    char *volume_id;
    char *vm_id;
    char *name;
    char *status;
    int64_t created_at_ms;
    int64_t updated_at_ms;
} DroverSnapshotRecord;
DroverSnapshotRecord *drover_snapshot_record_copy(const DroverSnapshotRecord *from);
void drover_snapshot_record_free(DroverSnapshotRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverSnapshotRecord, drover_snapshot_record_free)
GBytes *drover_snapshot_record_pack(const DroverSnapshotRecord *record);
DroverSnapshotRecord *drover_snapshot_record_unpack(const Drover__V1__JournalSnapshot *record);

/* "the appliance is to be emptied", or was until UNTIL_MS (SINCE_MS 0), as a journal record, packed. */
GBytes *drover_drain_pack(int64_t since_ms, int64_t until_ms, const char *requested_by);

/* "next offset of the task topic" as a journal record, packed. */
GBytes *drover_offset_pack(int64_t next_offset);

#endif
