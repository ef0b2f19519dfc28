/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/ledger.h"

DroverLedgerEntry *drover_ledger_find(const DroverJob *job, DroverLedgerKind kind, const char *disk_id)
{
    for (guint i = 0; i < job->ledger->len; i++) {
        DroverLedgerEntry *entry = job->ledger->pdata[i];
        if (entry->kind == (int)kind && g_strcmp0(entry->disk_id, disk_id) == 0)
            return entry;
    }
    return NULL;
}

DroverLedgerEntry *drover_ledger_intend(DroverJob *job, DroverLedgerKind kind, const char *disk_id,
                                        const char *operation_id, int64_t now_ms)
{
    DroverLedgerEntry *entry = drover_ledger_find(job, kind, disk_id);
    if (entry != NULL)
        return entry;
    entry = g_new0(DroverLedgerEntry, 1);
    entry->kind = kind;
    entry->disk_id = g_strdup(disk_id);
    entry->object_id = g_strdup("");
    entry->operation_id = g_strdup(operation_id);
    entry->agent = g_strdup(job->agent);
    entry->at_ms = now_ms;
    g_ptr_array_add(job->ledger, entry);
    job->dirty = true;
    return entry;
}

void drover_ledger_made(DroverJob *job, DroverLedgerKind kind, const char *disk_id, const char *object_id)
{
    DroverLedgerEntry *entry = drover_ledger_find(job, kind, disk_id);
    if (entry != NULL && drover_set_string(&entry->object_id, object_id))
        job->dirty = true;
}

void drover_ledger_gone(DroverJob *job, DroverLedgerKind kind, const char *disk_id)
{
    DroverLedgerEntry *entry = drover_ledger_find(job, kind, disk_id);
    if (entry != NULL) {
        g_ptr_array_remove(job->ledger, entry);
        job->dirty = true;
    }
}

const char *drover_ledger_kind_name(int kind)
{
    switch (kind) {
    case DROVER_LEDGER_VOLUME:
        return "volume";
    case DROVER_LEDGER_ATTACHMENT:
        return "attachment";
    case DROVER_LEDGER_EXPORT:
        return "export";
    case DROVER_LEDGER_VM:
        return "vm";
    case DROVER_LEDGER_SNAPSHOT:
        return "snapshot of the source VM";
    case DROVER_LEDGER_SOURCE_POWER:
        return "source VM switched off";
    default:
        return "object of a newer version";
    }
}

char *drover_ledger_describe(const DroverJob *job, bool keep_volumes)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < job->ledger->len; i++) {
        const DroverLedgerEntry *entry = job->ledger->pdata[i];
        if (keep_volumes && entry->kind == DROVER_LEDGER_VOLUME)
            continue;
        g_string_append_printf(text, "%s%s %s", text->len > 0 ? ", " : "",
                               drover_ledger_kind_name(entry->kind),
                               *entry->object_id != '\0' ? entry->object_id : "(id not known)");
        if (*entry->disk_id != '\0')
            g_string_append_printf(text, " (%s)", entry->disk_id);
    }
    return g_string_free(text, false);
}
