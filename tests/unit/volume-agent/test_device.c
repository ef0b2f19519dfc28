/* SPDX-License-Identifier: Apache-2.0 */
/* Devices are found in a tree that looks like /sys and /dev. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "lib/base/error.h"
#include "volume-agent/device/device.h"

#define VOLUME "12345678-90ab-cdef-1234-567890abcdef"
#define SERIAL "1234567890abcdef1234"

typedef struct {
    char *dir;
    char *sysfs;
    char *dev;
    DroverDeviceRoots roots;
} Tree;

static void put(const Tree *tree, const char *path, const char *content, gssize len)
{
    g_autofree char *full = g_build_filename(tree->dir, path, NULL);
    g_autofree char *parent = g_path_get_dirname(full);
    assert_int_equal(g_mkdir_with_parents(parent, 0700), 0);
    assert_true(g_file_set_contents(full, content, len, NULL));
}

/* A disk of 8 MiB with its node, without a serial. */
static void add_disk(const Tree *tree, const char *name)
{
    g_autofree char *size = g_strdup_printf("sys/block/%s/size", name);
    g_autofree char *node = g_strdup_printf("dev/%s", name);
    g_autofree char *holders = g_strdup_printf("%s/block/%s/holders", tree->sysfs, name);
    put(tree, size, "16384\n", -1);
    put(tree, node, "", -1);
    g_mkdir_with_parents(holders, 0700);
}

static void add_virtio(const Tree *tree, const char *name, const char *serial)
{
    g_autofree char *path = g_strdup_printf("sys/block/%s/serial", name);
    add_disk(tree, name);
    put(tree, path, serial, -1);
}

static int setup(void **state)
{
    Tree *tree = g_new0(Tree, 1);
    tree->dir = g_dir_make_tmp("drover-device-XXXXXX", NULL);
    tree->sysfs = g_build_filename(tree->dir, "sys", NULL);
    tree->dev = g_build_filename(tree->dir, "dev", NULL);
    tree->roots = (DroverDeviceRoots){tree->sysfs, tree->dev};
    add_disk(tree, "loop0");
    add_virtio(tree, "vda", "ffffffff90abcdef1234\n");
    *state = tree;
    return 0;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static int teardown(void **state)
{
    Tree *tree = *state;
    remove_tree(tree->dir);
    g_free(tree->dir);
    g_free(tree->sysfs);
    g_free(tree->dev);
    g_free(tree);
    return 0;
}

static void assert_busy(const Tree *tree)
{
    g_autoptr(GError) error = NULL;
    g_auto(DroverDevice) device = {0};
    assert_false(drover_device_find(&tree->roots, VOLUME, &device, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
    assert_true(g_str_has_prefix(error->message, "DRV-DEVICE-BUSY: vdb"));
}

static void assert_found(const Tree *tree, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_auto(DroverDevice) device = {0};
    g_autofree char *path = g_build_filename(tree->dev, name, NULL);
    assert_true(drover_device_find(&tree->roots, VOLUME, &device, &error));
    assert_null(error);
    assert_string_equal(device.path, path);
    assert_string_equal(device.serial, SERIAL);
    assert_int_equal(device.size_bytes, 8 << 20);
}

static void test_serial_is_the_first_20_digits(void **state)
{
    (void)state;
    g_autofree char *serial = drover_device_serial("ABCDEF01-2345-6789-abcd-ef0123456789");
    assert_string_equal(serial, "abcdef0123456789abcd");
}

static void test_virtio(void **state)
{
    const Tree *tree = *state;
    g_auto(DroverDevice) device = {0};
    assert_false(drover_device_find(&tree->roots, VOLUME, &device, NULL));
    add_virtio(tree, "vdb", SERIAL);
    assert_found(tree, "vdb");
    assert_int_equal(drover_device_count(&tree->roots), 2);
}

static void test_scsi_by_vpd_page(void **state)
{
    const Tree *tree = *state;
    char page[4 + 20];
    memcpy(page, "\0\x80\0\x14" SERIAL, sizeof page);
    add_disk(tree, "sda");
    put(tree, "sys/block/sda/device/vpd_pg80", page, sizeof page);
    assert_found(tree, "sda");
}

static void test_broken_vpd_pages(void **state)
{
    const Tree *tree = *state;
    static const struct {
        const char *bytes;
        gssize len;
    } pages[] = {{"", 0}, {"\0\x80\0", 3}, {"\0\x83\0\x14" SERIAL, 24}, {"\0\x80\xff\xff", 4}};
    add_disk(tree, "sda");
    for (size_t i = 0; i < G_N_ELEMENTS(pages); i++) {
        g_auto(DroverDevice) device = {0};
        put(tree, "sys/block/sda/device/vpd_pg80", pages[i].bytes, pages[i].len);
        assert_false(drover_device_find(&tree->roots, VOLUME, &device, NULL));
    }
    /* A length that promises more than there is gives what there is. */
    put(tree, "sys/block/sda/device/vpd_pg80", "\0\x80\0\xff" SERIAL, 24);
    assert_found(tree, "sda");
}

static void test_two_with_one_serial(void **state)
{
    const Tree *tree = *state;
    g_autoptr(GError) error = NULL;
    g_auto(DroverDevice) device = {0};
    add_virtio(tree, "vdb", SERIAL);
    add_virtio(tree, "vdc", SERIAL);
    assert_false(drover_device_find(&tree->roots, VOLUME, &device, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
}

static void test_held(void **state)
{
    const Tree *tree = *state;
    add_virtio(tree, "vdb", SERIAL);
    put(tree, "sys/block/vdb/holders/dm-0", "", 0);
    assert_busy(tree);
}

static void test_held_partition(void **state)
{
    const Tree *tree = *state;
    add_virtio(tree, "vdb", SERIAL);
    put(tree, "sys/block/vdb/vdb1/partition", "1\n", -1);
    assert_found(tree, "vdb");
    put(tree, "sys/block/vdb/vdb1/holders/md0", "", 0);
    assert_busy(tree);
}

/* The device of this machine's root file system, as disk and as partition. */
static void test_mounted(void **state)
{
    const Tree *tree = *state;
    struct stat st;
    assert_int_equal(stat("/", &st), 0);
    g_autofree char *number = g_strdup_printf("%u:%u\n", major(st.st_dev), minor(st.st_dev));
    add_virtio(tree, "vdb", SERIAL);
    put(tree, "sys/block/vdb/dev", "4095:1048575\n", -1);
    assert_found(tree, "vdb");
    put(tree, "sys/block/vdb/vdb2/partition", "2\n", -1);
    put(tree, "sys/block/vdb/vdb2/dev", number, -1);
    assert_busy(tree);
    put(tree, "sys/block/vdb/vdb2/dev", "4095:1048574\n", -1);
    put(tree, "sys/block/vdb/dev", number, -1);
    assert_busy(tree);
}

static void test_wait_checks_size_and_gives_up(void **state)
{
    const Tree *tree = *state;
    g_autoptr(GError) missing = NULL, small = NULL;
    g_auto(DroverDevice) device = {0};
    assert_false(drover_device_wait(&tree->roots, VOLUME, 1, 50, NULL, &device, &missing));
    assert_int_equal(drover_error_class(missing), DROVER_ERROR_RETRYABLE);
    assert_true(g_str_has_prefix(missing->message, "DRV-DEVICE-MISSING: "));
    add_virtio(tree, "vdb", SERIAL);
    assert_false(drover_device_wait(&tree->roots, VOLUME, (8 << 20) + 1, 50, NULL, &device, &small));
    assert_int_equal(drover_error_class(small), DROVER_ERROR_PERMANENT);
    assert_true(g_str_has_prefix(small->message, "DRV-TARGET-TOO-SMALL: "));
    assert_true(drover_device_wait(&tree->roots, VOLUME, 8 << 20, 50, NULL, &device, NULL));
}

/* The kernel knows the disk before its node is there. */
static void test_wait_for_the_node(void **state)
{
    const Tree *tree = *state;
    g_auto(DroverDevice) device = {0};
    g_autofree char *node = g_build_filename(tree->dev, "vdb", NULL);
    add_virtio(tree, "vdb", SERIAL);
    g_remove(node);
    assert_false(drover_device_wait(&tree->roots, VOLUME, 1, 50, NULL, &device, NULL));
    put(tree, "dev/vdb", "", 0);
    assert_true(drover_device_wait(&tree->roots, VOLUME, 1, 50, NULL, &device, NULL));
}

int main(void)
{
#define IN_TREE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serial_is_the_first_20_digits),
        IN_TREE(test_virtio),
        IN_TREE(test_scsi_by_vpd_page),
        IN_TREE(test_broken_vpd_pages),
        IN_TREE(test_two_with_one_serial),
        IN_TREE(test_held),
        IN_TREE(test_held_partition),
        IN_TREE(test_mounted),
        IN_TREE(test_wait_checks_size_and_gives_up),
        IN_TREE(test_wait_for_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
