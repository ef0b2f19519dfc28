/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the job machine only. */
#ifndef DROVER_CORE_JOB_INTERNAL_H
#define DROVER_CORE_JOB_INTERNAL_H

#include "core/job/job.h"
#include "core/job/ledger.h"
#include "core/job/source_vm.h"

typedef struct {
    DroverJob *job;
    const DroverLimits *limits;
    const DroverAt *at;
    GPtrArray *outputs;
} Step;

/* job.c */
void drover_step_enter(Step *step, DroverPhase phase);
void drover_step_fail(Step *step, const DroverFault *fault); /* ends the job unless it is ending already */

/* The failover is not to be; what is copied stays and goes on being brought up to date. */
void drover_step_call_off(Step *step, const DroverFault *fault);

/* forward.c */
void drover_step_forward(Step *step);
void drover_step_round_end(Step *step, DroverDisk *disk); /* the export is closed, every cell read back */
bool drover_disk_is_copied(const DroverDisk *disk);       /* every task of the round done */

bool drover_job_is_inspected(const DroverJob *job, const DroverDisk *disk); /* in this round */

uint64_t drover_step_task_bytes(const Step *step, uint64_t allocated_bytes); /* that one range task should hold */

/* round.c */
void drover_step_sync(Step *step, const DroverInput *input);
void drover_step_replicating(Step *step);
void drover_step_begin_round(Step *step, int sync_type);
void drover_step_rounds_over(Step *step); /* every disk of the round is final: what comes next */
/* Settles what kind of round DISK gets from what was found, and plans it when that is by areas. False with FAULT. */
bool drover_step_decide_round(Step *step, DroverDisk *disk, const DroverInspection *found, DroverFault *fault);

void drover_step_remember_round(Step *step); /* in the job's list of rounds */

/* rebase.c */
bool drover_step_rebase(Step *step); /* the round was cut short, because its snapshot is too old or has no room */
bool drover_job_is_rebasing(const DroverJob *job); /* cut short, and the next round not yet planned */
GArray *drover_disk_areas_with_carried(const DroverDisk *disk, const GArray *areas); /* of DroverRange */

/* source.c. All do nothing, and are true, for a job whose disks belong to no VM. */
bool drover_step_source_checked(Step *step); /* round 0: its preflight is done, and every disk's size known */
/* This round's snapshot is there: the one before is gone, and for the last round the VM is off. */
bool drover_step_source_frozen(Step *step);
/* While a round holds its snapshot: whether that has room to grow. */
void drover_step_source_look(Step *step);
/* No snapshot is left, or all was tried to remove it; nothing is under way. */
bool drover_step_source_released(Step *step);
void drover_step_source_done(Step *step, int action, const DroverSourceReport *report);
void drover_step_source_failed(Step *step, int action, const DroverFault *fault);
/* Undoing: true when no task that changes the source VM is under way any more. */
bool drover_step_source_quiet(Step *step);
void drover_step_source_undo(Step *step, const DroverLedgerEntry *entry);

/* drain.c */
void drover_step_move_to(Step *step, const char *agent);
bool drover_step_move(Step *step); /* takes the volumes off the appliance that is left; true: nothing is to be left any more */

/* undo.c */
void drover_step_undo(Step *step);
void drover_step_begin_undo(Step *step, DroverPhase phase);

/* operation.c */
void drover_step_operation(Step *step, DroverOpKind kind, DroverDisk *disk, bool undo);
bool drover_step_may_operate(const Step *step, const DroverDisk *disk);    /* nothing pending, no backoff */
bool drover_job_has_operations(const DroverJob *job, const char *disk_id); /* NULL: any */
void drover_step_operation_done(Step *step, const char *operation_id, const DroverOperationResult *result);
void drover_step_operation_failed(Step *step, const char *operation_id, const DroverFault *fault);

#endif
