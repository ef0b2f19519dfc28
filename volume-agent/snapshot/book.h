/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots of CloudStack this agent was told to remember. Durable in the journal before it is known
 * here. Any thread. */
#ifndef DROVER_VOLUME_AGENT_SNAPSHOT_BOOK_H
#define DROVER_VOLUME_AGENT_SNAPSHOT_BOOK_H

#include "volume-agent/journal/journal.h"

typedef struct DroverSnapshotBook DroverSnapshotBook;

/* JOURNAL is not owned. RECORDS: what the journal holds, copied. */
DroverSnapshotBook *drover_snapshot_book_new(DroverJournal *journal, GPtrArray *records);
void drover_snapshot_book_free(DroverSnapshotBook *book);

/* Remembers RECORD, in place of an earlier one of the same snapshot. FATAL when the journal is lost. */
bool drover_snapshot_book_put(DroverSnapshotBook *book, const DroverSnapshotRecord *record, GError **error);
/* An unknown snapshot is success. */
bool drover_snapshot_book_remove(DroverSnapshotBook *book, const char *snapshot_id, GError **error);

/* A copy, or NULL. */
DroverSnapshotRecord *drover_snapshot_book_find(DroverSnapshotBook *book, const char *snapshot_id);
/* Copies of those that match, by time of tracking, then id; "" and NULL match all. With a free function. */
GPtrArray *drover_snapshot_book_list(DroverSnapshotBook *book, const char *volume_id, const char *vm_id);

#endif
