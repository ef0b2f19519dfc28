/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that have no safe use: a call does not compile. Included into every file by the build. */
#ifndef DROVER_BANNED_H
#define DROVER_BANNED_H
#include <stdio.h>
#include <string.h>
#define DROVER_BANNED(name) sorry_##name##_is_banned
#undef strcpy
#define strcpy(d, s) DROVER_BANNED(strcpy)
#undef strcat
#define strcat(d, s) DROVER_BANNED(strcat)
#undef sprintf
#define sprintf(...) DROVER_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) DROVER_BANNED(vsprintf)
#undef strncpy
#define strncpy(d, s, n) DROVER_BANNED(strncpy)
#undef gets
#define gets(s) DROVER_BANNED(gets)
#endif
