/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's journal as requests see it: every operation as it was last made durable, and those that were
 * submitted and are not journalled yet. It follows the journal, not the executor, so nothing is told that a
 * crash could take back. Any thread.
 */
#ifndef DROVER_VOLUME_AGENT_REST_VIEW_H
#define DROVER_VOLUME_AGENT_REST_VIEW_H

#include <jansson.h>

#include "volume-agent/journal/journal.h"

typedef struct DroverRestView DroverRestView;

/* OPERATIONS: what the journal held (DroverOperation, by sequence), copied. */
DroverRestView *drover_rest_view_new(const GPtrArray *operations);
void drover_rest_view_free(DroverRestView *view);

/* One durable entry of the journal: a DroverJournalSeen, with the view as its data. */
void drover_rest_view_seen(void *view, const char *key, GBytes *value);

/* ---- operations */

typedef enum { DROVER_REST_NEW, DROVER_REST_KNOWN, DROVER_REST_DIFFERENT } DroverRestSubmission;
/*
 * OPERATION (copied) is about to be sent. NEW: it is remembered as submitted, send it. KNOWN: the same was
 * asked for before, send nothing. DIFFERENT: its id stands for something else.
 */
DroverRestSubmission drover_rest_view_submit(DroverRestView *view,
                                             const Drover__V1__VolumeOperation *operation);
/* It was not sent after all. */
void drover_rest_view_withdraw(DroverRestView *view, const char *operation_id);

/* The operation record, a new reference; NULL: unknown. *ENDED may be NULL. */
json_t *drover_rest_view_operation(DroverRestView *view, const char *operation_id, bool *ended);

/* Waits until the operation is accepted (or, with ENDED, has ended), up to TIMEOUT_MS; less when STOPPING()
 * becomes true. */
void drover_rest_view_wait(DroverRestView *view, const char *operation_id, bool ended, int64_t timeout_ms,
                           bool (*stopping)(void));

/* NULL or "" matches all. */
typedef struct {
    const char *kind;
    const char *state; /* as in the record */
    const char *job_id;
    const char *volume_id;
    const char *vm_id;
} DroverRestFilter;
/* Records, newest first, accepted before the one with sequence BEFORE (0: from the newest), at most LIMIT.
 * *NEXT is the sequence to go on before, 0 when there are no more. Submitted ones are not in it. */
json_t *drover_rest_view_list(DroverRestView *view, const DroverRestFilter *filter, uint64_t before,
                              unsigned limit, uint64_t *next);

/* Ids of the operations on VOLUME_ID that have not ended, a JSON array. */
json_t *drover_rest_view_open_on(DroverRestView *view, const char *volume_id);
/* An operation that will make this volume is under way. */
bool drover_rest_view_is_coming(DroverRestView *view, const char *volume_id);
/* The highest generation that was ever asked for a volume's export; that of OPERATION_ID, if it is known and
 * opens one. 0: none. */
uint64_t drover_rest_view_generation(DroverRestView *view, const char *volume_id);
uint64_t drover_rest_view_generation_of(DroverRestView *view, const char *operation_id);

/* ---- metrics */

/* FUNC for each kind and state that occurs. */
typedef void (*DroverRestCountFunc)(void *data, const char *kind, const char *state, uint64_t n);
void drover_rest_view_count(DroverRestView *view, DroverRestCountFunc func, void *data);
/* FUNC is called (on the journal's thread) for every operation that ends: kind, state, from acceptance to
 * end. */
typedef void (*DroverRestEndedFunc)(void *data, const char *kind, const char *state, int64_t took_ms);
void drover_rest_view_on_end(DroverRestView *view, DroverRestEndedFunc func, void *data);

#endif
