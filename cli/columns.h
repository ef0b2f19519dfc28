/* SPDX-License-Identifier: Apache-2.0 */
/* Text in columns, as wide as their contents. Pure. */
#ifndef DROVER_CLI_COLUMNS_H
#define DROVER_CLI_COLUMNS_H

#include <glib.h>

typedef struct DroverColumns DroverColumns;

/* HEADINGS ends with NULL; one that begins with '>' makes its column flush right. */
DroverColumns *drover_columns_new(const char *const *headings);
void drover_columns_free(DroverColumns *columns);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverColumns, drover_columns_free)
/* Takes over the newly allocated CELL; after as many as there are headings, a new row begins. */
void drover_columns_add(DroverColumns *columns, char *cell);
char *drover_columns_text(const DroverColumns *columns); /* all lines, headings first */

#endif
