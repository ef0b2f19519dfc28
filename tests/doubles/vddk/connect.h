/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the vCenter stand-in whether the disk of the options may be opened, and where it is. */
#ifndef DROVER_TESTS_VDDK_CONNECT_H
#define DROVER_TESTS_VDDK_CONNECT_H

/* *IMAGE: the frozen disk; *SHARED: the file of struct vddk_shared. Both to be freed. 0, or -1 with an error
 * told. */
int vddk_connect(char **image, char **shared);

#endif
