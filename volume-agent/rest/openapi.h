/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.yaml, which is part of the program. */
#ifndef DROVER_VOLUME_AGENT_REST_OPENAPI_H
#define DROVER_VOLUME_AGENT_REST_OPENAPI_H

/* Its text; newly allocated. */
char *drover_rest_openapi(void);

#endif
