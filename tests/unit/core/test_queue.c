/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/dispatch/grants.h"
#include "core/dispatch/queue.h"
#include "core/task/task.h"

typedef struct {
    GPtrArray *jobs;
    DroverFleet *fleet;
    DroverAt at;
    uint64_t ready, running;
    uint32_t transfers_max;
} Case;

static int setup(void **state)
{
    Case *c = g_new0(Case, 1);
    c->jobs = g_ptr_array_new_with_free_func((GDestroyNotify)drover_job_free);
    c->fleet = drover_fleet_new();
    c->at = (DroverAt){.now_ms = 1000000, .lease_ms = 5000};
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    Case *c = *state;
    g_ptr_array_unref(c->jobs);
    drover_fleet_free(c->fleet);
    g_free(c);
    return 0;
}

static DroverProcess *worker(const char *name, const char *site, uint32_t slots, int32_t partition)
{
    DroverProcess *process = drover_process_new(name, name, DROVER_ROLE_WORKER, site);
    process->copy_slots = slots;
    process->interval_ms = 10000;
    if (partition >= 0)
        g_array_append_val(process->copy_partitions, partition);
    return process;
}

static void add_worker(Case *c, const char *name, const char *site, uint32_t slots, int32_t partition)
{
    drover_fleet_heartbeat(c->fleet, worker(name, site, slots, partition), 0, &c->at);
}

static DroverJob *add_job(Case *c, const char *id, unsigned tasks, uint32_t priority)
{
    DroverJob *job = drover_job_new(id);
    drover_set_string(&job->site, "s");
    job->phase = DROVER_PHASE_COPYING;
    job->priority = priority;
    job->created_at_ms = c->jobs->len;
    DroverDisk *disk = drover_job_add_disk(job, "d");
    disk->export_open = true;
    disk->token = g_strdup("t");
    for (unsigned i = 0; i < tasks; i++) {
        g_autofree char *task_id = g_strdup_printf("%s/%u", id, i);
        drover_disk_add_task(disk, task_id, DROVER_TASK_COPY);
    }
    g_ptr_array_add(c->jobs, job);
    return job;
}

static guint assign(Case *c)
{
    g_autoptr(GArray) assigned = drover_queue_assign(c->jobs, c->fleet, &(DroverLimits){.transfers_per_target = c->transfers_max, .transfers_per_vm_disk = 1}, &c->at, &c->ready, &c->running);
    return assigned->len;
}

static unsigned live(const DroverJob *job)
{
    unsigned count = 0;
    const DroverDisk *disk = job->disks->pdata[0];
    for (guint i = 0; i < disk->tasks->len; i++)
        count += drover_task_is_live(disk->tasks->pdata[i]);
    return count;
}

static void test_only_free_slots(void **state)
{
    Case *c = *state;
    DroverJob *job = add_job(c, "a", 10, 0);
    assert_int_equal(assign(c), 0);
    add_worker(c, "w1", "s", 3, 1);
    add_worker(c, "w2", "s", 2, -1); /* owns no partition */
    add_worker(c, "w3", "elsewhere", 5, 2);
    assert_int_equal(assign(c), 3);
    assert_int_equal(c->ready, 7);
    assert_int_equal(c->running, 3);
    assert_int_equal(assign(c), 0); /* our own assignments count at once, without a heartbeat */
    const DroverTask *first = ((DroverDisk *)job->disks->pdata[0])->tasks->pdata[0];
    assert_int_equal(first->partition, 1);
    assert_string_equal(first->owner_process, "w1");
}

static void test_bound_of_a_target(void **state)
{
    Case *c = *state;
    DroverJob *bulk = add_job(c, "bulk", 10, 9), *cutover = add_job(c, "cutover", 10, 0);
    DroverJob *other = add_job(c, "other", 3, 0);
    drover_set_string(&bulk->agent, "appliance-1");
    drover_set_string(&cutover->agent, "appliance-1");
    drover_set_string(&other->agent, "appliance-2");
    cutover->round = 1;
    cutover->failover_requested = true;
    c->transfers_max = 4;
    add_worker(c, "w1", "s", 20, 1);
    assert_int_equal(assign(c), 7);
    assert_int_equal(live(cutover), 4); /* a downtime goes before priority and fairness */
    assert_int_equal(live(bulk), 0);
    assert_int_equal(live(other), 3);
    assert_int_equal(assign(c), 0);
}

static void test_silent_and_draining_workers(void **state)
{
    Case *c = *state;
    add_job(c, "a", 10, 0);
    add_worker(c, "w1", "s", 1, 1);
    c->at.lease_ms += 29999;
    DroverProcess *draining = worker("w2", "s", 1, 2);
    draining->draining = true;
    drover_fleet_heartbeat(c->fleet, draining, 0, &c->at);
    c->at.lease_ms += 1;
    assert_int_equal(assign(c), 0);
    add_worker(c, "w1", "s", 1, 1);
    assert_int_equal(assign(c), 1);
}

static void test_fairness_and_priority(void **state)
{
    Case *c = *state;
    DroverJob *low = add_job(c, "low", 10, 0), *high = add_job(c, "high", 10, 5),
              *other = add_job(c, "other", 10, 0);
    add_worker(c, "w1", "s", 6, 1);
    assert_int_equal(assign(c), 6);
    /* One slot each, then all others to the larger priority. */
    assert_int_equal(live(low), 1);
    assert_int_equal(live(other), 1);
    assert_int_equal(live(high), 4);
}

static void test_not_eligible(void **state)
{
    Case *c = *state;
    add_worker(c, "w1", "s", 60, 1);
    add_job(c, "paused", 1, 0)->paused = true;
    add_job(c, "preparing", 1, 0)->phase = DROVER_PHASE_PREPARE;
    DroverDisk *no_token = add_job(c, "no-token", 1, 0)->disks->pdata[0];
    no_token->generation = 2; /* the token is of generation 0 */
    DroverDisk *waiting = add_job(c, "waiting", 1, 0)->disks->pdata[0];
    ((DroverTask *)waiting->tasks->pdata[0])->not_before_at_ms = c->at.now_ms + 1;
    assert_int_equal(assign(c), 0);
    c->at.now_ms++;
    assert_int_equal(assign(c), 1);
}

static void test_limited_job(void **state)
{
    Case *c = *state;
    add_worker(c, "w1", "s", 60, 1);
    add_job(c, "limited", 50, 0)->bandwidth_limit = 1000;
    assert_int_equal(assign(c), DROVER_LIMITED_TASKS_MAX);
}

static void test_choose_agent(void **state)
{
    Case *c = *state;
    static const char *const agents[] = {"a1", "a2", NULL};
    DroverJob *job = add_job(c, "j", 1, 0);
    g_autofree char *why = NULL;
    assert_null(drover_queue_choose_agent(job, c->jobs, agents, c->fleet, &c->at, &why));
    assert_non_null(why);
    for (int i = 0; agents[i] != NULL; i++) {
        DroverProcess *agent = drover_process_new(agents[i], "x", DROVER_ROLE_VOLUME_AGENT, agents[i]);
        agent->free_device_slots = i == 0 ? 3 : 2;
        drover_fleet_heartbeat(c->fleet, agent, 0, &c->at);
    }
    assert_string_equal(drover_queue_choose_agent(job, c->jobs, agents, c->fleet, &c->at, NULL), "a1");
    /* Jobs that chose it and have not attached yet take their slots. */
    for (int i = 0; i < 2; i++) {
        DroverJob *other = add_job(c, i == 0 ? "o1" : "o2", 1, 0);
        other->phase = DROVER_PHASE_PREPARE;
        drover_set_string(&other->agent, "a1");
    }
    assert_string_equal(drover_queue_choose_agent(job, c->jobs, agents, c->fleet, &c->at, NULL), "a2");
    drover_set_string(&job->wanted_agent, "a1");
    assert_string_equal(drover_queue_choose_agent(job, c->jobs, agents, c->fleet, &c->at, NULL), "a1");
    drover_job_add_disk(job, "d2");
    g_free(why);
    why = NULL;
    assert_null(drover_queue_choose_agent(job, c->jobs, agents, c->fleet, &c->at, &why));
    assert_non_null(strstr(why, "2 free device slots"));
}

/* Whatever comes and goes: what anybody may be using adds up to no more than the limit. */
static void test_grants(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(11);
    const uint64_t limit = 1000000, floor = drover_grants_floor(limit, 32);
    const int64_t ttl = 30000;
    DroverGrants *grants = drover_grants_new();
    struct Given {
        int holder;
        uint64_t rate;
        int64_t until;
    };
    g_autoptr(GArray) given = g_array_new(false, false, sizeof(struct Given));
    uint64_t most = 0;
    int64_t now = 0;
    for (int step = 0; step < 2000; step++) {
        DroverGrant wanted[32];
        size_t n = 0;
        char names[40][8];
        for (int i = 0; i < 40 && n < 32; i++)
            if (g_rand_int_range(random, 0, 40) < (step / 100) % 40) {
                g_snprintf(names[i], sizeof names[i], "t%d", i);
                wanted[n++] = (DroverGrant){names[i], 0};
            }
        drover_grants_renew(grants, limit, floor, wanted, n, ttl, now);
        for (size_t k = 0; k < n; k++) {
            assert_true(wanted[k].bytes_per_second >= floor);
            struct Given one = {(int)g_ascii_strtoll(wanted[k].holder + 1, NULL, 10),
                                wanted[k].bytes_per_second - floor, now + ttl};
            g_array_append_val(given, one);
        }
        /* Nobody knows which of its unexpired grants a holder has read: the largest one counts. */
        uint64_t largest[40] = {0}, sum = 0;
        for (guint i = given->len; i-- > 0;) {
            const struct Given *one = &g_array_index(given, struct Given, i);
            if (one->until <= now)
                g_array_remove_index_fast(given, i);
            else
                largest[one->holder] = MAX(largest[one->holder], one->rate);
        }
        for (int i = 0; i < 40; i++)
            sum += largest[i];
        most = MAX(most, sum);
        assert_true(sum + 32 * floor <= limit);
        now += g_rand_int_range(random, 0, 20000);
    }
    assert_true(most > limit / 2);
    drover_grants_end(grants, "t0");
    drover_grants_free(grants);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_free_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound_of_a_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_and_draining_workers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fairness_and_priority, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_eligible, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limited_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_choose_agent, setup, teardown),
        cmocka_unit_test(test_grants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
