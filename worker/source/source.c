/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/source.h"

#include <string.h>

#include "lib/base/error.h"

void drover_source_spec_clear(DroverSourceSpec *spec)
{
    g_free(spec->path);
    g_free(spec->format);
    g_free(spec->expected_sha256);
    g_free(spec->uri);
    g_free(spec->dirty_bitmap);
    g_free(spec->vcenter);
    g_free(spec->vm_moref);
    g_free(spec->vm_uuid);
    g_free(spec->snapshot_moref);
    memset(spec, 0, sizeof *spec);
}

void drover_source_identity_clear(DroverSourceIdentity *identity)
{
    g_free(identity->kind);
    g_free(identity->device_inode);
    g_free(identity->change_id);
    memset(identity, 0, sizeof *identity);
}

void drover_source_identity_copy(DroverSourceIdentity *to, const DroverSourceIdentity *from)
{
    DroverSourceIdentity copy = *from;
    copy.kind = g_strdup(from->kind);
    copy.device_inode = g_strdup(from->device_inode);
    copy.change_id = g_strdup(from->change_id);
    drover_source_identity_clear(to);
    *to = copy;
}

static const char *inode_of(const DroverSourceIdentity *identity)
{
    const char *colon = strcmp(identity->kind, "file") == 0 ? strrchr(identity->device_inode, ':') : NULL;
    return colon == NULL ? identity->device_inode : colon + 1;
}

bool drover_source_identity_equal(const DroverSourceIdentity *a, const DroverSourceIdentity *b, char **why)
{
    g_autofree char *text = NULL;
    if (strcmp(a->kind, b->kind) != 0)
        text = g_strdup_printf("it is of kind %s now, it was %s", b->kind, a->kind);
    else if (strcmp(inode_of(a), inode_of(b)) != 0)
        text = g_strdup("another file or disk has taken its place");
    else if (a->file_size_bytes != b->file_size_bytes)
        text = g_strdup_printf("its size is %" G_GUINT64_FORMAT " bytes now, it was %" G_GUINT64_FORMAT,
                               b->file_size_bytes, a->file_size_bytes);
    else if (a->mtime_ns != b->mtime_ns)
        text = g_strdup("it has been written to (its modification time differs)");
    else if (strcmp(a->change_id, b->change_id) != 0)
        text = g_strdup("its change id differs");
    else
        return true;
    if (why != NULL)
        *why = g_steal_pointer(&text);
    return false;
}

DroverSource *drover_source_open(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error)
{
    switch (spec->type) {
    case DROVER_SOURCE_FILE:
        return drover_source_file.open(spec, context, error);
    case DROVER_SOURCE_NBD:
        return drover_source_nbd.open(spec, context, error);
    case DROVER_SOURCE_VSPHERE:
        if (context->vsphere != NULL)
            return context->vsphere->kind->open(spec, context, error);
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-KIND: this worker knows no vCenter; name its file of vCenters in [vsphere] vcenters");
        return NULL;
    }
    drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-KIND: this worker does not know the kind of the source");
    return NULL;
}

bool drover_source_inspect(DroverSource *source, GError **error)
{
    return source->kind->inspect(source, error);
}

bool drover_source_serve(DroverSource *source, GError **error)
{
    return source->kind->serve(source, error);
}

bool drover_source_verify(DroverSource *source, const DroverSourceIdentity *wanted, GError **error)
{
    DroverSourceIdentity now = {0};
    if (!source->kind->identity(source, &now, error))
        return false;
    g_autofree char *why = NULL;
    bool equal = drover_source_identity_equal(wanted, &now, &why);
    drover_source_identity_clear(&now);
    return equal || drover_fail(error, DROVER_ERROR_PERMANENT,
                                "DRV-SOURCE-CHANGED: the source has changed since the job looked at it first: %s; stop "
                                "whatever writes to it and submit the migration again",
                                why);
}

bool drover_source_alive(DroverSource *source, GError **error)
{
    return source->kind->alive == NULL || source->kind->alive(source, error);
}

bool drover_source_changed_areas(DroverSource *source, const char *change_id, GArray *ranges, GError **error)
{
    if (source->kind->changed_areas == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-NO-CHANGE-TRACKING: a source of kind %s does not know what has changed",
                           source->kind->name);
    return source->kind->changed_areas(source, change_id, ranges, error);
}

bool drover_source_used_bytes(DroverSource *source, uint64_t *bytes, GError **error)
{
    if (source->kind->used_bytes == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-NO-CHANGE-TRACKING: a source of kind %s keeps no account of what is in use",
                           source->kind->name);
    return source->kind->used_bytes(source, bytes, error);
}

void drover_source_close(DroverSource *source)
{
    if (source != NULL)
        source->kind->close(source);
}
