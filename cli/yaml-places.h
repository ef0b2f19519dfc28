/* SPDX-License-Identifier: Apache-2.0 */
/* Where things stand in a YAML file, for messages with lines. Pure. */
#ifndef DROVER_CLI_YAML_PLACES_H
#define DROVER_CLI_YAML_PLACES_H

#include <glib.h>

typedef struct {
    char *path; /* "disks[0].source" */
    guint line; /* from 1 */
} DroverYamlPlace;

/* All keys and list entries of the first document in TEXT, in their order (DroverYamlPlace). Stops at the first error of
 * syntax, so that what stands before it is there. */
GArray *drover_yaml_places(const char *text);

/* Line of PATH, or of the nearest thing around it; 0 when there is none. */
guint drover_yaml_line(const GArray *places, const char *path);

#endif
