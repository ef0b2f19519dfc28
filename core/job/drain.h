/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emptying an appliance: which jobs may leave it at this moment, and where to. A job moves between rounds, before anything of
 * a round is copied, or while its copies stand still; its volumes are taken off the old appliance by operations at the old
 * agent, then it belongs to the new one, whose next operations attach them again. Pure.
 */
#ifndef DROVER_CORE_JOB_DRAIN_H
#define DROVER_CORE_JOB_DRAIN_H

#include "core/at.h"
#include "core/dispatch/fleet.h"
#include "core/job/model.h"

/* JOB can leave its home appliance now. What is under way is never interrupted: a copy ends its round, a cutover the job. */
bool drover_drain_may_move(const DroverJob *job);

/* Some agent says that its appliance is to be emptied. */
bool drover_drain_is_on(const DroverFleet *fleet);

/*
 * A new home for JOB, which has one and is on its way to none or to one that is not there any more: NULL when its home is not
 * being emptied, when it may not move now, or when no ready agent among AGENTS (NULL-terminated) of the same scope has room.
 * JOBS: the active ones.
 */
const char *drover_drain_new_home(const DroverJob *job, GPtrArray *jobs, const char *const *agents, const DroverFleet *fleet,
                                  const DroverAt *at);

#endif
