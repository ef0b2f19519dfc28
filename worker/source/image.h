/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image files: which format, whether whole, what digest. Formats are told by the submitter or by the first bytes; a
 * format given as "raw" is never second-guessed, since the owner of a raw disk can write any header into it.
 */
#ifndef DROVER_WORKER_SOURCE_IMAGE_H
#define DROVER_WORKER_SOURCE_IMAGE_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Format of the image in FD: GIVEN if it is not "", after a check that the content agrees (raw: no check); else by the
 * first bytes, "raw" when nothing matches. A static string. Permanent errors: DRV-SOURCE-FORMAT, DRV-SOURCE-TRUNCATED.
 */
const char *drover_image_format(int fd, uint64_t file_size, const char *given, GError **error);

/* False for formats whose holes QEMU does not report: everything reads as data. */
bool drover_image_has_extents(const char *format);

/*
 * Header and tables alone: refuses images that would make QEMU open other files. Must pass before any QEMU program
 * sees the image. It walks the tables to their end, and so finds cut-off images, too. Blocks on reads.
 * *CAPACITY_BYTES: the size of the virtual disk by the header.
 */
bool drover_image_check_structure(int fd, uint64_t file_size, const char *format, uint64_t *capacity_bytes,
                                  GCancellable *cancel, GError **error);

/* `qemu-img check`, for the formats that have one. Leaked clusters pass, corruptions and failed checks do not. */
bool drover_image_check_qemu(int fd, const char *format, GCancellable *cancel, GError **error);

/* SHA-256 of the whole file against WANTED (64 hex digits): DRV-SOURCE-DIGEST when it differs. */
bool drover_image_check_sha256(int fd, uint64_t file_size, const char *wanted, GCancellable *cancel, GError **error);

/* Pure: the verdict on what `qemu-img check --output=json` printed and its exit status. For tests. */
bool drover_image_judge_check(int exit_status, const char *json, const char *stderr_text, GError **error);

#endif
