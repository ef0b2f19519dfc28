/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent knows, as the JSON that clients get. Tokens of exports never come in. Pure; results are new
 * references. */
#ifndef DROVER_VOLUME_AGENT_REST_RECORD_H
#define DROVER_VOLUME_AGENT_REST_RECORD_H

#include <jansson.h>

#include "volume-agent/export/nbd_server.h"
#include "volume-agent/journal/operation.h"

/* "submitted" (on its way into the log), "accepted", "running", "done", "failed". */
const char *drover_rest_state(const DroverOperation *operation, bool submitted);

/* The operation record. */
json_t *drover_rest_finding_json(const char *severity, const char *code, const char *message, int32_t disk_key);
json_t *drover_rest_operation_json(const DroverOperation *operation, bool submitted);
json_t *drover_rest_snapshot_json(const DroverSnapshotRecord *record);
/* STAT: counters of the NBD server for this generation, or NULL: it is not served now. */
json_t *drover_rest_export_json(const DroverExportRecord *record, const DroverExportStat *stat);
/* A row of CloudStack's listVolumes. */
json_t *drover_rest_volume_json(const json_t *row, const char *appliance_vm_id);

#endif
