/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/vddk_words.h"

#include <string.h>

const char *const drover_vddk_usual_libdirs[] = {"/opt/vmware-vix-disklib-distrib", "/usr/lib/vmware-vix-disklib",
                                                 "/usr/local/lib/vmware-vix-disklib-distrib", NULL};

static void put(GPtrArray *argv, const char *key, const char *value)
{
    if (*value != '\0')
        g_ptr_array_add(argv, g_strconcat(key, "=", value, NULL));
}

char **drover_vddk_argv(const DroverVddkParameters *p)
{
    GPtrArray *argv = g_ptr_array_new();
    const char *const head[] = {p->program, "--foreground", "--readonly", "--exit-with-parent", "--unix",
                                p->socket_path, p->plugin};
    for (size_t i = 0; i < G_N_ELEMENTS(head); i++)
        g_ptr_array_add(argv, g_strdup(head[i]));
    put(argv, "libdir", p->libdir);
    put(argv, "server", p->server);
    if (p->port > 0)
        g_ptr_array_add(argv, g_strdup_printf("port=%d", p->port));
    put(argv, "user", p->user);
    g_ptr_array_add(argv, g_strconcat("password=+", p->password_file, NULL));
    put(argv, "thumbprint", p->thumbprint);
    g_ptr_array_add(argv, g_strconcat("vm=moref=", p->vm, NULL));
    put(argv, "snapshot", p->snapshot);
    put(argv, "file", p->file);
    put(argv, "transports", p->transports);
    put(argv, "compression", strcmp(p->compression, "none") == 0 ? "" : p->compression);
    put(argv, "single-link", p->single_link ? "true" : "");
    put(argv, "unbuffered", p->unbuffered ? "true" : "");
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

#define INSTALL "install VDDK and nbdkit's vddk plugin on this worker (docs/vmware.md, \"VDDK installation\")"

typedef struct {
    const char *words[4]; /* any of them */
    DroverErrorClass error_class;
    const char *text;
} Meaning;

/* The first that fits. Words of nbdkit, its plugin and VixDiskLib; case is ignored. */
static const Meaning meanings[] = {
    {{"cannot open plugin", "nbdkit-vddk-plugin", "libvixdisklib.so"},
     DROVER_ERROR_PERMANENT,
     "DRV-SOURCE-VDDK: nbdkit cannot load VDDK; " INSTALL},
    {{"vixdisklib_init"},
     DROVER_ERROR_PERMANENT,
     "DRV-SOURCE-VDDK: VDDK does not start; use a version of VDDK that fits the vCenter (docs/vmware.md)"},
    {{"incorrect user name or password", "cannot complete login"},
     DROVER_ERROR_PERMANENT,
     "DRV-VCENTER-LOGIN: vCenter refuses the user name or password"},
    {{"thumbprint", "ssl certificate", "sslverify"},
     DROVER_ERROR_PERMANENT,
     "DRV-VCENTER-TLS: VDDK does not trust the certificate of vCenter or of its host"},
    {{"permission to perform this operation", "not have access rights"},
     DROVER_ERROR_PERMANENT,
     "DRV-VCENTER-RIGHTS: the user may not read this disk (docs/vmware.md, least-privilege role)"},
    {{"memory", "nfc_"}, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-NFC: the ESXi host takes no more NFC transfers"},
};

static bool says(const char *lower, const Meaning *meaning)
{
    for (size_t i = 0; i < G_N_ELEMENTS(meaning->words) && meaning->words[i] != NULL; i++)
        if (strstr(lower, meaning->words[i]) != NULL)
            return true;
    return false;
}

bool drover_vddk_failed(GError **error, bool ended, const char *output)
{
    g_autofree char *lower = g_ascii_strdown(output, -1);
    for (size_t i = 0; i < G_N_ELEMENTS(meanings); i++)
        if (says(lower, &meanings[i]))
            return drover_fail(error, meanings[i].error_class, "%s (nbdkit says: %s)", meanings[i].text, output);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-SOURCE-CHILD: nbdkit %s: %s",
                       ended ? "ended" : "does not let us read the disk",
                       *output == '\0' ? "it gives no reason" : output);
}

char *drover_vddk_libdir(const char *dir, const char *const *usual, GError **error)
{
    if (*dir != '\0') {
        if (g_file_test(dir, G_FILE_TEST_IS_DIR))
            return g_strdup(dir);
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-SOURCE-VDDK: vddk-libdir is %s, but there is no such directory on this worker; " INSTALL, dir);
        return NULL;
    }
    for (; *usual != NULL; usual++)
        if (g_file_test(*usual, G_FILE_TEST_IS_DIR))
            return g_strdup(*usual);
    drover_fail(error, DROVER_ERROR_PERMANENT,
                "DRV-SOURCE-VDDK: VDDK is in none of its usual places; " INSTALL
                " and set vddk-libdir in the file of vCenters");
    return NULL;
}

char *drover_vddk_hex(const unsigned char *bytes, size_t len)
{
    GString *text = g_string_sized_new(3 * len);
    for (size_t i = 0; i < len; i++)
        g_string_append_printf(text, "%s%02X", i == 0 ? "" : ":", bytes[i]);
    return g_string_free(text, FALSE);
}
