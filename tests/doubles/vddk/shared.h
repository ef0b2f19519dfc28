/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plugin and the vCenter stand-in share about one open disk: a mapped file, so that the numbers
 * outlive a killed plugin and commands arrive at once. ../vcsim/reader.go has the same layout.
 */
#ifndef DROVER_TESTS_VDDK_SHARED_H
#define DROVER_TESTS_VDDK_SHARED_H

#include <stdatomic.h>
#include <stdint.h>

enum { VDDK_RUN, VDDK_FAIL, VDDK_STALL, VDDK_DIE };

struct vddk_shared {
    _Atomic uint64_t open;    /* 1 while it is */
    _Atomic uint64_t reads;   /* calls */
    _Atomic uint64_t bytes;   /* read */
    _Atomic uint64_t extents; /* calls */
    _Atomic uint64_t command; /* for what is read once .bytes has reached .after */
    _Atomic uint64_t after;
};

#define VDDK_SHARED_SIZE 4096

#endif
