/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of HAProxy as the front door of a target site, made from [frontdoor]. Pure. */
#ifndef DROVER_CLI_FRONTDOOR_CONFIG_H
#define DROVER_CLI_FRONTDOOR_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Lists are NULL-terminated. Routes are "NAME=ADDRESS": the server name that clients ask for, and where it
 * leads. */
typedef struct {
    const char *name;          /* of this HAProxy on its machine */
    const char *const *listen; /* "ADDRESS:PORT"; ":443": every address */
    const char *const *kafka;  /* passed through */
    const char *const *nbd;    /* ended here: workers of SITES */
    const char *const *rest;   /* ended here: certificates of REST_ROLES */
    const char *const *sites;
    const char *const *rest_roles;
    const char *certificate; /* PEM file with key and certificate of the front door */
    const char *authority;   /* PEM file: who may have signed client certificates */
    const char *admin_socket;
    const char *user; /* to become after the start; "": none */
    uint64_t check_interval_ms;
} DroverFrontdoor;

/* The text of haproxy.cfg (HAProxy 2.6 or later), newly allocated; NULL with a PERMANENT error that names the
 * mistake. */
char *drover_frontdoor_config(const DroverFrontdoor *frontdoor, GError **error);

#endif
