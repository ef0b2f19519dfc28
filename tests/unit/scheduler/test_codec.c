/* SPDX-License-Identifier: Apache-2.0 */
/* A leader may be replaced between any two steps: what the records hold must be all that a job needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/task/task.h"
#include "drover/v1/event.pb-c.h"
#include "drover/v1/job.pb-c.h"
#include "drover/v1/operation.pb-c.h"
#include "drover/v1/task.pb-c.h"
#include "scheduler/codec.h"
#include "tests/unit/core/sim.h"

static GBytes *pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = g_malloc(len + 1);
    protobuf_c_message_pack(message, bytes);
    return g_bytes_new_take(bytes, len);
}

/* A simulated job whose packed spec says what the job was made from. */
static Sim *new_sim(unsigned disks, bool failover)
{
    Sim *sim = sim_new(disks, failover);
    Drover__V1__JobSpec spec = DROVER__V1__JOB_SPEC__INIT;
    spec.name = sim->job->name;
    spec.source_site = sim->job->site;
    spec.failover = failover;
    g_bytes_unref(sim->job->spec);
    sim->job->spec = pack(&spec.base);
    return sim;
}

/* The same with disks of a VM. */
static Sim *new_vm_sim(unsigned disks, bool failover)
{
    Sim *sim = sim_new_vm(disks, failover);
    Drover__V1__JobSpec spec = DROVER__V1__JOB_SPEC__INIT;
    Drover__V1__DiskSpec disk = DROVER__V1__DISK_SPEC__INIT, *list[] = {&disk};
    Drover__V1__DiskSource source = DROVER__V1__DISK_SOURCE__INIT;
    Drover__V1__VsphereSource vsphere = DROVER__V1__VSPHERE_SOURCE__INIT;
    vsphere.vcenter = sim->job->source.vcenter;
    vsphere.vm_moref = sim->job->source.vm_moref;
    vsphere.vm_uuid = sim->job->source.vm_uuid;
    source.kind_case = DROVER__V1__DISK_SOURCE__KIND_VSPHERE;
    source.vsphere = &vsphere;
    disk.source = &source;
    for (guint i = 0; i < sim->job->disks->len; i++) {
        DroverDisk *known = sim->job->disks->pdata[i];
        vsphere.disk_key = known->source_key;
        g_bytes_unref(known->spec);
        known->spec = pack(&disk.base);
    }
    spec.name = sim->job->name;
    spec.source_site = sim->job->site;
    spec.failover = failover;
    spec.range_bytes = sim->job->range_bytes = 2 * DROVER_CELL_BYTES;
    spec.n_disks = 1;
    spec.disks = list;
    g_bytes_unref(sim->job->spec);
    sim->job->spec = pack(&spec.base);
    return sim;
}

static void load(bool (*loader)(const uint8_t *, size_t, GHashTable *, GError **), GBytes *taken,
                 GHashTable *table)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) packed = taken;
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(packed, &len);
    if (!loader(data, len, table, &error))
        fail_msg("%s", error->message);
}

static void fold_again(DroverDisk *disk, const Sim *sim)
{
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    for (guint i = 0; i < sim->checkpoints->len; i++) {
        const SimCheckpoint *record = sim->checkpoints->pdata[i];
        uint64_t changed = 0;
        DroverCheckpoint checkpoint = {.task_id = record->task_id,
                                       .generation = record->generation,
                                       .key = "k",
                                       .cells = &record->cell,
                                       .n_cells = 1};
        if (g_str_equal(record->disk_id, disk->disk_id))
            assert_int_not_equal(drover_cells_checkpoint(disk, &checkpoint, fresh, &changed),
                                 DROVER_CHECKPOINT_CHANGED);
    }
}

/* The job as a new leader would know it. */
static DroverJob *reload(const Sim *sim)
{
    g_autoptr(GHashTable) jobs = g_hash_table_new(g_str_hash, g_str_equal);
    const DroverJob *old = sim->job;
    load(codec_load_job, codec_job_state(old), jobs);
    for (guint d = 0; d < old->disks->len; d++)
        load(codec_load_disk, codec_disk_state(old, old->disks->pdata[d]), jobs);
    for (guint d = 0; d < old->disks->len; d++) {
        const DroverDisk *disk = old->disks->pdata[d];
        for (guint t = disk->tasks->len; t-- > 0;)
            load(codec_load_task, codec_task_state(old, disk, disk->tasks->pdata[t]), jobs);
    }
    DroverJob *fresh = g_hash_table_lookup(jobs, old->job_id);
    for (guint d = 0; d < fresh->disks->len; d++) {
        DroverDisk *disk = fresh->disks->pdata[d];
        const DroverDisk *before = old->disks->pdata[d];
        disk->token = g_strdup(before->token); /* from the agent's journal */
        disk->token_generation = before->token_generation;
        fold_again(disk, sim);
    }
    return fresh;
}

static void assert_same(const DroverJob *a, const DroverJob *b)
{
    g_autoptr(GBytes) x = codec_job_state(a);
    g_autoptr(GBytes) y = codec_job_state(b);
    assert_true(g_bytes_equal(x, y));
    for (guint d = 0; d < a->disks->len; d++) {
        const DroverDisk *da = a->disks->pdata[d], *db = b->disks->pdata[d];
        g_autoptr(GBytes) dx = codec_disk_state(a, da);
        g_autoptr(GBytes) dy = codec_disk_state(b, db);
        assert_true(g_bytes_equal(dx, dy));
        assert_int_equal(da->tasks->len, db->tasks->len);
        assert_int_equal(da->cells == NULL, db->cells == NULL);
        for (size_t i = 0; da->cells != NULL && i < da->cells->n; i++) {
            const DroverCell *ca = &da->cells->cell[i], *cb = &db->cells->cell[i];
            assert_int_equal(ca->verified, cb->verified);
            assert_int_equal(ca->repairing, cb->repairing);
            assert_int_equal(ca->checkpointed, cb->checkpointed);
            assert_int_equal(ca->verified && ca->root.len == 0, cb->verified && cb->root.len == 0);
        }
        for (guint t = 0; t < da->tasks->len; t++) {
            const DroverTask *ta = da->tasks->pdata[t], *tb = drover_disk_task(db, ta->task_id);
            g_autoptr(GBytes) tx = codec_task_state(a, da, ta);
            g_autoptr(GBytes) ty = codec_task_state(b, db, tb);
            if (!drover_task_is_ended(ta) ||
                da->cells != NULL) /* roots of ended rounds stay in the old record */
                assert_true(g_bytes_equal(tx, ty));
        }
    }
}

static void replace_leader(Sim *sim)
{
    DroverJob *fresh = reload(sim);
    assert_same(sim->job, fresh);
    drover_job_free(sim->job);
    sim->job = fresh;
}

static void test_a_new_leader_at_every_step(void **state)
{
    (void)state;
    for (int failover = 0; failover < 2; failover++) {
        Sim *sim = new_sim(2, failover);
        while (sim_fair(sim))
            replace_leader(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        assert_int_equal(g_hash_table_size(sim->volumes), 2);
        sim_command(sim, DROVER_INPUT_CLEANUP);
        while (sim_fair(sim))
            replace_leader(sim);
        assert_true(sim_is_clean(sim));
        sim_free(sim);
    }
}

static void test_a_new_leader_for_a_vm(void **state)
{
    (void)state;
    for (int failover = 0; failover < 2; failover++) {
        Sim *sim = new_vm_sim(2, failover);
        unsigned copied = 0;
        while (sim_fair(sim)) {
            replace_leader(sim);
            if (sim->job->phase == DROVER_PHASE_COPYING && sim->job->round == 0 && ++copied == 3) /* then it is too old */
                sim->at.now_ms += DROVER_SNAPSHOT_MAX_AGE_MS + 1;
        }
        assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        assert_int_equal(sim->vm.snapshots, failover ? 3 : 2);
        sim_command(sim, DROVER_INPUT_CLEANUP);
        while (sim_fair(sim))
            replace_leader(sim);
        assert_true(sim_is_clean(sim));
        sim_free(sim);
    }
}

/* Tasks say which snapshot they read, which the spec cannot know. */
static void test_tasks_for_a_vm(void **state)
{
    (void)state;
    Sim *sim = new_vm_sim(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    DroverDisk *disk = sim->job->disks->pdata[0];
    const char *const full[] = {"host-1", "host-2", NULL};
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        g_autoptr(GBytes) packed = task->kind == DROVER_TASK_COPY      ? codec_copy_task(sim->job, disk, task, 0, 1)
                                   : task->kind == DROVER_TASK_INSPECT ? codec_inspect_task(sim->job, disk, task, 1)
                                                                       : codec_source_vm_task(sim->job, disk, task, full, 8, 1);
        gsize len = 0;
        const uint8_t *data = g_bytes_get_data(packed, &len);
        Drover__V1__Task *message = drover__v1__task__unpack(NULL, len, data);
        assert_string_equal(message->disk_id, "disk0");
        if (task->kind == DROVER_TASK_COPY) {
            assert_string_equal(message->copy->source->vsphere->snapshot_moref, "snapshot-1");
        } else if (task->kind == DROVER_TASK_INSPECT) {
            assert_string_equal(message->inspect->source->vsphere->snapshot_moref, "snapshot-1");
        } else {
            assert_string_equal(message->source_vm->vm_moref, "vm-7");
            assert_int_equal(message->source_vm->n_full_hosts, 2);
            assert_string_equal(message->source_vm->full_hosts[1], "host-2");
            assert_int_equal(message->source_vm->transfers_per_host, 8);
            assert_int_equal(message->source_vm->n_disk_keys, 1);
            assert_int_equal(message->source_vm->disk_keys[0], 2000);
            assert_string_equal(message->source_vm->snapshot_name, "drover-job-1-r0");
        }
        drover__v1__task__free_unpacked(message, NULL);
    }
    sim_free(sim);
}

static void test_a_new_leader_in_a_repair(void **state)
{
    (void)state;
    Sim *sim = new_sim(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    DroverDisk *disk = sim->job->disks->pdata[0];
    sim_run_task(sim, disk, disk->tasks->pdata[2], true);
    replace_leader(sim);
    disk = sim->job->disks->pdata[0];
    unsigned repairing = 0;
    for (size_t i = 0; i < disk->cells->n; i++)
        repairing += disk->cells->cell[i].repairing;
    assert_int_equal(repairing, 1); /* old checkpoints of the cell do not make it good again */
    while (sim_fair(sim))
        replace_leader(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    sim_free(sim);
}

static void test_cancel_under_a_new_leader(void **state)
{
    (void)state;
    for (unsigned cut = 0; cut < 40; cut++) {
        Sim *sim = new_sim(2, true);
        for (unsigned i = 0; i < cut; i++)
            sim_fair(sim);
        sim_command(sim, DROVER_INPUT_CANCEL);
        do
            replace_leader(sim);
        while (sim_fair(sim));
        assert_true(sim->job->phase == DROVER_PHASE_CANCELLED || sim->job->phase == DROVER_PHASE_COMPLETED);
        assert_true(sim->job->phase == DROVER_PHASE_COMPLETED || sim_is_clean(sim));
        sim_free(sim);
    }
}

/* ---- what comes from outside */

static CodecCommand *command_of(const Drover__V1__JobCommand *message, GError **error)
{
    g_autoptr(GBytes) packed = pack(&message->base);
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(packed, &len);
    return codec_command(data, len, "site-1", error);
}

static void test_commands(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    Drover__V1__JobSpec spec = DROVER__V1__JOB_SPEC__INIT;
    Drover__V1__DiskSpec disk = DROVER__V1__DISK_SPEC__INIT, *disks[] = {&disk};
    Drover__V1__DiskSource source = DROVER__V1__DISK_SOURCE__INIT;
    Drover__V1__FileSource file = DROVER__V1__FILE_SOURCE__INIT;
    file.path = (char *)"/a.raw";
    source.kind_case = DROVER__V1__DISK_SOURCE__KIND_FILE;
    source.file = &file;
    disk.source = &source;
    spec.name = (char *)"web";
    spec.n_disks = 1;
    spec.disks = disks;
    message.job_id = (char *)"j1";
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_SUBMIT;
    message.submit = &spec;
    g_autoptr(CodecCommand) command = command_of(&message, &error);
    assert_non_null(command);
    assert_string_equal(command->request.disks[0].disk_id, "disk0");
    assert_string_equal(command->request.disks[0].source, "/a.raw");
    assert_string_equal(command->request.site, "site-1");
    file.path = (char *)"/\xff\xfe";
    assert_null(command_of(&message, &error));
    assert_non_null(strstr(error->message, "UTF-8"));
    g_clear_error(&error);
    message.job_id = (char *)"no/slash";
    file.path = (char *)"/a";
    assert_null(command_of(&message, &error));
    assert_int_equal(error->code, DROVER_ERROR_PERMANENT);
}

static void try_all(const uint8_t *data, size_t len)
{
    g_autoptr(CodecCommand) command = codec_command(data, len, NULL, NULL);
    g_autoptr(CodecEvent) event = codec_event(data, len, NULL);
    g_autoptr(CodecCheckpoint) checkpoint = codec_checkpoint(data, len, NULL);
    g_autoptr(CodecJournal) journal = codec_journal(data, len, NULL);
    int64_t at_ms = 0;
    DroverProcess *process = codec_heartbeat(data, len, &at_ms, NULL);
    drover_process_free(process);
    CodecStateKind kind;
    codec_state_kind(data, len, &kind, NULL);
}

/* Anything may stand on a topic; what was sent, cut short or with bits turned over most of all. */
static void test_noise(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    Sim *sim = new_sim(2, true);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    sim_fair(sim);
    DroverDisk *disk = sim->job->disks->pdata[0];
    drover_set_string(&disk->nbd_host, "h");
    GBytes *good[] = {codec_job_state(sim->job), codec_disk_state(sim->job, disk),
                      codec_task_state(sim->job, disk, disk->tasks->pdata[1]),
                      codec_copy_task(sim->job, disk, disk->tasks->pdata[1], 5, 6)};
    for (size_t g = 0; g < G_N_ELEMENTS(good); g++) {
        gsize len = 0;
        const uint8_t *data = g_bytes_get_data(good[g], &len);
        for (int i = 0; i < 3000; i++) {
            g_autofree uint8_t *noise = g_memdup2(data, len);
            for (int k = g_rand_int_range(random, 1, 6); k > 0; k--)
                noise[g_rand_int_range(random, 0, (gint32)len)] = (uint8_t)g_rand_int(random);
            try_all(noise, (size_t)g_rand_int_range(random, 0, (gint32)len + 1));
        }
        g_bytes_unref(good[g]);
    }
    try_all(NULL, 0);
    sim_free(sim);
}

static void test_the_token_stands_in_copy_tasks_only(void **state)
{
    (void)state;
    Sim *sim = new_sim(1, false);
    while (sim->job->phase != DROVER_PHASE_COPYING)
        sim_fair(sim);
    DroverDisk *disk = sim->job->disks->pdata[0];
    assert_non_null(disk->token);
    GBytes *records[] = {codec_job_state(sim->job), codec_disk_state(sim->job, disk),
                         codec_task_state(sim->job, disk, disk->tasks->pdata[1]),
                         codec_control(sim->job, NULL, 0, 0, "leader", 1),
                         codec_copy_task(sim->job, disk, disk->tasks->pdata[1], 0, 1)};
    for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
        gsize len = 0;
        const void *data = g_bytes_get_data(records[i], &len);
        bool found = memmem(data, len, disk->token, strlen(disk->token)) != NULL;
        assert_int_equal(found, i + 1 == G_N_ELEMENTS(records));
        g_bytes_unref(records[i]);
    }
    sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_leader_at_every_step),
        cmocka_unit_test(test_a_new_leader_for_a_vm),
        cmocka_unit_test(test_tasks_for_a_vm),
        cmocka_unit_test(test_a_new_leader_in_a_repair),
        cmocka_unit_test(test_cancel_under_a_new_leader),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_the_token_stands_in_copy_tasks_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
