/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of nbdkit-vddk-plugin(1), as strict as there. */
#ifndef DROVER_TESTS_VDDK_OPTIONS_H
#define DROVER_TESTS_VDDK_OPTIONS_H

#include <stdbool.h>

struct vddk_options {
    char *libdir, *server, *user, *password, *thumbprint, *vm, *snapshot, *file, *transports;
    unsigned port;
    bool single_link;
};

extern struct vddk_options vddk_options;

/* nbdkit's .config and .config_complete: 0, or -1 with an error told. */
int vddk_config(const char *key, const char *value);
int vddk_config_complete(void);
void vddk_options_clear(void);

#endif
