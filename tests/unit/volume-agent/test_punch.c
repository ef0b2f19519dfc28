/* SPDX-License-Identifier: Apache-2.0 */
/* Which way zeroes take on files and block devices, with a kernel whose answers are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/falloc.h>
#include <sys/types.h>

#include "volume-agent/plugin/punch.h"

#define LEN 65536

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);

static int punch_answer, zero_answer; /* 0 or an errno */
static int punches, zeroes;

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    (void)fd, (void)offset, (void)len;
    assert_true(mode & FALLOC_FL_KEEP_SIZE);
    int answer = mode & FALLOC_FL_PUNCH_HOLE ? punch_answer : zero_answer;
    punches += (mode & FALLOC_FL_PUNCH_HOLE) != 0;
    zeroes += (mode & FALLOC_FL_ZERO_RANGE) != 0;
    errno = answer;
    return answer ? -1 : 0;
}

static void kernel_says(int punch, int zero)
{
    punch_answer = punch;
    zero_answer = zero;
    punches = zeroes = 0;
}

static void freeing_zeroes_punch_first(void **state)
{
    (void)state;
    kernel_says(0, 0);
    assert_int_equal(punch_zeroes(-1, false, 0, LEN, true, false), 0);
    assert_int_equal(punches, 1);
    assert_int_equal(zeroes, 0);
    kernel_says(EOPNOTSUPP, 0);
    assert_int_equal(punch_zeroes(-1, true, 0, LEN, true, false), 0);
    assert_int_equal(zeroes, 1);
}

static void allocated_zeroes_never_punch(void **state)
{
    (void)state;
    kernel_says(0, 0);
    assert_int_equal(punch_zeroes(-1, true, 0, LEN, false, false), 0);
    assert_int_equal(punches, 0);
}

/* ZERO_RANGE on a block device writes where the device has no command for it: not the fast way. */
static void fast_zeroes_of_a_device_only_punch(void **state)
{
    (void)state;
    kernel_says(EOPNOTSUPP, 0);
    assert_int_equal(punch_zeroes(-1, true, 0, LEN, true, true), EOPNOTSUPP);
    assert_int_equal(zeroes, 0);
    kernel_says(0, 0);
    assert_int_equal(punch_zeroes(-1, true, 0, LEN, false, true), 0);
    assert_int_equal(punches, 1);
}

/* The kernel refuses a part of a device's sector with EINVAL; a client may ask for it all the same. */
static void parts_of_a_sector_are_written(void **state)
{
    (void)state;
    kernel_says(EINVAL, EINVAL);
    assert_int_equal(punch_zeroes(-1, true, 512, 512, true, false), EOPNOTSUPP);
    assert_int_equal(punch_zeroes(-1, true, 512, 512, false, false), EOPNOTSUPP);
    assert_int_equal(punch_zeroes(-1, true, 512, 512, true, true), EOPNOTSUPP);
    assert_int_equal(punch_away(-1, true, 512, 512), 0);
    assert_int_equal(punch_zeroes(-1, false, 512, 512, true, false), EINVAL); /* on a file it means something else */
}

static void errors_are_kept(void **state)
{
    (void)state;
    kernel_says(EIO, 0);
    assert_int_equal(punch_zeroes(-1, true, 0, LEN, true, false), EIO);
    assert_int_equal(punch_away(-1, true, 0, LEN), EIO);
    kernel_says(0, ENOSPC);
    assert_int_equal(punch_zeroes(-1, false, 0, LEN, false, false), ENOSPC);
    kernel_says(ENODEV, ENODEV);
    assert_int_equal(punch_zeroes(-1, false, 0, LEN, true, false), EOPNOTSUPP);
    assert_int_equal(punch_away(-1, false, 0, LEN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freeing_zeroes_punch_first),     cmocka_unit_test(allocated_zeroes_never_punch),
        cmocka_unit_test(fast_zeroes_of_a_device_only_punch), cmocka_unit_test(parts_of_a_sector_are_written),
        cmocka_unit_test(errors_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
