/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's own state, shared by its parts:
 *   copy.c      the public calls           loop.c      poll, timers, progress, the end
 *   plan.c      which cells, in order      extents.c   asks for holes ahead of the copy
 *   transfer.c  read, look, write          commit.c    flush, report, void
 * All of it belongs to the loop's thread, but for what is marked.
 */
#ifndef DROVER_WORKER_COPY_ENGINE_H
#define DROVER_WORKER_COPY_ENGINE_H

#include <glib.h>
#include <stdatomic.h>

#include "lib/rangeset/rangeset.h"
#include "worker/copy/allocation.h"
#include "worker/copy/copy.h"
#include "worker/copy/latency.h"
#include "worker/copy/pool.h"
#include "worker/copy/side.h"
#include "worker/copy/throttle.h"
#include "worker/copy/window.h"

typedef enum {
    CELL_ACTIVE,  /* being read and written */
    CELL_WRITTEN, /* all writes answered, no flush began since */
    CELL_FLUSHING,
    CELL_FLUSHED,  /* waits for the checkpointer */
    CELL_REPORTING /* is with it; only the cell's address is kept here */
} CellState;

typedef struct {
    DroverCopyCell out; /* what is reported; ranges point into own_ranges */
    DroverRange *own_ranges;
    uint64_t offset, end; /* on the disk */
    uint64_t total_bytes; /* of the ranges */
    CellState state;
    GArray *segments;         /* of DroverSegment */
    guint segment;            /* next one to issue */
    uint64_t segment_done;    /* bytes of it that are issued */
    uint64_t remaining;       /* bytes not yet done */
    uint64_t reserved;        /* of the limit of unflushed data */
    uint64_t sent;            /* payload written, as far as answered */
    DroverCellDigest *digest; /* until written */
    bool had_root;            /* written once before: out.digest must come out again */
    int64_t written_us;
} Cell;

/* A stretch of one cell on its way: one buffer, or a hole. */
typedef struct Block {
    struct Block *prev, *next; /* all of the run */
    Cell *cell;                /* invalid when EPOCH is over */
    uint64_t epoch;
    uint64_t offset, len;
    uint8_t *buffer;  /* NULL: a hole */
    uint64_t writing; /* bytes of data that were read and are not yet written */
    unsigned pending; /* operations that are not back */
} Block;

typedef struct Checkpointer Checkpointer;

struct DroverCopy {
    DroverCopyParams params; /* numbers with their defaults; pointers in it are not used, but for callbacks */
    DroverEndpoint *endpoints[2];
    DroverRangeset *areas;
    GByteArray *done_cells;
    bool ran;

    /* any thread */
    DroverThrottle throttle;
    int wake_fd;
    atomic_bool stop, cancel;

    /* the run */
    DroverSide *source, *target;
    DroverPool *pool;
    DroverWindow read_window, write_window;
    bool started;        /* both sides are known and the plan stands */
    uint64_t begin, end; /* the range, resolved */
    uint64_t next_cell;  /* offset of the next cell to look at; end: none left */
    size_t next_area;
    GQueue active;  /* of Cell, in the order of the disk, those with the checkpointer included */
    GList *issuing; /* first of them that may have segments to issue */
    uint64_t epoch; /* rises when the target is voided */
    Block *blocks;
    uint64_t reading_bytes;
    uint64_t writing_bytes;       /* data read and not yet written */
    uint64_t unflushed_bytes;     /* reserved by cells that are not reported */
    bool blocked;                 /* nothing more can be issued before something is reported */
    bool exhausted;               /* every cell is in ACTIVE or done */
    uint64_t read_max, write_max; /* bytes a request, by what the servers take */
    uint64_t request_least;       /* requests are multiples of it, so far as areas allow */
    uint8_t *zeroes;              /* request_bytes of them, for servers that cannot zero */
    uint64_t block_align;         /* both sides' minimum block */

    /* extents */
    GQueue regions;    /* of Region */
    uint64_t ask_from; /* where the next region begins */
    bool use_extents;
    bool extents_failed; /* said so once */

    /* flush and report */
    DroverOp *flush; /* in flight or queued */
    unsigned flush_stalls; /* flushes in a row that got no answer until their deadline */
    Checkpointer *checkpointer;

    /* numbers */
    DroverCopyCounts counts;
    DroverCopyResult *result;
    DroverLatency read_latency, write_latency;
    uint64_t total_bytes;
    uint64_t written_bytes;     /* acknowledged payload */
    int64_t throttled_since_us; /* 0: not now */
    int64_t throttle_wait_us;
    int64_t began_us;
    int64_t next_progress_us;
    int64_t next_growth_us;
    int64_t stopping_since_us; /* 0: not stopping */
    struct {
        int64_t at_us;
        uint64_t bytes;
    } history[8];
    unsigned n_history;
    int64_t last_write_us;

    GError *error; /* the first one ends the run */
    DroverRange failed_range;
};

/* Ends the run with an error; the first one counts. */
void engine_fail(DroverCopy *copy, DroverErrorClass error_class, const DroverRange *region,
                 const char *format, ...) G_GNUC_PRINTF(4, 5);
void engine_log(DroverCopy *copy, DroverLogLevel level, const char *event, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
void engine_wake(DroverCopy *copy); /* any thread */

/* plan.c */
bool engine_plan(DroverCopy *copy,
                 GError **error); /* both sides are known: checks them, resolves the ranges */
/* The next cell to copy at or after *AT (*AREA a hint that moves along): false when there is none. Moves *AT
 * behind it. */
bool engine_next_cell(DroverCopy *copy, uint64_t *at, size_t *area, uint64_t *offset, uint64_t *end);
Cell *engine_cell_new(DroverCopy *copy, uint64_t offset, uint64_t end);
void engine_cell_reset(DroverCopy *copy, Cell *cell);
void engine_cell_free(Cell *cell);

/* extents.c */
void engine_extents_ask(DroverCopy *copy, int64_t now_us);
void engine_extents_answer(DroverCopy *copy, DroverOp *op, int64_t now_us);
bool engine_extents_known(DroverCopy *copy, uint64_t offset,
                          uint64_t end); /* also forgets what lies before OFFSET */
void engine_extents_cut(DroverCopy *copy, const DroverRange *range, GArray *segments);
void engine_extents_clear(DroverCopy *copy);

/* transfer.c */
void engine_issue(DroverCopy *copy, int64_t now_us);
void engine_read_done(DroverCopy *copy, DroverOp *op, int64_t now_us);
void engine_write_done(DroverCopy *copy, DroverOp *op, int64_t now_us); /* zeroes, too */
void engine_blocks_clear(DroverCopy *copy);                             /* after the sides are gone */

/* commit.c */
void engine_commit_start(DroverCopy *copy);
void engine_commit_stop(DroverCopy *copy); /* waits for the checkpointer's callback */
void engine_flush_if_due(DroverCopy *copy, int64_t now_us);
int64_t engine_flush_wait_us(const DroverCopy *copy, int64_t now_us);
void engine_flush_done(DroverCopy *copy, DroverOp *op, int64_t now_us);
void engine_take_reports(DroverCopy *copy);
void engine_report(DroverCopy *copy); /* hands flushed cells to the checkpointer when it is free */
void engine_void_target(DroverCopy *copy, int64_t now_us); /* a connection to the target is gone */

bool engine_is_settled(const DroverCopy *copy); /* no cell is between written and reported */

/* loop.c */
bool engine_run(DroverCopy *copy, GError **error);

#endif
