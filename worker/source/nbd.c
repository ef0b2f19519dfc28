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
    g_free(nbd);
}

static bool connect_within(struct nbd_handle *handle, const char *uri, int timeout_ms)
{
    int64_t deadline = drover_boottime_ms() + timeout_ms;
    if (nbd_set_uri_allow_local_file(handle, false) < 0 ||
        nbd_set_uri_allow_transports(handle, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
        nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 || nbd_aio_connect_uri(handle, uri) < 0)
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
    int64_t found = connect_within(handle, uri, CONNECT_TIMEOUT_MS) ? nbd_get_size(handle) : -1;
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
    (void)context;
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
    source->identity.kind = g_strdup("nbd");
    source->identity.device_inode = g_strdup("");
    source->identity.change_id = g_strdup("");
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

const DroverSourceKind drover_source_nbd = {
    .name = "nbd",
    .open = nbd_source_open,
    .inspect = nbd_source_inspect,
    .serve = nbd_source_serve,
    .identity = nbd_source_identity,
    .alive = NULL,
    .changed_areas = NULL,
    .close = nbd_source_close,
};
