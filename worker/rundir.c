/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/base/error.h"

struct DroverRunDir {
    char *path;
    int lock;
};

static void remove_sockets(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (!g_str_has_suffix(name, ".sock"))
            continue;
        g_autofree char *file = g_build_filename(path, name, NULL);
        unlink(file);
    }
}

DroverRunDir *drover_run_dir_open(const char *base, const char *name, GError **error)
{
    g_autoptr(DroverRunDir) dir = g_new0(DroverRunDir, 1);
    dir->path = g_build_filename(base, name, NULL);
    dir->lock = -1;
    g_autofree char *lock = g_build_filename(dir->path, "lock", NULL);
    if (g_mkdir_with_parents(dir->path, 0700) == 0)
        dir->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock < 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-WORKER-RUN-DIR: cannot make %s: %s; set [worker] run-dir to a directory that the worker may "
                    "write to",
                    dir->path, g_strerror(errno));
        return NULL;
    }
    if (flock(dir->lock, LOCK_EX | LOCK_NB) < 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-WORKER-RUN-DIR: another worker named %s runs on this host; give each its own [worker] name",
                    name);
        return NULL;
    }
    remove_sockets(dir->path);
    return g_steal_pointer(&dir);
}

const char *drover_run_dir_path(const DroverRunDir *dir)
{
    return dir->path;
}

void drover_run_dir_close(DroverRunDir *dir)
{
    if (dir == NULL)
        return;
    if (dir->lock >= 0)
        close(dir->lock); /* whoever comes next with this name removes what is left */
    g_free(dir->path);
    g_free(dir);
}
