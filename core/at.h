/* SPDX-License-Identifier: Apache-2.0 */
/* The moment of a decision: clocks and randomness come from outside, so that a decision can be repeated. */
#ifndef DROVER_CORE_AT_H
#define DROVER_CORE_AT_H

#include <stdint.h>

typedef struct {
    int64_t now_ms;      /* Unix time */
    int64_t lease_ms;    /* the leader's own clock: never jumps, stands still while inputs lag */
    uint32_t random;     /* fresh for every decision */
    uint32_t copy_slots; /* copy slots at the job's site, for planning */
} DroverAt;

/* Time limits and bounds, from the configuration. */
typedef struct {
    int64_t claim_timeout_ms; /* assigned but not claimed: attempt n+1, not counted */
    int64_t lease_ms;         /* no sign of life from a claimed task's owner: attempt n+1, counted */
    int64_t backoff_first_ms; /* before a repetition */
    int64_t backoff_max_ms;
    uint32_t max_failures;     /* counted attempts of a task, repetitions of an operation */
    uint32_t max_repairs;      /* of one cell */
    uint32_t verify_cells;     /* in one batch */
    int64_t verify_wait_ms;    /* a batch that is not full goes out after this */
    int64_t verify_timeout_ms; /* then it is sent again */
    uint32_t verify_batches;   /* outstanding per agent */
    /* running at a time; 0: any number */
    uint32_t transfers_per_target; /* towards one home appliance */
    uint32_t transfers_per_vcenter;
    uint32_t transfers_per_host; /* ESXi */
    uint32_t transfers_per_datastore;
    uint32_t transfers_per_vm_disk; /* of one disk of a VM: each has an NFC session of its own */
    int64_t source_look_ms;         /* how often a VM is looked at while a round holds its snapshot */
} DroverLimits;
#define DROVER_LIMITS_DEFAULT                                                                                \
    ((DroverLimits){.claim_timeout_ms = 15000,                                                               \
                    .lease_ms = 60000,                                                                       \
                    .backoff_first_ms = 1000,                                                                \
                    .backoff_max_ms = 60000,                                                                 \
                    .max_failures = 5,                                                                       \
                    .max_repairs = 3,                                                                        \
                    .verify_cells = 64,                                                                      \
                    .verify_wait_ms = 500,                                                                   \
                    .verify_timeout_ms = 300000,                                                             \
                    .verify_batches = 4,                                                                     \
                    .transfers_per_vcenter = 32,                                                             \
                    .transfers_per_host = 8,                                                                 \
                    .transfers_per_vm_disk = 1,                                                              \
                    .source_look_ms = 300000})

#endif
