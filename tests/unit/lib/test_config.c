/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/config.h"
#include "lib/base/error.h"

static const DroverOption table[] = {
    {"test", "name", DROVER_OPTION_STRING, "default", "NAME", "A name", 0},
    {"test", "size", DROVER_OPTION_SIZE, "64M", "SIZE", "A size", 0},
    {"test", "wait", DROVER_OPTION_DURATION, "1s", "TIME", "A time", 0},
    {"test", "flag", DROVER_OPTION_BOOL, "true", NULL, "A switch", 0},
    {"test", "list", DROVER_OPTION_LIST, NULL, "A,B", "A list", 0},
    {"test", "each", DROVER_OPTION_REPEATED, NULL, "X", "Repeated", 0},
    {"test", "password", DROVER_OPTION_STRING, NULL, NULL, "A secret", DROVER_OPTION_SECRET},
    {"", "plain", DROVER_OPTION_INT, "7", "N", "No section", 0},
    DROVER_OPTION_END,
};

/* Parses one command line, words separated by '|'. */
static DroverConfig *parse(const char *line, char ***rest, GError **error)
{
    const DroverOption *const tables[] = {table, NULL};
    g_autofree char *full = g_strconcat("test", *line ? "|" : "", line, NULL);
    g_auto(GStrv) words = g_strsplit(full, "|", -1);
    int argc = (int)g_strv_length(words);
    g_autofree char **vector = g_memdup2(words, ((size_t)argc + 1) * sizeof(*words)); /* flags are cut out of it */
    char **argv = vector;
    DroverConfig *config = drover_config_parse("test", "", "A test.", tables, &argc, &argv, error);
    if (rest)
        *rest = g_strdupv(argv);
    return config;
}

static char *write_file(const char *text)
{
    char *path = NULL;
    int fd = g_file_open_tmp("drover-config-XXXXXX", &path, NULL);
    assert_true(fd >= 0);
    close(fd);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static void expect_error(const char *line, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverConfig) config = parse(line, NULL, &error);
    assert_null(config);
    assert_non_null(error);
    if (!strstr(error->message, part))
        fail_msg("'%s' does not say '%s'", error->message, part);
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
}

static void defaults_hold(void **state)
{
    (void)state;
    g_autoptr(DroverConfig) c = parse("", NULL, NULL);
    assert_string_equal(drover_config_string(c, "test.name"), "default");
    assert_int_equal(drover_config_int(c, "test.size"), 64 << 20);
    assert_int_equal(drover_config_int(c, "test.wait"), 1000);
    assert_true(drover_config_bool(c, "test.flag"));
    assert_null(drover_config_list(c, "test.list")[0]);
    assert_int_equal(drover_config_int(c, ".plain"), 7);
    assert_false(drover_config_is_set(c, "test.name"));
}

static void flags_beat_environment_beats_file(void **state)
{
    (void)state;
    g_autofree char *path = write_file("[test]\nname=file\nsize=1K\nwait=2s\n[other]\nunknown=1\n[drover]\nplain=9\n");
    g_setenv("DROVER_TEST_SIZE", "2K", TRUE);
    g_setenv("DROVER_TEST_WAIT", "3s", TRUE);
    g_autofree char *line = g_strconcat("--config|", path, "|--test-wait=4s|--no-test-flag|pos", NULL);
    g_auto(GStrv) rest = NULL;
    g_autoptr(DroverConfig) c = parse(line, &rest, NULL);
    g_unsetenv("DROVER_TEST_SIZE");
    g_unsetenv("DROVER_TEST_WAIT");
    assert_non_null(c);
    assert_string_equal(drover_config_string(c, "test.name"), "file");
    assert_int_equal(drover_config_int(c, "test.size"), 2048);
    assert_int_equal(drover_config_int(c, "test.wait"), 4000);
    assert_false(drover_config_bool(c, "test.flag"));
    assert_int_equal(drover_config_int(c, ".plain"), 9);
    assert_int_equal(g_strv_length(rest), 2);
    assert_string_equal(rest[1], "pos");
    g_unlink(path);
}

static void lists_add_up(void **state)
{
    (void)state;
    g_autoptr(DroverConfig) c =
        parse("--test-list=a, b|--test-list|c|--test-each=x,y|--test-each=z|--|--test-name=positional", NULL, NULL);
    const char *const *list = drover_config_list(c, "test.list");
    assert_string_equal(list[0], "a");
    assert_string_equal(list[1], "b");
    assert_string_equal(list[2], "c");
    const char *const *each = drover_config_list(c, "test.each");
    assert_string_equal(each[0], "x,y");
    assert_string_equal(each[1], "z");
    assert_string_equal(drover_config_string(c, "test.name"), "default");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    expect_error("--nope=1", "--nope");
    expect_error("--test-size=12Q", "--test-size: '12Q'");
    expect_error("--test-size=99999999T", "too large");
    expect_error("--test-wait=-5", "--test-wait");
    expect_error("--test-flag=maybe", "maybe");
    expect_error("--plain=x", "--plain");
    expect_error("--test-name", "needs a value");
    expect_error("--test-password=x", "secret");
    expect_error("--config=/nonexistent.conf", "/nonexistent.conf");
    g_autofree char *path = write_file("[test]\nnmae=typo\n");
    g_autofree char *line = g_strconcat("--config=", path, NULL);
    expect_error(line, "no option 'nmae'");
    g_unlink(path);
}

int main(void)
{
    g_unsetenv("DROVER_CONFIG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold),
        cmocka_unit_test(flags_beat_environment_beats_file),
        cmocka_unit_test(lists_add_up),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
