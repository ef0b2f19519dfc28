/* SPDX-License-Identifier: Apache-2.0 */
/* The engine over real nbdkit servers: every byte arrives, nothing else is touched, and what is said about it
 * is true. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/unit/copy/server.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define CELL DROVER_CELL_BYTES

/* What on_cells_done was told. */
typedef struct {
    GArray *cells; /* of DroverCopyCell; ranges are copies */
    GHashTable *seen;
} Told;

static bool cells_done(void *data, const DroverCopyCell *cells, size_t n, GError **error)
{
    (void)error;
    Told *told = data;
    for (size_t i = 0; i < n; i++) {
        DroverCopyCell cell = cells[i];
        cell.ranges = g_memdup2(cell.ranges, cell.n_ranges * sizeof *cell.ranges);
        assert_true(g_hash_table_add(told->seen, GSIZE_TO_POINTER(cell.cell + 1)));
        g_array_append_val(told->cells, cell);
    }
    return true;
}

static Told *told_new(void)
{
    Told *told = g_new0(Told, 1);
    told->cells = g_array_new(FALSE, FALSE, sizeof(DroverCopyCell));
    told->seen = g_hash_table_new(NULL, NULL);
    return told;
}

static void told_free(Told *told)
{
    for (guint i = 0; i < told->cells->len; i++)
        g_free((gpointer)g_array_index(told->cells, DroverCopyCell, i).ranges);
    g_array_unref(told->cells);
    g_hash_table_unref(told->seen);
    g_free(told);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Told, told_free)

static DroverCopyParams params_for(const Server *source, const Server *target, Told *told)
{
    return (DroverCopyParams){
        .source = server_endpoint(source),
        .target = server_endpoint(target),
        .digest = DROVER_DIGEST_XXH3,
        .callbacks = {.data = told, .on_cells_done = cells_done},
    };
}

static DroverCopyResult copy_ok(const DroverCopyParams *params)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverCopy) copy = drover_copy_new(params, &error);
    DroverCopyResult result = {0};
    if (copy == NULL || !drover_copy_run(copy, &result, &error))
        fail_msg("%s", error->message);
    assert_true(result.complete);
    return result;
}

static void copy_fails(const DroverCopyParams *params, DroverErrorClass error_class, const char *code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverCopy) copy = drover_copy_new(params, &error);
    DroverCopyResult result = {0};
    if (copy != NULL)
        assert_false(drover_copy_run(copy, &result, &error));
    assert_int_equal(error->code, error_class);
    if (!g_str_has_prefix(error->message, code))
        fail_msg("%s", error->message);
    assert_false(result.complete);
}

static void assert_same(const Server *source, const Server *target)
{
    size_t a_len, b_len;
    g_autofree uint8_t *a = server_read(source, &a_len), *b = server_read(target, &b_len);
    assert_true(b_len >= a_len);
    for (size_t at = 0; at < a_len; at += 65536)
        if (memcmp(a + at, b + at, MIN(65536, a_len - at)) != 0)
            fail_msg("bytes differ at %zu", at);
}

static void assert_digests(const Server *disk, const Told *told, DroverDigestAlgorithm algorithm)
{
    size_t len;
    g_autofree uint8_t *bytes = server_read(disk, &len);
    for (guint i = 0; i < told->cells->len; i++) {
        const DroverCopyCell *cell = &g_array_index(told->cells, DroverCopyCell, i);
        uint64_t offset = cell->cell * CELL, cell_len = MIN(CELL, len - offset), total = 0;
        g_autoptr(DroverCellDigest) digest =
            drover_cell_digest_new(algorithm, offset, cell_len, cell->ranges, cell->n_ranges);
        DroverRange whole = {offset, cell_len};
        const DroverRange *ranges = cell->n_ranges > 0 ? cell->ranges : &whole;
        for (size_t r = 0; r < MAX(cell->n_ranges, 1); r++) {
            drover_cell_digest_add(digest, ranges[r].offset, bytes + ranges[r].offset, ranges[r].length);
            total += ranges[r].length;
        }
        DroverDigest root;
        assert_true(drover_cell_digest_root(digest, &root));
        assert_true(drover_digest_equal(&root, &cell->digest));
        assert_int_equal(cell->data_bytes + cell->zero_found_bytes + cell->skipped_bytes, total);
    }
}

/* The target's old content must go where the source has holes. */
static void a_sparse_disk_over_old_content(void **state)
{
    (void)state;
    uint64_t size = 3 * CELL + 5 * MIB + 512;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size + MIB);
    server_fill(source, 256 * KIB, 40, 1);
    server_fill(target, MIB, 100, 2);
    server_start(source, "-r", "");
    server_start(target, "", "");
    for (int digest = DROVER_DIGEST_NONE; digest <= DROVER_DIGEST_SHA256; digest++) {
        g_autoptr(Told) told = told_new();
        DroverCopyParams params = params_for(source, target, told);
        params.digest = digest;
        DroverCopyResult result = copy_ok(&params);
        assert_same(source, target);
        assert_int_equal(told->cells->len, 4);
        assert_int_equal(
            result.counts.data_bytes + result.counts.zero_found_bytes + result.counts.skipped_bytes, size);
        assert_true(result.extents_available && result.counts.skipped_bytes > 0);
        assert_int_equal(result.counts.read_bytes, result.counts.data_bytes + result.counts.zero_found_bytes);
        if (digest != DROVER_DIGEST_NONE)
            assert_digests(source, told, digest);
    }
}

static void without_anything_optional(void **state)
{
    (void)state;
    /* Small requests, one connection, no zero, no extents; with old-style replies, too. */
    const char *const sources[][2] = {
        {"-r --filter=noextents", ""},
        {"-r --no-sr", ""},
        {"-r --filter=blocksize-policy", "blocksize-maximum=4096 blocksize-error-policy=error"}};
    const char *const targets[][2] = {
        {"--filter=nozero", ""},
        {"--filter=multi-conn", "multi-conn-mode=disable"},
        {"--filter=blocksize-policy",
         "blocksize-minimum=512 blocksize-maximum=32768 blocksize-error-policy=error"}};
    for (int i = 0; i < 3; i++) {
        uint64_t size = CELL + 3 * MIB;
        g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
        server_fill(source, 128 * KIB, 30, 3);
        server_fill(target, MIB, 100, 4);
        server_start(source, sources[i][0], sources[i][1]);
        server_start(target, targets[i][0], targets[i][1]);
        g_autoptr(Told) told = told_new();
        DroverCopyParams params = params_for(source, target, told);
        DroverCopyResult result = copy_ok(&params);
        assert_same(source, target);
        assert_digests(source, told, DROVER_DIGEST_XXH3);
        /* nbdkit tells "all data" where a plugin has no extents; without structured replies it cannot tell
         * anything. */
        assert_int_equal(result.extents_available, i != 1);
        if (i < 2)
            assert_true(result.counts.zero_found_bytes > CELL / 2 && result.counts.skipped_bytes == 0);
    }
}

static void one_sector_anywhere_survives(void **state)
{
    (void)state;
    uint64_t size = CELL + 2 * MIB;
    g_autoptr(GRand) rand = g_rand_new_with_seed(9);
    uint8_t sector[512] = {0};
    sector[511] = 1;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_start(source, "-r --filter=noextents", "");
    server_start(target, "", "");
    for (int i = 0; i < 12; i++) {
        uint64_t at = i == 0   ? 0
                      : i == 1 ? size - 512
                               : (uint64_t)g_rand_int_range(rand, 0, (gint32)(size / 512)) * 512;
        server_write(source, at, sector, sizeof sector);
        g_autoptr(Told) told = told_new();
        DroverCopyParams params = params_for(source, target, told);
        copy_ok(&params);
        assert_same(source, target);
        assert_digests(source, told, DROVER_DIGEST_XXH3);
    }
}

static void only_the_areas_are_touched(void **state)
{
    (void)state;
    uint64_t size = 2 * CELL + 100 * KIB;
    DroverRange areas[] = {{CELL - 3 * KIB, 5 * KIB}, {7000, 10},    {100 * KIB, 200 * KIB},
                           {150 * KIB, 300 * KIB},    {size - 1, 1}, {CELL + 10 * MIB, 4 * MIB}};
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, 512 * KIB, 50, 5);
    server_fill(target, 512 * KIB, 100, 6);
    size_t len;
    g_autofree uint8_t *from = server_read(source, &len), *expected = server_read(target, &len);
    for (size_t i = 0; i < G_N_ELEMENTS(areas); i++) {
        uint64_t start = areas[i].offset / 512 * 512,
                 end = MIN((areas[i].offset + areas[i].length + 511) / 512 * 512, size);
        memcpy(expected + start, from + start, end - start);
    }
    server_start(source, "-r", "");
    server_start(target, "--filter=blocksize-policy", "blocksize-minimum=512 blocksize-error-policy=error");
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    params.areas = areas;
    params.n_areas = G_N_ELEMENTS(areas);
    copy_ok(&params);
    g_autofree uint8_t *now = server_read(target, &len);
    assert_memory_equal(now, expected, len);
    assert_int_equal(told->cells->len, 3);
    assert_digests(source, told, DROVER_DIGEST_XXH3);
}

static void ranges_and_done_cells(void **state)
{
    (void)state;
    uint64_t size = 5 * CELL;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, 4 * MIB, 50, 7);
    server_start(source, "-r", "");
    server_start(target, "", "");
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    const uint8_t done[] = {0x02}; /* of cells 1 to 4: cell 2 */
    params.offset = CELL;
    params.length = 3 * CELL;
    params.done_cells = done;
    params.done_cells_len = sizeof done;
    params.target_is_zero = true;
    copy_ok(&params);
    size_t len;
    g_autofree uint8_t *a = server_read(source, &len), *b = server_read(target, &len);
    for (uint64_t cell = 0; cell < 5; cell++) {
        bool copied = cell == 1 || cell == 3;
        if (copied)
            assert_memory_equal(a + cell * CELL, b + cell * CELL, CELL);
        else
            assert_true(drover_is_zero(b + cell * CELL, CELL));
    }
    assert_int_equal(told->cells->len, 2);
}

static void wrong_pairs_are_refused_before_the_first_byte(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", CELL), target = server_new("target", CELL - 512);
    server_fill(source, MIB, 100, 8);
    server_start(source, "-r", "");
    server_start(target, "", "");
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    copy_fails(&params, DROVER_ERROR_PERMANENT, "DRV-TARGET-TOO-SMALL");
    params.target = params.source;
    copy_fails(&params, DROVER_ERROR_PERMANENT, "DRV-TARGET-READ-ONLY");
    params = params_for(source, target, told);
    params.source_size = CELL + 512;
    copy_fails(&params, DROVER_ERROR_PERMANENT, "DRV-SOURCE-CHANGED");
    params.source_size = 0;
    params.offset = CELL / 2;
    copy_fails(&params, DROVER_ERROR_PERMANENT, "");
    params = params_for(source, source, told);
    params.offset = 7 * CELL;
    params.length = CELL;
    copy_fails(&params, DROVER_ERROR_PERMANENT, "DRV-");
    size_t len;
    g_autofree uint8_t *bytes = server_read(target, &len);
    assert_true(drover_is_zero(bytes, len));
}

static void the_scan_agrees_with_the_copy(void **state)
{
    (void)state;
    uint64_t size = 3 * CELL + 70 * KIB;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, 4 * KIB, 3, 10);
    server_start(source, "-r", "");
    server_start(target, "", "");
    DroverCopyEndpoint endpoint = server_endpoint(source);
    DroverCopyScan scan;
    g_autoptr(GError) error = NULL;
    assert_true(drover_copy_scan(&endpoint, 0, NULL, &scan, &error));
    assert_true(scan.extents_available && scan.read_only && scan.can_multi_conn);
    assert_int_equal(scan.size_bytes, size);
    assert_int_equal(scan.bucket_bytes, CELL);
    assert_int_equal(scan.n_buckets, 4);
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    copy_ok(&params);
    uint64_t sum = 0;
    for (guint i = 0; i < told->cells->len; i++) {
        const DroverCopyCell *cell = &g_array_index(told->cells, DroverCopyCell, i);
        assert_int_equal(scan.bucket_allocated_bytes[cell->cell], cell->data_bytes + cell->zero_found_bytes);
        sum += cell->data_bytes + cell->zero_found_bytes;
    }
    assert_int_equal(sum, scan.allocated_bytes);
    drover_copy_scan_clear(&scan);

    g_autoptr(GCancellable) cancelled = g_cancellable_new();
    g_cancellable_cancel(cancelled);
    assert_false(drover_copy_scan(&endpoint, 0, cancelled, &scan, &error));
    assert_int_equal(error->code, DROVER_ERROR_RETRYABLE);
}

static void count_difference(void *data, uint64_t cell, DroverRange range)
{
    GArray *list = data;
    assert_int_equal(range.offset, cell * CELL);
    g_array_append_val(list, range);
}

static void the_read_back_finds_one_byte(void **state)
{
    (void)state;
    uint64_t size = 3 * CELL + 512;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, MIB, 50, 12);
    server_start(source, "-r", "");
    server_start(target, "", "");
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    copy_ok(&params);
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(DroverRange));
    DroverCopyVerify verify = {.digest = DROVER_DIGEST_XXH3,
                               .size_bytes = size,
                               .cells = (const DroverCopyCell *)told->cells->data,
                               .n = told->cells->len,
                               .data = list,
                               .on_different = count_difference};
    DroverCopyEndpoint endpoint = server_endpoint(target);
    g_autoptr(GError) error = NULL;
    uint64_t different = 99;
    assert_true(drover_copy_verify(&endpoint, &verify, NULL, &different, &error));
    assert_int_equal(different, 0);
    size_t len;
    g_autofree uint8_t *bytes = server_read(target, &len);
    uint8_t flipped = bytes[CELL + 12345] ^ 4;
    server_write(target, CELL + 12345, &flipped, 1);
    assert_true(drover_copy_verify(&endpoint, &verify, NULL, &different, &error));
    assert_int_equal(different, 1);
    assert_int_equal(list->len, 1);
    assert_int_equal(g_array_index(list, DroverRange, 0).offset, CELL);
}

static void the_rate_limit_holds(void **state)
{
    (void)state;
    uint64_t size = 8 * MIB;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, MIB, 100, 13);
    server_start(source, "-r", "");
    server_start(target, "", "");
    g_autoptr(Told) told = told_new();
    DroverCopyParams params = params_for(source, target, told);
    params.rate_bytes_per_second = 16 * MIB;
    DroverCopyResult result = copy_ok(&params);
    assert_true(result.duration_us > 400000);
    assert_true(result.throttled_us > 300000);
    assert_same(source, target);
}

int main(void)
{
    server_require();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_disk_over_old_content),
        cmocka_unit_test(without_anything_optional),
        cmocka_unit_test(one_sector_anywhere_survives),
        cmocka_unit_test(only_the_areas_are_touched),
        cmocka_unit_test(ranges_and_done_cells),
        cmocka_unit_test(wrong_pairs_are_refused_before_the_first_byte),
        cmocka_unit_test(the_scan_agrees_with_the_copy),
        cmocka_unit_test(the_read_back_finds_one_byte),
        cmocka_unit_test(the_rate_limit_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
