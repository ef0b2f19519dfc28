/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk as written on the command line or in a job file:
 *
 *   file:/path/disk.vmdk[,format=raw|qcow2|vmdk|vhdx|vpc][,size=SIZE][,sha256=HEX]
 *   /path/disk.vmdk                        the same; a relative path is taken from the current directory
 *   nbd://host:port/export[,frozen=yes][,bitmap=NAME]     also nbds:, nbd+unix:, nbds+unix:
 *   vsphere:VCENTER/VM/KEY[,uuid=UUID]     VCENTER: one of the configured; VM: its moref ("vm-12"); KEY: of the disk
 *
 * and for each of them [,id=DISK][,name=VOLUME][,offering=NAME][,target-size=SIZE]. size is that of a raw file: it must
 * have just that when it is read. A comma in a value is written twice.
 */
#ifndef DROVER_CLI_SOURCE_H
#define DROVER_CLI_SOURCE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { DROVER_SOURCE_FILE, DROVER_SOURCE_NBD, DROVER_SOURCE_VSPHERE } DroverSourceKind;

typedef struct {
    DroverSourceKind kind;
    char *path_or_uri; /* vsphere: VCENTER/VM/KEY */
    char *format; /* file; NULL: to be probed */
    char *sha256; /* file; NULL: not given */
    char *bitmap; /* nbd */
    bool frozen;  /* nbd */
    char *vcenter;    /* vsphere */
    char *vm_moref;   /* vsphere */
    char *vm_uuid;    /* vsphere: instance UUID; NULL: not given */
    int32_t disk_key; /* vsphere */
    char *disk_id;
    char *volume_name;
    char *disk_offering;
    uint64_t target_size_bytes;   /* 0: not given */
    uint64_t expected_size_bytes; /* raw file: its size; 0: not given */
} DroverSource;

/* PERMANENT, naming the part that is wrong and what is accepted. *OUT is untouched then. */
bool drover_source_parse(const char *text, DroverSource *out, GError **error);
void drover_source_clear(DroverSource *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverSource, drover_source_clear)

bool drover_source_format_is_known(const char *format);

/* Format by the first bytes of a disk image ("qcow2", "vmdk", "vhdx", "vpc"), NULL when they are none of these. */
const char *drover_source_probe(const void *head, size_t len);

#endif
