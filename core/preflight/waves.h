/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order to migrate many VMs: a proposal for waves. The first is a pilot of a few small VMs with little risk; the
 * others follow by risk, then by size, each small enough for its window. Pure.
 */
#ifndef DROVER_CORE_PREFLIGHT_WAVES_H
#define DROVER_CORE_PREFLIGHT_WAVES_H

#include <stddef.h>
#include <stdint.h>

#define DROVER_PILOT_VMS 3

typedef struct {
    unsigned risk;      /* 0: none known */
    uint64_t used_bytes;
    uint64_t time_ms;   /* of its first round, at worst */
    unsigned wave;      /* result, from 1 */
} DroverWaveVm;

typedef struct {
    uint64_t window_ms; /* first rounds of a wave end within it; a VM that needs more has a wave of its own */
    unsigned parallel;  /* VMs that are copied at the same time, at least 1 */
    unsigned most_vms;  /* of a wave, at least 1 */
} DroverWaveLimits;

/* Sets the wave of each of N VMS; their order stays. Returns the number of waves. */
unsigned drover_plan_waves(DroverWaveVm *vms, size_t n, const DroverWaveLimits *limits);

#endif
