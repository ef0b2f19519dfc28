/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a preflight about the target, by what they look at. For core/preflight/target*.c. */
#ifndef DROVER_CORE_PREFLIGHT_TARGET_RULES_H
#define DROVER_CORE_PREFLIGHT_TARGET_RULES_H

#include "core/preflight/findings.h"
#include "core/preflight/target.h"

#define DROVER_GIB (UINT64_C(1) << 30)

void drover_target_disks(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_pools(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_placement(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_hosts(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_firmware(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_os_type(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_networks(DroverPreflight *p, const DroverTargetFacts *facts);
void drover_target_quotas(DroverPreflight *p, const DroverTargetFacts *facts);

/* New volume DISK may be made on POOL, which the appliance can attach without moving data. */
bool drover_target_pool_suits(const DroverTargetFacts *facts, const DroverTargetPool *pool, const DroverTargetDisk *disk);
/* All volumes lie, or may only come to lie, on pools of the whole zone: the VM may run in any cluster of it. */
bool drover_target_is_zone_wide(const DroverTargetFacts *facts);
/* All of the tags WANTED are among HAS; both separated by commas. */
bool drover_tags_cover(const char *has, const char *wanted);

#endif
