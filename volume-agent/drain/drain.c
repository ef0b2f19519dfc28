/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/drain/drain.h"

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define KEY "drain"

struct DroverApplianceDrain {
    DroverJournal *journal;
    GMutex lock;
    GMutex writing; /* one change at a time, so that what is known is what was written last */
    int64_t since_ms;
    int64_t until_ms;
};

DroverApplianceDrain *drover_appliance_drain_new(DroverJournal *journal, int64_t since_ms, int64_t until_ms)
{
    DroverApplianceDrain *drain = g_new0(DroverApplianceDrain, 1);
    drain->journal = journal;
    drain->since_ms = since_ms;
    drain->until_ms = until_ms;
    g_mutex_init(&drain->lock);
    g_mutex_init(&drain->writing);
    return drain;
}

void drover_appliance_drain_free(DroverApplianceDrain *drain)
{
    if (!drain)
        return;
    g_mutex_clear(&drain->lock);
    g_mutex_clear(&drain->writing);
    g_free(drain);
}

int64_t drover_appliance_drain_since(DroverApplianceDrain *drain)
{
    g_mutex_lock(&drain->lock);
    int64_t since_ms = drain->since_ms;
    g_mutex_unlock(&drain->lock);
    return since_ms;
}

int64_t drover_appliance_drain_horizon(DroverApplianceDrain *drain)
{
    g_mutex_lock(&drain->lock);
    int64_t horizon_ms = drain->since_ms ? drover_now_ms() : drain->until_ms;
    g_mutex_unlock(&drain->lock);
    return horizon_ms;
}

static bool change(DroverApplianceDrain *drain, int64_t since_ms, const char *requested_by)
{
    int64_t until_ms = since_ms ? 0 : drover_now_ms();
    DroverJournalEntry entry = {g_strdup(KEY), drover_drain_pack(since_ms, until_ms, requested_by)};
    if (!drover_journal_write(drain->journal, &entry, 1))
        return false;
    g_mutex_lock(&drain->lock);
    drain->since_ms = since_ms;
    drain->until_ms = until_ms;
    g_mutex_unlock(&drain->lock);
    return true;
}

bool drover_appliance_drain_set(DroverApplianceDrain *drain, bool on, const char *requested_by, bool *changed, GError **error)
{
    g_mutex_lock(&drain->writing);
    *changed = on != (drover_appliance_drain_since(drain) != 0);
    bool ok = !*changed || change(drain, on ? drover_now_ms() : 0, requested_by);
    g_mutex_unlock(&drain->writing);
    return ok || drover_fail(error, DROVER_ERROR_FATAL, "The journal of this agent is lost");
}
