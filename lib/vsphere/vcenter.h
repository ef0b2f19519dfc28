/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vCenters there are and how to reach them: a key file, one group a vCenter. Jobs, tasks and commands name a
 * vCenter; addresses and credentials stay on the machines of its site.
 *
 *   [vcenter dc1]
 *   url=https://vcenter.example/sdk
 *   user=drover@vsphere.local
 *   password-file=/etc/drover/dc1.password     or the environment: DROVER_VCENTER_DC1_PASSWORD
 *   ca-file=/etc/drover/vcenter-ca.pem         or thumbprint=SHA1 or SHA-256 in hex, with or without colons; else the
 *                                              system's list of authorities
 *   call-timeout=120s                          of one SOAP call; tasks may take as long as they do
 *   sessions=4                                 most concurrent sessions of one process
 *   vddk-libdir=/opt/vmware-vix-disklib-distrib
 *   transports=nbdssl:nbd                      VDDK: file:san:hotadd:nbdssl:nbd
 *   compression=none                           VDDK: none, zlib, fastlz, skipz
 *   single-link=false  unbuffered=false        VDDK
 *
 * A password file must not be readable by others. Unknown keys are refused.
 */
#ifndef DROVER_LIB_VSPHERE_VCENTER_H
#define DROVER_LIB_VSPHERE_VCENTER_H

#include <glib.h>
#include <stdbool.h>

#include "lib/base/config.h"

/* [vsphere] vcenters: where that file is. */
extern const DroverOption drover_vsphere_options[];

typedef struct {
    char *name;
    char *url;
    char *user;
    char *password;      /* secret; wiped when freed */
    char *password_file; /* "" when it came from the environment */
    char *ca_file;       /* "" */
    char *thumbprint;    /* "" or upper-case hex with colons: 20 or 32 bytes */
    unsigned call_timeout_ms;
    unsigned sessions;
    char *vddk_libdir;
    char *transports;
    char *compression;
    bool single_link;
    bool unbuffered;
} DroverVcenter;

/* The vCenter NAME of key file PATH. PERMANENT errors DRV-VCENTER-CONFIG, DRV-VCENTER-UNKNOWN, DRV-VCENTER-PASSWORD
 * with file and key. */
DroverVcenter *drover_vcenter_load(const char *path, const char *name, GError **error);
/* Names of all vCenters in PATH, NULL-terminated. */
char **drover_vcenter_names(const char *path, GError **error);
void drover_vcenter_free(DroverVcenter *vcenter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVcenter, drover_vcenter_free)

#endif
