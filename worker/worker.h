/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of one worker process share. Filled by main, immutable afterwards but for what the parts own. */
#ifndef DROVER_WORKER_WORKER_H
#define DROVER_WORKER_WORKER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/kafka/kafka.h"
#include "lib/tls/tls.h"
#include "worker/codec.h"
#include "worker/report.h"
#include "worker/running.h"

typedef struct DroverControl DroverControl;

typedef struct {
    DroverReporterName name;
    char *socket_dir;
    const char *const *file_roots;
    unsigned copy_slots;
    unsigned source_slots;
    unsigned connections;
    uint64_t memory_bytes;         /* of one copy slot */
    uint64_t request_bytes;
    unsigned heartbeat_interval_ms;
    unsigned reconnect_timeout_ms;
    bool target_tls;
    DroverTlsSettings tls; /* for targets; owned by the configuration */
    unsigned connect_timeout_ms;
    unsigned drain_timeout_ms;
    unsigned checkpoint_wait_ms;
    const char *vcenters_file;     /* "": none */
    unsigned nfc_port;             /* of ESXi hosts, tried by preflights; 0: not tried */
    DroverVsphereSources vsphere;  /* .vcenters NULL: no vCenter is configured */
    char *source_topic;
    char *copy_topic;
    char *events_topic;
    DroverKafka *kafka;
    DroverProducer *producer;
    DroverReporter *reporter;
    DroverRunningTable *running;
    DroverControl *control; /* set by drover_control_start */
} DroverWorker;

#endif
