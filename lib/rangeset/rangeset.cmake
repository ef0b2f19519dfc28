# SPDX-License-Identifier: Apache-2.0
drover_library(drover_rangeset SOURCES rangeset/rangeset.c)
