/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/cells.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MAX_FILE (256u << 20)

static void put_cell(DroverCells *cells, const DroverCopyCell *cell)
{
    DroverCopyCell kept = *cell;
    kept.ranges = g_memdup2(cell->ranges, cell->n_ranges * sizeof *cell->ranges);
    g_array_append_val(cells->cells, kept);
    guint byte = (guint)(cell->cell / 8);
    if (byte >= cells->done->len) {
        guint old = cells->done->len;
        g_byte_array_set_size(cells->done, byte + 1);
        memset(cells->done->data + old, 0, byte + 1 - old);
    }
    cells->done->data[byte] |= (guint8)(1u << (cell->cell % 8));
}

static char *format_cell(const DroverCopyCell *cell)
{
    GString *line = g_string_new(NULL);
    g_string_append_printf(line, "cell %" G_GUINT64_FORMAT " ", cell->cell);
    for (unsigned i = 0; i < cell->digest.len; i++)
        g_string_append_printf(line, "%02x", cell->digest.bytes[i]);
    if (cell->digest.len == 0)
        g_string_append_c(line, '-');
    g_string_append_printf(line, " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n",
                           cell->data_bytes, cell->zero_found_bytes, cell->skipped_bytes);
    return g_string_free(line, FALSE);
}

static bool parse_digest(const char *hex, size_t expected, DroverDigest *digest)
{
    *digest = (DroverDigest){0};
    if (expected == 0)
        return strcmp(hex, "-") == 0;
    if (strlen(hex) != 2 * expected)
        return false;
    for (size_t i = 0; i < expected; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest->bytes[i] = (uint8_t)(high << 4 | low);
    }
    digest->len = (uint8_t)expected;
    return true;
}

static bool parse_cell(const char *line, size_t digest_len, uint64_t n_cells, DroverCopyCell *cell)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 0);
    *cell = (DroverCopyCell){0};
    uint64_t *const numbers[] = {&cell->data_bytes, &cell->zero_found_bytes, &cell->skipped_bytes};
    if (g_strv_length(words) != 6 || strcmp(words[0], "cell") != 0 ||
        !g_ascii_string_to_unsigned(words[1], 10, 0, G_MAXUINT64, &cell->cell, NULL) ||
        cell->cell >= n_cells || !parse_digest(words[2], digest_len, &cell->digest))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (!g_ascii_string_to_unsigned(words[3 + i], 10, 0, DROVER_CELL_BYTES, numbers[i], NULL))
            return false;
    return true;
}

/* What the file must be to be this copy's. */
typedef struct {
    char *header;
    size_t digest_len;
    uint64_t n_cells;
    DroverRangeset *areas; /* NULL: the whole disk */
} Expected;

/* The part of AREAS that lies in CELL; NULL when none does. */
static DroverRange *cell_ranges(DroverRangeset *areas, uint64_t cell, size_t *n)
{
    uint64_t from = cell * DROVER_CELL_BYTES, to = from + DROVER_CELL_BYTES;
    size_t all;
    const DroverRange *ranges = drover_rangeset_ranges(areas, &all);
    size_t first = drover_rangeset_find(areas, from), last = first;
    while (last < all && ranges[last].offset < to)
        last++;
    *n = last - first;
    DroverRange *part = *n > 0 ? g_memdup2(ranges + first, *n * sizeof *part) : NULL;
    for (size_t i = 0; i < *n; i++) {
        uint64_t end = MIN(part[i].offset + part[i].length, to);
        part[i].offset = MAX(part[i].offset, from);
        part[i].length = end - part[i].offset;
    }
    return part;
}

static bool is_foreign(const DroverCells *cells, GError **error)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is no file of drover-copy --resume; it is left alone",
                       cells->path);
}

/* TEXT up to its last newline; *KEPT is how many bytes of it count. What has none may only be a header whose writing was
 * interrupted: everything else is somebody's. */
static bool parse(DroverCells *cells, char *text, const Expected *expected, size_t *kept, GError **error)
{
    char *end = strrchr(text, '\n');
    if (end == NULL) {
        *kept = 0;
        return g_str_has_prefix(expected->header, text) || is_foreign(cells, error);
    }
    *kept = (size_t)(end + 1 - text);
    *end = '\0';
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    if (lines[0] == NULL || !g_str_has_prefix(lines[0], "drover-copy 1 "))
        return is_foreign(cells, error);
    if (strcmp(lines[0], expected->header) != 0)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-COPY-RESUME: %s belongs to another copy: it says\n  %s\nand this copy is\n  %s\n"
            "Remove the file to begin anew",
            cells->path, lines[0], expected->header);
    for (char **line = lines + 1; *line != NULL; line++) {
        DroverCopyCell cell;
        g_autofree DroverRange *ranges = NULL;
        bool good = parse_cell(*line, expected->digest_len, expected->n_cells, &cell);
        if (good && expected->areas != NULL) {
            cell.ranges = ranges = cell_ranges(expected->areas, cell.cell, &cell.n_ranges);
            good = ranges != NULL;
        }
        if (!good)
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "%s: line %zu is damaged; remove the file to begin anew", cells->path,
                               (size_t)(line - lines) + 1);
        if (cell.cell / 8 < cells->done->len && cells->done->data[cell.cell / 8] >> (cell.cell % 8) & 1)
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "%s: line %zu repeats a cell; remove the file to begin anew", cells->path,
                               (size_t)(line - lines) + 1);
        put_cell(cells, &cell);
    }
    return true;
}

static bool write_all(DroverCells *cells, const char *text, size_t len, GError **error)
{
    while (len > 0) {
        ssize_t n = write(cells->fd, text, len);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be written: %s", cells->path,
                               g_strerror(errno));
        text += n;
        len -= (size_t)n;
    }
    if (fdatasync(cells->fd) == -1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be synced: %s", cells->path,
                           g_strerror(errno));
    return true;
}

static bool load(DroverCells *cells, const Expected *expected, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *text = NULL;
    gsize len = 0;
    cells->fd = open(cells->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (cells->fd == -1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be opened: %s", cells->path,
                           g_strerror(errno));
    /* Two at a time would note each cell twice. The lock goes with the process, however it ends. */
    if (flock(cells->fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-COPY-RESUME: another drover-copy is at work with %s",
                           cells->path);
    off_t size = lseek(cells->fd, 0, SEEK_END);
    if (size > (off_t)MAX_FILE)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is too large for a file of --resume",
                           cells->path);
    if (!g_file_get_contents(cells->path, &text, &len, &cause))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s", cause->message);
    if (strlen(text) != len)
        return is_foreign(cells, error);
    size_t kept = 0;
    if (!parse(cells, text, expected, &kept, error))
        return false;
    if (ftruncate(cells->fd, (off_t)kept) == -1 || lseek(cells->fd, 0, SEEK_END) == -1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be written: %s", cells->path,
                           g_strerror(errno));
    if (kept > 0)
        return true;
    g_autofree char *line = g_strconcat(expected->header, "\n", NULL);
    return write_all(cells, line, strlen(line), error);
}

/* " areas:sha256:<hex>" of the canonical list, 16 bytes a range; "" for the whole disk. */
static char *areas_word(DroverRangeset *areas)
{
    if (areas == NULL)
        return g_strdup("");
    size_t n;
    const DroverRange *ranges = drover_rangeset_ranges(areas, &n);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (size_t i = 0; i < n; i++) {
        guint64 pair[2] = {GUINT64_TO_LE(ranges[i].offset), GUINT64_TO_LE(ranges[i].length)};
        g_checksum_update(sum, (const guchar *)pair, sizeof pair);
    }
    return g_strconcat(" areas:sha256:", g_checksum_get_string(sum), NULL);
}

DroverCells *drover_cells_open(const char *path, DroverDigestAlgorithm digest, uint64_t source_bytes,
                               const char *source, const char *target, DroverRangeset *areas, GError **error)
{
    g_autoptr(DroverCells) cells = g_new0(DroverCells, 1);
    cells->fd = -1;
    cells->cells = g_array_new(FALSE, FALSE, sizeof(DroverCopyCell));
    cells->done = g_byte_array_new();
    if (path == NULL)
        return g_steal_pointer(&cells);
    cells->path = g_strdup(path);
    g_autofree char *from = g_uri_escape_string(source, "/:?=[]@", FALSE),
                    *to = g_uri_escape_string(target, "/:?=[]@", FALSE), *which = areas_word(areas);
    g_autofree char *header = g_strdup_printf("drover-copy 1 %s %" G_GUINT64_FORMAT " %s %s%s",
                                              drover_digest_name(digest), source_bytes, from, to, which);
    Expected expected = {.header = header,
                         .digest_len = drover_digest_len(digest),
                         .n_cells = (source_bytes + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES,
                         .areas = areas};
    return load(cells, &expected, error) ? g_steal_pointer(&cells) : NULL;
}

bool drover_cells_add(DroverCells *cells, const DroverCopyCell *added, size_t n, GError **error)
{
    if (cells->fd != -1) {
        g_autoptr(GString) text = g_string_new(NULL);
        for (size_t i = 0; i < n; i++) {
            g_autofree char *line = format_cell(&added[i]);
            g_string_append(text, line);
        }
        if (!write_all(cells, text->str, text->len, error))
            return false;
    }
    for (size_t i = 0; i < n; i++)
        put_cell(cells, &added[i]);
    return true;
}

static int compare(gconstpointer a, gconstpointer b)
{
    const DroverCopyCell *x = a, *y = b;
    return x->cell < y->cell ? -1 : x->cell > y->cell;
}

void drover_cells_sort(DroverCells *cells)
{
    g_array_sort(cells->cells, compare);
}

void drover_cells_free(DroverCells *cells)
{
    if (cells == NULL)
        return;
    for (guint i = 0; i < cells->cells->len; i++)
        g_free((gpointer)g_array_index(cells->cells, DroverCopyCell, i).ranges);
    g_array_unref(cells->cells);
    g_byte_array_unref(cells->done);
    if (cells->fd != -1)
        close(cells->fd);
    g_free(cells->path);
    g_free(cells);
}
