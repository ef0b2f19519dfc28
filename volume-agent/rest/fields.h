/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: strict JSON, held against a table of fields. What is not in the table is refused by its
 * name. Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_FIELDS_H
#define DROVER_VOLUME_AGENT_REST_FIELDS_H

#include <stdint.h>

#include "volume-agent/rest/reply.h"

typedef enum {
    DROVER_FIELD_TEXT, /* 1 to LIMIT characters, none of them a control character */
    DROVER_FIELD_UUID,
    DROVER_FIELD_NAME,   /* a job or disk id */
    DROVER_FIELD_NUMBER, /* MINIMUM to LIMIT */
    DROVER_FIELD_FLAG,
    DROVER_FIELD_LIST, /* of at most LIMIT objects like OF, or of texts of at most 255 characters */
} DroverRestFieldType;

typedef struct DroverRestField {
    const char *name; /* NULL ends the table */
    DroverRestFieldType type;
    bool required;
    json_int_t minimum;
    json_int_t limit;
    const struct DroverRestField *of; /* of a list; NULL: texts */
} DroverRestField;

/* The object in BODY, LEN bytes; a new reference. With LEN 0: {}. NULL with *PROBLEM 400 that names place or
 * field. */
json_t *drover_rest_parse_body(const char *body, size_t len, const DroverRestField *table,
                               DroverRestProblem *problem);

/* Values of a parsed body: the default when the field is not there. Texts belong to BODY. */
const char *drover_rest_text(const json_t *body, const char *name); /* "" */
uint64_t drover_rest_number(const json_t *body, const char *name);  /* 0 */
bool drover_rest_flag(const json_t *body, const char *name);        /* false */

#endif
