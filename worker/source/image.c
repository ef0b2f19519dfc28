/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/source/image.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "worker/source/bytes.h"
#include "worker/source/child.h"
#include "worker/source/qcow2.h"
#include "worker/source/vhd.h"
#include "worker/source/vhdx.h"
#include "worker/source/vmdk.h"

#define HEAD_BYTES 512u
#define HASH_CHUNK (1u << 20)
#define CHILD_FD 4
#define CHILD_FILE "/dev/fd/4"

typedef struct {
    const char *name;
    bool extents;
    bool qemu_check; /* QEMU has a consistency check for it */
    bool (*probe)(const uint8_t *head, size_t len);
} Format;

/* QEMU 7.2 answers block status for neither vhdx nor vpc. */
static const Format formats[] = {
    {"raw", true, false, NULL},
    {"qcow2", true, true, drover_qcow2_probe},
    {"vmdk", true, true, drover_vmdk_probe},
    {"vhdx", false, true, drover_vhdx_probe},
    {"vpc", false, false, drover_vhd_probe},
};

static const Format *format_named(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

const char *drover_image_format(int fd, uint64_t file_size, const char *given, GError **error)
{
    if (*given != '\0' && format_named(given) == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-FORMAT: format \"%s\" is not known; raw, qcow2, vmdk, vhdx and vpc are", given);
        return NULL;
    }
    if (strcmp(given, "raw") == 0)
        return "raw";
    uint8_t head[HEAD_BYTES] = {0};
    size_t len = (size_t)MIN(file_size, HEAD_BYTES);
    if (!drover_image_read(fd, file_size, 0, head, len, "the header", error))
        return NULL;
    const char *found = "raw";
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        if (formats[i].probe != NULL && formats[i].probe(head, len))
            found = formats[i].name;
    if (strcmp(found, "raw") == 0 && drover_vhd_probe_tail(fd, file_size))
        found = "vpc"; /* fixed VHD: raw data and a footer */
    if (*given == '\0' || strcmp(given, found) == 0)
        return found;
    drover_fail(error, DROVER_ERROR_PERMANENT,
                "DRV-SOURCE-FORMAT: the image was submitted as %s, but its content is %s%s", given, found,
                strcmp(found, "raw") == 0 ? " or cut off" : "");
    return NULL;
}

bool drover_image_has_extents(const char *format)
{
    const Format *known = format_named(format);
    return known == NULL || known->extents;
}

bool drover_image_check_structure(int fd, uint64_t file_size, const char *format, uint64_t *capacity_bytes,
                                  GCancellable *cancel, GError **error)
{
    *capacity_bytes = 0;
    if (strcmp(format, "qcow2") == 0) {
        DroverQcow2Info info = {0};
        bool ok = drover_qcow2_check(fd, file_size, &info, cancel, error);
        *capacity_bytes = info.capacity_bytes;
        return ok;
    }
    if (strcmp(format, "vmdk") == 0) {
        DroverVmdkInfo info = {0};
        bool ok = drover_vmdk_check(fd, file_size, &info, cancel, error);
        *capacity_bytes = info.capacity_bytes;
        return ok;
    }
    if (strcmp(format, "vpc") == 0)
        return drover_vhd_check(fd, file_size, capacity_bytes, error);
    if (strcmp(format, "vhdx") == 0)
        return drover_vhdx_check(fd, file_size, capacity_bytes, error);
    if (strcmp(format, "raw") != 0)
        return true;
    *capacity_bytes = file_size;
    return file_size % 512 == 0 ||
           drover_image_truncated(error, "the last sector", file_size / 512 * 512, 512, file_size);
}

bool drover_image_judge_check(int exit_status, const char *json, const char *stderr_text, GError **error)
{
    g_autofree char *said = drover_redact(stderr_text);
    g_strstrip(g_strdelimit(said, "\n\r\t", ' '));
    json_t *root = json_loads(json, 0, NULL);
    json_int_t corruptions = root == NULL ? 0 : json_integer_value(json_object_get(root, "corruptions"));
    json_int_t failures = root == NULL ? 0 : json_integer_value(json_object_get(root, "check-errors"));
    bool answered = json_is_object(root);
    json_decref(root);
    if (!answered)
        return drover_qemu_failed(error, "qemu-img check", said);
    /* 0: fine, 3: leaked clusters only, which cost space and no data */
    if ((exit_status == 0 || exit_status == 3) && corruptions == 0 && failures == 0)
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-CORRUPT: qemu-img check finds %lld corruptions and %lld failed checks (exit status "
                       "%d)%s%s; copy the image again, or repair it",
                       (long long)corruptions, (long long)failures, exit_status, *said != '\0' ? ": " : "", said);
}

bool drover_image_check_qemu(int fd, const char *format, GCancellable *cancel, GError **error)
{
    const Format *known = format_named(format);
    if (known == NULL || !known->qemu_check)
        return true;
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_subprocess_launcher_set_child_setup(launcher, drover_drain_child_setup, NULL, NULL);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", true);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_FD + 1);
    if (copy < 0)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: no file descriptor for qemu-img: %s",
                           g_strerror(errno));
    g_subprocess_launcher_take_fd(launcher, copy, CHILD_FD);
    g_autoptr(GError) spawn_error = NULL;
    g_autoptr(GSubprocess) child = g_subprocess_launcher_spawn(launcher, &spawn_error, "qemu-img", "check", "-f",
                                                               format, "--output=json", CHILD_FILE, NULL);
    if (child == NULL)
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-SOURCE-CHILD: cannot start qemu-img (Debian package qemu-utils): %s",
                           spawn_error->message);
    g_autofree char *out = NULL, *err = NULL;
    if (!g_subprocess_communicate_utf8(child, NULL, cancel, &out, &err, error)) {
        g_subprocess_force_exit(child);
        g_subprocess_wait(child, NULL, NULL);
        return false;
    }
    if (!g_subprocess_get_if_exited(child))
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: qemu-img check was killed");
    return drover_image_judge_check(g_subprocess_get_exit_status(child), out, err, error);
}

bool drover_image_check_sha256(int fd, uint64_t file_size, const char *wanted, GCancellable *cancel, GError **error)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    g_autofree uint8_t *buf = g_malloc(HASH_CHUNK);
    bool ok = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
    if (!ok)
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-DIGEST: SHA-256 is not available");
    for (uint64_t at = 0; ok && at < file_size; at += HASH_CHUNK) {
        size_t len = (size_t)MIN(file_size - at, HASH_CHUNK);
        ok = !g_cancellable_set_error_if_cancelled(cancel, error) &&
             drover_image_read(fd, file_size, at, buf, len, "the file", error) &&
             EVP_DigestUpdate(hash, buf, len) == 1;
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ok = ok && EVP_DigestFinal_ex(hash, digest, &len) == 1;
    EVP_MD_CTX_free(hash);
    if (!ok)
        return false;
    g_autoptr(GString) hex = g_string_new(NULL);
    for (unsigned i = 0; i < len; i++)
        g_string_append_printf(hex, "%02x", digest[i]);
    return g_ascii_strcasecmp(hex->str, wanted) == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-SOURCE-DIGEST: the file's SHA-256 is %s, %s was submitted; copy the image again", hex->str,
                       wanted);
}
