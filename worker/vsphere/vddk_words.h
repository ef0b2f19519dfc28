/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to `nbdkit vddk`, and what its complaints mean. Parameters: nbdkit-vddk-plugin(1). Pure.
 *
 * The password never stands among the arguments: PASSWORD_FILE is a name by which the child reads it.
 */
#ifndef DROVER_WORKER_VSPHERE_VDDK_WORDS_H
#define DROVER_WORKER_VSPHERE_VDDK_WORDS_H

#include <glib.h>
#include <stdbool.h>

#include "lib/base/error.h"

/* Strings are never NULL; "" leaves the parameter out. */
typedef struct {
    const char *program;
    const char *plugin;
    const char *socket_path;
    const char *libdir;
    const char *server; /* host or address of the vCenter */
    int port;           /* 0: the plugin's default */
    const char *user;
    const char *password_file;
    const char *thumbprint; /* SHA-1, upper-case hex with colons */
    const char *vm;         /* moref */
    const char *snapshot;   /* moref */
    const char *file;       /* "[datastore] dir/file.vmdk" */
    const char *transports;
    const char *compression;
    bool single_link;
    bool unbuffered;
} DroverVddkParameters;

/* NULL-terminated, newly allocated. */
char **drover_vddk_argv(const DroverVddkParameters *parameters);

/* Class and code for OUTPUT, the child's standard error, when it ENDED or did not let us in. Always returns false. */
bool drover_vddk_failed(GError **error, bool ended, const char *output);

/* Where DIR, or a usual place when DIR is "", has VDDK; newly allocated. PERMANENT DRV-SOURCE-VDDK. Asks the file system. */
char *drover_vddk_libdir(const char *dir, const char *const *usual, GError **error);
extern const char *const drover_vddk_usual_libdirs[];

/* "AA:BB:…" of LEN bytes; newly allocated. */
char *drover_vddk_hex(const unsigned char *bytes, size_t len);

#endif
