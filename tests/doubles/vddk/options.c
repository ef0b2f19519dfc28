/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

struct vddk_options vddk_options = {.port = 443};

static const char *const known_transports[] = {"file", "san", "hotadd", "nbdssl", "nbd", NULL};
static const char *const known_compressions[] = {"none", "zlib", "fastlz", "skipz", NULL};

static bool among(const char *const *list, const char *word, size_t length)
{
    for (; *list; list++) {
        if (strlen(*list) == length && strncmp(*list, word, length) == 0)
            return true;
    }
    return false;
}

static int set(char **to, const char *value)
{
    free(*to);
    *to = strdup(value);
    if (!*to || !*value) {
        nbdkit_error("empty parameter");
        return -1;
    }
    return 0;
}

static int set_bool(bool *to, const char *value)
{
    int is = nbdkit_parse_bool(value);
    if (is >= 0)
        *to = is > 0;
    return is < 0 ? -1 : 0;
}

static int set_transports(const char *value)
{
    for (const char *word = value;; word++) {
        size_t length = strcspn(word, ":");
        if (!among(known_transports, word, length)) {
            nbdkit_error("transports=%s: unknown transport mode", value);
            return -1;
        }
        word += length;
        if (!*word)
            return set(&vddk_options.transports, value);
    }
}

int vddk_config(const char *key, const char *value)
{
    static const struct {
        const char *name;
        char **to;
    } texts[] = {{"server", &vddk_options.server},
                 {"user", &vddk_options.user},
                 {"thumbprint", &vddk_options.thumbprint},
                 {"vm", &vddk_options.vm},
                 {"file", &vddk_options.file},
                 {"snapshot", &vddk_options.snapshot}};
    static const char *const ignored[] = {"config", "cookie", "export", "nfchostport", "vimapiver", NULL};
    bool unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(key, texts[i].name) == 0)
            return set(texts[i].to, value);
    }
    if (strcmp(key, "libdir") == 0) {
        free(vddk_options.libdir);
        vddk_options.libdir = nbdkit_realpath(value);
        return vddk_options.libdir ? 0 : -1;
    }
    if (strcmp(key, "password") == 0) {
        free(vddk_options.password);
        return nbdkit_read_password(value, &vddk_options.password);
    }
    if (strcmp(key, "port") == 0)
        return nbdkit_parse_unsigned("port", value, &vddk_options.port);
    if (strcmp(key, "transports") == 0)
        return set_transports(value);
    if (strcmp(key, "single-link") == 0)
        return set_bool(&vddk_options.single_link, value);
    if (strcmp(key, "unbuffered") == 0)
        return set_bool(&unused, value);
    if (strcmp(key, "compression") == 0) {
        if (among(known_compressions, value, strlen(value)))
            return 0;
        nbdkit_error("unknown compression type: %s", value);
        return -1;
    }
    if (among(ignored, key, strlen(key)))
        return 0;
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

/* "AB:CD:...": the SHA-1 digest of the server's certificate, 20 bytes. */
static bool is_thumbprint(const char *text)
{
    size_t i = 0;
    for (; text[i]; i++) {
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return i == 20 * 3 - 1;
}

int vddk_config_complete(void)
{
    const struct vddk_options *o = &vddk_options;
    const struct {
        const char *name, *value;
    } needed[] = {{"file", o->file}, {"libdir", o->libdir},     {"server", o->server},
                  {"user", o->user}, {"password", o->password}, {"thumbprint", o->thumbprint},
                  {"vm", o->vm},     {"snapshot", o->snapshot}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!needed[i].value) {
            nbdkit_error("remote connection requested, missing parameter: %s", needed[i].name);
            return -1;
        }
    }
    char library[4096];
    snprintf(library, sizeof library, "%s/lib64/libvixDiskLib.so", o->libdir);
    if (access(library, R_OK) != 0) {
        nbdkit_error("%s: cannot open shared object file", library);
        return -1;
    }
    if (!is_thumbprint(o->thumbprint)) {
        nbdkit_error("thumbprint=%s: not a SHA-1 thumbprint, 20 bytes in hex with colons", o->thumbprint);
        return -1;
    }
    return 0;
}

void vddk_options_clear(void)
{
    struct vddk_options *o = &vddk_options;
    char **all[] = {&o->libdir, &o->server,   &o->user, &o->password,  &o->thumbprint,
                    &o->vm,     &o->snapshot, &o->file, &o->transports};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(*all[i]);
        *all[i] = NULL;
    }
}
