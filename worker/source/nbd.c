/* SPDX-License-Identifier: Apache-2.0 */
/* A foreign NBD server as source. We start nothing and lock nothing; the submitter vouches that nobody writes. */
#include <libnbd.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "worker/source/source.h"

#define CONNECT_TIMEOUT_MS 30000

typedef struct {
    DroverSource source;
    char *uri;
    char *bitmap; /* "" for none */
    GCancellable *cancel;
} NbdSource;

static bool uri_is_acceptable(const char *uri, GError **error)
{
    bool known = g_str_has_prefix(uri, "nbd://") || g_str_has_prefix(uri, "nbd+unix://");
    if (!known)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-KIND: the source's address must begin with nbd:// or nbd+unix://");
    const char *authority = strstr(uri, "://") + 3;
    size_t len = strcspn(authority, "/?#");
    return memchr(authority, '@', len) == NULL ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-KIND: the source's address must not carry credentials");
}

static void nbd_source_close(DroverSource *source)
{
    NbdSource *nbd = (NbdSource *)source;
    drover_source_identity_clear(&source->identity);
    g_free(source->endpoint.uri);
    g_free(source->endpoint.socket_path);
    g_free(source->format);
    g_free(nbd->uri);
    g_free(nbd->bitmap);
    g_clear_object(&nbd->cancel);
    g_free(nbd);
}

static bool connect_within(struct nbd_handle *handle, const char *uri, const char *context, int timeout_ms)
{
    int64_t deadline = drover_boottime_ms() + timeout_ms;
    if (nbd_set_uri_allow_local_file(handle, false) < 0 ||
        nbd_set_uri_allow_transports(handle, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
        nbd_add_meta_context(handle, context) < 0 || nbd_aio_connect_uri(handle, uri) < 0)
        return false;
    while (!nbd_aio_is_ready(handle)) {
        int64_t left = deadline - drover_boottime_ms();
        if (nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle) || left <= 0 || nbd_poll(handle, (int)left) < 0)
            return false;
    }
    return true;
}

/* Size and abilities of the export, over a connection of its own. */
static bool look(const char *uri, uint64_t *size, bool *extents, GError **error)
{
    struct nbd_handle *handle = nbd_create();
    if (handle == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-MEMORY: no memory for an NBD connection");
    int64_t found = connect_within(handle, uri, LIBNBD_CONTEXT_BASE_ALLOCATION, CONNECT_TIMEOUT_MS) ? nbd_get_size(handle) : -1;
    bool ok = found >= 0;
    if (ok) {
        *size = (uint64_t)found;
        *extents = nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
        nbd_shutdown(handle, 0);
    } else {
        const char *text = nbd_get_error();
        g_autofree char *cause = drover_redact(text == NULL ? "no answer in time" : text);
        g_autofree char *where = drover_redact(uri);
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-UNREACHABLE: cannot open %s: %s", where, cause);
    }
    nbd_close(handle);
    return ok;
}

/* As found when opened: the copy engine compares the size again at every connection. */
static bool nbd_source_identity(DroverSource *source, DroverSourceIdentity *out, GError **error)
{
    (void)error;
    drover_source_identity_copy(out, &source->identity);
    return true;
}

static DroverSource *nbd_source_open(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error)
{
    if (!uri_is_acceptable(spec->uri, error))
        return NULL;
    if (!spec->vouched_frozen) {
        drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-SOURCE-NOT-FROZEN: somebody may write to the NBD source while it is copied; stop the writer and "
            "submit the source as frozen");
        return NULL;
    }
    NbdSource *nbd = g_new0(NbdSource, 1);
    g_autoptr(DroverSource) source = &nbd->source;
    source->kind = &drover_source_nbd;
    source->format = g_strdup("raw");
    source->frozen = true;
    nbd->uri = g_strdup(spec->uri);
    nbd->bitmap = g_strdup(spec->dirty_bitmap);
    nbd->cancel = context->cancel == NULL ? NULL : g_object_ref(context->cancel);
    source->identity.kind = g_strdup("nbd");
    source->identity.device_inode = g_strdup("");
    source->identity.change_id = g_strdup(spec->dirty_bitmap);
    if (!look(nbd->uri, &source->identity.file_size_bytes, &source->endpoint.extents, error))
        return NULL;
    return g_steal_pointer(&source);
}

static bool nbd_source_inspect(DroverSource *source, GError **error)
{
    return source->identity.file_size_bytes > 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-TRUNCATED: the NBD source has no content");
}

static bool nbd_source_serve(DroverSource *source, GError **error)
{
    (void)error;
    source->capacity_bytes = source->identity.file_size_bytes;
    source->endpoint.uri = g_strdup(((NbdSource *)source)->uri);
    return true;
}

/* ---- changed areas: the bitmap is a meta context of the export; flag 1 means dirty */

#define ASK_BYTES (UINT64_C(1) << 30)
#define DIRTY 1u

typedef struct {
    const char *context;
    GArray *areas; /* DroverRange, merged */
    uint64_t end;  /* of what was answered so far */
    uint64_t size;
} Areas;

static void add_area(GArray *areas, uint64_t offset, uint64_t length)
{
    DroverRange *last = areas->len > 0 ? &g_array_index(areas, DroverRange, areas->len - 1) : NULL;
    if (last != NULL && last->offset + last->length == offset) {
        last->length += length;
        return;
    }
    DroverRange area = {offset, length};
    g_array_append_val(areas, area);
}

static int on_extents(void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    Areas *areas = data;
    (void)error;
    if (strcmp(context, areas->context) != 0 || offset != areas->end)
        return 0;
    for (size_t i = 0; i + 1 < n && areas->end < areas->size; i += 2) {
        uint64_t length = MIN(entries[i], areas->size - areas->end);
        if ((entries[i + 1] & DIRTY) != 0 && length > 0)
            add_area(areas->areas, areas->end, length);
        areas->end += length;
    }
    return 0;
}

static bool ask_areas(const NbdSource *nbd, struct nbd_handle *handle, Areas *areas, GError **error)
{
    while (areas->end < areas->size) {
        uint64_t before = areas->end;
        nbd_extent_callback callback = {.callback = on_extents, .user_data = areas};
        if (g_cancellable_set_error_if_cancelled(nbd->cancel, error))
            return false;
        if (nbd_block_status(handle, MIN(ASK_BYTES, areas->size - before), before, callback, 0) < 0 ||
            areas->end == before) {
            const char *text = nbd_get_error();
            return drover_fail(error, DROVER_ERROR_RETRYABLE,
                               "DRV-SOURCE-IO: the NBD source does not tell what dirty bitmap %s holds at byte "
                               "%" G_GUINT64_FORMAT ": %s",
                               nbd->bitmap, before, text == NULL ? "an empty answer" : text);
        }
    }
    return true;
}

/* The bitmap is named by the task, so SINCE only has to show that the round before was recorded. */
static bool nbd_changed_areas(DroverSource *source, const char *since, GArray *ranges, GError **error)
{
    const NbdSource *nbd = (const NbdSource *)source;
    if (*nbd->bitmap == '\0' || since == NULL || *since == '\0')
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-NO-CHANGE-TRACKING: no dirty bitmap is known for this NBD source");
    struct nbd_handle *handle = nbd_create();
    if (handle == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-MEMORY: no memory for an NBD connection");
    g_autofree char *context = g_strconcat("qemu:dirty-bitmap:", nbd->bitmap, NULL);
    Areas areas = {.context = context, .areas = ranges, .size = source->identity.file_size_bytes};
    bool ok = connect_within(handle, nbd->uri, context, CONNECT_TIMEOUT_MS);
    if (!ok) {
        g_autofree char *where = drover_redact(nbd->uri);
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-UNREACHABLE: cannot open %s again", where);
    } else if (nbd_can_meta_context(handle, context) != 1) {
        ok = drover_fail(error, DROVER_ERROR_PERMANENT,
                         "DRV-SOURCE-CHANGE-ID: the NBD source does not offer dirty bitmap %s", nbd->bitmap);
    } else {
        ok = ask_areas(nbd, handle, &areas, error);
    }
    nbd_close(handle);
    return ok;
}

const DroverSourceKind drover_source_nbd = {
    .name = "nbd",
    .open = nbd_source_open,
    .inspect = nbd_source_inspect,
    .serve = nbd_source_serve,
    .identity = nbd_source_identity,
    .alive = NULL,
    .changed_areas = nbd_changed_areas,
    .close = nbd_source_close,
};
