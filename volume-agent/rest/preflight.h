/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for a preflight. Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_PREFLIGHT_H
#define DROVER_VOLUME_AGENT_REST_PREFLIGHT_H

#include "volume-agent/rest/fields.h"

extern const DroverRestField drover_rest_preflight_fields[];

#endif
