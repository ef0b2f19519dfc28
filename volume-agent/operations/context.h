/* SPDX-License-Identifier: Apache-2.0 */
/* What every operation works with. One context per process; the parts guard themselves. */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_CONTEXT_H
#define DROVER_VOLUME_AGENT_OPERATIONS_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "volume-agent/cloudstack/client.h"
#include "volume-agent/device/device.h"
#include "volume-agent/drain/drain.h"
#include "volume-agent/export/book.h"
#include "volume-agent/journal/journal.h"
#include "volume-agent/snapshot/book.h"

typedef struct {
    const char *agent;
    const char *instance_id;
    const char *appliance_vm_id;
    DroverDeviceRoots roots;
    int64_t call_expiry_ms;    /* a signed call dies this long after its intent */
    int64_t job_timeout_ms;    /* longest wait for one async job, which is then asked about anew */
    int64_t device_timeout_ms; /* for a hot-plugged device to appear */
    const char *nbd_public_host; /* as workers reach the exports */
    uint16_t nbd_public_port;
    const char *default_disk_offering; /* names or ids; "": the first that suits */
    const char *default_service_offering;
    const char *default_template;
    const char *const *default_networks;

    DroverCloudStack *cloud;
    DroverJournal *journal;
    DroverExportBook *exports;
    DroverSnapshotBook *snapshots;
    DroverApplianceDrain *drain;
    /* Waits until nobody reads back from the device of VOLUME_ID any more. */
    void (*release_device)(void *data, const char *volume_id);
    void *release_data;
    /* OPERATION goes on to touch the VM or volume ID, which it was not asked about. False: another one is at work on it. */
    bool (*claim)(void *data, DroverOperation *operation, const char *id);
    void *claim_data;
    /* An operation on somebody's volumes or VMs is open; data: claim_data. */
    bool (*busy)(void *data);
    /* The disk with SERIAL is of a volume that an operation plugged in; data: claim_data. */
    bool (*plugged)(void *data, const char *serial);
    /* Copies of all operations that have ended, by sequence: a new array of DroverOperation. */
    GPtrArray *(*ended)(void *data);
    /* Something is not as the journal says, and REPAIRED or not. Ids may be NULL. */
    void (*differs)(void *data, const char *kind, const char *volume_id, const char *vm_id, const char *message, bool repaired);
    void *differs_data;
    bool (*stopping)(void); /* the process drains: go no further, the journal knows the rest */
} DroverOpContext;

#endif
