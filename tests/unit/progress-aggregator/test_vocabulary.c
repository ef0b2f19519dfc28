/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/vocabulary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include <cmocka.h>

static const char *const statuses[] = {"queued",    "running", "paused",    "replicating", "completed",
                                       "failed", "cancelled", "rolled-back", NULL};
static const char *const phases[] = {"Discover", "Transfer", "Complete", NULL};

static void every_phase_has_words(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *d = &drover__v1__job_phase__descriptor;
    for (unsigned i = 0; i < d->n_values; i++) {
        Drover__V1__JobPhase phase = (Drover__V1__JobPhase)d->values[i].value;
        if (phase == 0)
            continue;
        assert_non_null(drover_word_operation(phase));
        assert_true(g_strv_contains(statuses, drover_word_status(phase, false)));
        assert_true(g_strv_contains(phases, drover_word_phase(phase, false)));
        assert_true(g_strv_contains(phases, drover_word_phase(phase, true)));
        bool end = drover_phase_is_end(phase);
        const char *operation = drover_word_operation(phase);
        assert_int_equal(end, g_str_equal(operation, "Completed") || g_str_equal(operation, "Failed"));
        assert_string_equal(drover_word_status(phase, true), end ? drover_word_status(phase, false) : "paused");
    }
    assert_null(drover_word_status((Drover__V1__JobPhase)999, false));
}

static void words(void **state)
{
    (void)state;
    assert_string_equal(drover_word_operation(DROVER__V1__JOB_PHASE__JOB_PHASE_COMPLETED), "Completed");
    assert_string_equal(drover_word_operation(DROVER__V1__JOB_PHASE__JOB_PHASE_CANCELLED), "Failed");
    assert_string_equal(drover_word_phase(DROVER__V1__JOB_PHASE__JOB_PHASE_FAILED, false), "Discover");
    assert_string_equal(drover_word_phase(DROVER__V1__JOB_PHASE__JOB_PHASE_FAILED, true), "Transfer");
    assert_string_equal(drover_word_sync_type(DROVER__V1__SYNC_TYPE__SYNC_TYPE_UNSPECIFIED), "full");
    assert_string_equal(drover_word_replication_type(DROVER__V1__SYNC_TYPE__SYNC_TYPE_FULL), "initial");
    assert_string_equal(drover_word_replication_type(DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL), "incremental");
    assert_string_equal(drover_word_stall((Drover__V1__StallCause)77), "");
    assert_null(drover_word_role((Drover__V1__Role)77));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_phase_has_words), cmocka_unit_test(words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
