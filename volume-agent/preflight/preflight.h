/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preflight of a target: asks CloudStack for the facts, and core/preflight/target.h judges them. Nothing is changed, so it needs
 * no turn among the operations. Blocks on some twenty calls. Any thread.
 */
#ifndef DROVER_VOLUME_AGENT_PREFLIGHT_PREFLIGHT_H
#define DROVER_VOLUME_AGENT_PREFLIGHT_PREFLIGHT_H

#include "core/preflight/target.h"
#include "volume-agent/operations/context.h"

/* Findings, errors first; DroverFinding. NULL when CloudStack could not be asked. */
GPtrArray *drover_agent_preflight(const DroverOpContext *context, const Drover__V1__PreflightTarget *asked, GError **error);

/* As an operation: the findings become its result, and the first error among them its failure. */
bool drover_op_preflight_target(const DroverOpContext *context, DroverOperation *operation, GError **error);

#endif
