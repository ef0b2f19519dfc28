/* SPDX-License-Identifier: Apache-2.0 */
/* Emptying an appliance: when a job leaves it, what is taken off, and that nothing is lost on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/job/drain.h"
#include "core/job/ledger.h"
#include "core/dispatch/queue.h"
#include "core/task/task.h"
#include "sim.h"

static void move_to(Sim *sim, const char *agent)
{
    DroverInput input = {.kind = DROVER_INPUT_MOVE, .text = agent};
    sim_input(sim, &input);
}

static bool is_at(const Sim *sim, const char *agent)
{
    return g_str_equal(sim->job->agent, agent) && *sim->job->moving_to == '\0';
}

static DroverProcess *heard_of(DroverFleet *fleet, const DroverAt *at, const char *name, const char *scope, uint32_t slots)
{
    DroverProcess *agent = drover_process_new(name, "x", DROVER_ROLE_VOLUME_AGENT, name);
    drover_set_string(&agent->scope, scope);
    agent->free_device_slots = slots;
    agent->interval_ms = 10000;
    drover_fleet_heartbeat(fleet, agent, 0, at);
    return agent;
}

static void test_new_home(void **state)
{
    (void)state;
    static const char *const agents[] = {"full", "old", "other", "small", "big", NULL};
    Sim *sim = sim_new(2, false);
    sim_finish(sim);
    g_autoptr(GPtrArray) jobs = g_ptr_array_new();
    g_autoptr(DroverFleet) fleet = drover_fleet_new();
    drover_set_string(&sim->job->agent, "old");
    sim->job->phase = DROVER_PHASE_REPLICATING;
    g_ptr_array_add(jobs, sim->job);
    DroverProcess *old = heard_of(fleet, &sim->at, "old", "a", 20);
    heard_of(fleet, &sim->at, "full", "a", 1);
    heard_of(fleet, &sim->at, "other", "b", 20);
    assert_false(drover_drain_is_on(fleet));
    assert_null(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at)); /* nobody asked */
    old->appliance_draining = true;
    assert_true(drover_drain_is_on(fleet));
    assert_null(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at)); /* no room, or other storage */
    heard_of(fleet, &sim->at, "small", "a", 3);
    DroverProcess *big = heard_of(fleet, &sim->at, "big", "a", 9);
    assert_string_equal(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at), "big");
    big->appliance_draining = true;
    assert_string_equal(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at), "small");
    /* A copy under way is not interrupted, a cutover neither; parked volumes need no slot. */
    sim->job->phase = DROVER_PHASE_CUTOVER;
    assert_null(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at));
    sim->job->phase = DROVER_PHASE_COMPLETED;
    assert_non_null(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at));
    /* On its way, it changes its mind only when its new home is gone. */
    sim->job->phase = DROVER_PHASE_REPLICATING;
    drover_set_string(&sim->job->moving_to, "small");
    assert_null(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at));
    assert_int_equal(drover_queue_reserved_slots(jobs, "small"), 2);
    drover_set_string(&sim->job->moving_to, "gone");
    assert_string_equal(drover_drain_new_home(sim->job, jobs, agents, fleet, &sim->at), "small");
    sim->job->phase = DROVER_PHASE_COMPLETED;
    sim_free(sim);
}

static void test_no_new_vm(void **state)
{
    (void)state;
    static const char *const agents[] = {"a1", "a2", NULL};
    g_autoptr(GPtrArray) jobs = g_ptr_array_new();
    g_autoptr(DroverFleet) fleet = drover_fleet_new();
    Sim *sim = sim_new(1, false);
    g_autofree char *why = NULL;
    heard_of(fleet, &sim->at, "a1", "", 20)->appliance_draining = true;
    heard_of(fleet, &sim->at, "a2", "", 2);
    assert_string_equal(drover_queue_choose_agent(sim->job, jobs, agents, fleet, &sim->at, &why), "a2");
    drover_set_string(&sim->job->wanted_agent, "a1");
    assert_null(drover_queue_choose_agent(sim->job, jobs, agents, fleet, &sim->at, &why));
    assert_non_null(strstr(why, "being drained"));
    sim_free(sim);
}

static void test_parked(void **state)
{
    (void)state;
    Sim *sim = sim_new(2, false);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    unsigned before = sim->operations;
    move_to(sim, "elsewhere");
    assert_true(is_at(sim, "elsewhere"));
    assert_int_equal(sim->operations, before);
    sim_command(sim, DROVER_INPUT_CLEANUP);
    sim_finish(sim);
    assert_true(sim_is_clean(sim));
    sim_free(sim);
}

/* Asked at any moment, as often as one likes: the job ends as it would have, at a home that it was sent to. */
static void test_at_random(void **state)
{
    (void)state;
    unsigned moved = 0, while_copying = 0;
    for (uint32_t seed = 0; seed < 400; seed++) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        Sim *sim = sim_new(1 + seed % 3, seed % 2);
        unsigned number = 0, left = 3;
        for (unsigned steps = 0; steps < 5000 && sim_fair(sim); steps++) {
            if (left == 0 || g_rand_int_range(random, 0, 12) != 0 || *sim->job->agent == '\0')
                continue;
            bool copying = sim->job->phase == DROVER_PHASE_COPYING;
            g_autofree char *to = g_strdup_printf("home-%u", ++number);
            if (copying)
                drover_job_set_stall(sim->job, "no worker");
            bool may = drover_drain_may_move(sim->job);
            move_to(sim, to);
            if (may)
                assert_true(g_str_equal(sim->job->moving_to, to) || g_str_equal(sim->job->agent, to));
            if (*sim->job->moving_to != '\0' && g_rand_boolean(random))
                sim_command(sim, DROVER_INPUT_TICK);
            if (copying)
                drover_job_set_stall(sim->job, "");
            left -= may;
            moved += may;
            while_copying += may && copying;
            sim_check(sim);
        }
        assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        assert_string_equal(sim->job->moving_to, "");
        sim_check(sim);
        sim_free(sim);
    }
    assert_true(moved > 100);
    assert_true(while_copying > 20);
}

static void test_cancelled_on_the_way(void **state)
{
    (void)state;
    for (unsigned steps = 3, ended = 0; !ended; steps++) {
        Sim *sim = sim_new(2, false);
        for (unsigned i = 0; i < steps; i++)
            sim_fair(sim);
        ended = drover_phase_is_ended(sim->job->phase);
        if (*sim->job->agent != '\0')
            move_to(sim, "elsewhere");
        sim_command(sim, DROVER_INPUT_CANCEL);
        sim_finish(sim);
        if (ended)
            sim_command(sim, DROVER_INPUT_CLEANUP);
        sim_finish(sim);
        assert_int_equal(sim->job->phase, ended ? DROVER_PHASE_COMPLETED : DROVER_PHASE_CANCELLED);
        assert_string_equal(sim->job->moving_to, "");
        assert_true(sim_is_clean(sim));
        sim_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_home),  cmocka_unit_test(test_no_new_vm),
        cmocka_unit_test(test_parked),    cmocka_unit_test(test_at_random),
        cmocka_unit_test(test_cancelled_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
