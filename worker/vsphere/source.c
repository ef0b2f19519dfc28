/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/source.h"

#include <string.h>

#include "lib/base/error.h"
#include "worker/vsphere/pool.h"
#include "worker/vsphere/thumbprint.h"
#include "worker/vsphere/vddk.h"

#define CHILD_TIMEOUT_MS 180000 /* vCenter, host and NFC each take their time when they are busy */
#define HTTPS_PORT 443

typedef struct {
    DroverSource source;
    const DroverVsphereSources *with;
    DroverSourceSpec spec; /* the vsphere fields */
    char *socket_dir;
    GCancellable *cancel;
    DroverVddkChild *child;
} VsphereSource;

static const DroverVsphereDisk *find_disk(const GPtrArray *disks, int32_t key)
{
    for (guint i = 0; i < disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(disks, i);
        if (disk->key == key)
            return disk;
    }
    return NULL;
}

/* The disks of the snapshot, ours in *DISK. Asked again at each start: Storage vMotion moves the files. */
static GPtrArray *look(const VsphereSource *vsphere, DroverVcenterSession *session, const DroverVsphereDisk **disk,
                       GError **error)
{
    const DroverSourceSpec *spec = &vsphere->spec;
    g_autoptr(GPtrArray) disks =
        drover_vsphere_snapshot_disks(session->vsphere, spec->snapshot_moref, vsphere->cancel, error);
    if (disks == NULL)
        return NULL;
    *disk = find_disk(disks, spec->disk_key);
    if (*disk == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-MISSING: snapshot %s of VM %s has no disk with key %d; it was removed from the VM",
                    spec->snapshot_moref, spec->vm_moref, spec->disk_key);
        return NULL;
    }
    return g_steal_pointer(&disks);
}

static void vsphere_close(DroverSource *source)
{
    VsphereSource *vsphere = (VsphereSource *)source;
    drover_vddk_stop(vsphere->child);
    drover_source_identity_clear(&source->identity);
    drover_source_spec_clear(&vsphere->spec);
    g_free(source->endpoint.socket_path);
    g_free(source->endpoint.uri);
    g_free(source->format);
    g_free(vsphere->socket_dir);
    g_clear_object(&vsphere->cancel);
    g_free(vsphere);
}

static void fill_identity(const DroverSourceSpec *spec, const DroverVsphereDisk *disk, DroverSourceIdentity *out)
{
    drover_source_identity_clear(out);
    out->kind = g_strdup("vsphere");
    out->device_inode = g_strdup_printf("%s:%d", spec->vm_uuid, spec->disk_key);
    out->change_id = g_strdup(disk->change_id);
    out->file_size_bytes = disk->capacity_bytes;
}

static DroverSource *vsphere_open(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error)
{
    VsphereSource *vsphere = g_new0(VsphereSource, 1);
    g_autoptr(DroverSource) source = &vsphere->source;
    source->kind = &drover_source_vsphere;
    source->format = g_strdup("vmdk");
    source->frozen = true;
    vsphere->with = context->vsphere;
    vsphere->socket_dir = g_strdup(context->socket_dir);
    vsphere->cancel = context->cancel == NULL ? NULL : g_object_ref(context->cancel);
    vsphere->spec = (DroverSourceSpec){
        .type = spec->type,
        .vcenter = g_strdup(spec->vcenter),
        .vm_moref = g_strdup(spec->vm_moref),
        .vm_uuid = g_strdup(spec->vm_uuid),
        .disk_key = spec->disk_key,
        .snapshot_moref = g_strdup(spec->snapshot_moref),
    };
    g_autoptr(DroverVcenterSession) session =
        drover_vcenter_pool_borrow(vsphere->with->vcenters, spec->vcenter, vsphere->cancel, error);
    const DroverVsphereDisk *disk = NULL;
    g_autoptr(GPtrArray) disks = session == NULL ? NULL : look(vsphere, session, &disk, error);
    if (disks == NULL)
        return NULL;
    fill_identity(spec, disk, &source->identity);
    return g_steal_pointer(&source);
}

static bool vsphere_inspect(DroverSource *source, GError **error)
{
    return source->identity.file_size_bytes > 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-TRUNCATED: disk %d of VM %s has no capacity",
                       ((VsphereSource *)source)->spec.disk_key, ((VsphereSource *)source)->spec.vm_moref);
}

static DroverVddkChild *start_child(const VsphereSource *vsphere, const DroverVcenter *vcenter,
                                    const DroverVsphereDisk *disk, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(vcenter->url, G_URI_FLAGS_NONE, error);
    g_autofree char *thumbprint = uri == NULL ? NULL : drover_vcenter_thumbprint(vcenter, vsphere->cancel, error);
    g_autofree char *libdir =
        thumbprint == NULL ? NULL : drover_vddk_libdir(vcenter->vddk_libdir, drover_vddk_usual_libdirs, error);
    if (libdir == NULL)
        return NULL;
    int port = g_uri_get_port(uri);
    DroverVddkParameters parameters = {
        .program = vsphere->with->nbdkit,
        .plugin = vsphere->with->vddk_plugin,
        .libdir = libdir,
        .server = g_uri_get_host(uri),
        .port = port > 0 && port != HTTPS_PORT ? port : 0,
        .user = vcenter->user,
        .thumbprint = thumbprint,
        .vm = vsphere->spec.vm_moref,
        .snapshot = vsphere->spec.snapshot_moref,
        .file = disk->backing_path,
        .transports = vcenter->transports,
        .compression = vcenter->compression,
        .single_link = vcenter->single_link,
        .unbuffered = vcenter->unbuffered,
    };
    return drover_vddk_start(&parameters, vcenter->password, vsphere->socket_dir, error);
}

static bool vsphere_serve(DroverSource *source, GError **error)
{
    VsphereSource *vsphere = (VsphereSource *)source;
    g_autoptr(DroverVcenterSession) session =
        drover_vcenter_pool_borrow(vsphere->with->vcenters, vsphere->spec.vcenter, vsphere->cancel, error);
    const DroverVsphereDisk *disk = NULL;
    g_autoptr(GPtrArray) disks = session == NULL ? NULL : look(vsphere, session, &disk, error);
    if (disks == NULL)
        return false;
    vsphere->child = start_child(vsphere, session->vcenter, disk, error);
    g_clear_pointer(&session, drover_vcenter_session_give_back);
    if (vsphere->child == NULL || !drover_vddk_wait(vsphere->child, CHILD_TIMEOUT_MS, vsphere->cancel,
                                                    &source->capacity_bytes, &source->endpoint.extents, error))
        return false;
    if (source->capacity_bytes != disk->capacity_bytes)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-SIZE: nbdkit serves %" G_GUINT64_FORMAT " bytes of %s, vCenter says "
                           "%" G_GUINT64_FORMAT,
                           source->capacity_bytes, disk->backing_path, disk->capacity_bytes);
    source->endpoint.socket_path = g_strdup(drover_vddk_socket(vsphere->child));
    return true;
}

/* As found when opened: a snapshot does not change, and reading ends when it goes. */
static bool vsphere_identity(DroverSource *source, DroverSourceIdentity *out, GError **error)
{
    (void)error;
    drover_source_identity_copy(out, &source->identity);
    return true;
}

static bool vsphere_alive(DroverSource *source, GError **error)
{
    VsphereSource *vsphere = (VsphereSource *)source;
    return vsphere->child == NULL || drover_vddk_alive(vsphere->child, error);
}

static bool ask_areas(const VsphereSource *vsphere, const char *since, GArray *areas, GError **error)
{
    const DroverSourceSpec *spec = &vsphere->spec;
    g_autoptr(DroverVcenterSession) session =
        drover_vcenter_pool_borrow(vsphere->with->vcenters, spec->vcenter, vsphere->cancel, error);
    return session != NULL &&
           drover_vsphere_changed_areas(session->vsphere, spec->vm_moref, spec->snapshot_moref, spec->disk_key, since,
                                        vsphere->source.identity.file_size_bytes, areas, vsphere->cancel, error);
}

/* Ids are compared here first: an id of another tracking epoch is not an error that every vCenter reports. */
static bool vsphere_changed_areas(DroverSource *source, const char *since, GArray *areas, GError **error)
{
    const VsphereSource *vsphere = (const VsphereSource *)source;
    const char *now = source->identity.change_id;
    if (*now == '\0' || since == NULL || *since == '\0')
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-NO-CHANGE-TRACKING: %s disk %d of VM %s has no change id",
                           *now == '\0' ? "this snapshot of" : "the round before over", vsphere->spec.disk_key,
                           vsphere->spec.vm_moref);
    if (!drover_vsphere_change_id_same_epoch(since, now))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-CHANGE-ID: change tracking of disk %d of VM %s was begun anew since the round "
                           "before, or its change id is from elsewhere",
                           vsphere->spec.disk_key, vsphere->spec.vm_moref);
    return ask_areas(vsphere, since, areas, error);
}

static bool vsphere_used_bytes(DroverSource *source, uint64_t *bytes, GError **error)
{
    if (*source->identity.change_id == '\0')
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-NO-CHANGE-TRACKING: the disk has no change id");
    g_autoptr(GArray) areas = g_array_new(false, false, sizeof(DroverRange));
    if (!ask_areas((const VsphereSource *)source, "*", areas, error))
        return false;
    *bytes = 0;
    for (guint i = 0; i < areas->len; i++)
        *bytes += g_array_index(areas, DroverRange, i).length;
    return true;
}

const DroverSourceKind drover_source_vsphere = {
    .name = "vsphere",
    .open = vsphere_open,
    .inspect = vsphere_inspect,
    .serve = vsphere_serve,
    .identity = vsphere_identity,
    .alive = vsphere_alive,
    .changed_areas = vsphere_changed_areas,
    .used_bytes = vsphere_used_bytes,
    .close = vsphere_close,
};
