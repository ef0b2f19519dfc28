/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a disk is read from. Every kind of source (image file, foreign NBD server, vSphere) stands behind one vtable,
 * DroverSourceKind; the rest of the worker sees sizes, an NBD endpoint, an identity and nothing else.
 *
 * Opening is cheap and looks at nothing but names, locks and headers; inspecting reads as much as it takes to believe
 * the source. Both block. An open source belongs to one thread; drover_source_verify may be called from any thread.
 *
 * Errors carry a code: DRV-SOURCE-MISSING, -PERMISSION, -KIND, -FORMAT, -EXTERNAL, -ENCRYPTED, -TRUNCATED, -CORRUPT,
 * -SIZE, -DIGEST, -CHANGED, -NOT-FROZEN, -VDDK (permanent); -BUSY, -IO, -CHILD, -UNREACHABLE (retryable).
 */
#ifndef DROVER_WORKER_SOURCE_SOURCE_H
#define DROVER_WORKER_SOURCE_SOURCE_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h"

typedef enum { DROVER_SOURCE_FILE = 1, DROVER_SOURCE_NBD = 2, DROVER_SOURCE_VSPHERE = 3 } DroverSourceType;

/* What a task says about its source. Strings are never NULL. */
typedef struct {
    DroverSourceType type;
    char *path;   /* file: absolute */
    char *format; /* file: "raw", "qcow2", "vmdk", "vhdx", "vpc"; "": probed */
    bool has_expected_size;
    uint64_t expected_size_bytes;
    char *expected_sha256; /* file: 64 hex digits, or "" */
    char *uri;             /* nbd: without credentials */
    char *dirty_bitmap;    /* nbd */
    bool vouched_frozen;   /* nbd: the submitter says that nobody writes */
    char *vcenter;         /* vsphere: name of a configured vCenter */
    char *vm_moref;        /* vsphere */
    char *vm_uuid;         /* vsphere */
    int32_t disk_key;      /* vsphere: VirtualDevice.key */
    char *snapshot_moref;  /* vsphere */
} DroverSourceSpec;
void drover_source_spec_clear(DroverSourceSpec *spec);

/* What a source looked like. Strings are never NULL. */
typedef struct {
    char *kind;         /* "file", "nbd", "vsphere" */
    char *device_inode; /* file: "<st_dev>:<st_ino>"; vsphere: "<VM UUID>:<disk key>" */
    uint64_t file_size_bytes;
    int64_t mtime_ns;
    char *change_id;
} DroverSourceIdentity;
void drover_source_identity_clear(DroverSourceIdentity *identity);
void drover_source_identity_copy(DroverSourceIdentity *to, const DroverSourceIdentity *from);
/*
 * True when both name the same content. The device number of files is left out: the same NFS file has another one on
 * every host. On difference *WHY (may be NULL) gets a text for people, newly allocated.
 */
bool drover_source_identity_equal(const DroverSourceIdentity *a, const DroverSourceIdentity *b, char **why);

typedef struct DroverSource DroverSource;
typedef struct DroverSourceKind DroverSourceKind;
typedef struct DroverVcenterPool DroverVcenterPool;

/* How disks of vCenters are read on this worker (worker/vsphere/). */
typedef struct {
    const DroverSourceKind *kind;
    DroverVcenterPool *vcenters;
    const char *nbdkit;      /* program, looked for in PATH */
    const char *vddk_plugin; /* "vddk", or the path of a plugin that takes the same parameters */
} DroverVsphereSources;

/* What the worker lends to a source. */
typedef struct {
    const char *socket_dir;       /* private directory for Unix sockets */
    const char *const *file_roots; /* NULL-terminated; files must lie below one of them; empty: anywhere */
    unsigned connections;         /* how many NBD connections will be made at most */
    GCancellable *cancel;         /* NULL: none */
    const DroverVsphereSources *vsphere; /* NULL: no vCenter is configured */
} DroverSourceContext;

/* An NBD server for the content, as the virtual disk that a VM would see. */
typedef struct {
    char *socket_path;   /* Unix socket; NULL: use uri */
    char *uri;
    bool extents;        /* false: the format knows no holes, all reads as data */
} DroverSourceEndpoint;

struct DroverSourceKind {
    const char *name;
    DroverSource *(*open)(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error);
    bool (*inspect)(DroverSource *source, GError **error);
    bool (*serve)(DroverSource *source, GError **error);
    bool (*identity)(DroverSource *source, DroverSourceIdentity *out, GError **error);
    /* False with an error when the endpoint cannot come back by itself (its child has ended). Does not block. NULL:
     * never. */
    bool (*alive)(DroverSource *source, GError **error);
    /* Areas that differ from what CHANGE_ID named, as DroverRange, sorted. NULL: this kind tracks no changes. */
    bool (*changed_areas)(DroverSource *source, const char *change_id, GArray *ranges, GError **error);
    /* Bytes in use by the source's own account, not by reading it: the total of a full round. NULL: it keeps none. */
    bool (*used_bytes)(DroverSource *source, uint64_t *bytes, GError **error);
    void (*close)(DroverSource *source);
};

/* Head of every source; kinds append their own fields. */
struct DroverSource {
    const DroverSourceKind *kind;
    DroverSourceEndpoint endpoint;  /* valid after serve */
    DroverSourceIdentity identity;  /* as found when opened */
    char *format;                   /* resolved: never "" for files */
    uint64_t capacity_bytes;        /* virtual size; valid after serve */
    bool frozen;
    bool believed; /* set by the caller who proved that this is what was inspected: serve need not look at all tables
                      again */
};

/* Takes locks and reads the identity. */
DroverSource *drover_source_open(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error);
/* Looks at the whole source: nothing missing, nothing damaged, what the submitter expects. Call before serve. */
bool drover_source_inspect(DroverSource *source, GError **error);
/* Starts or checks the NBD endpoint; returns when it answers. CAPACITY_BYTES and ENDPOINT are set then. */
bool drover_source_serve(DroverSource *source, GError **error);
/* Fails with DRV-SOURCE-CHANGED when the source is no longer what WANTED says. Any thread. */
bool drover_source_verify(DroverSource *source, const DroverSourceIdentity *wanted, GError **error);
/* Same thread as serve. Fails with DRV-SOURCE-CHILD when the endpoint is gone for good. Does not block. */
bool drover_source_alive(DroverSource *source, GError **error);
/*
 * Appends to RANGES (DroverRange, sorted and merged) all that differs from the state that CHANGE_ID names; after serve.
 * DRV-SOURCE-NO-CHANGE-TRACKING: this source has no record of changes; DRV-SOURCE-CHANGE-ID: it has, but does not know
 * CHANGE_ID (any more). Both mean that only a comparison of digests can tell; RANGES is undefined then. Blocks.
 */
bool drover_source_changed_areas(DroverSource *source, const char *change_id, GArray *ranges, GError **error);
/* After serve. PERMANENT DRV-SOURCE-NO-CHANGE-TRACKING when the source keeps no account. Blocks. */
bool drover_source_used_bytes(DroverSource *source, uint64_t *bytes, GError **error);
/* Ends the endpoint and its child, releases locks. NULL is allowed. */
void drover_source_close(DroverSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverSource, drover_source_close)

extern const DroverSourceKind drover_source_file;
extern const DroverSourceKind drover_source_nbd;

#endif
