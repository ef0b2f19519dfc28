/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit plugin: serves the volumes that the agent has opened over the control socket, each to whoever knows generation
 * and token. Nothing is listed, there is no default export.
 *
 *   nbdkit --foreground --exit-with-parent --threads=1 nbdkit-drover-plugin.so control=SOCKET
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "volume-agent/device/open.h"
#include "volume-agent/plugin/control.h"
#include "volume-agent/plugin/exports.h"
#include "volume-agent/plugin/punch.h"

/* nbdkit 1.32 aborts when a client dies while answers of several threads are on their way to it. Requests of one
 * connection in turn avoid that; clients open several connections. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS

static char *control_path;

static int drover_config(const char *key, const char *value)
{
    if (strcmp(key, "control") != 0) {
        nbdkit_error("unknown parameter '%s'", key);
        return -1;
    }
    free(control_path);
    control_path = nbdkit_absolute_path(value);
    return control_path ? 0 : -1;
}

static int drover_config_complete(void)
{
    if (control_path)
        return 0;
    nbdkit_error("control=SOCKET is missing: this plugin is started by drover-volume-agent");
    return -1;
}

static int drover_after_fork(void)
{
    int err = control_start(control_path);
    if (err) {
        nbdkit_error("control socket %s: %s", control_path, strerror(err));
        return -1;
    }
    return 0;
}

static void drover_unload(void)
{
    control_stop();
    exports_clear();
    free(control_path);
}

/* Present and empty, so that NBD_OPT_LIST answers with nothing. */
static int drover_list_exports(int readonly, int is_tls, struct nbdkit_exports *list)
{
    (void)readonly, (void)is_tls, (void)list;
    return 0;
}

static const char *drover_default_export(int readonly, int is_tls)
{
    (void)readonly, (void)is_tls;
    return NULL;
}

static void *drover_open(int readonly)
{
    (void)readonly;
    const char *name = nbdkit_export_name();
    Export *export = name ? exports_acquire(name) : NULL;
    if (!export) {
        nbdkit_error("export refused: unknown volume, generation or token"); /* the name holds the token: not printed */
        nbdkit_set_error(EPERM);
    }
    return export;
}

static void drover_close(void *handle)
{
    exports_release(handle);
}

static int64_t drover_get_size(void *handle)
{
    return (int64_t)export_size(handle);
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int drover_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int drover_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    /* Buffered I/O: any size works, 4 KiB avoids read-modify-write of pages. */
    (void)handle;
    *minimum = 1;
    *preferred = 4096;
    *maximum = 32u << 20;
    return 0;
}

static bool admit(Export *export)
{
    if (exports_admit(export))
        return true;
    nbdkit_error("this generation of the export is closed");
    nbdkit_set_error(ESHUTDOWN);
    return false;
}

static int finish(Export *export, int err, const char *what)
{
    /* The kernel says of a disk that was taken away that it is full, or that the request is wrong. */
    if (err && export_is_block_device(export) && drover_device_is_gone(export_fd(export))) {
        what = "the disk is gone";
        err = EIO;
    }
    exports_done(export);
    if (!err)
        return 0;
    if (err != EOPNOTSUPP)
        nbdkit_error("%s: %s", what, strerror(err));
    nbdkit_set_error(err);
    return -1;
}

static int drover_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    Export *export = handle;
    if (!admit(export))
        return -1;
    export_count(export, EXPORT_READ, count);
    char *p = buffer;
    int err = 0;
    while (count > 0 && !err) {
        ssize_t n = pread(export_fd(export), p, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err = n < 0 ? errno : EIO; /* the end of the device is beyond every admitted request */
            break;
        }
        p += n;
        count -= (uint32_t)n;
        offset += (uint64_t)n;
    }
    return finish(export, err, "read");
}

static int write_all(int fd, const char *p, uint64_t count, uint64_t offset)
{
    while (count > 0) {
        ssize_t n = pwrite(fd, p, count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        p += n;
        count -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int drover_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    Export *export = handle;
    if (!admit(export))
        return -1;
    int err = write_all(export_fd(export), buffer, count, offset);
    if (!err)
        export_count(export, EXPORT_WRITE, count);
    if (!err && flags & NBDKIT_FLAG_FUA)
        err = export_flush(export);
    return finish(export, err, "write");
}

static int drover_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    Export *export = handle;
    if (!admit(export))
        return -1;
    /* EOPNOTSUPP: nbdkit writes zeroes itself, or says so where only the fast way was wanted */
    int err = punch_zeroes(export_fd(export), export_is_block_device(export), offset, count, flags & NBDKIT_FLAG_MAY_TRIM,
                           flags & NBDKIT_FLAG_FAST_ZERO);
    if (!err)
        export_count(export, EXPORT_ZERO, count);
    if (!err && flags & NBDKIT_FLAG_FUA)
        err = export_flush(export);
    return finish(export, err, "zero");
}

static int drover_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    Export *export = handle;
    if (!admit(export))
        return -1;
    int err = punch_away(export_fd(export), export_is_block_device(export), offset, count);
    export_count(export, EXPORT_OTHER, count);
    if (!err && flags & NBDKIT_FLAG_FUA)
        err = export_flush(export);
    return finish(export, err, "trim");
}

static int drover_flush(void *handle, uint32_t flags)
{
    (void)flags;
    Export *export = handle;
    if (!admit(export))
        return -1;
    export_count(export, EXPORT_FLUSH, 0);
    return finish(export, export_flush(export), "flush");
}

static int add_extents(int fd, uint64_t offset, uint64_t end, struct nbdkit_extents *extents, bool one)
{
    while (offset < end) {
        off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
        if (data < 0 && errno != ENXIO) /* no such thing here: everything is data */
            return nbdkit_add_extent(extents, offset, end - offset, 0) < 0 ? errno : 0;
        uint64_t data_start = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
        if (data_start > offset &&
            nbdkit_add_extent(extents, offset, data_start - offset, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) < 0)
            return errno;
        if (data_start >= end || (one && data_start > offset))
            return 0;
        off_t hole = lseek(fd, (off_t)data_start, SEEK_HOLE);
        uint64_t data_end = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        if (nbdkit_add_extent(extents, data_start, data_end - data_start, 0) < 0)
            return errno;
        if (one)
            return 0;
        offset = data_end;
    }
    return 0;
}

static int drover_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents *extents)
{
    Export *export = handle;
    if (!admit(export))
        return -1;
    uint64_t end = offset + count;
    int err = add_extents(export_fd(export), offset, end, extents, flags & NBDKIT_FLAG_REQ_ONE);
    export_count(export, EXPORT_OTHER, count);
    return finish(export, err, "extents");
}

static struct nbdkit_plugin plugin = {
    .name = "drover",
    .longname = "Drover volume exports",
    .version = DROVER_VERSION,
    .description = "Serves the volumes that drover-volume-agent has opened, fenced by generation and token",
    .config = drover_config,
    .config_complete = drover_config_complete,
    .config_help = "control=SOCKET  (required) Unix socket for drover-volume-agent",
    .after_fork = drover_after_fork,
    .unload = drover_unload,
    .list_exports = drover_list_exports,
    .default_export = drover_default_export,
    .open = drover_open,
    .close = drover_close,
    .get_size = drover_get_size,
    .block_size = drover_block_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fast_zero = yes,
    .can_extents = yes,
    .can_multi_conn = yes,
    .can_fua = drover_can_fua,
    .pread = drover_pread,
    .pwrite = drover_pwrite,
    .flush = drover_flush,
    .trim = drover_trim,
    .zero = drover_zero,
    .extents = drover_extents,
    .errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
