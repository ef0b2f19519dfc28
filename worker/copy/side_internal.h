/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by side.c (operations, poll) and connect.c (connections come and go). */
#ifndef DROVER_WORKER_COPY_SIDE_INTERNAL_H
#define DROVER_WORKER_COPY_SIDE_INTERNAL_H

#include <libnbd.h>

#include "worker/copy/side.h"

typedef struct {
    DroverOp *head, *tail;
    size_t len;
} DroverOpList;

typedef enum { CONN_DOWN, CONN_CONNECTING, CONN_READY } DroverConnState;

struct DroverConn {
    DroverSide *side;
    struct nbd_handle *nbd; /* NULL when down */
    DroverTlsSession *tls;  /* NULL when down, or plain */
    bool tls_waits;         /* nbd has no socket before TLS is ready */
    DroverConnState state;
    DroverOpList ops;  /* in flight */
    unsigned flushes;  /* of them */
    bool doomed;       /* the server said that it goes */
    bool stalled;      /* its deadline is over */
    bool retired;      /* given up: the server takes fewer connections than it offers */
    unsigned failures; /* attempts in a row that failed while others worked */
    int64_t ready_us;
    int64_t active_us; /* last sign of life, or when it began to owe us something */
};

struct DroverSide {
    DroverSideConfig config;
    DroverEndpoint *endpoint;
    DroverConn *conns;
    unsigned n_conns;  /* allocated */
    unsigned n_start;  /* wanted where the server says multi-conn */
    unsigned n_wanted; /* 1 until it does */
    unsigned n_ready;
    bool known; /* info is valid */
    DroverExportInfo info;
    DroverOpList queue;   /* to be issued, in order */
    DroverOpList delayed; /* waiting for their not_before */
    DroverOpList completed;
    size_t in_flight;
    bool alone;           /* one suspect is in flight and nothing may join it */
    GHashTable *suspects; /* offset of a lost operation -> how often (guint) */
    bool loss;
    unsigned reconnects;
    unsigned attempts; /* connections in a row that failed or broke without one answered operation */
    int64_t next_attempt_us;
    int64_t down_since_us;    /* no connection */
    int64_t trouble_since_us; /* no answer, connections that broke at once included */
    char *last_error;         /* clean */
    GError *fatal;            /* found inside event handling, reported by the next tick */
};

void drover_op_list_push(DroverOpList *list, DroverOp *op);
void drover_op_list_push_front(DroverOpList *list, DroverOp *op);
void drover_op_list_remove(DroverOpList *list, DroverOp *op);

/* connect.c */
void drover_conn_open(DroverConn *conn, int64_t now_us);
void drover_conn_ready(DroverConn *conn, int64_t now_us);
/* The TLS session has an answer: a socket for libnbd, or why there is none. */
void drover_conn_tls_answer(DroverConn *conn, int64_t now_us);
/* Closes; operations in flight go to the completed list as lost. TEXT may come from libnbd. */
void drover_conn_lost(DroverConn *conn, const char *text, int64_t now_us);

#endif
