/* SPDX-License-Identifier: Apache-2.0 */
/* The SHA-1 thumbprint of a vCenter's certificate, which VDDK wants to be told. */
#ifndef DROVER_WORKER_VSPHERE_THUMBPRINT_H
#define DROVER_WORKER_VSPHERE_THUMBPRINT_H

#include <gio/gio.h>

#include "lib/vsphere/vcenter.h"

/*
 * From the configuration when that is SHA-1, else from a TLS connection whose certificate passes the configured
 * authority or SHA-256 thumbprint; "" for an address without TLS. Newly allocated. Blocks. Errors: PERMANENT
 * DRV-VCENTER-TLS, RETRYABLE DRV-VCENTER-UNREACHABLE.
 */
char *drover_vcenter_thumbprint(const DroverVcenter *vcenter, GCancellable *cancel, GError **error);

#endif
