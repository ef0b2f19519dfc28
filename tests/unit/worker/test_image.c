/* SPDX-License-Identifier: Apache-2.0 */
/* Real images, made by qemu-img or by hand, cut off at many points: every one must be refused, every whole one
 * accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "worker/source/bytes.h"
#include "worker/source/image.h"
#include "worker/source/source.h"
#include "worker/source/vmdk.h"

#define DISK_BYTES (8u << 20)

static char *dir;

static char *in_dir(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    int status = 0;
    gboolean ok = g_spawn_sync(NULL, (char **)argv, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                               NULL, NULL, NULL, &status, &error);
    if (!ok || status != 0)
        fail_msg("%s failed: %s", argv[0], error == NULL ? "exit status" : error->message);
}

/* Random data with holes: the first and last 64 KiB are data, every fourth cluster in between is a hole. */
static char *make_raw(void)
{
    char *path = in_dir("disk.raw");
    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return path;
    g_autofree uint32_t *data = g_malloc0(DISK_BYTES);
    GRand *rand = g_rand_new_with_seed(7);
    for (size_t i = 0; i < DISK_BYTES / 4; i++) {
        size_t cluster = i / (65536 / 4);
        if (cluster % 4 != 1 || cluster == DISK_BYTES / 65536 - 1)
            data[i] = g_rand_int(rand);
    }
    g_rand_free(rand);
    assert_true(g_file_set_contents(path, (char *)data, DISK_BYTES, NULL));
    return path;
}

static char *convert(const char *name, const char *format, const char *options, bool compress)
{
    g_autofree char *raw = make_raw();
    char *path = in_dir(name);
    const char *argv[12] = {"qemu-img", "convert", "-f", "raw", "-O", format};
    int n = 6;
    if (compress)
        argv[n++] = "-c";
    if (options != NULL) {
        argv[n++] = "-o";
        argv[n++] = options;
    }
    argv[n++] = raw;
    argv[n++] = path;
    run(argv);
    return path;
}

/* What an inspection does, without the lock and the child. */
static bool check(const char *path, const char *given, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    uint64_t capacity = 0;
    const char *format = drover_image_format(fd, (uint64_t)st.st_size, given, error);
    bool ok = format != NULL &&
              drover_image_check_structure(fd, (uint64_t)st.st_size, format, &capacity, NULL, error) &&
              drover_image_check_qemu(fd, format, NULL, error);
    close(fd);
    return ok;
}

static void assert_code(GError *error, const char *code, const char *about)
{
    g_autofree char *found = drover_error_code(error == NULL ? "" : error->message);
    if (strcmp(found, code) != 0)
        fail_msg("%s: expected %s, got: %s", about, code, error == NULL ? "no error" : error->message);
    assert_int_equal(error->code, DROVER_ERROR_PERMANENT);
}

static void cut_everywhere(const char *path, const char *format)
{
    g_autoptr(GError) whole_error = NULL;
    if (!check(path, format, &whole_error))
        fail_msg("%s is whole, but: %s", path, whole_error->message);
    g_autofree char *data = NULL;
    gsize size;
    assert_true(g_file_get_contents(path, &data, &size, NULL));
    g_autofree char *cut = g_strconcat(path, ".cut", NULL);
    const gsize left[] = {size - 1,     size - 511,  size - 512,     size - 513, size - 1024, size - 1536, size - 4096,
                          size - 65536, size * 3 / 4, size / 2 + 100, size / 2,   size / 4,    70000,       65536,
                          1024,         512,          100};
    for (size_t i = 0; i < G_N_ELEMENTS(left); i++) {
        g_autoptr(GError) error = NULL;
        assert_true(g_file_set_contents(cut, data, (gssize)left[i], NULL));
        g_autofree char *about = g_strdup_printf("%s, %zu of %zu bytes left", path, left[i], size);
        if (check(cut, format, &error))
            fail_msg("%s: passed", about);
        assert_code(error, "DRV-SOURCE-TRUNCATED", about);
    }
}

static void test_qcow2(void **state)
{
    (void)state;
    static const struct {
        const char *name, *options;
        bool compress;
    } kinds[] = {
        {"a.qcow2", NULL, false},
        {"v2.qcow2", "compat=0.10", false},
        {"small.qcow2", "cluster_size=4096", false},
        {"extended.qcow2", "extended_l2=on,cluster_size=128k", false},
        {"compressed.qcow2", NULL, true},
        {"zstd.qcow2", "compression_type=zstd", true},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = convert(kinds[i].name, "qcow2", kinds[i].options, kinds[i].compress);
        cut_everywhere(path, "qcow2");
    }
}

static void test_vmdk(void **state)
{
    (void)state;
    g_autofree char *sparse = convert("sparse.vmdk", "vmdk", "subformat=monolithicSparse", false);
    cut_everywhere(sparse, "vmdk");
    g_autofree char *stream = convert("stream.vmdk", "vmdk", "subformat=streamOptimized", false);
    cut_everywhere(stream, "vmdk");
}

static void test_vhd(void **state)
{
    (void)state;
    g_autofree char *dynamic = convert("dynamic.vhd", "vpc", "subformat=dynamic,force_size=on", false);
    cut_everywhere(dynamic, "vpc");
    g_autofree char *vhdx = convert("dynamic.vhdx", "vhdx", "subformat=dynamic,block_size=1M", false);
    cut_everywhere(vhdx, "vhdx");
    g_autofree char *fixed = convert("fixed.vhdx", "vhdx", "subformat=fixed", false);
    cut_everywhere(fixed, "vhdx");
}

static void put_le(GByteArray *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        g_byte_array_append(out, &byte, 1);
    }
}

static void pad(GByteArray *out, guint to)
{
    guint old = out->len;
    g_byte_array_set_size(out, (out->len + to - 1) / to * to);
    memset(out->data + old, 0, out->len - old);
}

static void put_header(GByteArray *out, uint64_t capacity, uint64_t gd)
{
    guint start = out->len;
    g_byte_array_append(out, (const uint8_t *)"KDMV", 4);
    put_le(out, 3, 4);
    put_le(out, 0x30001, 4);
    put_le(out, capacity, 8);
    put_le(out, 128, 8);
    put_le(out, 1, 8); /* descriptor: sectors 1 to 20 */
    put_le(out, 20, 8);
    put_le(out, 512, 4);
    put_le(out, 0, 8);
    put_le(out, gd, 8);
    put_le(out, 128, 8);
    put_le(out, 0, 1);
    g_byte_array_append(out, (const uint8_t *)"\n \r\n", 4);
    put_le(out, 1, 2);
    g_assert_cmpuint(out->len - start, ==, 79);
    pad(out, 512);
}

/* One grain as zlib stream of stored blocks; Adler-32 by hand. */
static void put_grain(GByteArray *out, uint64_t lba, const uint8_t *data, size_t len)
{
    GByteArray *z = g_byte_array_new();
    put_le(z, 0x0178, 2);
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < len; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    for (size_t at = 0; at < len; at += 32768) {
        size_t n = MIN(len - at, 32768);
        put_le(z, at + n == len, 1);
        put_le(z, n, 2);
        put_le(z, ~n & 0xffff, 2);
        g_byte_array_append(z, data + at, (guint)n);
    }
    uint32_t adler = GUINT32_TO_BE(b << 16 | a);
    g_byte_array_append(z, (uint8_t *)&adler, 4);
    put_le(out, lba, 8);
    put_le(out, z->len, 4);
    g_byte_array_append(out, z->data, z->len);
    g_byte_array_unref(z);
    pad(out, 512);
}

/* As VMware's exporters write it: grains, grain tables, directory, footer, end-of-stream marker. */
static char *make_vmware_stream(void)
{
    g_autofree char *raw = make_raw();
    g_autofree char *data = NULL;
    gsize size;
    assert_true(g_file_get_contents(raw, &data, &size, NULL));
    GByteArray *out = g_byte_array_new();
    put_header(out, size / 512, UINT64_MAX);
    static const char descriptor[] = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
                                     "createType=\"streamOptimized\"\n\nRW 16384 SPARSE \"vmware.vmdk\"\n";
    g_byte_array_append(out, (const uint8_t *)descriptor, sizeof descriptor - 1);
    pad(out, 65536);
    uint32_t table[512] = {0};
    for (size_t grain = 0; grain < size / 65536; grain++)
        if (grain % 4 != 1 || grain == size / 65536 - 1) {
            table[grain] = out->len / 512;
            put_grain(out, grain * 128, (uint8_t *)data + grain * 65536, 65536);
        }
    put_le(out, 4, 8), put_le(out, 0, 4), put_le(out, 1, 4), pad(out, 512); /* marker: grain table */
    uint32_t table_sector = out->len / 512;
    for (size_t i = 0; i < 512; i++)
        put_le(out, table[i], 4);
    put_le(out, 1, 8), put_le(out, 0, 4), put_le(out, 2, 4), pad(out, 512); /* marker: grain directory */
    uint32_t directory_sector = out->len / 512;
    put_le(out, table_sector, 4), pad(out, 512);
    put_le(out, 1, 8), put_le(out, 0, 4), put_le(out, 3, 4), pad(out, 512); /* marker: footer */
    put_header(out, size / 512, directory_sector);
    put_le(out, 0, 1), pad(out, 512); /* end of stream */
    char *path = in_dir("vmware.vmdk");
    assert_true(g_file_set_contents(path, (char *)out->data, out->len, NULL));
    g_byte_array_unref(out);
    return path;
}

static void test_vmware_stream(void **state)
{
    (void)state;
    g_autofree char *path = make_vmware_stream();
    g_autofree char *raw = make_raw();
    /* The hand-made file is a true VMDK: QEMU reads the same bytes. */
    run((const char *[]){"qemu-img", "compare", "-f", "vmdk", "-F", "raw", path, raw, NULL});
    cut_everywhere(path, "vmdk");
}

static void refuse(const char *path, const char *given, const char *code)
{
    g_autoptr(GError) error = NULL;
    if (check(path, given, &error))
        fail_msg("%s passed", path);
    assert_code(error, code, path);
}

static void test_needs_other_files(void **state)
{
    (void)state;
    g_autofree char *base = convert("base.qcow2", "qcow2", NULL, false);
    g_autofree char *overlay = in_dir("overlay.qcow2");
    run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay, NULL});
    refuse(overlay, "qcow2", "DRV-SOURCE-EXTERNAL");
    refuse(overlay, "", "DRV-SOURCE-EXTERNAL");
    g_autofree char *data_file = in_dir("data.qcow2");
    g_autofree char *data_option = g_strdup_printf("data_file=%s/data.bin", dir);
    run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-o", data_option, data_file, "8M", NULL});
    refuse(data_file, "qcow2", "DRV-SOURCE-EXTERNAL");
    g_autofree char *flat = convert("flat.vmdk", "vmdk", "subformat=monolithicFlat", false);
    refuse(flat, "vmdk", "DRV-SOURCE-EXTERNAL");
    refuse(flat, "", "DRV-SOURCE-EXTERNAL");
    g_autofree char *parent = convert("parent.vmdk", "vmdk", NULL, false);
    g_autofree char *child = in_dir("child.vmdk");
    run((const char *[]){"qemu-img", "create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", child, NULL});
    refuse(child, "vmdk", "DRV-SOURCE-EXTERNAL");
    /* A capacity of 0 sends QEMU to the files that the embedded descriptor names. */
    g_autofree char *data = NULL;
    gsize size;
    assert_true(g_file_get_contents(parent, &data, &size, NULL));
    memset(data + 12, 0, 8);
    g_autofree char *zero = in_dir("zero.vmdk");
    assert_true(g_file_set_contents(zero, data, (gssize)size, NULL));
    refuse(zero, "vmdk", "DRV-SOURCE-EXTERNAL");
}

static void test_format(void **state)
{
    (void)state;
    g_autofree char *raw = make_raw();
    g_autofree char *qcow2 = convert("f.qcow2", "qcow2", NULL, false);
    refuse(raw, "qcow2", "DRV-SOURCE-FORMAT");
    refuse(qcow2, "vmdk", "DRV-SOURCE-FORMAT");
    refuse(qcow2, "qed", "DRV-SOURCE-FORMAT");
    /* A raw disk may hold whatever its owner writes into it. */
    g_autoptr(GError) error = NULL;
    assert_true(check(qcow2, "raw", &error));
    g_autofree char *odd = in_dir("odd.raw");
    assert_true(g_file_set_contents(odd, "12345", 5, NULL));
    refuse(odd, "raw", "DRV-SOURCE-TRUNCATED");
}

/* Bytes of headers and tables turned over one after the other: any verdict will do, no crash, no endless loop. */
static void test_damaged(void **state)
{
    (void)state;
    g_autofree char *stream = make_vmware_stream();
    g_autofree char *vmdk = convert("d.vmdk", "vmdk", NULL, false);
    g_autofree char *qcow2 = convert("d.qcow2", "qcow2", NULL, false);
    g_autofree char *vhd = convert("d.vhd", "vpc", "subformat=dynamic", false);
    g_autofree char *vhdx = convert("d.vhdx", "vhdx", NULL, false);
    const char *const files[][2] = {{stream, "vmdk"}, {vmdk, "vmdk"}, {qcow2, "qcow2"}, {vhd, "vpc"}, {vhdx, "vhdx"}};
    GRand *rand = g_rand_new_with_seed(11);
    for (size_t f = 0; f < G_N_ELEMENTS(files); f++) {
        g_autofree char *data = NULL;
        gsize size;
        assert_true(g_file_get_contents(files[f][0], &data, &size, NULL));
        g_autofree char *bad = in_dir("damaged");
        assert_true(g_file_set_contents(bad, data, (gssize)size, NULL));
        int fd = open(bad, O_RDWR | O_CLOEXEC);
        for (int i = 0; i < 2000; i++) {
            off_t at = (off_t)(g_rand_int(rand) % (i % 2 == 0 ? 128 : MIN(size, 512u << 10)));
            char byte = (char)g_rand_int(rand);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
            uint64_t capacity;
            drover_image_check_structure(fd, size, files[f][1], &capacity, NULL, NULL);
            assert_int_equal(pwrite(fd, data + at, 1, at), 1);
        }
        close(fd);
    }
    g_rand_free(rand);
}

static void test_judge(void **state)
{
    (void)state;
    assert_true(drover_image_judge_check(0, "{\"check-errors\": 0}", "", NULL));
    assert_true(drover_image_judge_check(3, "{\"check-errors\": 0, \"leaks\": 4}", "", NULL));
    g_autoptr(GError) error = NULL;
    assert_false(drover_image_judge_check(2, "{\"check-errors\": 0, \"corruptions\": 1}", "x", &error));
    assert_code(error, "DRV-SOURCE-CORRUPT", "corruptions");
    g_clear_error(&error);
    assert_false(drover_image_judge_check(0, "{\"check-errors\": 1}", "", &error));
    assert_code(error, "DRV-SOURCE-CORRUPT", "errors");
    g_clear_error(&error);
    assert_false(drover_image_judge_check(1, "", "qemu-img: Could not open: Image is not in qcow2 format", &error));
    assert_code(error, "DRV-SOURCE-FORMAT", "no answer");
    g_clear_error(&error);
    assert_false(drover_image_judge_check(1, "", "Failed to get shared \"write\" lock", &error));
    assert_int_equal(error->code, DROVER_ERROR_RETRYABLE);
}

static int setup(void **state)
{
    (void)state;
    dir = g_dir_make_tmp("drover-image-XXXXXX", NULL);
    return dir == NULL;
}

static int teardown(void **state)
{
    (void)state;
    run((const char *[]){"rm", "-rf", dir, NULL});
    g_free(dir);
    return 0;
}

int main(void)
{
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
    if (qemu_img == NULL) {
        fputs("skipped: qemu-img is not installed (Debian package qemu-utils)\n", stderr);
        return getenv("CI") == NULL ? 77 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qcow2),  cmocka_unit_test(test_vmdk),
        cmocka_unit_test(test_vhd),    cmocka_unit_test(test_vmware_stream),
        cmocka_unit_test(test_format), cmocka_unit_test(test_needs_other_files),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_judge),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
