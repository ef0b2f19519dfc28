/* SPDX-License-Identifier: Apache-2.0 */
/* How many sessions this process has open with a vCenter as one user. Thread-safe. */
#ifndef DROVER_LIB_VSPHERE_SESSION_LIMIT_H
#define DROVER_LIB_VSPHERE_SESSION_LIMIT_H

#include <gio/gio.h>
#include <stdbool.h>

/* Waits until fewer than MOST are open under KEY, and takes one. */
bool drover_vsphere_session_take(const char *key, unsigned most, GCancellable *cancel, GError **error);
void drover_vsphere_session_give(const char *key);

#endif
