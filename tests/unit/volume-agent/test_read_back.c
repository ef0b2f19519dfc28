/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "volume-agent/verify/read_back.h"
#include "volume-agent/verify/verifier.h"

#define MIB (UINT64_C(1) << 20)
#define CAPACITY (40 * MIB + 512) /* one whole cell and a short one that ends off every grid */

typedef struct {
    char *path;
    uint8_t *bytes;
} Disk;

/* A sparse file with data here and there; the same bytes in memory. */
static int make_disk(void **state)
{
    Disk *d = g_new0(Disk, 1);
    /* Not in /tmp, which may be a tmpfs without O_DIRECT. */
    d->path = g_strdup("read-back-XXXXXX");
    int fd = g_mkstemp(d->path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)CAPACITY), 0);
    d->bytes = g_malloc0(CAPACITY);
    static const struct {
        uint64_t offset, len;
    } spots[] = {{0, 4096}, {3 * MIB + 100, 70000}, {20 * MIB, 2 * MIB}, {33 * MIB + 1, 5}, {CAPACITY - 7, 7}};
    for (size_t i = 0; i < G_N_ELEMENTS(spots); i++) {
        for (uint64_t b = 0; b < spots[i].len; b++)
            d->bytes[spots[i].offset + b] = (uint8_t)(b * 31 + i + 1);
        assert_int_equal(pwrite(fd, d->bytes + spots[i].offset, spots[i].len, (off_t)spots[i].offset), spots[i].len);
    }
    fsync(fd);
    close(fd);
    *state = d;
    return 0;
}

static int remove_disk(void **state)
{
    Disk *d = *state;
    g_unlink(d->path);
    g_free(d->path);
    g_free(d->bytes);
    g_free(d);
    return 0;
}

/* The construction of lib/digest/digest.h, written down a second time. */
static void expected_root(const Disk *d, DroverDigestAlgorithm algorithm, const DroverRange *ranges, size_t n,
                          DroverDigest *out)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (size_t i = 0; i < n; i++) {
        uint64_t at = ranges[i].offset, end = at + ranges[i].length;
        while (at < end) {
            uint64_t stop = MIN(end, (at / DROVER_LEAF_BYTES + 1) * DROVER_LEAF_BYTES);
            DroverDigest leaf;
            drover_digest_bytes(algorithm, d->bytes + at, stop - at, &leaf);
            uint64_t head[2] = {GUINT64_TO_LE(at), GUINT64_TO_LE(stop - at)};
            g_byte_array_append(all, (const guint8 *)head, sizeof head);
            g_byte_array_append(all, leaf.bytes, leaf.len);
            at = stop;
        }
    }
    drover_digest_bytes(algorithm, all->data, all->len, out);
}

static void roots_are_those_of_the_bytes(void **state)
{
    Disk *d = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverReadBack) back = drover_read_back_open(d->path, &error);
    assert_non_null(back);
    for (int algorithm = DROVER_DIGEST_XXH3; algorithm <= DROVER_DIGEST_SHA256; algorithm++) {
        for (uint64_t cell = 0; cell < 2; cell++) {
            uint64_t offset = cell * DROVER_CELL_BYTES;
            DroverRange whole = {offset, MIN(DROVER_CELL_BYTES, CAPACITY - offset)};
            DroverDigest got = {0}, want = {0};
            uint64_t read_bytes = 0;
            assert_true(drover_read_back_cell(back, algorithm, cell, CAPACITY, NULL, 0, &got, &read_bytes, &error));
            expected_root(d, algorithm, &whole, 1, &want);
            assert_true(drover_digest_equal(&got, &want));
            assert_true(read_bytes <= 4 * MIB); /* holes were not read */
        }
    }
}

static void range_lists_are_honoured(void **state)
{
    Disk *d = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverReadBack) back = drover_read_back_open(d->path, &error);
    const DroverRange ranges[] = {{1000, 3000}, {3 * MIB, 200000}, {20 * MIB + 512, 3 * MIB}, {32 * MIB - 512, 512}};
    DroverDigest got = {0}, want = {0};
    uint64_t read_bytes = 0;
    assert_true(drover_read_back_cell(back, DROVER_DIGEST_XXH3, 0, CAPACITY, ranges, 4, &got, &read_bytes, &error));
    expected_root(d, DROVER_DIGEST_XXH3, ranges, 4, &want);
    assert_true(drover_digest_equal(&got, &want));

    const DroverRange outside[] = {{31 * MIB, 2 * MIB}}, unsorted[] = {{4096, 512}, {0, 512}}, empty[] = {{0, 0}};
    const DroverRange *const bad[] = {outside, unsorted, empty};
    const size_t n[] = {1, 2, 1};
    for (int i = 0; i < 3; i++) {
        g_autoptr(GError) why = NULL;
        assert_false(drover_read_back_cell(back, DROVER_DIGEST_XXH3, 0, CAPACITY, bad[i], n[i], &got, &read_bytes, &why));
        assert_int_equal(drover_error_class(why), DROVER_ERROR_PERMANENT);
    }
}

static void a_device_that_is_too_small_is_named(void **state)
{
    Disk *d = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverReadBack) back = drover_read_back_open(d->path, &error);
    DroverDigest got;
    uint64_t read_bytes = 0;
    assert_false(drover_read_back_cell(back, DROVER_DIGEST_XXH3, 1, CAPACITY + 1, NULL, 0, &got, &read_bytes, &error));
    assert_non_null(strstr(error->message, "DRV-TARGET-TOO-SMALL"));
    assert_null(drover_read_back_open("/nonexistent/device", NULL));
}

typedef struct {
    Disk *disk;
    bool fenced_after; /* a newer generation is opened while cells are read */
    int located;
    GMutex lock;
    GCond cond;
    int answers;
    int at_once, wanted_at_once; /* whoever locates waits until so many do */
    guint verified, mismatched;
    int error_class;
} Agent;

static char *locate(void *data, const char *volume_id, uint64_t generation, GError **error)
{
    Agent *agent = data;
    assert_string_equal(volume_id, "v");
    g_mutex_lock(&agent->lock);
    agent->at_once++;
    int located = agent->located;
    g_cond_broadcast(&agent->cond);
    while (agent->at_once < agent->wanted_at_once)
        g_cond_wait(&agent->cond, &agent->lock);
    g_mutex_unlock(&agent->lock);
    if (generation == 2 || (agent->fenced_after && located > 0)) {
        drover_fail(error, DROVER_ERROR_FENCED, "generation 3 is open");
        return NULL;
    }
    g_mutex_lock(&agent->lock);
    agent->located++;
    g_mutex_unlock(&agent->lock);
    return g_strdup(agent->disk->path);
}

static void answer(void *data, const DroverVerifyRequest *request, const DroverVerifyOutcome *outcome)
{
    Agent *agent = data;
    (void)request;
    g_mutex_lock(&agent->lock);
    agent->answers++;
    agent->verified += outcome->verified->len;
    agent->mismatched += outcome->mismatched->len;
    agent->error_class = outcome->error ? (int)drover_error_class(outcome->error) : 0;
    g_cond_broadcast(&agent->cond);
    g_mutex_unlock(&agent->lock);
}

static bool is_obsolete(void *data, const char *job_id)
{
    (void)data;
    return strcmp(job_id, "stopped") == 0;
}

static DroverVerifyRequest *request_for(const Disk *d, const char *job, uint64_t generation, bool spoil)
{
    DroverVerifyRequest *r = drover_verify_request_new();
    r->job_id = g_strdup(job);
    r->volume_id = g_strdup("v");
    r->generation = generation;
    r->digest = DROVER_DIGEST_XXH3;
    r->capacity_bytes = CAPACITY;
    for (uint64_t i = 0; i < 2; i++) {
        DroverVerifyCell cell = {.cell = i};
        DroverRange whole = {i * DROVER_CELL_BYTES, MIN(DROVER_CELL_BYTES, CAPACITY - i * DROVER_CELL_BYTES)};
        expected_root(d, DROVER_DIGEST_XXH3, &whole, 1, &cell.expected);
        if (spoil && i == 1)
            cell.expected.bytes[0] ^= 1;
        g_array_append_val(r->cells, cell);
    }
    return r;
}

static void await_answers(Agent *agent, int n)
{
    g_mutex_lock(&agent->lock);
    while (agent->answers < n)
        g_cond_wait(&agent->cond, &agent->lock);
    g_mutex_unlock(&agent->lock);
}

static void requests_are_answered(void **state)
{
    Agent agent = {.disk = *state};
    DroverVerifyLimits limits = {.rate_bytes_per_second = 100 * MIB};
    DroverVerifyCallbacks callbacks = {&agent, locate, answer, is_obsolete};
    g_autoptr(DroverVerifier) verifier = drover_verifier_new(&limits, &callbacks);
    drover_verifier_submit(verifier, request_for(agent.disk, "stopped", 1, false)); /* never answered */
    drover_verifier_submit(verifier, request_for(agent.disk, "job", 1, false));
    await_answers(&agent, 1);
    assert_int_equal(agent.verified, 2);
    assert_int_equal(agent.mismatched, 0);
    drover_verifier_submit(verifier, request_for(agent.disk, "job", 1, true));
    await_answers(&agent, 2);
    assert_int_equal(agent.verified, 3);
    assert_int_equal(agent.mismatched, 1);
    assert_int_equal(agent.error_class, 0);
    drover_verifier_submit(verifier, request_for(agent.disk, "job", 2, false));
    await_answers(&agent, 3);
    assert_int_equal(agent.verified, 3);
    assert_int_equal(agent.error_class, DROVER_ERROR_FENCED);
    agent.fenced_after = true;
    agent.located = 0;
    drover_verifier_submit(verifier, request_for(agent.disk, "job", 1, false));
    await_answers(&agent, 4);
    assert_int_equal(agent.verified, 3);
    assert_int_equal(agent.error_class, DROVER_ERROR_FENCED);
}

static gpointer release(gpointer data)
{
    drover_verifier_release(data, "v");
    return NULL;
}

static void several_are_read_at_a_time(void **state)
{
    Agent agent = {.disk = *state, .wanted_at_once = 4};
    DroverVerifyLimits limits = {.threads = 3};
    DroverVerifyCallbacks callbacks = {&agent, locate, answer, is_obsolete};
    g_autoptr(DroverVerifier) verifier = drover_verifier_new(&limits, &callbacks);
    for (int i = 0; i < 3; i++)
        drover_verifier_submit(verifier, request_for(agent.disk, "job", 1, i == 2));
    g_mutex_lock(&agent.lock);
    while (agent.at_once < 3)
        g_cond_wait(&agent.cond, &agent.lock);
    g_mutex_unlock(&agent.lock);
    drover_verifier_release(verifier, "another volume"); /* does not wait for this one */
    GThread *releasing = g_thread_new("release", release, verifier);
    g_mutex_lock(&agent.lock);
    assert_int_equal(agent.answers, 0);
    agent.at_once++; /* now they may go on */
    g_cond_broadcast(&agent.cond);
    g_mutex_unlock(&agent.lock);
    g_thread_join(releasing);
    assert_int_equal(agent.answers, 3);
    assert_int_equal(agent.verified, 5);
    assert_int_equal(agent.mismatched, 1);
}

/* The limit is that of all threads together. */
static void the_rate_is_shared(void **state)
{
    Agent agent = {.disk = *state};
    uint64_t read_bytes = 2 * MIB + 4 * DROVER_LEAF_BYTES; /* of one request, at least */
    DroverVerifyLimits limits = {.threads = 4, .rate_bytes_per_second = 20 * MIB};
    DroverVerifyCallbacks callbacks = {&agent, locate, answer, is_obsolete};
    g_autoptr(DroverVerifier) verifier = drover_verifier_new(&limits, &callbacks);
    gint64 began = g_get_monotonic_time();
    for (int i = 0; i < 8; i++)
        drover_verifier_submit(verifier, request_for(agent.disk, "job", 1, false));
    await_answers(&agent, 8);
    assert_int_equal(agent.verified, 16);
    assert_true((uint64_t)(g_get_monotonic_time() - began) * limits.rate_bytes_per_second / G_USEC_PER_SEC >= 8 * read_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(roots_are_those_of_the_bytes, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(range_lists_are_honoured, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(a_device_that_is_too_small_is_named, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(requests_are_answered, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(several_are_read_at_a_time, make_disk, remove_disk),
        cmocka_unit_test_setup_teardown(the_rate_is_shared, make_disk, remove_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
