/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/device/in_use.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char *describe_holder(const char *sysfs_root, const char *holder)
{
    g_autofree char *path = g_build_filename(sysfs_root, "block", holder, "dm", "name", NULL);
    g_autofree char *dm_name = NULL;
    if (!g_file_get_contents(path, &dm_name, NULL, NULL))
        return g_strdup_printf("is held by %s", holder);
    return g_strdup_printf("is held by %s (%s)", holder, g_strstrip(dm_name));
}

static char *find_holder(const char *sysfs_root, const char *directory)
{
    g_autofree char *holders = g_build_filename(directory, "holders", NULL);
    g_autoptr(GDir) dir = g_dir_open(holders, 0, NULL);
    const char *holder = dir ? g_dir_read_name(dir) : NULL;
    return holder ? describe_holder(sysfs_root, holder) : NULL;
}

static bool is_node_of(const char *path, const char *number)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISBLK(st.st_mode))
        return false;
    g_autofree char *own = g_strdup_printf("%u:%u", major(st.st_rdev), minor(st.st_rdev));
    return strcmp(own, number) == 0;
}

/* A line of mountinfo: id, parent, MAJOR:MINOR, root, mount point, ... "-" type source. The number is that of the device, but for
 * file systems that may span several (btrfs), which name one of them as the source. */
static char *match_mount(const char *line, const char *number)
{
    g_auto(GStrv) fields = g_strsplit(line, " ", 6);
    if (g_strv_length(fields) < 6)
        return NULL;
    const char *tail = strstr(fields[5], "- ");
    g_auto(GStrv) source = g_strsplit(tail ? tail : "", " ", 4);
    g_autofree char *path = g_strv_length(source) >= 3 ? g_strcompress(source[2]) : g_strdup("");
    if (strcmp(fields[2], number) != 0 && !(g_path_is_absolute(path) && is_node_of(path, number)))
        return NULL;
    g_autofree char *point = g_strcompress(fields[4]);
    return g_strdup_printf("is mounted on %s", point);
}

/* The root is asked for itself: in a chroot it is not among the mounts. Where mounts cannot be read, nothing may be called free. */
static char *find_mount(const char *number)
{
    struct stat root;
    g_autofree char *mounts = NULL;
    if (stat("/", &root) != 0 || !g_file_get_contents("/proc/self/mountinfo", &mounts, NULL, NULL))
        return g_strdup("may be mounted: /proc/self/mountinfo cannot be read");
    g_autofree char *root_number = g_strdup_printf("%u:%u", major(root.st_dev), minor(root.st_dev));
    if (strcmp(number, root_number) == 0)
        return g_strdup("is mounted on /");
    g_auto(GStrv) lines = g_strsplit(mounts, "\n", -1);
    char *found = NULL;
    for (char **line = lines; *line && !found; line++)
        found = match_mount(*line, number);
    return found;
}

/* No file of this name: a kernel without swap. */
static char *find_swap(const char *number)
{
    g_autofree char *swaps = NULL;
    if (!g_file_get_contents("/proc/swaps", &swaps, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(swaps, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit_set(*line, " \t", 2);
        g_autofree char *path = fields[0] ? g_strcompress(fields[0]) : g_strdup("");
        if (g_path_is_absolute(path) && is_node_of(path, number))
            return g_strdup("is used as swap space");
    }
    return NULL;
}

/* DIRECTORY of a disk or partition; its "dev" file says MAJOR:MINOR. */
static char *look(const char *sysfs_root, const char *directory)
{
    char *why = find_holder(sysfs_root, directory);
    g_autofree char *path = g_build_filename(directory, "dev", NULL);
    g_autofree char *number = NULL;
    if (why || !g_file_get_contents(path, &number, NULL, NULL))
        return why;
    g_strstrip(number);
    why = find_mount(number);
    return why ? why : find_swap(number);
}

char *drover_device_in_use(const char *sysfs_root, const char *name)
{
    g_autofree char *disk = g_build_filename(sysfs_root, "block", name, NULL);
    char *why = look(sysfs_root, disk);
    if (why)
        return why;
    /* Partitions are directories of the disk's that hold a file "partition". */
    g_autoptr(GDir) dir = g_dir_open(disk, 0, NULL);
    for (const char *entry; dir && (entry = g_dir_read_name(dir));) {
        g_autofree char *part = g_build_filename(disk, entry, NULL);
        g_autofree char *mark = g_build_filename(part, "partition", NULL);
        g_autofree char *inner = g_file_test(mark, G_FILE_TEST_EXISTS) ? look(sysfs_root, part) : NULL;
        if (inner)
            return g_strdup_printf("%s through its partition %s", inner, entry);
    }
    return NULL;
}
