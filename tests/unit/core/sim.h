/* SPDX-License-Identifier: Apache-2.0 */
/* A job with a volume agent and workers that obey it, in memory, one small step at a time. */
#ifndef DROVER_TESTS_CORE_SIM_H
#define DROVER_TESTS_CORE_SIM_H

#include "core/task/cells.h"
#include "core/job/job.h"
#include "core/job/spec.h"

/* The source VM of a job, where it has one. */
typedef struct {
    bool present;
    bool off;
    bool guarded;
    char *snapshot;        /* its name; NULL: none */
    unsigned changes;      /* what the guest wrote so far */
    unsigned frozen;       /* what the snapshot holds of that */
    unsigned snapshots;    /* taken so far */
    int32_t extra_key;     /* a disk that nobody named; 0: none */
    const char *finding;   /* code of an error that a preflight or a look finds; NULL: none */
} SimVm;

typedef struct Sim {
    DroverJob *job;
    DroverLimits limits;
    DroverAt at;
    GPtrArray *outputs;
    GPtrArray *inbox;     /* DroverOperation that the agent has not done yet */
    GHashTable *volumes;  /* id -> where it is attached ("": nowhere) */
    GHashTable *exports;  /* volume id -> generation */
    GHashTable *executed; /* operation ids, to find repetitions */
    char *vm_id;
    char *vm_state;
    SimVm vm;
    char *problem;       /* the first thing that a real agent would have refused */
    unsigned operations; /* executed or failed so far */
    /* called before every input; may replace sim->job by an equal one */
    void (*before)(struct Sim *sim);
    GPtrArray *checkpoints; /* of SimCheckpoint, as they would stand on their topic */
} Sim;

typedef struct {
    char *disk_id, *task_id;
    uint64_t generation;
    DroverCellDone cell;
} SimCheckpoint;

Sim *sim_new(unsigned disks, bool failover);
Sim *sim_new_vm(unsigned disks, bool failover); /* the disks belong to a VM */
void sim_free(Sim *sim);

void sim_input(Sim *sim, const DroverInput *input);
void sim_command(Sim *sim, DroverInputKind kind);

/* One operation of the inbox succeeds, or fails with FAULT. */
void sim_operate(Sim *sim, guint index, const DroverFault *fault);
/* A task goes through in one go; cells whose number is in MISMATCH (NULL: none) are found to differ. */
void sim_run_task(Sim *sim, DroverDisk *disk, DroverTask *task, bool mismatch);
/* sim_vm.c: the worker's part in a task about the source VM. The task is claimed if it is not yet; then TOLD: it is done
 * and reported; ACTED: it is done, but its worker is lost; else the worker is lost before it did anything. */
typedef enum { SIM_VM_TOLD, SIM_VM_ACTED, SIM_VM_LOST } SimVmOutcome;
void sim_vm_run(Sim *sim, DroverTask *task, SimVmOutcome outcome);
void sim_vm_claim(Sim *sim, DroverTask *task);
/* A worker that was asked to stop says that it has; true when there was one. */
bool sim_vm_release(Sim *sim);
void sim_vm_check_inspection(Sim *sim);
void sim_problem(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Whatever is next, with success. False when there is nothing left to do. */
bool sim_fair(Sim *sim);
/* sim_fair until the job has ended; fails the test after too many steps. */
void sim_finish(Sim *sim);

/* Asserts drover_job_check and that the agent had nothing to refuse. */
void sim_check(const Sim *sim);
bool sim_is_clean(const Sim *sim); /* nothing exists at the target */

#endif
