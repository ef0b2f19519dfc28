/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which exports are open, in the journal and at the NBD server: the journal first when one is opened, the server first when
 * one is closed, so that after a crash nothing is served that the journal does not know. Any thread.
 */
#ifndef DROVER_VOLUME_AGENT_EXPORT_BOOK_H
#define DROVER_VOLUME_AGENT_EXPORT_BOOK_H

#include "volume-agent/export/nbd_server.h"
#include "volume-agent/journal/journal.h"

typedef struct DroverExportBook DroverExportBook;

/* Neither JOURNAL nor SERVER is owned. */
DroverExportBook *drover_export_book_new(DroverJournal *journal, DroverNbdServer *server);
void drover_export_book_free(DroverExportBook *book);

/* Opens at the server what the journal says is open; after a start. What cannot be opened is logged and stays; what has no
 * device_path any more is not tried. */
void drover_export_book_restore(DroverExportBook *book, GPtrArray *records);

/*
 * Opens RECORD->generation of a volume. With the same generation open already its token stays; *TOKEN is newly allocated.
 * FENCED when a newer generation is or was open.
 */
bool drover_export_book_open(DroverExportBook *book, const DroverExportRecord *record, char **token, GError **error);

/* Ends writing of GENERATION (and older). The record stays, for read-back. An unknown volume is success. */
bool drover_export_book_close(DroverExportBook *book, const char *volume_id, uint64_t generation, GError **error);

/* Ends writing and forgets the volume: its device is about to go. */
bool drover_export_book_forget(DroverExportBook *book, const char *volume_id, GError **error);

/* What the NBD server serves: DroverExportStat with a free function; see drover_nbd_server_stat. */
GArray *drover_export_book_served(DroverExportBook *book, GError **error);
/* Opens at the server, on the device PATH, what the book has open and the server lost. An unknown or closed volume is success. */
bool drover_export_book_reopen(DroverExportBook *book, const char *volume_id, const char *path, GError **error);
/* Ends at the server what the book does not have open: GENERATION and older of a volume. */
bool drover_export_book_end(DroverExportBook *book, const char *volume_id, uint64_t generation, GError **error);

/* A copy of the record of VOLUME_ID, or NULL. */
DroverExportRecord *drover_export_book_find(DroverExportBook *book, const char *volume_id);
/* Copies of all, DroverExportRecord with a free function. */
GPtrArray *drover_export_book_list(DroverExportBook *book);

#endif
