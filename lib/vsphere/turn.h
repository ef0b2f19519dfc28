/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is: a lock that is handed over in the order of asking. A plain mutex would starve others beside a thread
 * that waits for a task: that one takes the session again as soon as it lets it go. Thread-safe.
 */
#ifndef DROVER_LIB_VSPHERE_TURN_H
#define DROVER_LIB_VSPHERE_TURN_H

#include <gio/gio.h>
#include <stdbool.h>

typedef struct {
    GMutex lock;
    GCond passed;
    GQueue waiting; /* the first has the turn */
} DroverVsphereTurn;

void drover_vsphere_turn_init(DroverVsphereTurn *turn);
void drover_vsphere_turn_clear(DroverVsphereTurn *turn);
/* Waits. False: cancelled. */
bool drover_vsphere_turn_take(DroverVsphereTurn *turn, GCancellable *cancel, GError **error);
void drover_vsphere_turn_give(DroverVsphereTurn *turn);

#endif
