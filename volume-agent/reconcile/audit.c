/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/reconcile/audit.h"

#include "drover/v1/job.pb-c.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define FIELDS_MAX 12

void drover_agent_audit(DroverProducer *producer, const char *agent, const char *job_id, const char *level, const char *event,
                        const char *message, const DroverAuditField *fields)
{
    Drover__V1__AuditRecord__FieldsEntry entries[FIELDS_MAX];
    Drover__V1__AuditRecord__FieldsEntry *pointers[FIELDS_MAX];
    Drover__V1__AuditRecord record = DROVER__V1__AUDIT_RECORD__INIT;
    for (; fields->name && record.n_fields < FIELDS_MAX; fields++) {
        if (!fields->value || !*fields->value)
            continue;
        Drover__V1__AuditRecord__FieldsEntry *entry = pointers[record.n_fields] = &entries[record.n_fields];
        drover__v1__audit_record__fields_entry__init(entry);
        entry->key = (char *)fields->name;
        entry->value = (char *)fields->value;
        record.n_fields++;
    }
    record.fields = pointers;
    record.job_id = (char *)job_id;
    record.at_ms = drover_now_ms();
    record.level = (char *)level;
    record.event = (char *)event;
    record.message = (char *)message;
    record.process_id = (char *)agent;
    g_autoptr(GError) error = NULL;
    if (!drover_producer_send_pb(producer, "drover.audit", DROVER_PARTITION_BY_KEY, job_id, &record.base, NULL, NULL, &error))
        drover_warning("audit.lost", error->message, F_S("event", event));
}
