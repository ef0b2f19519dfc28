/* SPDX-License-Identifier: Apache-2.0 */
/* NBD URIs, and that a token is never part of what people see. */
#include <string.h>

#include "worker/copy/endpoint.h"

#define TOKEN "00112233445566778899aabbccddeeff"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *uri = g_strndup((const char *)data, size);
    for (int with_token = 0; with_token < 2; with_token++) {
        DroverCopyEndpoint from = {.uri = uri, .generation = (uint64_t)with_token, .token = with_token ? TOKEN : NULL};
        g_autoptr(GError) error = NULL;
        g_autoptr(DroverEndpoint) endpoint = drover_endpoint_new(&from, &error);
        g_assert((endpoint == NULL) == (error != NULL));
        if (endpoint == NULL) {
            g_assert(strstr(error->message, TOKEN) == NULL || strstr(uri, TOKEN) != NULL);
            continue;
        }
        g_assert((endpoint->host != NULL) != (endpoint->socket_path != NULL));
        g_assert_nonnull(endpoint->export_name);
        if (with_token) {
            g_autofree char *clean = drover_endpoint_clean(endpoint, "no export " TOKEN " here");
            g_assert_null(strstr(clean, TOKEN));
        }
    }
    return 0;
}
