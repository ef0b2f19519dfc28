/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of open exports inside nbdkit, and the fence: a request is admitted only while its export's generation is
 * the current one, and opening a newer generation or closing returns only when no admitted request of the older one
 * is in flight. It never times out into success. Any thread.
 */
#ifndef DROVER_VOLUME_AGENT_PLUGIN_EXPORTS_H
#define DROVER_VOLUME_AGENT_PLUGIN_EXPORTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define DROVER_VOLUME_ID_MAX 64
#define DROVER_TOKEN_MAX 64

typedef struct Export Export;

/*
 * Opens PATH for VOLUME_ID. Returns 0, or an errno with the reason in WHY: ESTALE (a newer generation is or was open),
 * EEXIST (same generation with another token or path), ENOSPC (smaller than MINIMUM_SIZE), or of open(2).
 */
int exports_open(const char *volume_id, uint64_t generation, const char *token, const char *path,
                 uint64_t minimum_size, char *why, size_t why_len);

/* Closes VOLUME_ID up to GENERATION. Nothing to close is success. */
void exports_close(const char *volume_id, uint64_t generation);

/*
 * The export a client asked for by its complete name "migration-vol-<volume_id>@<generation>.<token>", with a reference
 * that exports_release gives back; NULL when name, generation or token is wrong (without telling which).
 */
Export *exports_acquire(const char *name);
void exports_release(Export *export);

/* Admits one request: false when the export was cut off. Each admitted one ends with exports_done. */
bool exports_admit(Export *export);
void exports_done(Export *export);

int export_fd(const Export *export);
uint64_t export_size(const Export *export);
bool export_is_block_device(const Export *export);

/* Brings all that was written to the storage: 0 or an errno. One failure poisons the generation: every later flush of it
 * fails, too, on every connection. For admitted requests. */
int export_flush(Export *export);

typedef enum { EXPORT_READ, EXPORT_WRITE, EXPORT_ZERO, EXPORT_FLUSH, EXPORT_OTHER } ExportRequest;
void export_count(Export *export, ExportRequest kind, uint64_t bytes);

/* One line an open export: "volume generation poisoned written zeroed read requests flushes connections\n". */
void exports_print(FILE *out);

/* Closes all of them, when nbdkit ends. */
void exports_clear(void);

#endif
