/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/codec_internal.h"

#include <string.h>

/* Characters of an error from elsewhere that are kept: it goes into state records. */
#define MESSAGE_MAX 2000

GPtrArray *codec_arena(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

void *codec_alloc(GPtrArray *arena, size_t size)
{
    void *memory = g_malloc0(MAX(size, 1));
    g_ptr_array_add(arena, memory);
    return memory;
}

GBytes *codec_pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = g_malloc(MAX(len, 1));
    protobuf_c_message_pack(message, bytes);
    return g_bytes_new_take(bytes, len);
}

static bool is_utf8(const ProtobufCMessage *message);

static bool value_is_utf8(const ProtobufCFieldDescriptor *field, const void *value)
{
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(const char *const *)value;
        return text == NULL || g_utf8_validate(text, -1, NULL);
    }
    const ProtobufCMessage *inner = *(const ProtobufCMessage *const *)value;
    return inner == NULL || is_utf8(inner);
}

static bool field_is_utf8(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message, *member = base + field->offset;
    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
        return true;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
        const void *const *array = *(const void *const *const *)(const void *)member;
        for (size_t i = 0; i < n; i++)
            if (!value_is_utf8(field, &array[i]))
                return false;
        return true;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
        *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id)
        return true;
    return value_is_utf8(field, member);
}

static bool is_utf8(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++)
        if (!field_is_utf8(message, &message->descriptor->fields[i]))
            return false;
    return true;
}

void *codec_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *value, size_t len,
                   const char *what, GError **error)
{
    ProtobufCMessage *message =
        value != NULL ? protobuf_c_message_unpack(descriptor, NULL, len, value) : NULL;
    if (message == NULL) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s cannot be decoded as %s", what, descriptor->name);
        return NULL;
    }
    if (!is_utf8(message)) {
        codec_free(message);
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s holds text that is not UTF-8", what);
        return NULL;
    }
    return message;
}

void codec_free(void *message)
{
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
}

void *codec_unpack_bytes(const ProtobufCMessageDescriptor *descriptor, GBytes *bytes)
{
    if (bytes == NULL)
        return NULL;
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    /* an empty message has no bytes, but protobuf-c wants an address */
    return protobuf_c_message_unpack(descriptor, NULL, len, data != NULL ? data : (const uint8_t *)"");
}

Drover__V1__Error *codec_error(GPtrArray *arena, const DroverFault *fault)
{
    if (fault->error_class == 0)
        return NULL;
    Drover__V1__Error *error = codec_new(arena, Drover__V1__Error, DROVER__V1__ERROR__INIT);
    error->error_class = (Drover__V1__ErrorClass)fault->error_class;
    error->code = fault->code;
    error->message = fault->message;
    return error;
}

void codec_read_error(const Drover__V1__Error *error, DroverFault *fault)
{
    if (error == NULL) {
        drover_fault_clear(fault);
        return;
    }
    /* A class of a newer version: whatever it means, repeating is bounded. */
    DroverErrorClass error_class = error->error_class >= 1 && error->error_class <= 4
                                       ? (DroverErrorClass)error->error_class
                                       : DROVER_ERROR_RETRYABLE;
    g_autofree char *message =
        g_utf8_substring(error->message, 0, MIN(g_utf8_strlen(error->message, -1), MESSAGE_MAX));
    g_autofree char *code = *error->code != '\0' ? g_strdup(error->code) : drover_error_code(error->message);
    drover_fault_set(fault, error_class, code, "%s", message);
}

Drover__V1__ByteCounts *codec_counts(GPtrArray *arena, const DroverCounts *counts)
{
    Drover__V1__ByteCounts *message = codec_new(arena, Drover__V1__ByteCounts, DROVER__V1__BYTE_COUNTS__INIT);
    message->data_bytes = counts->data;
    message->zero_found_bytes = counts->zero_found;
    message->skipped_bytes = counts->skipped;
    message->resent_bytes = counts->resent;
    message->read_bytes = counts->read;
    return message;
}

void codec_read_counts(const Drover__V1__ByteCounts *message, DroverCounts *counts)
{
    if (message != NULL)
        *counts = (DroverCounts){message->data_bytes, message->zero_found_bytes, message->skipped_bytes,
                                 message->resent_bytes, message->read_bytes};
}
