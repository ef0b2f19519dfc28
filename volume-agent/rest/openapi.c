/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/openapi.h"

#include <glib.h>

__asm__(".section .rodata\n"
        ".global drover_rest_openapi_begin\n"
        ".global drover_rest_openapi_end\n"
        "drover_rest_openapi_begin:\n"
        ".incbin \"" DROVER_OPENAPI_FILE "\"\n"
        "drover_rest_openapi_end:\n"
        ".previous\n");

extern const char drover_rest_openapi_begin[], drover_rest_openapi_end[];

char *drover_rest_openapi(void)
{
    return g_strndup(drover_rest_openapi_begin, (gsize)(drover_rest_openapi_end - drover_rest_openapi_begin));
}
