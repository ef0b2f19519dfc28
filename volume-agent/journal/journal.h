/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's journal on drover.journal.<agent>. Written through one transactional producer, so that a second instance of
 * the same agent fences the first; records of several threads share a transaction. A write returns when it is durable,
 * never before: what follows it (a call to CloudStack, an export) may rely on it.
 */
#ifndef DROVER_VOLUME_AGENT_JOURNAL_JOURNAL_H
#define DROVER_VOLUME_AGENT_JOURNAL_JOURNAL_H

#include "lib/kafka/kafka.h"
#include "volume-agent/journal/operation.h"

typedef struct DroverJournal DroverJournal;

/* What the journal held when it was opened. */
typedef struct {
    GPtrArray *operations; /* DroverOperation, by sequence */
    GPtrArray *exports;    /* DroverExportRecord */
    GPtrArray *snapshots;  /* DroverSnapshotRecord */
    int64_t draining_since_ms; /* the appliance is to be emptied; 0: it is not */
    int64_t drained_until_ms;  /* it was; 0: never */
    int64_t next_offset;   /* of drover.tasks.<agent>; -1: never read */
} DroverJournalContent;
void drover_journal_content_clear(DroverJournalContent *content);

/*
 * Fences whoever wrote as AGENT before, then reads the journal to its end into CONTENT. LOST is called once, on any
 * thread, when this instance is fenced or the outcome of a write is unknown: the process must end without doing more.
 */
DroverJournal *drover_journal_open(const DroverKafka *kafka, const char *agent, void (*lost)(const GError *error),
                                   DroverJournalContent *content, GError **error);
void drover_journal_close(DroverJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverJournal, drover_journal_close)

typedef struct {
    char *key;     /* "op/<operation_id>", "export/<volume_id>", "snapshot/<snapshot_id>", "drain", "offset" */
    GBytes *value; /* NULL: tombstone */
} DroverJournalEntry;

/* Writes N entries in one transaction and waits until they are durable; takes keys and values. Any thread. False: the
 * journal is lost (see LOST). */
bool drover_journal_write(DroverJournal *journal, DroverJournalEntry *entries, size_t n);

/* SEEN is called with every entry that has become durable, in the order of the journal, on a thread of the journal's, before the
 * write returns. Must not block. One observer; NULL ends it, and returns when it is not being called any more. */
typedef void (*DroverJournalSeen)(void *data, const char *key, GBytes *value);
void drover_journal_observe(DroverJournal *journal, DroverJournalSeen seen, void *data);

#endif
