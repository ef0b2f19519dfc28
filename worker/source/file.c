/* SPDX-License-Identifier: Apache-2.0 */
/* Image files. The file is opened once; checks, locks and the child that serves it all use that one open file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "worker/source/child.h"
#include "worker/source/image.h"
#include "worker/source/lock.h"
#include "worker/source/source.h"

#define CHILD_TIMEOUT_MS 30000 /* a loaded machine may take seconds to start qemu-nbd on a large table */

typedef struct {
    DroverSource source;
    int fd;
    char *path;
    DroverSourceSpec expected; /* size and digest only */
    uint64_t header_capacity;  /* by the image's header, 0: not known */
    bool structure_ok;
    char *socket_dir;
    unsigned connections;
    GCancellable *cancel;
    DroverNbdChild *child;
} FileSource;

static bool open_failed(GError **error, const char *path, int failure)
{
    switch (failure) {
    case ENOENT:
    case ENOTDIR:
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-MISSING: %s does not exist on the worker's host; check the path, and that the "
                           "directory is mounted on every worker of the site",
                           path);
    case EACCES:
    case EPERM:
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-PERMISSION: the worker may not read %s; let its user read the file", path);
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO:
    case ENODEV:
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-KIND: %s cannot be opened as a file: %s", path,
                           g_strerror(failure));
    default:
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-IO: cannot open %s: %s", path,
                           g_strerror(failure));
    }
}

static bool path_is_allowed(int fd, const char *path, const char *const *roots, GError **error)
{
    if (roots == NULL || roots[0] == NULL)
        return true;
    char name[32], real[PATH_MAX];
    g_snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, real, sizeof real - 1);
    real[n > 0 ? n : 0] = '\0';
    for (size_t i = 0; roots[i] != NULL; i++) {
        g_autofree char *root = realpath(roots[i], NULL);
        size_t len = root == NULL ? 0 : strlen(root);
        if (len > 0 && strncmp(real, root, len) == 0 && (real[len] == '/' || root[len - 1] == '/'))
            return true;
    }
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-PERMISSION: %s lies outside the directories that [worker] file-roots allows", path);
}

static void fill_identity(const struct stat *st, DroverSourceIdentity *out)
{
    drover_source_identity_clear(out);
    out->kind = g_strdup("file");
    out->device_inode = g_strdup_printf("%ju:%ju", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
    out->file_size_bytes = (uint64_t)st->st_size;
    out->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    out->change_id = g_strdup("");
}

static int open_regular(const char *path, struct stat *st, GError **error)
{
    if (!g_path_is_absolute(path)) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-MISSING: \"%s\" is not an absolute path; workers do not share your directory", path);
        return -1;
    }
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, st) < 0) {
        open_failed(error, path, errno);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(st->st_mode)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-KIND: %s is %s, not a regular file", path,
                    S_ISDIR(st->st_mode) ? "a directory" : S_ISBLK(st->st_mode) ? "a block device" : "something else");
        close(fd);
        return -1;
    }
    return fd;
}

static void file_close(DroverSource *source)
{
    FileSource *file = (FileSource *)source;
    drover_nbd_child_stop(file->child);
    if (file->fd >= 0)
        close(file->fd);
    drover_source_identity_clear(&source->identity);
    g_free(source->format);
    g_free(source->endpoint.socket_path);
    g_free(source->endpoint.uri);
    drover_source_spec_clear(&file->expected);
    g_clear_object(&file->cancel);
    g_free(file->path);
    g_free(file->socket_dir);
    g_free(file);
}

/* Puts the file's name behind the code of an error that does not name it: "DRV-X: /path: ...". Always returns false. */
static bool name_file(const FileSource *file, GError **error)
{
    if (error == NULL || *error == NULL || (*error)->domain != DROVER_ERROR ||
        strstr((*error)->message, file->path) != NULL)
        return false;
    g_autofree char *code = drover_error_code((*error)->message);
    const char *rest = *code == '\0' ? (*error)->message : (*error)->message + strlen(code) + strlen(": ");
    g_autofree char *named = g_strdup_printf("%s%s%s: %s", code, *code == '\0' ? "" : ": ", file->path, rest);
    g_free((*error)->message);
    (*error)->message = g_steal_pointer(&named);
    return false;
}

static DroverSource *file_open(const DroverSourceSpec *spec, const DroverSourceContext *context, GError **error)
{
    struct stat st = {0};
    int fd = open_regular(spec->path, &st, error);
    if (fd < 0)
        return NULL;
    FileSource *file = g_new0(FileSource, 1);
    g_autoptr(DroverSource) source = &file->source;
    source->kind = &drover_source_file;
    file->fd = fd;
    file->path = g_strdup(spec->path);
    file->socket_dir = g_strdup(context->socket_dir);
    file->connections = context->connections;
    file->cancel = context->cancel == NULL ? NULL : g_object_ref(context->cancel);
    file->expected.has_expected_size = spec->has_expected_size;
    file->expected.expected_size_bytes = spec->expected_size_bytes;
    file->expected.expected_sha256 = g_strdup(spec->expected_sha256);
    fill_identity(&st, &source->identity);
    if (!path_is_allowed(fd, spec->path, context->file_roots, error))
        return NULL;
    bool locked;
    if (!drover_source_lock(fd, spec->path, &locked, error))
        return NULL;
    if (st.st_size == 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-TRUNCATED: %s is empty", spec->path);
        return NULL;
    }
    const char *format = drover_image_format(fd, (uint64_t)st.st_size, spec->format, error);
    if (format == NULL) {
        name_file(file, error);
        return NULL;
    }
    source->format = g_strdup(format);
    source->frozen = true;
    return g_steal_pointer(&source);
}

static bool check_structure(FileSource *file, GError **error)
{
    if (!file->structure_ok)
        file->structure_ok =
            drover_image_check_structure(file->fd, file->source.identity.file_size_bytes, file->source.format,
                                         &file->header_capacity, file->cancel, error);
    return file->structure_ok;
}

static bool inspect(FileSource *file, GError **error)
{
    DroverSource *source = &file->source;
    uint64_t size = source->identity.file_size_bytes;
    if (file->expected.has_expected_size && file->expected.expected_size_bytes != size)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s: %s has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                           " were expected at submission; copy the image again",
                           size < file->expected.expected_size_bytes ? "DRV-SOURCE-TRUNCATED" : "DRV-SOURCE-SIZE",
                           file->path, size, file->expected.expected_size_bytes);
    return check_structure(file, error) && drover_image_check_qemu(file->fd, source->format, file->cancel, error) &&
           (*file->expected.expected_sha256 == '\0' ||
            drover_image_check_sha256(file->fd, size, file->expected.expected_sha256, file->cancel, error));
}

static bool file_inspect(DroverSource *source, GError **error)
{
    FileSource *file = (FileSource *)source;
    return inspect(file, error) || name_file(file, error);
}

static bool serve(FileSource *file, GError **error)
{
    DroverSource *source = &file->source;
    /* The structure must have passed before QEMU opens the image, here or where the very same file was inspected. */
    if (!source->believed && !check_structure(file, error))
        return false;
    file->child = drover_nbd_child_start(file->fd, source->format, file->connections, file->socket_dir, error);
    if (file->child == NULL ||
        !drover_nbd_child_size(file->child, CHILD_TIMEOUT_MS, &source->capacity_bytes, error))
        return false;
    if (file->header_capacity > source->capacity_bytes)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-FORMAT: QEMU serves only %" G_GUINT64_FORMAT " of the %" G_GUINT64_FORMAT
                           " bytes that the header of %s promises; convert the image to qcow2",
                           source->capacity_bytes, file->header_capacity, file->path);
    source->endpoint.socket_path = g_strdup(drover_nbd_child_socket(file->child));
    source->endpoint.extents = drover_image_has_extents(source->format);
    return true;
}

static bool file_serve(DroverSource *source, GError **error)
{
    FileSource *file = (FileSource *)source;
    return serve(file, error) || name_file(file, error);
}

/* Both the name and the open file are asked: the name finds a replaced file, the open file one that is written to. */
static bool file_identity(DroverSource *source, DroverSourceIdentity *out, GError **error)
{
    FileSource *file = (FileSource *)source;
    struct stat named, opened;
    if (stat(file->path, &named) < 0)
        return open_failed(error, file->path, errno);
    if (fstat(file->fd, &opened) < 0)
        return open_failed(error, file->path, errno);
    fill_identity(named.st_ino == opened.st_ino && named.st_dev == opened.st_dev ? &opened : &named, out);
    return true;
}

static bool file_alive(DroverSource *source, GError **error)
{
    FileSource *file = (FileSource *)source;
    return file->child == NULL || drover_nbd_child_alive(file->child, error) || name_file(file, error);
}

const DroverSourceKind drover_source_file = {
    .name = "file",
    .open = file_open,
    .inspect = file_inspect,
    .serve = file_serve,
    .identity = file_identity,
    .alive = file_alive,
    .changed_areas = NULL,
    .close = file_close,
};
