/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over exports and attached volumes: what the journal, CloudStack and the machine say of each, and
 * where they differ. */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_H
#define DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_H

#include "volume-agent/operations/context.h"

/*
 * *REPORT: {"checked": {"exports": N, "volumes": N, "devices": N}, "differences": [{"kind", "volume_id",
 * "message", "repaired"}]}, a new reference. Kinds: export-volume-missing, export-volume-elsewhere,
 * export-device-missing, export-device-moved, volume-device-missing, volume-device-unusable,
 * devices-left-over. With REPAIR exports that nobody can use are removed. RETRYABLE when CloudStack cannot be
 * asked. The caller keeps others from attaching and detaching meanwhile.
 */
bool drover_op_compare(const DroverOpContext *context, bool repair, json_t **report, GError **error);

#endif
