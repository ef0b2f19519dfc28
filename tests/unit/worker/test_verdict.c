/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/verdict.h"

#define HANDED_OUT 1000000
#define YOUNGER (HANDED_OUT + DROVER_CONTROL_GRACE_MS + 1)

static DroverTask task = {.task_id = (char *)"t", .job_id = (char *)"j", .attempt = 2, .created_at_ms = HANDED_OUT};

typedef struct {
    const char *about;
    int64_t at_ms;
    DroverDesired desired;
    uint32_t listed_attempt; /* 0: not listed */
    const char *owner;
    bool seen;
    DroverVerdict verdict;
    bool seen_after;
} Case;

static const Case cases[] = {
    {"listed, not confirmed", HANDED_OUT, DROVER_DESIRED_RUN, 2, "", false, DROVER_VERDICT_RUN, true},
    {"listed as ours", YOUNGER, DROVER_DESIRED_RUN, 2, "me", false, DROVER_VERDICT_RUN, true},
    {"listed as another's", YOUNGER, DROVER_DESIRED_RUN, 2, "other", false, DROVER_VERDICT_REVOKED, true},
    {"younger attempt", YOUNGER, DROVER_DESIRED_RUN, 3, "me", true, DROVER_VERDICT_REVOKED, true},
    {"older attempt: older snapshot", HANDED_OUT - 5, DROVER_DESIRED_RUN, 1, "other", false, DROVER_VERDICT_RUN, false},
    {"older attempt, paused then", HANDED_OUT - 5, DROVER_DESIRED_PAUSE, 1, "", false, DROVER_VERDICT_RUN, false},
    {"missing in an older snapshot", HANDED_OUT - 5, DROVER_DESIRED_RUN, 0, NULL, false, DROVER_VERDICT_RUN, false},
    {"missing in one of the same moment", HANDED_OUT, DROVER_DESIRED_RUN, 0, NULL, false, DROVER_VERDICT_RUN, false},
    {"missing in a younger snapshot", YOUNGER, DROVER_DESIRED_RUN, 0, NULL, false, DROVER_VERDICT_REVOKED, false},
    {"seen and then missing", HANDED_OUT + 1, DROVER_DESIRED_RUN, 0, NULL, true, DROVER_VERDICT_REVOKED, true},
    {"stopped before the hand-out", HANDED_OUT - 5, DROVER_DESIRED_STOP, 0, NULL, false, DROVER_VERDICT_RUN, false},
    {"stopped since", HANDED_OUT + 1, DROVER_DESIRED_STOP, 0, NULL, false, DROVER_VERDICT_REVOKED, false},
    {"stopped while listed", HANDED_OUT, DROVER_DESIRED_STOP, 2, "me", true, DROVER_VERDICT_REVOKED, true},
    {"paused", HANDED_OUT, DROVER_DESIRED_PAUSE, 2, "me", true, DROVER_VERDICT_RELEASE, true},
};

static void test_snapshots(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i];
        DroverLiveTask live[] = {
            {.task_id = (char *)"u", .attempt = 9, .owner_instance = (char *)"x"},
            {.task_id = (char *)"t", .attempt = c->listed_attempt, .owner_instance = (char *)c->owner}};
        DroverJobControl snapshot = {.job_id = (char *)"j",
                                     .at_ms = c->at_ms,
                                     .desired = c->desired,
                                     .tasks = live,
                                     .n_tasks = c->listed_attempt == 0 ? 1 : 2};
        bool seen = c->seen;
        const DroverLiveTask *entry;
        DroverVerdict verdict = drover_verdict(&snapshot, &task, "me", &seen, &entry);
        if (verdict != c->verdict || seen != c->seen_after)
            fail_msg("%s: verdict %d, seen %d", c->about, verdict, seen);
        if (verdict == DROVER_VERDICT_RUN)
            assert_ptr_equal(entry, c->listed_attempt == 2 ? &live[1] : NULL);
    }
}

static void test_no_snapshot(void **state)
{
    (void)state;
    bool seen = false;
    assert_int_equal(drover_verdict(NULL, &task, "me", &seen, NULL), DROVER_VERDICT_RUN);
    seen = true;
    assert_int_equal(drover_verdict(NULL, &task, "me", &seen, NULL), DROVER_VERDICT_REVOKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_snapshots), cmocka_unit_test(test_no_snapshot)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
