/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger: every object that a job made or is about to make, listed before the call, taken off when it is
 * gone, so that nothing is left behind. Undone from the last entry to the first. Pure. */
#ifndef DROVER_CORE_JOB_LEDGER_H
#define DROVER_CORE_JOB_LEDGER_H

#include "core/job/model.h"

/* The entry for KIND and DISK_ID ("" for the whole VM), or NULL. */
DroverLedgerEntry *drover_ledger_find(const DroverJob *job, DroverLedgerKind kind, const char *disk_id);

/* Lists an intended object; an entry that is there already stays (the operation is a repetition). */
DroverLedgerEntry *drover_ledger_intend(DroverJob *job, DroverLedgerKind kind, const char *disk_id,
                                        const char *operation_id, int64_t now_ms);
/* The object exists. */
void drover_ledger_made(DroverJob *job, DroverLedgerKind kind, const char *disk_id, const char *object_id);
/* The object is gone. */
void drover_ledger_gone(DroverJob *job, DroverLedgerKind kind, const char *disk_id);

/* "volume", "attachment", … */
const char *drover_ledger_kind_name(int kind);
/* What is left, for people: "volume 12ab… (disk0), vm 34cd…"; newly allocated. Volumes are left out with
 * KEEP_VOLUMES. */
char *drover_ledger_describe(const DroverJob *job, bool keep_volumes);

#endif
