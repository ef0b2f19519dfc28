/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a copy: an export and our connections to it. Takes operations, spreads them over the
 * connections, and gives them back answered or lost; connects again by itself, with backoff and jitter, until
 * a deadline. What a loss means is the caller's business. Never blocks (but for name resolution); all calls
 * from one thread; no libnbd handle is ever called from its own callback.
 */
#ifndef DROVER_WORKER_COPY_SIDE_H
#define DROVER_WORKER_COPY_SIDE_H

#include <glib.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/copy/endpoint.h"

typedef enum {
    DROVER_OP_READ,
    DROVER_OP_WRITE,
    DROVER_OP_ZERO,
    DROVER_OP_FLUSH,
    DROVER_OP_EXTENTS, /* base:allocation; the answer lands in runs */
} DroverOpKind;

typedef struct DroverConn DroverConn;
typedef struct DroverSide DroverSide;

typedef struct {
    uint64_t length;
    bool hole; /* reads as zero */
} DroverRun;

typedef struct DroverOp {
    /* filled in by the submitter */
    DroverOpKind kind;
    uint32_t flags;  /* of libnbd */
    uint64_t offset; /* bytes */
    uint64_t len;
    void *data; /* READ, WRITE: LEN bytes that stay valid until the operation is back */
    void *owner;
    unsigned tries; /* how often the submitter sent it before; not touched here */

    /* the answer */
    int error;        /* 0, or an errno value as NBD knows them */
    bool lost;        /* no answer: the connection broke; whether the server did it is unknown */
    bool stalled;     /* LOST because nothing was answered on that connection until the deadline */
    bool broke_often; /* lost with five connections, and alone in flight on the last three: do not send it
                         again */
    int64_t latency_us;
    GArray *runs; /* EXTENTS: of DroverRun, from OFFSET on; at least one run when ERROR is 0 */

    /* the side's own */
    DroverConn *conn;
    struct DroverOp *prev, *next;
    int64_t issued_us; /* 0: never reached a connection */
    int64_t not_before_us;
    bool alone;
} DroverOp;

typedef struct {
    uint64_t size;
    bool read_only, can_flush, can_zero, can_fast_zero, can_multi_conn, has_extents;
    uint64_t min_block, preferred_block, max_block; /* 0: not said */
} DroverExportInfo;

typedef struct {
    const char *name;         /* "source" or "target", for messages */
    DroverEndpoint *endpoint; /* taken over */
    bool want_extents;
    unsigned connections;          /* to begin with, when the server says multi-conn */
    unsigned max_connections;      /* as far as drover_side_grow may go */
    int64_t connect_deadline_us;   /* for the first connection */
    int64_t reconnect_deadline_us; /* without any connection */
    int64_t stall_deadline_us;
    int64_t flush_deadline_us;
    bool (*is_fenced)(void *data); /* may be NULL; asked before each connection */
    void (*log)(void *data, DroverLogLevel level, const char *event,
                const char *message); /* message is clean */
    void *data;
} DroverSideConfig;

DroverSide *drover_side_new(const DroverSideConfig *config, int64_t now_us);
void drover_side_free(DroverSide *side); /* open operations are freed, too */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverSide, drover_side_free)

DroverOp *drover_op_new(DroverOpKind kind, uint64_t offset, uint64_t len, void *data, void *owner);
void drover_op_free(DroverOp *op);

/* Queues OP; it comes back through drover_side_take. DELAY_US: not before that time has passed. */
void drover_side_submit(DroverSide *side, DroverOp *op, int64_t delay_us, int64_t now_us);
/* Hands queued operations to connections. */
void drover_side_pump(DroverSide *side, int64_t now_us);
/* The next operation that is back, or NULL; the caller owns it. */
DroverOp *drover_side_take(DroverSide *side);

/*
 * Timers: connects, gives up connections that stall. False with the error that ends the copy: a deadline is
 * over, the export changed, fenced.
 */
bool drover_side_tick(DroverSide *side, int64_t now_us, GError **error);
/* When drover_side_tick must run next, microseconds from now. */
int64_t drover_side_wait_us(const DroverSide *side, int64_t now_us);

/* Poll entries for all connections; returns how many were written to FDS (at most drover_side_max_fds). */
size_t drover_side_max_fds(const DroverSide *side);
size_t drover_side_fill_fds(DroverSide *side, struct pollfd *fds);
void drover_side_handle_fds(DroverSide *side, const struct pollfd *fds, size_t n, int64_t now_us);

/* Up to CONNECTIONS, if all that are wanted so far work; at most twice as many, and max_connections. */
void drover_side_grow(DroverSide *side, uint64_t connections);

bool drover_side_is_up(const DroverSide *side);                   /* at least one connection works */
const DroverExportInfo *drover_side_info(const DroverSide *side); /* NULL until the first connection */
const char *drover_side_label(const DroverSide *side);
unsigned drover_side_open_connections(const DroverSide *side);
unsigned drover_side_reconnects(const DroverSide *side);
void drover_side_tls(const DroverSide *side, DroverTlsStats *stats); /* left alone when it has no TLS */
size_t drover_side_in_flight(const DroverSide *side);                /* operations */
size_t drover_side_queued(const DroverSide *side);
/* True once after connections were lost since the last call. */
bool drover_side_take_loss(DroverSide *side);
/* One connection broke, now close the others, too: what is in flight comes back as lost; new ones are opened
 * at once. */
void drover_side_break(DroverSide *side, int64_t now_us);
/* Everything that is queued and not in flight comes back as lost. */
void drover_side_drop_queue(DroverSide *side);
/* The server cannot do what it offered. */
void drover_side_forget_fast_zero(DroverSide *side);
void drover_side_forget_zero(DroverSide *side);
/* Says good-bye on all connections; nothing may be in flight. */
void drover_side_disconnect(DroverSide *side);

#endif
