/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/digest/digest.h"

#include <openssl/evp.h>
#include <string.h>
#include <xxhash.h>
#ifdef DROVER_HAVE_XXH_DISPATCH
/* Declared here: its header is missing from some packages that do have the symbol. */
XXH128_hash_t XXH3_128bits_dispatch(const void *input, size_t len);
#else
#define XXH3_128bits_dispatch XXH3_128bits
#endif

struct DroverCellDigest {
    DroverDigestAlgorithm algorithm;
    size_t leaf_len; /* bytes of one leaf */
    size_t n_ranges;
    DroverRange *ranges;
    size_t *first_piece; /* index of each range's first piece */
    size_t n_pieces;
    size_t n_present;
    uint8_t *leaves;  /* n_pieces * leaf_len */
    uint8_t *present; /* one byte a piece */
};

static const uint8_t zeroes[DROVER_LEAF_BYTES];

size_t drover_digest_len(DroverDigestAlgorithm algorithm)
{
    switch (algorithm) {
    case DROVER_DIGEST_XXH3:
        return sizeof(XXH128_canonical_t);
    case DROVER_DIGEST_SHA256:
        return 32;
    case DROVER_DIGEST_NONE:
        break;
    }
    return 0;
}

static const struct {
    DroverDigestAlgorithm algorithm;
    const char *name;
} names[] = {{DROVER_DIGEST_NONE, "none"}, {DROVER_DIGEST_XXH3, "xxh3"}, {DROVER_DIGEST_SHA256, "sha256"}};

const char *drover_digest_name(DroverDigestAlgorithm algorithm)
{
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].algorithm == algorithm)
            return names[i].name;
    return "unknown";
}

bool drover_digest_parse_name(const char *name, DroverDigestAlgorithm *out)
{
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_strcmp0(names[i].name, name) == 0) {
            *out = names[i].algorithm;
            return true;
        }
    return false;
}

bool drover_digest_equal(const DroverDigest *a, const DroverDigest *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* The implementation of SHA-256, fetched once: a look-up by name for each 64 KiB would cost more than the
 * hash's set-up. */
static const EVP_MD *sha256(void)
{
    static gsize once;
    static EVP_MD *md;
    if (g_once_init_enter(&once)) {
        md = EVP_MD_fetch(NULL, "SHA256", NULL);
        g_assert(md != NULL);
        g_once_init_leave(&once, 1);
    }
    return md;
}

static void hash(DroverDigestAlgorithm algorithm, const void *data, size_t len, uint8_t *out)
{
    if (algorithm == DROVER_DIGEST_XXH3) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_dispatch(data, len));
        memcpy(out, canonical.digest, sizeof canonical.digest);
    } else if (algorithm == DROVER_DIGEST_SHA256) {
        int ok = EVP_Digest(data, len, out, NULL, sha256(), NULL);
        g_assert(ok == 1);
    }
}

void drover_digest_bytes(DroverDigestAlgorithm algorithm, const void *data, size_t len, DroverDigest *out)
{
    *out = (DroverDigest){.len = (uint8_t)drover_digest_len(algorithm)};
    hash(algorithm, data, len, out->bytes);
}

/* Leaf of a whole zero piece; the result lives for ever. */
static const uint8_t *zero_leaf(DroverDigestAlgorithm algorithm)
{
    static gsize once;
    static uint8_t leaves[DROVER_DIGEST_SHA256 + 1][DROVER_DIGEST_MAX];
    if (g_once_init_enter(&once)) {
        hash(DROVER_DIGEST_XXH3, zeroes, sizeof zeroes, leaves[DROVER_DIGEST_XXH3]);
        hash(DROVER_DIGEST_SHA256, zeroes, sizeof zeroes, leaves[DROVER_DIGEST_SHA256]);
        g_once_init_leave(&once, 1);
    }
    return leaves[algorithm];
}

static uint64_t grid_down(uint64_t offset)
{
    return offset / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES;
}

static size_t pieces_in(const DroverRange *range)
{
    uint64_t first = range->offset / DROVER_LEAF_BYTES;
    uint64_t last = (range->offset + range->length - 1) / DROVER_LEAF_BYTES;
    return (size_t)(last - first + 1);
}

DroverCellDigest *drover_cell_digest_new(DroverDigestAlgorithm algorithm, uint64_t cell_offset,
                                         uint64_t cell_len, const DroverRange *ranges, size_t n_ranges)
{
    DroverRange whole = {cell_offset, cell_len};
    if (n_ranges == 0) {
        ranges = &whole;
        n_ranges = 1;
    }
    DroverCellDigest *cell = g_new0(DroverCellDigest, 1);
    cell->algorithm = algorithm;
    cell->leaf_len = drover_digest_len(algorithm);
    cell->n_ranges = n_ranges;
    cell->ranges = g_memdup2(ranges, n_ranges * sizeof *ranges);
    cell->first_piece = g_new(size_t, n_ranges);
    uint64_t end = cell_offset;
    for (size_t i = 0; i < n_ranges; i++) {
        g_assert(ranges[i].length > 0 && ranges[i].offset >= end);
        end = ranges[i].offset + ranges[i].length;
        cell->first_piece[i] = cell->n_pieces;
        cell->n_pieces += pieces_in(&ranges[i]);
    }
    g_assert(end <= cell_offset + cell_len);
    cell->leaves = g_malloc(MAX(cell->n_pieces * cell->leaf_len, 1));
    cell->present = g_malloc0(cell->n_pieces);
    return cell;
}

void drover_cell_digest_free(DroverCellDigest *cell)
{
    if (cell == NULL)
        return;
    g_free(cell->ranges);
    g_free(cell->first_piece);
    g_free(cell->leaves);
    g_free(cell->present);
    g_free(cell);
}

void drover_cell_digest_reset(DroverCellDigest *cell)
{
    memset(cell->present, 0, cell->n_pieces);
    cell->n_present = 0;
}

/* The range that holds OFFSET. */
static size_t find_range(const DroverCellDigest *cell, uint64_t offset)
{
    size_t low = 0, high = cell->n_ranges;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (cell->ranges[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    const DroverRange *range = &cell->ranges[low];
    g_assert(offset >= range->offset && offset - range->offset < range->length);
    return low;
}

static void add(DroverCellDigest *cell, uint64_t offset, const uint8_t *data, uint64_t len)
{
    if (len == 0)
        return;
    size_t r = find_range(cell, offset);
    const DroverRange *range = &cell->ranges[r];
    uint64_t range_end = range->offset + range->length;
    g_assert(len <= range_end - offset);
    g_assert(offset == range->offset || offset % DROVER_LEAF_BYTES == 0);
    g_assert(offset + len == range_end || (offset + len) % DROVER_LEAF_BYTES == 0);

    size_t piece =
        cell->first_piece[r] + (size_t)(offset / DROVER_LEAF_BYTES - range->offset / DROVER_LEAF_BYTES);
    for (uint64_t at = offset, end = offset + len; at < end; piece++) {
        uint64_t next = MIN(grid_down(at) + DROVER_LEAF_BYTES, end);
        uint8_t *leaf = cell->leaves + piece * cell->leaf_len;
        if (data != NULL)
            hash(cell->algorithm, data + (at - offset), (size_t)(next - at), leaf);
        else if (next - at == DROVER_LEAF_BYTES)
            memcpy(leaf, zero_leaf(cell->algorithm), cell->leaf_len);
        else
            hash(cell->algorithm, zeroes, (size_t)(next - at), leaf);
        if (!cell->present[piece]) {
            cell->present[piece] = 1;
            cell->n_present++;
        }
        at = next;
    }
}

void drover_cell_digest_add(DroverCellDigest *cell, uint64_t offset, const void *data, size_t len)
{
    g_assert(data != NULL || len == 0);
    add(cell, offset, data, len);
}

void drover_cell_digest_add_zero(DroverCellDigest *cell, uint64_t offset, uint64_t len)
{
    add(cell, offset, NULL, len);
}

bool drover_cell_digest_is_complete(const DroverCellDigest *cell)
{
    return cell->n_present == cell->n_pieces;
}

static uint8_t *put_le64(uint8_t *p, uint64_t value)
{
    uint64_t le = GUINT64_TO_LE(value);
    memcpy(p, &le, sizeof le);
    return p + sizeof le;
}

bool drover_cell_digest_root(const DroverCellDigest *cell, DroverDigest *out)
{
    if (!drover_cell_digest_is_complete(cell))
        return false;
    size_t len = cell->n_pieces * (16 + cell->leaf_len);
    g_autofree uint8_t *text = g_malloc(len);
    uint8_t *p = text;
    size_t piece = 0;
    for (size_t r = 0; r < cell->n_ranges; r++) {
        const DroverRange *range = &cell->ranges[r];
        for (uint64_t at = range->offset, end = at + range->length; at < end; piece++) {
            uint64_t next = MIN(grid_down(at) + DROVER_LEAF_BYTES, end);
            p = put_le64(p, at);
            p = put_le64(p, next - at);
            memcpy(p, cell->leaves + piece * cell->leaf_len, cell->leaf_len);
            p += cell->leaf_len;
            at = next;
        }
    }
    drover_digest_bytes(cell->algorithm, text, len, out);
    return true;
}
