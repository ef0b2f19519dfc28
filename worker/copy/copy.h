/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy engine: moves one byte range, or a list of areas, of one disk from an NBD source to an NBD target.
 *
 * Unit of work is the cell (DROVER_CELL_BYTES on the disk). A cell is done when all of it was written *and* a
 * flush that began afterwards succeeded; only then is it reported, with the digest of what was read. Lost
 * connections, stalled peers and restarted servers are ridden out: what was written but not flushed counts as
 * lost and is written again.
 *
 * Threads: drover_copy_run() blocks its caller, who becomes the engine's event loop over all connections.
 * on_cells_done runs on a second thread of the engine, one call at a time, so that a slow checkpoint does not
 * stop the transfer; all other callbacks run on the loop's thread, possibly at the same time as
 * on_cells_done, and must not block. drover_copy_set_rate, _stop and _cancel may be called from any thread
 * (not from a signal handler).
 */
#ifndef DROVER_WORKER_COPY_COPY_H
#define DROVER_WORKER_COPY_COPY_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/digest/digest.h"
#include "lib/tls/tls.h"

/*
 * Where an export is. Either URI (nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH), or HOST and
 * PORT, or SOCKET_PATH, the last two with EXPORT_NAME. With TOKEN set the name asked for is
 * "<export>@<generation>.<token>"; the token never appears in logs or errors. All strings are copied where a
 * call keeps them.
 *
 * TLS: nbds://HOST[:PORT]/EXPORT and nbds+unix:// negotiate it inside NBD (STARTTLS),
 * nbd+tls://HOST[:PORT]/EXPORT speaks it from the first byte (port 443); TLS_MODE says so where there is no
 * URI. URIs may name the files by ?tls-certificates=DIR (ca-cert.pem, client-cert.pem, client-key.pem) and
 * the server by ?tls-hostname=NAME; what TLS gives counts more. Where TLS is asked for, nothing is ever sent
 * or taken in plain text.
 */
typedef struct {
    const char *uri;
    const char *host;
    uint16_t port; /* 0: 10809 */
    const char *socket_path;
    const char *export_name; /* NULL: "" */
    uint64_t generation;
    const char *token;
    DroverTlsMode tls_mode; /* without URI */
    DroverTlsSettings tls;
} DroverCopyEndpoint;

/* A finished cell. Sums to the cell's part of the copied ranges: data + zero_found + skipped. */
typedef struct {
    uint64_t cell;             /* index on the disk */
    DroverDigest digest;       /* root of what was read; len 0 with DROVER_DIGEST_NONE */
    uint64_t data_bytes;       /* written as data */
    uint64_t zero_found_bytes; /* data by the source's extents, but all zero: written as zeroes */
    uint64_t skipped_bytes;    /* holes by the source's extents: not read */
    const DroverRange *ranges; /* canonical range list; n_ranges 0: the whole cell */
    size_t n_ranges;
} DroverCopyCell;

/*
 * Bytes by what became of them. Holes count in pieces of the 64 KiB grid: a piece with any data in it counts
 * as read. data, zero_found and skipped: cells reported by on_cells_done in this run only, so they never
 * fall.
 */
typedef struct {
    uint64_t data_bytes;
    uint64_t zero_found_bytes;
    uint64_t skipped_bytes;
    uint64_t resent_bytes; /* data written more than once in this run */
    uint64_t read_bytes;   /* read from the source, repetitions included */
} DroverCopyCounts;

/* Values equal drover.v1.StallCause. */
typedef enum {
    DROVER_STALL_NONE = 1,
    DROVER_STALL_SOURCE = 2,
    DROVER_STALL_TARGET = 3,
    DROVER_STALL_THROTTLE = 4,
    DROVER_STALL_RECONNECT = 5,
} DroverStallCause;

typedef struct {
    DroverCopyCounts counts;
    uint64_t total_bytes;     /* bytes of the ranges to copy in this run, done cells left out */
    uint64_t in_flight_bytes; /* data written at the target, not yet reported */
    uint64_t
        pending_bytes; /* the same with zeroes and holes: counts + pending_bytes grow towards total_bytes */
    uint64_t rate_bytes_per_second; /* data written, over the last few seconds */
    uint64_t read_window_bytes;     /* of reads, that may be in flight now */
    DroverStallCause stall_cause;
    uint32_t reconnects;
} DroverCopyProgress;

typedef struct {
    void *data; /* first argument of each */

    /*
     * CELLS (N of them) are flushed at the target. The callee makes that durable, may block, and returns
     * true; false with an error ends the copy with that error. When the copy is stopped or cancelled
     * meanwhile, it must still return. Cells come in ascending order as a rule, never twice in one run. NULL:
     * nobody wants to know.
     */
    bool (*on_cells_done)(void *data, const DroverCopyCell *cells, size_t n, GError **error);

    void (*on_progress)(
        void *data,
        const DroverCopyProgress *progress); /* about every progress_interval_ms, and at the end */

    /* For the caller's log; MESSAGE is redacted. NULL: the process log (lib/base/log.h). */
    void (*on_log)(void *data, DroverLogLevel level, const char *event, const char *message);

    /* True when somebody newer owns the target. Asked before each (re)connect and when an error is about to
     * be reported; it is the only way in which a run ends as DROVER_ERROR_FENCED. NULL: never. */
    bool (*is_fenced)(void *data);
} DroverCopyCallbacks;

/* Zero in a number means its default. Pointers need to live until drover_copy_new returns. */
typedef struct {
    DroverCopyEndpoint source;
    DroverCopyEndpoint target;

    /* What to copy: [offset, offset + length), beginning on a cell and ending on one or at the disk's end;
     * length 0: up to the end of the source. With N_AREAS > 0 only AREAS (inside it; any order, overlaps
     * allowed; rounded outwards to the servers' block sizes). */
    uint64_t offset;
    uint64_t length;
    const DroverRange *areas;
    size_t n_areas;

    /* Bit i (LSB first): cell offset / 32 MiB + i is done, neither read nor written. */
    const uint8_t *done_cells;
    size_t done_cells_len; /* bytes; may be shorter than the range, or 0 */

    uint64_t source_size; /* when not 0: the source must have this size, rounded up to its block size (512 for
                             images) */

    DroverDigestAlgorithm digest; /* 0: DROVER_DIGEST_NONE */
    bool no_extents;              /* do not ask the source for holes */
    bool target_is_zero;          /* ranges not done read as zero at the target: write no zeroes */
    bool allocated;               /* zeroes must not punch holes into the target (NBD_CMD_FLAG_NO_HOLE) */
    bool no_flush;                /* for comparisons only: cells count as done without a flush */

    uint32_t connections; /* per side where multi-conn is offered; default: 4, up to 16 while latency asks for
                             more */
    uint64_t memory_bytes;    /* buffers; default 64 MiB, at least 1 MiB */
    uint64_t unflushed_bytes; /* most data sent and not yet reported, in flight included; default and least 64
                                 MiB */
    uint64_t request_bytes;   /* default 512 KiB, rounded to 64 KiB, at most 2 MiB; less on slow paths */
    uint64_t rate_bytes_per_second; /* 0: unlimited */

    uint32_t connect_deadline_ms;   /* first connection of each side, tries included; default 30 s */
    uint32_t reconnect_deadline_ms; /* without a working connection after a loss; default 10 min */
    uint32_t stall_deadline_ms;     /* a connection that owes answers and gives none; default 60 s */
    uint32_t flush_deadline_ms;     /* the same for a flush; default 5 min */
    uint32_t
        flush_interval_ms; /* a finished cell waits at most so long for its flush to begin; default 1 s */
    uint32_t progress_interval_ms; /* default 500 */

    DroverCopyCallbacks callbacks;
} DroverCopyParams;

typedef struct {
    DroverCopyCounts counts;
    uint64_t source_size; /* bytes; 0 when never connected */
    uint64_t target_size;
    uint64_t cells_done;    /* reported in this run */
    bool complete;          /* every cell of the ranges is done */
    bool cancelled;         /* ended by drover_copy_stop or _cancel */
    bool extents_available; /* false: everything counted as data */
    bool flush_failed; /* the target reported a failed flush: cells of this generation that were not read back
                          are void */
    DroverRange failed_range; /* on error, length 0: none in particular */
    uint64_t read_requests, write_requests, zero_requests, extents_requests, flush_requests;
    uint64_t data_bytes_sent; /* payload of write requests that were answered, repetitions included */
    uint32_t connections_source, connections_target;
    uint32_t reconnects;
    DroverTlsStats tls_source, tls_target; /* handshakes 0: no TLS, or never connected */
    uint64_t duration_us;
    uint64_t read_latency_us[3]; /* 50th, 95th, 99th percentile, within 10 % */
    uint64_t write_latency_us[3];
    uint64_t read_window_bytes[2]; /* bytes that could be in flight: at most, and in the end */
    uint64_t write_window_bytes[2];
    uint64_t throttled_us; /* spent waiting for the rate limit */
} DroverCopyResult;

typedef struct DroverCopy DroverCopy;

/* Checks PARAMS without connecting; NULL with a PERMANENT error. */
DroverCopy *drover_copy_new(const DroverCopyParams *params, GError **error);
void drover_copy_free(DroverCopy *copy); /* not while it runs */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverCopy, drover_copy_free)

/*
 * Copies. Returns true when every cell is done. RESULT is filled in either case. Once per DroverCopy.
 * Errors carry their class: RETRYABLE (deadline over, peer lost, stopped), PERMANENT (no space, read-only or
 * too small target, a region that cannot be read or written: result->failed_range), FENCED (is_fenced said
 * so), or what on_cells_done returned. Codes: DRV-COPY-CONNECT, DRV-COPY-LOST, DRV-COPY-STOPPED,
 * DRV-SOURCE-READ, DRV-SOURCE-CHANGED, DRV-SOURCE-SHORT, DRV-TARGET-TOO-SMALL, DRV-TARGET-BLOCK, DRV-TARGET-READ-ONLY,
 * DRV-TARGET-NO-SPACE, DRV-TARGET-WRITE, DRV-TARGET-FLUSH, DRV-FENCED, and those of lib/tls/tls.h.
 */
bool drover_copy_run(DroverCopy *copy, DroverCopyResult *result, GError **error);

/* Stop orderly: nothing new is asked for, what arrives within two seconds is written, flushed and reported.
 * Cells that are not complete are dropped. */
void drover_copy_stop(DroverCopy *copy);
/* Stop at once: connections are closed, nothing more is flushed or reported. */
void drover_copy_cancel(DroverCopy *copy);

/*
 * New limit in bytes per second, 0 for none. With TTL_MS > 0 it is a grant: after that time FLOOR bytes per
 * second count (0: none may move) until the next call.
 */
void drover_copy_set_rate(DroverCopy *copy, uint64_t bytes_per_second, uint64_t ttl_ms,
                          uint64_t floor_bytes_per_second);

/* What an export looks like. */
typedef struct {
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* in pieces of the 64 KiB grid, as the counts above; the size when there are no
                                 extents */
    bool extents_available;
    bool read_only;
    bool can_multi_conn;
    uint64_t min_block, preferred_block, max_block; /* bytes; 0: the server does not say */
    uint64_t bucket_bytes;                          /* a multiple of 32 MiB */
    size_t n_buckets;
    uint64_t *bucket_allocated_bytes; /* n_buckets of them; drover_copy_scan_clear frees it */
} DroverCopyScan;

/*
 * Asks the whole export for its allocation; reads no data. BUCKET_BYTES 0: the smallest multiple of 32 MiB
 * that gives at most 4096 buckets. Blocks; CANCELLABLE may be NULL, cancelling gives a RETRYABLE error
 * (DRV-COPY-STOPPED).
 */
bool drover_copy_scan(const DroverCopyEndpoint *endpoint, uint64_t bucket_bytes, GCancellable *cancellable,
                      DroverCopyScan *scan, GError **error);
void drover_copy_scan_clear(DroverCopyScan *scan);

/* Size and abilities only: as drover_copy_scan, but allocated_bytes is the size and there are no buckets. */
bool drover_copy_probe(const DroverCopyEndpoint *endpoint, GCancellable *cancellable, DroverCopyScan *scan,
                       GError **error);

/*
 * Reads cells back and compares them with the digests in CELLS (N of them, ascending; only cell, digest and
 * ranges are looked at). What the export calls a hole counts as zeroes without being read. Every cell that
 * differs is told to ON_DIFFERENT with its part of the disk; ON_PROGRESS (or NULL) hears how many cells are
 * compared, about twice a second. Blocks. True when all could be compared, equal or not; *DIFFERENT is how
 * many are not equal.
 */
typedef struct {
    DroverDigestAlgorithm digest; /* not NONE */
    uint64_t size_bytes;          /* of the disk: where its last cell ends */
    const DroverCopyCell *cells;
    size_t n;
    uint32_t connect_deadline_ms, reconnect_deadline_ms, stall_deadline_ms; /* as in DroverCopyParams; 0: default */
    void *data;
    void (*on_different)(void *data, uint64_t cell, DroverRange range);
    void (*on_progress)(void *data, size_t cells_compared);
} DroverCopyVerify;
bool drover_copy_verify(const DroverCopyEndpoint *endpoint, const DroverCopyVerify *verify,
                        GCancellable *cancellable, uint64_t *different, GError **error);

#endif
