/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the codec files only. */
#ifndef DROVER_SCHEDULER_CODEC_INTERNAL_H
#define DROVER_SCHEDULER_CODEC_INTERNAL_H

#include <protobuf-c/protobuf-c.h>

#include "drover/v1/operation.pb-c.h"
#include "drover/v1/state.pb-c.h"
#include "drover/v1/task.pb-c.h"
#include "scheduler/codec.h"

/* Memory that lives until a message is packed: a GPtrArray with g_free. */
GPtrArray *codec_arena(void);
void *codec_alloc(GPtrArray *arena, size_t size); /* zeroed */
/* INIT copied into the arena. */
#define codec_new(arena, type, ...)                                                                          \
    ((type *)memcpy(codec_alloc(arena, sizeof(type)), &(type)__VA_ARGS__, sizeof(type)))

GBytes *codec_pack(const ProtobufCMessage *message);
/* Unpacks and checks that all text is UTF-8. NULL with a PERMANENT error that names WHAT. */
void *codec_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *value, size_t len,
                   const char *what, GError **error);
void codec_free(void *message);

/* A message kept packed in a GBytes (NULL gives NULL); free with codec_free. */
void *codec_unpack_bytes(const ProtobufCMessageDescriptor *descriptor, GBytes *bytes);

Drover__V1__Error *codec_error(GPtrArray *arena, const DroverFault *fault); /* NULL for none */
void codec_read_error(const Drover__V1__Error *error, DroverFault *fault);
Drover__V1__ByteCounts *codec_counts(GPtrArray *arena, const DroverCounts *counts);
void codec_read_counts(const Drover__V1__ByteCounts *message, DroverCounts *counts);

/* codec_source.c */
const Drover__V1__VsphereSource *codec_vsphere_source(const Drover__V1__DiskSource *source); /* NULL: of another kind */
int32_t codec_source_key(const Drover__V1__DiskSource *source); /* 0: of no VM */
/* SOURCE, of an unpacked message, is what the round's snapshot froze; one of another kind stays as it is. */
void codec_point_at_snapshot(const DroverJob *job, Drover__V1__DiskSource *source);
Drover__V1__SourceVmTask *codec_source_vm(GPtrArray *arena, const DroverJob *job, const DroverTask *task);
/* What SPEC says of its source VM, into SOURCE; copied. */
void codec_read_source_vm(const Drover__V1__JobSpec *spec, DroverSourceVm *source);

/* codec_operation.c. SPEC (of the job) fills in names, offerings and the target; it must outlive the message.
 */
Drover__V1__VolumeOperation *codec_operation(GPtrArray *arena, const DroverJob *job,
                                             const DroverOperation *operation,
                                             const Drover__V1__JobSpec *spec);
/* NULL: of a newer version. */
DroverOperation *codec_read_operation(const Drover__V1__VolumeOperation *message);

#endif
