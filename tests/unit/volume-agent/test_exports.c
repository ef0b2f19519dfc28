/* SPDX-License-Identifier: Apache-2.0 */
/* The fence inside the NBD server when several of the agent's requests meet, and a storage that loses writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "volume-agent/plugin/exports.h"

#define TOKEN "00112233445566778899aabbccddeeff"
#define DISK_BYTES 65536

/* ---- the storage ------------------------------------------------------------------------------------------------- */

int __wrap_fdatasync(int fd);

static atomic_int flushes, to_lose;

/* Linux tells a write-back error once an open file: to the first that asks, who takes his time to say so here. */
int __wrap_fdatasync(int fd)
{
    (void)fd;
    atomic_fetch_add(&flushes, 1);
    if (atomic_exchange(&to_lose, 0) == 0)
        return 0;
    usleep(50000);
    errno = EIO;
    return -1;
}

int __real_close(int fd);
int __wrap_close(int fd);

static atomic_bool slow, closing;

/* The last close of a device writes back what is dirty, which may take minutes. */
int __wrap_close(int fd)
{
    if (atomic_load(&slow))
        atomic_store(&closing, true);
    while (atomic_load(&slow))
        usleep(1000);
    return __real_close(fd);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static char disk[] = "/tmp/drover-exports-XXXXXX";

static int make_disk(void **state)
{
    (void)state;
    int fd = mkstemp(disk);
    int rc = fd < 0 ? -1 : ftruncate(fd, DISK_BYTES);
    close(fd);
    return rc;
}

static int remove_disk(void **state)
{
    (void)state;
    return unlink(disk);
}

static int clear_table(void **state)
{
    (void)state;
    exports_clear();
    return 0;
}

static int open_generation(uint64_t generation)
{
    char why[512];
    return exports_open("v1", generation, TOKEN, disk, DISK_BYTES, why, sizeof why);
}

static Export *connect_to(uint64_t generation)
{
    char name[128];
    snprintf(name, sizeof name, "migration-vol-v1@%llu.%s", (unsigned long long)generation, TOKEN);
    return exports_acquire(name);
}

static unsigned open_exports(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    exports_print(out);
    fclose(out);
    unsigned lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    free(text);
    return lines;
}

typedef struct {
    uint64_t generation;
    bool close;
    int err;
    atomic_bool done;
    pthread_t thread;
} Request;

static void *ask(void *data)
{
    Request *request = data;
    if (request->close)
        exports_close("v1", request->generation);
    else
        request->err = open_generation(request->generation);
    atomic_store(&request->done, true);
    return NULL;
}

static void start(Request *request)
{
    assert_int_equal(pthread_create(&request->thread, NULL, ask, request), 0);
}

/* A request was admitted to generation 1 and is in flight when REQUESTS come in together. */
static void meet(Request *requests, size_t n)
{
    assert_int_equal(open_generation(1), 0);
    Export *old = connect_to(1);
    assert_non_null(old);
    assert_true(exports_admit(old));
    for (size_t i = 0; i < n; i++)
        start(&requests[i]);
    while (exports_admit(old)) { /* until one of them has cut it off */
        exports_done(old);
        usleep(1000);
    }
    usleep(50000);
    for (size_t i = 0; i < n; i++)
        assert_false(atomic_load(&requests[i].done));
    assert_null(connect_to(1));
    exports_done(old);
    for (size_t i = 0; i < n; i++)
        pthread_join(requests[i].thread, NULL);
    assert_false(exports_admit(old));
    exports_release(old);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void the_newest_of_several_openings_wins(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        Request requests[] = {{.generation = 2}, {.generation = 4}, {.generation = 3}};
        meet(requests, 3);
        assert_int_equal(requests[1].err, 0);
        assert_true(requests[0].err == 0 || requests[0].err == ESTALE);
        assert_true(requests[2].err == 0 || requests[2].err == ESTALE);
        assert_int_equal(open_exports(), 1);
        assert_null(connect_to(2));
        assert_null(connect_to(3));
        Export *newest = connect_to(4);
        assert_non_null(newest);
        exports_release(newest);
        exports_clear();
    }
}

static void the_same_opening_twice_is_one(void **state)
{
    (void)state;
    Request requests[] = {{.generation = 2}, {.generation = 2}};
    meet(requests, 2);
    assert_int_equal(requests[0].err, 0);
    assert_int_equal(requests[1].err, 0);
    assert_int_equal(open_exports(), 1);
}

static void closing_meets_closing_and_opening(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        Request requests[] = {{.generation = 1, .close = true}, {.generation = 2}, {.generation = 1, .close = true}};
        meet(requests, 3);
        assert_int_equal(requests[1].err, 0);
        assert_int_equal(open_exports(), 1);
        assert_int_equal(open_generation(1), ESTALE);
        exports_close("v1", 2);
        assert_int_equal(open_exports(), 0);
        assert_int_equal(open_generation(2), ESTALE);
        exports_clear();
    }
}

static void a_slow_device_holds_up_nobody_else(void **state)
{
    (void)state;
    char why[512];
    assert_int_equal(open_generation(1), 0);
    assert_int_equal(exports_open("v2", 1, TOKEN, disk, DISK_BYTES, why, sizeof why), 0);
    Export *other = exports_acquire("migration-vol-v2@1." TOKEN);
    assert_non_null(other);
    atomic_store(&slow, true);
    Request requests[] = {{.generation = 1, .close = true}, {.generation = 1, .close = true}, {.generation = 2}};
    start(&requests[0]);
    while (!atomic_load(&closing))
        usleep(1000);
    start(&requests[1]);
    start(&requests[2]);
    assert_true(exports_admit(other));
    exports_done(other);
    assert_int_equal(open_exports(), 1);
    assert_int_equal(exports_open("v3", 1, TOKEN, disk, DISK_BYTES, why, sizeof why), 0);
    assert_null(connect_to(1));
    usleep(50000);
    for (size_t i = 0; i < 3; i++) /* the device is held still */
        assert_false(atomic_load(&requests[i].done));
    atomic_store(&slow, false);
    for (size_t i = 0; i < 3; i++)
        pthread_join(requests[i].thread, NULL);
    assert_int_equal(requests[2].err, 0);
    assert_int_equal(open_exports(), 3);
    exports_release(other);
}

static void a_failed_opening_may_be_tried_again_and_brings_nothing_back(void **state)
{
    (void)state;
    char why[512];
    assert_int_equal(open_generation(1), 0);
    assert_int_equal(exports_open("v1", 2, TOKEN, "/nonexistent/disk", 0, why, sizeof why), ENOENT);
    assert_int_equal(exports_open("v1", 2, TOKEN, disk, DISK_BYTES + 1, why, sizeof why), ENOSPC);
    assert_int_equal(open_generation(1), ESTALE);
    assert_int_equal(open_generation(2), 0);
}

static void *flush(void *export)
{
    return (void *)(intptr_t)export_flush(export);
}

/* Two connections flush at once, and the kernel tells only one of them that data was lost. */
static void nobody_flushes_well_beside_a_failure(void **state)
{
    (void)state;
    assert_int_equal(open_generation(1), 0);
    Export *export = connect_to(1);
    assert_true(exports_admit(export));
    assert_int_equal(export_flush(export), 0);
    atomic_store(&flushes, 0);
    atomic_store(&to_lose, 1);
    pthread_t first;
    assert_int_equal(pthread_create(&first, NULL, flush, export), 0);
    while (atomic_load(&flushes) == 0)
        usleep(1000);
    int second = export_flush(export);
    void *told = NULL;
    pthread_join(first, &told);
    int later = export_flush(export);
    exports_done(export);
    exports_release(export);
    assert_int_equal((intptr_t)told, EIO);
    assert_int_equal(second, EIO);
    assert_int_equal(later, EIO);
    /* A newer generation starts clean. */
    assert_int_equal(open_generation(2), 0);
    export = connect_to(2);
    assert_true(exports_admit(export));
    assert_int_equal(export_flush(export), 0);
    exports_done(export);
    exports_release(export);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_newest_of_several_openings_wins, clear_table),
        cmocka_unit_test_teardown(the_same_opening_twice_is_one, clear_table),
        cmocka_unit_test_teardown(closing_meets_closing_and_opening, clear_table),
        cmocka_unit_test_teardown(a_slow_device_holds_up_nobody_else, clear_table),
        cmocka_unit_test_teardown(a_failed_opening_may_be_tried_again_and_brings_nothing_back, clear_table),
        cmocka_unit_test_teardown(nobody_flushes_well_beside_a_failure, clear_table),
    };
    return cmocka_run_group_tests(tests, make_disk, remove_disk);
}
