/* SPDX-License-Identifier: Apache-2.0 */
/* From vSphere's guest ids to CloudStack's OS types. */
#include <string.h>

#include "core/preflight/target.h"

/* '#' is the version, as digits; a description that begins so will do where it ends in '*'. First come, first taken. */
typedef struct {
    const char *guest_id;
    const char *descriptions[4];
} Pair;

static const Pair pairs[] = {
    {"debian#_64Guest", {"Debian GNU/Linux # (64-bit)"}},
    {"debian#Guest", {"Debian GNU/Linux # (32-bit)"}},
    {"ubuntu64Guest", {"Other Ubuntu (64-bit)", "Ubuntu 24.04 LTS", "Ubuntu 22.04 LTS", "Ubuntu 20.04 LTS"}},
    {"ubuntuGuest", {"Other Ubuntu (32-bit)"}},
    {"rhel#_64Guest", {"Red Hat Enterprise Linux #", "Red Hat Enterprise Linux #.x", "Red Hat Enterprise Linux #.0", "Red Hat Enterprise Linux #.*"}},
    {"centos#_64Guest", {"CentOS #", "CentOS #.x", "CentOS #.0", "CentOS #.*"}},
    {"rockylinux_64Guest", {"Rocky Linux 9", "Rocky Linux 8", "Rocky Linux *"}},
    {"almalinux_64Guest", {"AlmaLinux 9", "AlmaLinux 8", "AlmaLinux *"}},
    {"oracleLinux#_64Guest", {"Oracle Linux #", "Oracle Linux #.0", "Oracle Linux #.*"}},
    {"sles#_64Guest", {"SUSE Linux Enterprise Server # (64-bit)", "SUSE Linux Enterprise Server #*"}},
    {"windows#_64Guest", {"Windows # (64-bit)"}},
    {"windows9Server64Guest", {"Windows Server 2016 (64-bit)"}},
    {"windows8Server64Guest", {"Windows Server 2012 R2 (64-bit)", "Windows Server 2012 (64-bit)"}},
    {"windows7Server64Guest", {"Windows Server 2008 R2 (64-bit)"}},
    {"windows2019srv_64Guest", {"Windows Server 2019 (64-bit)"}},
    {"windows2019srvNext_64Guest", {"Windows Server 2022 (64-bit)"}},
    {"windows2022srvNext_64Guest", {"Windows Server 2025 (64-bit)", "Windows Server 2022 (64-bit)"}},
    {"freebsd#_64Guest", {"FreeBSD # (64-bit)", "FreeBSD #.0 (64-bit)", "FreeBSD #*"}},
    {"otherLinux64Guest", {"Other Linux (64-bit)"}},
    {"other#xLinux64Guest", {"Other Linux (64-bit)"}},
    {"otherGuest64", {"Other (64-bit)"}},
    {"otherGuest", {"Other (32-bit)"}},
};

/* GUEST_ID has the form of PATTERN. *NUMBER gets what stands at '#': newly allocated, "" when there is no such place. */
static bool fits(const char *pattern, const char *guest_id, char **number)
{
    const char *hash = strchr(pattern, '#');
    if (!hash) {
        *number = g_strdup("");
        return strcmp(pattern, guest_id) == 0;
    }
    size_t before = (size_t)(hash - pattern);
    size_t digits = strncmp(pattern, guest_id, before) == 0 ? strspn(guest_id + before, "0123456789") : 0;
    *number = g_strndup(guest_id + (digits ? before : 0), digits);
    return digits > 0 && strcmp(hash + 1, guest_id + before + digits) == 0;
}

static const char *find(const char *pattern, const char *number, const char *const *os_types)
{
    g_auto(GStrv) halves = g_strsplit(pattern, "#", 2);
    g_autofree char *wanted = g_strjoinv(number, halves);
    bool prefix = g_str_has_suffix(wanted, "*");
    if (prefix)
        wanted[strlen(wanted) - 1] = '\0';
    for (const char *const *type = os_types; *type; type++)
        if (prefix ? g_str_has_prefix(*type, wanted) : strcmp(*type, wanted) == 0)
            return *type;
    return NULL;
}

const char *drover_os_type_for(const char *guest_id, const char *const *os_types)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autofree char *number = NULL;
        if (!fits(pairs[i].guest_id, guest_id, &number))
            continue;
        /* vSphere calls Windows 10 "windows9". */
        const char *meant = g_str_has_prefix(guest_id, "windows9_") ? "10" : number;
        for (size_t d = 0; d < G_N_ELEMENTS(pairs[i].descriptions) && pairs[i].descriptions[d]; d++) {
            const char *found = find(pairs[i].descriptions[d], meant, os_types);
            if (found)
                return found;
        }
        return NULL;
    }
    return NULL;
}
