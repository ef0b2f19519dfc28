/* SPDX-License-Identifier: Apache-2.0 */
/* The vCenter that a command works with. Blocks; nothing is changed there. */
#ifndef DROVER_CLI_INVENTORY_H
#define DROVER_CLI_INVENTORY_H

#include "cli/session.h"
#include "core/preflight/preflight.h"
#include "lib/vsphere/vsphere.h"

typedef struct {
    char *vcenter_name;  /* --vcenter; NULL: the only one in the file */
    char *vcenters_file; /* --vcenters; NULL: [vsphere] vcenters */
    DroverVcenter *vcenter;
    DroverVsphere *vsphere;
    GHashTable *reached; /* host -> DroverReach; each is tried once */
} DroverInventory;

void drover_inventory_clear(DroverInventory *inventory);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverInventory, drover_inventory_clear)

/* Flags that each such command has. */
#define DROVER_INVENTORY_FLAGS(inventory)                                                                             \
    {"vcenter", 0, 0, G_OPTION_ARG_STRING, &(inventory)->vcenter_name,                                                \
     "Which vCenter (default: the only one in the file)", "NAME"},                                                    \
    {"vcenters", 0, 0, G_OPTION_ARG_FILENAME, &(inventory)->vcenters_file,                                            \
     "Key file of vCenters (default: vcenters in section vsphere of the configuration)", "FILE"}

bool drover_inventory_open(DroverInventory *inventory, const DroverSession *session, GError **error);
/* The one VM that TEXT names: by name, inventory path, UUID or moref. PERMANENT DRV-VM-NAME for none and for many. */
DroverVsphereVm *drover_inventory_vm(DroverInventory *inventory, const char *text, GError **error);

/* Findings about VM with the rights that the session has there; PORT_902: also whether its host is reached from here. */
GPtrArray *drover_inventory_preflight(DroverInventory *inventory, const DroverVsphereVm *vm, bool port_902,
                                      GError **error);

#endif
