/* SPDX-License-Identifier: Apache-2.0 */
/* Digests against an implementation of the construction that shares no code with lib/digest, and zero
 * detection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>
#include <openssl/sha.h>
#include <string.h>
#include <xxhash.h>

#include "lib/digest/digest.h"

#define KIB UINT64_C(1024)

/* The construction of digest.h written down as plainly as possible: one buffer, one pass, no shortcuts. */
static void naive_hash(DroverDigestAlgorithm algorithm, const uint8_t *data, size_t len, uint8_t *out)
{
    if (algorithm == DROVER_DIGEST_SHA256) {
        SHA256(data, len, out);
        return;
    }
    XXH128_hash_t hash = XXH3_128bits(data, len);
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(hash.high64 >> (56 - 8 * i));
        out[8 + i] = (uint8_t)(hash.low64 >> (56 - 8 * i));
    }
}

static void naive_root(DroverDigestAlgorithm algorithm, const uint8_t *disk, const DroverRange *ranges,
                       size_t n, uint8_t *out)
{
    size_t leaf_len = algorithm == DROVER_DIGEST_SHA256 ? 32 : 16;
    g_autoptr(GByteArray) text = g_byte_array_new();
    for (size_t r = 0; r < n; r++)
        for (uint64_t at = ranges[r].offset, end = at + ranges[r].length; at < end;) {
            uint64_t next = (at / 65536 + 1) * 65536;
            next = next < end ? next : end;
            uint8_t record[16 + 32];
            for (int i = 0; i < 8; i++) {
                record[i] = (uint8_t)(at >> (8 * i));
                record[8 + i] = (uint8_t)((next - at) >> (8 * i));
            }
            naive_hash(algorithm, disk + at, (size_t)(next - at), record + 16);
            g_byte_array_append(text, record, (guint)(16 + leaf_len));
            at = next;
        }
    naive_hash(algorithm, text->data, text->len, out);
}

static uint8_t *random_disk(size_t len, uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    uint8_t *disk = g_malloc0(len);
    for (size_t at = 0; at < len; at += 16 * KIB) {
        if (g_rand_boolean(rand))
            continue;
        for (size_t i = at; i < MIN(at + 16 * KIB, len); i += 4) {
            uint32_t word = g_rand_int(rand);
            memcpy(disk + i, &word, MIN(4, len - i));
        }
    }
    return disk;
}

static void check_root(DroverDigestAlgorithm algorithm, const DroverCellDigest *cell, const uint8_t *disk,
                       const DroverRange *ranges, size_t n)
{
    DroverDigest root;
    uint8_t expected[32];
    assert_true(drover_cell_digest_root(cell, &root));
    naive_root(algorithm, disk, ranges, n, expected);
    assert_int_equal(root.len, drover_digest_len(algorithm));
    assert_memory_equal(root.bytes, expected, root.len);
}

static void root_of_a_whole_cell_in_any_order(void **state)
{
    (void)state;
    size_t len = DROVER_CELL_BYTES;
    g_autofree uint8_t *disk = random_disk(2 * len, 7);
    DroverRange whole = {len, len};
    for (int a = DROVER_DIGEST_XXH3; a <= DROVER_DIGEST_SHA256; a++) {
        g_autoptr(DroverCellDigest) cell = drover_cell_digest_new(a, len, len, NULL, 0);
        DroverDigest root;
        assert_false(drover_cell_digest_root(cell, &root));
        /* Backwards, in requests of different sizes, zeroes told as such where they are. */
        for (uint64_t at = 2 * len; at > len;) {
            uint64_t size = MIN((1 + (at / 65536) % 4) * 64 * KIB, at - len);
            at -= size;
            if (drover_is_zero(disk + at, size))
                drover_cell_digest_add_zero(cell, at, size);
            else
                drover_cell_digest_add(cell, at, disk + at, size);
        }
        assert_true(drover_cell_digest_is_complete(cell));
        check_root(a, cell, disk, &whole, 1);
        drover_cell_digest_reset(cell);
        assert_false(drover_cell_digest_is_complete(cell));
    }
}

static void root_of_a_zero_cell(void **state)
{
    (void)state;
    /* The disk's last cell, which ends off the grid. */
    size_t len = 5 * 64 * KIB + 512;
    g_autofree uint8_t *disk = g_malloc0(len);
    DroverRange whole = {0, len};
    for (int a = DROVER_DIGEST_XXH3; a <= DROVER_DIGEST_SHA256; a++) {
        g_autoptr(DroverCellDigest) cell = drover_cell_digest_new(a, 0, len, NULL, 0);
        drover_cell_digest_add_zero(cell, 0, len);
        check_root(a, cell, disk, &whole, 1);
    }
}

static void root_of_areas(void **state)
{
    (void)state;
    size_t len = 4 * DROVER_CELL_BYTES / 32;
    g_autofree uint8_t *disk = random_disk(len, 11);
    DroverRange areas[] = {
        {512, 512}, {60 * KIB, 8 * KIB}, {128 * KIB, 64 * KIB}, {200 * KIB, 300 * KIB}, {len - 512, 512}};
    size_t n = G_N_ELEMENTS(areas);
    for (int a = DROVER_DIGEST_XXH3; a <= DROVER_DIGEST_SHA256; a++) {
        g_autoptr(DroverCellDigest) cell = drover_cell_digest_new(a, 0, len, areas, n);
        for (size_t i = n; i-- > 0;)
            drover_cell_digest_add(cell, areas[i].offset, disk + areas[i].offset, areas[i].length);
        check_root(a, cell, disk, areas, n);
        DroverDigest before, after;
        drover_cell_digest_root(cell, &before);
        disk[areas[1].offset + 5000] ^= 1;
        drover_cell_digest_add(cell, areas[1].offset, disk + areas[1].offset, areas[1].length);
        drover_cell_digest_root(cell, &after);
        assert_false(drover_digest_equal(&before, &after));
    }
}

static void nothing_is_hashed_with_none(void **state)
{
    (void)state;
    static uint8_t data[65536];
    g_autoptr(DroverCellDigest) cell = drover_cell_digest_new(DROVER_DIGEST_NONE, 0, 128 * KIB, NULL, 0);
    drover_cell_digest_add(cell, 0, data, sizeof data);
    assert_false(drover_cell_digest_is_complete(cell));
    drover_cell_digest_add_zero(cell, 64 * KIB, 64 * KIB);
    DroverDigest root;
    assert_true(drover_cell_digest_root(cell, &root));
    assert_int_equal(root.len, 0);
}

static void names_are_stable(void **state)
{
    (void)state;
    DroverDigestAlgorithm algorithm;
    assert_true(drover_digest_parse_name("xxh3", &algorithm));
    assert_int_equal(algorithm, DROVER_DIGEST_XXH3);
    assert_string_equal(drover_digest_name(DROVER_DIGEST_SHA256), "sha256");
    assert_false(drover_digest_parse_name("md5", &algorithm));
    assert_false(drover_digest_parse_name(NULL, &algorithm));
}

static void one_byte_anywhere_is_not_zero(void **state)
{
    (void)state;
    /* Every position, every length up to some blocks of the vector loop, and every alignment of the start. */
    uint8_t buffer[32 + 1200] = {0};
    for (size_t start = 0; start < 32; start += 5)
        for (size_t len = 0; len <= 1100; len += 13) {
            uint8_t *p = buffer + start;
            assert_true(drover_is_zero(p, len));
            for (size_t i = 0; i < len; i++) {
                p[i] = (uint8_t)(1 << (i % 8));
                if (drover_is_zero(p, len))
                    fail_msg("byte %zu of %zu, start %zu", i, len, start);
                p[i] = 0;
            }
            /* Bytes next to the buffer do not count. */
            p[len] = 1;
            assert_true(drover_is_zero(p, len));
            p[len] = 0;
        }
}

static void one_sector_anywhere_in_a_leaf_is_not_zero(void **state)
{
    (void)state;
    g_autofree uint8_t *leaf = g_malloc0(DROVER_LEAF_BYTES);
    assert_true(drover_is_zero(leaf, DROVER_LEAF_BYTES));
    for (size_t i = 0; i < DROVER_LEAF_BYTES; i++) {
        leaf[i] = 1;
        if (drover_is_zero(leaf, DROVER_LEAF_BYTES))
            fail_msg("byte %zu", i);
        leaf[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(root_of_a_whole_cell_in_any_order),
        cmocka_unit_test(root_of_a_zero_cell),
        cmocka_unit_test(root_of_areas),
        cmocka_unit_test(nothing_is_hashed_with_none),
        cmocka_unit_test(names_are_stable),
        cmocka_unit_test(one_byte_anywhere_is_not_zero),
        cmocka_unit_test(one_sector_anywhere_in_a_leaf_is_not_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
